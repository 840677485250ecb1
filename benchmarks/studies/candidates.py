"""Measures the INT8 time of compact models that were never trained, to choose widths and depths.

python benchmarks/studies/candidates.py [--iterations 40] [--threads 2] [-o docs/candidates.md]

Every candidate differs from the default in one respect. Its vision and decode graphs for 512x512
are exported, quantised as an INT8 plan is (symmetric QDQ: int8 weights per output channel, int8
activations per tensor, biases in fp32; dense convolutions and products with constant weights, while
depthwise convolutions and everything else stay fp32) and run by OpenVINO. Speed does not depend on
the values of the weights, so random ones do. The candidates take turns within each round.
"""

from __future__ import annotations

import argparse
import logging
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import openvino
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from torch import Tensor, nn

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.cli.machine import LIBRARIES, describe_machine, machine_summary
from xdecoder_rt.cli.options import positive
from xdecoder_rt.export.costs import macs, parameters
from xdecoder_rt.export.onnx_graphs import (
    MAX_BATCH,
    ExportedGraph,
    export_graph,
    export_image_graphs,
)
from xdecoder_rt.models import ModelConfig, XDecoder, compact_config
from xdecoder_rt.models.graphs import Normalise

SIZE = (512, 512)
TARGET_MS = 25.0
TARGET_GMACS, CEILING_GMACS = 3.5, 6.0
LIBRARIES_USED = (*LIBRARIES, "torch", "onnx")
BACKBONE = "backbone alone"
WARMUP = 3

Feeds = dict[str, np.ndarray]


