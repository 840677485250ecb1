"""`Engine.run`: every task at once is every task alone, from one look and one decode.

Also retrieval, both ways, and what a plan says that was built without a task.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xdecoder_rt import Engine
from xdecoder_rt.errors import ArgumentError, ImageError, VocabularyError
from xdecoder_rt.plan.manifest import Manifest
from xdecoder_rt.results import Output
from xdecoder_rt.state import ImageState

WORDS = ["mug", "robot arm", "floor"]
PHRASES = ["the red mug", "the arm left of the mug"]
QUESTION, CHOICES = "is there a mug?", ["yes", "no", "maybe"]
BOX = (10, 5, 60, 45)
ASKED: dict[str, dict[str, Any]] = {
    "segment": {"segment": WORDS, "stuff": ["floor"]},
    "refer": {"refer": PHRASES},
    "caption": {"caption": True, "prompt": "a", "region": BOX, "max_tokens": 4},
    "answer": {"answer": QUESTION, "choices": CHOICES},
    "embed": {"embed": True},
}


@pytest.fixture(scope="module")
def engine(tiny_plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(tiny_plan, threads=1, cache_dir=tmp_path_factory.mktemp("cache")) as opened:
        yield opened


def picture(seed: int = 0, height: int = 50, width: int = 70) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def relative_rms(actual: Any, expected: Any) -> float:
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


def alone(engine: Engine, image: Any, task: str) -> Any:
    """The task's own call."""
    if task == "segment":
        return engine.segment(image, WORDS, stuff=["floor"])
    if task == "refer":
        return engine.refer(image, PHRASES)
    if task == "caption":
        return engine.caption(image, "a", BOX, max_tokens=4)
    if task == "answer":
        return engine.answer(image, QUESTION, CHOICES)
    return engine.embed_image(image)


def assert_same(task: str, actual: Any, expected: Any) -> None:
    """Embeddings and scores to rounding; masks, labels, texts exactly."""
    if task == "segment":
        assert (actual.segmentation == expected.segmentation).all()
        assert len(actual.segments_info) == len(expected.segments_info)
        for one, other in zip(actual.segments_info, expected.segments_info, strict=True):
            assert {**one, "score": 0} == {**other, "score": 0}
            assert one["score"] == pytest.approx(other["score"], rel=1e-4)
    elif task == "refer":
        for one, other in zip(actual, expected, strict=True):
            assert one.phrase == other.phrase
            assert (one.mask == other.mask).all()
            assert one.score == pytest.approx(other.score, rel=1e-4)
    elif task == "caption":
        assert actual.text == expected.text
        assert actual.score == pytest.approx(expected.score, rel=1e-4)
    elif task == "answer":
        assert actual.text == expected.text
        assert dict(actual.scores) == pytest.approx(dict(expected.scores), rel=1e-4)
    else:
        assert relative_rms(actual, expected) < 1e-4


def assert_same_output(output: Output, expected: Mapping[str, Any], asked: set[str]) -> None:
    for task in ASKED:
        if task in asked:
            assert_same(task, getattr(output, task), expected[task])
        else:
            assert getattr(output, task) is None


def mixed(asked: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for task in asked for key, value in ASKED[task].items()}


MIXTURES = [
    mixture for size in range(len(ASKED) + 1) for mixture in itertools.combinations(ASKED, size)
]


@pytest.fixture(scope="module")
def expected(engine: Engine) -> dict[str, Any]:
    """Each task's own call, on an image that nobody looked at before."""
    return {task: alone(engine, picture(), task) for task in ASKED}


def test_every_mixture_is_its_tasks_alone(engine: Engine, expected: dict[str, Any]) -> None:
    used = engine.encode(picture())
    for mixture in MIXTURES:
        asked = set(mixture)
        assert_same_output(engine.run(picture(), **mixed(mixture)), expected, asked)
        assert_same_output(engine.run(used, **mixed(mixture)), expected, asked)


