"""What ``melt doctor`` checks: each finding with its fix."""
