"""From a plan to runs: admission (preflight), what is left (agenda), order, one attempt at a unit, progress."""
