"""What a plan can be built from, told by the file itself."""

from __future__ import annotations

from pathlib import Path

from xdecoder_rt.errors import CheckpointError
from xdecoder_rt.models import XDecoder, load_checkpoint, load_published
from xdecoder_rt.models.checkpoint import FORMAT, read_header

STARTER = Path(__file__).parent / "starter" / "starter.safetensors"


def load_model(checkpoint: Path | None = None) -> XDecoder:
    """Load the model to build from.

    Args:
        checkpoint: a checkpoint of ours, or a published X-Decoder file (``.pt`` or
            ``.safetensors``); None for the starter that comes with this package.

    Raises:
        CheckpointError: the file is missing, broken, or no X-Decoder.
    """
    path = STARTER if checkpoint is None else Path(checkpoint)
    if not path.is_file():
        raise CheckpointError(
            f"There is no checkpoint at {path}",
            expected="a .safetensors or .pt file",
        )
    if path.suffix == ".safetensors" and read_header(path).get("format") == FORMAT:
        return load_checkpoint(path)
    return load_published(path)
