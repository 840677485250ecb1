"""The torch backend: every task of every plan as ONNX Runtime answers it, and what it holds."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from artifact_cache import ArtifactCache
from PIL import Image

from xdecoder_rt import Engine, backends
from xdecoder_rt.errors import BackendError, ImageError, MemoryShortageError
from xdecoder_rt.evaluation.agreement import compare
from xdecoder_rt.plan.file import Plan
from xdecoder_rt.results import Output
from xdecoder_rt.streams import synthetic

torch = pytest.importorskip("torch", reason="needs the extra torch")
pytest.importorskip("onnxscript", reason="building a plan needs the extra export")

from xdecoder_rt.backends.onnxruntime import OnnxRuntimeBackend  # noqa: E402
from xdecoder_rt.backends.torch.backend import TorchBackend  # noqa: E402
from xdecoder_rt.backends.torch.device import Device  # noqa: E402
from xdecoder_rt.backends.torch.frames import PanopticMaps, device_picture, laid  # noqa: E402
from xdecoder_rt.export.convert import convert_plan  # noqa: E402
from xdecoder_rt.export.options import ConvertOptions  # noqa: E402
from xdecoder_rt.image import letterbox  # noqa: E402
from xdecoder_rt.masks import postprocess  # noqa: E402
from xdecoder_rt.pixels.letterbox import Letterbox  # noqa: E402

WORDS = ["mug", "robot arm", "floor"]
SIZE = (64, 64)
TOLERANCE = {"fp32": 2e-5, "fp16": 2e-2, "bf16": 8e-2}
"""Relative RMS of what graphs give."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for seed in range(3):
        Image.fromarray(synthetic.image(SIZE, seed)).save(folder / f"{seed}.png")
    return folder


@pytest.fixture(scope="module")
def plan_of(
    tiny_plan: Path, artifacts: ArtifactCache, tmp_path_factory: pytest.TempPathFactory,
    images: Path,
) -> Callable[[str], Path]:  # fmt: skip
    """Plans by name, each made once."""
    folder, made = tmp_path_factory.mktemp("plans"), dict[str, Path]()

    def build(name: str) -> Path:
        if name == "tiny":
            return tiny_plan
        if name == "naming":
            return artifacts.provide("tiny_model.build_naming_plan", folder / name) / "naming.plan"
        if name == "stand-in":
            studies = Path(__file__).parents[2] / "benchmarks" / "studies"
            sys.path.append(str(studies))
            import standin

            kept = ArtifactCache(artifacts.folder, studies)
            inputs = (standin.OWN, standin.STARTER)
            return kept.provide("standin.build_plan", folder / name, *inputs) / "standin.plan"
        if name == "int8":
            options = ConvertOptions(
                "int8", calibration=images, estimator="max", force=True, images=2,
                search_images=1, max_drop=100.0, threads=1,
            )  # fmt: skip
        else:
            options = ConvertOptions(name, profile="tensorrt", force=True)
        convert_plan(tiny_plan, folder / f"{name}.plan", options, sizes=[SIZE])
        return folder / f"{name}.plan"

    def provide(name: str) -> Path:
        if name not in made:
            made[name] = build(name)
        return made[name]

    return provide


def asked(engine: Engine) -> dict[str, Any]:
    questions: dict[str, dict[str, Any]] = {
        "segment": {"segment": WORDS, "stuff": ["floor"]},
        "refer": {"refer": ["the red mug", "the arm left of the mug"]},
        "caption": {"caption": True, "prompt": "a", "region": (10, 5, 60, 45), "max_tokens": 4},
        "answer": {"answer": "is there a mug?", "choices": ["yes", "no", "maybe"]},
        "embed": {"embed": True},
    }
    tasks = engine.manifest.tasks
    return {k: v for task in questions if task in tasks for k, v in questions[task].items()}


