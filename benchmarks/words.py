"""Times words: embedded for the first time, known already, and changed by a few.

python benchmarks/words.py cold [--size published] [--backend onnxruntime] [--threads 2]
python benchmarks/words.py warm --plan model.plan [--threads 2] [--iterations 50]

*cold*: every class name of COCO panoptic (133) in every template of the model's family, by

* *the engine*: prompts that share a beginning share its computation
  (`xdecoder_rt.words.token_rows`);
* *ends*: every prompt up to its end token, in batches sorted by length;
* *plain*: every prompt over the whole context, on the same runtime;
* *eager PyTorch*: the same, in PyTorch.

The engine embeds all prompts, once. The others embed a sample of the prompts between the engine's
calls of the graph, so that a busy machine slows all alike; their times are those of a prompt of the
sample, times the number of prompts. The weights of `--size published` are random (time does not
depend on them), those of `--size compact` the starter's. Exit code 1 when the engine's embeddings
differ from the plain ones by more than 1e-5 (relative root mean square).

*warm*: what a vocabulary costs a call that has been made before with the same words: finding its
table, by lists that are equal and not the same and by a `Vocabulary`; comparing the queries of an
image with it; and what finding it allocates. And what the table of a vocabulary costs that differs
in five words, all of them known. Embeddings are random: no time depends on them. The quickest round
counts, as what is measured is shorter than a turn of another process; medians are in the JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xdecoder_rt import Engine
from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.backends import PORTABLE, Backend
from xdecoder_rt.cli.machine import LIBRARIES, describe_machine, machine_summary
from xdecoder_rt.cli.options import DEFAULT_PLAN, positive
from xdecoder_rt.datasets.class_lists import class_list
from xdecoder_rt.errors import XDecoderError
from xdecoder_rt.evaluation.divergence import relative_rms
from xdecoder_rt.export.onnx_graphs import export_text_graph
from xdecoder_rt.export.sources import load_model
from xdecoder_rt.models import XDecoder
from xdecoder_rt.models.config import published_config
from xdecoder_rt.plan.manifest import TextInfo
from xdecoder_rt.questions.object_words import word_logits
from xdecoder_rt.questions.segment_rules import panoptic_queries
from xdecoder_rt.words.encoder import class_key
from xdecoder_rt.words.templates import NAME_SUFFIXES, TEMPLATES, prompts
from xdecoder_rt.words.text_graph import TextGraph
from xdecoder_rt.words.tokenizer import ClipTokenizer
from xdecoder_rt.words.vocabulary import Vocabulary

TOLERANCE = 1e-5
BATCH = 8
CHANGED = 5
COUNTS = (10, 100, 1000, 10_000)


class PlainForms:
    """A text encoder over whole prompts, in PyTorch and on a runtime.

    Args:
        model: the weights.
        graph: its text graph on the runtime.
        token_ids: int64 ``[prompts, context]``.
        lengths: of each prompt, its end token included.
    """

    def __init__(
        self,
        model: XDecoder,
        graph: Callable[[Mapping[str, Any]], dict[str, Any]],
        backend: Backend,
        token_ids: np.ndarray,
        lengths: np.ndarray,
    ) -> None:
        self._encoder = model.text_encoder
        self._graph, self._backend = graph, backend
        self._ids, self._lengths = token_ids, lengths
        shape = model.config.text
        empty = np.empty((BATCH, shape.heads, 0, shape.width // shape.heads), np.float32)
        self._past = {
            f"past_{kind}_{layer}": empty
            for kind in ("keys", "values")
            for layer in range(shape.layers)
        }

    def plain(self, indices: np.ndarray) -> np.ndarray:
        """Embed the whole context on the runtime."""
        return self._on_runtime(indices, self._ids.shape[1])

    def ends(self, indices: np.ndarray) -> np.ndarray:
        """Embed up to the last end token of the batch, on the runtime."""
        return self._on_runtime(indices, int(self._lengths[indices].max()))

    @torch.inference_mode()
    def eager(self, indices: np.ndarray) -> np.ndarray:
        """Embed the whole context in PyTorch."""
        return self._encoder.pooled(torch.from_numpy(self._ids[indices])).numpy()

    def _on_runtime(self, indices: np.ndarray, length: int) -> np.ndarray:
        places = np.broadcast_to(np.arange(length), (len(indices), length))
        visible = np.broadcast_to(np.tri(length, dtype=np.bool_), (len(indices), length, length))
        feeds = {"token_ids": self._ids[indices, :length], "places": places, "visible": visible}
        outputs = self._graph({**feeds, **self._past})
        features = self._backend.to_numpy(outputs["token_features"])
        return features[np.arange(len(indices)), self._lengths[indices] - 1]


def cold(options: argparse.Namespace) -> dict[str, Any]:
    """Embed every prompt and return the document."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    is_published = options.size == "published"
    model = XDecoder(published_config("tiny")) if is_published else load_model()
    model = model.eval().requires_grad_(False)
    config = model.config
    templates = TEMPLATES[config.templates]
    backend = _backend(options.backend, options.threads)
    exported = export_text_graph(model).model.SerializeToString()
    graph = backend.load("text", lambda: exported)
    names = class_list("coco-133").labels[: options.names]
    sentences = [text for name in names for text in prompts(name, templates, NAME_SUFFIXES)]
    tokenizer = ClipTokenizer.default(config.context_length)
    token_ids = tokenizer(sentences)
    forms = PlainForms(model, graph, backend, token_ids, tokenizer.lengths(token_ids))

    calls = {"plain": forms.plain, "ends": forms.ends, "eager PyTorch": forms.eager}
    shuffled = np.random.default_rng(0).permutation(len(sentences))
    sample = shuffled[: BATCH * min(options.batches, len(shuffled) // BATCH)].reshape(-1, BATCH)
    # As the form would have it: sorted by length, in batches of alike.
    by_length = np.argsort(tokenizer.lengths(token_ids), kind="stable")
    step = max(1, len(by_length) // len(sample) // BATCH)
    alike = [by_length[start : start + BATCH] for start in range(0, len(by_length), BATCH * step)]
    batches = {"plain": list(sample), "ends": alike[: len(sample)], "eager PyTorch": list(sample)}
    for name, call in calls.items():
        call(batches[name][0])
    times: dict[str, list[float]] = {name: [] for name in calls}
    features: dict[str, list[np.ndarray]] = {name: [] for name in calls}
    paused = [0.0]

    def take_turns(embedded_count: int, total: int) -> None:
        """Give the other forms a turn each time that the engine has done so much more."""
        begun = time.perf_counter()
        while len(times["plain"]) < len(sample) * embedded_count // total:
            number = len(times["plain"])
            for name in list(calls)[:: 1 if number % 2 else -1]:
                start = time.perf_counter()
                features[name].append(calls[name](batches[name][number]))
                times[name].append(time.perf_counter() - start)
        paused[0] += time.perf_counter() - begun

    text = TextGraph(_text_info(config, templates), graph, backend)
    text.ends([tokenizer.tokens(sentence) for sentence in sentences[: 4 * BATCH]])
    start = time.perf_counter()
    tokens = [tokenizer.tokens(sentence) for sentence in sentences]
    tokenized = time.perf_counter() - start
    embedded = text.ends(tokens, take_turns)
    seconds = time.perf_counter() - start - paused[0]

    prefixes = {row[: end + 1] for row in tokens for end in range(len(row))}
    scaled = {
        name: statistics.mean(spent) / BATCH * len(sentences) for name, spent in times.items()
    }
    errors = {
        name: relative_rms(
            embedded[np.concatenate(batches[name][: len(rows)])], np.concatenate(rows)
        )
        for name, rows in features.items()
    }
    return {
        "size": options.size,
        "backend": f"{backend.name} {backend.version}",
        "threads": options.threads,
        "names": len(names),
        "templates": len(templates),
        "prompts": len(sentences),
        "sampled": len(sample) * BATCH,
        "tokens_a_prompt": len(prefixes) / len(sentences),
        "context_length": config.context_length,
        "seconds": {"engine": seconds, **scaled},
        "tokenizing_seconds": tokenized,
        "relative_rms": errors,
        "machine": describe_machine((*LIBRARIES, "torch")),
    }


def warm(options: argparse.Namespace) -> dict[str, Any]:
    """Ask with known words and return the document."""
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="xdecoder-rt-") as cache,
        Engine(options.plan, options.backend, None, options.threads, cache) as engine,
    ):
        rng = np.random.default_rng(0)
        info, size = engine.manifest.text, engine.manifest.input.sizes[0]
        state = engine.decode(rng.integers(0, 256, (*size, 3), np.uint8))
        words = [f"word number {index}" for index in range(max(COUNTS) + CHANGED)]
        for start in range(0, len(words), 1000):
            names = [*words[start : start + 1000], info.background]
            vectors = rng.standard_normal((len(names), info.proj_dim), np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            keys = (class_key(word) for word in names)
            engine.text_cache.put_many(dict(zip(keys, vectors, strict=True)))
        for count in COUNTS:
            rows.append(_warm_row(engine, state, words, count, options.iterations))
        manifest = engine.manifest
        return {
            "model": manifest.model.name,
            "backend": f"{engine.backend.name} {engine.backend.version}",
            "threads": options.threads,
            "iterations": options.iterations,
            "queries": manifest.decoder.num_queries,
            "width": info.proj_dim,
            "rows": rows,
            "machine": describe_machine(LIBRARIES),
        }


def _warm_row(
    engine: Engine, state: Any, words: Sequence[str], count: int, iterations: int
) -> dict[str, Any]:
    """Return milliseconds and bytes of one size of vocabulary."""
    texts = list(words[:count])
    fixed = Vocabulary.parse(list(texts))
    manifest, table = engine.manifest, engine.class_table(texts)
    queries, _ = engine._runtime.rows.latents(state).answer("segment")
    scale, rules = manifest.decoder.logit_scale, manifest.postprocess
    names = ("list", "vocabulary", "classes", "changed")
    times: dict[str, list[float]] = {name: [] for name in names}

    def classes() -> Any:
        return panoptic_queries(word_logits(queries, table, scale, fixed), fixed, rules)

    for number in range(iterations):
        # Equal texts in another list, as a caller makes anew for every frame.
        equal = list(texts)
        position = number * CHANGED % max(1, count - CHANGED)
        swapped = [*texts[:position], *words[-CHANGED:], *texts[position + CHANGED :]]
        for name, call in {
            "list": lambda equal=equal: engine.warm(equal),
            "vocabulary": lambda: engine.warm(fixed),
            "classes": classes,
            "changed": lambda swapped=swapped: engine.warm(swapped),
        }.items():
            start = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - start))
    equal = list(texts)
    tracemalloc.start()
    engine.warm(equal)
    allocated = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {
        "words": count,
        "allocated_bytes": allocated,
        **{f"{name}_ms": min(spent) for name, spent in times.items()},
        **{f"{name}_median_ms": statistics.median(spent) for name, spent in times.items()},
    }


