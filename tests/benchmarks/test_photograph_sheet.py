"""``benchmarks/studies/photograph_sheet.py``: what may be shown, and what is said of it."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parents[2] / "benchmarks" / "studies"))

import photograph_sheet

ENTRIES = json.loads(photograph_sheet.LIST.read_bytes())["photographs"]


def test_twenty_photographs_that_anybody_may_show_are_listed() -> None:
    assert len({entry["sha256"] for entry in ENTRIES}) == 20
    for entry in ENTRIES:
        assert entry["licence"] in ("public domain", "CC0-1.0")
        assert entry["source"].startswith(("Wikimedia Commons, ", "Pexels, "))
        assert all(0 < c < 1 for c in entry["at"])
    vocabulary, stuff = photograph_sheet.words_asked(ENTRIES)
    assert set(stuff) < set(vocabulary)
    assert all(set(entry["words"]) <= set(vocabulary) for entry in ENTRIES)


def test_the_verdict_names_the_right_word_where_another_was_said() -> None:
    entry = {"words": ["goldfish", "fish"]}
    said = [photograph_sheet.verdict(entry, label) for label in ("fish", "tiger", None)]
    assert [text for text, _ in said] == [
        "fish", "tiger (is: goldfish)", "nothing (is: goldfish)",
    ]  # fmt: skip
    assert len({colour for _, colour in said}) == 3


class Seeing:
    """Calls everything a tiger."""

    def __init__(self, plan: Path) -> None:
        del plan

    def __enter__(self) -> Seeing:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def encode(self, image: Any) -> Any:
        return image

    def segment(self, image: Any, words: list[str], *, stuff: list[str]) -> Any:
        assert set(stuff) <= set(words)
        return SimpleNamespace(
            task="panoptic",
            segmentation=np.ones(image.shape[:2], np.int32),
            segments_info=[{"id": 1, "label": "tiger"}],
            draw=lambda pixels: Image.fromarray(pixels),
        )


def test_the_sheet_has_a_row_for_every_five_and_says_how_many_are_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (30, 20), "red").save(tmp_path / "a.png")
    digest = hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()
    entries = [
        {"package": "p", "file": "a.png", "sha256": digest, "words": [word], "at": [0.5, 0.5]}
        for word in ("tiger", "cat", "tiger", "dog", "cow", "tiger")
    ]
    listed = tmp_path / "list.json"
    listed.write_text(json.dumps({"photographs": entries}))
    monkeypatch.setattr(photograph_sheet, "LIST", listed)
    monkeypatch.setattr(photograph_sheet, "Engine", Seeing)
    out = tmp_path / "sheet.webp"
    arguments = ["sheet", "model.plan", "--share", str(tmp_path), "-o", str(out)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert photograph_sheet.main() == 0
    assert "3 of 6 named right" in capsys.readouterr().out
    with Image.open(out) as sheet:
        assert sheet.size == (5 * photograph_sheet.CELL, 2 * photograph_sheet.CELL)
    entries[0]["sha256"] = "0" * 64
    listed.write_text(json.dumps({"photographs": entries}))
    assert photograph_sheet.main() == 1
    assert "another picture" in capsys.readouterr().err
