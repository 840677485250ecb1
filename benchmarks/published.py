"""Times a plan of the published size, fp32 and INT8, against eager PyTorch with the same weights.

    python benchmarks/published.py --draw focal.safetensors
    xdecoder-rt build --checkpoint focal.safetensors -o focal.plan
    xdecoder-rt build --plan focal.plan --precision int8 --calibration IMAGES -o focal-int8.plan
    python benchmarks/published.py --checkpoint focal.safetensors --fp32 focal.plan \
        --int8 focal-int8.plan [--rounds 10] [--threads 2]
    python benchmarks/published.py --table tiny large --calibration IMAGES \
        -o benchmarks/results/published.json

The last stands alone: a table of file, build, memory and time of both published models at an input
of each preset, printed anew after every row. Rows of a file stay that are not measured again.

The network is X-Decoder Focal-T at its full size with random weights: its time is that of the
trained one, its answers mean nothing. They are drawn so that queries stay apart and many of them
are kept, and the thresholds, which are part of the checkpoint, let their masks become segments.
What *eager* is says benchmarks/eager.py; everyone takes turns in one run. The INT8 plan runs on
OpenVINO, graphs that it refuses on ONNX Runtime (they are named), and on ONNX Runtime alone.

Exit code 1 when an fp32 engine's panoptic ids are not eager PyTorch's on at least 99.9 % of the
pixels, or when fewer than ten segments were found. INT8 is reported, not judged.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from eager import EXAMPLE, FORMATS, STUFF, WORDS, EagerPath, EnginePath, compare, failures, markdown
from published_table import MODELS, PRESETS, Row, Table, measure_model
from torch import Tensor

from xdecoder_rt import Engine
from xdecoder_rt.backends.fallback import OpenVINOFirst
from xdecoder_rt.cli.machine import LIBRARIES, describe_machine
from xdecoder_rt.cli.options import positive
from xdecoder_rt.errors import ArgumentError, XDecoderError
from xdecoder_rt.evaluation.divergence import cosine
from xdecoder_rt.export.costs import weights_digest
from xdecoder_rt.image import load_image
from xdecoder_rt.models import XDecoder, load_checkpoint, published_config
from xdecoder_rt.models.checkpoint import save_checkpoint
from xdecoder_rt.models.config import PostprocessConfig

SIZE = (512, 512)
LEAST_SEGMENTS = 10
# Random masks overlap far more than trained ones do.
THRESHOLDS = PostprocessConfig(object_mask_threshold=0.5, overlap_threshold=0.02)
LOGIT_SCALE = math.log(200.0)
# Random attention makes all queries alike, layer by layer, and all texts: in the decoder it adds
# little to what a query is, in the text encoder much to the end token, which all texts share.
DECODER_GAIN, TEXT_GAIN = 0.1, 3.0
# Parameters that stand right of a product: [in, out], unlike layers' weights.
RIGHT = ("class_embed", "caption_embed", "backbone_proj", "lang_proj")
UNIT = ("query_feat", "query_embed", "level_embed", "caption_position", "token_embedding.weight")


def draw(path: Path, seed: int, size: str = "tiny") -> None:
    """Write a checkpoint of a published size, ``tiny`` or ``large``, with random weights."""
    with torch.device("meta"):
        model = XDecoder(replace(published_config(size), postprocess=THRESHOLDS))
    model = model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        value.copy_(_random_value(name, torch.randn(value.shape, generator=generator)))
    save_checkpoint(path, model)


def _random_value(name: str, noise: Tensor) -> Tensor:
    """A parameter from unit noise of its shape."""
    leaf = name.rpartition(".")[2]
    if leaf == "logit_scale":
        return torch.full_like(noise, LOGIT_SCALE)
    if leaf.startswith("gamma_"):  # layer scale: large enough for every branch to count
        return 0.5 + 0.1 * noise
    if name.endswith(UNIT):
        return noise
    if leaf == "positional_embedding":
        return 0.1 * noise
    if noise.ndim == 1:
        is_norm_weight = leaf == "weight" and ("norm" in name or ".ln_" in name)
        return is_norm_weight + 0.1 * noise
    fan_in = noise.shape[0] if leaf in RIGHT else math.prod(noise.shape[1:])
    gain = 1.0
    if name.startswith("decoder.") and ("attn.out_proj" in name or "linear2" in name):
        gain = DECODER_GAIN
    elif name.startswith("text_encoder.") and ".attn." in name:
        gain = TEXT_GAIN
    return gain * noise / math.sqrt(fan_in)


def mask_logits(engine: Engine, image: np.ndarray) -> np.ndarray:
    """Of every latent query: ``[Q, H/4 * W/4]``."""
    state = engine.decode(image)
    assert state.latents is not None  # decode left them
    mask_map = engine.backend.to_numpy(state.values["mask_map"])[0]
    product: np.ndarray = state.latents.mask_embedding @ mask_map.reshape(-1, mask_map.shape[-1]).T
    return product


def words_of(engine: Engine, image: np.ndarray) -> np.ndarray:
    """Return the word of every pixel, -1 for none: ids shift with the number of segments."""
    segmentation = engine.segment(image, WORDS, stuff=STUFF)
    labels = np.full(segmentation.segmentation.max() + 1, -1, np.int32)
    for segment in segmentation.segments_info:
        labels[segment["id"]] = segment["label_id"]
    words: np.ndarray = labels[segmentation.segmentation]
    return words


def run(options: argparse.Namespace) -> int:
    """Measure, print and judge; return the exit code."""
    torch.set_num_threads(options.threads)
    model = load_checkpoint(options.checkpoint).requires_grad_(False)
    digest, threads = weights_digest(model), options.threads
    plans: list[tuple[Path, str, str | OpenVINOFirst]] = [
        (options.fp32, "fp32", "onnxruntime"),
        (options.fp32, "fp32", "openvino"),
    ]
    if options.int8:
        plans += [(options.int8, "int8", OpenVINOFirst(threads, "int8"))]
        plans += [(options.int8, "int8", "onnxruntime")]
    with ExitStack() as stack:
        # What one engine of a plan embeds serves the other: texts are kept by text graph.
        cache = stack.enter_context(tempfile.TemporaryDirectory(prefix="xdecoder-rt-"))
        engines = []
        for path, precision, backend in plans:
            engine = Engine(path, backend=backend, threads=threads, cache_dir=cache)
            engines.append(stack.enter_context(engine))
            manifest = engine.manifest
            if manifest.precision != precision or manifest.model.weights_sha256 != digest:
                raise ArgumentError(
                    f"{path} does not hold the weights of {options.checkpoint} in {precision}",
                    expected="a portable plan that was built from this checkpoint",
                    fix="build it as this command's --help says",
                )
        eager: list[EagerPath] = []
        for memory_format in FORMATS:
            table = eager[0].table if eager else None
            eager.append(EagerPath(model, engines[0].manifest, memory_format, table))
        pixels = load_image(options.image)
        ours = [EnginePath(engine) for engine in engines]
        case = compare([*ours, *eager], pixels, SIZE, options.rounds)
        frame = pixels[: SIZE[0], : SIZE[1]]
        logits = [mask_logits(engine, frame) for engine in engines]
        words = [words_of(engine, frame) for engine in engines]
        refused = [
            name
            for engine in engines
            if isinstance(engine.backend, OpenVINOFirst)
            for name in engine.backend.refused
        ]
    print(
        markdown(
            {
                "model": engines[0].manifest.model.name,
                "words": len(WORDS),
                "threads": threads,
                "iterations": options.rounds,
                "machine": describe_machine((*LIBRARIES, "torch")),
                "cases": [case],
            }
        )
    )
    print(f"\n{case['segments']} segments; times faster is against {case['eager']}.")
    for path, own_logits, own_words in zip(ours, logits, words, strict=True):
        print(
            f"{path.name}: mask logits' cosine with fp32's {cosine(own_logits, logits[0]):.6f}, "
            f"same word on {100 * (own_words == words[0]).mean():.3f} % of the pixels"
        )
    if options.int8:
        print(f"INT8 graphs that OpenVINO left to ONNX Runtime: {', '.join(refused) or 'none'}")
    judged = {name: row for name, row in case["subjects"].items() if "int8" not in name}
    complaints = failures({"cases": [{**case, "subjects": judged}]})
    if case["segments"] < LEAST_SEGMENTS:
        complaints.append(f"{case['segments']} segments were found, expected {LEAST_SEGMENTS}")
    for failure in complaints:
        print(f"error: {failure}", file=sys.stderr)
    return int(bool(complaints))


def write_table(options: argparse.Namespace) -> None:
    """Measure the published sizes, and print the table anew after every row."""
    table = Table.begin(options.output, options.rounds, options.threads)

    def done(row: Row) -> None:
        table.add(row)
        print(table.markdown(), flush=True)
        if options.output:
            table.write(options.output)

    with tempfile.TemporaryDirectory(prefix="xdecoder-rt-") as folder:
        for model in options.table:
            checkpoint = Path(folder, f"{model}.safetensors")
            draw(checkpoint, options.seed, model)
            measure_model(model, checkpoint, options.presets, options.calibration, table, done)


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draw", type=Path, metavar="FILE", help="write the weights and stop")
    parser.add_argument(
        "--model", choices=MODELS, default="tiny", help="what --draw draws (default: %(default)s)"
    )
    parser.add_argument("--table", choices=MODELS, nargs="+", help="write the table of these")
    parser.add_argument(
        "--presets", choices=PRESETS, nargs="+", default=list(PRESETS), help="of the table"
    )
    parser.add_argument(
        "--calibration", type=Path, metavar="IMAGES", help="for INT8 in the table; left out without"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="JSON", help="of the table")
    parser.add_argument("--seed", type=int, default=0, help="of the weights (default: %(default)s)")
    parser.add_argument("--checkpoint", type=Path, help="what --draw wrote")
    parser.add_argument("--fp32", type=Path, metavar="PLAN")
    parser.add_argument("--int8", type=Path, metavar="PLAN")
    parser.add_argument("--image", default=str(EXAMPLE), help="default: %(default)s")
    parser.add_argument("--rounds", type=positive, default=10, help="default: %(default)s")
    parser.add_argument("--threads", type=positive, default=2, help="default: %(default)s")
    options = parser.parse_args()
    if not options.draw and not options.table and not (options.checkpoint and options.fp32):
        parser.error("give --draw, --table, or --checkpoint and --fp32")
    try:
        if options.draw:
            draw(options.draw, options.seed, options.model)
            return 0
        if options.table:
            write_table(options)
            return 0
        return run(options)
    except XDecoderError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
