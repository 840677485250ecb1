"""Products of joined factors, taken apart."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import parser

from xdecoder_rt.export.joined_products import part_products

JOINED = """
<ir_version: 9, opset_import: ["" : 18]>
joined (float[B, Q, 3] a, float[B, Q, 2] b, float[B, Q, 3] other, float[B, 3, N] c,
        float[B, 2, N] d) => (float[B, Q, N] first, float[B, Q, N] second) {
    left = Concat<axis = LEFT>(a, b)
    again = Concat<axis = LEFT>(other, b)
    right = Concat<axis = RIGHT>(c, d)
    first = MatMul(left, right)
    second = MatMul(again, right)
}
"""


def joined(left: int, right: int) -> onnx.ModelProto:
    text = JOINED.replace("LEFT", str(left)).replace("RIGHT", str(right))
    return parser.parse_model(text)


@pytest.mark.parametrize(("left", "right"), [(-1, -2), (2, 1), (-1, 1)])
def test_a_product_of_joined_factors_is_a_sum_of_products(left: int, right: int) -> None:
    draw = np.random.default_rng(0)
    shapes = {"a": (2, 4, 3), "b": (2, 4, 2), "other": (2, 4, 3), "c": (2, 3, 7), "d": (2, 2, 7)}
    feeds = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    plain, parted = joined(left, right), joined(left, right)
    assert part_products(parted) == 2
    onnx.checker.check_model(parted, full_check=True)
    operators = sorted(node.op_type for node in parted.graph.node)
    # What both have in common is one product.
    assert operators == ["Add", "Add", "MatMul", "MatMul", "MatMul"]
    wanted, actual = (
        ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            None, feeds
        )
        for model in (plain, parted)
    )
    for value, reference in zip(actual, wanted, strict=True):
        np.testing.assert_allclose(value, reference, rtol=1e-5, atol=1e-5)


def test_factors_joined_along_other_axes_stay() -> None:
    model = parser.parse_model(
        """
        <ir_version: 9, opset_import: ["" : 18]>
        rows (float[1, 2, 3] a, float[1, 2, 3] b, float[1, 3, 2] c, float[1, 3, 2] d)
            => (float[1, 4, 4] product) {
            left = Concat<axis = 1>(a, b)
            right = Concat<axis = 2>(c, d)
            product = MatMul(left, right)
        }
        """
    )
    before = model.SerializeToString()
    assert part_products(model) == 0
    assert model.SerializeToString() == before