def assert_alike(actual: Output, expected: Output, within: float) -> None:
    assert actual.segment is not None and expected.segment is not None
    same = actual.segment.segmentation == expected.segment.segmentation
    assert same.mean() > 1 - within
    labels = [[each["label"] for each in one.segment.segments_info] for one in (actual, expected)]
    assert labels[0] == labels[1]
    for one, other in zip(
        actual.segment.segments_info, expected.segment.segments_info, strict=True
    ):
        assert one["score"] == pytest.approx(other["score"], abs=within)
    for one, other in zip(actual.refer or (), expected.refer or (), strict=True):
        assert (one.mask == other.mask).mean() > 1 - within
        assert one.score == pytest.approx(other.score, abs=within)
    if expected.caption is not None:
        assert actual.caption is not None
        assert actual.caption.text == expected.caption.text
    if expected.answer is not None:
        assert actual.answer is not None
        assert actual.answer.text == expected.answer.text
        assert dict(actual.answer.scores) == pytest.approx(dict(expected.answer.scores), abs=within)
    if expected.embed is not None:
        assert relative_rms(actual.embed, expected.embed) < within


def relative_rms(actual: Any, expected: Any) -> float:
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("name", ["tiny", "naming", "stand-in"])
def test_every_task_of_a_plan_is_what_onnx_runtime_makes_of_it(
    name: str, plan_of: Callable[[str], Path], tmp_path: Path
) -> None:
    plan = plan_of(name)
    pictures = [synthetic.image(size, 7) for size in ((50, 70), (64, 64), (31, 200))]
    with (
        Engine(plan, backend="onnxruntime", threads=1, cache_dir=tmp_path / "a") as base,
        Engine(plan, backend="torch", device="cpu", cache_dir=tmp_path / "b") as engine,
    ):
        backend = engine._runtime.backend
        assert (backend.name, backend.device) == ("torch", "cpu")
        within = TOLERANCE[engine.manifest.precision]
        for picture in pictures:
            for _ in range(2):  # recorded, and run again
                actual = engine.run(picture, **asked(engine))
            assert_alike(actual, base.run(picture, **asked(base)), max(within, 1e-4))
        state, other = engine.encode(pictures[0]), base.encode(pictures[0])
        values = engine._runtime.backend.to_numpy_all(state.values)
        for key, value in base._runtime.backend.to_numpy_all(other.values).items():
            # Without the task, an embedding is zero.
            apart = np.linalg.norm(values[key] - value)
            assert apart <= within * np.linalg.norm(value), key


def test_every_node_of_an_int8_plan_is_what_onnx_runtime_makes_of_it(
    plan_of: Callable[[str], Path],
) -> None:
    """Each is given what ONNX Runtime gave the nodes before it, so that no rounding is carried on.

    What is quantized and what it gives back is the same bit for bit, half-way values too.
    """
    onnx = pytest.importorskip("onnx", reason="graphs are taken apart with the package onnx")
    reference, backend = OnnxRuntimeBackend(1, as_written=True), TorchBackend("cpu")
    with Plan.open(plan_of("int8")) as plan:
        model = onnx.load_from_string(plan.graph(plan.manifest.graphs.vision["64x64"]))
    whole = onnx.shape_inference.infer_shapes(model)
    types = {value.name: value for value in (*whole.graph.value_info, *whole.graph.output)}
    kept = {port.name for port in model.graph.output}
    made = [name for node in model.graph.node for name in node.output]
    whole.graph.output.extend(types[name] for name in made if name not in kept)
    feeds = vision_feeds(7)
    values = {
        **feeds,
        **reference.to_numpy_all(reference.load("all", whole.SerializeToString)(feeds)),
    }
    constants = {each.name: each for each in model.graph.initializer}
    compared: Counter[str] = Counter()
    for node in model.graph.node:
        first, *others = dict.fromkeys(node.input)
        if first not in values:  # of constants alone, or a shape of them
            continue
        held = [
            constants.get(name) or onnx.numpy_helper.from_array(values[name], name)
            for name in others
            if name
        ]
        kind = onnx.helper.np_dtype_to_tensor_dtype(values[first].dtype)
        port = onnx.helper.make_tensor_value_info(first, kind, values[first].shape)
        outputs = [types[name] for name in node.output]
        single = onnx.helper.make_model(
            onnx.helper.make_graph([node], node.name, [port], outputs, held),
            opset_imports=model.opset_import,
            ir_version=model.ir_version,
        )
        graph = backend.load(node.name, single.SerializeToString)
        for name, array in backend.to_numpy_all(graph({first: values[first]})).items():
            expected = values[name]
            within = 0.0 if node.op_type in EXACT else 2e-6 * float(np.abs(expected).max(initial=0))
            np.testing.assert_allclose(array, expected, 0, within, err_msg=node.name, strict=True)
        compared[node.op_type] += 1
    for kind in ("QuantizeLinear", "DequantizeLinear", "Conv", "MatMul", "Gemm"):
        assert compared[kind] >= 5, kind


