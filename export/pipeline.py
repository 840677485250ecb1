"""The recipe of a plan: from the starter, a checkpoint, a published file, or another plan.

What a step needs is imported when the step is taken: a smaller plan out of a plan needs neither
PyTorch nor ONNX, and engines out of a plan need no PyTorch.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from xdecoder_rt.engine import Engine
from xdecoder_rt.errors import ArgumentError, quoted, require
from xdecoder_rt.export.download import fetch_checkpoint
from xdecoder_rt.export.options import BuildOptions, ConvertOptions, EngineOptions
from xdecoder_rt.export.progress import StepProgress
from xdecoder_rt.export.repack import repack_portable
from xdecoder_rt.export.sources import is_plan, load_model
from xdecoder_rt.export.summary import BuildSummary, EngineGraphSummary, GraphSummary
from xdecoder_rt.export.tensorrt.layers import precisions
from xdecoder_rt.plan.contents import graph_members, graph_size, member_errors
from xdecoder_rt.plan.file import Plan
from xdecoder_rt.plan.manifest import Manifest
from xdecoder_rt.words import carried

if TYPE_CHECKING:
    from xdecoder_rt.calibration.report import SearchReport
    from xdecoder_rt.export.tensorrt.build import EngineSummary

_EXPORT_MODULES = ("torch", "safetensors", "onnx", "onnxscript", "onnxsim")
# Published models are held to their published figures. What 0.3 was chosen by is in
# docs/measured/masks.md.
_DEFAULT_PIECE_SHARES = {"compact": 0.3, "published": 0.0}


def build(
    source: str | os.PathLike[str] | None,
    output: str | os.PathLike[str],
    options: BuildOptions | None = None,
    progress: StepProgress = lambda _: None,
) -> BuildSummary:
    """Build a plan, as the command ``xdecoder-rt build`` does.

    The output appears whole or not at all; whatever was there stays until then, and may be the
    source itself. Progress bars go to stderr where that is a terminal.

    Args:
        source: a checkpoint of ``xdecoder-rt train``, a published X-Decoder ``.pt`` or
            ``.safetensors``, the address of one (``hf://owner/name/file``, ``https://…``), or a
            portable plan; None for the starter of this package.
        output: the plan to write.
        options: what to make; None for a portable fp32 plan, or a plan like the source.
        progress: called with a sentence before each step.

    Returns:
        What was made.

    Raises:
        ArgumentError: a preset, rules, thresholds, tasks or a number of phrases were given for a
            plan, which keeps its own.
        MissingExtraError: a step needs a package that is not installed; a checkpoint needs the
            extra ``export``, engines that of their library.
        CheckpointError: the checkpoint is missing, broken, or no X-Decoder.
        PlanError: the plan is not sound.
        DatasetError: the calibration set is not usable.
        BuildError: the source cannot become what was asked for, a graph is not exact, another
            precision is no gain, or the output cannot be written.
        KeyboardInterrupt: the build was interrupted, and left nothing behind.

    Example:
        A smaller plan out of ``model.plan``, with one of its input sizes:

        >>> from xdecoder_rt.export.options import BuildOptions
        >>> from xdecoder_rt.export.pipeline import build
        >>> summary = build("model.plan", "small.plan", BuildOptions(sizes=[(64, 64)]))
        >>> summary.manifest.input.sizes
        ((64, 64),)
        >>> [graph.member for graph in summary.graphs][:2]
        ['vision_64x64.onnx', 'decode_64x64.onnx']
    """
    start = time.perf_counter()
    path = None if source is None else fetch_checkpoint(source, progress=progress)
    target = Path(output)
    options = BuildOptions() if options is None else options
    is_from_plan = path is not None and is_plan(path)
    if is_from_plan and options.for_weights():
        raise ArgumentError(
            f"{', '.join(options.for_weights())} given for the plan {quoted(str(path), 200)}",
            expected="a plan keeps its tasks and rules",
            fix="build from a checkpoint to choose them",
        )
    with tempfile.TemporaryDirectory(prefix="xdecoder-rt-") as folder:
        recipe = _Recipe(path, is_from_plan, options, Path(folder), progress)
        result = (
            recipe.portable(target)
            if options.engines is None
            else recipe.engines(target, options.engines)
        )
    return BuildSummary(
        path=target,
        size=target.stat().st_size,
        manifest=result.manifest,
        graphs=result.graphs,
        vocabularies={name: len(words.texts) for name, words in options.vocabularies.items()},
        report=result.report,
        complaints=result.complaints,
        seconds=time.perf_counter() - start,
    )


@dataclass(frozen=True)
class _StepResult:
    """A plan of some step, and what is told of it."""

    manifest: Manifest
    graphs: tuple[GraphSummary, ...] | tuple[EngineGraphSummary, ...]
    report: SearchReport | None = None
    complaints: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Recipe:
    """The steps of one build.

    Attributes:
        source: a checkpoint, a plan, or None for the starter.
        is_from_plan: whether it is a plan.
        options: what to make.
        folder: for the plans between.
        progress: told of each step.
    """

    source: Path | None
    is_from_plan: bool
    options: BuildOptions
    folder: Path
    progress: StepProgress

    def portable(self, output: Path) -> _StepResult:
        """Write a portable plan, which appears when its words are in it."""
        wordless = self.folder / "wordless.plan" if self.options.vocabularies else output
        result = self._portable(wordless, self.options.conversion)
        return replace(result, manifest=self._carry(wordless, output) or result.manifest)

    def engines(self, output: Path, engines: EngineOptions) -> _StepResult:
        """Write engines of a portable plan, which is made first where there is none."""
        conversion = self.options.conversion
        if not self.is_from_plan or conversion is not None:
            _check_toolchain(engines)  # before long work
        portable = self.source
        if portable is None or not self.is_from_plan or self.options.vocabularies:
            # Words are embedded with the portable plan, here: engines may be for another machine.
            portable = self.folder / "portable.plan"
            self._portable(portable, None)
        self._carry(portable, portable)
        converted = None
        if conversion is not None and conversion.precision != _precision(portable):
            typed = self.folder / "typed.plan"
            converted = self._convert(portable, typed, conversion)
            portable = typed
        require("onnx", engines.backend)
        from xdecoder_rt.export.tensorrt.build import build_engines

        built = build_engines(portable, output, engines, self.progress, sizes=self.options.sizes)
        result = _StepResult(built.manifest, _engine_summaries(built))
        if converted is None:
            return result
        return replace(result, report=converted.report, complaints=converted.complaints)

    def _portable(self, output: Path, conversion: ConvertOptions | None) -> _StepResult:
        """Write a portable plan without the words that were asked for."""
        if self.source is None or not self.is_from_plan:
            return self._export(output, conversion)
        if conversion is not None:
            return self._convert(self.source, output, conversion)
        self.progress(f"Checking {self.source} and writing {output}")
        manifest = repack_portable(self.source, output, self.options.sizes)
        return _StepResult(manifest, _graph_summaries(manifest))

    def _export(self, output: Path, conversion: ConvertOptions | None) -> _StepResult:
        for module in _EXPORT_MODULES:
            require(module, "export")
        from xdecoder_rt.export.costs import weights_digest
        from xdecoder_rt.export.portable import MAX_PHRASES, build_portable
        from xdecoder_rt.export.recorded import Recording

        self.progress(f"Loading {self.source or 'the starter model'}")
        model = load_model(self.source, self.options.tasks)
        family, options = model.config.family, self.options
        joined = (model.region, model.config.distractors)
        if options.regions is False:
            model.drop_regions()
        if options.distractors is False:
            model.config = replace(model.config, distractors=None)
        if joined != (model.region, model.config.distractors):
            model.drop_curves()  # they are of scores with both
        if conversion is not None and conversion.precision == "int8" and not conversion.calibration:
            Recording.of(weights_digest(model))  # before long work
        inputs, share = options.inputs(family), options.piece_share
        is_final = conversion is None or conversion.precision == "fp32"
        built = build_portable(
            model,
            output if is_final else self.folder / "fp32.plan",
            sizes=inputs.sizes,
            rule=inputs.rule,
            interpolation=inputs.interpolation,
            object_threshold=inputs.object_threshold,
            overlap_threshold=inputs.overlap_threshold,
            text_size=options.text_size,
            tasks=options.tasks or model.config.tasks,
            max_phrases=options.max_phrases or MAX_PHRASES,
            piece_share=_DEFAULT_PIECE_SHARES[family] if share is None else share,
            progress=self.progress,
        )
        if conversion is None or is_final:
            return _StepResult(built.manifest, _graph_summaries(built.manifest, built.graphs))
        result = self._convert(built.path, output, conversion)
        return replace(result, graphs=_graph_summaries(result.manifest, built.graphs))

    def _convert(self, source: Path, output: Path, conversion: ConvertOptions) -> _StepResult:
        require("onnx", "export")
        from xdecoder_rt.export.convert import convert_plan

        result = convert_plan(source, output, conversion, self.progress, sizes=self.options.sizes)
        return _StepResult(
            result.manifest, _graph_summaries(result.manifest), result.report, result.complaints
        )

    def _carry(self, plan: Path, output: Path) -> Manifest | None:
        """Embed words with a plan's own text graph; the last are written into it as the output."""
        manifest = None
        names = list(self.options.vocabularies)
        for name, words in self.options.vocabularies.items():
            self.progress(f"Embedding the vocabulary {name}")
            with (
                Engine(plan) as engine,
                tqdm(
                    bar_format="{n_fmt} of {total_fmt} sentences embedded",
                    leave=False,
                    disable=None,  # but on a terminal
                ) as bar,
            ):

                def show(done: int, total: int, bar: tqdm[None] = bar) -> None:
                    bar.total = total
                    bar.update(done - bar.n)

                table = engine.class_table(words, show)
            target = output if name == names[-1] else plan
            manifest = carried.carry(plan, target, name, words, table)
        return manifest


def _check_toolchain(options: EngineOptions) -> None:
    """Find out whether the library is there and builds for the targets.

    Raises:
        MissingExtraError: the library is not installed.
        BuildError: it cannot build for a target.
    """
    require("onnx", options.backend)
    from xdecoder_rt.export.tensorrt.toolchain import open_toolchain

    open_toolchain(options.backend, options.targets, options.device)


def _precision(plan: Path) -> str:
    with Plan.open(plan) as opened:
        return opened.manifest.precision


def _graph_summaries(
    manifest: Manifest, exported: Iterable[GraphSummary] = ()
) -> tuple[GraphSummary, ...]:
    """Summaries of a portable plan's graphs, with what their export found where there was one."""
    before = {graph.member: graph for graph in exported}
    errors = member_errors(manifest)
    return tuple(
        GraphSummary(
            graph,
            member,
            nodes=before[member].nodes if member in before else None,
            macs=before[member].macs if member in before else None,
            size=graph_size(manifest, member),
            error=errors.get(member),
        )
        for graph, _, member in graph_members(manifest.graphs)
    )


def _engine_summaries(built: EngineSummary) -> tuple[EngineGraphSummary, ...]:
    return tuple(
        EngineGraphSummary(
            graph,
            member,
            size=built.manifest.members[member].size,
            layers=len(built.engines[member].layers),
            precisions=precisions(built.engines[member].layers),
            seconds=round(built.engines[member].seconds, 2),
        )
        for graph, _, member in graph_members(built.manifest.graphs)
    )
