"""Masked cross-attention: reference, ONNX form and GPU kernels."""
