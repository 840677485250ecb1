"""Times forms of masked attention in ONNX, in ONNX Runtime on a CPU, side by side.

python benchmarks/masked_attention_onnx.py [--threads 2] [--rounds 30] [-o FILE]

Every form computes the whole job from the same inputs: the mask product, the threshold, the row
rule, attention. Each is compared with the definition in float64 first. Keys come in whichever
layout a form reads directly. Forms take turns. The figure is processor time, of all threads
together and the least of all rounds, so that other work on the machine hardly takes part; ratios
are to the form that plans hold.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from gpu.problems import Inputs, Shape, inputs
from onnx.parser import parse_model

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.cli.machine import describe_machine, machine_summary
from xdecoder_rt.cli.options import positive

HEADS = {"compact": (3, 65, 65), "published": (8, 513, 101)}
"""Heads of width 64, channels with the threshold's, queries."""
SIDES = (16, 32, 64)
DENSITY = 0.1
TOLERANCE = 2e-4

Feeds = dict[str, np.ndarray]

LOGITS = "logits = MatMul(embedding, features)\n"
VISIBLE = (
    LOGITS
    + """highest = ReduceMax<keepdims = 1>(logits, last)
    is_open = GreaterOrEqual(logits, zero)
    is_empty = Less(highest, zero)
    seen = Or(is_open, is_empty)
    visible = Unsqueeze(seen, head)
"""
)
SCORES = "scaled = Mul(query, scale)\nscores = MatMul(scaled, key)\n"
WEIGHTED = "weights = Softmax<axis = -1>(masked)\nout = MatMul(weights, value)\n"
ADDED = VISIBLE + "bias = Where(visible, zero, number)\n"
# By position and head, as that operator takes them.
PACKED = """q = Transpose<perm = [0, 2, 1, 3]>(query)
    q3 = Reshape(q, flat)
    k = Transpose<perm = [0, 2, 1, 3]>(key_rows)
    k3 = Reshape(k, flat)
    v = Transpose<perm = [0, 2, 1, 3]>(value)
    v3 = Reshape(v, flat)
    o3 = com.microsoft.MultiHeadAttention<num_heads = HEADS, scale = 0.125>(q3, k3, v3, , , bias)
    o4 = Reshape(o3, split)
    out = Transpose<perm = [0, 2, 1, 3]>(o4)
"""
PLAN = "a number is added, then a floor below the row's highest (what plans hold)"
FORMS = {
    PLAN: ADDED
    + SCORES
    + """added = Add(scores, bias)
    top = ReduceMax<keepdims = 1>(added, last)
    floor = Sub(top, fifty)
    masked = Max(added, floor)
"""
    + WEIGHTED,
    "a number is added": ADDED + SCORES + "masked = Add(scores, bias)\n" + WEIGHTED,
    "minus infinity is added": VISIBLE
    + "bias = Where(visible, zero, infinity)\n"
    + SCORES
    + "masked = Add(scores, bias)\n"
    + WEIGHTED,
    "Where on the scores": VISIBLE
    + SCORES
    + "masked = Where(visible, scores, number)\n"
    + WEIGHTED,
    "Attention (opset 23), boolean mask": VISIBLE
    + "out = Attention<scale = 0.125>(query, key_rows, value, visible)\n",
    "Attention (opset 23), a number is added": ADDED
    + "out = Attention<scale = 0.125>(query, key_rows, value, bias)\n",
    "MultiHeadAttention (com.microsoft), a number is added": ADDED + PACKED,
}
PARTS = {
    "of which the mask product": LOGITS + "out = Identity(logits)\n",
    "of which attention, without a mask": SCORES + "masked = Identity(scores)\n" + WEIGHTED,
}
"""Not the whole job and compared with nothing: where the time goes."""


