"""Recording of ranges over several domains; see :mod:`xdecoder_rt.export.recorded`.

Everything is judged on ONNX Runtime, which carries quantization out as written on every processor:
what an engine leaves in fp32 because a processor is faster so must not hide what is lost elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from xdecoder_rt.backends.onnxruntime import OnnxRuntimeBackend
from xdecoder_rt.calibration.groups import OperatorGroup
from xdecoder_rt.calibration.observe import Histograms, observe
from xdecoder_rt.calibration.probe import AccuracyProbe, Divergence
from xdecoder_rt.calibration.profiles import QUANTIZATION_PROFILES
from xdecoder_rt.calibration.ranges import ESTIMATORS, Histogram
from xdecoder_rt.calibration.sensitivity import Trial, largest_within
from xdecoder_rt.calibration.sets import CalibrationSet
from xdecoder_rt.errors import BuildError, quoted
from xdecoder_rt.evaluation.paired import PanopticLoss, panoptic_loss
from xdecoder_rt.export.progress import StepProgress
from xdecoder_rt.export.quantized import PlanQuantizer
from xdecoder_rt.export.recorded import (
    DomainImages,
    HeldOutScore,
    Interval,
    Observations,
    Recording,
    entering,
    graph_kinds,
    joined,
    layers_digest,
)
from xdecoder_rt.export.repack import portable_members

_DIGITS = 4
_PROBES = 2


@dataclass(frozen=True)
class RecordOptions:
    """How ranges are recorded.

    Attributes:
        images: of each domain, that ranges come from.
        judged: others of each domain, that accuracy is measured on, at most.
        held_out_images: of each held-out folder, at most.
        max_drop: the most PQ that any domain may lose.
        threads: of one call; None for the backend's choice.
        cache_dir: where activation statistics are kept, or None.
    """

    images: int = 40
    judged: int = 80
    held_out_images: int = 160
    max_drop: float = 0.5
    threads: int | None = None
    cache_dir: Path | None = None


class JudgedFolders:
    """Labelled folders that INT8 graphs are compared with fp32 on.

    Args:
        plan: in fp32.
        folders: labelled.
        numbers: which images of each.
        threads: of one call.
    """

    def __init__(
        self,
        plan: Path,
        folders: Sequence[CalibrationSet],
        numbers: Sequence[Sequence[int]],
        threads: int | None,
    ) -> None:
        self.names = [folder.path.name for folder in folders]
        self._backend = OnnxRuntimeBackend(threads, as_written=True)
        self._probes = [
            AccuracyProbe(plan, folder, chosen, threads)
            for folder, chosen in zip(folders, numbers, strict=True)
        ]
        self._base = [probe.measure({}, self._backend).counts for probe in self._probes]

    def losses(self, graphs: Mapping[str, bytes]) -> list[PanopticLoss]:
        """Return what other graphs lose on each folder."""
        return [
            panoptic_loss(base, probe.measure(graphs, self._backend).counts)
            for base, probe in zip(self._base, self._probes, strict=True)
        ]

    def scores(self, graphs: Mapping[str, bytes]) -> tuple[HeldOutScore, ...]:
        """Return the same as a recording has it."""
        losses = zip(self.names, self.losses(graphs), strict=True)
        return tuple(
            HeldOutScore(
                name,
                loss.images,
                *(round(pq, 2) for pq in (loss.before, loss.after, loss.low, loss.high)),
            )
            for name, loss in losses
        )


def held_out_folders(
    plan: Path, folders: Sequence[CalibrationSet], options: RecordOptions
) -> JudgedFolders:
    """Return folders that take no part in any choice."""
    numbers = [folder.chosen(options.held_out_images) for folder in folders]
    return JudgedFolders(plan, folders, numbers, options.threads)


def record(
    plan: Path,
    domains: Sequence[CalibrationSet],
    held_out: JudgedFolders,
    options: RecordOptions,
    progress: StepProgress = lambda _: None,
) -> Recording:
    """Record the ranges of a plan's activations over several domains, all with the same weight.

    Args:
        plan: a portable fp32 plan.
        domains: labelled folders.
        held_out: folders whose accuracy is noted.
        options: how.
        progress: told of each step.

    Raises:
        BuildError: the plan is not in fp32, a domain has no image to judge by, or no block fits the
            budget.
    """
    members, manifest = portable_members(plan, None)
    if manifest.precision != "fp32":
        raise BuildError(f"{plan} is in {manifest.precision}", expected="a portable fp32 plan")
    judged_numbers = [_judged(domain, options) for domain in domains]
    histograms: Histograms = {}
    for domain in domains:
        progress(f"Observing {domain.path.name}")
        _merge(histograms, _observed(plan, domain, options))
    divergence = _divergence(plan, domains, options)
    estimators, quantizers = {}, {}
    for name, profile in QUANTIZATION_PROFILES.items():
        progress(f"Comparing range estimators for {name}")
        quantizers[name] = PlanQuantizer(manifest, members, profile, histograms)
        estimators[name] = _best_estimator(quantizers[name], divergence)
    cpu, estimator = quantizers["cpu"], estimators["cpu"]
    progress("Measuring fp32")
    judged = JudgedFolders(plan, domains, judged_numbers, options.threads)

    def measure(groups: Sequence[OperatorGroup]) -> Trial:
        losses = judged.losses(cpu.build(groups, estimator))
        progress(
            f"{len(groups)} of {len(cpu.groups)} blocks quantized, PQ lost: "
            + ", ".join(
                f"{name} {loss.loss:.2f} ({loss.low:.2f} to {loss.high:.2f})"
                for name, loss in zip(judged.names, losses, strict=True)
            )
        )
        return Trial(len(groups), max(loss.loss for loss in losses))

    def effect(group: OperatorGroup) -> float:
        return divergence(cpu.build([group], estimator))

    search = largest_within(cpu.groups, effect, measure, options.max_drop)
    if not search.lowered:
        raise BuildError(f"No block can be quantized within a drop of {options.max_drop:g} PQ")
    progress("Measuring held-out folders")
    scores = held_out.scores(cpu.finish(search.lowered, estimator))
    layers, ranges = {}, {}
    for kind, names in graph_kinds(manifest.graphs).items():
        if names:
            model = onnx.load_from_string(members[names[0]])
            layers[kind] = layers_digest(model)
            seen_there = histograms.get(names[0], {})
            ranges[kind] = tuple(
                _interval(seen_there.get(tensor), estimators) for tensor in entering(model)
            )
    counts = {domain.path.name: len(domain.chosen(options.images)) for domain in domains}
    return Recording(
        manifest.model.weights_sha256,
        tuple(DomainImages(name, count) for name, count in counts.items()),
        estimators,
        tuple(group.name for group in search.kept),
        scores,
        layers,
        ranges,
    )


def calibrated_on(
    plan: Path, domain: CalibrationSet, options: RecordOptions, recording: Recording | None = None
) -> dict[str, bytes]:
    """Return INT8 graphs for CPUs, every block quantized, as one domain alone calibrates them.

    Args:
        plan: a portable fp32 plan.
        domain: where ranges come from.
        options: how many images.
        recording: what ranges are joined with, and which blocks stay in fp32; None for neither.
    """
    members, manifest = portable_members(plan, None)
    observed = _observed(plan, domain, options)
    histograms: Observations = observed
    if recording is not None:
        histograms = joined(observed, recording.histograms(manifest, members))
    quantizer = PlanQuantizer(manifest, members, QUANTIZATION_PROFILES["cpu"], histograms)
    estimator = _best_estimator(quantizer, _divergence(plan, [domain], options))
    groups = quantizer.groups if recording is None else recording.lowered(quantizer.groups)
    return quantizer.finish(groups, estimator)


def _observed(plan: Path, domain: CalibrationSet, options: RecordOptions) -> Histograms:
    """Return what a domain's images give."""
    return observe(
        plan, domain, options.images, threads=options.threads, cache_dir=options.cache_dir
    )


