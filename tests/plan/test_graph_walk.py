"""No runtime sees a graph that reads files, loops, calls strangers or makes more than it may."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdecoder_rt.errors import PlanError
from xdecoder_rt.plan.contents import graph_members
from xdecoder_rt.plan.file import Plan, write_plan
from xdecoder_rt.plan.graph_check import _BOUNDS, check_graph
from xdecoder_rt.plan.manifest import Manifest
from xdecoder_rt.plan.protobuf import read_fields

onnx = pytest.importorskip("onnx", reason="graphs are made with the package onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

SAMPLE = Path(__file__).parents[1] / "data" / "manifest.json"
MANIFEST = Manifest.from_json(SAMPLE.read_bytes())
WIDTH = MANIFEST.text.width
WORDS = 32
Change = Callable[[Any], object]


def token_graph(nodes: list[Any] | None = None, constants: list[Any] | None = None) -> Any:
    """The smallest graph of a plan: an embedding times a matrix; with other nodes for the middle.

    `nodes` make "m" of "caption_embedding"; both are float32 ``[captions, WIDTH]``.
    """
    weight = numpy_helper.from_array(np.ones((WIDTH, WORDS), np.float32), "w")
    taken = "caption_embedding" if nodes is None else "m"
    graph = helper.make_graph(
        [*(nodes or []), helper.make_node("MatMul", [taken, "w"], ["token_logits"])],
        "token",
        [helper.make_tensor_value_info("caption_embedding", 1, ["captions", WIDTH])],
        [helper.make_tensor_value_info("token_logits", 1, ["captions", WORDS])],
        [weight, *(constants or [])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def constant(values: object, name: str, kind: type = np.int64) -> Any:
    return numpy_helper.from_array(np.array(values, kind), name)


def walk(model: Any, manifest: Manifest = MANIFEST) -> None:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    check_graph(manifest, "token", None, data)


def refusal(model: Any) -> str:
    with pytest.raises(PlanError) as caught:
        walk(model)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 1000 and message.isprintable()
    return message


def changed(change: Change) -> Any:
    model = token_graph()
    change(model)
    return model


def kept_outside(tensor: Any) -> Any:
    """Have a tensor's data in another file, as ONNX writes it."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "etc/passwd"
    return tensor


# --- what passes ----------------------------------------------------------------------------------


def test_a_plain_graph_passes() -> None:
    walk(token_graph())


def test_every_graph_that_the_builder_writes_passes(tiny_plan: Path) -> None:
    with Plan.open(tiny_plan) as plan:
        for member in plan.manifest.graphs.members():
            onnx.checker.check_model(onnx.load_from_string(plan.graph(member)))


# --- other files, other code ----------------------------------------------------------------------


def outside_initializer(model: Any) -> None:
    kept_outside(model.graph.initializer[0])


def only_the_flag(model: Any) -> None:
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL


def only_the_place(model: Any) -> None:
    kept_outside(model.graph.initializer[0]).ClearField("data_location")


@pytest.mark.parametrize("change", [outside_initializer, only_the_flag, only_the_place])
def test_a_constant_is_never_read_from_another_file(change: Change) -> None:
    assert "kept in another file" in refusal(changed(change))


@pytest.mark.parametrize("kind", ["Constant", "ConstantOfShape"])
def test_an_attribute_is_never_read_from_another_file(kind: str) -> None:
    value = kept_outside(constant([1.0], "", np.float32))
    node = helper.make_node(kind, ["shape"][: kind != "Constant"], ["m"])
    node.attribute.append(onnx.AttributeProto(name="value", type=4, t=value))
    model = token_graph([node], [constant([3, WIDTH], "shape")])
    assert "kept in another file" in refusal(model)


def test_a_sub_graph_is_refused_wherever_it_stands() -> None:
    inner = token_graph().graph
    for kind in ("If", "Loop", "Scan", "Relu", "SequenceMap"):
        node = helper.make_node(kind, ["caption_embedding"], ["m"], body=inner)
        assert "sub-graph" in refusal(token_graph([node]))
        node = helper.make_node(kind, ["caption_embedding"], ["m"], bodies=[inner, inner])
        assert "sub-graph" in refusal(token_graph([node]))


