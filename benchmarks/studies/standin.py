"""A small model of the published family that has learnt something, for tests and for INT8.

    python benchmarks/studies/standin.py compose -o standin.safetensors
    python benchmarks/studies/standin.py words data/workcell_val data/few_val
    python benchmarks/studies/standin.py train data/workcell=4 data/bank -o runs/standin

A FocalNet, a pixel decoder with group normalisation and a mask convolution, nine decoder layers
and a class token with a mask, as published, stand in front of what the starter has learnt: its
text encoder, its decoder's matrices (layers 7 to 9 begin as 4 to 6) and those of its pixel decoder
after the lateral convolutions. These stay as they are, so that `OWN` holds the rest alone.

Training has two parts. In the first the new backbone learns to give the starter's features of the
same image, after every lateral convolution, at every level and in the mask features: an error for
each pixel, where labels give one for each segment. The second is the trainer's own objective, on
names and phrases, for all that is not the starter's. Minutes are of processor time on one core, so
that a busy machine gives the same model later.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from xdecoder_rt.datasets.labelled_folder import LabelledFolder, LabelledFolderWriter
from xdecoder_rt.export.options import BuildOptions
from xdecoder_rt.export.pipeline import build
from xdecoder_rt.models import XDecoder, load_checkpoint, save_checkpoint
from xdecoder_rt.models.checkpoint import read_tensors
from xdecoder_rt.models.config import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    BackboneConfig,
    ModelConfig,
    PostprocessConfig,
)
from xdecoder_rt.models.pixel_decoder import GROUPS

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "export" / "starter" / "starter.safetensors"
OWN = ROOT / "tests" / "data" / "focal_standin" / "weights.safetensors"
SIZE = (192, 192)
SCENES, SEED_OF_TESTS = 24, 77
WORDS = ("floor", "wall", "table", "robot arm")
"""What it has learnt to name; smaller things it does not."""
TASKS = ("segment", "refer")
LAYERS = (0, 1, 2, 3, 4, 5, 3, 4, 5)
"""The starter's decoder layer that each of the stand-in's begins as."""
THRESHOLDS = PostprocessConfig(object_mask_threshold=0.1, overlap_threshold=0.5, void_offset=1.0)
# Errors of features, in units of their variance.
FEATURES = {"lateral": 0.5, "input": 0.5, "level": 1.5, "mask": 2.0}
_NEW = r"backbone\.|pixel_decoder\.(lateral|input_proj|mask_conv)\.|pixel_decoder\.\w+.*\.norm\."
_EMBEDDINGS = ("query_feat", "query_embed", "level_embed", "class_embed")


def standin_config(starter: ModelConfig) -> ModelConfig:
    """Return the stand-in's sizes and rules: the published ones around the starter's widths."""
    return replace(
        starter,
        name="xdecoder-focal-standin",
        family="published",
        backbone=BackboneConfig(kind="focal_dw", embed_dim=24, depths=(2, 2, 4, 2), mlp_ratio=2.0),
        pixel_decoder=replace(starter.pixel_decoder, norm="group", mask_kernel=3),
        decoder=replace(starter.decoder, layers=len(LAYERS), class_token_is_mask=True),
        postprocess=THRESHOLDS,
        pixel_mean=IMAGENET_MEAN,
        pixel_std=IMAGENET_STD,
        templates=starter.templates,
        caption_stops=(".",),
        repetition_penalty=1.0,
        caption_beams=1,
        answers=(),
        tasks=TASKS,
    )


def starter_name(name: str) -> str:
    """Return the starter's name of the tensor that the stand-in's begins as."""
    layer = re.fullmatch(r"(decoder\.(?:cross|self_attention|ffn)\.)(\d+)(\..*)", name)
    return f"{layer[1]}{LAYERS[int(layer[2])]}{layer[3]}" if layer else name


def is_own(name: str, value: Tensor) -> bool:
    """Whether a tensor is trained, and not the starter's: new modules, vectors and queries."""
    if re.match(_NEW, name):
        return True
    if name.startswith(("pixel_decoder.", "decoder.")):
        return value.ndim < 2 or name.removeprefix("decoder.") in _EMBEDDINGS
    return name == "text_encoder.logit_scale"


def compose(own: Path, starter: Path = STARTER) -> XDecoder:
    """Put the stand-in together from its own tensors and the starter's."""
    tensors, header = read_tensors(own)
    model = XDecoder(ModelConfig.from_json(header["config"]))
    shared, _ = read_tensors(starter)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name == "backbone_proj":  # of retrieval, which it has not learnt
                value.zero_()
            else:
                value.copy_(tensors[name] if is_own(name, value) else shared[starter_name(name)])
    return model.eval()


