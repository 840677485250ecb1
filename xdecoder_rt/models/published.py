"""The published X-Decoder checkpoints, mapped onto our modules name by name.

Names are those of the original's v2.0 branch (``xdecoder_focalt_last.pt`` and
``xdecoder_focall_last.pt``): a flat mapping from name to tensor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from xdecoder_rt.errors import CheckpointError, warn_caller
from xdecoder_rt.models.checkpoint import (
    differences,
    file_label,
    first_of,
    load_exactly,
    meta_model,
)
from xdecoder_rt.models.config import ModelConfig
from xdecoder_rt.models.published_family import (
    PIXEL,
    PREDICTOR,
    PUBLISHED_HEADS,
    TEXT,
    is_xdecoder,
    other_network,
    read_config,
    tensors_of_task,
)
from xdecoder_rt.models.weights_file import WeightsFile, open_weights
from xdecoder_rt.models.xdecoder import XDecoder
from xdecoder_rt.tasks import TASKS

# In the file, but nothing of the network: a training weight, and a mask that the shape determines.
IGNORED = ("criterion.empty_weight", "sem_seg_head.predictor.self_attn_mask")

# Beginnings of names of what a training keeps and no network reads.
_OF_TRAINING = (
    r"criterion\.|sem_seg_head\.predictor\.self_attn_mask$|pixel_(mean|std)$"
    r"|.*\.num_batches_tracked$"
)
_PUBLISHED_WIDTH = 512
# Modules whose children are branches of their own; the innermost first.
_CONTAINERS = (TEXT, PREDICTOR, "sem_seg_head.", "")
# Our names to theirs; the first rule that matches the beginning of a name is taken.
_RULES: tuple[tuple[str, str], ...] = (
    (r"backbone", "backbone"),
    (r"pixel_decoder\.encoder\.", PIXEL + "transformer.encoder.layers."),
    (r"pixel_decoder\.mask_conv\.", PIXEL + "mask_features."),
    (r"pixel_decoder\.input_proj\.", PIXEL + "input_proj."),
    (r"decoder\.self_attention\.(\d+)\.attn\.",
     PREDICTOR + r"transformer_self_attention_layers.\1.self_attn."),
    (r"decoder\.self_attention\.", PREDICTOR + "transformer_self_attention_layers."),
    (r"decoder\.cross\.(\d+)\.attn\.",
     PREDICTOR + r"transformer_cross_attention_layers.\1.multihead_attn."),
    (r"decoder\.cross\.", PREDICTOR + "transformer_cross_attention_layers."),
    (r"decoder\.ffn\.", PREDICTOR + "transformer_ffn_layers."),
    (r"decoder\.(query_feat|query_embed|level_embed)$", PREDICTOR + r"\1.weight"),
    (r"decoder\.caption_position$", PREDICTOR + "pos_embed_caping.weight"),
    (r"decoder\.caption_embed$", PREDICTOR + "caping_embed"),
    (r"decoder\.mask_embed\.", PREDICTOR + "mask_embed.layers."),
    (r"decoder\.", PREDICTOR),
    (r"text_encoder\.(lang_proj|logit_scale)$", TEXT + r"\1"),
    (r"text_encoder\.blocks\.(\d+)\.(c_fc|c_proj)\.",
     TEXT + r"lang_encoder.resblocks.\1.mlp.\2."),
    (r"text_encoder\.blocks\.", TEXT + "lang_encoder.resblocks."),
    (r"text_encoder\.", TEXT + "lang_encoder."),
)  # fmt: skip


def published_name(name: str) -> str:
    """Return the original's name of the tensor that our model calls ``name``."""
    convolution = re.fullmatch(r"pixel_decoder\.(lateral|output)\.(\d)\.(conv|norm)\.(\w+)", name)
    if convolution:
        block, level, part, leaf = convolution.groups()
        kind = "adapter" if block == "lateral" else "layer"
        return f"{PIXEL}{kind}_{int(level) + 1}.{'norm.' if part == 'norm' else ''}{leaf}"
    for pattern, replacement in _RULES:
        renamed, count = re.subn("^" + pattern, replacement, name)
        if count:
            return renamed
    return name


