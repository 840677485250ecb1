"""``xdecoder-rt caption``: a sentence for an image, or for a part of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import HEIGHT, WIDTH, Run, document_of, the_error
from PIL import Image

from xdecoder_rt import Engine
from xdecoder_rt.results import Caption


@pytest.fixture
def caption(on_tiny_plan: Callable[..., Run]) -> Run:
    return on_tiny_plan("caption")


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    (image,) = document_of(capsys)["images"]
    return dict(image)


def assert_same(found: object, expected: Caption) -> None:
    assert found == {"text": expected.text, "score": pytest.approx(expected.score, rel=1e-5)}


@pytest.mark.parametrize("options", [[], ["--prompt", "a mug"], ["--beams", "3"]])
def test_the_json_is_the_engines_answer(
    caption: Run,
    photo: Path,
    tiny_plan: Path,
    options: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert caption(photo, *options, "--max-tokens", 4, "--json") == 0
    entry = told(capsys)
    wanted = {options[0].removeprefix("--"): options[1]} if options else {}
    with Engine(tiny_plan, threads=1) as engine:
        expected = engine.caption(
            photo, wanted.get("prompt"), beams=int(wanted.get("beams", 1)), max_tokens=4
        )
    assert_same(entry["caption"], expected)
    assert (entry["height"], entry["width"], entry["region"]) == (HEIGHT, WIDTH, None)


def test_the_text_is_printed_under_the_image(
    caption: Run, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert caption(photo, "--prompt", "a mug", "--max-tokens", 3) == 0
    head, text = capsys.readouterr().out.strip().splitlines()
    assert str(photo) in head and "score" in head
    assert text.startswith("  a mug")


def test_a_stream_says_what_the_caption_says(
    caption: Run, photo: Path, tiny_plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert caption(photo, "--prompt", "a mug", "--max-tokens", 4, "--stream") == 0
    streamed, _head = capsys.readouterr().out.strip().splitlines()
    with Engine(tiny_plan, threads=1) as engine:
        pieces = list(engine.caption_stream(photo, "a mug", max_tokens=4))
    assert streamed.split() == "".join(pieces).split()


@pytest.mark.parametrize("other", [["--json"], ["-o", "told.png"], ["--beams", "2"]])
def test_a_stream_is_all_that_there_is(
    caption: Run, photo: Path, other: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert caption(photo, "--stream", *other) == 1
    assert "--stream" in the_error(capsys)


class TestRegions:
    def test_a_box_confines_the_caption(
        self, caption: Run, photo: Path, tiny_plan: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert caption(photo, "--box", "10,5,40.5,30", "--max-tokens", 4, "--json") == 0
        entry = told(capsys)
        with Engine(tiny_plan, threads=1) as engine:
            expected = engine.caption(photo, region=(10, 5, 40.5, 30), max_tokens=4)
        assert_same(entry["caption"], expected)
        assert entry["region"] == {"box": [10, 5, 40.5, 30]}

    def test_a_phrase_is_found_first(
        self,
        caption: Run,
        photo: Path,
        tiny_plan: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        with Engine(tiny_plan, threads=1) as engine:
            (found,) = engine.refer(photo, ["the red mug"])
            assert found.mask.any(), "the tiny model has to find something"
            expected = engine.caption(photo, region=found, max_tokens=4)
        picture = tmp_path / "told.png"
        options = ["--region", "the red mug", "--max-tokens", 4, "-o", picture, "--json"]
        assert caption(photo, *options) == 0
        entry = told(capsys)
        assert_same(entry["caption"], expected)
        assert entry["region"] == json.loads(json.dumps(found.to_dict()))
        with Image.open(picture) as drawn:
            assert drawn.height > HEIGHT

    def test_a_phrase_that_means_nothing_skips_the_image(
        self,
        caption: Run,
        photo: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        from xdecoder_rt.masks import postprocess

        form = postprocess.binary_masks

        def empty_masks(*arguments: Any, **options: Any) -> postprocess.BinaryMasks:
            formed = form(*arguments, **options)
            return replace(formed, masks=np.zeros_like(formed.masks))

        monkeypatch.setattr(postprocess, "binary_masks", empty_masks)
        assert caption(photo, "--region", "the red mug") == 1
        assert "'the red mug'" in the_error(capsys)

    @pytest.mark.parametrize("box", ["70,0,90,20", "30,5,30,9", "0,50,70,60"])
    def test_a_box_outside_one_image_skips_it(
        self,
        caption: Run,
        photo: Path,
        tmp_path: Path,
        box: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert caption(photo, "--box", box, "-o", tmp_path / "told.png") == 1
        assert "photo.png" in (error := the_error(capsys)) and "70x50" in error
        assert not (tmp_path / "told.png").exists()

    @pytest.mark.parametrize(
        "options",
        [
            ["--box", "1,2,3"],
            ["--box", "a,b,c,d"],
            ["--box", "0,0,nan,9"],
            ["--box", "0,0,9,9", "--region", "mug"],
            ["--beams", "0"],
            ["--max-tokens", "many"],
        ],
    )
    def test_a_wrong_command_line(
        self, caption: Run, photo: Path, options: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert caption(photo, *options) == 2
        assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", ""], "prompt is empty"),
        (["--region", ""], "empty"),
        (["--prompt", "mug " * 100, "--strict"], "too long"),
        (["--max-tokens", "1000"], "max_tokens"),
        (["--beams", "1000"], "beams"),
    ],
)
def test_bad_input_is_one_line(
    caption: Run,
    photo: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert caption(photo, *options) == 1
    assert message in the_error(capsys)
