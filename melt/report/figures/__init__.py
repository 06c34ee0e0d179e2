"""The figures: a file a kind. Each makes drawings, which chapters put in order and the page shows."""
