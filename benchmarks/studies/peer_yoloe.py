"""Writes YOLOE-26n-seg as ONNX files, which benchmarks/precisions.py --peer times.

    python -m venv yoloe && yoloe/bin/pip install ultralytics onnx onnxruntime
    yoloe/bin/python benchmarks/studies/peer_yoloe.py -o yoloe.onnx --int8 yoloe-int8.onnx
    python benchmarks/precisions.py fp32.plan int8.plan --peer yoloe.onnx yoloe-int8.onnx \\
        --peer-python yoloe/bin/python

It needs ultralytics (AGPL-3.0), in an environment of its own: nothing of it is part of xdecoder_rt.
The network is built from ultralytics' own description with random weights, and random unit vectors
in place of embedded words: its time is that of the trained one, its answers mean nothing. The
export is ultralytics' own default, words folded in: it ends with boxes, scores and coefficients of
masks of every anchor, before non-maximum suppression. (OpenVINO 2026.4 refuses the form that ends
with chosen boxes: its GatherElements takes fewer columns than there are.) The INT8 file has the
ranges of a few images of noise: a time, again.

With --predict an image it answers each line of its input by segmenting that image as users do, with
ultralytics' `predict`, on the network in PyTorch (line "torch") or on the ONNX file ("onnx"), with
the 20 best objects. That is what --peer-python starts and times.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

MODEL = "yoloe-26n-seg.yaml"
WORDS = 20
EMBEDDING = 512
OBJECTS = 20
INSTALL = "python -m venv yoloe && yoloe/bin/pip install ultralytics onnx onnxruntime"


def ultralytics() -> Any:
    """Import ultralytics, which is to fetch and install nothing on the way.

    Raises:
        ImportError: it is not installed.
    """
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):  # torchvision's own library has defined it
            # A torchvision built for another torch is imported all the same where its operators
            # have schemas.
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision
    import ultralytics
    from ultralytics.utils.nms import TorchNMS

    ultralytics.schemas = library  # they vanish with it
    if not torchvision.extension._has_ops():
        torchvision.ops.nms = TorchNMS.nms
    return ultralytics


def network(seed: int) -> Any:
    """Return the network with random weights and words."""
    torch.manual_seed(seed)
    model = ultralytics().YOLOE(MODEL)
    embeddings = torch.nn.functional.normalize(torch.randn(1, WORDS, EMBEDDING), dim=-1)
    model.model.eval().set_classes([f"word {i}" for i in range(WORDS)], embeddings)
    return model


def export(output: Path, side: int, seed: int) -> None:
    """Build the network and export it at ``side`` x ``side``."""
    model = network(seed)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        exported = model.export(format="onnx", imgsz=side, simplify=False, device="cpu")
        shutil.move(Path(folder, exported), output)


def quantize(source: Path, output: Path, seed: int) -> None:
    """Write an ONNX file with every convolution and product in INT8, as ONNX Runtime makes it."""
    import onnx
    from onnxruntime import quantization

    (port,) = onnx.load(source).graph.input
    shape = [dimension.dim_value for dimension in port.type.tensor_type.shape.dim]

    class Noise(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            draw = np.random.default_rng(seed)
            self._images = iter([draw.random(shape, np.float32) for _ in range(4)])

        def get_next(self) -> dict[str, Any] | None:
            return next(({port.name: image} for image in self._images), None)

    quantization.quantize_static(
        source,
        output,
        Noise(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        op_types_to_quantize=["Conv", "MatMul", "Gemm"],
    )


def answers(image: Path, onnx_file: Path, threads: int, seed: int) -> Iterator[str]:
    """Answer the lines of standard input with the number of objects that a prediction has."""
    torch.set_num_threads(threads)
    # ultralytics takes arrays as OpenCV's.
    pixels = np.ascontiguousarray(np.load(image)[:, :, ::-1])
    models = {"torch": network(seed), "onnx": ultralytics().YOLOE(onnx_file, task="segment")}
    runs = {name: _predicting(model, pixels) for name, model in models.items()}
    yield "ready"
    for line in sys.stdin:
        yield str(runs[line.strip()]())


def _predicting(model: Any, pixels: Any) -> Callable[[], int]:
    """Return what predicts `OBJECTS`, the best above the highest threshold that leaves so many."""

    def predict(threshold: float) -> int:
        (result,) = model.predict(
            pixels,
            imgsz=pixels.shape[:2],
            conf=threshold,
            max_det=OBJECTS,
            verbose=False,
            device="cpu",
        )
        return 0 if result.masks is None else len(result.masks)

    # Random weights give tiny scores, close to one another: the search is one of ratios.
    low, high = 1e-6, 1.0
    for _ in range(16):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if predict(middle) >= OBJECTS else (low, middle)
    print(f"{type(model).__name__}: {predict(low)} objects above {low:.4g}", file=sys.stderr)
    return lambda: predict(low)


def main() -> int:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("yoloe-26n-seg.onnx"))
    parser.add_argument("--int8", type=Path, help="write it in INT8 too")
    parser.add_argument("--predict", type=Path, help="an array of pixels, .npy; nothing is written")
    parser.add_argument("--threads", type=int, default=2, help="of --predict")
    parser.add_argument("--size", type=int, default=512, help="side of the input in pixels")
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    options = parser.parse_args()
    try:
        if options.predict:
            with contextlib.redirect_stdout(sys.stderr):
                for line in answers(options.predict, options.output, options.threads, options.seed):
                    print(line, file=sys.__stdout__, flush=True)
            return 0
        export(options.output.absolute(), options.size, options.seed)
        if options.int8:
            quantize(options.output, options.int8, options.seed)
    except ImportError as error:
        print(
            f"error: {error}; install it in an environment of its own: {INSTALL}", file=sys.stderr
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
