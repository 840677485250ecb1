"""From a portable plan to TensorRT and TensorRT-RTX engines; needs no PyTorch."""