def build_plan(folder: Path, own: Path = OWN, starter: Path = STARTER) -> None:
    """Write ``standin.plan``, the stand-in's portable plan for inputs of `SIZE`."""
    save_checkpoint(folder / "standin.safetensors", compose(own, starter))
    build(folder / "standin.safetensors", folder / "standin.plan", BuildOptions(sizes=[SIZE]))


def draw_scenes(folder: Path) -> None:
    """Write ``scenes``: rendered scenes of a seed that no training takes, labelled by `WORDS`."""
    from xdecoder_rt.scenes import generate

    drawn = folder / "drawn"
    generate("workcell", drawn, SCENES, split="val", seed=SEED_OF_TESTS, size=SIZE, workers=1)
    keep_words(drawn, folder / "scenes")
    shutil.rmtree(drawn)


def keep_words(source: Path, target: Path, words: Sequence[str] = WORDS) -> None:
    """Write a labelled folder anew with some words alone: the rest of the pixels is unlabelled."""
    folder = LabelledFolder.open(source)
    stuff = [word for word in words if word in folder.stuff]
    with LabelledFolderWriter(target, words, stuff) as writer:
        for item in folder.items:
            kept = {s.id: s.label for s in item.segments if s.label in words}
            ids = item.load_panoptic()
            phrases = [phrase for phrase in item.phrases if set(phrase.ids) <= set(kept)]
            ids = np.where(np.isin(ids, list(kept)), ids, 0)
            writer.add(item.image, ids, kept, phrases=phrases)


def save_own(path: Path, model: XDecoder) -> None:
    """Write what is not the starter's, as :func:`compose` reads it: matrices in fp16."""
    from safetensors.torch import save_file

    tensors = {
        name: value.detach().to(torch.float16 if value.ndim >= 2 else torch.float32).contiguous()
        for name, value in model.state_dict().items()
        if is_own(name, value)
    }
    save_file(tensors, path, metadata={"config": model.config.to_json()})


class Average:
    """A moving average of the tensors in training, which are swapped for it while it is saved."""

    def __init__(self, model: XDecoder, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.tensors = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.values = {name: value.detach().clone() for name, value in self.tensors.items()}

    @torch.no_grad()
    def update(self) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, value in self.tensors.items():
            self.values[name].lerp_(value, 1 - decay)

    @torch.no_grad()
    def apply(self) -> None:
        for name, value in self.tensors.items():
            value.copy_(self.values[name])


def begin(starter: XDecoder) -> XDecoder:
    """Return the stand-in before training: the starter's matrices behind a random backbone."""
    model = XDecoder(standin_config(starter.config))
    shared = starter.state_dict()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if not re.match(_NEW, name) and name != "backbone_proj":
                value.copy_(shared[starter_name(name)])
        model.backbone_proj.zero_()
        convolution = model.pixel_decoder.mask_conv
        nn.init.dirac_(convolution.weight)
        nn.init.zeros_(convolution.bias)
        for name, value in model.named_parameters():
            if "gamma_" in name:  # layer scales; from 1e-4 they would cost a fifth of the run
                value.fill_(0.5)
    return model


def features(model: XDecoder, images: Tensor) -> dict[str, Tensor]:
    """Return a pixel decoder's maps: after every lateral, at every level, and of masks."""
    decoder = model.pixel_decoder
    modules = {f"lateral{i}": module for i, module in enumerate(decoder.lateral)}
    found: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(lambda *call, name=name: found.update({name: call[2]}))
        for name, module in (modules | {"input": decoder.input_proj}).items()
    ]
    pixels = decoder(model.backbone(images))
    for handle in handles:
        handle.remove()
    found.update({f"level{i}": level for i, level in enumerate(pixels.levels)})
    return found | {"mask": decoder.mask_features(pixels.mask_map)}


