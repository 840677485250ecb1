"""What a plan that cleans masks answers: every figure of a result is of the cleaned mask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import plain_pieces
import pytest

from xdecoder_rt import Engine
from xdecoder_rt.masks.rle import decode_mask
from xdecoder_rt.plan.manifest import Manifest
from xdecoder_rt.results import Segmentation, box_of_mask
from xdecoder_rt.runtime import Runtime
from xdecoder_rt.state import ImageState

WORDS = ["a cat", "a dog", "the sky"]
SHARE = 0.5


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)


@pytest.fixture(autouse=True)
def _specks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every mask specks: those of the tiny model are smooth."""

    def speckled(self: Runtime, state: ImageState, embeddings: np.ndarray) -> np.ndarray:
        height, width = state.letterbox.target
        noise = np.random.default_rng(0).normal(-4, 8, (len(embeddings), height // 4, width // 4))
        return noise.astype(np.float32)

    monkeypatch.setattr(Runtime, "masks", speckled)


@pytest.fixture
def exact(tiny_plan: Path, tmp_path: Path) -> Iterator[Engine]:
    with Engine(tiny_plan, cache_dir=tmp_path / "cache") as engine:
        yield engine


@pytest.fixture
def clean(
    altered: Callable[[Callable[[Manifest], Manifest]], Path], tmp_path: Path
) -> Iterator[Engine]:
    def cleaning(manifest: Manifest) -> Manifest:
        return replace(manifest, postprocess=replace(manifest.postprocess, piece_share=SHARE))

    with Engine(altered(cleaning), cache_dir=tmp_path / "cache") as engine:
        yield engine


def agrees(result: Segmentation) -> None:
    """Check areas and boxes, in every form that a result is given away in, against the masks."""
    documents = result.to_dict()["segments"]
    for index, info in enumerate(result.segments_info):
        mask, document = result.mask(index), documents[index]
        assert info["area"] == document["area"] == np.count_nonzero(mask)
        assert document["box"] == box_of_mask(mask).tolist()
        np.testing.assert_array_equal(decode_mask(document["mask"]), mask)


def test_things_of_a_map_are_cleaned_and_what_is_left_out_is_nothing(
    exact: Engine, clean: Engine
) -> None:
    before, after = (engine.segment(picture(), WORDS) for engine in (exact, clean))
    agrees(after)
    for index, info in enumerate(before.segments_info):
        expected = plain_pieces.cleaned(before.mask(index), SHARE)
        np.testing.assert_array_equal(after.mask(index), expected)
        assert {**after.segments_info[index], "area": 0} == {**info, "area": 0}
    gone = before.segmentation != after.segmentation
    assert gone.any()
    assert not after.segmentation[gone].any()


def test_stuff_of_a_map_keeps_all_of_its_pieces(exact: Engine, clean: Engine) -> None:
    before, after = (engine.segment(picture(), WORDS, stuff=WORDS) for engine in (exact, clean))
    agrees(after)
    masks = [before.mask(index) for index in range(len(before))]
    assert any((plain_pieces.cleaned(mask, SHARE) != mask).any() for mask in masks)
    np.testing.assert_array_equal(after.segmentation, before.segmentation)
    assert after.segments_info == before.segments_info


def test_instances_keep_their_scores_and_order_and_are_cleaned(
    exact: Engine, clean: Engine
) -> None:
    before, after = (engine.segment(picture(), WORDS, task="instance") for engine in (exact, clean))
    agrees(after)
    assert after.masks is not None and before.masks is not None and after.boxes is not None
    np.testing.assert_array_equal(after.scores, before.scores)
    assert (after.masks != before.masks).any()
    for mask, old, box in zip(after.masks, before.masks, after.boxes, strict=True):
        np.testing.assert_array_equal(mask, plain_pieces.cleaned(old, SHARE))
        np.testing.assert_array_equal(box, box_of_mask(mask))
    # The map shows the cleaned masks, the best of those that cover a pixel.
    covered = after.masks.any(axis=0)
    expected = np.where(covered, after.masks.argmax(axis=0) + 1, 0)
    np.testing.assert_array_equal(after.segmentation, expected)


def test_what_a_phrase_refers_to_is_cleaned_alone_and_beside_other_questions(
    exact: Engine, clean: Engine
) -> None:
    phrases = ["the cat", "a dog on the left", "the sky"]
    before, after = (engine.refer(picture(), phrases) for engine in (exact, clean))
    beside = clean.run(picture(), refer=phrases, segment=WORDS).refer
    assert beside is not None
    for old, new, other in zip(before, after, beside, strict=True):
        np.testing.assert_array_equal(new.mask, plain_pieces.cleaned(old.mask, SHARE))
        np.testing.assert_array_equal(new.box, box_of_mask(new.mask))
        np.testing.assert_array_equal(new.mask, other.mask)
        assert new.score == old.score
    assert any((new.mask != old.mask).any() for old, new in zip(before, after, strict=True))


def test_coco_and_supervision_have_the_boxes_of_cleaned_masks(clean: Engine) -> None:
    for task in ("panoptic", "instance"):
        result = clean.segment(picture(), WORDS, task=task)
        boxes = np.stack([box_of_mask(result.mask(index)) for index in range(len(result))])
        annotations: list[dict[str, Any]] = result.to_coco()
        corners = [
            [x, y, x + width, y + height]
            for x, y, width, height in (a["bbox"] for a in annotations)
        ]
        np.testing.assert_array_equal(corners, boxes)
        assert [a["area"] for a in annotations] == [info["area"] for info in result.segments_info]
    pytest.importorskip("supervision", reason="supervision is not installed")
    np.testing.assert_array_equal(result.to_supervision().xyxy, boxes)


def test_a_semantic_map_gives_every_pixel_a_class_and_is_left_as_it_is(
    exact: Engine, clean: Engine
) -> None:
    before, after = (engine.segment(picture(), WORDS, task="semantic") for engine in (exact, clean))
    np.testing.assert_array_equal(after.segmentation, before.segmentation)
