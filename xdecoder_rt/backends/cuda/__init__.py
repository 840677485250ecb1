"""CUDA below the TensorRT backend: contexts, memory, transfers, and frames and maps on the GPU."""