@pytest.mark.parametrize("first", list(ASKED))
def test_calls_on_one_state_come_in_any_order(
    first: str, engine: Engine, expected: dict[str, Any]
) -> None:
    state = engine.encode(picture())
    for task in sorted(ASKED, key=lambda task: (task != first, task)):
        assert_same(task, alone(engine, state, task), expected[task])


@pytest.mark.parametrize("size", [(64, 64), (20, 90), (1, 1), (200, 31)])
def test_images_of_any_size(size: tuple[int, int], engine: Engine) -> None:
    asked = {**mixed(tuple(ASKED)), "region": (0, 0, 1, 1)}
    output = engine.run(picture(3, *size), **asked)
    assert output.segment is not None and output.segment.segmentation.shape == size
    assert output.refer is not None and output.refer[0].mask.shape == size


def test_a_list_in_gives_a_list_out(engine: Engine) -> None:
    images = [picture(1), picture(2, 30, 90)]
    phrases, questions = [PHRASES, PHRASES[:1]], [QUESTION, "how many?"]
    together = engine.run(images, refer=phrases, answer=questions, choices=CHOICES, embed=True)
    assert len(together) == 2
    for image, own, question, output in zip(images, phrases, questions, together, strict=True):
        assert_same("refer", output.refer, engine.refer(image, own))
        assert_same("answer", output.answer, engine.answer(image, question, CHOICES))
        assert_same("embed", output.embed, engine.embed_image(image))


class Counted:
    """A graph that counts its calls."""

    def __init__(self, graph: Any) -> None:
        self.graph, self.inputs, self.calls = graph, graph.inputs, 0

    def __call__(self, feeds: Any) -> Any:
        self.calls += 1
        return self.graph(feeds)


class Calls:
    """How often each graph of an engine runs from now on."""

    def __init__(self, engine: Engine) -> None:
        self.graphs = engine._runtime._graphs
        for member, graph in self.graphs.items():
            self.graphs[member] = Counted(getattr(graph, "graph", graph))

    def of(self, name: str) -> int:
        return sum(
            graph.calls  # type: ignore[attr-defined]
            for member, graph in self.graphs.items()
            if member.split("_")[0].removesuffix(".onnx") == name
        )


@pytest.fixture
def warm(tiny_plan: Path, tmp_path: Path) -> Iterator[Engine]:
    """An engine that has done every task once, so that all graphs are loaded."""
    with Engine(tiny_plan, threads=1, cache_dir=tmp_path) as engine:
        engine.run(picture(), **mixed(tuple(ASKED)))
        yield engine


def test_one_look_and_one_decode_serve_every_task(warm: Engine) -> None:
    calls = Calls(warm)
    asked = tuple(task for task in ASKED if task != "caption")
    warm.run(picture(1), **mixed(asked))
    assert (calls.of("vision"), calls.of("decode"), calls.of("token")) == (1, 1, 0)
    # Every word is known by now.
    assert calls.of("text") == 0


def test_a_caption_adds_a_decode_a_token(warm: Engine) -> None:
    calls = Calls(warm)
    output = warm.run(picture(1), **mixed(tuple(ASKED)))
    assert output.caption is not None
    assert calls.of("vision") == 1
    # The first token comes with the decode of everything; no token asks after the last.
    assert 1 <= calls.of("token") <= 4
    assert calls.of("decode") == calls.of("token")


def test_a_state_remembers_what_it_is_asked(warm: Engine) -> None:
    calls = Calls(warm)
    state = warm.encode(picture(2))
    assert state.latents is None
    warm.segment(state, WORDS)
    assert (calls.of("vision"), calls.of("decode")) == (1, 1)
    # A new vocabulary, and whatever reads the latents, needs no decode.
    warm.segment(state, ["something", "else"])
    warm.segment(state, WORDS, task="semantic")
    warm.embed_image(state)
    assert (calls.of("vision"), calls.of("decode")) == (1, 1)
    # New rows are one decode more, however many.
    warm.run(state, refer=PHRASES, answer=QUESTION, choices=CHOICES, segment=WORDS, embed=True)
    assert (calls.of("vision"), calls.of("decode")) == (1, 2)


