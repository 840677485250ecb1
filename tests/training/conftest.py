"""A tiny X-Decoder, a tiny labelled folder with texts, and batches made of them."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from xdecoder_rt.datasets.items import AnsweredQuestion, Phrase
from xdecoder_rt.datasets.labelled_folder import LabelledFolderWriter
from xdecoder_rt.models import XDecoder
from xdecoder_rt.models.config import (
    BackboneConfig,
    DecoderConfig,
    ModelConfig,
    PixelDecoderConfig,
    TextConfig,
)
from xdecoder_rt.scenes.bank.store import BankWriter
from xdecoder_rt.training.distillation.teacher import Teacher

PALETTE = np.array(
    [[200, 40, 40], [40, 200, 40], [40, 40, 200], [200, 200, 40], [90, 90, 90]], np.uint8
)
NAMES = ("red box", "green box", "blue box", "yellow box", "floor")
CONTEXT, START, END = 16, 62, 63


def tiny_config(queries: int = 6, **changes: Any) -> ModelConfig:
    """Every part of the compact family, as small as it gets."""
    return ModelConfig(
        name="tiny",
        family="compact",
        backbone=BackboneConfig(
            kind="focal_dw", embed_dim=8, depths=(1, 1, 1, 1), focal_levels=(1, 1, 1, 1)
        ),
        pixel_decoder=PixelDecoderConfig(
            dim=16, mask_level_dim=8, mask_dim=8, mask_kernel=0, norm="batch",
            transformer_layers=1, heads=2, feedforward_dim=32,
        ),
        decoder=DecoderConfig(
            num_queries=queries, hidden_dim=16, heads=2, feedforward_dim=32, layers=2,
            class_token_is_mask=False,
        ),
        text=TextConfig(width=16, heads=2, layers=1, context_length=CONTEXT, vocabulary_size=64),
        proj_dim=16,
        pixel_mean=(127.0, 127.0, 127.0),
        pixel_std=(64.0, 64.0, 64.0),
        templates="compact",
        retrieval_ensemble=False,
        caption_stops=(),
        **changes,
    )  # fmt: skip


def tiny_tokens(texts: Sequence[str]) -> NDArray[np.int64]:
    """A start token, one token a word, end tokens."""
    ids = np.full((len(texts), CONTEXT), END, np.int64)
    ids[:, 0] = START
    for row, text in zip(ids, texts, strict=True):
        words = [sum(word.encode()) % START for word in text.split()][: CONTEXT - 2]
        row[1 : len(words) + 1] = words
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
    def build(seed: int = 0, **changes: Any) -> XDecoder:
        torch.manual_seed(seed)
        return XDecoder(tiny_config(**changes))

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
            shown = [NAMES[i - 1] for i in labels if i < 5]
            writer.add(
                image,
                kinds,
                labels,
                phrases=[Phrase(f"the {NAMES[i - 1]}", (i,)) for i in labels if i < 5],
                captions=[f"a {' and a '.join(shown)} on the floor"],
                questions=[
                    AnsweredQuestion(
                        "which box is missing ?",
                        tuple(NAMES[i - 1] for i in range(1, 5) if i not in labels),
                    )
                ],
            )
    return root


@pytest.fixture(scope="session")
def tiny_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where forty words lie in the tiny model's space of texts."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.npz"
    levels = np.random.default_rng(0).integers(-127, 128, (40, 16)).astype(np.int8)
    Teacher(tuple(f"word {i}" for i in range(40)), levels).save(path)
    return path


@pytest.fixture(scope="session")
def tiny_bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Discs and boxes to paste, a lawn, a room with a table and a cup on it, two photographs."""
    rng = np.random.default_rng(0)
    writer = BankWriter(frozenset({"floor", "grass"}))

    def png(pixels: NDArray[np.uint8]) -> bytes:
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG")
        return out.getvalue()

    y, x = np.mgrid[:60, :60] - 29.5
    disc, square = np.hypot(x, y) < 28, np.maximum(abs(x), abs(y)) < 24
    for name, drawn, shape in (
        ("ball", True, disc), ("ball", False, disc), ("cup", True, square), ("box", False, square),
    ):  # fmt: skip
        pixels = np.zeros((60, 60, 4), np.uint8)
        pixels[..., :3] = rng.integers(40, 220, 3)
        pixels[shape, 3] = 255
        writer.cut_out(name, drawn, png(pixels))
    lawn = rng.integers(0, 256, (80, 80, 3), np.uint8)
    writer.scene({1: "grass"}, png(lawn), png(np.ones((80, 80), np.uint8)))
    ids = np.ones((96, 128), np.uint8)
    ids[40:80, 20:110], ids[50:60, 40:52] = 2, 3
    image = (ids[..., None] * np.array([60, 50, 40])).astype(np.uint8)
    writer.scene({1: "floor", 2: "table", 3: "cup"}, png(image), png(ids))
    for _ in range(2):
        writer.photograph(png(rng.integers(0, 256, (90, 120, 3), np.uint8)))
    folder = tmp_path_factory.mktemp("bank") / "tiny"
    writer.write(folder)
    return folder


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
