"""Exported graphs against their PyTorch form, in ONNX Runtime."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import torch

from xdecoder_rt.errors import BuildError
from xdecoder_rt.export.onnx_graphs import ExportedGraph

TOLERANCE = 1e-4


def relative_rms(actual: npt.ArrayLike, expected: npt.ArrayLike) -> float:
    """Root mean square of the difference over that of the expected values; 0 for two zeros."""
    wanted = np.asarray(expected, np.float64)
    difference = np.sqrt(np.mean((np.asarray(actual, np.float64) - wanted) ** 2))
    size = np.sqrt(np.mean(wanted**2))
    if size == 0.0:
        return 0.0 if difference == 0.0 else float("inf")
    return float(difference / size)


def check_against_torch(graph: ExportedGraph) -> dict[str, float]:
    """Run a graph in ONNX Runtime and in PyTorch on its example.

    Returns:
        The relative RMS error of each output.

    Raises:
        BuildError: an output differs by more than 1e-4.
    """
    session = ort.InferenceSession(
        graph.model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    actual = session.run(names, {name: tensor.numpy() for name, tensor in graph.example.items()})
    with torch.inference_mode():
        expected = graph.module(*graph.example.values())
    if isinstance(expected, torch.Tensor):
        expected = (expected,)
    errors = {
        name: relative_rms(got, wanted.numpy())
        for name, got, wanted in zip(names, actual, expected, strict=True)
    }
    worst = max(errors, key=lambda name: errors[name])
    if not errors[worst] <= TOLERANCE:
        raise BuildError(
            f"{worst} of the {graph.name} graph differs from PyTorch by {errors[worst]:.1e}",
            expected=f"a relative RMS error of at most {TOLERANCE:.0e}",
            fix="Report it with the versions of torch, onnx, onnxsim and onnxruntime",
        )
    return errors
