"""Sources of a plan, told apart by the file itself."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xdecoder_rt.errors import CheckpointError, quoted
from xdecoder_rt.export.download import fetch_checkpoint
from xdecoder_rt.plan.manifest import MANIFEST_NAME

if TYPE_CHECKING:
    from xdecoder_rt.models import XDecoder

STARTER_NAME = "starter"
"""What names the starter in place of a checkpoint's file."""
WEIGHTS_SUFFIXES = (".pt", ".pth", ".safetensors", ".ckpt", ".bin", ".pkl")
"""How names of files of weights end."""
STARTER = Path(__file__).parent / "starter" / "starter.safetensors"
_EXPECTED = "a .safetensors or .pt file"


def is_plan(path: Path) -> bool:
    """Return whether a file is to be read as a plan: by the manifest within.

    A published ``.pt`` file is a ZIP archive too; its members lie in a folder. What is no archive,
    a damaged plan or a missing one, goes by its ending.
    """
    if os.path.isfile(path):  # a pipe would block
        unreadable = (OSError, ValueError, NotImplementedError, zipfile.BadZipFile)
        with contextlib.suppress(*unreadable), zipfile.ZipFile(path) as archive:
            return MANIFEST_NAME in archive.namelist()
    return path.suffix == ".plan"


def load_model(
    checkpoint: str | os.PathLike[str] | None = None, tasks: Sequence[str] | None = None
) -> XDecoder:
    """Load the weights to build or to train from. Needs the extra ``export``.

    Args:
        checkpoint: a checkpoint of ours, or a published X-Decoder file, told by its content; or the
            address of one; `STARTER_NAME` or None for the starter that comes with this package.
        tasks: what is asked of the model; None for what its weights are trained for.

    Raises:
        MissingExtraError: PyTorch is not installed.
        CheckpointError: the file is missing, broken, or no X-Decoder, or not trained for a task
            that is asked for.
    """
    from xdecoder_rt.models import load_checkpoint, load_published
    from xdecoder_rt.models.checkpoint import CHECKPOINT_FORMAT
    from xdecoder_rt.models.weights_file import header_format

    path = checkpoint_file(checkpoint)
    check_checkpoint(path)
    if header_format(path) != CHECKPOINT_FORMAT:
        return load_published(path, tasks=tasks)
    model = load_checkpoint(path)
    lost = [task for task in tasks or () if task not in model.config.tasks]
    if lost:
        raise CheckpointError(
            f"{quoted(path.name, 80)} was trained without {' and '.join(lost)}",
            expected=f"some of the tasks {', '.join(model.config.tasks)}",
        )
    return model


def checkpoint_file(checkpoint: str | os.PathLike[str] | None) -> Path:
    """Return where the file of a checkpoint is, downloaded where its address is given.

    Args:
        checkpoint: as :func:`load_model` takes it; it need not exist.

    Raises:
        CheckpointError: it cannot be downloaded.
    """
    path = fetch_checkpoint(checkpoint or STARTER_NAME)
    return STARTER if path == Path(STARTER_NAME) else path


def check_checkpoint(path: Path) -> None:
    """Refuse what cannot be a checkpoint, and say where the weights are.

    Raises:
        CheckpointError: there is no such file, or it is a folder, a plan, or a graph.
    """
    name = quoted(str(path), 100)
    starter = f"{STARTER_NAME} for the weights that come with this package"
    if os.path.isdir(path):
        raise CheckpointError(
            f"{name} is a folder, not a checkpoint",
            expected=_EXPECTED,
            fix=f"name the model.safetensors in a run's folder, or {starter}",
        )
    if not os.path.isfile(path):
        raise CheckpointError(
            f"There is no checkpoint at {name}",
            expected=_EXPECTED,
            fix=f"name one that xdecoder-rt train wrote, or {starter}",
        )
    if is_plan(path):
        raise CheckpointError(
            f"{name} is a plan, not a checkpoint: its graphs cannot be trained",
            expected=_EXPECTED,
            fix="to build from it, name it with --plan; to train, name the checkpoint that it was "
            f"built from, or {starter}",
        )
