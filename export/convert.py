"""From a portable fp32 plan to one in another precision; needs no PyTorch.

*bf16* for CPUs keeps the graphs: OpenVINO computes in bf16 where the processor can. *fp16* and
*bf16* for TensorRT are typed graphs. *int8* is QDQ graphs in the form of a profile. Every result is
compared with the fp32 plan, and a worse or a slower one is refused.
"""

from __future__ import annotations

import platform
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from xdecoder_rt.backends import open_backend
from xdecoder_rt.calibration.probe import SubstitutingBackend
from xdecoder_rt.calibration.report import SearchReport
from xdecoder_rt.calibration.sets import CalibrationSet
from xdecoder_rt.engine import Engine
from xdecoder_rt.errors import BuildError
from xdecoder_rt.evaluation.agreement import ROW_OUTPUTS
from xdecoder_rt.evaluation.divergence import cosine
from xdecoder_rt.export.conversion import (
    LEAST_COSINE,
    Converted,
    complain_of_cosines,
    probe_images,
)
from xdecoder_rt.export.half import half_graphs
from xdecoder_rt.export.options import ConvertOptions
from xdecoder_rt.export.progress import StepProgress
from xdecoder_rt.export.quantized import quantized_graphs, recorded_graphs
from xdecoder_rt.export.recorded import Recording
from xdecoder_rt.export.repack import portable_members
from xdecoder_rt.image import RgbImage
from xdecoder_rt.plan.file import Source, write_plan
from xdecoder_rt.plan.manifest import Manifest
from xdecoder_rt.plan.sharing import share_weights

_ROUNDS = 7
_TOOLS = ("xdecoder_rt", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True)
class ConvertSummary:
    """Result of a conversion.

    Attributes:
        path: the plan.
        manifest: its manifest.
        report: the search's, for int8.
        complaints: why it would have been refused, had it not been forced.
    """

    path: Path
    manifest: Manifest
    report: SearchReport | None = None
    complaints: tuple[str, ...] = ()


def convert_plan(
    source: Path,
    output: Path,
    options: ConvertOptions,
    progress: StepProgress = lambda _: None,
    *,
    sizes: Sequence[tuple[int, int]] | None = None,
) -> ConvertSummary:
    """Write a plan in another precision.

    Args:
        source: a portable fp32 plan.
        output: the plan to write; it appears whole or not at all.
        options: what to make.
        progress: called with a sentence before each step.
        sizes: the input sizes to keep; None keeps all.

    Raises:
        PlanError: the source is not a sound plan.
        DatasetError: the calibration set is not usable.
        BuildError: the source has another precision, the result is worse or slower than fp32 (and
            not forced), or the file cannot be written.
    """
    images = None
    if options.calibration is not None:
        images = CalibrationSet.open(options.calibration)
    with tempfile.TemporaryDirectory(prefix="xdecoder-rt-") as folder:
        members, manifest = portable_members(source, sizes)
        if manifest.precision != "fp32":
            raise BuildError(
                f"{source} is in {manifest.precision}",
                expected="a portable fp32 plan, from which other precisions are made",
                fix="build one with: xdecoder-rt build -o fp32.plan",
            )
        # What is tried runs on the sizes that were asked for, from a file of its own.
        fp32 = Path(folder) / "fp32.plan"
        write_plan(fp32, *share_weights(manifest, members))
        converted = _convert(fp32, manifest, members, options, images, progress)
        if options.profile == "cpu" and options.precision != "fp32":
            progress("Timing it against fp32")
            _compare_times(fp32, manifest, converted, options, images)
        if converted.report is not None:
            converted.report = replace(converted.report, complaints=tuple(converted.complaints))
    if converted.report is not None and options.report is not None:
        # A refused plan's report says why.
        for file in converted.report.write(options.report):
            progress(f"Wrote {file}")
    if converted.complaints and not options.force:
        raise BuildError(
            f"The {options.precision} plan is no gain: {'; '.join(converted.complaints)}",
            expected=f"at most {options.max_drop:g} lost, and a shorter time than fp32's"
            if options.precision == "int8"
            else f"cosines of at least {LEAST_COSINE} and a shorter time than fp32's",
            fix="keep the fp32 plan, or write this one all the same with --force",
        )
    updated = replace(
        manifest,
        precision=options.precision,
        profile=None if options.precision == "fp32" else options.profile,
        calibration=converted.calibration,
        accuracy={**manifest.accuracy, **converted.accuracy},
        build={**manifest.build, **_tools()},
    )
    progress(f"Writing {output}")
    contents: dict[str, Source] = {**members, **converted.graphs}
    written = write_plan(output, *share_weights(updated, contents))
    return ConvertSummary(output, written, converted.report, tuple(converted.complaints))


