"""A tiny network with the interface of XDecoder, and a tiny labelled folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from xdecoder_rt.evaluation.labelled_folder import LabelledFolderWriter
from xdecoder_rt.models import LayerPrediction, Prediction, XDecoder

PALETTE = np.array(
    [[200, 40, 40], [40, 200, 40], [40, 40, 200], [200, 200, 40], [90, 90, 90]], np.uint8
)
NAMES = ("red box", "green box", "blue box", "yellow box", "floor")
END = 63


class TinyDecoder(nn.Module):
    """Two convolutions, a few queries, one layer: everything a step needs in milliseconds."""

    def __init__(self, queries: int = 6, dim: int = 8) -> None:
        super().__init__()
        self.config = SimpleNamespace(
            num_queries=queries,
            context_length=12,
            pixel_mean=(127.0, 127.0, 127.0),
            pixel_std=(64.0, 64.0, 64.0),
            decoder=SimpleNamespace(class_token_is_mask=False),
            to_json=lambda: "{}",
        )
        self.backbone = nn.Sequential(
            nn.Conv2d(3, dim, 3, stride=2, padding=1), nn.BatchNorm2d(dim), nn.ReLU()
        )
        self.features = nn.Conv2d(dim, dim, 3, stride=2, padding=1)
        self.queries = nn.Parameter(torch.randn(queries, dim))
        self.layer = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(0.1)  # makes a run depend on the random generator
        self.classify = nn.Linear(dim, dim)
        self.words = nn.Embedding(END + 1, dim)
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        self.unused = nn.Parameter(torch.zeros(3))

    def encode_text(self, token_ids: Tensor) -> Tensor:
        before_end = (token_ids == END).cumsum(dim=1) == 0
        return (self.words(token_ids) * before_end[..., None]).sum(dim=1)

    def forward(self, images: Tensor) -> Prediction:
        features = self.features(self.backbone(images))
        layers = []
        for states in (self.queries, self.queries + self.dropout(self.layer(self.queries))):
            mask = states.expand(len(images), -1, -1) + features.mean(dim=(2, 3))[:, None]
            layers.append(LayerPrediction(mask, self.classify(mask)))
        return Prediction(features, layers)

    def class_logits(self, class_embedding: Tensor, text_table: Tensor) -> Tensor:
        return F.normalize(class_embedding, dim=-1) @ text_table.T * self.logit_scale.exp()

    def parameter_groups(
        self, lr: float, backbone_lr_scale: float, weight_decay: float
    ) -> list[dict[str, Any]]:
        backbone = list(self.backbone.parameters())
        known = {id(p) for p in backbone}
        rest = [p for p in self.parameters() if id(p) not in known]
        return [
            {"params": backbone, "lr": lr * backbone_lr_scale, "weight_decay": weight_decay},
            {"params": rest, "lr": lr, "weight_decay": weight_decay},
        ]


def tiny_tokens(texts: Sequence[str]) -> NDArray[np.int64]:
    """One token a word, as ids below END."""
    ids = np.full((len(texts), 12), END, np.int64)
    for row, text in zip(ids, texts, strict=True):
        words = [sum(word.encode()) % END for word in text.split()][:11]
        row[: len(words)] = words
    return ids


@pytest.fixture(scope="session", autouse=True)
def single_thread() -> Iterator[None]:
    """Networks this small lose more to threads that wait for each other than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Callable[[Sequence[str]], NDArray[np.int64]]:
    return tiny_tokens


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., XDecoder]:
    def build(seed: int = 0, **changes: int) -> XDecoder:
        torch.manual_seed(seed)
        return cast(XDecoder, TinyDecoder(**changes))

    return build


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures of coloured boxes on a floor, 72 x 96, a strip at the top unlabelled."""
    root = tmp_path_factory.mktemp("data") / "boxes"
    rng = np.random.default_rng(0)
    with LabelledFolderWriter(root, NAMES, ["floor"]) as writer:
        for _ in range(6):
            kinds = np.full((72, 96), 5)
            for kind in rng.permutation(4)[:3]:
                y, x = rng.integers(8, 40), rng.integers(0, 64)
                kinds[y : y + 24, x : x + 24] = kind + 1
            image = PALETTE[kinds - 1]
            kinds[:6] = 0
            labels = {int(i): NAMES[i - 1] for i in np.unique(kinds) if i}
            writer.add(image, kinds, labels)
    return root


@dataclasses.dataclass(frozen=True)
class FakeItem:
    """A PanopticItem from arrays."""

    pixels: NDArray[np.uint8]
    ids: NDArray[np.int64]
    segments: tuple[Any, ...]
    image: Path = Path("memory")
    phrases: tuple[Any, ...] = ()
    captions: tuple[str, ...] = ()
    questions: tuple[Any, ...] = ()

    def load_image(self) -> NDArray[np.uint8]:
        return self.pixels

    def load_panoptic(self) -> NDArray[np.int64]:
        return self.ids


@pytest.fixture(scope="session")
def fake_item() -> type[FakeItem]:
    return FakeItem
