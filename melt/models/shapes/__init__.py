"""Published shapes of models."""