EXACT = {"QuantizeLinear", "DequantizeLinear"}


def vision_feeds(seed: int) -> dict[str, Any]:
    return {"frame": synthetic.image(SIZE, seed)[None], "valid": np.array([SIZE], np.int64)}


def test_an_int8_plan_is_what_onnx_runtime_makes_of_it(
    plan_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """But for sums that fp32's last bit puts on the other side of a half: then a step, carried on.

    Most frames have none.
    """
    reference, backend = OnnxRuntimeBackend(1, as_written=True), TorchBackend("cpu")
    with Plan.open(plan_of("int8")) as plan:
        read = partial(plan.graph, plan.manifest.graphs.vision["64x64"])
        graphs = [each.load("vision", read) for each in (backend, reference)]
    worst = []
    for seed in range(7, 13):
        found, expected = (
            each.to_numpy_all(graph(vision_feeds(seed)))
            for each, graph in zip((backend, reference), graphs, strict=True)
        )
        worst.append(max(relative_rms(found[name], value) for name, value in expected.items()))
    assert np.median(worst) < 1e-5, worst
    assert max(worst) < 0.05, worst
    pictures = [synthetic.image(SIZE, seed) for seed in (7, 8)]
    with (
        Engine(
            plan_of("int8"),
            backend=OnnxRuntimeBackend(1, as_written=True),
            threads=1,
            cache_dir=tmp_path,
        ) as base,
        Engine(plan_of("int8"), backend="torch", device="cpu", cache_dir=tmp_path) as engine,
    ):
        found = compare(engine, base, pictures, WORDS, ["the red mug"])
        output = engine.run(pictures[0], **asked(engine))
    assert found.outputs["mask_map"].cosine > 0.999
    for name, output_found in found.outputs.items():
        assert output_found.cosine > 0.99, name
    assert found.same_label > 0.95
    assert output.caption is not None and output.answer is not None


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_plans_in_half_precision_run_in_it(
    precision: str, plan_of: Callable[[str], Path], tmp_path: Path
) -> None:
    picture = synthetic.image(SIZE, 7)
    with (
        Engine(plan_of("tiny"), backend="onnxruntime", threads=1, cache_dir=tmp_path) as base,
        Engine(plan_of(precision), backend="torch", device="cpu", cache_dir=tmp_path) as engine,
    ):
        state, exact = engine.encode(picture), base.encode(picture)
        half = torch.float16 if precision == "fp16" else torch.bfloat16
        assert state.values["mask_map"].dtype == half
        values = engine._runtime.backend.to_numpy_all(state.values)
        for key, value in base._runtime.backend.to_numpy_all(exact.values).items():
            assert relative_rms(values[key], value) < TOLERANCE[precision], key
        latents, expected = engine.decode(state).latents, base.decode(exact).latents
        assert latents is not None and expected is not None
        found = relative_rms(latents.mask_embedding, expected.mask_embedding)
        assert found < TOLERANCE[precision]
        output = engine.run(picture, **asked(engine))
        assert output.caption is not None and output.segment is not None


@pytest.fixture
def interpreted() -> None:
    """Our kernels run on the CPU, in Triton's interpreter."""
    pytest.importorskip("triton", reason="needs the extra triton")
    if torch.cuda.is_available():
        pytest.skip("where there is a GPU, the kernels run there")


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide")
def test_our_kernels_take_the_place_of_masked_attention_frames_and_maps(
    interpreted: None, tiny_plan: Path, tmp_path: Path
) -> None:
    picture = synthetic.image((50, 70), 7)
    calls = []
    backend = TorchBackend("cpu", kernels=True)
    with Plan.open(tiny_plan) as plan:
        member = plan.manifest.graphs.decode["64x64"]
        graph = backend.load("decode", partial(plan.graph, member))
        kinds = [node.kind for node in graph._model._nodes]
        layers = plan.manifest.decoder.layers
    assert kinds.count("xdecoder_rt::masked_attention") == layers
    assert "GreaterOrEqual" not in kinds  # the operators in their place are gone
    assert backend.panoptic_map is not None
    maps = backend.panoptic_map
    backend.panoptic_map = lambda *given: calls.append(given) or maps(*given)
    with (
        Engine(tiny_plan, backend="onnxruntime", threads=1, cache_dir=tmp_path / "a") as base,
        Engine(tiny_plan, backend=backend, cache_dir=tmp_path / "b") as engine,
    ):
        assert_alike(engine.run(picture, **asked(engine)), base.run(picture, **asked(base)), 1e-3)
    assert calls


def test_a_frame_is_laid_as_on_the_cpu(interpreted: None) -> None:
    for size, target in (((50, 70), (64, 64)), ((64, 40), (64, 64)), ((64, 64), (64, 64))):
        pixels = synthetic.image(size, 3)
        expected, box = letterbox(pixels, target)
        made = laid(torch.from_numpy(pixels), box, "bilinear")
        np.testing.assert_array_equal(made[0].numpy(), expected)
    turned = torch.from_numpy(np.ascontiguousarray(pixels.transpose(1, 0, 2))).permute(1, 0, 2)
    np.testing.assert_array_equal(laid(turned, box, "bilinear")[0].numpy(), expected)


class Recorded:
    """A stream or an event that notes what is asked of it."""

    def __init__(self, notes: list[Any], name: str) -> None:
        self.notes, self.name, self.cuda_stream = notes, name, 7

    def __getattr__(self, call: str) -> Callable[..., None]:
        return lambda *given: self.notes.append((self.name, call, *map(id, given)))


class OnDevice:
    """A frame whose maker says that it is on a GPU."""

    def __init__(self, pixels: Any) -> None:
        self.pixels, self.asked = pixels, []

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, stream: int | None = None) -> object:
        self.asked.append(stream)
        return torch.utils.dlpack.to_dlpack(self.pixels)


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[Any]]:
    """A place with a stream, where nothing runs, and notes of what streams are told."""
    notes: list[Any] = []
    place = TorchBackend("cpu")._place
    place.stream = Recorded(notes, "ours")
    event = Recorded(notes, "event")
    monkeypatch.setattr(torch.cuda, "Event", lambda: event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: Recorded(notes, "owner's"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: notes.append("all waited for"))
    return place, notes


def test_a_frame_on_the_device_is_taken_on_our_stream(streams: tuple[Any, list[Any]]) -> None:
    place, notes = streams
    frame = OnDevice(torch.arange(60, dtype=torch.uint8).reshape(4, 5, 3))
    picture = device_picture(frame, place)
    assert picture is not None and picture.shape == (4, 5, 3)
    assert frame.asked == [7]  # its maker lets our stream wait for its own
    assert picture.pixels.data_ptr() == frame.pixels.data_ptr() and notes == []
    picture.done()
    assert [note[:2] for note in notes] == [("event", "record"), ("event", "synchronize")]


def test_a_frame_of_pytorch_is_written_over_only_when_it_was_read(
    streams: tuple[Any, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, notes = streams
    pixels = torch.zeros((4, 5, 3), dtype=torch.uint8)
    monkeypatch.setattr(torch.Tensor, "__dlpack_device__", OnDevice.__dlpack_device__)
    monkeypatch.setattr(
        torch.Tensor, "__dlpack__", lambda self, stream: torch.utils.dlpack.to_dlpack(self)
    )
    picture = device_picture(pixels, place)
    assert picture is not None
    picture.done()
    # Nobody waits on the host: what its owner queues next comes after.
    assert [note[:2] for note in notes] == [("event", "record"), ("owner's", "wait_event")]


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((4, 5), "uint8"), ((4, 5, 4), "uint8"), ((4, 5, 3), "float32"), ((0, 5, 3), "uint8")],
)
def test_what_is_no_picture_is_refused(
    shape: tuple[int, ...], kind: str, streams: tuple[Any, list[Any]]
) -> None:
    frame = OnDevice(torch.zeros(shape, dtype=getattr(torch, kind)))
    with pytest.raises(ImageError, match="The device tensor"):
        device_picture(frame, streams[0])


def test_a_frame_on_another_gpu_is_refused_before_it_is_read(
    streams: tuple[Any, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, notes = streams
    monkeypatch.setattr(OnDevice, "__dlpack_device__", lambda self: (2, 1))
    frame = OnDevice(torch.zeros((4, 5, 3), dtype=torch.uint8))
    with pytest.raises(ImageError, match="on GPU 1 and the plan on GPU 0"):
        device_picture(frame, place)
    assert frame.asked == [] and notes == []


def test_what_is_on_the_host_is_no_picture_on_the_device(streams: tuple[Any, list[Any]]) -> None:
    assert device_picture(np.zeros((4, 5, 3), np.uint8), streams[0]) is None
    assert TorchBackend("cpu").picture(torch.zeros((4, 5, 3), dtype=torch.uint8)) is None


def test_a_map_is_made_as_on_the_cpu(interpreted: None) -> None:
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(1, 5, 16, 16)).astype(np.float32)
    scores, labels = draw.uniform(0.5, 1, 5).astype(np.float32), np.arange(5)
    box, is_thing = Letterbox.fit((50, 70), (64, 64)), np.array([True, False] * 3)[:5]
    maps = PanopticMaps(TorchBackend("cpu")._place)
    made, segments = maps(scores, labels, torch.from_numpy(logits), box, is_thing, 0.3)
    expected = postprocess.panoptic(scores, labels, logits[0], box, is_thing, 0.3, threads=1)
    assert (made == expected.segmentation).mean() > 0.999
    assert [each.label_id for each in segments] == [each.label_id for each in expected.segments]


def test_calls_may_come_from_many_threads(tiny_plan: Path, tmp_path: Path) -> None:
    pictures = [synthetic.image(SIZE, seed) for seed in range(4)]
    with Engine(tiny_plan, backend="torch", device="cpu", cache_dir=tmp_path) as engine:
        alone = [engine.segment(picture, WORDS).segmentation for picture in pictures]
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda one: engine.segment(one, WORDS), pictures * 2))
    for result, expected in zip(results, alone * 2, strict=True):
        np.testing.assert_array_equal(result.segmentation, expected)