def test_a_loop_of_two_to_the_62_is_refused() -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [helper.make_tensor_value_info(n, k, []) for n, k in (("i", 7), ("go", 9))],
        [helper.make_tensor_value_info("on", 9, [])],
    )
    node = helper.make_node("Loop", ["n", "go"], ["m"], body=body)
    refusal(token_graph([node], [constant(1 << 62, "n"), constant(True, "go", np.bool_)]))


def functions(model: Any) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    opset = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("", "MatMul", ["x"], ["y"], [node], opset))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (functions, "functions"),
        (lambda model: model.training_info.add(), "training"),
        (lambda model: model.graph.sparse_initializer.add(), "sparse"),
        (lambda model: model.graph.quantization_annotation.add(), "field 14"),
        (lambda model: setattr(model.graph.node[0], "domain", "com.microsoft"), "com.microsoft"),
        (lambda model: setattr(model.graph.node[0], "op_type", "Mystery"), "'Mystery'"),
        (lambda model: setattr(model.graph.node[0], "overload", "x"), "field 8"),
        (lambda model: model.opset_import.append(helper.make_opsetid("x", 1)), "two sets"),
        (lambda model: setattr(model.opset_import[0], "domain", "x"), "domain 'x'"),
        (lambda model: model.opset_import.append(helper.make_opsetid("", 19)), "two sets"),
        (lambda model: model.ClearField("opset_import"), "lacks"),
        (lambda model: model.ClearField("graph"), "lacks"),
        (lambda model: setattr(model, "ir_version", 1 << 40), "IR version"),
        (lambda model: model.ClearField("ir_version"), "IR version"),
    ],
)
def test_what_no_plan_has_is_refused(change: Change, word: str) -> None:
    assert word in refusal(changed(change))


@pytest.mark.parametrize("version", [-1, 0, 1, 17, 25, 1 << 31, 1 << 40, (1 << 63) - 1])
def test_an_opset_that_no_plan_has_is_refused(version: int) -> None:
    model = token_graph()
    model.opset_import[0].version = version
    assert "opset" in refusal(model)


@pytest.mark.parametrize(
    "kind", ["Loop", "If", "Scan", "Range", "Tile", "OneHot", "NonZero", "RandomNormal", "Optional"]
)
def test_operators_that_branch_loop_or_grow_at_will_are_not_allowed(kind: str) -> None:
    assert repr(kind) in refusal(
        token_graph([helper.make_node(kind, ["caption_embedding"], ["m"])])
    )


# --- constants ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda tensor: tensor.dims.append(2),
        lambda tensor: setattr(tensor, "data_type", TensorProto.DOUBLE),
        lambda tensor: setattr(tensor, "data_type", TensorProto.STRING),
        lambda tensor: setattr(tensor, "data_type", 1 << 20),
        lambda tensor: tensor.dims.__setitem__(0, -1),
        lambda tensor: tensor.dims.__setitem__(0, 1 << 62),
        lambda tensor: tensor.dims.extend([1] * 8),
        lambda tensor: tensor.ClearField("raw_data"),
        lambda tensor: tensor.float_data.append(1.0),
        lambda tensor: tensor.string_data.append(b"x"),
        lambda tensor: tensor.segment.SetInParent(),
    ],
)
def test_a_constant_is_exactly_what_its_dimensions_say(change: Change) -> None:
    refusal(changed(lambda model: change(model.graph.initializer[0])))


def test_a_name_is_given_once() -> None:
    model = token_graph()
    model.graph.initializer.append(model.graph.initializer[0])
    assert "twice" in refusal(model)
    again = [helper.make_node("Relu", ["caption_embedding"], ["m"])] * 2
    assert "there already" in refusal(token_graph(again))
    over = [helper.make_node("Relu", ["caption_embedding"], ["w"])]
    assert "there already" in refusal(token_graph(over))