def test_latents_are_decoded_ahead_where_asked(warm: Engine) -> None:
    calls = Calls(warm)
    state = warm.decode(picture(2))
    assert isinstance(state, ImageState) and state.latents is not None
    assert warm.decode(state) is state
    warm.segment(state, WORDS)
    assert (calls.of("vision"), calls.of("decode")) == (1, 1)


def test_many_threads_ask_one_state(warm: Engine) -> None:
    expected = {task: alone(warm, picture(4), task) for task in ASKED}
    calls = Calls(warm)
    state = warm.encode(picture(4))
    with ThreadPoolExecutor(8) as pool:
        runs = [pool.submit(warm.segment, state, WORDS, stuff=["floor"]) for _ in range(8)]
        others = [pool.submit(alone, warm, state, task) for task in ASKED for _ in range(2)]
        for run in runs:
            assert_same("segment", run.result(), expected["segment"])
        for task, run in zip((t for t in ASKED for _ in range(2)), others, strict=True):
            assert_same(task, run.result(), expected[task])
    assert calls.of("vision") == 1
    state = warm.encode(picture(4))
    calls = Calls(warm)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: warm.embed_image(state), range(16)))
    assert calls.of("decode") == 1


def test_openvino_does_every_task(
    engine: Engine, expected: dict[str, Any], tiny_plan: Path, tmp_path: Path
) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    with Engine(tiny_plan, backend="openvino", threads=1, cache_dir=tmp_path) as other:
        output = other.run(picture(), **mixed(tuple(ASKED)))
        ours = {task: alone(other, picture(), task) for task in ASKED}
        assert_same_output(output, ours, set(ASKED))
    assert relative_rms(output.embed, expected["embed"]) < 1e-4
    assert output.caption is not None and output.caption.text == expected["caption"].text
    assert output.answer is not None and output.answer.text == expected["answer"].text
    assert output.refer is not None
    for one, wanted in zip(output.refer, expected["refer"], strict=True):
        assert (one.mask == wanted.mask).mean() >= 0.999


class TestRetrieval:
    def test_an_image_is_a_vector_in_the_space_of_texts(self, engine: Engine) -> None:
        one = engine.embed_image(picture())
        assert one.shape == (engine.manifest.text.proj_dim,)
        assert one.dtype == np.float32
        # The mean of two unit vectors, as published.
        assert engine.manifest.decoder.retrieval_ensemble
        assert 0.0 < np.linalg.norm(one) <= 1.0 + 1e-5
        both = engine.embed_image([picture(), picture(1)])
        assert both.shape == (2, engine.manifest.text.proj_dim)
        np.testing.assert_array_equal(both[0], one)
        assert engine.embed_image([]).shape == (0, engine.manifest.text.proj_dim)

    def test_the_class_token_may_speak_alone(
        self,
        engine: Engine,
        altered: Callable[[Callable[[Manifest], Manifest]], Path],
        tmp_path: Path,
    ) -> None:
        def alone(manifest: Manifest) -> Manifest:
            decoder = replace(manifest.decoder, retrieval_ensemble=False)
            return replace(manifest, decoder=decoder)

        state = engine.decode(picture())
        assert state.latents is not None
        token = state.latents.class_embedding[-1]
        token = token / np.linalg.norm(token)
        backbone = engine._runtime.image_embedding(state)
        backbone = backbone / np.linalg.norm(backbone)
        assert relative_rms(engine.embed_image(state), (token + backbone) / 2) < 1e-5
        with Engine(altered(alone), cache_dir=tmp_path / "cache") as other:
            assert relative_rms(other.embed_image(picture()), token) < 1e-5

    def test_images_and_texts_are_ranked_both_ways(self, engine: Engine) -> None:
        images, texts = [picture(seed) for seed in range(3)], ["a mug", "a robot in a kitchen"]
        ranking = engine.rank(images, texts)
        assert ranking.texts == tuple(texts)
        expected = engine.embed_image(images) @ engine.embed_text(texts).T
        np.testing.assert_allclose(ranking.scores, expected, rtol=1e-6)
        assert ranking.images(0) == np.argsort(-expected[:, 0]).tolist()
        assert ranking.best_texts(2) == np.argsort(-expected[2]).tolist()

    def test_a_phrase_finds_its_image_and_its_place_there(self, engine: Engine) -> None:
        images = [engine.encode(picture(seed)) for seed in range(3)]
        finding = engine.find(images, "the red mug")
        scores = engine.rank(images, ["the red mug"]).scores[:, 0]
        assert finding.image == int(scores.argmax())
        assert finding.score == pytest.approx(float(scores.max()))
        (reference,) = engine.refer(images[finding.image], ["the red mug"])
        assert_same("refer", [finding.reference], [reference])

    def test_what_cannot_be_ranked(self, engine: Engine) -> None:
        with pytest.raises(ArgumentError, match="images is a ndarray.*a list"):
            engine.rank(picture(), ["a mug"])  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="texts is 'a mug'"):
            engine.rank([picture()], "a mug")
        with pytest.raises(VocabularyError, match="Text 1 is empty"):
            engine.rank([picture()], ["a mug", ""])
        with pytest.raises(ArgumentError, match="There are no images"):
            engine.find([], "a mug")
        with pytest.raises(VocabularyError, match="empty"):
            engine.find([picture()], "")
        with pytest.raises(ImageError):
            engine.rank([np.zeros((0, 0, 3), np.uint8)], ["a mug"])


