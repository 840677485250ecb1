"""Every public docstring has an example, and every example does what it says.

Examples run in a folder with ``model.plan`` (a tiny model with random weights), ``desk.jpg`` and
``shelf.jpg`` of 480 x 640 pixels, ``shots/`` with both and the labelled folder ``scenes/``. They
know `np`, `Path`, `xdecoder_rt`, their module's names, an open `engine`, and a `result` and a
`reference` whose one segment is a mug of 100 x 150 pixels. So they show shapes, types and counts.
"""

from __future__ import annotations

import doctest
import inspect
import shutil
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import save_labelled_folder
from PIL import Image

import xdecoder_rt
from xdecoder_rt import results
from xdecoder_rt.questions.track import TrackingCalls

CLASSES = [
    *(getattr(xdecoder_rt, name) for name in xdecoder_rt.__all__ if name != "__version__"),
    *(getattr(results, name) for name in results.__all__ if name != "box_of_mask"),
    TrackingCalls,
]
MORE_CLASSES = {
    "datasets.coco_file": ("CocoFile",),
    "space.places": ("Intrinsics", "Place", "SpaceBox"),
    "streams.mailbox": ("FrameReader", "LatestFrame"),
}
FUNCTIONS = {
    "evaluation.evaluate": ("evaluate",),
    "export.pipeline": ("build",),
    "image": ("load_image",),
    "labelling.run": ("label",),
    "masks.rle": ("decode_mask", "encode_mask"),
    "results": ("box_of_mask",),
    "streams.frames": ("open_frames",),
    "words.files": ("read_words", "save_words"),
}
# Classes whose use is shown in full by the example of another, or by a block of code.
SHOWN_ELSEWHERE = {TrackingCalls, import_module("xdecoder_rt.datasets.coco_file").CocoFile}
NEEDED = {"Segmentation.to_supervision": "supervision", "evaluate": "tqdm"}


def named(table: dict[str, tuple[str, ...]]) -> list[Any]:
    return [
        getattr(import_module(f"xdecoder_rt.{module}"), name)
        for module, names in table.items()
        for name in names
    ]


def public_things() -> list[Any]:
    """Return the public classes with their own public methods, and the public functions."""
    found = []
    for kind in [*CLASSES, *named(MORE_CLASSES)]:
        found.append(kind)
        for name, value in vars(kind).items():
            value = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            if inspect.isfunction(value) and not name.startswith("_"):
                found.append(value)
    return [*found, *named(FUNCTIONS)]


def things_with_examples() -> list[Any]:
    """Return all that is public, and the properties that have an example."""
    properties = [
        value.fget
        for kind in [*CLASSES, *named(MORE_CLASSES)]
        for value in vars(kind).values()
        if isinstance(value, property) and ">>>" in (value.__doc__ or "")
    ]
    return [*public_things(), *properties]


@pytest.fixture(scope="module")
def desk(tiny_plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what examples name."""
    folder = tmp_path_factory.mktemp("desk")
    shutil.copy(tiny_plan, folder / "model.plan")
    (folder / "shots").mkdir()
    for seed, name in enumerate(("desk.jpg", "shelf.jpg")):
        noise = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
        Image.fromarray(noise).resize((640, 480)).save(folder / name)
        shutil.copy(folder / name, folder / "shots" / name)
    save_labelled_folder(folder / "scenes")
    return folder


@pytest.fixture(scope="module")
def names(desk: Path) -> Iterator[dict[str, Any]]:
    """What examples know beside their module's names."""
    segmentation = np.zeros((480, 640), np.int32)
    segmentation[100:200, 300:450] = 1
    info = {"id": 1, "label_id": 0, "label": "mug", "score": 0.9, "area": 15000, "isthing": True}
    mask = segmentation == 1
    reference = results.Reference("the red mug", mask, 0.9, results.box_of_mask(mask))
    with xdecoder_rt.Engine(
        desk / "model.plan", "onnxruntime", threads=1, cache_dir=desk / "cache"
    ) as engine:
        yield {
            "Path": Path,
            "engine": engine,
            "np": np,
            "reference": reference,
            "result": results.Segmentation(segmentation, [info]),
            "xdecoder_rt": xdecoder_rt,
        }


@pytest.mark.parametrize("thing", public_things(), ids=lambda thing: thing.__qualname__)
def test_every_public_docstring_has_an_example(thing: Any) -> None:
    if thing not in SHOWN_ELSEWHERE:
        assert ">>> " in (inspect.getdoc(thing) or "")


@pytest.mark.parametrize("thing", things_with_examples(), ids=lambda thing: thing.__qualname__)
def test_examples_do_what_they_say(
    thing: Any,
    desk: Path,
    names: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    needed = NEEDED.get(thing.__qualname__)
    if needed is not None and find_spec(needed) is None:
        pytest.skip(f"needs {needed}")
    monkeypatch.chdir(desk)
    monkeypatch.setenv("XDECODER_RT_CACHE", str(desk / "cache"))
    # A fresh dictionary: an example that closes its engine must not close the others'.
    known = {**vars(import_module(thing.__module__)), **names}
    finder = doctest.DocTestFinder(recurse=False)
    for example in finder.find(thing, thing.__qualname__, globs=known):
        outcome = doctest.DocTestRunner(verbose=False).run(example)
        assert outcome.failed == 0, capsys.readouterr().out
