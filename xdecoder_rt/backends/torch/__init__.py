"""Portable plans through PyTorch: the graphs' operators, our kernels, CUDA graphs."""
