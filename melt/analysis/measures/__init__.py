"""What is measured of a run: a file a kind of metric, each declaring its metrics and computing them."""
