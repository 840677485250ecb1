"""The arms of ``photograph_ablation.py``: what each changes of a short training of the starter."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.models.config import ModelConfig
from xdecoder_rt.scenes.bank.composed import ComposedScenes
from xdecoder_rt.scenes.bank.store import BANK_INDEX, PICTURES

START = "no training"
REFERENCE = "everything"
REPEATS = (REFERENCE, "second seed")

Index = dict[str, Any]


def larger(data: Path, _: Path) -> ComposedScenes:
    """The starter's bank with stamps, photographed grounds and furniture."""
    return ComposedScenes(data / "larger")


def starter(data: Path, _: Path) -> ComposedScenes:
    """A bank like the starter's."""
    return ComposedScenes(data / "bank")


def less(kind: str, part: str, *, of_it: bool) -> Callable[[Path, Path], ComposedScenes]:
    """The larger bank with less in it: the same pictures under a shorter index.

    Args:
        kind: which list of the index, ``cut_outs`` or ``scenes``.
        part: a bank that went into it; what both the starter's bank and it lack is the rest.
        of_it: whether the part's pictures are left out, or those of the rest.
    """

    def make(data: Path, runs: Path) -> ComposedScenes:
        whole = data / "larger"
        old, new = (pictures(data / folder, kind) for folder in ("bank", part))
        index = json.loads((whole / BANK_INDEX).read_bytes())
        left = []
        for entry, picture in zip(index[kind], pictures(whole, kind), strict=True):
            if picture in old or (picture in new) != of_it:
                left.append(entry)
        folder = runs / "banks" / f"{kind}_{'no' if of_it else 'only'}_{part}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PICTURES).unlink(missing_ok=True)
        (folder / PICTURES).symlink_to((whole / PICTURES).resolve())
        with atomic_writer(folder / BANK_INDEX) as file:
            file.write(json.dumps(index | {kind: left}).encode())
        return ComposedScenes(folder)

    return make


def pictures(folder: Path, kind: str) -> list[bytes]:
    """Return the files of a bank's pictures of a kind, in the order of its index."""
    index = json.loads((folder / BANK_INDEX).read_bytes())
    data = (folder / PICTURES).read_bytes()
    spans = [entry["picture"] for entry in index[kind]]
    return [data[offset : offset + size] for offset, size in spans]


def no_votes(config: ModelConfig) -> ModelConfig:
    """Queries with much the same mask do not add their words."""
    return replace(config, postprocess=replace(config.postprocess, votes=0.0))


def whole_size(config: ModelConfig) -> ModelConfig:
    """The classifier's trunk sees the whole image."""
    assert config.region is not None
    return replace(config, region=replace(config.region, shrink=1))


@dataclass(frozen=True)
class Arm:
    """One run.

    Attributes:
        about: what is changed, for the table.
        settings: of the trainer, in place of the recipe's.
        source: what it learns from; None for no training.
        regions: what is changed of a model with ImageNet's classifier of regions; None for one
            without it.
    """

    about: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    source: Callable[[Path, Path], ComposedScenes] | None = larger
    regions: Callable[[ModelConfig], ModelConfig] | None = None


ARMS = {
    START: Arm("the starter as it is", source=None),
    "regions": Arm(
        "ImageNet's classifier names regions, on a trunk of its own at half the size",
        source=None,
        regions=lambda config: config,
    ),
    "regions, no votes": Arm("the same without votes", source=None, regions=no_votes),
    "regions, whole size": Arm("the same at the whole size", source=None, regions=whole_size),
    REFERENCE: Arm("stamps, photographed grounds and furniture; trunk and text encoder frozen"),
    "starter's bank": Arm("none of the three: a bank like the starter's", source=starter),
    "second seed": Arm("everything again, another seed", {"seed": 1}),
    "no stamps": Arm("without stamps", source=less("cut_outs", "stamps", of_it=True)),
    "no furniture": Arm("without furniture", source=less("cut_outs", "stamps", of_it=False)),
    "trunk trained": Arm(
        "the trunk learns at a third of the rate",
        {"freeze_backbone": False, "backbone_lr_scale": 0.3},
    ),
    "text trained": Arm("the text encoder learns", {"freeze_text": False}),
    "no grounds": Arm("without photographed grounds", source=less("scenes", "stamps", of_it=True)),
}