def model(body: str, feeds: Feeds, heads: int) -> onnx.ModelProto:
    """Return a form over inputs of these sizes."""
    inputs = ", ".join(f"float{list(array.shape)} {name}" for name, array in feeds.items())
    text = f"""<ir_version: 10, opset_import: ["": 23, "com.microsoft": 1]>
    masked_attention ({inputs}) => (float[a, b, c, d] out) {{
    {body.replace("HEADS", str(heads))} }}"""
    proto = parse_model(text)
    constants = {
        "zero": np.float32(0),
        "number": np.float32(-10000),
        "infinity": np.float32(-np.inf),
        "scale": np.float32(0.125),
        "fifty": np.float32(50),
        "last": np.array([-1]),
        "head": np.array([1]),
        "flat": np.array([0, 0, -1]),
        "split": np.array([0, 0, heads, -1]),
    }
    used = {name for node in proto.graph.node for name in node.input}
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(value), name)
        for name, value in constants.items()
        if name in used
    )
    del proto.graph.output[0].type.tensor_type.shape.dim[:]
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    # What a form does not read is no input.
    for unread in [value for value in proto.graph.input if value.name not in used]:
        proto.graph.input.remove(unread)
    return proto


def session(proto: onnx.ModelProto, threads: int) -> ort.InferenceSession:
    """Open a model on a CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # Spinning is processor time, but no work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def feeds_of(x: Inputs) -> Feeds:
    """Return the inputs by name, the keys in both layouts."""
    return {
        "query": x.query.numpy(),
        "key": x.key.transpose(-1, -2).contiguous().numpy(),
        "key_rows": x.key.numpy(),
        "value": x.value.numpy(),
        "embedding": x.mask_embedding.numpy(),
        "features": x.mask_features.numpy(),
    }


def times(shape: Shape, threads: int, rounds: int) -> dict[str, list[float]]:
    """Return milliseconds of every form and part, in turns."""
    x = inputs(shape, DENSITY, "cpu")
    expected = x.expected().numpy()
    feeds = feeds_of(x)
    runs = {}
    for name, body in {**FORMS, **PARTS}.items():
        form_session = session(model(body, feeds, shape.heads), threads)
        form_feeds = {value.name: feeds[value.name] for value in form_session.get_inputs()}
        (out,) = form_session.run(None, form_feeds)
        if name in FORMS and not np.abs(out - expected).max() <= TOLERANCE:
            raise SystemExit(f"{name} differs from the definition on {shape}")
        runs[name] = (form_session, form_feeds)
    milliseconds: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            form_session, form_feeds = runs[name]
            begin = time.process_time()
            form_session.run(None, form_feeds)
            milliseconds[name].append(1e3 * (time.process_time() - begin))
    return milliseconds


def main() -> None:
    """Print or write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--rounds", type=positive, default=30)
    parser.add_argument("-o", "--output", type=Path, help="Markdown file; printed by default")
    options = parser.parse_args()
    shapes = [
        Shape(name, heads, 64, channels, queries, side, "fp32")
        for name, (heads, channels, queries) in HEADS.items()
        for side in SIDES
    ]
    columns = []
    for shape in shapes:
        milliseconds = times(shape, options.threads, options.rounds)
        columns.append({name: min(values) for name, values in milliseconds.items()})
        print(f"{shape.model}, {shape.keys} keys: measured", file=sys.stderr)
    heads = [f"{shape.model}, {shape.keys}" for shape in shapes]
    lines = [f"| form | {' | '.join(heads)} |", "| --- |" + " ---: |" * len(heads)]
    for name in (*FORMS, *PARTS):
        cells = [f"{column[name]:.2f} ({column[name] / column[PLAN]:.2f})" for column in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    machine = machine_summary(describe_machine(("onnxruntime", "onnx", "numpy")))
    text = "\n".join(lines) + f"\n\n{machine}; {options.threads} threads\n"
    if options.output:
        with atomic_writer(options.output) as file:
            file.write(text.encode())
    else:
        print(text)


if __name__ == "__main__":
    main()
