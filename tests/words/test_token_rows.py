"""Texts that share a beginning share its tokens, and features stay those of the plain form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xdecoder_rt import Engine
from xdecoder_rt.backends.base import ModelReader
from xdecoder_rt.models import XDecoder
from xdecoder_rt.models.graphs import TextGraph as TextModule
from xdecoder_rt.words import token_rows
from xdecoder_rt.words.templates import COMPACT_TEMPLATES, PUBLISHED_TEMPLATES, prompts
from xdecoder_rt.words.text_graph import TextGraph
from xdecoder_rt.words.token_rows import BATCH_ROWS, LENGTH_MULTIPLE, ROW_TOKENS
from xdecoder_rt.words.tokenizer import ClipTokenizer

TOLERANCE = 1e-5

# Few token ids, so that beginnings are shared as often as not.
TEXT = st.lists(st.integers(1, 4), min_size=1, max_size=9).map(tuple)
TEXTS = st.lists(TEXT, min_size=1, max_size=30)


def prefixes(texts: list[tuple[int, ...]]) -> set[tuple[int, ...]]:
    return {text[: end + 1] for text in texts for end in range(len(text))}


@given(texts=TEXTS, limit=st.integers(1, 40))
@example(texts=[(1, 2), (1, 2)], limit=2)
@example(texts=[(1, 2, 3), (1,), (1, 2)], limit=40)
@settings(deadline=None)
def test_every_text_is_a_path_of_nodes(texts: list[tuple[int, ...]], limit: int) -> None:
    found = list(token_rows.rows(texts, limit))
    paths = {index: (row, path) for row in found for index, path in row.paths.items()}
    assert sorted(paths) == list(range(len(texts)))
    for index, (row, path) in paths.items():
        assert tuple(row.token_ids[node] for node in path) == texts[index]
        assert tuple(row.places[node] for node in path) == tuple(range(len(path)))
        assert [row.parents[node] for node in path] == [-1, *path[:-1]]


@given(texts=TEXTS, limit=st.integers(1, 40))
@settings(deadline=None)
def test_rows_are_bounded_and_repeat_no_node(texts: list[tuple[int, ...]], limit: int) -> None:
    longest = max(map(len, texts))
    for row in token_rows.rows(texts, limit):
        assert len(row) <= max(limit, longest)
        nodes = list(zip(row.parents, row.token_ids, strict=True))
        assert len(set(nodes)) == len(nodes)
        own = prefixes([texts[index] for index in row.paths])
        assert len(row) == len(own), "a node for each beginning, and no other"


@given(texts=TEXTS, limit=st.integers(1, 40))
@settings(deadline=None)
def test_a_node_sees_the_beginning_of_its_text_and_nothing_else(
    texts: list[tuple[int, ...]], limit: int
) -> None:
    for batch in token_rows.batches(texts, limit):
        count, length = batch.token_ids.shape
        assert count <= BATCH_ROWS and length % LENGTH_MULTIPLE == 0
        assert batch.visible.shape == (count, length, length)
        assert batch.visible.diagonal(axis1=1, axis2=2).all()
        for visible, paths in zip(batch.visible, batch.paths, strict=True):
            for path in paths.values():
                for place, node in enumerate(path):
                    assert np.flatnonzero(visible[node]).tolist() == sorted(path[: place + 1])


def test_one_word_makes_one_short_row() -> None:
    tokenizer = ClipTokenizer.default()
    texts = [tokenizer.tokens(text) for text in prompts("mug", COMPACT_TEMPLATES)]
    (batch,) = token_rows.batches(texts)
    assert batch.token_ids.shape == (1, LENGTH_MULTIPLE)


def test_templates_share_their_beginnings_over_names() -> None:
    tokenizer = ClipTokenizer.default()
    names = ["mug", "table", "robot arm", "floor", "fire hydrant", "cup", "box", "bin"] * 2
    texts = [tokenizer.tokens(p) for name in names for p in prompts(name, PUBLISHED_TEMPLATES)]
    found = list(token_rows.rows(texts))
    # A name's own tokens, the full stop and the end token.
    assert sum(map(len, found)) / len(set(texts)) < 4
    assert max(map(len, found)) <= ROW_TOKENS


# --- against the plain form -----------------------------------------------------------------------


class TorchBackend:
    """Graphs of PyTorch modules."""

    name, version, device = "torch", torch.__version__, "cpu"

    def load(self, name: str, model: ModelReader, is_steady: bool = False) -> Any:
        raise NotImplementedError

    def to_numpy(self, value: torch.Tensor) -> np.ndarray[Any, Any]:
        return value.numpy()

    def to_numpy_all(self, values: dict[str, torch.Tensor]) -> dict[str, np.ndarray[Any, Any]]:
        return {name: value.numpy() for name, value in values.items()}

    def close(self) -> None:
        """Nothing is held."""


class Encoder:
    """A tiny model's text encoder, in the plain form and as the engine runs it."""

    def __init__(self, model: XDecoder) -> None:
        self.model = model.requires_grad_(False)
        self.tokenizer = ClipTokenizer.default(model.config.context_length)
        module, config = TextModule(model), model.config

        def run(feeds: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, torch.Tensor]:
            given = [torch.from_numpy(np.ascontiguousarray(feeds[name])) for name in module.inputs]
            return dict(zip(module.outputs, module(*given), strict=True))

        class Info:
            layers, heads, width = config.text.layers, config.text.heads, config.text.width
            proj_dim = config.proj_dim

        self.graph = TextGraph(Info, run, TorchBackend())  # type: ignore[arg-type]

    def plain(self, texts: list[str]) -> np.ndarray[Any, Any]:
        """Each text alone, over all of the context."""
        ids = torch.from_numpy(self.tokenizer(texts))
        return self.model.text_encoder.pooled(ids).numpy()

    def shared(self, texts: list[str]) -> np.ndarray[Any, Any]:
        return self.graph.ends([self.tokenizer.tokens(text) for text in texts])


