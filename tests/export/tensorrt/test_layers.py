"""What is read of a builder's report, and of a plan's copy of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdecoder_rt.errors import PlanError
from xdecoder_rt.export.tensorrt.layers import (
    Layer,
    from_inspector,
    from_log,
    layers_from_json,
    layers_to_json,
    precisions,
)

TENSOR = (
    "{{ Name: {0}, Dimensions: [1,101], Strides: [101,1], StrideOrder: [1,0], Datatype: {1}, "
    "Format: (Linear) Row major linear format }}"
)
LINE = (
    "Name: {name}, LayerType: {kind}, Inputs: [ {a}, {b}], Constants: [ {w}], Outputs: [ {o}], "
    "TacticName: tactic_0x12, StreamId: 0, Metadata: {metadata}"
)
OPERATORS = {"scores": "MatMul", "bias": "Add", "softmax": "Softmax", "mix": "MatMul", "c": "Conv"}


def line(name: str, kind: str, dtype: str, nodes: list[str]) -> str:
    return LINE.format(
        name=name,
        kind=kind,
        a=TENSOR.format("x", dtype),
        b=TENSOR.format("y", "Bool"),
        w=TENSOR.format("weight", "Int8"),
        o=TENSOR.format("z", "Float"),
        metadata="".join(f"[ONNX Layer: {node}]" for node in nodes),
    )


LOG = "\n".join(
    (
        "Layers:",
        "Name: go, LayerType: signal, Inputs: [], Constants: [], Outputs: [], TacticName: , "
        "StreamId: 0, EventId: 63, Metadata: ",
        line("mha", "kgen", "Half", ["scores", "bias", "softmax", "mix"]),
        line("conv", "correlation", "Int8", ["c"]),
        line("else", "kgen", "Int64", ["bias"]),
        line("__myl_MulCastAddConc_myl0_9", "kgen", "Float", ["c", "bias"]),
        line("__myl_FcAdd_myl0_11", "runtime_fusion", "Half", ["scores", "bias"]),
        "",
        "I/O Tensors:",
        line("no layer", "kgen", "Half", ["c"]),
    )
)


def test_a_log_gives_kernels_with_the_nodes_that_they_compute() -> None:
    mha, conv, other, after, fused = from_log(LOG, OPERATORS)
    assert (mha.role, mha.precision) == ("attention", "fp16")
    assert mha.operators == ("MatMul", "Add", "Softmax", "MatMul")
    assert (mha.inputs, mha.outputs) == (("fp16", "bool"), ("fp32",))
    assert (conv.role, conv.precision, conv.tactic) == ("Conv", "int8", "tactic_0x12")
    assert (other.role, other.precision) == (None, "fp32")
    assert (after.operators, after.role) == (("Conv", "Add"), None)  # what follows a product
    assert (fused.role, fused.precision) == ("MatMul", "fp16")
    assert precisions([mha, conv, other, after]) == {"attention": {"fp16": 1}, "Conv": {"int8": 1}}


def test_an_inspector_gives_the_same() -> None:
    information = {
        "Layers": [
            {
                "Name": "mha",
                "LayerType": "kgen",
                "Inputs": [{"Name": "x", "Format/Datatype": "Row major linear FP16 format"}],
                "Outputs": [{"Name": "z", "Datatype": "Float"}],
                "TacticName": "t",
                "Metadata": "[ONNX Layer: scores][ONNX Layer: softmax][ONNX Layer: mix]",
            },
            "a layer of an engine without detailed profiling verbosity",
        ],
        "Bindings": ["x"],
    }
    (layer,) = from_inspector(json.dumps(information), OPERATORS)
    assert (layer.role, layer.inputs, layer.outputs) == ("attention", ("fp16",), ("fp32",))


texts = st.text(max_size=8)
lists = st.lists(texts, max_size=3).map(tuple)
layers = st.builds(Layer, texts, texts, lists, lists, lists, texts)


@given(st.dictionaries(texts, st.lists(layers, max_size=3), max_size=3))
def test_layers_survive_the_plan(engines: dict[str, list[Layer]]) -> None:
    assert layers_from_json(layers_to_json(engines)) == engines


@pytest.mark.parametrize(
    "document",
    [
        b"[]",
        b'{"vision.engine": 3}',
        b'{"vision.engine": [3]}',
        b'{"vision.engine": [{"name": "x"}]}',
        b'{"vision.engine": [{"name": "", "kind": "", "operators": 5, "inputs": [], '
        b'"outputs": [], "tactic": ""}]}',
        b"{",
    ],
)
def test_a_hostile_list_is_refused(document: bytes) -> None:
    with pytest.raises(PlanError, match="layers.json"):
        layers_from_json(document)
