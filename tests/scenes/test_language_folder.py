"""`describe`: a folder's texts written anew, and nothing else of it changed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from xdecoder_rt.datasets.labelled_folder import ANNOTATIONS, LabelledFolder, LabelledFolderWriter
from xdecoder_rt.errors import ArgumentError, DatasetError
from xdecoder_rt.scenes import generate
from xdecoder_rt.scenes.__main__ import main
from xdecoder_rt.scenes.describe import describe_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of five pictures with two mugs and a bin on grey ground, and foreign keys."""
    path = tmp_path / "folder"
    with LabelledFolderWriter(path, ["mug", "bin", "owl", "floor"], ["floor"]) as writer:
        for shift in range(5):
            image = np.full((60, 80, 3), 128, np.uint8)
            ids = np.ones((60, 80), np.uint8)
            for number, left, colour in (
                (2, 5, (200, 20, 20)),
                (3, 60, (20, 20, 200)),
                (4, 32, (20, 200, 20)),
            ):
                area = (slice(20 + shift, 34), slice(left, left + 12))
                image[area], ids[area] = colour, number
            writer.add(image, ids, {1: "floor", 2: "mug", 3: "mug", 4: "bin"})
    document = json.loads((path / ANNOTATIONS).read_text())
    document["licence"] = {"name": "CC0"}
    for number, item in enumerate(document["items"]):
        item["camera"] = number
    (path / ANNOTATIONS).write_text(json.dumps(document))
    return path


def others(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.name != ANNOTATIONS
    }


def test_texts_are_replaced_and_everything_else_is_kept(folder: Path) -> None:
    files, before = others(folder), json.loads((folder / ANNOTATIONS).read_text())
    result = describe_folder(folder, workers=1, progress=False)
    after = json.loads((folder / ANNOTATIONS).read_text())
    assert others(folder) == files
    for item, old in zip(after["items"], before["items"], strict=True):
        assert item["phrases"] and item["questions"] and len(item["captions"]) == 3
        for key in ("phrases", "captions", "questions"):
            item.pop(key)
            old.pop(key, None)
    assert after == before
    assert len(LabelledFolder.open(folder, verify=True)) == len(result) == 5


def test_texts_depend_on_the_seed_and_not_on_the_number_of_workers_or_earlier_texts(
    folder: Path,
) -> None:
    written = []
    for seed, workers in ((0, 1), (1, 1), (0, 2)):
        describe_folder(folder, seed=seed, workers=workers, progress=False)
        written.append((folder / ANNOTATIONS).read_bytes())
    assert written[0] == written[2] != written[1]


def test_a_described_folder_equals_a_freshly_generated_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pybullet", reason="the package pybullet is not installed")
    path = tmp_path / "scenes"
    generate("workcell", path, 2, seed=3, size=(96, 128), workers=1, progress=False)
    fresh = (path / ANNOTATIONS).read_bytes()
    assert main(["describe", str(path), "--workers", "1", "--quiet"]) == 0
    assert (path / ANNOTATIONS).read_bytes() != fresh
    assert main(["describe", str(path), "--seed", "3", "--workers", "1", "--quiet"]) == 0
    assert (path / ANNOTATIONS).read_bytes() == fresh
    assert "6 captions" in capsys.readouterr().out


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("broken", ["images/000003.png", "panoptic/000003.png", ANNOTATIONS])
def test_a_broken_folder_is_named_and_left_as_it_was(
    folder: Path, broken: str, workers: int
) -> None:
    (folder / broken).write_bytes((folder / broken).read_bytes()[:60])
    before = (folder / ANNOTATIONS).read_bytes()
    with pytest.raises(DatasetError, match=broken):
        describe_folder(folder, workers=workers, progress=False)
    assert (folder / ANNOTATIONS).read_bytes() == before
    assert {file.name for file in folder.iterdir()} == {ANNOTATIONS, "images", "panoptic"}


def test_what_is_no_folder_and_too_few_workers_are_refused(folder: Path) -> None:
    with pytest.raises(DatasetError, match="is not a folder"):
        describe_folder(folder / "nowhere", progress=False)
    with pytest.raises(ArgumentError, match="at least 1 process"):
        describe_folder(folder, workers=0, progress=False)


def test_a_full_disk_leaves_the_old_texts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / ANNOTATIONS).read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DatasetError, match="No space left"):
        describe_folder(folder, workers=1, progress=False)
    assert (folder / ANNOTATIONS).read_bytes() == before
    assert {file.name for file in folder.iterdir()} == {ANNOTATIONS, "images", "panoptic"}


def test_the_command_reports_errors_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["describe", str(tmp_path / "nowhere"), "--quiet"]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1


@pytest.mark.slow
def test_the_colour_measured_in_a_rendering_is_the_one_that_was_painted() -> None:
    pytest.importorskip("pybullet", reason="the package pybullet is not installed")
    from xdecoder_rt.scenes.catalogue import WORKCELL_NAMES
    from xdecoder_rt.scenes.language.layout import measure_layout
    from xdecoder_rt.scenes.scene import scene_generator
    from xdecoder_rt.scenes.workcell import WorkcellStudio

    studio = WorkcellStudio(WORKCELL_NAMES)
    right, wrong = [], []
    for index in range(20):
        scene = studio.draw(scene_generator("workcell", "colours", 0, index), (120, 160))
        layout = measure_layout(
            scene.image, scene.ids, scene.labels, studio.vocabulary, studio.stuff
        )
        for thing in layout.things:
            painted = scene.colours.get(thing.id)
            if painted and thing.colour:
                (right if thing.colour == painted else wrong).append((thing.colour, painted))
    assert len(right) >= 5
    assert len(wrong) <= 1, wrong
