"""Times all tasks at once against each alone and against eager PyTorch, and captions with caches.

python benchmarks/tasks.py --plan model.plan [--checkpoint FILE] [--iterations 10] [--threads 2]

One frame is asked for the segments of 20 words, 4 phrases, a caption, a question and an embedding:

* *at once*: `Engine.run`;
* *one by one*: the five calls, on one encoded image; and on the image itself, as by callers who
  know no states;
* *eager PyTorch*: the original's order of operations (`xdecoder_rt.models.plain`) under
  `inference_mode`, the same weights, words, threads and post-processing rules. Backbone and pixel
  decoder run once; every task is a decode of its own, and every token of a caption another.

Captions have as many tokens in all of them. The second table is the cost of a token at several
lengths of a caption: with kept keys and values, and by full recomputation on the same graphs.

The subjects take turns within each round. Exit code 1 when eager PyTorch and the engine disagree.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from eager import (
    EXAMPLE,
    FORMATS,
    STUFF,
    WARMUP,
    WORDS,
    EagerPath,
    is_plan_of,
    resize_masks,
    without_regions,
)
from torch import Tensor
from torch.nn import functional as F

from xdecoder_rt import Engine, tasks
from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.cli.machine import LIBRARIES, describe_machine, machine_summary
from xdecoder_rt.cli.options import DEFAULT_PLAN, positive
from xdecoder_rt.errors import ArgumentError, XDecoderError
from xdecoder_rt.image import lay_image, load_image
from xdecoder_rt.models.decoder import Rows, unit
from xdecoder_rt.models.plain import PlainFeatures, PlainOutput, plain_decode, plain_features
from xdecoder_rt.models.xdecoder import XDecoder
from xdecoder_rt.rows import RowGroup, joined
from xdecoder_rt.runtime import Runtime
from xdecoder_rt.state import DecodedRows, ImageState
from xdecoder_rt.words.tokenizer import ClipTokenizer

PHRASES = ("the robot arm", "the table", "the box on the left", "the mug next to the bowl")
QUESTION = "what is on the table?"
CHOICES = ("a mug", "a ball", "a box", "a plate")
TOKENS = 12
LENGTHS = (1, 5, 10, 20, 40)
TOLERANCE = 1e-3


@dataclass
class Answers:
    """Results of one subject on the frame, to be compared."""

    segmentation: np.ndarray
    references: list[np.ndarray]
    answer: str
    embedding: np.ndarray


class EnginePath:
    """The engine's calls."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        engine.warm(WORDS)

    def at_once(self, image: np.ndarray) -> Answers:
        out = self._engine.run(
            image,
            segment=WORDS,
            stuff=STUFF,
            refer=PHRASES,
            caption=True,
            beams=1,
            max_tokens=TOKENS,
            answer=QUESTION,
            choices=CHOICES,
            embed=True,
        )
        return Answers(
            out.segment.segmentation,
            [reference.mask for reference in out.refer],
            out.answer.text,
            out.embed,
        )

    def one_by_one(self, image: Any) -> Answers:
        engine = self._engine
        segmentation = engine.segment(image, WORDS, stuff=STUFF).segmentation
        references = [reference.mask for reference in engine.refer(image, PHRASES)]
        engine.caption(image, beams=1, max_tokens=TOKENS)
        answer = engine.answer(image, QUESTION, CHOICES).text
        return Answers(segmentation, references, answer, engine.embed_image(image))

    def on_a_state(self, image: np.ndarray) -> Answers:
        return self.one_by_one(self._engine.encode(image))


