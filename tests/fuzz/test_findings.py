"""What fuzzing has found, each as the smallest file that showed it."""

from __future__ import annotations

import json
from pathlib import Path

import corpus
import numpy as np
import pytest

from xdecoder_rt.calibration.ranges import BINS, Histogram
from xdecoder_rt.errors import DatasetError, PlanError


@pytest.mark.parametrize("split", ["a" * 5_000, "a\0b", "../x", "x/y"])
def test_images_are_not_sought_under_a_name_that_no_folder_has(tmp_path: Path, split: str) -> None:
    """`data_subtype` is the file's own text; one of 300 letters ended in an OSError."""
    from xdecoder_rt.training.sources import open_dataset

    path = tmp_path / "v2_OpenEnded_mscoco_train2014_questions.json"
    path.write_text(json.dumps({**corpus.QUESTIONS, "data_subtype": split}))
    with pytest.raises(DatasetError, match="were not found") as caught:
        open_dataset(path)
    assert len(str(caught.value)) < 600 and str(caught.value).isprintable()


def test_a_merge_of_a_plan_is_quoted_in_short() -> None:
    """The tokenizers package quotes a whole merge, which may have megabytes."""
    from xdecoder_rt.words.tokenizer import ClipTokenizer

    document = {"model": {"type": "BPE", "vocab": {}, "merges": [f"{'a' * 9_000} b"]}}
    with pytest.raises(PlanError, match="do not fit together") as caught:
        ClipTokenizer.from_json(json.dumps(document).encode())
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("damage", ["cut", "no archive", "a method", "deflated"])
def test_kept_statistics_that_are_damaged_are_made_anew(tmp_path: Path, damage: str) -> None:
    """zipfile and zlib have errors of their own, which nobody caught."""
    observe = pytest.importorskip("xdecoder_rt.calibration.observe")
    path = tmp_path / "calibration.npz"
    observe._save_histograms(
        path, {"a.onnx": {"x": Histogram(np.ones(BINS, np.int64), 2.0, -1.0, 1.0)}}
    )
    content = bytearray(path.read_bytes())
    assert observe._load_histograms(path)["a.onnx"]["x"].limit == 2.0
    if damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "no archive":
        content[:] = b"PK" + bytes(90)
    elif damage == "a method":
        content[content.index(b"PK\1\2") + 10] = 77
    else:
        content[80:90] = b"\xff" * 10
    path.write_bytes(content)
    assert observe._load_histograms(path) is None
