"""Masked cross-attention: the definition (``reference``) and the operator (``op``)."""

from __future__ import annotations

from xdecoder_rt.kernels.masked_attention.op import masked_attention

__all__ = ["masked_attention"]
