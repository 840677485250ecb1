"""Eight threads ask one engine a thousand times each what one thread asked before."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xdecoder_rt import Engine

THREADS, CALLS = 8, 1000
VOCABULARIES = (["mug", "robot arm", "floor"], ["spoon", "bin"])
CHOICES = ["yes", "no", "two"]
SIZES = ((50, 70), (64, 64), (30, 90), (7, 300))
TASKS: dict[str, Callable[[Engine, Any, list[str]], Any]] = {
    "panoptic": lambda engine, image, words: engine.segment(image, words, stuff=words[-1:]),
    "semantic": lambda engine, image, words: engine.segment(image, words, task="semantic"),
    "instance": lambda engine, image, words: engine.segment(image, words, task="instance"),
    "refer": lambda engine, image, words: engine.refer(image, [f"the {word}" for word in words]),
    "joint": lambda engine, image, words: engine.refer(image, words, joint=True),
    "caption": lambda engine, image, words: engine.caption(image, max_tokens=4),
    "beams": lambda engine, image, words: engine.caption(image, beams=2, max_tokens=3),
    "answer": lambda engine, image, words: engine.answer(image, "how many?", CHOICES),
    "embed": lambda engine, image, words: engine.embed_image(image),
    "run": lambda engine, image, words: engine.run(
        image, segment=words, refer=["the mug"], caption=True, max_tokens=3, embed=True
    ),
}


def exactly(result: Any) -> Any:
    """Return all that a result holds as something that is compared bit by bit."""
    if isinstance(result, np.ndarray):
        return result.shape, result.dtype.str, result.tobytes()
    if isinstance(result, dict):
        return {key: exactly(value) for key, value in result.items()}
    if isinstance(result, list | tuple):
        return [exactly(each) for each in result]
    slots = getattr(result, "__dict__", None)
    return exactly(slots) if slots is not None else result


def asked(engine: Engine, question: tuple[str, np.ndarray, list[str]]) -> Any:
    task, image, words = question
    return exactly(TASKS[task](engine, image, words))


def questions() -> list[tuple[str, np.ndarray, list[str]]]:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]
    return list(itertools.product(TASKS, images, VOCABULARIES))


def in_threads(work: Callable[[int], Any]) -> list[Any]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, range(THREADS)))


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_mixed_calls_of_eight_threads_are_those_of_one_bit_for_bit(
    tiny_plan: Path, tmp_path: Path, backend: str
) -> None:
    pytest.importorskip(backend)
    with Engine(tiny_plan, backend, threads=1, cache_dir=tmp_path) as engine:
        for words in VOCABULARIES:
            engine.warm(words)
        asking = questions()
        # OpenVINO compiles each size for the shapes of the first call: those of one thread.
        for question in asking:
            asked(engine, question)
        expected = [asked(engine, question) for question in asking]

        def work(seed: int) -> list[int]:
            order = np.random.default_rng(seed).integers(0, len(asking), CALLS)
            return [int(i) for i in order if asked(engine, asking[i]) != expected[i]]

        different = set(itertools.chain(*in_threads(work)))
    assert not different, sorted({asking[i][0] for i in different})


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_words_that_eight_threads_ask_for_at_once_differ_by_rounding(
    tiny_plan: Path, tmp_path: Path, backend: str
) -> None:
    """Words are embedded together with those that are new in the same call: other batches."""
    pytest.importorskip(backend)
    lists = [[f"thing {number % 40}", f"part {number % 7}", "mug"] for number in range(280)]
    with Engine(tiny_plan, backend, threads=1, cache_dir=tmp_path / "one") as engine:
        expected = [np.array(engine.class_table(words)) for words in lists]
    with Engine(tiny_plan, backend, threads=1, cache_dir=tmp_path / "eight") as engine:

        def work(seed: int) -> Sequence[float]:
            order = np.random.default_rng(seed).permutation(len(lists))
            return [float(abs(engine.class_table(lists[i]) - expected[i]).max()) for i in order]

        worst = max(itertools.chain(*in_threads(work)))
    assert worst < 1e-5
