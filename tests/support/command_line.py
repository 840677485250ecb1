"""What tests of the command line share: images, what a command printed, and how it failed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

HEIGHT, WIDTH = 50, 70

Run = Callable[..., int]


def save_picture(path: Path, seed: int = 0) -> Path:
    """Write an image of noise, ``HEIGHT`` x ``WIDTH``."""
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def save_labelled_folder(path: Path, images: int = 2) -> None:
    """Write a labelled folder with something for each task."""
    from xdecoder_rt.datasets.items import AnsweredQuestion, Phrase
    from xdecoder_rt.datasets.labelled_folder import LabelledFolderWriter

    ids = np.full((40, 60), 2, np.uint8)
    ids[10:30, 20:50] = 1
    with LabelledFolderWriter(path, ("mug", "floor"), ("floor",)) as writer:
        for number in range(images):
            writer.add(
                np.full((40, 60, 3), 60 * number, np.uint8),
                ids,
                {1: "mug", 2: "floor"},
                phrases=[Phrase("the mug", (1,))],
                captions=[f"a mug, number {number}"],
                questions=[AnsweredQuestion("what is it?", ("mug",), ("mug", "floor"))],
            )


def document_of(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return the JSON that is all that stdout holds, valid under its command's schema."""
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    check_document(document)
    return document


def check_document(document: dict[str, Any]) -> None:
    """Refuse a document that is not as the schema of its command says."""
    import jsonschema

    from xdecoder_rt.cli.json_schema import document_schema

    command = document["schema"].partition("/")[0]
    jsonschema.validate(document, document_schema(command), jsonschema.Draft202012Validator)


def the_error(capsys: pytest.CaptureFixture[str], *, after_progress: bool = False) -> str:
    """Return the one error on stderr that a failed command leaves, with nothing on stdout.

    Args:
        capsys: what the command wrote.
        after_progress: whether other lines may stand before it.
    """
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("error: ") == 1 and err.endswith("\n"), err
    last_line = err.splitlines()[-1]
    assert last_line.startswith("error: "), err
    assert after_progress or err == f"{last_line}\n", err
    return last_line
