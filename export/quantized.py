"""INT8 graphs of a plan: calibrated, the largest set within the budget, measured."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import onnx
from tqdm import tqdm

from xdecoder_rt.backends import open_backend
from xdecoder_rt.backends.onnxruntime import OnnxRuntimeBackend
from xdecoder_rt.calibration.groups import OperatorGroup, groups_of
from xdecoder_rt.calibration.observe import observe
from xdecoder_rt.calibration.probe import AccuracyProbe, Divergence
from xdecoder_rt.calibration.profiles import QuantizationProfile, profile_of, quantizable
from xdecoder_rt.calibration.qdq import halve_constants, quantize, quantize_tables, violations
from xdecoder_rt.calibration.ranges import ESTIMATORS
from xdecoder_rt.calibration.report import BlockEffect, SearchPoint, SearchReport
from xdecoder_rt.calibration.sensitivity import Search, Trial, largest_within
from xdecoder_rt.calibration.sets import CalibrationSet
from xdecoder_rt.errors import BuildError, quoted
from xdecoder_rt.export.conversion import PROBES, Converted
from xdecoder_rt.export.options import ConvertOptions
from xdecoder_rt.export.precision import to_typed
from xdecoder_rt.export.progress import StepProgress
from xdecoder_rt.export.recorded import (
    Observations,
    Observed,
    Recording,
    graph_kinds,
    joined,
)
from xdecoder_rt.plan.manifest import Manifest


class PlanQuantizer:
    """Quantizes chosen groups of a plan's graphs.

    Graphs that differ in the input size alone have the same operators in the same order: a choice
    holds for all of them, and a size that no calibration image had takes its sibling's ranges.

    Args:
        manifest: of the plan.
        members: its members.
        profile: the form of the graphs.
        histograms: of activations, or ranges that were recorded, by member and tensor.

    Attributes:
        groups: what may be chosen.
    """

    def __init__(
        self,
        manifest: Manifest,
        members: Mapping[str, bytes],
        profile: QuantizationProfile,
        histograms: Observations,
    ) -> None:
        graphs, kinds = manifest.graphs, graph_kinds(manifest.graphs)
        self._profile = profile
        self._models: dict[str, onnx.ModelProto] = {}
        self._kind: dict[str, str] = {}
        self._names: dict[str, list[str]] = {}
        self._input_histograms: dict[str, list[Observed | None]] = {}
        for kind, names in kinds.items():
            for member in names:
                model = onnx.load_from_string(members[member])
                self._models[member], self._kind[member] = model, kind
                self._names[member] = quantizable(model, profile)
                self._input_histograms[member] = _histograms_of(
                    model, self._names[member], histograms.get(member, {})
                )
        for names in kinds.values():
            self._share(names)
        self._mask_members = tuple(graphs.mask.values())
        self._mask_models = {
            member: onnx.load_from_string(members[member]) for member in self._mask_members
        }
        firsts = {kind: names[0] for kind, names in kinds.items() if names}
        usable = {
            kind: (self._models[member], self._names[member]) for kind, member in firsts.items()
        }
        self.groups = [
            group
            for group in groups_of(usable)
            if all(self._input_histograms[firsts[kind]][place] for kind, place in group.members)
        ]

    def _share(self, members: Sequence[str]) -> None:
        """Give operators that were not seen the ranges of their siblings."""
        for member in members:
            for sibling in members:
                if len(self._input_histograms[sibling]) == len(self._input_histograms[member]):
                    self._input_histograms[member] = [
                        histogram or sibling_histogram
                        for histogram, sibling_histogram in zip(
                            self._input_histograms[member],
                            self._input_histograms[sibling],
                            strict=True,
                        )
                    ]

    def build(self, groups: Sequence[OperatorGroup], estimator: str) -> dict[str, bytes]:
        """Return the graphs that these groups change, in which they are quantized.

        Args:
            groups: some of `groups`.
            estimator: of the ranges.
        """
        chosen = {pair for group in groups for pair in group.members}
        touched = {kind for kind, _ in chosen}
        return {
            member: self._quantize(member, chosen, estimator).SerializeToString()
            for member, kind in self._kind.items()
            if kind in touched
        }

    def finish(self, groups: Sequence[OperatorGroup], estimator: str) -> dict[str, bytes]:
        """Return all graphs as they go into the plan: small tables and constants, the rest typed.

        Raises:
            BuildError: a graph breaks the profile's rules.
        """
        chosen = {pair for group in groups for pair in group.members}
        finished = {}
        for member in (*self._models, *self._mask_members):
            if member in self._models:
                model = self._quantize(member, chosen, estimator)
            else:
                model = self._mask_models[member]
            broken = violations(model, self._profile)
            if broken:
                raise BuildError(
                    f"{member} breaks the rules of the profile {self._profile.name}: {broken[0]}",
                    fix="Report it with the versions of onnx and onnxruntime",
                )
            if self._profile.int8_tables:
                model = quantize_tables(model)
            model = (
                halve_constants(model)
                if self._profile.unquantized == "fp32"
                else to_typed(model, self._profile.unquantized)
            )
            finished[member] = model.SerializeToString(deterministic=True)
        return finished

    def _quantize(
        self, member: str, chosen: set[tuple[str, int]], estimator: str
    ) -> onnx.ModelProto:
        kind, model = self._kind[member], self._models[member]
        by_name = {node.name: node for node in model.graph.node}
        nodes, ranges = [], {}
        for place, name in enumerate(self._names[member]):
            histogram = self._input_histograms[member][place]
            if (kind, place) in chosen and histogram is not None:
                nodes.append(name)
                observed = histogram.range(estimator, self._profile.symmetric)
                ranges[by_name[name].input[0]] = observed
        return quantize(model, self._profile, nodes, ranges)


def quantized_graphs(
    fp32: Path,
    manifest: Manifest,
    members: Mapping[str, bytes],
    options: ConvertOptions,
    images: CalibrationSet,
    progress: StepProgress,
) -> Converted:
    """Quantize a plan's graphs within a budget of accuracy.

    Args:
        fp32: the plan.
        manifest: its manifest.
        members: its members.
        options: profile, budget, estimator and numbers of images.
        images: the calibration set.
        progress: told of each step.

    Raises:
        BuildError: not even one block can be quantized within the budget.
    """
    profile = profile_of(options.profile)
    progress("Gathering activation statistics")
    with tqdm(
        total=len(images.chosen(options.images)), desc="statistics", leave=False, disable=None
    ) as bar:
        observed = observe(
            fp32,
            images,
            options.images,
            threads=options.threads,
            cache_dir=options.cache_dir,
            progress=lambda done, of: bar.update(done - bar.n),
        )
    histograms: Observations = observed
    recording = Recording.find(manifest.model.weights_sha256)
    if recording is not None:
        try:
            histograms = joined(observed, recording.histograms(manifest, members))
            progress(f"Joined with ranges recorded of these weights on {recording.domain_names}")
        except BuildError as error:
            progress(f"Without the ranges recorded of these weights: {error.what}")
            recording = None
    quantizer = PlanQuantizer(manifest, members, profile, histograms)
    candidates = quantizer.groups if recording is None else recording.lowered(quantizer.groups)
    numbers = images.chosen(PROBES, part=1)
    divergence = Divergence(
        fp32, list(images.read(numbers)), OnnxRuntimeBackend(options.threads, as_written=True)
    )
    progress("Comparing range estimators")
    names = list(ESTIMATORS) if options.estimator is None else [options.estimator]
    estimators = {name: divergence(quantizer.build(candidates, name)) for name in names}
    estimator = min(estimators, key=lambda name: estimators[name])
    calibrated = images.chosen(options.images)
    judged = images.others(calibrated, options.search_images)
    shared = len({*calibrated} & {*judged})
    if shared:
        warnings.warn(
            f"{shared} of the {len(judged)} images that judge accuracy gave ranges too, as "
            f"{quoted(images.path.name, 200)} has no more than {images.frames}",
            stacklevel=2,
        )
    probe = AccuracyProbe(fp32, images, judged, options.threads)
    progress("Measuring fp32")
    base_backend = open_backend(manifest, None, None, options.threads)
    base = probe.measure({}, base_backend)
    backend = open_backend(replace(manifest, precision="int8"), None, None, options.threads)
    points: list[SearchPoint] = []

    def measure(groups: Sequence[OperatorGroup]) -> Trial:
        accuracy = probe.measure(quantizer.build(groups, estimator), backend)
        points.append(SearchPoint(len(groups), accuracy.score, accuracy.latency_ms))
        progress(
            f"{len(groups)} of {len(candidates)} blocks quantized: {probe.metric} "
            f"{accuracy.score:.2f}, {base.score - accuracy.score:+.2f} lost"
        )
        return Trial(len(groups), base.score - accuracy.score, accuracy.latency_ms)

    with tqdm(total=len(candidates), desc="blocks alone", leave=False, disable=None) as bar:

        def effect(group: OperatorGroup) -> float:
            error = divergence(quantizer.build([group], estimator))
            bar.update()
            return error

        search = largest_within(candidates, effect, measure, options.max_drop)
    if not search.lowered:
        raise BuildError(
            f"No block can be quantized within a drop of {options.max_drop:g} {probe.metric}",
            expected="a larger budget (--max-drop), or a better trained model",
        )
    progress("Measuring the chosen plan")
    graphs = quantizer.finish(search.lowered, estimator)
    chosen = probe.measure(
        graphs if profile.unquantized == "fp32" else quantizer.build(search.lowered, estimator),
        backend,
    )
    calibration = {
        "profile": profile.name,
        "set": images.path.name,
        "images": len(calibrated),
        "joined_with": [] if recording is None else [domain.name for domain in recording.domains],
        "estimator": estimator,
        "max_drop": options.max_drop,
        "kept": [group.name for group in quantizer.groups if group not in search.lowered],
    }
    report = SearchReport(
        manifest.model.name,
        profile.name,
        f"{backend.name} {backend.version}",
        images.path.name,
        len(calibrated),
        len(judged),
        shared,
        probe.metric,
        options.max_drop,
        SearchPoint(0, base.score, base.latency_ms),
        SearchPoint(len(search.lowered), chosen.score, chosen.latency_ms),
        estimator,
        estimators,
        tuple(points),
        _effects(search),
    )
    lost = base.score - chosen.score
    complaints = []
    if lost > options.max_drop:
        complaints.append(f"it loses {lost:.2f} {probe.metric}")
    return Converted(graphs, calibration, _accuracy(report), complaints, report)


def recorded_graphs(
    manifest: Manifest,
    members: Mapping[str, bytes],
    options: ConvertOptions,
    recording: Recording,
) -> Converted:
    """Quantize a plan's graphs with ranges that come with its weights; no image is looked at.

    Args:
        manifest: of the plan.
        members: its members.
        options: which profile.
        recording: of the plan's weights.

    Raises:
        BuildError: the plan has other operators than those that were recorded.
    """
    histograms = recording.histograms(manifest, members)
    quantizer = PlanQuantizer(manifest, members, profile_of(options.profile), histograms)
    chosen = recording.lowered(quantizer.groups)
    estimator = recording.estimators[options.profile]
    calibration = {
        "profile": options.profile,
        "set": "recorded with the weights",
        "domains": {domain.name: domain.images for domain in recording.domains},
        "images": sum(domain.images for domain in recording.domains),
        "estimator": estimator,
        "kept": list(recording.kept),
    }
    accuracy = {"recorded_pq": [asdict(score) for score in recording.held_out]}
    return Converted(quantizer.finish(chosen, estimator), calibration, accuracy)


def _accuracy(report: SearchReport) -> dict[str, object]:
    return {
        "metric": report.metric,
        "images": report.search_images,
        "images_that_gave_ranges_too": report.shared_images,
        "fp32": round(report.fp32.score, 3),
        "int8": round(report.chosen.score, 3),
    }


def _effects(search: Search[OperatorGroup]) -> tuple[BlockEffect, ...]:
    everything = (*search.lowered, *search.kept)
    effects = search.effects or (None,) * len(everything)
    rows = [
        BlockEffect(group.name, len(group.members), i < len(search.lowered), effect)
        for i, (group, effect) in enumerate(zip(everything, effects, strict=True))
    ]
    return tuple(rows if not search.effects else rows[::-1])


def _histograms_of(
    model: onnx.ModelProto, names: Sequence[str], observed: Mapping[str, Observed]
) -> list[Observed | None]:
    """What was seen entering each of some operators."""
    by_name = {node.name: node for node in model.graph.node}
    histograms = (observed.get(by_name[name].input[0]) for name in names)
    return [
        histogram if histogram is not None and histogram.limit else None for histogram in histograms
    ]
