"""Everything a run needs to go on as if it had never stopped, in one safetensors file.

Weights, their moving average, the optimiser's moments and the random generator are tensors; the
rest is JSON in the header. Nothing is pickled, and a digest tells a damaged file from a whole one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.errors import CheckpointError, printable, require
from xdecoder_rt.json_reader import parse_json
from xdecoder_rt.models.checkpoint import first_of, read_tensors

STATE_FORMAT = "xdecoder_rt training state 1"
_RUN_LIMIT = 16 << 20
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def save_state(
    path: Path, model: nn.Module, average: nn.Module, optimizer: Optimizer, run: Mapping[str, Any]
) -> None:
    """Write the state of a run; the file appears whole or not at all.

    Args:
        path: where to write.
        model: the model in training.
        average: its moving average.
        optimizer: AdamW over the model's parameters.
        run: whatever else has to be kept, as JSON allows.
    """
    tensors = {
        **_with_prefix("model", model.state_dict()),
        **_with_prefix("average", average.state_dict()),
        **_with_prefix("optimizer", _moments(model, optimizer)),
        "generator/cpu": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        tensors["generator/cuda"] = torch.cuda.get_rng_state()
    # safetensors stores plain row-major memory and refuses tensors that share it.
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    header = {"format": STATE_FORMAT, "digest": _digest(tensors), "run": json.dumps(run)}
    data = require("safetensors.torch", "train").save(tensors, metadata=header)
    with atomic_writer(path) as file:
        file.write(data)


def load_state(
    path: Path, model: nn.Module, average: nn.Module, optimizer: Optimizer
) -> dict[str, Any]:
    """Put a saved state into a model, its average, an optimiser and the random generator.

    Nothing is changed unless the whole file fits.

    Args:
        path: what :func:`save_state` wrote.
        model: a model of the same shape.
        average: another.
        optimizer: AdamW over the model's parameters.

    Returns:
        The `run` that was saved.

    Raises:
        CheckpointError: the file is missing, damaged, not a training state, or of another model.
    """
    tensors, header = read_tensors(path)
    run = _check_header(path, tensors, header)
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part, _, key = name.partition("/")
        parts.setdefault(part, {})[key] = tensor
    parameters = dict(model.named_parameters())
    for part, module in (("model", model), ("average", average)):
        _check_shapes(path, part, parts.get(part, {}), module.state_dict())
    moments = parts.get("optimizer", {})
    _check_moments(path, moments, parameters)

    for part, module in (("model", model), ("average", average)):
        module.load_state_dict(parts[part])
    state: dict[nn.Parameter, dict[str, Tensor]] = {}
    for name, value in moments.items():
        owner, _, kind = name.rpartition("/")
        parameter = parameters[owner]
        if kind != "step":
            # The fused optimiser walks raw memory: moments are laid out as their parameter is.
            value = torch.empty_like(parameter).copy_(value)
        state.setdefault(parameter, {})[kind] = value
    _fill(optimizer, state)
    torch.set_rng_state(parts["generator"]["cpu"])
    if torch.cuda.is_available() and "cuda" in parts["generator"]:
        torch.cuda.set_rng_state(parts["generator"]["cuda"])
    return run


def _fill(optimizer: Optimizer, state: dict[nn.Parameter, dict[str, Tensor]]) -> None:
    """Load moments by parameter; settings (rates, decay) stay the optimiser's own."""
    order = [p for group in optimizer.param_groups for p in group["params"]]
    numbered = {i: state[p] for i, p in enumerate(order) if p in state}
    optimizer.load_state_dict(
        {"state": numbered, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def _moments(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}/{kind}": state[kind]
        for parameter, state in optimizer.state.items()
        for kind in _MOMENTS
    }


def _with_prefix(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{part}/{name}": tensor for name, tensor in tensors.items()}


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_header(
    path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]
) -> dict[str, Any]:
    if header.get("format") != STATE_FORMAT:
        raise CheckpointError(
            f"{path} is not the state of a training run of this version",
            expected=f"the header entry format = {STATE_FORMAT!r}",
            fix="start a new run, from a checkpoint if there is one",
        )
    if header.get("digest") != _digest(tensors):
        raise CheckpointError(
            f"{path} is damaged: its contents do not have the digest in its header",
            fix="start a new run, from a checkpoint if there is one",
        )
    run = parse_json(header.get("run", ""), f"The header of {path}", _RUN_LIMIT, CheckpointError)
    if not isinstance(run, dict) or "generator/cpu" not in tensors:
        raise CheckpointError(f"{path} lacks parts of a training state")
    return run


def _check_shapes(
    path: Path, part: str, stored: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> None:
    problems = [f"missing {name}" for name in expected if name not in stored]
    problems += [f"unexpected {printable(name, 100)}" for name in stored if name not in expected]
    problems += [
        f"{name} has shape {list(value.shape)}, not {list(expected[name].shape)}"
        for name, value in stored.items()
        if name in expected and value.shape != expected[name].shape
    ]
    if problems:
        raise CheckpointError(
            f"{path} ({part}) does not fit the model: " + first_of(problems, "; "),
            expected="the state of a run of the same model",
            fix="resume with the settings of that run, or start a new one",
        )


def _check_moments(
    path: Path, moments: Mapping[str, Tensor], parameters: Mapping[str, Tensor]
) -> None:
    for name, value in moments.items():
        owner, _, kind = name.rpartition("/")
        parameter = parameters.get(owner)
        if parameter is None or kind not in _MOMENTS:
            raise CheckpointError(
                f"{path} (optimizer) has the unexpected entry {printable(name, 100)}"
            )
        if kind != "step" and value.shape != parameter.shape:
            raise CheckpointError(
                f"{path} (optimizer): {name} has shape {list(value.shape)}, "
                f"not {list(parameter.shape)}"
            )