def _convert(
    fp32: Path,
    manifest: Manifest,
    members: Mapping[str, bytes],
    options: ConvertOptions,
    images: CalibrationSet | None,
    progress: StepProgress,
) -> Converted:
    if options.precision == "fp32":
        return Converted({}, None)
    if options.precision == "int8":
        if images is None:
            recording = Recording.of(manifest.model.weights_sha256)
            progress(
                f"Quantizing with ranges recorded of these weights on {recording.domain_names}: "
                "no images"
            )
            return recorded_graphs(manifest, members, options, recording)
        return quantized_graphs(fp32, manifest, members, options, images, progress)
    if options.profile == "cpu":
        return Converted({}, None)
    return half_graphs(fp32, manifest, members, options, probe_images(images, manifest), progress)


def _compare_times(
    fp32: Path,
    manifest: Manifest,
    converted: Converted,
    options: ConvertOptions,
    images: CalibrationSet | None,
) -> None:
    """Time a frame in both precisions, in turns, each on the backend that it would run on."""
    words = ["table", "cup", "chair", "floor", "wall", "person", "box", "bottle"]
    frame = probe_images(images, manifest, 1)[0]
    lower = open_backend(
        replace(manifest, precision=options.precision), None, None, options.threads
    )
    with (
        tempfile.TemporaryDirectory(prefix="xdecoder-rt-") as texts,
        Engine(fp32, threads=options.threads, cache_dir=f"{texts}/fp32") as base,
        Engine(
            fp32,
            backend=SubstitutingBackend(lower, converted.graphs),
            threads=options.threads,
            cache_dir=f"{texts}/lower",
        ) as changed,
    ):
        if options.precision == "bf16":
            _compare_outputs(base, changed, frame, converted)
        times: tuple[list[float], list[float]] = ([], [])
        for engine in (base, changed):
            engine.segment(frame, words)
            engine.segment(frame, words)
        for _ in range(_ROUNDS):
            for engine, spent in zip((base, changed), times, strict=True):
                start = time.perf_counter()
                engine.segment(frame, words)
                spent.append(time.perf_counter() - start)
    base_ms, lower_ms = (1000 * statistics.median(spent) for spent in times)
    ratio = base_ms / lower_ms
    converted.accuracy["times_faster_than_fp32"] = round(ratio, 3)
    if ratio < 1.0:
        converted.complaints.append(f"a frame takes {1 / ratio:.2f} times as long as in fp32")
    if converted.report is not None:
        # One measurement for the table and the verdict.
        converted.report = replace(
            converted.report,
            fp32=replace(converted.report.fp32, latency_ms=base_ms),
            chosen=replace(converted.report.chosen, latency_ms=lower_ms),
            is_timed_in_turns=True,
        )


def _compare_outputs(base: Engine, changed: Engine, frame: RgbImage, converted: Converted) -> None:
    """Cosines of what a frame is decoded to; for graphs that are the same in both precisions."""
    cosines = {}
    base_state, changed_state = base.decode(frame), changed.decode(frame)
    assert base_state.latents is not None and changed_state.latents is not None  # decode left them
    for name in ROW_OUTPUTS:
        value = getattr(base_state.latents, name)
        if value is not None:
            cosines[name] = cosine(getattr(changed_state.latents, name), value)
    for name in base_state.values:
        value = changed_state.values[name]
        cosines[name] = cosine(
            changed.backend.to_numpy(value), base.backend.to_numpy(base_state.values[name])
        )
    converted.accuracy["least_cosine_against_fp32"] = min(cosines.values())
    complain_of_cosines(cosines, converted.complaints)


def _tools() -> dict[str, str]:
    return {**{tool: version(tool) for tool in _TOOLS}, "python": platform.python_version()}