def moments(maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return each channel's mean and variance over some batches of maps."""
    mean = torch.stack([m.mean(dim=(0, 2, 3)) for m in maps]).mean(dim=0)
    square = torch.stack([m.square().mean(dim=(0, 2, 3)) for m in maps]).mean(dim=0)
    return mean, (square - mean.square()).clamp(min=1e-6)


@torch.no_grad()
def calibrate(model: XDecoder, starter: XDecoder, images: Sequence[Tensor]) -> dict[str, Tensor]:
    """Let group normalisation give, on the average image, what the starter's batch norm gives.

    Returns:
        The variance of each channel of the starter's features.
    """
    blocks = {f"output.{i}": block for i, block in enumerate(starter.pixel_decoder.output)}
    blocks |= {f"lateral.{i}": block for i, block in enumerate(starter.pixel_decoder.lateral)}
    blocks["narrow"] = starter.pixel_decoder.narrow
    maps: dict[tuple[str, str], list[Tensor]] = {}
    handles = [
        getattr(block, part).register_forward_hook(
            lambda *call, key=(name, part): maps.setdefault(key, []).append(call[2])
        )
        for name, block in blocks.items()
        for part in ("conv", "norm")
    ]
    wanted = [features(starter, batch) for batch in images]
    for handle in handles:
        handle.remove()
    for name, block in blocks.items():
        norm = model.pixel_decoder.get_submodule(name).norm
        if name.startswith("lateral"):
            mean, variance = moments(maps[name, "norm"])
            norm.weight.copy_(variance.sqrt())
            norm.bias.copy_(mean)
            continue
        mean, variance = moments(maps[name, "conv"])
        square = (variance + mean.square()).view(GROUPS, -1).mean(dim=1)
        mean = mean.view(GROUPS, -1).mean(dim=1)
        deviation = (square - mean.square()).sqrt().repeat_interleave(len(norm.weight) // GROUPS)
        mean = mean.repeat_interleave(len(norm.weight) // GROUPS)
        batch = block.norm
        scale = batch.weight / (batch.running_var + batch.eps).sqrt()
        norm.weight.copy_(scale * deviation)
        norm.bias.copy_(batch.bias - scale * batch.running_mean + scale * mean)
    return {name: moments([w[name] for w in wanted])[1].clamp(min=1e-4) for name in wanted[0]}


class Schedule:
    """Rates of a run that lasts some minutes of processor time: warm-up, then half a cosine."""

    def __init__(self, minutes: float, warm_up: int) -> None:
        self.seconds, self.warm_up = 60 * minutes, warm_up
        self.start, self.steps = time.process_time(), 0

    def factor(self) -> float | None:
        """Return the factor on the peak rate of the next step; None where time is up."""
        share = (time.process_time() - self.start) / self.seconds
        self.steps += 1
        if share >= 1:
            return None
        cosine = (1 + math.cos(math.pi * share)) / 2
        return min(1.0, self.steps / self.warm_up) * (0.98 * cosine + 0.02)


def optimizer(tensors: Iterator[tuple[Tensor, float]] | Sequence[tuple[Tensor, float]]):
    """Return AdamW over tensors at peak rates of their own; vectors do not decay."""
    return torch.optim.AdamW(
        [
            {"params": [tensor], "lr": lr, "peak": lr, "weight_decay": 0.02 * (tensor.ndim > 1)}
            for tensor, lr in tensors
        ],
        fused=True,
    )


def learn(model, average, schedule, rates, clip, loss_of, log) -> None:
    """Take steps until the schedule ends; the model is then the average of its weights."""
    optimiser = optimizer(rates)
    recent: list[dict[str, float]] = []
    while (factor := schedule.factor()) is not None:
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * factor
        losses = loss_of()
        optimiser.zero_grad(set_to_none=True)
        losses["total"].backward()
        nn.utils.clip_grad_norm_([tensor for tensor, _ in rates], clip)
        optimiser.step()
        average.update()
        recent.append({name: float(value.detach()) for name, value in losses.items()})
        if len(recent) == 20:
            means = {name: sum(r[name] for r in recent) / len(recent) for name in recent[0]}
            log.write(json.dumps({"step": schedule.steps, **means}) + "\n")
            log.flush()
            recent.clear()
    average.apply()


def learn_features(model: XDecoder, starter: XDecoder, args: argparse.Namespace, log) -> None:
    """Teach backbone and pixel decoder the starter's features of the same images."""
    from xdecoder_rt.training.config import SourceSpec
    from xdecoder_rt.training.dataset import TrainingSet, collate
    from xdecoder_rt.training.sampler import SampleOrder
    from xdecoder_rt.training.sources import open_dataset

    specs = [SourceSpec.parse(text) for text in args.data]
    sources = [open_dataset(spec.path) for spec in specs]
    lengths = [len(source.items) for source in sources]
    order = SampleOrder(lengths, [spec.weight for spec in specs], args.seed)
    examples = TrainingSet(sources, args.feature_size, 1, args.seed, ("segment",))
    keys = order.batches(0, 4, 0, 1)

    def pair() -> tuple[Tensor, Tensor]:
        batch = collate([examples[key] for key in next(keys)])
        configs = starter.config, model.config
        seen, given = (batch.normalised_images(c.pixel_mean, c.pixel_std) for c in configs)
        return seen, given

    variance = calibrate(model, starter, [pair()[0] for _ in range(12)])
    for name, value in model.named_parameters():
        is_vector = name.startswith("pixel_decoder.") and value.ndim < 2
        value.requires_grad_(bool(re.match(_NEW, name)) or is_vector)

    def losses() -> dict[str, Tensor]:
        seen, given = pair()
        with torch.no_grad():
            wanted = features(starter, seen)
        errors = {
            name: ((value - wanted[name]).square().mean(dim=(0, 2, 3)) / variance[name]).mean()
            for name, value in features(model, given).items()
        }
        total = sum(FEATURES[name.rstrip("0123456789")] * error for name, error in errors.items())
        return {"total": total, **errors}

    average = Average(model, 0.995)
    rates = [(tensor, args.lr) for tensor in average.tensors.values()]
    learn(model, average, Schedule(args.feature_minutes, 60), rates, 3.0, losses, log)


def learn_scenes(model: XDecoder, args: argparse.Namespace, log) -> None:
    """Teach names and phrases of scenes to all that is not the starter's."""
    from xdecoder_rt.training.answers import AnswerSampler
    from xdecoder_rt.training.config import SourceSpec
    from xdecoder_rt.training.dataset import TrainingSet
    from xdecoder_rt.training.loader import load_steps
    from xdecoder_rt.training.losses import candidate_points
    from xdecoder_rt.training.objective import Objective, ObjectiveSettings
    from xdecoder_rt.training.sampler import SampleOrder
    from xdecoder_rt.training.sources import open_dataset
    from xdecoder_rt.training.step import StepMaker
    from xdecoder_rt.training.step_text import StepWriter
    from xdecoder_rt.training.vocabulary import VocabularySampler
    from xdecoder_rt.words.templates import TEMPLATES
    from xdecoder_rt.words.tokenizer import ClipTokenizer

    config, seed = model.config, args.seed + 1
    specs = [SourceSpec.parse(text) for text in args.data]
    sources = [open_dataset(spec.path) for spec in specs]
    lengths = [len(source.items) for source in sources]
    order = SampleOrder(lengths, [spec.weight for spec in specs], seed)
    examples = TrainingSet(sources, args.scene_size, candidate_points(320), seed, TASKS)
    maker = StepMaker(
        VocabularySampler([s.vocabulary for s in sources], 120, seed, TEMPLATES[config.templates]),
        AnswerSampler((), 1, seed),
        StepWriter(ClipTokenizer.default(config.context_length), config.num_queries, TASKS, 1),
        None,
    )
    steps = load_steps(examples, maker, order.batches(0, 6, 0, 1), 0)
    objective = Objective(model, ObjectiveSettings(points=320, matching_points=512))
    for name, value in model.named_parameters():
        value.requires_grad_(is_own(name, value))

    def losses() -> dict[str, Tensor]:
        found = objective(next(steps))
        return {**found, "total": found["total"] / (len(LAYERS) + 1)}

    average = Average(model, 0.985)
    rates = [
        (tensor, args.scene_lr * (1.0 if re.match(_NEW, name) else 0.3))
        for name, tensor in average.tensors.items()
    ]
    learn(model, average, Schedule(args.scene_minutes, 30), rates, 2.0, losses, log)


def train(args: argparse.Namespace) -> None:
    """Train the stand-in, and write it whole and its own tensors alone."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    args.output.mkdir(parents=True, exist_ok=True)
    starter = load_checkpoint(STARTER)
    model = begin(starter)
    with (args.output / "metrics.jsonl").open("w") as log:
        learn_features(model.train(), starter, args, log)
        save_checkpoint(args.output / "features.safetensors", model)
        learn_scenes(model, args, log)
    save_checkpoint(args.output / "model.safetensors", model)
    save_own(args.output / "weights.safetensors", model)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    whole = commands.add_parser("compose", help="write the whole checkpoint")
    whole.add_argument("-o", "--output", type=Path, required=True)
    whole.add_argument("--own", type=Path, default=OWN, help="its own tensors")
    few = commands.add_parser("words", help="write a labelled folder anew with its words alone")
    few.add_argument("source", type=Path)
    few.add_argument("target", type=Path)
    run = commands.add_parser("train", help="make it anew")
    run.add_argument("data", nargs="+", help="as `xdecoder-rt train` takes them")
    run.add_argument("-o", "--output", type=Path, default=Path("runs/standin"))
    run.add_argument("--feature-minutes", type=float, default=11.0, help="default: %(default)s")
    run.add_argument("--scene-minutes", type=float, default=8.0, help="default: %(default)s")
    run.add_argument("--feature-size", type=int, default=256, help="default: %(default)s")
    run.add_argument("--scene-size", type=int, default=SIZE[0], help="default: %(default)s")
    run.add_argument("--lr", type=float, default=1.5e-3, help="default: %(default)s")
    run.add_argument("--scene-lr", type=float, default=8e-4, help="default: %(default)s")
    run.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.command == "compose":
        save_checkpoint(args.output, compose(args.own))
    elif args.command == "words":
        keep_words(args.source, args.target)
    else:
        train(args)


if __name__ == "__main__":
    main()
