"""The page on errors: every class has its row, and every message is one that is given."""

from __future__ import annotations

import inspect
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import xdecoder_rt
from xdecoder_rt import Engine, errors
from xdecoder_rt.errors import XDecoderError, require

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/api.md").read_text()
SECTION = PAGE[PAGE.index("## Troubleshooting") : PAGE.index("## Reference")]
CLASSES = [
    name
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, XDecoderError)
]
MESSAGES = re.findall(r"^\| `([^`]* [^`]*)` \|", SECTION, re.MULTILINE)


def no_plan(_: Engine, folder: Path) -> None:
    Engine(folder / "model.plan")


def weights_for_a_plan(_: Engine, folder: Path) -> None:
    shutil.copy(ROOT / "export/starter/starter.safetensors", folder / "weights.safetensors")
    Engine(folder / "weights.safetensors")


def no_image(engine: Engine, folder: Path) -> None:
    engine.segment(folder / "frame.jpg", ["mug"])


def nothing(engine: Engine, _: Path) -> None:
    engine.segment(None, ["mug"])  # type: ignore[call-overload]


def floating(engine: Engine, _: Path) -> None:
    engine.segment(np.zeros((8, 8, 3), np.float32), ["mug"])  # type: ignore[arg-type]


def twice(engine: Engine, _: Path) -> None:
    engine.segment(np.zeros((8, 8, 3), np.uint8), ["mug", "Mug"])


def no_package(_: Engine, folder: Path) -> None:
    require("no_such_package", "export")


def no_data(_: Engine, folder: Path) -> None:
    pytest.importorskip("scipy", reason="the readers of data sets need it")
    from xdecoder_rt.training.sources import open_dataset

    open_dataset(folder / "kitchen")


# What a user does, and the parts of the message that the page names for it.
DEEDS: dict[str, Callable[[Engine, Path], None]] = {
    "There is no file 'model.plan'": no_plan,
    "The file is a safetensors checkpoint, not a plan": weights_for_a_plan,
    "There is no image 'frame.jpg'": no_image,
    "None was given instead of an image": nothing,
    "The image array is of type float32": floating,
    "'Mug' is in the vocabulary twice (also as 'mug')": twice,
    "The module 'torch' could not be imported": no_package,
    "There is no data set at 'kitchen'": no_data,
}
# Given where nothing is installed, or after minutes: looked for in the source.
SOURCES = {
    "The int8 plan is no gain": ("export/convert.py", "The {options.precision} plan is no gain"),
    "xdecoder_rt is not installed: run 'pip install .' in its checkout": (
        "xdecoder_rt/__init__.py",
        "xdecoder_rt is not installed: run 'pip install .' in its checkout",
    ),
}


def test_every_error_class_has_its_usual_cause_and_a_cure() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", SECTION, re.MULTILINE))
    assert set(rows) == set(CLASSES)
    for cells in rows.values():
        cause, cure = cells.split(" | ")
        assert cause and cure


def test_every_public_error_class_is_in_the_reference() -> None:
    reference = PAGE[PAGE.index("::: xdecoder_rt.errors") :]
    assert set(re.findall(r"^ +- (\w+)$", reference, re.MULTILINE)) == set(CLASSES)


def test_the_ten_messages_of_the_page_are_those_that_are_tried() -> None:
    assert len(MESSAGES) == 10
    assert set(MESSAGES) == {*DEEDS, *SOURCES}


@pytest.mark.parametrize("message", DEEDS)
def test_the_message_is_given(
    message: str, tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with (
        Engine(tiny_plan, cache_dir=tmp_path / "cache", backend="onnxruntime") as engine,
        pytest.raises(XDecoderError) as caught,
    ):
        DEEDS[message](engine, Path())
    given = str(caught.value).replace("no_such_package", "torch")
    assert message in given


@pytest.mark.parametrize("message", SOURCES)
def test_the_message_is_in_the_source(message: str) -> None:
    path, text = SOURCES[message]
    assert text in (ROOT / path).read_text()


def test_the_base_class_is_offered_by_the_package_itself() -> None:
    assert xdecoder_rt.XDecoderError is XDecoderError
