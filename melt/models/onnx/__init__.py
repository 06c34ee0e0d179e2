"""ONNX model folders: read, and made of random weights."""