def load_published(
    path: str | Path, config: ModelConfig | None = None, tasks: Sequence[str] | None = None
) -> XDecoder:
    """Load a published checkpoint into our model (fp32, eval mode).

    Args:
        path: the original ``.pt`` (read without running any pickled code) or safetensors, alone or
            inside what a training keeps around it.
        config: the network's sizes; by default the file's own, as its tensors tell them.
        tasks: what is asked of the model; None for what the file is trained for.

    Warns:
        RuntimeWarning: tensors outside the network were left out; tasks were left out because the
            file has no weights for them; or the file does not tell its number of heads.

    Raises:
        CheckpointError: the file is missing or broken, is of another network, or lacks tensors of a
            task that is asked for, or has them in other shapes, or has more of the network than
            ours has; the first of them are named as the file names them.
    """
    path = Path(path)
    examination = examine(path, open_weights(path), config)
    if tasks is None:
        tasks = examination.config.tasks if config is not None else examination.tasks
    examination.check(tasks)
    for remark in examination.remarks(tasks):
        warn_caller(remark)
    sizes = replace(examination.config, tasks=tuple(t for t in TASKS if t in tasks))
    # Every number comes from the file: drawing random ones first would take longer than reading.
    model = meta_model(sizes).to_empty(device="cpu")
    state = {published_name(name): value for name, value in model.state_dict().items()}
    with torch.no_grad():
        for name, value in state.items():
            if name in examination.weights.tensors:
                value.copy_(examination.weights.tensors[name])
            else:
                value.zero_()
            if not torch.isfinite(value).all():
                raise CheckpointError(
                    f"{examination.label}: {name} holds values that are not finite",
                    expected="finite numbers of at most 3.4e38",
                    fix="Download it again, or take an earlier checkpoint of the training",
                )
    return model.eval()


