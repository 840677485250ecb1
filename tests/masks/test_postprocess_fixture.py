"""The original network's outputs, from its own class and mask logits (tests/data/focal_tiny_a)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import numpy as np
import plain_postprocess
import pytest

from xdecoder_rt.masks import postprocess
from xdecoder_rt.masks.classification import keep_panoptic, top_instances
from xdecoder_rt.pixels.letterbox import Letterbox

FOLDER = Path(__file__).parents[1] / "data" / "focal_tiny_a"
CONFIG = json.loads((FOLDER / "config.json").read_text())
CASE = CONFIG["case"]
IS_THING = np.arange(len(CASE["class_names"])) < CASE["num_thing_classes_first"]
TOP_K = CONFIG["hyperparameters"]["instance_topk"]["value"]
FORMS = [
    pytest.param(postprocess, id="compiled"),
    pytest.param(plain_postprocess, id="reference"),
]


@dataclass(frozen=True)
class Recorded:
    name: str
    letterbox: Letterbox
    arrays: dict[str, np.ndarray]

    @property
    def class_logits(self) -> np.ndarray:
        return self.arrays["pred_logits"][0]

    @property
    def mask_logits(self) -> np.ndarray:
        return self.arrays["pred_masks"][0]


@lru_cache
def recorded(name: str) -> Recorded:
    image = next(image for image in CASE["images"] if image["name"] == name)
    with np.load(FOLDER / "expected.npz", allow_pickle=False) as file:
        arrays = {
            key.removeprefix(f"{name}."): file[key] for key in file if key.startswith(f"{name}.")
        }
    padded = arrays["pred_masks"].shape
    return Recorded(
        name,
        Letterbox(
            source=(image["output_height"], image["output_width"]),
            target=(padded[2] * 4, padded[3] * 4),
            valid=(image["height"], image["width"]),
        ),
        arrays,
    )


@pytest.fixture(params=[image["name"] for image in CASE["images"]])
def image(request: pytest.FixtureRequest) -> Recorded:
    return recorded(request.param)


def assert_same_pixels(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert (found == expected).mean() >= 0.999


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("threshold_set", [0, 1])
def test_panoptic(form: ModuleType, image: Recorded, threshold_set: int) -> None:
    thresholds = CASE["panoptic_threshold_sets"][threshold_set]
    kept = keep_panoptic(image.class_logits, thresholds["object_mask_threshold"])
    found = form.panoptic(
        kept.scores,
        kept.labels,
        image.mask_logits[kept.queries],
        image.letterbox,
        IS_THING,
        thresholds["overlap_threshold"],
    )
    segments = [[s.id, s.label_id, int(s.isthing)] for s in found.segments]
    assert segments == image.arrays[f"panoptic{threshold_set}.segments"].tolist()
    assert_same_pixels(found.segmentation, image.arrays[f"panoptic{threshold_set}.seg"])


@pytest.mark.parametrize("form", FORMS)
def test_semantic(form: ModuleType, image: Recorded) -> None:
    found = form.semantic(image.class_logits, image.mask_logits, image.letterbox)
    assert_same_pixels(found, image.arrays["semantic.argmax"])


@pytest.mark.parametrize("form", FORMS)
def test_semantic_scores(form: ModuleType) -> None:
    image = recorded("img0")
    found = form.semantic_scores(image.class_logits, image.mask_logits, image.letterbox)
    # The fp32 noise that the fixture states for these sums over 81 queries.
    np.testing.assert_allclose(found, image.arrays["semantic.scores"], atol=3e-4)


@pytest.mark.parametrize("form", FORMS)
def test_instance(form: ModuleType, image: Recorded) -> None:
    chosen = top_instances(image.class_logits, TOP_K, IS_THING)
    found = form.instance(chosen, image.mask_logits[chosen.unique_queries], image.letterbox)
    # The original's order is that of an unsorted top-k.
    order = np.argsort(-image.arrays["instance.scores"], kind="stable")
    np.testing.assert_allclose(found.scores, image.arrays["instance.scores"][order], atol=5e-5)
    np.testing.assert_array_equal(found.label_ids, image.arrays["instance.classes"][order])
    assert_same_pixels(found.masks, image.arrays["instance.masks"][order])


@pytest.mark.parametrize("form", FORMS)
def test_full_size_logits(form: ModuleType, image: Recorded) -> None:
    found = form.full_size_logits(image.mask_logits[:3], image.letterbox)
    expected = image.arrays["masks_at_output_size_first3"]
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["img0", "img1"])
def test_referring_masks(form: ModuleType, name: str) -> None:
    image = recorded(name)
    found = form.binary_masks(image.arrays["grounding.matched_masks"], image.letterbox)
    assert_same_pixels(found.masks, image.arrays["grounding.masks_at_output_size"] > 0)
