"""Launching Triton kernels on PyTorch tensors, compiled when they are first used."""

from __future__ import annotations

from importlib import import_module

import torch

from xdecoder_rt.kernels.spec import Call

ELEMENT_OF = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}
"""Names of the element types that kernels take."""


def launch(call: Call) -> None:
    """Make a call whose tensors are PyTorch's, on the current CUDA stream.

    On a CPU it runs where Triton's interpreter is on (``TRITON_INTERPRET=1``).
    """
    kernel = getattr(import_module(call.module), call.function)
    kernel[call.grid.of(call.sizes)](**call.values, num_warps=call.warps, num_stages=call.stages)