def candidates() -> dict[str, ModelConfig]:
    """The default and its neighbours, by what distinguishes them."""
    default = compact_config()
    pixel, decoder = default.pixel_decoder, default.decoder

    def width(hidden: int) -> dict[str, Any]:
        heads = hidden // 64
        narrow = replace(decoder, hidden_dim=hidden, heads=heads, feedforward_dim=4 * hidden)
        return {"decoder": narrow, "proj_dim": hidden}

    def pyramid(dim: int) -> dict[str, Any]:
        return {"pixel_decoder": replace(pixel, dim=dim, heads=dim // 32, feedforward_dim=4 * dim)}

    return {
        "default": default,
        "pixel decoder 64": compact_config(**pyramid(64)),
        "pixel decoder 128": compact_config(**pyramid(128)),
        "masks 48": compact_config(
            pixel_decoder=replace(pixel, mask_level_dim=48, mask_dim=48),
        ),
        "decoder 128": compact_config(**width(128)),
        "decoder 256": compact_config(**width(256)),
        "9 layers": compact_config(decoder=replace(decoder, layers=9)),
        "6 heads": compact_config(
            pixel_decoder=replace(pixel, heads=6), decoder=replace(decoder, heads=6)
        ),
        "101 queries": compact_config(decoder=replace(decoder, num_queries=101)),
    }


class BackboneGraph(nn.Module):
    """Normalisation and backbone, the part that no candidate changes."""

    outputs = ("stride_4", "stride_8", "stride_16", "stride_32")

    def __init__(self, model: XDecoder) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.normalise = Normalise(model.config.pixel_mean, model.config.pixel_std)

    def forward(self, frame: Tensor, valid: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.backbone(self.normalise(frame, valid)))


@dataclass(frozen=True)
class Candidate:
    """A quantised candidate, ready to run.

    Attributes:
        name: what distinguishes it.
        config: None for the backbone alone.
        gmacs: of its graphs, for one image.
        parameters: outside the text encoder.
        quantised: nodes in INT8.
        runs: graph name to a call that runs it once.
    """

    name: str
    config: ModelConfig | None
    gmacs: float
    parameters: int
    quantised: int
    runs: dict[str, Callable[[], object]]


def build(name: str, config: ModelConfig, threads: int, folder: Path) -> Candidate:
    """Export, quantise and compile one model."""
    torch.manual_seed(0)
    model = XDecoder(config).eval().requires_grad_(False)
    graphs = [graph for graph in export_image_graphs(model, SIZE) if graph.name != "mask"]
    outside_text = parameters(model) - parameters(model.text_encoder)
    return _candidate(name, config, graphs, outside_text, threads, folder)


def build_backbone(config: ModelConfig, threads: int, folder: Path) -> Candidate:
    """The backbone alone, the same way."""
    torch.manual_seed(0)
    model = XDecoder(config).eval().requires_grad_(False)
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    generator = torch.Generator().manual_seed(0)
    frame = torch.randint(0, 256, (2, *SIZE, 3), dtype=torch.uint8, generator=generator)
    example = {"frame": frame, "valid": torch.tensor([SIZE, SIZE])}
    graph = export_graph("vision", BackboneGraph(model), example, ({0: batch}, {0: batch}))
    return _candidate(BACKBONE, None, [graph], parameters(model.backbone), threads, folder)


def _candidate(
    name: str,
    config: ModelConfig | None,
    graphs: list[ExportedGraph],
    outside_text: int,
    threads: int,
    folder: Path,
) -> Candidate:
    quantised, runs = 0, {}
    for graph in graphs:
        feeds = {key: value.numpy() for key, value in graph.typical.items()}
        path = folder / "quantised.onnx"
        quantised += quantise(graph.model, feeds, path)
        runs[graph.name] = compile_int8(path, feeds, threads)
    gmacs = sum(macs(graph) for graph in graphs) / 1e9
    return Candidate(name, config, gmacs, outside_text, quantised, runs)


class _OneBatch(CalibrationDataReader):  # type: ignore[misc]
    """Calibration data: the graph's own example."""

    def __init__(self, feeds: Feeds) -> None:
        self._feeds: Iterator[Feeds] = iter([feeds])

    def get_next(self) -> Feeds | None:
        return next(self._feeds, None)


def quantise(model: onnx.ModelProto, feeds: Feeds, path: Path) -> int:
    """Write a graph in symmetric INT8; how many nodes that are."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"
    chosen = dense_nodes(model)
    quantize_static(
        model,
        path,
        _OneBatch(feeds),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        nodes_to_quantize=chosen,
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
        },
    )
    return len(chosen)


def dense_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the dense convolutions and of the products with constant weights."""
    constants = {tensor.name for tensor in model.graph.initializer}

    def is_dense(node: onnx.NodeProto) -> bool:
        if node.op_type not in ("Conv", "MatMul", "Gemm") or node.input[1] not in constants:
            return False
        return all(a.i == 1 for a in node.attribute if a.name == "group")

    return [node.name for node in model.graph.node if is_dense(node)]


def compile_int8(path: Path, feeds: Feeds, threads: int) -> Callable[[], object]:
    """Compile a quantised graph with OpenVINO; a call that runs it once."""
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        # What is not INT8 stays fp32, as in a plan.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
    return lambda: request.infer(feeds, share_inputs=True, share_outputs=True)


def measure(subjects: list[Candidate], iterations: int) -> dict[tuple[str, str], list[float]]:
    """Return milliseconds of each graph of each candidate in interleaved rounds."""
    times: dict[tuple[str, str], list[float]] = {}
    for number in range(WARMUP + iterations):
        # To and fro, so that none always comes after the same other.
        for subject in subjects[:: 1 if number % 2 else -1]:
            for graph, run in subject.runs.items():
                start = time.perf_counter()
                run()
                spent = 1e3 * (time.perf_counter() - start)
                if number >= WARMUP:
                    times.setdefault((subject.name, graph), []).append(spent)
    return times


def markdown(
    subjects: list[Candidate],
    times: dict[tuple[str, str], list[float]],
    options: argparse.Namespace,
    command: str,
) -> str:
    """Return the page with the table."""
    rows = []
    for subject in subjects:
        medians = {graph: statistics.median(times[subject.name, graph]) for graph in subject.runs}
        fastest = sum(min(times[subject.name, graph]) for graph in subject.runs)
        decode = f"{medians['decode']:.1f}" if "decode" in medians else ""
        rows.append(
            f"| {subject.name} | {_dimensions(subject.config)} | {subject.gmacs:.2f} "
            f"| {subject.parameters / 1e6:.2f} | {subject.quantised} | {medians['vision']:.1f} "
            f"| {decode} | {sum(medians.values()):.1f} | {fastest:.1f} |"
        )
    machine = "  \n".join(machine_summary(describe_machine(LIBRARIES_USED)).splitlines())
    return f"""# Choice of the compact model's size

How wide and deep the compact model is was decided by time, before training: randomly initialised
candidates, each different from the default in one respect, in INT8 at {SIZE[0]}x{SIZE[1]} on
{options.threads} threads. The aim was {TARGET_MS:g} ms a frame, about {TARGET_GMACS:g} GMAC;
{CEILING_GMACS:g} GMAC was the limit.

- Graphs: vision and decode, as a plan holds them; masks and post-processing depend on what is found
  and are not in these times.
- INT8: symmetric QDQ, weights per output channel, activations per tensor, biases fp32. Dense
  convolutions and products with constant weights are quantised; depthwise convolutions, softmax and
  products of two activations are not.
- Runtime: OpenVINO, everything else pinned to fp32; {options.iterations} interleaved rounds.
- *Size* is pixel decoder width / mask channels / decoder width x layers, decoder heads, queries.
  MAC and parameters are those of the graphs and of the model, without the text encoder.

{machine}

```
{command}
```

| candidate | size | GMAC | M parameters | INT8 nodes | vision ms | decode ms | sum ms | least ms |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
{chr(10).join(rows)}

Times are medians of single calls; *least* is the sum of each graph's fastest call, which other load
on the machine disturbs least.
"""


def _dimensions(config: ModelConfig | None) -> str:
    if config is None:
        return ""
    pixel, decoder = config.pixel_decoder, config.decoder
    return (
        f"{pixel.dim} / {pixel.mask_dim} / {decoder.hidden_dim} x {decoder.layers}, "
        f"{decoder.heads} heads, {decoder.num_queries} queries"
    )


def main() -> int:
    """Read the command line, measure, write the page."""
    configurations = candidates()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--iterations", type=positive, default=40, help="default: %(default)s")
    parser.add_argument("--threads", type=positive, default=2, help="default: %(default)s")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(configurations),
        metavar="NAME",
        help=", ".join(configurations),
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("docs/candidates.md"), help="default: %(default)s"
    )
    options = parser.parse_args()
    ort.set_default_logger_severity(3)
    logging.getLogger().setLevel(logging.ERROR)
    subjects = []
    with tempfile.TemporaryDirectory(prefix="xdecoder-rt-") as folder:
        names = options.only or list(configurations)
        for name in names:
            print(f"Building: {name}", file=sys.stderr, flush=True)
            subjects.append(build(name, configurations[name], options.threads, Path(folder)))
        print(f"Building: {BACKBONE}", file=sys.stderr, flush=True)
        subjects.append(build_backbone(configurations[names[0]], options.threads, Path(folder)))
        print(f"Measuring {options.iterations} rounds", file=sys.stderr, flush=True)
        times = measure(subjects, options.iterations)
    command = shlex.join(["python", "benchmarks/studies/candidates.py", *sys.argv[1:]])
    page = markdown(subjects, times, options, command)
    with atomic_writer(options.output) as file:
        file.write(page.encode())
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
