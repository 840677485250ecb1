"""``python -m xdecoder_rt.parity DIR``: our network beside the original's tensors."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.errors import XDecoderError
from xdecoder_rt.models.checkpoint import read_tensors
from xdecoder_rt.models.config import ModelConfig
from xdecoder_rt.models.focalnet import FocalNet
from xdecoder_rt.models.graphs import Normalise
from xdecoder_rt.models.published import load_backbone, load_published
from xdecoder_rt.parity.comparison import Verdict
from xdecoder_rt.parity.examination import Examination, Line, count_verdicts
from xdecoder_rt.parity.fixture import Fixture
from xdecoder_rt.parity.forms import Form
from xdecoder_rt.parity.settings import (
    backbone_config,
    is_whole_network,
    model_config,
    pixel_mean,
    pixel_std,
)
from xdecoder_rt.parity.torch_form import TorchBackbone, TorchNetwork

DESCRIPTION = """\
Run a fixture folder through our network and compare every array that the original computed.

A fixture folder holds config.json (the original's hyper-parameters), weights.safetensors (under
the original's names; packed as weights.safetensors.xz too), inputs.npz and expected.npz. Each
expected array gets a line: name, shape, what was measured, and a verdict:

  pass         within its bound: relative RMS error of at most 1e-4; ids and tokens exact; maps of
               ids equal on at least 99.9 % of the pixels
  FAIL         not within it
  not built    of a task that does not exist yet
  not exposed  the form's rewrites never compute it

The last line counts the verdicts. Exit code: 0 if nothing failed and something passed, 1 if not,
2 if the folder is no usable fixture.
"""
EXAMPLES = """\
examples:
  python -m xdecoder_rt.parity tests/data/focal_tiny_a
  python -m xdecoder_rt.parity tests/data/focal_tiny_a --form onnxruntime
  python -m xdecoder_rt.parity tests/data/focal_plain_backbone --json parity.json
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m xdecoder_rt.parity",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("fixture", type=Path, metavar="DIR", help="the fixture folder")
    parser.add_argument(
        "--form",
        choices=("torch", "onnxruntime"),
        default="torch",
        help="PyTorch modules in the original's order, or exported graphs (default torch)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the lines as JSON")
    args = parser.parse_args(argv)
    try:
        return _compare(args.fixture, args.form, args.json)
    except XDecoderError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _compare(folder: Path, form_name: str, json_path: Path | None) -> int:
    fixture = Fixture.open(folder)
    form, config = _open_form(fixture, form_name)
    width = max((len(name) for name in fixture.expected), default=0)
    lines = []
    for line in Examination(fixture, form, config).lines():
        print(_line_text(line, width), flush=True)
        lines.append(line)
    counts = count_verdicts(lines)
    print(", ".join(f"{number} {verdict.value}" for verdict, number in counts.items()))
    if json_path is not None:
        with atomic_writer(json_path) as file:
            file.write(json.dumps(_report(form_name, lines), indent=1).encode() + b"\n")
    return 0 if counts[Verdict.PASS] and not counts[Verdict.FAIL] else 1


def _open_form(fixture: Fixture, form: str) -> tuple[Form, ModelConfig | None]:
    """Return the form of the fixture's network, and its configuration if it is a whole one."""
    settings = fixture.settings
    if is_whole_network(settings):
        config = model_config(settings, fixture.folder.name)
        model = load_published(fixture.weights, config).requires_grad_(False)
        if form == "torch":
            return TorchNetwork(model, fixture.background()), config
        from xdecoder_rt.parity.onnxruntime_form import OnnxNetwork

        return OnnxNetwork(model, fixture.background(), _progress), config
    backbone = FocalNet(backbone_config(settings)).eval().requires_grad_(False)
    load_backbone(backbone, read_tensors(fixture.weights)[0], str(fixture.weights))
    normalise = Normalise(pixel_mean(settings), pixel_std(settings))
    if form == "torch":
        return TorchBackbone(backbone, normalise), None
    from xdecoder_rt.parity.onnxruntime_form import OnnxBackbone

    return OnnxBackbone(backbone, normalise, _progress), None


def _progress(step: str) -> None:
    print(step, file=sys.stderr, flush=True)


def _line_text(line: Line, width: int) -> str:
    shape = "x".join(map(str, line.shape)) or "scalar"
    measured = str(line.outcome) if line.outcome else "-"
    return f"{line.name:<{width}}  {shape:<16}  {measured:<22}  {line.verdict.value}"


def _report(form: str, lines: list[Line]) -> dict[str, Any]:
    return {
        "form": form,
        "counts": {verdict.value: number for verdict, number in count_verdicts(lines).items()},
        "tensors": [
            {
                "name": line.name,
                "shape": list(line.shape),
                "verdict": line.verdict.value,
                "measure": line.outcome.measure if line.outcome else None,
                "value": line.outcome.value if line.outcome else None,
            }
            for line in lines
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