def _backend(name: str | None, threads: int) -> Backend:
    if name == "openvino":
        from xdecoder_rt.backends.openvino import OpenVINOBackend

        return OpenVINOBackend(threads)
    from xdecoder_rt.backends.onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(threads)


def _text_info(config: Any, templates: tuple[str, ...]) -> TextInfo:
    text = config.text
    return TextInfo(
        config.context_length,
        config.proj_dim,
        text.layers,
        text.heads,
        text.width,
        "tokenizer.json",
        templates,
        NAME_SUFFIXES,
        "background",
    )


def cold_table(document: dict[str, Any]) -> list[str]:
    """Return the results of `cold` as Markdown."""
    seconds = document["seconds"]
    context = document["context_length"]
    lines = [
        f"{document['size']} text encoder, {document['names']} names in {document['templates']} "
        f"templates: {document['prompts']:,} prompts, {document['tokens_a_prompt']:.2f} tokens a "
        f"prompt instead of {context}; {document['backend']}, {document['threads']} threads.",
        "",
        "| form | seconds | to the engine | relative RMS |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, spent in seconds.items():
        error = document["relative_rms"].get(name)
        lines.append(
            f"| {name} | {spent:.1f} | {spent / seconds['engine']:.1f} "
            f"| {'' if error is None else f'{error:.1e}'} |"
        )
    return lines


def warm_table(document: dict[str, Any]) -> list[str]:
    """Return the results of `warm` as Markdown."""
    return [
        f"{document['model']}, {document['queries']} queries, embeddings of {document['width']}; "
        f"{document['backend']}, {document['threads']} threads; milliseconds, the "
        f"quickest of {document['iterations']} rounds.",
        "",
        "| words | its table, by a list | by a `Vocabulary` | classes of the queries "
        f"| {CHANGED} words changed | bytes allocated |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {row['words']:,} | {row['list_ms']:.3f} | {row['vocabulary_ms']:.3f} "
            f"| {row['classes_ms']:.3f} | {row['changed_ms']:.2f} "
            f"| {row['allocated_bytes']:,} |"
            for row in document["rows"]
        ),
    ]


