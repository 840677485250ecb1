"""Masked cross-attention: its definition, the operator, and the Triton kernels."""