class EagerTasks(EagerPath):
    """The original's way, task by task."""

    def __init__(self, model: XDecoder, manifest: Any, memory_format: torch.memory_format) -> None:
        super().__init__(model, manifest, memory_format)
        self._tokenizer = ClipTokenizer.default(model.config.context_length)

    @torch.inference_mode()
    def every_task(self, image: np.ndarray) -> Answers:
        info, model = self._manifest.input, self._model
        box = info.place(image.shape[:2])
        frame = lay_image(image, box, info.interpolation)
        pixels = self._normalise(torch.from_numpy(frame)[None], torch.tensor([box.valid]))
        image_features = plain_features(model, pixels.contiguous(memory_format=self._format))

        generic = plain_decode(model, image_features)
        embeddings = generic.layers[-1].class_embedding
        logits = model.class_logits(embeddings, self.table)
        queries = logits.shape[1] - (not self._manifest.decoder.class_token_is_mask)
        masks = resize_masks(generic.mask_logits[-1][:, :queries], box)
        shared = self.overlaps(generic.mask_logits[-1][0, :queries], box)
        segmentation = self._panoptic(logits[0, :queries], masks, shared)

        references = []
        for phrase in PHRASES:
            features = self._text(phrase)
            output, offset = self._decode(image_features, "refer", features)
            likeness = unit(output.layers[-1].class_embedding[0, offset:]) @ unit(features[-1])
            query = offset + int(likeness[: queries_of(model) - 1].argmax())
            mask = resize_masks(output.mask_logits[-1][:, query : query + 1], box)
            references.append((mask[0] > 0).numpy())

        features = self._text(QUESTION)
        output, _ = self._decode(image_features, "answer", features)
        table = unit(torch.stack([self._text(choice)[-1] for choice in CHOICES]))
        answer = CHOICES[int((table @ unit(output.layers[-1].class_embedding[0, -1])).argmax())]

        self._caption(image_features)
        embedding = unit(embeddings[0, -1])
        if self._manifest.decoder.retrieval_ensemble:
            embedding = (embedding + unit(generic.backbone_embedding[0])) / 2
        return Answers(segmentation, references, answer, embedding.numpy())

    def _text(self, text: str) -> Tensor:
        ids = self._tokenizer([text])
        length = int(self._tokenizer.lengths(ids)[0])
        return self._model.text_encoder(torch.from_numpy(ids))[0, :length]

    def _decode(
        self, image_features: PlainFeatures, task: str, features: Tensor
    ) -> tuple[PlainOutput, int]:
        """Decode the latents and one group; return the output and where the group begins."""
        queries = queries_of(self._model)
        layout_of_task = tasks.group(task, queries, len(features))
        layout = tasks.side_by_side([tasks.latents(queries), layout_of_task], tasks.LATENT_GROUP)
        text = F.pad(features, (0, 0, len(layout) - len(features), 0))
        return plain_decode(self._model, image_features, Rows.of([layout], text[None])), queries

    def _caption(self, image_features: PlainFeatures) -> None:
        """Write `TOKENS` tokens, each by all of the decoder over a whole row of tokens."""
        model = self._model
        ids = torch.full((1, model.config.context_length), self._tokenizer.start_token)
        for step in range(TOKENS):
            output, offset = self._decode(image_features, "caption", model.text_encoder(ids)[0])
            scores = model.token_logits(output.caption_embedding[0, offset + step])
            ids[0, step + 1] = scores.argmax()


def queries_of(model: XDecoder) -> int:
    """Return the number of latent queries, the class token included."""
    return model.config.num_queries


def token_costs(runtime: Runtime, image: np.ndarray, iterations: int) -> list[dict[str, float]]:
    """Return milliseconds of the token after captions of several lengths, cached and not.

    Raises:
        XDecoderError: the two do not agree on the token's scores.
    """
    rng = np.random.default_rng(0)
    state = runtime.encode(image)
    latents = runtime.rows.latents(state)
    queries = runtime.manifest.decoder.num_queries
    costs = []
    for length in LENGTHS:
        ids = rng.integers(1000, 40000, (1, length + 1))
        ids[0, 0] = runtime.tokenizer.start_token
        token = CaptionToken(runtime, state, latents, ids, queries)
        difference = np.abs(token.cached() - token.anew()).max() / np.abs(token.anew()).max()
        if not difference < TOLERANCE:
            raise XDecoderError(f"Cached and recomputed tokens differ by {difference:.1e}")
        spent = alternate({"cached": token.cached, "anew": token.anew}, iterations)
        costs.append({"length": length, **spent})
    return costs


class CaptionToken:
    """The last token of a caption, on the engine's graphs.

    Args:
        runtime: an opened plan.
        state: of the image.
        latents: its latents.
        token_ids: of the caption, ``[1, L]``.
        queries: latent queries of the model.
    """

    def __init__(
        self,
        runtime: Runtime,
        state: ImageState,
        latents: DecodedRows,
        token_ids: np.ndarray,
        queries: int,
    ) -> None:
        self._runtime, self._state, self._ids, self._queries = runtime, state, token_ids, queries
        self._before = runtime.text_graph.proceed(token_ids[:, :-1])
        (prompt_rows,) = runtime.rows.decode(state, [self._group(self._before.features[0], 0)])
        self._past = joined(latents, prompt_rows)

    def cached(self) -> np.ndarray:
        """Return its scores from kept keys and values of everything before it."""
        runtime, place = self._runtime, self._ids.shape[1] - 1
        features = runtime.text_graph.proceed(self._ids[:, place:], self._before).features[0]
        visible = np.ones((1, len(self._past.layout)), np.bool_)
        group = self._group(features, place, visible)
        rows = runtime.rows.proceed(self._state, self._past, group)
        return runtime.token_logits(rows.caption_embedding[-1:])

    def anew(self) -> np.ndarray:
        """Return its scores from the text and the latents computed again, as the original does."""
        runtime = self._runtime
        features = runtime.text_graph.proceed(self._ids).features[0]
        fresh = ImageState(self._state.letterbox, self._state.values)
        (rows,) = runtime.rows.decode(fresh, [self._group(features, 0)])
        return runtime.token_logits(rows.caption_embedding[-1:])

    def _group(
        self, features: np.ndarray, position: int, visible: np.ndarray | None = None
    ) -> RowGroup:
        layout = tasks.group("caption", self._queries, len(features), position)
        return RowGroup(layout, features, None, visible)


