"""Plans built by TensorRT-RTX on this machine, for GPUs that it does not have."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("onnx", reason="building engines needs onnx")

from onnx import TensorProto, helper

from xdecoder_rt.cli import main
from xdecoder_rt.errors import BuildError
from xdecoder_rt.export.tensorrt import layers as layer_reports
from xdecoder_rt.export.tensorrt.build import build_engines
from xdecoder_rt.export.tensorrt.engine import build_engine
from xdecoder_rt.export.tensorrt.graph import declare_parser_opset
from xdecoder_rt.export.tensorrt.options import EngineOptions
from xdecoder_rt.export.tensorrt.profiles import InputRange
from xdecoder_rt.export.tensorrt.toolchain import open_toolchain
from xdecoder_rt.plan.file import Plan, write_plan

if TYPE_CHECKING:
    from xdecoder_rt.export.tensorrt.build import EngineSummary

pytestmark = pytest.mark.usefixtures("rtx")
OPTIONS = EngineOptions("tensorrt_rtx", (89,))


def model(operator: str, element: int, **attributes: Any) -> Any:
    """A graph of one operator that takes and gives [2, 8]."""
    node = helper.make_node(operator, ["x", "w"], ["y"], name="it", **attributes)
    ports = [helper.make_tensor_value_info(name, element, [2, 8]) for name in "xy"]
    weight = helper.make_tensor("w", element, [8, 8], [0.5] * 64)
    graph = helper.make_graph([node], "g", ports[:1], ports[1:], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


FIXED = {"x": InputRange((2, 8), (2, 8), (2, 8))}


def test_a_plan_has_an_engine_for_every_graph_and_says_what_it_is_for(
    rtx_plan: EngineSummary, rtx: Any
) -> None:
    with Plan.open(rtx_plan.path, verify=True) as plan:
        manifest = plan.manifest
        members = manifest.graphs.members()
        assert manifest.backend == "tensorrt_rtx"
        assert manifest.backend_version == rtx.__version__ == manifest.build["tensorrt_rtx"]
        assert manifest.targets == ("8.6", "8.9", "12.0")
        assert (manifest.input.sizes, manifest.input.batch) == (((64, 64),), (1, 1))
        assert manifest.decoder.max_rows == 64
        assert sorted(members) == sorted(
            f"{name}.engine"
            for name in (
                "vision_64x64",
                "frame_64x64",
                "decode_64x64",
                "mask_64x64",
                "text",
                "token",
            )
        )
        assert all(len(plan.read(member)) > 1000 for member in members)
        listed = layer_reports.layers_from_json(plan.read(layer_reports.LAYERS))
        assert not any(name.endswith(".onnx") for name in plan.names)
    assert set(listed) == set(members)
    assert set(layer_reports.precisions(listed["vision_64x64.engine"])["Conv"]) == {"fp32"}
    assert set(layer_reports.precisions(listed["decode_64x64.engine"])["MatMul"]) == {"fp32"}


@pytest.mark.parametrize("target", [75, 80, 86, 89, 120, 121])
def test_fp16_is_built_as_fp16_for_every_target(target: int) -> None:
    toolchain = open_toolchain("tensorrt_rtx", (target,))
    built = build_engine("it", model("MatMul", TensorProto.FLOAT16), [FIXED], toolchain, OPTIONS)
    assert layer_reports.precisions(built.layers) == {"MatMul": {"fp16": 1}}
    assert built.data and built.seconds > 0


@pytest.mark.parametrize("target", [80, 86, 89, 120, 121])
def test_bf16_is_built_as_bf16_whatever_opset_is_declared(target: int) -> None:
    """A convolution, which ONNX has in bf16 from opset 22 on; the parser is told 20."""
    bf16 = TensorProto.BFLOAT16
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="it")
    shapes = {"x": [1, 8, 6, 6], "y": [1, 8, 4, 4]}
    ports = [helper.make_tensor_value_info(name, bf16, shape) for name, shape in shapes.items()]
    weight = helper.make_tensor("w", bf16, [8, 8, 3, 3], [0.5] * 576)
    graph = helper.make_model(
        helper.make_graph([node], "g", ports[:1], ports[1:], [weight]),
        opset_imports=[helper.make_opsetid("", 22)],
        ir_version=10,
    )
    declare_parser_opset(graph)
    toolchain = open_toolchain("tensorrt_rtx", (target,))
    built = build_engine("it", graph, [], toolchain, OPTIONS)
    assert layer_reports.precisions(built.layers) == {"Conv": {"bf16": 1}}


def test_engines_are_told_to_allocate_nothing_themselves(
    rtx: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it TensorRT-RTX's work can be in no CUDA graph."""
    configs = []
    toolchain = open_toolchain("tensorrt_rtx", (89,))

    class Builder:
        def __init__(self, logger: Any) -> None:
            self._builder = rtx.Builder(logger)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._builder, name)

        def create_builder_config(self) -> Any:
            configs.append(self._builder.create_builder_config())
            return configs[-1]

    class Module:
        def __getattr__(self, name: str) -> Any:
            return Builder if name == "Builder" else getattr(rtx, name)

    monkeypatch.setattr(toolchain.library, "module", Module())
    build_engine("it", model("MatMul", TensorProto.FLOAT16), [FIXED], toolchain, OPTIONS)
    (config,) = configs
    assert config.get_flag(rtx.BuilderFlag.REQUIRE_USER_ALLOCATION)
    assert not config.get_flag(rtx.BuilderFlag.TF32)


