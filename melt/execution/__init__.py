"""From a plan to runs: admission, order, one attempt at a unit, what is heard of it, progress."""
