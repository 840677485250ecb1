"""Sources of a plan, told apart by the file itself."""

from __future__ import annotations

import contextlib
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from xdecoder_rt.errors import CheckpointError
from xdecoder_rt.plan.manifest import MANIFEST_NAME

if TYPE_CHECKING:
    from xdecoder_rt.models import XDecoder

STARTER = Path(__file__).parent / "starter" / "starter.safetensors"


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


def load_model(checkpoint: Path | None = None) -> XDecoder:
    """Load the model to build from. Needs the extra ``export``.

    Args:
        checkpoint: a checkpoint of ours, or a published X-Decoder file (``.pt`` or
            ``.safetensors``); None for the starter that comes with this package.

    Raises:
        MissingExtraError: PyTorch is not installed.
        CheckpointError: the file is missing, broken, or no X-Decoder.
    """
    from xdecoder_rt.models import load_checkpoint, load_published
    from xdecoder_rt.models.checkpoint import CHECKPOINT_FORMAT, read_header

    path = STARTER if checkpoint is None else Path(checkpoint)
    if not os.path.isfile(path):
        raise CheckpointError(
            f"There is no checkpoint at {path}",
            expected="a .safetensors or .pt file",
        )
    if path.suffix == ".safetensors" and read_header(path).get("format") == CHECKPOINT_FORMAT:
        return load_checkpoint(path)
    return load_published(path)