@pytest.mark.parametrize("missing", list(ASKED))
def test_a_plan_without_a_task_says_how_to_build_it(
    missing: str, altered: Callable[[Callable[[Manifest], Manifest]], Path], tmp_path: Path
) -> None:
    held = tuple(task for task in ASKED if task != missing)

    def without(manifest: Manifest) -> Manifest:
        return replace(manifest, tasks=held)

    named = f"cannot do the task '{missing}'.*--tasks {','.join((*held, missing))}"
    with Engine(altered(without), cache_dir=tmp_path / "cache") as engine:
        with pytest.raises(ArgumentError, match=named):
            alone(engine, picture(), missing)
        with pytest.raises(ArgumentError, match=named):
            engine.run(picture(), **ASKED[missing])
        assert getattr(engine.run(picture(), **mixed(held)), missing) is None


@pytest.mark.parametrize(
    ("region", "named"),
    [
        ((100, 0, 120, 10), "covers no pixel.*inside 70x50"),
        (np.zeros((50, 70), np.bool_), "is empty"),
        (np.ones((70, 50), np.bool_), "70x50 pixels.*50x70"),
        (np.ones((50, 70), np.uint8), "array of uint8"),
    ],
    ids=["outside", "empty", "shape", "dtype"],
)
def test_regions_that_cannot_be_described(region: Any, named: str, engine: Engine) -> None:
    with pytest.raises(ArgumentError, match=named):
        engine.caption(picture(), region=region)
    with pytest.raises(ArgumentError, match=named):
        engine.run(picture(), caption=True, region=region)


def test_a_caption_of_what_a_phrase_refers_to(engine: Engine) -> None:
    state = engine.encode(picture())
    for reference in engine.refer(state, PHRASES):
        if reference.mask.any():
            described = engine.caption(state, region=reference, max_tokens=3)
            assert described == engine.caption(state, region=reference.mask, max_tokens=3)


def test_a_closed_engine_answers_nothing(tiny_plan: Path, tmp_path: Path) -> None:
    with Engine(tiny_plan, cache_dir=tmp_path) as engine:
        pass
    for task in ASKED:
        with pytest.raises(ArgumentError, match="closed"):
            alone(engine, picture(), task)
        with pytest.raises(ArgumentError, match="closed"):
            engine.run(picture(), **ASKED[task])
