"""Checkpoints of our own: safetensors, with the configuration in the header."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.errors import CheckpointError, printable, require
from xdecoder_rt.models.config import ModelConfig
from xdecoder_rt.models.xdecoder import XDecoder

CHECKPOINT_FORMAT = "xdecoder_rt checkpoint 1"
_LISTED = 12


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read every tensor and the header's text of a safetensors file.

    Raises:
        CheckpointError: there is no such file, or it is not whole.
    """
    safetensors = require("safetensors", "export")
    path = _existing(path)
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def read_header(path: str | Path) -> dict[str, str]:
    """Read the text in a safetensors file's header alone; empty where there is none.

    Raises:
        CheckpointError: there is no such file, or it is not safetensors.
    """
    safetensors = require("safetensors", "export")
    path = _existing(path)
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            return file.metadata() or {}
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def save_checkpoint(
    path: str | Path, model: XDecoder, metadata: dict[str, str] | None = None
) -> None:
    """Write a model: matrices in fp16, vectors (norms, biases, statistics) in fp32.

    The file appears whole or not at all.

    Args:
        path: where to write.
        model: what to write.
        metadata: further text for the header.

    Raises:
        CheckpointError: a weight is not finite, in fp16 either.
        OSError: the file cannot be written.
    """
    from safetensors.torch import save

    tensors = {}
    for name, value in model.state_dict().items():
        stored = value.detach().cpu().contiguous()
        if stored.is_floating_point():
            stored = stored.to(torch.float16 if stored.ndim >= 2 else torch.float32)
            if not torch.isfinite(stored).all():
                raise CheckpointError(
                    f"{name} holds values that are not finite in {stored.dtype}",
                    expected="finite weights of at most 65504",
                    fix="Train again with a lower learning rate",
                )
        tensors[name] = stored
    header = {**(metadata or {}), "format": CHECKPOINT_FORMAT, "config": model.config.to_json()}
    with atomic_writer(path) as file:
        file.write(save(tensors, metadata=header))


def load_checkpoint(path: str | Path) -> XDecoder:
    """Build the model that a checkpoint of ours describes and load its weights (fp32, eval mode).

    Raises:
        CheckpointError: the file is missing, broken, not ours, or does not fit its configuration.
    """
    tensors, header = read_tensors(path)
    if header.get("format") != CHECKPOINT_FORMAT:
        raise CheckpointError(
            f"{path} is not an xdecoder_rt checkpoint",
            expected=f"the header entry format = {CHECKPOINT_FORMAT!r}",
            fix="Use load_published for a published X-Decoder file",
        )
    config = ModelConfig.from_json(header.get("config", ""))
    if config.blocks > len(tensors):
        raise CheckpointError(
            f"{path} does not fit the model: it has {len(tensors):,} tensors for "
            f"{config.blocks:,} blocks",
            expected="several tensors of each block of the configured network",
        )
    with torch.device("meta"):
        # What a file claims to hold takes no memory before its tensors agree.
        check_fit(XDecoder(config), tensors, str(path))
    model = XDecoder(config)
    load_exactly(model, tensors, str(path))
    return model.eval()


def load_exactly(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    source: str,
    file_name: Callable[[str], str] = str,
) -> None:
    """Load tensors into a module, refusing missing, unexpected and wrong-shaped ones by name.

    Args and errors are those of :func:`check_fit`.
    """
    module_tensors = check_fit(module, tensors, source, file_name)
    # Copied one by one into the module's own type: never two whole networks in it.
    module.load_state_dict({ours: tensors[name] for name, (ours, _) in module_tensors.items()})


def check_fit(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    source: str,
    file_name: Callable[[str], str] = str,
) -> dict[str, tuple[str, Tensor]]:
    """Compare the names and shapes of tensors with a module's, which may be on device ``meta``.

    Args:
        module: what they are for.
        tensors: by the names that the file gives them.
        source: the file, for messages.
        file_name: the file's name of a tensor of ours.

    Returns:
        By the file's names, the module's own name and tensor.

    Raises:
        CheckpointError: naming the first offenders as the file does.
    """
    module_tensors = {file_name(name): (name, value) for name, value in module.state_dict().items()}
    problems = [f"missing {name}" for name in module_tensors if name not in tensors]
    problems += [
        f"unexpected {printable(name, 100)}" for name in tensors if name not in module_tensors
    ]
    problems += [
        f"{name} has shape {list(value.shape)}, not {list(module_tensors[name][1].shape)}"
        for name, value in tensors.items()
        if name in module_tensors and value.shape != module_tensors[name][1].shape
    ]
    if problems:
        raise CheckpointError(
            f"{source} does not fit the model: " + listed(problems),
            expected=f"exactly the {len(module_tensors)} tensors of the configured network",
        )
    return module_tensors


def listed(problems: Sequence[str]) -> str:
    """Return the first problems, joined, and how many others there are."""
    others = len(problems) - _LISTED
    shown = [*problems[:_LISTED], *([f"and {others:,} more"] if others > 0 else [])]
    return "; ".join(shown)


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not os.path.isfile(path):
        raise CheckpointError(f"There is no checkpoint at {path}", expected="a .safetensors file")
    return path


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path} is not a readable safetensors file ({error})",
        expected="a complete .safetensors checkpoint",
        fix="Copy or download it again",
    )