@pytest.mark.parametrize("target", [75, 80, 86, 89, 120, 121])
def test_int8_is_built_as_int8_for_every_target(target: int) -> None:
    """A symmetric pair before and after a linear layer, weights stored in int8."""
    at, fp16, int8 = helper.make_node, TensorProto.FLOAT16, TensorProto.INT8
    nodes = [
        at("QuantizeLinear", ["x", "sx"], ["xq"], name="q"),
        at("DequantizeLinear", ["xq", "sx"], ["xd"], name="dq"),
        at("DequantizeLinear", ["w", "sw"], ["wd"], name="dqw", axis=1),
        at("MatMul", ["xd", "wd"], ["y"], name="it"),
    ]
    ports = [helper.make_tensor_value_info(name, fp16, [64, 64]) for name in "xy"]
    constants = [
        helper.make_tensor("sx", fp16, [], [0.05]),
        helper.make_tensor("sw", fp16, [64], [0.01] * 64),
        helper.make_tensor("w", int8, [64, 64], [3, -5] * 2048),
    ]
    graph = helper.make_model(
        helper.make_graph(nodes, "g", ports[:1], ports[1:], constants),
        opset_imports=[helper.make_opsetid("", 19)],
        ir_version=10,
    )
    shape = InputRange((64, 64), (64, 64), (64, 64))
    toolchain = open_toolchain("tensorrt_rtx", (target,))
    built = build_engine("it", graph, [{"x": shape}], toolchain, OPTIONS)
    assert layer_reports.precisions(built.layers) == {"MatMul": {"int8": 1}}


def test_turing_has_no_fp32_products_and_the_error_says_what_it_has() -> None:
    toolchain = open_toolchain("tensorrt_rtx", (75,))
    with pytest.raises(BuildError, match=r"sm_75.*FP32 GEMM.*--precision fp16"):
        build_engine("it", model("MatMul", TensorProto.FLOAT), [FIXED], toolchain, OPTIONS)


