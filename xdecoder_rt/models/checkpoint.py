"""Checkpoints of our own: safetensors, with the configuration in the header.

Of a classifier of regions that is ImageNet's as it is, they hold the vectors of its names alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.errors import CheckpointError, printable, require
from xdecoder_rt.models.config import ModelConfig, check_agreement
from xdecoder_rt.models.xdecoder import XDecoder

CHECKPOINT_FORMAT = "xdecoder_rt checkpoint 1"
# What the library raises besides its own error, at element types that PyTorch lacks, say.
_DAMAGE = (OSError, ValueError, KeyError, TypeError, RuntimeError)
MAX_NAMES = 10
"""Most tensors that a message names of all that it is about."""


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
    except (safetensors.SafetensorError, *_DAMAGE) as error:
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
    except (safetensors.SafetensorError, *_DAMAGE) as error:
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
        if name.startswith(_left_out(model.config)):
            continue
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
        MissingExtraError: it leaves ImageNet's weights to a package that is not installed.
    """
    tensors, header = read_tensors(path)
    if header.get("format") != CHECKPOINT_FORMAT:
        raise CheckpointError(
            f"{file_label(Path(path))} is not an xdecoder_rt checkpoint",
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
    # What a file claims to hold takes no memory before its tensors agree, and drawing random
    # numbers first would take longer than reading.
    model = meta_model(config)
    left_out = _left_out(config)
    check_fit(model, tensors, str(path), left_out=left_out)
    model = model.to_empty(device="cpu")
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if not name.startswith(left_out):
                value.copy_(tensors.pop(name))
    if left_out and model.region is not None:
        model.region.load_imagenet()
    return model.eval()


def _left_out(config: ModelConfig) -> tuple[str, ...]:
    """Return how the names of tensors begin that a checkpoint does not hold."""
    if config.region is None or config.region.weights == "stored":
        return ()
    return ("region.trunk.", "region.head.", "region.names.")


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
    with torch.no_grad():
        for name, (_, value) in module_tensors.items():
            value.copy_(tensors[name])


def check_fit(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    source: str,
    file_name: Callable[[str], str] = str,
    left_out: tuple[str, ...] = (),
) -> dict[str, tuple[str, Tensor]]:
    """Compare the names and shapes of tensors with a module's, which may be on device ``meta``.

    Args:
        module: what they are for.
        tensors: by the names that the file gives them.
        source: the file, for messages.
        file_name: the file's name of a tensor of ours.
        left_out: how names of ours begin that are not to be there.

    Returns:
        By the file's names, the module's own name and tensor.

    Raises:
        CheckpointError: naming the first offenders as the file does.
    """
    module_tensors = {
        file_name(name): (name, value)
        for name, value in module.state_dict().items()
        if not name.startswith(left_out)
    }
    missing, unexpected, misshapen = differences(
        {name: value for name, (_, value) in module_tensors.items()}, tensors
    )
    problems = [f"missing {name}" for name in missing]
    problems += [f"unexpected {name}" for name in unexpected]
    problems += misshapen
    if problems:
        raise CheckpointError(
            f"{file_label(Path(source))} does not fit the model: {first_of(problems, '; ')}",
            expected=f"the {len(module_tensors)} tensors of the configured network",
        )
    return module_tensors


def differences(
    expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> tuple[list[str], list[str], list[str]]:
    """Return names of missing and of unexpected tensors, and sentences about misshapen ones."""
    missing = [name for name in expected if name not in tensors]
    unexpected = [name for name in tensors if name not in expected]
    misshapen = [
        f"{name} has shape {list(value.shape)}, not {list(expected[name].shape)}"
        for name, value in tensors.items()
        if name in expected and value.shape != expected[name].shape
    ]
    return missing, unexpected, misshapen


def meta_model(config: ModelConfig) -> XDecoder:
    """Return a network of sizes that a file claims: it takes no memory.

    Raises:
        CheckpointError: the sizes contradict one another.
    """
    check_agreement(config)
    with torch.device("meta"):
        return XDecoder(config)


def file_label(path: Path) -> str:
    """Return a file's name as messages show it, bounded and printable."""
    return printable(path.name or str(path), 60)


def first_of(names: Sequence[str], separator: str = ", ", limit: int = 120) -> str:
    """Return the first of some names in a line, and how many more there are.

    Args:
        names: of tensors, or sentences about them; not empty.
        separator: between two.
        limit: characters in all, but that the first is always there.
    """
    shown: list[str] = []
    for name in map(_bounded, names[:MAX_NAMES]):
        if shown and len(separator.join((*shown, name))) > limit:
            break
        shown.append(name)
    left = len(names) - len(shown)
    return separator.join(shown) + (f" and {left} more" if left else "")


def _bounded(name: str) -> str:
    return printable(name, 110)


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not os.path.isfile(path):
        raise CheckpointError(
            f"There is no checkpoint at {printable(str(path), 200)}", expected="a .safetensors file"
        )
    return path


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{file_label(path)} is not a readable safetensors file ({printable(str(error), 100)})",
        expected="a complete .safetensors checkpoint",
        fix="Copy or download it again",
    )
