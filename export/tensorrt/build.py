"""A TensorRT or TensorRT-RTX plan out of a portable one; needs no PyTorch.

Every graph becomes an engine as it is: the precision is the portable plan's, whose graphs say the
type of every product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from xdecoder_rt.errors import BuildError, require
from xdecoder_rt.export.tensorrt import layers as layer_reports
from xdecoder_rt.export.tensorrt.engine import BuiltEngine, build_engine
from xdecoder_rt.export.tensorrt.graph import cast_frames_first, read_graph
from xdecoder_rt.export.tensorrt.options import EngineOptions
from xdecoder_rt.export.tensorrt.plan_kernels import kernel_members
from xdecoder_rt.export.tensorrt.profiles import profiles_of
from xdecoder_rt.export.tensorrt.toolchain import Toolchain, open_toolchain
from xdecoder_rt.manifest import Graphs, Manifest, size_key
from xdecoder_rt.plan import Plan, write_plan

Progress = Callable[[str], None]


@dataclass(frozen=True)
class EngineSummary:
    """What was built.

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
    progress: Progress = lambda _: None,
) -> EngineSummary:
    """Build the engines of a portable plan's graphs and write them as a plan.

    Args:
        source: a portable plan; its precision becomes the engines'.
        output: the plan to write; it appears whole or not at all.
        options: the library, the targets and the shapes.
        progress: called with a sentence before each step.

    Raises:
        PlanError: the source is not a sound plan.
        MissingExtraError: the library, or onnx, is not installed.
        BuildError: the source is not portable, the library cannot build for a target or a graph,
            or the plan cannot be written.
        KeyboardInterrupt: the build was interrupted, and has stopped.
    """
    require("onnx", options.backend)
    toolchain = open_toolchain(options.backend, options.targets)
    progress(f"Building with {toolchain.shown} for {', '.join(toolchain.capabilities)}")
    with Plan.open(source, verify=True) as plan:
        kept = _kept(plan.manifest, source, options)
        engines: dict[str, BuiltEngine] = {}

        def engine_of(graph: str, member: str) -> str:
            name = f"{member.removesuffix('.onnx')}.engine"
            progress(f"Building {name}")
            engines[name] = _built(graph, member, plan, toolchain, options)
            return name

        def all_of(graph: str, members: Mapping[str, str]) -> dict[str, str]:
            return {key: engine_of(graph, member) for key, member in members.items() if key in kept}

        graphs = plan.manifest.graphs
        built = Graphs(
            all_of("vision", graphs.vision),
            all_of("decode", graphs.decode),
            all_of("mask", graphs.mask),
            engine_of("text", graphs.text),
            None if graphs.token is None else engine_of("token", graphs.token),
        )
        manifest = _manifest(plan.manifest, built, kept, toolchain, options)
        others = {
            name: plan.read(name)
            for name in plan.names
            if name not in graphs.members() and not name.startswith(KERNELS)
        }
        members = {
            **{name: engine.data for name, engine in engines.items()},
            **others,
            **kernel_members(plan, options.kernels, toolchain.targets),
            layer_reports.LAYERS: layer_reports.to_json(
                {name: engine.layers for name, engine in engines.items()}
            ),
        }
        progress(f"Writing {output}")
        return EngineSummary(output, write_plan(output, manifest, members), engines)