def alternate(subjects: dict[str, Callable[[], Any]], iterations: int) -> dict[str, float]:
    """Return median milliseconds of each of several calls, taking turns."""
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for call in subjects.values():
        for _ in range(WARMUP):
            call()
    for number in range(iterations):
        # To and fro, so that none always comes after the same other.
        for name in list(subjects)[:: 1 if number % 2 else -1]:
            start = time.perf_counter()
            subjects[name]()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(spent) for name, spent in times.items()}


def differences(answers: Answers, expected: Answers) -> list[str]:
    """Return the names of results that differ beyond rounding."""
    names = []
    if (answers.segmentation != expected.segmentation).mean() > TOLERANCE:
        names.append("segments")
    for phrase, mask, expected_mask in zip(
        PHRASES, answers.references, expected.references, strict=True
    ):
        if (mask != expected_mask).mean() > TOLERANCE:
            names.append(f"what {phrase!r} refers to")
    if answers.answer != expected.answer:
        names.append("the answer")
    if np.abs(answers.embedding - expected.embedding).max() > TOLERANCE:
        names.append("the embedding")
    return names


def markdown(document: dict[str, Any]) -> str:
    """Return the results as Markdown tables."""
    once = document["tasks_ms"]["engine, at once"]
    lines = [
        f"{document['model']}, fp32, {len(WORDS)} words, {len(PHRASES)} phrases, a caption of "
        f"{TOKENS} tokens, a question and an embedding of one frame at "
        f"{' x '.join(map(str, document['image']))}; {document['threads']} threads, medians of "
        f"{document['iterations']} interleaved rounds.",
        *machine_summary(document["machine"]).splitlines(),
        "",
        "| form | milliseconds | to all at once |",
        "| --- | ---: | ---: |",
        *(
            f"| {name} | {spent:.1f} | {spent / once:.2f} |"
            for name, spent in document["tasks_ms"].items()
        ),
        "",
        "| tokens before | ms a token, kept keys and values | ms a token, all anew | ratio |",
        "| ---: | ---: | ---: | ---: |",
        *(
            f"| {row['length']} | {row['cached']:.2f} | {row['anew']:.2f} "
            f"| {row['anew'] / row['cached']:.1f} |"
            for row in document["tokens"]
        ),
    ]
    return "\n".join(lines)


def run(options: argparse.Namespace) -> int:
    """Measure, print and judge; return the exit code."""
    torch.set_num_threads(options.threads)
    model = without_regions(options.checkpoint)
    image = load_image(options.image)
    with tempfile.TemporaryDirectory(prefix="xdecoder-rt-") as cache:
        settings = {"backend": options.backend, "threads": options.threads}
        with Engine(options.plan, cache_dir=cache, **settings) as engine:
            manifest = engine.manifest
            if manifest.precision != "fp32" or not is_plan_of(manifest, model):
                raise ArgumentError(
                    f"{options.plan} does not hold the weights of the checkpoint in fp32",
                    expected="a portable plan that was built from the same checkpoint",
                    fix="build it with --no-regions --no-distractors; "
                    "name its own checkpoint with --checkpoint",
                )
            ours = EnginePath(engine)
            eager = [EagerTasks(model, manifest, memory_format) for memory_format in FORMATS]
            calls = {
                "engine, at once": lambda: ours.at_once(image),
                "engine, one by one on one state": lambda: ours.on_a_state(image),
                "engine, one by one on the image": lambda: ours.one_by_one(image),
                **{path.name: lambda path=path: path.every_task(image) for path in eager},
            }
            spent = alternate(calls, options.iterations)
            reference = calls["engine, at once"]()
            complaints = {name: differences(call(), reference) for name, call in calls.items()}
            backend = engine.backend.name
        runtime = Runtime(options.plan, options.backend, None, options.threads, Path(cache))
        try:
            tokens = token_costs(runtime, image, 3 * options.iterations)
        finally:
            runtime.close()
    document = {
        "model": manifest.model.name,
        "weights_sha256": manifest.model.weights_sha256,
        "backend": backend,
        "image": list(image.shape[:2]),
        "threads": options.threads,
        "iterations": options.iterations,
        "machine": describe_machine((*LIBRARIES, "torch")),
        "tasks_ms": spent,
        "tokens": tokens,
    }
    print(markdown(document))
    if options.output:
        with atomic_writer(options.output) as file:
            file.write((json.dumps(document, indent=2) + "\n").encode())
    for name, names in complaints.items():
        for difference in names:
            print(f"error: {name} differs from the engine in {difference}", file=sys.stderr)
    return int(any(complaints.values()))


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", default=DEFAULT_PLAN, help="default: %(default)s")
    parser.add_argument("--checkpoint", type=Path, help="its weights (default: the starter)")
    parser.add_argument("--image", default=str(EXAMPLE), help="default: %(default)s")
    parser.add_argument("--backend", help="default: the engine's choice")
    parser.add_argument("--iterations", type=positive, default=10, help="default: %(default)s")
    parser.add_argument("--threads", type=positive, default=2, help="default: %(default)s")
    parser.add_argument("-o", "--output", type=Path, metavar="JSON", help="write all times there")
    try:
        return run(parser.parse_args())
    except XDecoderError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
