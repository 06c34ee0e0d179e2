"""GGUF: read, written, and made of random weights."""
