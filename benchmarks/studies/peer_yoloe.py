"""Writes YOLOE-26n-seg as an ONNX file, which benchmarks/precisions.py --peer times.

    python -m venv yoloe && yoloe/bin/pip install ultralytics onnx
    yoloe/bin/python benchmarks/studies/peer_yoloe.py -o yoloe-26n-seg.onnx
    python benchmarks/precisions.py fp32.plan int8.plan --peer yoloe-26n-seg.onnx

It needs ultralytics (AGPL-3.0), in an environment of its own: nothing of it is part of xdecoder_rt.
The network is built from ultralytics' own description with random weights, and random unit vectors
in place of embedded words: its time is that of the trained one, its answers mean nothing. The
export is ultralytics' own default, words folded in: it ends with boxes, scores and coefficients of
masks of every anchor, before non-maximum suppression. (OpenVINO 2026.4 refuses the form that ends
with chosen boxes: its GatherElements takes fewer columns than there are.)
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

import torch

MODEL = "yoloe-26n-seg.yaml"
WORDS = 20
EMBEDDING = 512
INSTALL = "python -m venv yoloe && yoloe/bin/pip install ultralytics onnx"


def export(output: Path, side: int, seed: int) -> None:
    """Build the network and export it at ``side`` x ``side``.

    Raises:
        ImportError: ultralytics is not installed.
    """
    # Nothing is to be fetched or installed on the way.
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    with contextlib.suppress(RuntimeError):  # torchvision's own library has defined it
        # A torchvision built for another torch is imported all the same where its operator has a
        # schema; ultralytics needs the package, and this export none of its operators.
        torch.library.Library("torchvision", "DEF").define(
            "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )
    from ultralytics import YOLOE

    torch.manual_seed(seed)
    model = YOLOE(MODEL)
    embeddings = torch.nn.functional.normalize(torch.randn(1, WORDS, EMBEDDING), dim=-1)
    model.model.eval().set_classes([f"word {i}" for i in range(WORDS)], embeddings)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        exported = model.export(format="onnx", imgsz=side, simplify=False, device="cpu")
        shutil.move(Path(folder, exported), output)


def main() -> int:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("yoloe-26n-seg.onnx"))
    parser.add_argument("--size", type=int, default=512, help="side of the input in pixels")
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    options = parser.parse_args()
    try:
        export(options.output.absolute(), options.size, options.seed)
    except ImportError as error:
        print(
            f"error: {error}; install it in an environment of its own: {INSTALL}", file=sys.stderr
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