# --- shapes ---------------------------------------------------------------------------------------


def test_a_shape_of_three_constants_does_not_fill_the_machine() -> None:
    nodes = [
        helper.make_node("Expand", ["one", "shape"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("Add", ["caption_embedding", "sum"], ["m"]),
    ]
    one = constant([1.0], "one", np.float32)
    walk(token_graph(nodes, [one, constant([1 << 10, 1 << 10], "shape")]))
    for shape in ([1 << 20, 1 << 20], [1 << 62], [1 << 32, 1 << 32], [-5, 3]):
        refusal(token_graph(nodes, [one, constant(shape, "shape")]))


def test_doubling_does_not_fill_the_machine() -> None:
    nodes = [helper.make_node("Concat", ["caption_embedding"] * 2, ["x0"], axis=0)]
    nodes += [helper.make_node("Concat", [f"x{i}"] * 2, [f"x{i + 1}"], axis=0) for i in range(40)]
    nodes += [helper.make_node("Identity", ["caption_embedding"], ["m"])]
    assert "more than" in refusal(token_graph(nodes))


def test_outer_products_do_not_fill_the_machine() -> None:
    nodes = [helper.make_node("Reshape", ["caption_embedding", "c"], ["x0"])]
    constants = [constant([-1, 1], "c"), constant([1, -1], "r")]
    for i in range(4):
        nodes += [
            helper.make_node("Reshape", [f"x{i}", "r"], [f"y{i}"]),
            helper.make_node("Add", [f"x{i}", f"y{i}"], [f"z{i}"]),
            helper.make_node("Reshape", [f"z{i}", "c"], [f"x{i + 1}"]),
        ]
    nodes += [helper.make_node("Identity", ["caption_embedding"], ["m"])]
    assert "more than" in refusal(token_graph(nodes, constants))


def test_numbers_of_a_shape_are_not_worked_out_without_end() -> None:
    """Each step squares how many there are: 2^6, 2^12, 2^24 and then more than any machine has."""
    nodes = []
    for i in range(3):
        nodes += [
            helper.make_node("Reshape", [f"x{i}", "c"], [f"y{i}"]),
            helper.make_node("Reshape", [f"x{i}", "r"], [f"z{i}"]),
            helper.make_node("Add", [f"y{i}", f"z{i}"], [f"x{i + 1}"]),
        ]
    nodes += [helper.make_node("Identity", ["caption_embedding"], ["m"])]
    constants = [constant(range(64), "x0"), constant([-1, 1], "c"), constant([1, -1], "r")]
    tracemalloc.start()
    message = refusal(token_graph(nodes, constants))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "more than" in message
    assert peak < 4 << 20


@pytest.mark.parametrize("others", [1 << 24, 1 << 30])
def test_what_is_large_in_other_calls_than_the_usual_is_refused(others: int) -> None:
    nodes = [
        helper.make_node("Shape", ["caption_embedding"], ["count"], start=0, end=1),
        helper.make_node("Sub", ["count", "usual"], ["more"]),
        helper.make_node("Mul", ["more", "others"], ["size"]),
        helper.make_node("Expand", ["one", "size"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("Add", ["caption_embedding", "sum"], ["m"]),
    ]
    constants = [constant([1.0], "one", np.float32), constant([3], "usual")]
    assert "more than" in refusal(token_graph(nodes, [*constants, constant([others], "others")]))


def test_an_output_that_fits_the_usual_call_alone_is_refused() -> None:
    nodes = [
        helper.make_node("Slice", ["caption_embedding", "from", "to"], ["m"]),
    ]
    message = refusal(token_graph(nodes, [constant([0], "from"), constant([3], "to")]))
    assert "comes out as" in message


def test_many_large_steps_are_too_many() -> None:
    nodes = [helper.make_node("Expand", ["one", "shape"], ["x0"])]
    nodes += [helper.make_node("Relu", [f"x{i}"], [f"x{i + 1}"]) for i in range(3_000)]
    nodes += [helper.make_node("Identity", ["caption_embedding"], ["m"])]
    one = constant([1.0], "one", np.float32)
    model = token_graph(nodes, [one, constant([1 << 24], "shape")])
    assert "elements" in refusal(model)


def test_products_are_bounded_where_tensors_are_small() -> None:
    nodes = [helper.make_node("Expand", ["one", "shape"], ["x0"])]
    nodes += [helper.make_node("MatMul", [f"x{i}"] * 2, [f"x{i + 1}"]) for i in range(20)]
    nodes += [helper.make_node("Identity", ["caption_embedding"], ["m"])]
    one = constant([1.0], "one", np.float32)
    model = token_graph(nodes, [one, constant([4096, 4096], "shape")])
    assert "multiply-accumulates" in refusal(model)


def test_the_published_text_encoder_may_take_its_large_call() -> None:
    """Of 61 texts of 77 tokens after 71 others, 12 layers of width 512: 187 GMAC."""
    rows, seen, width, layers = 61 * 77, 77 + 71, 512, 12
    products = rows * (layers * (12 * width**2 + 2 * seen * width) + width**2)
    assert 2 * products < _BOUNDS["published"].least_products


def test_the_published_text_encoder_may_make_what_it_makes_in_int8() -> None:
    """Of its large call, counted on a plan: pairs of quantization more than in fp32."""
    assert _BOUNDS["published"].least_run_elements > 2 * 2_361_174_339


def test_the_largest_input_size_buys_no_more_work_than_its_family_needs() -> None:
    """Twenty products of 4096 by 4096, 2^40.3: some seconds a core each."""
    nodes = [helper.make_node("Expand", ["one", "shape"], ["x0"])]
    nodes += [helper.make_node("MatMul", [f"x{i}"] * 2, [f"x{i + 1}"]) for i in range(20)]
    nodes += [helper.make_node("Identity", ["caption_embedding"], ["m"])]
    one = constant([1.0], "one", np.float32)
    data = token_graph(nodes, [one, constant([4096, 4096], "shape")]).SerializeToString()
    published = replace(MANIFEST, model=replace(MANIFEST.model, family="published"))
    compact = replace(MANIFEST, model=replace(MANIFEST.model, family="compact"))
    check_graph(published, "token", (2048, 4096), data)
    with pytest.raises(PlanError, match="at most 1,099,511,627,776 "):
        check_graph(compact, "token", (2048, 4096), data)


@pytest.mark.parametrize("scale", [1e6, 1e30, float("nan"), float("inf"), -1.0, 0.0])
def test_an_image_is_not_scaled_to_any_size(scale: float) -> None:
    nodes = [
        helper.make_node("Unsqueeze", ["caption_embedding", "front"], ["image"]),
        helper.make_node("Resize", ["image", "", "scales"], ["large"]),
        helper.make_node("Identity", ["caption_embedding"], ["m"]),
    ]
    scales = constant([1, 1, scale, scale], "scales", np.float32)
    refusal(token_graph(nodes, [constant([0, 1], "front"), scales]))


def test_a_convolution_does_not_pad_to_any_size() -> None:
    nodes = [
        helper.make_node("Unsqueeze", ["caption_embedding", "front"], ["image"]),
        helper.make_node("Conv", ["image", "kernel"], ["large"], pads=[1 << 19] * 4),
        helper.make_node("Identity", ["caption_embedding"], ["m"]),
    ]
    kernel = constant(np.ones((1, 1, 3, 3)), "kernel", np.float32)
    assert "windows" in refusal(token_graph(nodes, [constant([0, 1], "front"), kernel]))


def test_a_shape_does_not_hang_on_what_an_input_holds() -> None:
    nodes = [
        helper.make_node("Cast", ["caption_embedding"], ["n"], to=7),
        helper.make_node("ReduceMax", ["n"], ["shape"], keepdims=0),
        helper.make_node("Unsqueeze", ["shape", "front"], ["row"]),
        helper.make_node("Expand", ["one", "row"], ["big"]),
        helper.make_node("Identity", ["caption_embedding"], ["m"]),
    ]
    constants = [constant([0], "front"), constant([1.0], "one", np.float32)]
    assert "contents" in refusal(token_graph(nodes, constants))


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Relu", ["nothing"], ["m"]),
        helper.make_node("Relu", [], ["m"]),
        helper.make_node("Relu", ["m"], ["m"]),
        helper.make_node("MatMul", ["w", "caption_embedding"], ["m"]),
        helper.make_node("Transpose", ["caption_embedding"], ["m"], perm=[0, 0]),
        helper.make_node("Concat", ["caption_embedding"], ["m"], axis=5),
        helper.make_node("Concat", ["caption_embedding"], ["m"], axis=1 << 40),
        helper.make_node("Softmax", ["caption_embedding"], ["m", "n"]),
        helper.make_node("Constant", [], ["m"]),
    ],
    ids=lambda node: node.op_type,
)
def test_a_node_that_cannot_work_is_refused(node: Any) -> None:
    refusal(token_graph([node]))


def test_an_input_size_is_bounded_by_its_area_too() -> None:
    for height, width in ((16384, 16384), (2049, 4096), (16384, 513)):
        input_info = replace(MANIFEST.input, sizes=((height, width),))
        with pytest.raises(PlanError, match=r"input\.sizes.*8,388,608 pixels"):
            Manifest.from_json(replace(MANIFEST, input=input_info).to_json())


# --- inputs and outputs ---------------------------------------------------------------------------


def rename(port: Any) -> None:
    port.name = "other"


def retype(port: Any) -> None:
    port.type.tensor_type.elem_type = TensorProto.DOUBLE


def raise_rank(port: Any) -> None:
    port.type.tensor_type.shape.dim.add().dim_value = 1


def resize(port: Any) -> None:
    port.type.tensor_type.shape.dim[1].dim_value = WIDTH + 1


def lose_shape(port: Any) -> None:
    port.type.tensor_type.ClearField("shape")


def become_a_sequence(port: Any) -> None:
    port.type.sequence_type.elem_type.tensor_type.elem_type = 1


@pytest.mark.parametrize(
    "change", [rename, retype, raise_rank, resize, lose_shape, become_a_sequence]
)
def test_inputs_are_what_the_manifest_says(change: Change) -> None:
    refusal(changed(lambda model: change(model.graph.input[0])))


@pytest.mark.parametrize("change", [rename, retype, raise_rank, lose_shape, become_a_sequence])
def test_outputs_are_what_the_manifest_says(change: Change) -> None:
    refusal(changed(lambda model: change(model.graph.output[0])))


def test_an_output_comes_out_in_the_shape_that_the_manifest_says() -> None:
    """Whatever the graph declares: an open dimension may be declared and another shape made."""
    model = token_graph()
    nodes = [
        helper.make_node("MatMul", ["caption_embedding", "w"], ["x"]),
        helper.make_node("Concat", ["x", "x"], ["token_logits"], axis=0),
    ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    assert "comes out" in refusal(model)


def test_ports_are_there_once_and_made() -> None:
    refusal(changed(lambda model: model.graph.input.append(model.graph.input[0])))
    refusal(changed(lambda model: model.graph.output.append(model.graph.output[0])))
    refusal(changed(lambda model: model.graph.ClearField("input")))
    refusal(changed(lambda model: model.graph.ClearField("output")))
    refusal(changed(lambda model: model.graph.ClearField("node")))


# --- the wire format ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"\x80",  # a key that goes on past the end
        b"\x08" + b"\x80" * 10 + b"\x01",  # a number of eleven bytes
        b"\x08" + b"\xff" * 9 + b"\x02",  # one of more than 64 bits
        b"\x3a\x05ab",  # a field longer than its message
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # one of length -1
        b"\x0b\x0c",  # a group
        b"\x0f",  # wire type 7
        b"\x0d\x01\x02",  # four bytes of which two are there
        b"\x09\x01",
        b"\x08",
    ],
)
def test_a_malformed_message_is_refused(data: bytes) -> None:
    with pytest.raises(PlanError):
        list(read_fields(data, 0, len(data)))
    refusal(data)


def test_a_message_of_empty_fields_takes_no_time() -> None:
    assert "too many fields" in refusal(b"\x72\x00" * (1 << 20))
    assert "too many fields" in refusal(b"\x3a\x80\x80\x80\x01" + b"\x6a\x00" * (1 << 20))


def test_a_field_of_another_wire_type_is_refused() -> None:
    refusal(b"\x0a\x01\x0a")  # ir_version as text
    refusal(b"\x38\x01")  # the graph as a number


def test_two_graphs_are_not_merged() -> None:
    data = token_graph().SerializeToString()
    assert "two graphs" in refusal(data + b"\x3a\x00")


@given(st.binary(max_size=400))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(PlanError):
        walk(data)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_graph_with_changed_bytes_passes_or_is_refused(data: st.DataObject) -> None:
    small = token_graph([helper.make_node("Relu", ["caption_embedding"], ["m"])])
    # Bytes of the structure, not of the weights.
    content = bytearray(small.SerializeToString())
    places = [i for i in range(len(content)) if content[i] not in (0x80, 0x3F, 0x00)]
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.sampled_from(places))] = data.draw(st.integers(0, 255))
    end = data.draw(st.sampled_from([len(content), data.draw(st.integers(0, len(content)))]))
    try:
        walk(bytes(content[:end]))
    except PlanError as error:
        assert "\n" not in str(error)