def load_backbone(backbone: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Load a backbone alone from tensors under the original's names.

    Raises:
        CheckpointError: tensors are missing, unexpected or wrong-shaped; they are named.
    """
    load_exactly(backbone, tensors, source, lambda name: published_name(f"backbone.{name}"))


@dataclass(frozen=True)
class Examination:
    """A file of tensors beside the network that its names and shapes tell.

    Attributes:
        label: the file's name in messages.
        weights: the file.
        network: what the file is of; None for X-Decoder's own network.
        config: the network's sizes.
        missing: tensors that every task needs and the file lacks.
        lost: tasks that the file is not trained for, with the tensors of theirs that it lacks.
        misshapen: tensors with another shape or kind, as sentences.
        surplus: tensors within the network's own modules that ours has no place for.
        outside: tensors outside the network.
        heads_unknown: whether the heads are the published ones for want of anything better.
    """

    label: str
    weights: WeightsFile
    network: str | None
    config: ModelConfig
    missing: tuple[str, ...]
    lost: Mapping[str, tuple[str, ...]]
    misshapen: tuple[str, ...]
    surplus: tuple[str, ...]
    outside: tuple[str, ...]
    heads_unknown: bool

    @property
    def tasks(self) -> tuple[str, ...]:
        """What the file is trained for."""
        return tuple(task for task in TASKS if task not in self.lost)

    def check(self, tasks: Sequence[str]) -> None:
        """Refuse a file that cannot do what is asked of it.

        Raises:
            CheckpointError: the first reason.
        """
        if self.network is not None:
            raise CheckpointError(
                f"{self.label} is of another network: {self.network}",
                expected="X-Decoder with a FocalNet backbone, as its authors published it",
                fix="xdecoder-rt info FILE says what is in it",
            )
        missing = list(self.missing)
        for task in tasks:
            missing += [name for name in self.lost.get(task, ()) if name not in missing]
        count = len(missing) + len(self.misshapen) + len(self.surplus)
        if not count:
            return
        if missing and not self.missing:
            needing = [task for task in tasks if task in self.lost]
            what = f"was trained without {' and '.join(needing)}: it lacks {first_of(missing)}"
            fix = f"Ask for {','.join(self.tasks)} alone (--tasks)"
        elif missing:
            what = f"does not fit the network: it lacks {len(missing)} tensors: {first_of(missing)}"
            fix = "xdecoder-rt info FILE lists more"
        elif self.misshapen:
            what = f"does not fit the network: {first_of(self.misshapen, '; ')}"
            fix = "xdecoder-rt info FILE lists more"
        else:
            what = (
                f"has {len(self.surplus)} tensors within the network that X-Decoder has no place "
                f"for: {first_of(self.surplus)}"
            )
            fix = "xdecoder-rt info FILE lists more"
        raise CheckpointError(f"{self.label} {what}", fix=fix)

    def remarks(self, tasks: Sequence[str]) -> list[str]:
        """Return what a user should know of a file that loads, a sentence each."""
        remarks = []
        if self.outside:
            is_one = len(self.outside) == 1
            count = "1 tensor" if is_one else f"{len(self.outside)} tensors"
            verb = "was" if is_one else "were"
            remarks.append(
                f"{self.label}: {count} outside the network {verb} left out: "
                + first_of(self.outside)
            )
        lost = [task for task in self.lost if task not in tasks]
        if lost and set(tasks) == set(self.tasks):
            names = [name for task in lost for name in self.lost[task]]
            remarks.append(
                f"{self.label} was trained without {' and '.join(lost)}, which the model cannot do "
                f"then: it lacks {first_of(list(dict.fromkeys(names)))}"
            )
        if self.heads_unknown:
            remarks.append(
                f"{self.label} does not tell how many attention heads it was trained with; "
                f"{PUBLISHED_HEADS} are taken, as every published file has"
            )
        return remarks


def examine(path: Path, weights: WeightsFile, config: ModelConfig | None = None) -> Examination:
    """Compare a file's tensors with the network that they tell, or with a given one.

    Args:
        path: the file's, for messages.
        weights: the file.
        config: the network's sizes; None to read them from the tensors.

    Raises:
        CheckpointError: it holds no part of X-Decoder or of a network that is known.
    """
    label = file_label(path)
    tensors = weights.tensors
    names = dict.fromkeys((*tensors, *weights.unusual))
    network = other_network(names)
    if network is None and not is_xdecoder(names):
        raise CheckpointError(
            f"{label} holds no X-Decoder but {len(names)} other tensors: {first_of(list(names))}",
            expected=f"names that begin with {PREDICTOR}",
        )
    sizes = read_config(tensors) if config is None else config
    expected: dict[str, Tensor] = {}
    if network is None:
        state = meta_model(sizes).state_dict()
        expected = {published_name(name): value for name, value in state.items()}
    by_task = {t: tuple(map(published_name, tensors_of_task(t))) for t in sizes.tasks}
    of_tasks = {name for task_names in by_task.values() for name in task_names}
    absent = [name for name in expected if name not in names and not _is_count(name)]
    lost = {
        task: tuple(name for name in task_names if name in absent)
        for task, task_names in by_task.items()
    }
    branches = set(map(_branch, expected))
    unknown: list[str] = []
    if network is None:
        unknown = [n for n in names if n not in expected and not re.match(_OF_TRAINING, n)]
    widths = (sizes.decoder.hidden_dim, sizes.pixel_decoder.dim, sizes.text.width)
    return Examination(
        label,
        weights,
        network,
        sizes,
        missing=tuple(name for name in absent if name not in of_tasks),
        lost={task: task_names for task, task_names in lost.items() if task_names},
        misshapen=tuple(_misshapen(weights, expected)),
        surplus=tuple(name for name in unknown if _branch(name) in branches),
        outside=tuple(name for name in unknown if _branch(name) not in branches),
        heads_unknown=config is None and network is None and set(widths) != {_PUBLISHED_WIDTH},
    )


def _misshapen(weights: WeightsFile, expected: Mapping[str, Tensor]) -> list[str]:
    tensors = weights.tensors
    found = [f"{n} is a {kind} tensor" for n, kind in weights.unusual.items() if n in expected]
    found += differences(expected, tensors)[2]
    return found + [
        f"{name} is of the type {str(tensors[name].dtype).removeprefix('torch.')}"
        for name, value in expected.items()
        if name in tensors and tensors[name].is_floating_point() != value.is_floating_point()
    ]


def _is_count(name: str) -> bool:
    """Return whether a tensor only counts what batch normalisation has seen."""
    return name.endswith(".num_batches_tracked")


def _branch(name: str) -> str:
    """Return which branch of the network a tensor is of.

    A new branch of the model, its head, its decoder or its text encoder is a head of its own, which
    nothing of ours reads; a new layer, or a new tensor of a layer, changes what the others compute.
    """
    container = next(prefix for prefix in _CONTAINERS if name.startswith(prefix))
    return container + name.removeprefix(container).partition(".")[0]
