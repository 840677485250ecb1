"""What fuzzing has found, each as the smallest file that showed it."""

from __future__ import annotations

import json
from pathlib import Path

import corpus
import pytest

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