def test_an_operator_that_the_parser_lacks_is_named() -> None:
    node = helper.make_node("Unique", ["x"], ["y"], name="distinct")
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [8]) for name in "xy"]
    graph = helper.make_model(
        helper.make_graph([node], "g", ports[:1], ports[1:]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    with pytest.raises(BuildError, match=r"graph\.onnx: Unique \(distinct\)"):
        build_engine("graph.onnx", graph, [], open_toolchain("tensorrt_rtx", (89,)), OPTIONS)


@pytest.mark.parametrize(("targets", "message"), [((87,), "sm_87"), ((86, 100), "sm_100")])
def test_an_unknown_target_lists_the_known_ones(targets: tuple[int, ...], message: str) -> None:
    with pytest.raises(BuildError, match=rf"{message}.*75, 80, 86, 89, 120"):
        open_toolchain("tensorrt_rtx", targets)


def test_without_targets_it_is_this_machine_s_gpu_or_the_way_out(
    tiny_plan: Path, tmp_path: Path
) -> None:
    if find_spec("pycuda") is not None:
        pytest.skip("pycuda is installed: what it finds is this machine's")
    arguments = [
        "--plan",
        str(tiny_plan),
        "--backend",
        "tensorrt_rtx",
        "-o",
        str(tmp_path / "x.plan"),
    ]
    # In a process of its own: other tests leave a driver in theirs.
    command = [sys.executable, "-m", "xdecoder_rt.cli", "build", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    error = done.stderr.splitlines()[-1]
    assert "GPU of this machine" in error and "--sm" in error
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def sigint_raises() -> Iterator[None]:
    """Python's handler of SIGINT, which a process started in the background does not get."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("sigint_raises")
@pytest.mark.parametrize(
    ("call", "when"), [("started", ""), ("started", "Optimizing"), ("hear", "dead-layer")]
)
def test_an_interruption_ends_the_build_and_leaves_nothing(
    call: str, when: str, tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C comes while the library runs; Python hears of it in the next thing that it calls."""
    from xdecoder_rt.export.tensorrt import log, progress

    calls = 0

    def interrupted(_: object, *said: object) -> None:
        nonlocal calls
        if any(when in str(one) for one in said):
            calls += 1
            signal.raise_signal(signal.SIGINT)

    caller = progress.BuildProgress if call == "started" else log.BuildLog
    monkeypatch.setattr(caller, call, interrupted)
    options = EngineOptions("tensorrt_rtx", (86,), max_rows=64)
    with pytest.raises(KeyboardInterrupt):
        build_engines(tiny_plan, tmp_path / "rtx.plan", options, sizes=[(64, 64)])
    assert calls > 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(
    tiny_plan: Path, rtx_plan: EngineSummary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xdecoder_rt.export.tensorrt import build

    engine = rtx_plan.engines["token.engine"]
    monkeypatch.setattr(build, "build_engine", lambda *_: engine)
    options = EngineOptions("tensorrt_rtx", (86,), max_rows=64)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BuildError, match="No space left"):
        build_engines(tiny_plan, tmp_path / "rtx.plan", options, sizes=[(64, 64)])
    assert list(tmp_path.iterdir()) == []


def test_a_plan_of_engines_is_no_source_of_engines(rtx_plan: EngineSummary, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="is a tensorrt_rtx plan"):
        build_engines(rtx_plan.path, tmp_path / "again.plan", OPTIONS)


def test_graphs_that_are_written_for_a_cpu_are_refused(altered: Any, tmp_path: Path) -> None:
    plan = altered(lambda manifest: replace(manifest, precision="bf16", profile="cpu"))
    with pytest.raises(BuildError, match=r"for a CPU.*--precision bf16 --backend tensorrt_rtx"):
        build_engines(plan, tmp_path / "x.plan", OPTIONS)
    assert list(tmp_path.iterdir()) == [plan]


def test_a_size_that_the_plan_lacks(tiny_plan: Path, tmp_path: Path) -> None:
    options = EngineOptions("tensorrt_rtx", (89,))
    with pytest.raises(BuildError, match=r"96x96.*64x64, 32x96"):
        build_engines(tiny_plan, tmp_path / "x.plan", options, sizes=[(96, 96)])


def test_the_kernels_of_the_targets_travel_along(
    tiny_plan: Path, rtx_plan: EngineSummary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xdecoder_rt.export.tensorrt import build

    monkeypatch.setattr(build, "build_engine", lambda *_: rtx_plan.engines["token.engine"])
    with Plan.open(tiny_plan) as plan:
        members: dict[str, Any] = {name: plan.read(name) for name in plan.names}
        manifest = plan.manifest
    kinds = ("cubin", "ptx")
    form = {
        "module": "m", "function": "f", "element": "fp16", "arguments": [], "aligned": [],
        "constants": {}, "grid": [[], [], []], "warps": 4, "stages": 1, "registers": 1,
        "targets": {
            name: {kind: {"file": f"{name}/k.{kind}", "sha256": "0"} for kind in kinds}
            for name in ("sm_75", "sm_86", "sm_87", "sm_120")
        },
    }  # fmt: skip
    index = {"format_version": 1, "kernels": {"k": form}, "targets": {}}
    members["kernels/kernels.json"] = json.dumps(index).encode()
    for name in form["targets"]:
        members |= {f"kernels/{name}/k.{kind}": b"code" for kind in kinds}
    write_plan(tmp_path / "portable.plan", manifest, members)
    options = EngineOptions("tensorrt_rtx", (86, 89, 121))
    build_engines(tmp_path / "portable.plan", tmp_path / "rtx.plan", options)
    with Plan.open(tmp_path / "rtx.plan") as plan:
        kept = {name for name in plan.names if name.startswith("kernels/")}
        left = json.loads(plan.read("kernels/kernels.json"))
    assert kept == {
        "kernels/kernels.json",
        # Code for sm_120 runs on that alone; for 12.1 the newest PTX that can be compiled stays.
        *(f"kernels/sm_{target}/k.{kind}" for target in (86, 87) for kind in kinds),
    }
    assert set(left["kernels"]["k"]["targets"]) == {"sm_86", "sm_87"}


def test_kernels_of_other_gpus_are_refused(
    tiny_plan: Path, rtx_plan: EngineSummary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xdecoder_rt.export.tensorrt import build

    monkeypatch.setattr(build, "build_engine", lambda *_: rtx_plan.engines["token.engine"])
    folder = tmp_path / "compiled"
    folder.mkdir()
    index = {"format_version": 1, "kernels": {}, "targets": {"sm_120": {}}}
    (folder / "kernels.json").write_text(json.dumps(index))
    options = EngineOptions("tensorrt_rtx", (80,), max_rows=64, kernels=folder)
    with pytest.raises(BuildError, match=r"are for sm_120, not for sm_80.*--target 80"):
        build_engines(tiny_plan, tmp_path / "rtx.plan", options, sizes=[(64, 64)])
    assert list(tmp_path.iterdir()) == [folder]


def test_a_machine_without_a_driver_says_so(rtx_plan: EngineSummary) -> None:
    """In a process of its own: a crash would be seen."""
    code = (
        "import sys\n"
        "from xdecoder_rt import Engine, XDecoderError\n"
        "try:\n"
        "    Engine(sys.argv[1]).close()\n"
        "except XDecoderError as error:\n"
        "    print(error)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(rtx_plan.path)], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    if ended.stdout:  # on a machine with one of these GPUs it opens
        assert "pycuda" in ended.stdout or "driver" in ended.stdout or "capability" in ended.stdout


def test_info_lists_layers_and_precisions(
    rtx_plan: EngineSummary, tiny_plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(rtx_plan.path), "--layers"]) == 0
    out = capsys.readouterr().out
    assert "compute capability 8.6, 8.9, 12.0" in out and "decode_64x64.engine" in out
    assert any(
        line.split()[:3] == ["vision_64x64.engine", "Conv", "37"] or "Conv" in line
        for line in out.splitlines()
    )
    assert main(["info", str(rtx_plan.path), "--layers", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document["layers"]) == set(document["precisions"]) == set(rtx_plan.engines)
    assert main(["info", str(tiny_plan), "--layers"]) == 1
    assert "lists no layers" in capsys.readouterr().err


def test_an_engine_comes_out_as_it_was_built(
    rtx_plan: EngineSummary, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "vision.engine"
    assert main(["extract", str(rtx_plan.path), "--graph", "vision", "-o", str(target)]) == 0
    assert target.read_bytes() == rtx_plan.engines["vision_64x64.engine"].data
    assert "vision_64x64.engine" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("target", [86, 89, 120])
def test_the_whole_tiny_model_for_one_gpu(target: int, tiny_plan: Path, tmp_path: Path) -> None:
    options = EngineOptions("tensorrt_rtx", (target,))
    built = build_engines(tiny_plan, tmp_path / "rtx.plan", options)
    assert len(built.engines) == 10
    assert all(engine.layers for engine in built.engines.values())


@pytest.mark.slow
def test_the_starter_for_three_generations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxscript", reason="exporting the starter needs the extra export")
    output = ["-o", str(tmp_path / "rtx.plan"), "--json"]
    assert main(["build", "--backend", "tensorrt_rtx", "--sm", "86", "89", "120", *output]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["targets"] == ["8.6", "8.9", "12.0"]
    graphs = {graph["graph"]: graph for graph in summary["graphs"]}
    assert set(graphs) == {"vision", "frame", "decode", "mask", "text", "token"}
    assert graphs["vision"]["precisions"]["Conv"] == {"fp32": 57}
    assert list(tmp_path.iterdir()) == [tmp_path / "rtx.plan"]
