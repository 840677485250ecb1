"""Recording of ranges over several domains; see :mod:`xdecoder_rt.export.recorded`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from xdecoder_rt.backends import Backend, open_backend
from xdecoder_rt.backends.onnxruntime import OnnxRuntimeBackend
from xdecoder_rt.calibration.groups import OperatorGroup
from xdecoder_rt.calibration.observe import Histograms, observe
from xdecoder_rt.calibration.probe import AccuracyProbe, Divergence
from xdecoder_rt.calibration.profiles import QUANTIZATION_PROFILES
from xdecoder_rt.calibration.ranges import ESTIMATORS, Histogram
from xdecoder_rt.calibration.sensitivity import Trial, largest_within
from xdecoder_rt.calibration.sets import CalibrationSet
from xdecoder_rt.errors import BuildError
from xdecoder_rt.export.progress import StepProgress
from xdecoder_rt.export.quantized import PlanQuantizer
from xdecoder_rt.export.recorded import (
    DomainImages,
    HeldOutScore,
    Interval,
    Recording,
    entering,
    graph_kinds,
)
from xdecoder_rt.export.repack import portable_members

_DIGITS = 5
_PROBES = 2


@dataclass(frozen=True)
class RecordOptions:
    """How ranges are recorded.

    Attributes:
        images: of each domain, that ranges come from.
        judged: others of each domain, that accuracy is measured on.
        held_out_images: of each held-out folder, at most.
        max_drop: the most PQ that any domain may lose.
        threads: of one call; None for the backend's choice.
        cache_dir: where activation statistics are kept, or None.
    """

    images: int = 60
    judged: int = 40
    held_out_images: int = 60
    max_drop: float = 0.5
    threads: int | None = None
    cache_dir: Path | None = None


def record(
    plan: Path,
    domains: Sequence[CalibrationSet],
    held_out: Sequence[CalibrationSet],
    options: RecordOptions,
    progress: StepProgress = lambda _: None,
) -> Recording:
    """Record the ranges of a plan's activations over several domains, all with the same weight.

    Args:
        plan: a portable fp32 plan.
        domains: labelled folders.
        held_out: labelled folders whose accuracy is noted, which take no part in any choice.
        options: how.
        progress: told of each step.

    Raises:
        BuildError: the plan is not in fp32, or no block fits the budget.
    """
    members, manifest = portable_members(plan, None)
    if manifest.precision != "fp32":
        raise BuildError(f"{plan} is in {manifest.precision}", expected="a portable fp32 plan")
    histograms: Histograms = {}
    for domain in domains:
        progress(f"Observing {domain.path.name}")
        count, threads = options.images, options.threads
        seen = observe(plan, domain, count, threads=threads, cache_dir=options.cache_dir)
        _merge(histograms, seen)
    probes = [image for domain in domains for image in domain.read(domain.chosen(_PROBES, part=1))]
    divergence = Divergence(plan, probes, OnnxRuntimeBackend(options.threads))
    estimators, quantizers = {}, {}
    for name, profile in QUANTIZATION_PROFILES.items():
        progress(f"Comparing range estimators for {name}")
        quantizer = quantizers[name] = PlanQuantizer(manifest, members, profile, histograms)
        errors = {
            estimator: divergence(quantizer.build(quantizer.groups, estimator))
            for estimator in ESTIMATORS
        }
        estimators[name] = min(errors, key=lambda estimator: errors[estimator])
    cpu, estimator = quantizers["cpu"], estimators["cpu"]
    probe = _Scores(plan, domains, options.images, options.judged, options.threads)
    base_backend = open_backend(manifest, None, None, options.threads)
    backend = open_backend(replace(manifest, precision="int8"), None, None, options.threads)
    progress("Measuring fp32")
    base = probe.measure({}, base_backend)

    def measure(groups: Sequence[OperatorGroup]) -> Trial:
        scores = probe.measure(cpu.build(groups, estimator), backend)
        drop = max(before - after for before, after in zip(base, scores, strict=True))
        progress(f"{len(groups)} of {len(cpu.groups)} blocks quantized: at most {drop:.2f} PQ lost")
        return Trial(len(groups), drop, 0.0)

    def effect(group: OperatorGroup) -> float:
        return divergence(cpu.build([group], estimator))

    search = largest_within(cpu.groups, effect, measure, options.max_drop)
    if not search.lowered:
        raise BuildError(f"No block can be quantized within a drop of {options.max_drop:g} PQ")
    graphs = cpu.finish(search.lowered, estimator)
    scores = []
    for folder in held_out:
        progress(f"Measuring {folder.path.name}")
        probe = _Scores(plan, [folder], 0, options.held_out_images, options.threads)
        (before,), (after,) = probe.measure({}, base_backend), probe.measure(graphs, backend)
        scores.append(HeldOutScore(folder.path.name, probe.images[0], before, after))
    ranges = {}
    for kind, names in graph_kinds(manifest.graphs).items():
        if names:
            model = onnx.load_from_string(members[names[0]])
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
        tuple(scores),
        ranges,
    )


class _Scores:
    """PQ on some images of each of several folders, which gave no ranges.

    Attributes:
        images: how many of each folder.
    """

    def __init__(
        self,
        plan: Path,
        folders: Sequence[CalibrationSet],
        observed: int,
        judged: int,
        threads: int | None,
    ) -> None:
        self._probes = []
        self.images = []
        for folder in folders:
            numbers = folder.others(folder.chosen(observed) if observed else (), judged)
            self._probes.append(AccuracyProbe(plan, folder, numbers, threads))
            self.images.append(len(numbers))

    def measure(self, graphs: Mapping[str, bytes], backend: Backend) -> list[float]:
        """Return PQ of each folder."""
        return [probe.measure(graphs, backend).score for probe in self._probes]


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
