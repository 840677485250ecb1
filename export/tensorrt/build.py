"""A TensorRT or TensorRT-RTX plan out of a portable one; needs no PyTorch.

Every graph becomes an engine as it is: the precision is the portable plan's, whose graphs say the
type of every product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from onnx import ModelProto

from xdecoder_rt.errors import BuildError
from xdecoder_rt.export.progress import StepProgress
from xdecoder_rt.export.tensorrt import layers as layer_reports
from xdecoder_rt.export.tensorrt import masked_attention_nodes, plugins
from xdecoder_rt.export.tensorrt.engine import BuiltEngine, build_engine
from xdecoder_rt.export.tensorrt.graph import (
    cast_frames_first,
    declare_parser_opset,
    drop_softmax_floors,
    fix_inputs,
    fix_shapes,
    keep_scales_positive,
    read_graph,
)
from xdecoder_rt.export.tensorrt.options import EngineOptions
from xdecoder_rt.export.tensorrt.plan_kernels import kernel_members
from xdecoder_rt.export.tensorrt.plugins import Plugins
from xdecoder_rt.export.tensorrt.profiles import (
    OptimizationProfile,
    fixed_shapes,
    profiles_of,
)
from xdecoder_rt.export.tensorrt.toolchain import Toolchain, open_toolchain
from xdecoder_rt.kernels.compiled import KERNELS
from xdecoder_rt.plan.external import WEIGHTS
from xdecoder_rt.plan.file import Plan, write_plan
from xdecoder_rt.plan.manifest import Graphs, InputInfo, Manifest, size_key
from xdecoder_rt.rows import frame_feeds


@dataclass(frozen=True)
class EngineSummary:
    """Result of a build of engines.

    Attributes:
        path: the plan.
        manifest: its manifest.
        engines: by member.
    """

    path: Path
    manifest: Manifest
    engines: Mapping[str, BuiltEngine]


def build_engines(
    source: Path,
    output: Path,
    options: EngineOptions,
    progress: StepProgress = lambda _: None,
    *,
    sizes: Sequence[tuple[int, int]] | None = None,
) -> EngineSummary:
    """Build the engines of a portable plan's graphs and write them as a plan.

    Args:
        source: a portable plan; its precision becomes the engines'.
        output: the plan to write; it appears whole or not at all.
        options: the library, the targets and the shapes.
        progress: called with a sentence before each step.
        sizes: the input sizes to keep of the portable plan; None keeps all.

    Raises:
        PlanError: the source is not a sound plan.
        MissingExtraError: the library is not installed.
        BuildError: the source is not portable, the library cannot build for a target or a graph,
            or the plan cannot be written.
        KeyboardInterrupt: the build was interrupted, and has stopped.
    """
    toolchain = open_toolchain(options.backend, options.targets, options.device)
    progress(f"Building with {toolchain.release} for {toolchain.aims}")
    with toolchain.on_device(), Plan.open(source, verify=True) as plan:
        built_sizes = _sizes_to_build(plan.manifest, source, options.backend, sizes)
        inputs = replace(plan.manifest.input, sizes=built_sizes)
        keys = {size_key(size) for size in inputs.all_sizes}
        kernels = kernel_members(plan, options.kernels, toolchain.targets)
        form = plugins.choose_plugins(toolchain, kernels, progress) if options.plugin else None
        engines: dict[str, BuiltEngine] = {}

        def engine_of(graph: str, member: str, size: tuple[int, int] | None = None) -> str:
            base = member if size is None else f"{graph}_{size_key(size)}.onnx"
            name = f"{base.removesuffix('.onnx')}.engine"
            progress(f"Building {name}")
            used = form if graph in ("decode", "frame") else None
            model, profiles = _network(graph, member, plan, options, used, size)
            engines[name] = build_engine(base, model, profiles, toolchain, options, used)
            return name

        def all_of(graph: str, members: Mapping[str, str]) -> dict[str, str]:
            return {key: engine_of(graph, member) for key, member in members.items() if key in keys}

        graphs = plan.manifest.graphs
        built = Graphs(
            all_of("vision", graphs.vision),
            all_of("decode", graphs.decode),
            all_of("mask", graphs.mask),
            engine_of("text", graphs.text),
            None if graphs.token is None else engine_of("token", graphs.token),
            {
                size_key(size): engine_of("frame", graphs.decode[size_key(size)], size)
                for size in inputs.all_sizes
            },
        )
        manifest = replace(
            _manifest(plan.manifest, built, inputs, toolchain, options),
            plugins=() if form is None else form.names,
        )
        other_members = {
            name: plan.read(name)
            for name in plan.names
            if name not in graphs.members() and not name.startswith((KERNELS, WEIGHTS))
        }
        members = {
            **{name: engine.data for name, engine in engines.items()},
            **other_members,
            **kernels,
            layer_reports.LAYERS: layer_reports.layers_to_json(
                {name: engine.layers for name, engine in engines.items()}
            ),
        }
        progress(f"Writing {output}")
        return EngineSummary(output, write_plan(output, manifest, members), engines)


def _sizes_to_build(
    manifest: Manifest, source: Path, backend: str, sizes: Sequence[tuple[int, int]] | None
) -> tuple[tuple[int, int], ...]:
    """The input sizes to build for; refuses what is no source of engines."""
    if manifest.backend != "portable":
        raise BuildError(
            f"{source} is a {manifest.backend} plan",
            expected="a portable plan, from which engines are built",
        )
    if manifest.profile == "cpu":
        raise BuildError(
            f"The graphs of {source} are written for a CPU",
            expected="an fp32 plan, or one made with --profile tensorrt",
            fix=f"build from the fp32 plan: --plan FP32.plan --precision {manifest.precision} "
            f"--backend {backend}",
        )
    requested = tuple(dict.fromkeys(manifest.input.sizes if sizes is None else sizes))
    absent = [size_key(size) for size in requested if size not in manifest.input.sizes]
    if absent or not requested:
        raise BuildError(
            f"{source} has no graphs for {', '.join(absent) or 'no size at all'}",
            expected="some of its own sizes: "
            + ", ".join(size_key(size) for size in manifest.input.sizes),
            fix="build a portable plan with that size from the checkpoint",
        )
    return requested


def _network(
    graph: str,
    member: str,
    plan: Plan,
    options: EngineOptions,
    form: Plugins | None,
    size: tuple[int, int] | None,
) -> tuple[ModelProto, Sequence[OptimizationProfile]]:
    """Return a graph as the parser takes it and its profiles; none where its shapes are fixed.

    Args:
        graph: which it is; ``frame`` is made of the decode graph.
        member: of the portable plan.
        plan: the portable plan.
        options: the shapes to build for.
        form: of masked attention's plugins, or None.
        size: of the input, for ``frame``.
    """
    model = read_graph(member, plan.graph(member))
    declare_parser_opset(model)
    cast_frames_first(model)
    keep_scales_positive(model)
    drop_softmax_floors(model)
    if form is not None:
        masked_attention_nodes.replace(model, form.fields)
    info = plan.manifest
    if size is not None:
        fix_inputs(model, frame_feeds(info.decoder, info.text.proj_dim, size))
    profiles = profiles_of(graph, model, info, options.batch, options.max_rows)
    shapes = fixed_shapes(profiles)
    if shapes is None:
        return model, profiles
    fix_shapes(model, shapes)
    return model, []


def _manifest(
    portable: Manifest,
    graphs: Graphs,
    inputs: InputInfo,
    toolchain: Toolchain,
    options: EngineOptions,
) -> Manifest:
    """The portable plan's manifest, with what an engine plan says besides."""
    library = toolchain.library
    return replace(
        portable,
        backend=library.backend,
        backend_version=library.version,
        targets=toolchain.capabilities,
        graphs=graphs,
        weights={},
        text=replace(portable.text, graph_sha256=None),
        input=replace(inputs, batch=(1, options.batch)),
        decoder=replace(portable.decoder, max_rows=options.max_rows),
        build={**portable.build, library.backend: library.version},
    )
