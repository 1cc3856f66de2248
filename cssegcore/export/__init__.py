"""Models as files that run without this library: PyTorch's `.pt2`, and ONNX."""
