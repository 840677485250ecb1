"""``xdecoder-rt refer``: a region for each phrase; bad phrases are one line and an exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import HEIGHT, WIDTH, Run, document_of, save_picture, the_error
from PIL import Image

from xdecoder_rt import Engine
from xdecoder_rt.masks.rle import decode_mask

PHRASES = ["the red mug", "the cube left of the bin"]
TOO_LONG = " ".join(["mug"] * 100)


@pytest.fixture
def refer(on_tiny_plan: Callable[..., Run]) -> Run:
    return on_tiny_plan("refer")


def test_the_table_has_a_row_for_each_phrase(
    refer: Run, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refer(photo, "--phrases", *PHRASES) == 0
    out, err = capsys.readouterr()
    head, columns, *rows = out.strip().splitlines()
    assert f"{WIDTH} x {HEIGHT}, 2 phrases" in head
    assert columns.split() == ["phrase", "score", "left", "top", "right", "bottom"]
    for number, (row, phrase) in enumerate(zip(rows, PHRASES, strict=True), 1):
        assert row.split()[0] == str(number) and phrase in row
    assert err == ""


@pytest.mark.parametrize("joint", [False, True])
def test_the_json_is_the_engines_answer(
    refer: Run, photo: Path, tiny_plan: Path, joint: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--backend", "onnxruntime", *(["--joint"] if joint else []), "--json"]
    assert refer(photo, "--phrases", *PHRASES, *options) == 0
    document = document_of(capsys)
    assert document["plan"] == str(tiny_plan) and document["backend"] == "onnxruntime"
    assert (document["phrases"], document["joint"]) == (PHRASES, joint)
    (image,) = document["images"]
    assert (image["image"], image["height"], image["width"]) == (str(photo), HEIGHT, WIDTH)
    assert image["time_ms"] > 0 and image["picture"] is None
    with Engine(tiny_plan, backend="onnxruntime", threads=1) as engine:
        expected = engine.refer(photo, PHRASES, joint=joint)
    assert image["refer"] == json.loads(json.dumps([one.to_dict() for one in expected]))
    assert decode_mask(image["refer"][0]["mask"]).shape == (HEIGHT, WIDTH)


def test_phrases_may_be_given_one_by_one(
    refer: Run, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refer(photo, "--phrases", PHRASES[0], "--phrases", PHRASES[1], "--json") == 0
    assert document_of(capsys)["phrases"] == PHRASES


def test_the_picture_holds_the_image_and_the_phrases_under_it(
    refer: Run, photo: Path, tmp_path: Path
) -> None:
    assert refer(photo, "--phrases", *PHRASES, "-o", tmp_path / "found.png") == 0
    with Image.open(tmp_path / "found.png") as drawn:
        assert drawn.width >= WIDTH and drawn.height > HEIGHT


def test_a_folder_stands_for_its_images_in_order(
    refer: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "shots"
    folder.mkdir()
    for number in (10, 9):
        save_picture(folder / f"{number}.png", number)
    save_picture(folder / "²1.png", 1)  # "²" is a digit to Python and no number
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 and nothing more")
    (folder / "notes.txt").write_text("no image")
    assert refer(folder, "--phrases", "mug", "-o", tmp_path / "drawn", "--json") == 1
    out, err = capsys.readouterr()
    entries = json.loads(out)["images"]
    names = [Path(entry["image"]).name for entry in entries]
    assert names == ["9.png", "10.png", "broken.jpg", "²1.png"]
    assert set(entries[2]) == {"image", "error"}
    assert [line for line in err.splitlines() if line.startswith("error: ")]
    drawn = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert drawn == ["10.png", "9.png", "²1.png"]


def test_a_folder_of_one_image_is_drawn_into_a_folder(refer: Run, tmp_path: Path) -> None:
    (tmp_path / "shots").mkdir()
    save_picture(tmp_path / "shots" / "one.png")
    assert refer(tmp_path / "shots", "--phrases", "mug", "-o", tmp_path / "drawn.d") == 0
    assert [path.name for path in (tmp_path / "drawn.d").iterdir()] == ["one.png"]


class TestBadPhrases:
    @pytest.mark.parametrize(
        ("phrases", "message"),
        [
            ([], "no phrases"),
            (["mug", " "], "empty"),
            (["mug"] * 65, "--max-phrases 65"),
            (["mug\udc80"], "no text"),
        ],
    )
    def test_are_refused(
        self,
        refer: Run,
        photo: Path,
        tmp_path: Path,
        phrases: list[str],
        message: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        options = ["--phrases", *phrases] if phrases else []
        assert refer(photo, *options, "-o", tmp_path / "found.png") == 1
        assert message in the_error(capsys)
        assert not (tmp_path / "found.png").exists()

    def test_one_that_is_too_long_is_cut_with_a_warning(
        self, refer: Run, photo: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert refer(photo, "--phrases", "the fork", TOO_LONG) == 0
        err = capsys.readouterr().err
        assert err.startswith("warning: 'mug mug") and "cut" in err and err.count("\n") == 1

    def test_one_that_is_too_long_is_an_error_if_strict(
        self, refer: Run, photo: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert refer(photo, "--phrases", TOO_LONG, "--strict") == 1
        assert "too long" in the_error(capsys)


def test_a_picture_needs_a_usable_font(
    refer: Run, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["-o", tmp_path / "found.png", "--font", tmp_path / "none.ttf"]
    assert refer(photo, "--phrases", "mug", *options) == 1
    assert "font" in the_error(capsys)
    assert not (tmp_path / "found.png").exists()
