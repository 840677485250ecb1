"""From a PyTorch model to ONNX graphs and a `.plan` file."""