def test_an_image_keeps_its_values_when_another_is_encoded(tiny_plan: Path, tmp_path: Path) -> None:
    with Engine(tiny_plan, backend="torch", device="cpu", cache_dir=tmp_path) as engine:
        state = engine.encode(synthetic.image(SIZE, 0))
        before = {name: value.clone() for name, value in state.values.items()}
        engine.encode(synthetic.image(SIZE, 1))
        for name, value in state.values.items():
            assert torch.equal(value, before[name])


def test_what_a_run_made_ends_after_its_last_use(tiny_plan: Path) -> None:
    backend = TorchBackend("cpu")
    with Plan.open(tiny_plan) as plan:
        graph = backend.load("vision", partial(plan.graph, plan.manifest.graphs.vision["64x64"]))
    graph({"frame": np.zeros((1, *SIZE, 3), np.uint8), "valid": np.array([SIZE], np.int64)})
    (program,) = graph._programs.values()
    made = {slot for bound in program._steps for slot in bound.outputs}
    ended = {slot for bound in program._steps for slot in bound.ends}
    assert made <= ended | set(program._outputs.values())


def test_want_of_memory_is_told_as_that(tiny_plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = TorchBackend("cpu")
    with Plan.open(tiny_plan) as plan:
        graph = backend.load("token", partial(plan.graph, "token.onnx"))
        width = plan.manifest.text.width

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(graph._model, "record", full)
    with pytest.raises(MemoryShortageError, match="token graph"):
        graph({graph.inputs[0]: np.zeros((1, width), np.float32)})


@pytest.mark.parametrize("device", ["tpu", "cuda:", "cuda:0:1", ""])
def test_a_device_that_is_none_is_refused(device: str, tiny_plan: Path) -> None:
    with pytest.raises(BackendError, match="cannot run on device"):
        Engine(tiny_plan, backend="torch", device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_is_said(tiny_plan: Path) -> None:
    for backend in (None, "torch"):
        with pytest.raises(BackendError, match="finds no CUDA device"):
            Engine(tiny_plan, backend=backend, device="cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_driver_that_is_too_old_for_pytorch_is_said_with_both_versions(
    tiny_plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin() -> None:
        raise RuntimeError(
            "The NVIDIA driver on your system is too old (found version 12040). Please update "
            "your GPU driver by downloading and installing a new version from the URL: ..."
        )

    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.cuda, "init", begin)
    with pytest.raises(BackendError) as caught:
        Engine(tiny_plan, backend="torch", device="cuda")
    message = str(caught.value)
    assert "too old (found version 12040)" in message and "URL" not in message
    assert "a driver for CUDA 13.2" in message and "install PyTorch for that CUDA" in message


@pytest.fixture
def old_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that PyTorch finds and has no code for."""

    def fail(*size: int, **options: Any) -> Any:
        raise RuntimeError(
            "CUDA error: no kernel image is available for execution on the device\nCompile with ..."
        )

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (6, 1))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "GTX 1080")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80"])
    monkeypatch.setattr(torch, "ones", fail)


def test_a_gpu_that_pytorch_has_no_code_for_is_refused_when_the_plan_is_opened(
    old_gpu: None, tiny_plan: Path
) -> None:
    with pytest.raises(BackendError) as caught:
        Engine(tiny_plan, backend="torch")
    message = str(caught.value)
    assert "cannot compute on GTX 1080 (compute capability 6.1)" in message
    assert "no kernel image" in message and "Compile with" not in message
    assert "sm_75, sm_80" in message


def test_a_gpu_that_pytorch_cannot_use_leaves_the_plan_to_the_cpu_unless_it_is_asked_for(
    old_gpu: None, machine: Callable[..., None], tiny_plan: Path
) -> None:
    machine(True, True, "torch")
    with pytest.warns(RuntimeWarning, match="GTX 1080.*the plan runs on the CPU"):
        engine = Engine(tiny_plan)
    with engine:
        assert engine.backend.name == "onnxruntime"
        engine.embed_text(["a mug"])
    with pytest.raises(BackendError, match="GTX 1080"):
        Engine(tiny_plan, device="cuda")


@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError("Failed to find C compiler. Please specify via CC environment variable"),
        subprocess.CalledProcessError(1, ["gcc", "-shared", "main.c"]),
        ImportError("libcuda.so.1: cannot open shared object file"),
    ],
)
def test_where_triton_cannot_compile_kernels_the_plan_runs_without_them(
    failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xdecoder_rt.backends.torch import backend
    from xdecoder_rt.kernels import launch

    monkeypatch.setattr(Device, "is_gpu", True)
    monkeypatch.setattr(Device, "__str__", lambda self: "GPU")
    monkeypatch.setattr(backend, "_has_triton", lambda: True)

    def fail(call: object) -> None:
        raise failure

    monkeypatch.setattr(launch, "launch", fail)
    with pytest.warns(RuntimeWarning, match="cannot compile kernels here.*python3-dev"):
        made = TorchBackend("cpu", cuda_graphs=False)
    assert made.panoptic_map is None and not made.scales_frames
    launched: list[Any] = []
    monkeypatch.setattr(launch, "launch", launched.append)
    made = TorchBackend("cpu", cuda_graphs=False)
    assert made.panoptic_map is not None and made.scales_frames
    assert [call.function for call in launched] == ["relabel"]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Sets what a machine has: a GPU's device node, whether PyTorch finds it, packages."""

    def have(node: bool, cuda: bool, *packages: str) -> None:
        nodes = (str(Path(__file__)),) if node else ("/nonexistent/nvidia0",)
        monkeypatch.setattr(backends, "_GPU_NODES", nodes)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(backends, "_is_installed", lambda package: package in packages)

    yield have


@pytest.mark.parametrize(
    ("node", "cuda", "packages", "device", "prefers"),
    [
        (True, True, ("torch",), None, True),
        (True, True, ("torch", "tensorrt"), None, False),
        (True, True, ("torch", "tensorrt_rtx"), None, False),
        (True, True, ("torch", "tensorrt"), "cuda:1", True),
        (True, True, ("torch",), "cpu", False),
        (True, False, ("torch",), None, False),
        (False, True, ("torch",), None, False),
        (True, True, (), None, False),
    ],
)
def test_pytorch_is_the_default_on_a_gpu_without_tensorrt(
    node: bool, cuda: bool, packages: tuple[str, ...], device: str | None, prefers: bool,
    machine: Callable[..., None],
) -> None:  # fmt: skip
    machine(node, cuda, *packages)
    assert backends._prefers_torch(device) is prefers


def test_a_container_with_the_second_gpu_alone_has_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = {Path("/dev/nvidia1"), Path("/dev/nvidiactl")}
    monkeypatch.setattr(Path, "exists", lambda self: self in nodes)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(backends, "_is_installed", lambda package: package == "torch")
    assert backends._prefers_torch(None)


@pytest.mark.parametrize(
    ("cuda", "providers", "prefers"),
    [
        (None, ["CUDAExecutionProvider", "CPUExecutionProvider"], False),
        (None, ["CPUExecutionProvider"], True),  # whose error says what to install
        ("13.0", ["CUDAExecutionProvider", "CPUExecutionProvider"], True),
    ],
)
def test_a_pytorch_for_cpus_leaves_a_gpu_to_an_onnx_runtime_for_gpus(
    cuda: str | None, providers: list[str], prefers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(ort, "get_available_providers", lambda: providers)
    assert backends._prefers_torch("cuda") is prefers


def test_opening_a_plan_on_a_machine_without_a_gpu_imports_no_torch(tiny_plan: Path) -> None:
    code = f"""
import sys
from xdecoder_rt import Engine
Engine({str(tiny_plan)!r}, cache_dir=None).close()
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_plan_of_engines_is_not_run_by_pytorch(tiny_plan: Path) -> None:
    with Plan.open(tiny_plan) as plan:
        manifest = replace(plan.manifest, backend="tensorrt")
    with pytest.raises(BackendError, match="for the backend 'tensorrt', not 'torch'"):
        backends.open_backend(manifest, "torch")
