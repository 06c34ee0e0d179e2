"""What is measured of a run, a file a kind of metric."""