def run(options: argparse.Namespace) -> int:
    """Measure, print and judge; return the exit code."""
    document = cold(options) if options.action == "cold" else warm(options)
    lines = cold_table(document) if options.action == "cold" else warm_table(document)
    print("\n".join([*lines, "", *machine_summary(document["machine"]).splitlines()]))
    if options.output:
        with atomic_writer(options.output) as file:
            file.write((json.dumps(document, indent=2) + "\n").encode())
    worst = max(document.get("relative_rms", {"": 0.0}).values())
    if not worst <= TOLERANCE:
        print(f"error: embeddings differ from the plain ones by {worst:.1e}", file=sys.stderr)
        return 1
    return 0


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    cold_parser, warm_parser = actions.add_parser("cold"), actions.add_parser("warm")
    for action in (cold_parser, warm_parser):
        action.add_argument("--backend", choices=PORTABLE, help="default: onnxruntime")
        action.add_argument("--threads", type=positive, default=2, help="default: %(default)s")
        action.add_argument("-o", "--output", type=Path, metavar="JSON", help="write all there")
    cold_parser.add_argument("--size", choices=("published", "compact"), default="published")
    cold_parser.add_argument("--names", type=positive, default=133, help="default: %(default)s")
    cold_parser.add_argument(
        "--batches", type=positive, default=12, help="of the others' samples (default: 12 of 8)"
    )
    warm_parser.add_argument("--plan", default=DEFAULT_PLAN, help="default: %(default)s")
    warm_parser.add_argument("--iterations", type=positive, default=50, help="default: %(default)s")
    try:
        return run(parser.parse_args())
    except XDecoderError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
