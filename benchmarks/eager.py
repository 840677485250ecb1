"""Times the engine against eager PyTorch with the same weights, in one run.

python benchmarks/eager.py --plan model.plan [--checkpoint FILE] [--iterations 30] [--threads 2]

*Eager* is the network in the original's order of operations (`xdecoder_rt.models.plain`) under
`inference_mode`, in both memory formats; the faster one counts. Its post-processing is the
original's in plain PyTorch: the mask logits of every query resized to the padded size, cropped,
resized to the image, sigmoid, panoptic rules. Letterbox, normalisation, words and thresholds are
the same for all; the words are known to everyone before the clock starts. The subjects take turns
within each round, so that a busy machine slows all alike.

Exit code 1 when the panoptic ids of an engine and of eager PyTorch differ on more than 0.1 % of the
pixels, or when there was nothing to compare.

The classifier of regions and distractors are no part of the original: the plan must be without
(`xdecoder-rt build --no-regions --no-distractors`).
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from xdecoder_rt import Engine
from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.cli.machine import LIBRARIES, describe_machine, machine_summary
from xdecoder_rt.cli.options import DEFAULT_PLAN, positive
from xdecoder_rt.errors import ArgumentError, XDecoderError
from xdecoder_rt.export.costs import weights_digest
from xdecoder_rt.export.sources import load_model
from xdecoder_rt.image import lay_image, load_image
from xdecoder_rt.masks.classification import Selection
from xdecoder_rt.masks.panoptic_rule import MapSegment
from xdecoder_rt.masks.pieces import clean_map
from xdecoder_rt.masks.votes import join_votes, without_duplicates
from xdecoder_rt.models import XDecoder
from xdecoder_rt.models.graphs import Normalise
from xdecoder_rt.models.overlaps import overlap_stride
from xdecoder_rt.models.plain import plain_forward
from xdecoder_rt.pixels.letterbox import Letterbox
from xdecoder_rt.plan.manifest import Manifest
from xdecoder_rt.words.encoder import unit
from xdecoder_rt.words.templates import prompts
from xdecoder_rt.words.tokenizer import ClipTokenizer

EXAMPLE = Path(__file__).parent.parent / "examples" / "workcell.jpg"
IMAGE_SIZES = ((512, 512), (720, 1280))
WORDS = (
    "robot arm", "table", "mug", "soccer ball", "cube", "floor", "wall", "bottle", "box", "tray",
    "gripper", "cup", "bowl", "chair", "lamp", "cable", "screwdriver", "person", "door", "window",
)  # fmt: skip
STUFF = ("floor", "wall")
CUBIC: dict[str, Any] = {"mode": "bicubic", "antialias": True, "align_corners": False}
FORMATS = {torch.contiguous_format: "contiguous", torch.channels_last: "channels_last"}
LEAST_AGREEMENT = 0.999
WARMUP = 3
# Threads of one library may spin for a moment after its last task: that is no time of the next.
PAUSE_SECONDS = 0.02


class Subject(Protocol):
    """A form that is measured."""

    name: str

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, float]:
        """Return panoptic ids ``[H, W]``, and the clock when the network was done."""


class EnginePath:
    """Our engine with one backend."""

    def __init__(self, engine: Engine) -> None:
        self.name = f"engine, {engine.backend.name}, {engine.manifest.precision}"
        self._engine = engine
        engine.warm(WORDS)

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, float]:
        state = self._engine.decode(image)
        decoded = time.perf_counter()
        return self._engine.segment(state, WORDS, stuff=STUFF).segmentation, decoded


class EagerPath:
    """The original's way in eager PyTorch.

    Args:
        model: the weights.
        manifest: input sizes, thresholds and templates, as the engine has them.
        memory_format: of the weights and of the image.
        table: `table` of another form of the same model, to embed the words once; or None.

    Attributes:
        table: unit rows of the words and of the void class.
    """

    def __init__(
        self,
        model: XDecoder,
        manifest: Manifest,
        memory_format: torch.memory_format,
        table: Tensor | None = None,
    ) -> None:
        self.name = f"eager PyTorch, {FORMATS[memory_format]}"
        self._model = copy.deepcopy(model).to(memory_format=memory_format)  # type: ignore[call-overload]
        self._format = memory_format
        self._manifest = manifest
        self._normalise = Normalise(manifest.input.mean, manifest.input.std)
        self._is_thing = [word not in STUFF for word in WORDS]
        with torch.inference_mode():
            self.table = self._embed_words() if table is None else table

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, float]:
        info = self._manifest.input
        box = info.place(image.shape[:2])
        frame = lay_image(image, box, info.interpolation)
        pixels = self._normalise(torch.from_numpy(frame)[None], torch.tensor([box.valid]))
        out = plain_forward(self._model, pixels.contiguous(memory_format=self._format))
        logits = self._model.class_logits(out.layers[-1].class_embedding, self.table)
        decoded = time.perf_counter()
        queries = logits.shape[1] - (not self._manifest.decoder.class_token_is_mask)
        masks = resize_masks(out.mask_logits[-1][:, :queries], box)
        shared = self.overlaps(out.mask_logits[-1][0, :queries], box)
        return self._panoptic(logits[0, :queries], masks, shared), decoded

    def overlaps(self, mask_logits: Tensor, box: Letterbox) -> np.ndarray:
        """Return how far masks are the same where votes look: ``[Q, h, w] -> [Q, Q]`` float32."""
        stride = overlap_stride(self._manifest.decoder.level_strides)
        size = [side // stride for side in box.target]
        resized = F.interpolate(mask_logits[None], size, **CUBIC)[0]
        inside = (resized.flatten(1) > 0).float()
        shared, area = inside @ inside.T, inside.sum(dim=1)
        shares: np.ndarray = (shared / (area[:, None] + area - shared).clamp(min=1)).numpy()
        return shares

    def _panoptic(
        self, class_logits: Tensor, mask_logits: Tensor, overlaps: np.ndarray
    ) -> np.ndarray:
        """Apply the original's rules: ``[Q, K + 1], [Q, H, W] -> [H, W]`` int32.

        The original neither lets queries vote nor cleans masks; for a plan that does, the engine's
        functions do it on both sides.
        """
        rules = self._manifest.postprocess
        class_logits = class_logits.clone()
        class_logits[:, -1] -= rules.void_offset
        if rules.votes:
            class_logits = torch.from_numpy(join_votes(class_logits.numpy(), overlaps, rules.votes))
        scores, labels = class_logits.softmax(dim=-1).max(dim=-1)
        probabilities = mask_logits.sigmoid()
        keep = (labels != len(WORDS)) & (scores > rules.object_mask_threshold)
        if rules.votes:
            queries = keep.nonzero()[:, 0]
            chosen = Selection(queries.numpy(), scores[queries].numpy(), labels[queries].numpy())
            keep[:] = False
            keep[torch.from_numpy(without_duplicates(chosen, overlaps).queries)] = True
        ids = torch.zeros(mask_logits.shape[1:], dtype=torch.int32)
        if not keep.any():
            return ids.numpy()
        masks = probabilities[keep]
        owner = (scores[keep][:, None, None] * masks).argmax(dim=0)
        stuff_ids: dict[int, int] = {}
        segments: list[MapSegment] = []
        for row, label in enumerate(labels[keep].tolist()):
            owned, inside = owner == row, masks[row] >= 0.5
            mask = owned & inside
            owned_area, inside_area = owned.sum().item(), inside.sum().item()
            if not (owned_area and inside_area and mask.sum().item()):
                continue
            if owned_area / inside_area < rules.overlap_threshold:
                continue
            if label in stuff_ids:
                ids[mask] = stuff_ids[label]
                continue
            count = len(segments) + 1
            segments.append(MapSegment(count, label, self._is_thing[label], 0.0, 0))
            if not self._is_thing[label]:
                stuff_ids[label] = count
            ids[mask] = count
        clean_map(ids.numpy(), segments, rules.piece_share)
        return ids.numpy()

    def _embed_words(self) -> Tensor:
        """Return unit rows of the words and of the void class, means over the templates."""
        text = self._manifest.text
        tokenizer = ClipTokenizer.default(text.context_length)
        rows = []
        for word in (*WORDS, text.background):
            ids = tokenizer(prompts(word, text.templates, text.strip_suffixes))
            # Attention is causal: what follows the last end token changes nothing.
            ids = ids[:, : ids.argmax(axis=1).max() + 1]
            features = self._model.encode_text(torch.from_numpy(ids)).numpy()
            rows.append(unit(unit(features).mean(axis=0)))
        return torch.from_numpy(np.stack(rows))


def resize_masks(mask_logits: Tensor, box: Letterbox) -> Tensor:
    """Resize ``[1, Q, H/4, W/4]`` of the padded input to ``[Q, H, W]`` of the image."""
    padded = F.interpolate(mask_logits, box.target, **CUBIC)
    valid = padded[:, :, : box.valid[0], : box.valid[1]]
    return F.interpolate(valid, box.source, **CUBIC)[0]


def is_plan_of(manifest: Manifest, model: XDecoder) -> bool:
    """Whether a plan has a model's weights and asks nobody else for names."""
    return manifest.distractors is None and manifest.model.weights_sha256 == weights_digest(model)


def without_regions(checkpoint: Path | None) -> XDecoder:
    """Load a model as the original has it, without a classifier of regions."""
    model = load_model(checkpoint).eval().requires_grad_(False)
    model.drop_regions()
    return model


@dataclass
class Times:
    """Milliseconds of each round: to the end of the network, after it, and the whole."""

    network: list[float] = field(default_factory=list)
    postprocess: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)

    def medians(self) -> dict[str, float]:
        return {name: statistics.median(values) for name, values in vars(self).items()}


def measure(
    subjects: Sequence[Subject], image: np.ndarray, iterations: int
) -> tuple[dict[str, Times], dict[str, np.ndarray]]:
    """Return times and panoptic ids of every subject on one image."""
    times = {subject.name: Times() for subject in subjects}
    ids = {subject.name: subject(image)[0] for subject in subjects for _ in range(WARMUP)}
    for number in range(iterations):
        # To and fro, so that none always comes after the same other.
        for subject in subjects[:: 1 if number % 2 else -1]:
            time.sleep(PAUSE_SECONDS)
            start = time.perf_counter()
            _, decoded = subject(image)
            end = time.perf_counter()
            spent = times[subject.name]
            spent.network.append(1e3 * (decoded - start))
            spent.postprocess.append(1e3 * (end - decoded))
            spent.total.append(1e3 * (end - start))
    return times, ids


def compare(
    subjects: Sequence[Subject], pixels: np.ndarray, size: tuple[int, int], iterations: int
) -> dict[str, Any]:
    """Measure one image size: medians, ratios to the faster eager form, agreement with it."""
    fitted = ImageOps.fit(Image.fromarray(pixels), (size[1], size[0]), Image.Resampling.BICUBIC)
    times, ids = measure(subjects, np.asarray(fitted), iterations)
    eager = [subject.name for subject in subjects if isinstance(subject, EagerPath)]
    fastest = min(eager, key=lambda name: times[name].medians()["total"])
    reference, medians = ids[fastest], times[fastest].medians()
    rows = {
        name: {
            "median_ms": spent.medians(),
            "times_faster": medians["total"] / spent.medians()["total"],
            "agreement": float((ids[name] == reference).mean()),
            "all_ms": spent.total,
        }
        for name, spent in times.items()
    }
    return {
        "image": list(size),
        "eager": fastest,
        "segments": int(len(np.unique(reference[reference > 0]))),
        "subjects": rows,
    }


def markdown(document: dict[str, Any]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        f"{document['model']}, {document['words']} words known, {document['threads']} "
        f"threads, medians of {document['iterations']} interleaved rounds in milliseconds.",
        *machine_summary(document["machine"]).splitlines(),
        "",
        "| image (height x width) | form | pre-processing and network | post-processing "
        "| end to end | times faster | same ids |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for case in document["cases"]:
        for name, row in case["subjects"].items():
            spent = row["median_ms"]
            lines.append(
                f"| {case['image'][0]} x {case['image'][1]} | {name} | {spent['network']:.1f} "
                f"| {spent['postprocess']:.1f} | {spent['total']:.1f} "
                f"| {row['times_faster']:.2f} | {100 * row['agreement']:.3f} % |"
            )
    return "\n".join(lines)


def failures(document: dict[str, Any]) -> list[str]:
    """Return what contradicts the claim that all subjects compute the same."""
    complaints = []
    for case in document["cases"]:
        size = "{} x {}".format(*case["image"])
        if not case["segments"]:
            complaints.append(
                f"{size}: nothing was found, so nothing was compared; use another image"
            )
        complaints += [
            f"{size}: {name} has the ids of {case['eager']} on {100 * row['agreement']:.3f} % of "
            f"the pixels only, less than {100 * LEAST_AGREEMENT:g} %"
            for name, row in case["subjects"].items()
            if row["agreement"] < LEAST_AGREEMENT
        ]
    return complaints


def run(options: argparse.Namespace) -> int:
    """Measure, print and judge; return the exit code."""
    torch.set_num_threads(options.threads)
    model = without_regions(options.checkpoint)
    pixels = load_image(options.image)
    backends = ["onnxruntime", *(["openvino"] if find_spec("openvino") else [])]
    with ExitStack() as stack:
        cache = stack.enter_context(tempfile.TemporaryDirectory(prefix="xdecoder-rt-"))
        engines = [
            stack.enter_context(
                Engine(options.plan, backend=name, threads=options.threads, cache_dir=cache)
            )
            for name in backends
        ]
        manifest = engines[0].manifest
        if manifest.precision != "fp32" or not is_plan_of(manifest, model):
            raise ArgumentError(
                f"{options.plan} does not hold the weights of the checkpoint in fp32",
                expected="a portable plan that was built from the same checkpoint",
                fix="build it with --no-regions --no-distractors; "
                "name its own checkpoint with --checkpoint",
            )
        subjects: list[Subject] = [EnginePath(engine) for engine in engines]
        subjects += [EagerPath(model, manifest, memory_format) for memory_format in FORMATS]
        cases = [compare(subjects, pixels, size, options.iterations) for size in IMAGE_SIZES]
    document = {
        "model": manifest.model.name,
        "weights_sha256": manifest.model.weights_sha256,
        "input_sizes": [list(size) for size in manifest.input.sizes],
        "words": len(WORDS),
        "threads": options.threads,
        "iterations": options.iterations,
        "machine": describe_machine((*LIBRARIES, "torch")),
        "cases": cases,
    }
    print(markdown(document))
    if options.output:
        with atomic_writer(options.output) as file:
            file.write((json.dumps(document, indent=2) + "\n").encode())
    complaints = failures(document)
    for failure in complaints:
        print(f"error: {failure}", file=sys.stderr)
    return int(bool(complaints))


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", default=DEFAULT_PLAN, help="default: %(default)s")
    parser.add_argument("--checkpoint", type=Path, help="its weights (default: the starter)")
    parser.add_argument("--image", default=str(EXAMPLE), help="default: %(default)s")
    parser.add_argument("--iterations", type=positive, default=30, help="default: %(default)s")
    parser.add_argument("--threads", type=positive, default=2, help="default: %(default)s")
    parser.add_argument("-o", "--output", type=Path, metavar="JSON", help="write all times there")
    try:
        return run(parser.parse_args())
    except XDecoderError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
