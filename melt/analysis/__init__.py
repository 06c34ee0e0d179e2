"""Analysis: from a results folder to tidy frames, statistics and comparisons. Needs no device."""
