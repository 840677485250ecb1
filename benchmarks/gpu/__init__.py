"""The GPU runbook behind ``benchmarks/gpu.sh``: checks and measures the kernels on one GPU."""
