"""The checkpoint that a plan was built from, found again by the digest of its weights."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

from xdecoder_rt.errors import CheckpointError, XDecoderError, quoted
from xdecoder_rt.export.sources import STARTER, load_model
from xdecoder_rt.plan.file import Plan

__all__ = ["find_origin"]

# Beside the plan, in a run's folder beside it, and in runs/NAME, as the documentation names them.
_PLACES = ("*", "*/model", "runs/*/model")
_SUFFIXES = (".safetensors", ".pt", ".pth")
_MOST = 32  # of a published file the digest takes seconds


def find_origin(plan: Path) -> Path:
    """Return the checkpoint that a plan was built from. Needs the extra ``export``.

    A plan holds graphs, which cannot be trained, and the SHA-256 of the weights that they were
    exported from, of whatever precision they are now. The starter is tried first; then files of
    weights beside the plan, and those named ``model`` in the folders beside it and in ``runs/*/``,
    the newest first.

    Args:
        plan: the plan.

    Raises:
        MissingExtraError: PyTorch is not installed.
        PlanError: the plan is not sound.
        CheckpointError: none of these files holds its weights.
    """
    with Plan.open(plan) as opened:
        digest = opened.manifest.model.weights_sha256
    candidates = [STARTER, *_weights_near(plan.absolute().parent)]
    for candidate in candidates:
        if digest in _digests(candidate):
            return candidate
    raise CheckpointError(
        f"{quoted(str(plan), 100)} is a plan, whose graphs cannot be trained, and the checkpoint "
        "that it was built from is not found",
        expected=f"weights of the digest {digest[:16]}…, which neither the starter has nor any of "
        f"{len(candidates) - 1} files beside the plan, in folders beside it and in runs/",
        fix="name the checkpoint that xdecoder-rt build was given, or put it beside the plan",
    )


def _weights_near(folder: Path) -> list[Path]:
    found = {
        path
        for place in _PLACES
        for suffix in _SUFFIXES
        for path in folder.glob(place + suffix)
        if path.is_file()
    }
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)[:_MOST]


def _digests(checkpoint: Path) -> Iterator[str]:
    """Yield the digests that a build may state of a file's weights; none if it is no checkpoint."""
    from xdecoder_rt.export.costs import weights_digest

    with contextlib.suppress(XDecoderError, OSError), warnings.catch_warnings():
        # What a file that is only tried lacks is not the user's concern.
        warnings.simplefilter("ignore")
        model = load_model(checkpoint)
        yield weights_digest(model)
        if model.region is not None:
            model.drop_regions()  # as a build without it has the weights
            yield weights_digest(model)
