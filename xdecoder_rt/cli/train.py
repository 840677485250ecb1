"""``xdecoder-rt train``: train or fine-tune a model."""

from __future__ import annotations

import argparse

from xdecoder_rt.errors import require
from xdecoder_rt.training import arguments

SUMMARY = "train or fine-tune a model on labelled and described images"
DESCRIPTION = """\
Train a compact X-Decoder, or fine-tune one, on all tasks at once: labelled folders (see
xdecoder-rt eval --help), COCO's panoptic labels and captions, VQA's questions, RefCOCO's phrases;
several may be mixed, and each image takes part in what it has. The run's folder gets its state,
metrics and curves, and at the end model.safetensors, whose path is the only line on stdout. A run
that was interrupted goes on with --resume. Needs the extra "train":
pip install "xdecoder_rt[train]".
"""
EXAMPLES = """\
  xdecoder-rt train scenes/train --minutes 60
  xdecoder-rt train scenes/train=2 coco/annotations/panoptic_train2017.json \\
      --validation scenes/held_out --steps 20000 -o runs/mixed
  xdecoder-rt train coco/annotations/panoptic_train2017.json,\
coco/annotations/captions_train2017.json 'refcoco/refs(unc).p' --minutes 600
  xdecoder-rt train kitchen/ --init starter --steps 500 -o runs/kitchen
  xdecoder-rt train kitchen/ --init runs/mixed/model.safetensors --train-only class-embedding \
      --tasks segment --steps 200 -o runs/names
  xdecoder-rt train scenes/train --minutes 60 --resume        go on after an interruption
  torchrun --nproc-per-node 4 -m xdecoder_rt.training scenes/train --steps 20000
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``train``."""
    arguments.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Train and print the path of the checkpoint.

    Raises:
        XDecoderError: a setting or the data are not usable.
    """
    config = arguments.config_from_args(args)
    require("torch", "train")
    from xdecoder_rt.training.trainer import train

    print(train(config))
    return 0
