"""Compares a backend with ONNX Runtime over all tasks of plans: the same frame, the same questions.

    python benchmarks/backend_parity.py model.plan                     # the table, as Markdown
    python benchmarks/backend_parity.py model.plan fp16.plan --backend torch --device cuda
    python benchmarks/backend_parity.py model.plan --image photo.jpg --json parity.json

What graphs give is compared as a relative difference (root mean square over that of ONNX Runtime),
the largest of the outputs; answers as they are, of maps the share of pixels with another id. A task
that the plan lacks is a dash; so is an example where no segment was found.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xdecoder_rt import Engine
from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.evaluation.agreement import Apart
from xdecoder_rt.image import load_pixels
from xdecoder_rt.results import Output, Segmentation
from xdecoder_rt.streams import synthetic

WORDS = ["mug", "robot arm", "table", "floor"]
PHRASES = ["the red mug", "the arm left of the mug"]
QUESTION, CHOICES = "is there a mug?", ["yes", "no", "maybe"]
SIZE, SEED = (300, 400), 7
ABSENT = "-"
COLUMNS = (
    "plan",
    "vision graph",
    "queries",
    "pixels of another segment",
    "segments, scores",
    "phrases: pixels, scores",
    "caption",
    "answer",
    "image embedding",
    "semantic, instance",
    "rank, find",
    "example, track",
)


@dataclass(frozen=True)
class Row:
    """How far two backends are apart on one plan, a text a column."""

    plan: str
    vision: str
    queries: str
    map: str
    segments: str
    phrases: str
    caption: str
    answer: str
    embedding: str
    kinds: str
    retrieval: str
    frames: str


def questions(engine: Engine) -> dict[str, Any]:
    """Return the arguments of one call that asks everything that a plan can do."""
    asked: dict[str, dict[str, Any]] = {
        "segment": {"segment": WORDS, "stuff": ["table", "floor"]},
        "refer": {"refer": PHRASES},
        "caption": {"caption": True},
        "answer": {"answer": QUESTION, "choices": CHOICES},
        "embed": {"embed": True},
    }
    tasks = engine.manifest.tasks
    return {key: value for task in asked if task in tasks for key, value in asked[task].items()}


def compared(plan: Path, image: Any, backend: str, device: str | None, name: str) -> Row:
    """Ask both backends of a plan the same, and compare."""
    with (
        tempfile.TemporaryDirectory() as caches,
        Engine(plan, backend="onnxruntime", cache_dir=Path(caches, "a")) as base,
        Engine(plan, backend=backend, device=device, cache_dir=Path(caches, "b")) as tried,
    ):
        states = [engine.decode(image) for engine in (tried, base)]
        vision = largest(
            (engine_value(tried, states[0], key), engine_value(base, states[1], key))
            for key in states[1].values
        )
        rows = largest(
            (getattr(states[0].latents, key), getattr(states[1].latents, key))
            for key in ("class_embedding", "mask_embedding", "caption_embedding")
        )
        for _ in range(2):  # recorded or captured, and run again
            found = tried.run(image, **questions(tried))
        expected = base.run(image, **questions(base))
        rest = [further(engine, image, expected) for engine in (tried, base)]
    return Row(name, vision, rows, *answers(found, expected), *further_answers(*rest))


def further(engine: Engine, image: Any, known: Output) -> dict[str, Any]:
    """Return the answers of the calls that `Engine.run` has no part in, of a frame and its mirror.

    Args:
        engine: of either backend.
        image: the frame.
        known: what the reference found in it: the example is of the first of its segments.
    """
    tasks, found = engine.manifest.tasks, dict[str, Any]()
    states = [engine.encode(each) for each in (image, np.ascontiguousarray(image[:, ::-1]))]
    if "segment" in tasks:
        for kind in ("semantic", "instance"):
            found[kind] = [engine.segment(states[0], WORDS, task=kind)]
        found["track"] = list(engine.track([*states, states[0]], WORDS, stuff=["table", "floor"]))
        if known.segment is not None and known.segment.segments_info:
            mark = known.segment.segmentation == known.segment.segments_info[0]["id"]
            try:
                word = engine.example(states[0], mark, "this one")
            except ArgumentError as error:  # no query outlines it
                found["example"] = str(error)
            else:
                found["example"] = [engine.segment(states[1], [word, *WORDS])]
    if "embed" in tasks:
        found["rank"] = engine.rank(states, PHRASES).scores
        if "refer" in tasks:
            found["find"] = engine.find(states, PHRASES[0])
    return found


def further_answers(found: dict[str, Any], expected: dict[str, Any]) -> tuple[str, str, str]:
    """Return what the answers of `further` differ by: kinds of segments, retrieval, frames."""

    def apart(name: str) -> str:
        if name not in expected:
            return ABSENT
        one, other = found[name], expected[name]
        if name == "rank":
            return apart_by(one, other)
        if name == "find":
            share = (one.reference.mask != other.reference.mask).mean()
            return f"{share:.3%}" if one.image == other.image else "another image"
        if isinstance(other, str) or isinstance(one, str):
            return "none" if one == other else f"{one!r}, not {other!r}"
        return segments_apart(one, other)

    first, second, third = (
        ", ".join(map(apart, names))
        for names in (("semantic", "instance"), ("rank", "find"), ("example", "track"))
    )
    return first, second, third


def segments_apart(found: list[Segmentation], expected: list[Segmentation]) -> str:
    """Return the largest share of pixels with another id, where the same is found."""
    for one, other in zip(found, expected, strict=True):
        named = [[s["label"] for s in each.segments_info] for each in (one, other)]
        if named[0] != named[1]:
            return "others"
    pairs = zip(found, expected, strict=True)
    return f"{max((a.segmentation != b.segmentation).mean() for a, b in pairs):.3%}"


def engine_value(engine: Engine, state: Any, key: str) -> Any:
    """Return one of a state's values on the host."""
    return engine.backend.to_numpy(state.values[key])