def _judged(domain: CalibrationSet, options: RecordOptions) -> list[int]:
    """Return the images of a domain that judge accuracy: none that gives ranges.

    Raises:
        BuildError: all of them do.
    """
    observed = domain.chosen(options.images)
    numbers = domain.others(observed, min(options.judged, domain.frames - len(observed)))
    if not numbers:
        raise BuildError(
            f"All {domain.frames} images of {quoted(domain.path.name, 200)} give ranges",
            expected=f"more than {options.images}, so that others judge accuracy",
            fix="add images, or take fewer with --images",
        )
    return numbers


def _divergence(
    plan: Path, domains: Sequence[CalibrationSet], options: RecordOptions
) -> Divergence:
    """Return how far outputs are from fp32's on a few images of each domain."""
    probes = [image for domain in domains for image in domain.read(domain.chosen(_PROBES, part=1))]
    return Divergence(plan, probes, OnnxRuntimeBackend(options.threads, as_written=True))


def _best_estimator(quantizer: PlanQuantizer, divergence: Divergence) -> str:
    """Return the estimator with the smallest divergence where every block is quantized."""
    errors = {
        estimator: divergence(quantizer.build(quantizer.groups, estimator))
        for estimator in ESTIMATORS
    }
    return min(errors, key=lambda estimator: errors[estimator])


def _merge(histograms: Histograms, added: Histograms) -> None:
    """Add the histograms of one domain to those of others."""
    for member, tensors in added.items():
        for tensor, histogram in tensors.items():
            histograms.setdefault(member, {}).setdefault(tensor, Histogram()).merge(histogram)


def _interval(histogram: Histogram | None, estimators: Mapping[str, str]) -> Interval | None:
    """Return what :class:`~xdecoder_rt.export.recorded.RecordedRange` holds."""
    if histogram is None or not histogram.limit:
        return None
    low, high = histogram.range(estimators["cpu"], symmetric=False)
    _, limit = histogram.range(estimators["tensorrt"], symmetric=True)
    low, high, limit = (float(f"{value:.{_DIGITS}g}") for value in (low, high, limit))
    return low, high, limit
