"""Comparison of exported graphs, run by ONNX Runtime, with their PyTorch form."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import torch
from torch import Tensor

from xdecoder_rt.errors import BuildError
from xdecoder_rt.evaluation.divergence import relative_rms
from xdecoder_rt.export.onnx_graphs import ExportedGraph

TOLERANCE = 1e-4
# Attention masks are thresholds: rounding may carry a logit over zero, which changes a row and all
# that see it. That is rare and of one example; a wrong graph is wrong for all.
EXAMPLES = 3
_PIXELS = 1 << 20
_NOISE = 0.02


def check_against_torch(graph: ExportedGraph) -> dict[str, float]:
    """Run a graph in ONNX Runtime and in PyTorch on its example, and on noisy ones if they differ.

    Returns:
        The relative RMS error of each output, on the first example where they agree.

    Raises:
        BuildError: an output differs by more than :func:`tolerance` on every example.
    """
    bound = tolerance(graph.example)
    generator = torch.Generator().manual_seed(0)
    example = graph.example
    errors: dict[str, float] = {}
    for _ in range(EXAMPLES):
        errors = _errors(graph, example)
        if all(error <= bound for error in errors.values()):
            return errors
        example = {name: _with_noise(value, generator) for name, value in graph.example.items()}
    worst = max(errors, key=lambda name: np.nan_to_num(errors[name], nan=np.inf))
    raise BuildError(
        f"{worst} of the {graph.name} graph differs from PyTorch by {errors[worst]:.1e}",
        expected=f"a relative RMS error of at most {bound:.1e}",
        fix="Report it with the versions of torch, onnx, onnxsim and onnxruntime",
    )


def tolerance(example: Mapping[str, Tensor]) -> float:
    """Return the relative RMS error that a graph may have on an example.

    1e-4; of frames of more than a million pixels in proportion to the root of their number, as
    rounding errors of averages over a map grow with it, which the two libraries sum in other ways.
    """
    pixels = example["frame"][0, ..., 0].numel() if "frame" in example else 0
    return TOLERANCE * max(1.0, math.sqrt(pixels / _PIXELS))


def _errors(graph: ExportedGraph, example: Mapping[str, Tensor]) -> dict[str, float]:
    names, actual = _run(graph, example)
    with torch.inference_mode():
        expected = graph.module(*example.values())
    if isinstance(expected, Tensor):
        expected = (expected,)
    return {
        name: relative_rms(output, reference.numpy())
        for name, output, reference in zip(names, actual, expected, strict=True)
    }


def _run(
    graph: ExportedGraph, example: Mapping[str, Tensor]
) -> tuple[list[str], list[npt.NDArray[np.float32]]]:
    """Return the names and values of a graph's outputs; the session ends before PyTorch's turn."""
    options = ort.SessionOptions()
    # For one call, rearranged copies of the weights and memory kept for the next are a loss.
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.disable_prepacking", "1")
    session = ort.InferenceSession(
        graph.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return names, session.run(names, {name: tensor.numpy() for name, tensor in example.items()})


def _with_noise(value: Tensor, generator: torch.Generator) -> Tensor:
    """Return a value with a little noise, where it is a number that noise leaves sensible."""
    if not value.is_floating_point():
        return value
    return value + value.std(correction=0) * _NOISE * torch.randn(value.shape, generator=generator)