# --- through a plan -------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_an_engine_refuses_a_graph_that_reads_a_file(
    tiny_plan: Path, tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xdecoder_rt import Engine

    pytest.importorskip(backend)
    monkeypatch.chdir(tmp_path)
    with Plan.open(tiny_plan) as plan:
        members: dict[str, Any] = {name: plan.read(name) for name in plan.names}
        name = plan.manifest.graphs.vision["64x64"]
        model = onnx.load_from_string(members[name])
        large = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        (tmp_path / "etc").mkdir()
        (tmp_path / "etc" / "passwd").write_bytes(large.raw_data)
        kept_outside(large)
        members[name] = model.SerializeToString()
        write_plan(tmp_path / "bad.plan", plan.manifest, members)
    with (
        Engine(tmp_path / "bad.plan", backend, cache_dir=tmp_path) as engine,
        pytest.raises(PlanError, match="kept in another file"),
    ):
        engine.encode(np.zeros((64, 64, 3), np.uint8))


def test_a_graph_is_walked_once(tiny_plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from xdecoder_rt.plan import file

    walked = []
    monkeypatch.setattr(file, "check_graph", lambda *arguments: walked.append(arguments[1]))
    with Plan.open(tiny_plan) as plan:
        for _ in range(3):
            for _, _, member in graph_members(plan.manifest.graphs):
                plan.graph(member)
    assert len(walked) == len(graph_members(plan.manifest.graphs))


def test_extract_hands_out_no_graph_that_is_refused(tiny_plan: Path, tmp_path: Path) -> None:
    from xdecoder_rt.cli import main

    with Plan.open(tiny_plan) as plan:
        members: dict[str, Any] = {name: plan.read(name) for name in plan.names}
        model = onnx.load_from_string(members[plan.manifest.graphs.text])
        kept_outside(model.graph.initializer[0])
        members[plan.manifest.graphs.text] = model.SerializeToString()
        write_plan(tmp_path / "bad.plan", plan.manifest, members)
    out = tmp_path / "text.onnx"
    assert main(["extract", str(tmp_path / "bad.plan"), "--graph", "text", "-o", str(out)]) != 0
    assert not out.exists()