@pytest.fixture(scope="module")
def encoder(tiny: Any, redraw: Any) -> Encoder:
    return Encoder(redraw(XDecoder(tiny)))


def relative_rms(actual: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


NAMES = st.one_of(
    st.sampled_from(["mug", "mugs", "mug rack", "table", "the", "a", "a photo"]),
    st.text(max_size=12),
    st.integers(60, 120).map(lambda words: "box " * words),  # longer than the context
)
TEMPLATE = st.one_of(
    st.sampled_from([*COMPACT_TEMPLATES, *PUBLISHED_TEMPLATES]),
    st.tuples(st.text(max_size=8), st.text(max_size=8)).map("{}".join),
).filter(lambda template: template.count("{}") == 1)


@given(
    names=st.lists(NAMES, min_size=1, max_size=5),
    templates=st.lists(TEMPLATE, min_size=1, max_size=6),
)
@settings(max_examples=25, deadline=None)
def test_embeddings_are_those_of_the_plain_form(
    encoder: Encoder, names: list[str], templates: list[str]
) -> None:
    texts = [sentence for name in names for sentence in prompts(name, templates)]
    assert relative_rms(encoder.shared(texts), encoder.plain(texts)) < TOLERANCE


def test_disjoint_over_long_and_repeated_texts(encoder: Encoder) -> None:
    texts = ["mug", "", "zebra", "box " * 100, "mug", "box " * 100 + "end", "box", "a" * 300]
    assert relative_rms(encoder.shared(texts), encoder.plain(texts)) < TOLERANCE
    assert encoder.graph.ends([]).shape == (0, encoder.model.config.proj_dim)


def test_every_token_has_its_own_feature(encoder: Encoder) -> None:
    texts = ["the red mug", "the red mug on the table", "the table"]
    tokens = [encoder.tokenizer.tokens(text) for text in texts]
    for own, features in zip(tokens, encoder.graph.encode(tokens), strict=True):
        expected = encoder.model.text_encoder(torch.tensor([own]))[0].numpy()
        assert features.shape == expected.shape
        assert relative_rms(features, expected) < TOLERANCE


def test_progress_counts_the_texts(encoder: Encoder) -> None:
    told: list[tuple[int, int]] = []
    tokens = [encoder.tokenizer.tokens(f"{number} boxes") for number in range(500)]
    encoder.graph.ends(tokens, lambda done, total: told.append((done, total)))
    assert told[-1] == (500, 500) and len(told) > 1
    assert [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_class_table_on_a_runtime_is_the_plain_forms(
    tiny_plan: Path, tiny: Any, tmp_path: Path, backend: str
) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino", reason="needs the extra openvino")
    torch.manual_seed(0)
    encoder = Encoder(XDecoder(tiny).eval())  # the plan's weights
    names = ["mug", "robot arm", "box " * 90, "floor", *(f"part {i}" for i in range(40))]
    with Engine(tiny_plan, backend, cache_dir=tmp_path) as engine:
        found = engine._runtime.text.class_table(_vocabulary(names))
    expected = []
    for name in [*names, "background"]:
        rows = encoder.plain(prompts(name, COMPACT_TEMPLATES))
        mean = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).mean(axis=0)
        expected.append(mean / np.linalg.norm(mean))
    assert relative_rms(found, np.array(expected)) < TOLERANCE


def _vocabulary(names: list[str]) -> Any:
    from xdecoder_rt.words.vocabulary import Vocabulary

    return Vocabulary.parse(names)


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield
