"""``xdecoder-rt bench``: how long each stage of a plan takes on this machine."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from xdecoder_rt.backends import PORTABLE
from xdecoder_rt.cli.machine import describe_machine, machine_summary
from xdecoder_rt.cli.memory import measure_memory
from xdecoder_rt.cli.options import SEGMENT_TASKS, add_json, add_plan, positive, size
from xdecoder_rt.cli.output import CommandReport, ProgressPrinter, format_table
from xdecoder_rt.errors import ArgumentError, printable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from xdecoder_rt.engine import Engine

SUMMARY = "measure time and memory of a plan on this machine"
DESCRIPTION = """\
Measure where the time of a frame goes: p50, p90 and p99 of pre-processing, vision, decode,
post-processing and the whole, with the words known and with words seen for the first time; and the
peak memory of a process that does nothing but load and segment. Several backends are measured in
turns within one run, so that a busy machine slows all alike.
"""
EXAMPLES = """\
  xdecoder-rt bench                                      model.plan, a synthetic 720x1280 image
  xdecoder-rt bench robot.plan --image desk.jpg --threads 2
  xdecoder-rt bench robot.plan --backend onnxruntime openvino --iterations 100
  xdecoder-rt bench robot.plan --words 1000 --json bench.json
"""
STAGE_NAMES = {
    "preprocess": "pre-processing: resize and pad",
    "vision": "vision: backbone and pixel decoder",
    "decode": "decode: queries over the image",
    "postprocess": "post-processing: classes, masks, segments",
    "end_to_end": "end to end, words known",
    "text_cold": "text: words seen for the first time",
    "text_disk": "text: words from the disk cache",
    "end_to_end_cold": "end to end, new words every frame",
}
_PERCENTILES = ("p50", "p90", "p99")
T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``bench``."""
    add_plan(parser, positional=True)
    frame = parser.add_mutually_exclusive_group()
    frame.add_argument("--image", metavar="FILE", help="the image to segment")
    frame.add_argument(
        "--size",
        type=size,
        default=(720, 1280),
        metavar="HxW",
        help="height x width of the synthetic image that is segmented without --image "
        "(default 720x1280)",
    )
    parser.add_argument(
        "--words",
        type=positive,
        default=20,
        metavar="N",
        help="size of the vocabulary (default: %(default)s)",
    )
    parser.add_argument(
        "--task",
        choices=SEGMENT_TASKS,
        default="panoptic",
        help="kind of output (default: %(default)s)",
    )
    parser.add_argument(
        "--iterations",
        type=positive,
        default=50,
        metavar="N",
        help="timed rounds (default: %(default)s)",
    )
    parser.add_argument(
        "--warmup",
        type=positive,
        default=3,
        metavar="N",
        help="untimed rounds before them (default: %(default)s)",
    )
    parser.add_argument(
        "--backend",
        nargs="+",
        choices=PORTABLE,
        metavar="NAME",
        help=f"one or several of {', '.join(PORTABLE)} (default: chosen by the plan)",
    )
    parser.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="processor threads (default: the backend's choice within affinity and quota)",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print.

    Raises:
        XDecoderError: the plan, the image or a backend are not usable.
    """
    report: CommandReport = args.command_report
    progress = ProgressPrinter()
    names: list[str | None] = list(args.backend) if args.backend else [None]
    if len(set(names)) != len(names):
        raise ArgumentError("A backend is named twice", expected="each once")
    from xdecoder_rt.image import load_image
    from xdecoder_rt.streams import synthetic

    image = load_image(args.image) if args.image else synthetic.image(args.size)
    height, width = image.shape[:2]
    vocabulary = synthetic.words(args.words)
    with contextlib.ExitStack() as stack:
        subjects = []
        for name in names:
            progress(f"Opening {args.plan} with {name or 'the default backend'}")
            cache = stack.enter_context(tempfile.TemporaryDirectory(prefix="xdecoder-rt-"))
            subjects.append(Subject(args.plan, name, args.threads, cache))
            stack.callback(subjects[-1].close)
        manifest = subjects[0].engine.manifest
        progress(f"Measuring {args.iterations} rounds after {args.warmup} untimed")
        for number in range(args.warmup + args.iterations):
            if number == args.warmup:
                for subject in subjects:
                    subject.times.clear()
            # To and fro, so that none always comes after the same other.
            for subject in subjects[:: 1 if number % 2 else -1]:
                subject.round(image, vocabulary, args.task, number)
        for subject in subjects:
            subject.measure_disk_cache(vocabulary)
    results = {}
    for subject in subjects:
        progress(f"Measuring the memory of {subject.name}")
        memory = measure_memory(args.plan, (height, width), args.words, subject.name, args.threads)
        results[subject.name] = {**subject.results(), "peak_memory_mb": asdict(memory)}
    document = {
        "plan": str(args.plan),
        "model": manifest.model.name,
        "precision": manifest.precision,
        "macs": manifest.model.macs,
        "image": {"height": height, "width": width, "file": args.image},
        "task": args.task,
        "words": args.words,
        "threads": args.threads,
        "iterations": args.iterations,
        "machine": describe_machine(),
        "backends": results,
    }
    report.text(_bench_text(document))
    report.document(document)
    return 0


class Subject:
    """One engine being measured.

    Args:
        plan: the plan.
        backend: as for `Engine`.
        threads: as for `Engine`.
        cache: an empty folder for its text cache.

    Attributes:
        engine: the engine.
        name: its backend.
        times: stage to its times so far, in milliseconds.
    """

    def __init__(self, plan: str, backend: str | None, threads: int | None, cache: str) -> None:
        self._arguments: dict[str, Any] = {
            "path": plan, "backend": backend, "threads": threads, "cache_dir": cache
        }  # fmt: skip
        start = time.perf_counter()
        self.engine = self._open()
        self.name: str = self.engine.backend.name
        self.times: dict[str, list[float]] = {}
        self._open_ms = 1000 * (time.perf_counter() - start)
        self._first_ms = 0.0
        self._segments = 0

    def round(
        self, image: npt.NDArray[np.uint8], vocabulary: Sequence[str], task: str, number: int
    ) -> None:
        """Measure every stage once.

        Args:
            image: the frame.
            vocabulary: words that are known after the first round.
            task: kind of output.
            number: the round; words of another number are new to the cache.
        """
        from xdecoder_rt.cores import usable_cores
        from xdecoder_rt.image import lay_image
        from xdecoder_rt.streams import synthetic

        engine, info = self.engine, self.engine.manifest.input
        if not self._first_ms:
            start = time.perf_counter()
            engine.segment(image, vocabulary, task=task)
            self._first_ms = 1000 * (time.perf_counter() - start)
        shape = (image.shape[0], image.shape[1])
        threads = self._arguments["threads"] or usable_cores()
        self._timed(
            "preprocess",
            lambda: lay_image(image, info.place(shape), info.interpolation, threads=threads),
        )
        state = self._timed("encode", lambda: engine.encode(image))
        # Encoding is pre-processing and vision; the first was just measured alone.
        self._note("vision", self.times["encode"][-1] - self.times["preprocess"][-1])
        self._timed("decode", lambda: self.engine.decode(state))
        result = self._timed("postprocess", lambda: engine.segment(state, vocabulary, task=task))
        self._segments = len(result)
        self._timed("end_to_end", lambda: engine.segment(image, vocabulary, task=task))
        new = synthetic.words(len(vocabulary), 2 * number)
        self._timed("text_cold", lambda: engine.warm(new))
        newer = synthetic.words(len(vocabulary), 2 * number + 1)
        self._timed("end_to_end_cold", lambda: engine.segment(image, newer, task=task))

    def measure_disk_cache(self, vocabulary: Sequence[str]) -> None:
        """Measure known words in an engine that has just been opened."""
        for _ in range(len(self.times["text_cold"])):
            with self._open() as fresh:
                self._timed("text_disk", lambda engine=fresh: engine.warm(vocabulary))  # type: ignore[misc]

    def results(self) -> dict[str, Any]:
        """Return percentiles of each stage, versions, counts and times to open, as JSON values."""
        from xdecoder_rt.evaluation.report import Percentiles

        stages = {name: asdict(Percentiles.of(self.times[name])) for name in STAGE_NAMES}
        return {
            "version": self.engine.backend.version,
            "device": self.engine.backend.device,
            "open_ms": self._open_ms,
            "first_frame_ms": self._first_ms,
            "stages_ms": stages,
            "frames_per_second": 1000 / stages["end_to_end"]["p50"],
            "segments": self._segments,
            "text_cache": asdict(self.engine.text_cache.stats),
        }

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()

    def _open(self) -> Engine:
        from xdecoder_rt.engine import Engine

        return Engine(**self._arguments)

    def _timed(self, stage: str, work: Callable[[], T]) -> T:
        start = time.perf_counter()
        result = work()
        self._note(stage, 1000 * (time.perf_counter() - start))
        return result

    def _note(self, stage: str, milliseconds: float) -> None:
        self.times.setdefault(stage, []).append(milliseconds)


def _bench_text(document: dict[str, Any]) -> str:
    image = document["image"]
    threads = document["threads"] or "default"
    lines = [
        f"{printable(document['plan'], 200)}  {printable(document['model'])}, "
        f"{document['precision']}, {document['task']}, image {image['height']} x {image['width']} "
        f"(height x width), {document['words']} words, threads: {threads}",
        machine_summary(document["machine"]),
    ]
    for name, result in document["backends"].items():
        rows = [
            (STAGE_NAMES[stage], *(f"{times[p]:.2f}" for p in _PERCENTILES))
            for stage, times in result["stages_ms"].items()
        ]
        memory, segments = result["peak_memory_mb"], result["segments"]
        lines += [
            "",
            f"{name} {result['version']}",
            format_table(("milliseconds", *_PERCENTILES), rows),
            f"  {result['frames_per_second']:.1f} frames a second, {segments} segment"
            f"{'' if segments == 1 else 's'}; "
            f"opened in {result['open_ms']:.0f} ms, first frame {result['first_frame_ms']:.0f} ms",
            f"  text cache: {_cache_counts(result['text_cache'])}",
            f"  peak memory {memory['segmented']:.0f} MB (after importing "
            f"{memory['imported']:.0f}, after loading {memory['loaded']:.0f}); "
            f"{memory['again']:.0f} MB where models and words are at hand",
        ]
    return "\n".join(lines)


def _cache_counts(counts: dict[str, int]) -> str:
    """Return how many texts were found where, in words."""
    parts = [f"{number:,} {name.replace('_', ' ')}" for name, number in counts.items() if number]
    return ", ".join(parts)
