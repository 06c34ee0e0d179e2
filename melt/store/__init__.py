"""Results on disk: a folder a run."""
