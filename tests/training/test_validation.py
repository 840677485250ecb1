"""The quick measures, on a model whose answers are known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

pytest.importorskip("scipy", reason="validation needs scipy")
pytest.importorskip("cv2", reason="validation needs opencv-python-headless")

from xdecoder_rt.evaluation.items import Segment
from xdecoder_rt.models import LayerPrediction, Prediction, XDecoder
from xdecoder_rt.training.validation import validate

GREYS = (0, 60, 120, 180)
NAMES = ("n0", "n1", "n2", "n3")
CPU = torch.device("cpu")


class Oracle(nn.Module):
    """Segments an image by its grey levels; query i answers with name i + `shift`."""

    def __init__(self, shift: int = 0, void: bool = False) -> None:
        super().__init__()
        self.shift, self.void = shift, void
        self.config = SimpleNamespace(
            num_queries=5,
            pixel_mean=(0.0, 0.0, 0.0),
            pixel_std=(1.0, 1.0, 1.0),
            decoder=SimpleNamespace(class_token_is_mask=False),
        )

    def encode_text(self, token_ids: Tensor) -> Tensor:
        return F.one_hot(token_ids[:, 0], 5).float()

    def forward(self, images: Tensor) -> Prediction:
        grey = images[:, :1, 2::4, 2::4]
        levels = torch.tensor(GREYS).view(1, 4, 1, 1)
        features = 1 - 2 * ((grey - levels).abs() > 10).float()
        mask = torch.eye(5)[:, :4].expand(len(images), -1, -1)
        classes = torch.eye(5)
        classes[:4] = torch.eye(5)[[(i + self.shift) % 4 for i in range(4)]]
        if self.void:
            classes[:4, 4] = 2
        return Prediction(features, [LayerPrediction(mask, classes.expand(len(images), -1, -1))])

    def class_logits(self, class_embedding: Tensor, text_table: Tensor) -> Tensor:
        return class_embedding @ text_table.T


def tokenizer(texts: Any) -> NDArray[np.int64]:
    """The digit of a name; 4 for the background."""
    ids = [next((int(c) for c in text if c.isdigit()), 4) for text in texts]
    return np.array([[i, 9, 9] for i in ids], np.int64)


@pytest.fixture
def dataset(fake_item: Any) -> Any:
    rng = np.random.default_rng(0)
    items = []
    for _ in range(5):
        kinds = np.kron(rng.integers(0, 4, (4, 4)), np.ones((16, 16), np.int64))
        image = np.repeat(np.array(GREYS, np.uint8)[kinds][..., None], 3, axis=2)
        segments = tuple(Segment(i + 1, f"n{i}", False, int((kinds == i).sum())) for i in range(4))
        items.append(fake_item(image, kinds + 1, segments))
    return SimpleNamespace(vocabulary=NAMES, stuff=frozenset(NAMES), items=items)


def measure(oracle: Oracle, dataset: Any, items: int = 0) -> dict[str, float]:
    return validate(cast(XDecoder, oracle), tokenizer, dataset, items, 64, 2, CPU)


def test_a_model_that_knows_everything_scores_one(dataset: Any) -> None:
    assert measure(Oracle(), dataset) == {"miou": 1.0, "accuracy": 1.0, "kept": 1.0}


def test_right_masks_with_wrong_names(dataset: Any) -> None:
    assert measure(Oracle(shift=1), dataset) == {"miou": 1.0, "accuracy": 0.0, "kept": 1.0}


def test_right_names_that_void_outbids(dataset: Any) -> None:
    assert measure(Oracle(void=True), dataset) == {"miou": 1.0, "accuracy": 1.0, "kept": 0.0}


def test_unlabelled_pixels_do_not_count(dataset: Any) -> None:
    for item in dataset.items:
        item.ids[:20] = 0
        item.pixels[:20] = GREYS[1]
    assert measure(Oracle(), dataset)["miou"] == 1.0


def test_the_items_measured_are_spread_over_the_set(dataset: Any) -> None:
    for item in dataset.items[1:2] + dataset.items[3:]:
        item.pixels[:] = 255
    assert measure(Oracle(), dataset, items=2)["miou"] == 1.0
