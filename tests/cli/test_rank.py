"""``xdecoder-rt rank``: images by texts, texts by images, and the place in the best image."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import Run, document_of, save_picture, the_error

from xdecoder_rt import Engine


@pytest.fixture
def rank(on_tiny_plan: Callable[..., Run]) -> Run:
    return on_tiny_plan("rank")


TEXTS = ["a robot arm", "the red mug", "a kitchen"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "shots"
    folder.mkdir()
    for seed in range(4):
        save_picture(folder / f"{seed}.png", seed)
    return folder


def test_the_json_holds_the_engines_scores_sorted(
    rank: Run, photos: Path, tiny_plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rank(photos, "--texts", *TEXTS, "--top", 1, "--json") == 0
    document = document_of(capsys)
    paths = [str(photos / f"{seed}.png") for seed in range(4)]
    with Engine(tiny_plan, threads=1) as engine:
        ranking = engine.rank(paths, TEXTS)
    assert [image["image"] for image in document["images"]] == paths
    scores = [image["scores"] for image in document["images"]]
    np.testing.assert_allclose(scores, ranking.scores, atol=1e-6)
    assert [text["text"] for text in document["texts"]] == TEXTS
    for column, text in enumerate(document["texts"]):
        assert [one["image"] for one in text["images"]] == [
            paths[index] for index in ranking.images(column)
        ]
        assert text["found"] is None


def test_the_best_are_printed_both_ways(
    rank: Run, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rank(photos, "--texts", *TEXTS, "--top", 2) == 0
    out, err = capsys.readouterr()
    blocks = [block.splitlines() for block in out.strip().split("\n\n")]
    assert [block[0] for block in blocks[:3]] == TEXTS
    assert all(str(photos / f"{seed}.png") in blocks[3 + seed][0] for seed in range(4))
    assert {len(block) for block in blocks} == {4} and err == ""


def test_each_text_is_found_in_its_best_image(
    rank: Run,
    photos: Path,
    tiny_plan: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    where = tmp_path / "where"
    assert rank(photos, "--texts", *TEXTS, "--find", "-o", where, "--json") == 0
    document = document_of(capsys)
    paths = [str(photos / f"{seed}.png") for seed in range(4)]
    with Engine(tiny_plan, threads=1) as engine:
        for text in document["texts"]:
            finding = engine.find(paths, text["text"])
            assert text["images"][0]["image"] == paths[finding.image]
            assert text["found"] == json.loads(json.dumps(finding.reference.to_dict()))
    best = {text["images"][0]["image"] for text in document["texts"]}
    assert {one["image"] for one in document["images"] if one["picture"]} == best
    assert sorted(where.iterdir()) == sorted(where / Path(path).name for path in best)


def test_an_unreadable_image_is_skipped(
    rank: Run, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "0.png").write_bytes(b"no picture")
    assert rank(photos, "--texts", "mug", "--find", "--json") == 1
    document = document_of(capsys)
    assert set(document["images"][0]) == {"image", "error"}
    assert len(document["texts"][0]["images"]) == 3


def test_without_a_readable_image_nothing_is_ranked(
    rank: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rank(tmp_path / "none.png", "--texts", "mug", "--find") == 1
    assert "none.png" in the_error(capsys)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--texts", ""], "empty"),
        (["--texts", "mug", "-o", "where"], "--find"),
    ],
)
def test_bad_input_is_one_line(
    rank: Run,
    photo: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert rank(photo, *options) == 1
    assert message in the_error(capsys)


def test_a_folder_without_images_is_refused(
    rank: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rank(tmp_path, "--texts", "mug") == 1
    assert "no images" in the_error(capsys)
