"""Sources of a plan, told apart by the file itself."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xdecoder_rt.errors import CheckpointError, quoted
from xdecoder_rt.plan.manifest import MANIFEST_NAME

if TYPE_CHECKING:
    from xdecoder_rt.models import XDecoder

WEIGHTS_SUFFIXES = (".pt", ".pth", ".safetensors", ".ckpt", ".bin", ".pkl")
"""How names of files of weights end."""
STARTER = Path(__file__).parent / "starter" / "starter.safetensors"


def is_plan(path: Path) -> bool:
    """Return whether a file is to be read as a plan: by the manifest within.

    A published ``.pt`` file is a ZIP archive too; its members lie in a folder. What is no archive,
    a damaged plan or a missing one, goes by its ending.
    """
    if path.is_file():  # a pipe would block
        unreadable = (OSError, ValueError, NotImplementedError, zipfile.BadZipFile)
        with contextlib.suppress(*unreadable), zipfile.ZipFile(path) as archive:
            return MANIFEST_NAME in archive.namelist()
    return path.suffix == ".plan"


def load_model(checkpoint: Path | None = None, tasks: Sequence[str] | None = None) -> XDecoder:
    """Load the model to build from. Needs the extra ``export``.

    Args:
        checkpoint: a checkpoint of ours, or a published X-Decoder file, told by its content;
            None for the starter that comes with this package.
        tasks: what is asked of the model; None for what its weights are trained for.

    Raises:
        MissingExtraError: PyTorch is not installed.
        CheckpointError: the file is missing, broken, or no X-Decoder, or not trained for a task
            that is asked for.
    """
    from xdecoder_rt.models import load_checkpoint, load_published
    from xdecoder_rt.models.checkpoint import CHECKPOINT_FORMAT
    from xdecoder_rt.models.weights_file import header_format

    path = STARTER if checkpoint is None else Path(checkpoint)
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