def largest(pairs: Any) -> str:
    """Return the largest relative difference of pairs of arrays; two of zeros do not differ."""
    worst = 0.0
    for found, expected in pairs:
        apart = Apart()
        apart.add(found, expected)
        worst = max(worst, apart.relative_rms)
    return f"{worst:.1e}"


def answers(found: Output, expected: Output) -> tuple[str, str, str, str, str, str]:
    """Return what the answers differ by: map, segments, phrases, caption, answer, embedding."""
    maps = segments = phrases = caption = answer = embedding = ABSENT
    if expected.segment is not None and found.segment is not None:
        share = (found.segment.segmentation != expected.segment.segmentation).mean()
        maps = f"{share:.3%}"
        labels = [[s["label"] for s in one.segment.segments_info] for one in (found, expected)]  # type: ignore[union-attr]
        scores = [[s["score"] for s in one.segment.segments_info] for one in (found, expected)]  # type: ignore[union-attr]
        segments = f"{len(labels[1])}, {apart_by(*scores)}" if labels[0] == labels[1] else "others"
    if expected.refer is not None and found.refer is not None:
        pairs = list(zip(found.refer, expected.refer, strict=True))
        share = max(float((one.mask != other.mask).mean()) for one, other in pairs)
        scores = [[pair[place].score for pair in pairs] for place in (0, 1)]
        phrases = f"{share:.3%}, {apart_by(*scores)}"
    if expected.caption is not None and found.caption is not None:
        caption = told(found.caption.text, expected.caption.text)
        caption += f", {apart_by([found.caption.score], [expected.caption.score])}"
    if expected.answer is not None and found.answer is not None:
        names = list(expected.answer.scores)
        scores = [[one.scores[name] for name in names] for one in (found.answer, expected.answer)]
        answer = f"{told(found.answer.text, expected.answer.text)}, {apart_by(*scores)}"
    if expected.embed is not None:
        embedding = largest([(found.embed, expected.embed)])
    return maps, segments, phrases, caption, answer, embedding


def told(found: str, expected: str) -> str:
    """Return whether two texts are one."""
    return "the same text" if found == expected else f"{found!r}, not {expected!r}"


def apart_by(found: Sequence[float], expected: Sequence[float]) -> str:
    """Return the largest difference of scores."""
    difference = np.abs(np.subtract(found, expected))
    return f"{difference.max(initial=0.0):.1e}"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("plans", nargs="+", type=Path, metavar="PLAN", help="portable plans")
    parser.add_argument("--backend", default="torch", help="what is compared (%(default)s)")
    parser.add_argument("--device", default="cpu", help="where it runs (%(default)s)")
    parser.add_argument("--image", type=Path, help="instead of a synthetic one of 300x400")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    image = synthetic.image(SIZE, SEED) if options.image is None else load_pixels(options.image)[0]
    print("| " + " | ".join(COLUMNS) + " |")
    print("| --- |" + " --- |" * (len(COLUMNS) - 1), flush=True)
    rows = []
    for plan in options.plans:
        rows.append(compared(plan, image, options.backend, options.device, plan.stem))
        print("| " + " | ".join(asdict(rows[-1]).values()) + " |", flush=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
