"""Masked attention found in graphs, and what stands for it computes the same."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx", reason="engines are built of ONNX graphs")

import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from xdecoder_rt.export.tensorrt import masked_attention_nodes
from xdecoder_rt.export.tensorrt.graph import drop_softmax_floors, read_graph
from xdecoder_rt.plan.file import Plan

Array = npt.NDArray[Any]


class MaskBits(OpRun):
    """A bit a mask logit that is not negative, 32 in a word, rows padded to 128."""

    op_domain = masked_attention_nodes.NAMESPACE

    def _run(self, embedding: Array, features: Array, **_: object) -> tuple[Array]:
        logits = embedding @ features
        keys = logits.shape[-1]
        bits = np.zeros((*logits.shape[:2], -(-keys // 128) * 128), np.uint8)
        bits[..., :keys] = logits >= 0
        return (np.packbits(bits, axis=-1, bitorder="little").view("<i4"),)


class AttendBits(OpRun):
    """Attention under bits; a row without any sees everything."""

    op_domain = masked_attention_nodes.NAMESPACE

    def _run(
        self, query: Array, key: Array, value: Array, bits: Array, **_: object
    ) -> tuple[Array]:
        visible = np.unpackbits(bits.view(np.uint8), axis=-1, bitorder="little")
        visible = visible[..., : key.shape[-1]].astype(bool)
        visible |= ~visible.any(axis=-1, keepdims=True)
        scores = query @ key / math.sqrt(query.shape[-1])
        scores = np.where(visible[:, None], scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return ((weights @ value).astype(query.dtype),)


def run(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    found: list[Array] = ReferenceEvaluator(model, new_ops=[MaskBits, AttendBits]).run(None, feeds)
    return found


def decomposed(width: int, swapped: bool, cast: bool) -> onnx.ModelProto:
    """The graph of one masked attention; with the bias added on either side, or fp32 logits."""
    at = helper.make_node
    to = TensorProto.FLOAT
    nodes = [
        *([at("Cast", ["e"], ["e32"], to=to), at("Cast", ["f"], ["f32"], to=to)] if cast else []),
        at("MatMul", ["e32", "f32"] if cast else ["e", "f"], ["logits"]),
        at("ReduceMax", ["logits", "last"], ["highest"], keepdims=1),
        at("GreaterOrEqual", ["logits", "zero"], ["open"]),
        at("Less", ["highest", "zero"], ["empty"]),
        at("Or", ["open", "empty"], ["visible"]),
        at("Where", ["visible", "zero", "blocked"], ["flat"]),
        at("Unsqueeze", ["flat", "one"], ["bias"]),
        at("Mul", ["q", "scale"], ["scaled"]),
        at("MatMul", ["scaled", "k"], ["scores"]),
        at("Add", ["bias", "scores"] if swapped else ["scores", "bias"], ["sum"]),
        at("Softmax", ["sum"], ["weights"], axis=-1),
        at("MatMul", ["weights", "v"], ["out"]),
    ]
    shapes = {
        "q": ["b", "h", "n", width], "k": ["b", "h", width, "m"], "v": ["b", "h", "m", width],
        "e": ["b", "n", "c"], "f": ["b", "c", "m"],
    }  # fmt: skip
    inputs = [helper.make_tensor_value_info(name, to, shape) for name, shape in shapes.items()]
    outputs = [helper.make_tensor_value_info("out", to, ["b", "h", "n", width])]
    constants = {
        "last": np.array([-1]), "one": np.array([1]), "zero": np.float32(0),
        "blocked": np.float32(-1e4), "scale": np.float32(1 / math.sqrt(width)),
    }  # fmt: skip
    initializers = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "attention", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@settings(max_examples=20, deadline=None)
@given(
    batch=st.integers(1, 2),
    heads=st.integers(1, 3),
    queries=st.integers(1, 9),
    keys=st.integers(1, 150),
    swapped=st.booleans(),
    cast=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_two_nodes_compute_what_the_operators_do(
    batch: int, heads: int, queries: int, keys: int, swapped: bool, cast: bool, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    width, channels = 8, 5
    shapes = {
        "q": (batch, heads, queries, width), "k": (batch, heads, width, keys),
        "v": (batch, heads, keys, width), "e": (batch, queries, channels),
        "f": (batch, channels, keys),
    }  # fmt: skip
    feeds = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    feeds["e"][:, 0] = 0.0  # everything open
    feeds["f"][:, 0] = np.abs(feeds["f"][:, 0]) + 1
    feeds["e"][:, -1] = [-1, 0, 0, 0, 0]  # nothing open
    plain, replaced = decomposed(width, swapped, cast), decomposed(width, swapped, cast)
    assert masked_attention_nodes.replace(replaced) == 1
    kinds = [node.op_type for node in replaced.graph.node]
    assert kinds == [*(("Cast", "Cast") if cast else ()), "MaskBits", "AttendBits"]
    assert not replaced.graph.initializer
    np.testing.assert_allclose(run(replaced, feeds)[0], run(plain, feeds)[0], atol=1e-5)


def test_every_layer_of_a_plan_s_decoder_is_found(tiny_plan: Path) -> None:
    with Plan.open(tiny_plan) as plan:
        member = plan.manifest.graphs.decode["64x64"]
        plain, replaced = (read_graph(member, plan.graph(member)) for _ in range(2))
        layers = plan.manifest.decoder.layers
        others = [
            read_graph(name, plan.graph(name))
            for name in plan.manifest.graphs.members()
            if not name.startswith("decode")
        ]
    drop_softmax_floors(replaced)
    assert masked_attention_nodes.replace(replaced) == layers
    assert [masked_attention_nodes.replace(other) for other in others] == [0] * len(others)
    draw = np.random.default_rng(0)
    feeds = {}
    sizes = {"batch": 2, "rows": 9, "past": 0, "regions": 1}
    for value in plain.graph.input:
        tensor = value.type.tensor_type
        shape = [
            sizes.get(d.dim_param, 9) if d.dim_param else d.dim_value for d in tensor.shape.dim
        ]
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        feeds[value.name] = (
            draw.normal(size=shape).astype(dtype) if dtype == np.float32 else np.zeros(shape, dtype)
        )
    feeds["content"] = feeds["position"] = np.tile(np.arange(9), (2, 1))
    feeds["kind"][:, 8] = 1
    feeds["visible"][:] = True
    for expected, actual in zip(run(plain, feeds), run(replaced, feeds), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-4)
