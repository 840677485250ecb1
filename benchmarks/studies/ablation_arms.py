"""The arms of ``ablation.py``: what each changes of the recipe, and what it learns from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.datasets.items import PanopticDataset, PanopticItem
from xdecoder_rt.scenes.bank.composed import ComposedScenes
from xdecoder_rt.scenes.bank.store import BANK_INDEX, PICTURES
from xdecoder_rt.training.sources import open_dataset

FIXED_SCENES = 200
REFERENCE = "full"
REPEATS = (REFERENCE, "second seed", "third seed")

Index = dict[str, Any]
Sources = Mapping[str, PanopticDataset]


class Fixed:
    """The first scenes of a data set, again and again.

    Args:
        source: the data set.
        count: how many.
    """

    class _Items(Sequence[PanopticItem]):
        def __init__(self, items: Sequence[PanopticItem], count: int) -> None:
            self._items, self._count = items, count

        def __len__(self) -> int:
            return self._count

        @overload
        def __getitem__(self, index: int) -> PanopticItem: ...

        @overload
        def __getitem__(self, index: slice) -> list[PanopticItem]: ...

        def __getitem__(self, index: int | slice) -> PanopticItem | list[PanopticItem]:
            if isinstance(index, slice):
                return [self._items[i] for i in range(*index.indices(self._count))]
            if not -self._count <= index < self._count:
                raise IndexError(index)
            return self._items[index % self._count]

    def __init__(self, source: PanopticDataset, count: int) -> None:
        self.vocabulary, self.stuff = source.vocabulary, source.stuff
        self.items: Sequence[PanopticItem] = self._Items(source.items, count)


def bank(data: Path, _: Path) -> Sources:
    return {"bank": ComposedScenes(data / "bank")}


def flat_bank(data: Path, _: Path) -> Sources:
    return {"bank": ComposedScenes(data / "bank", relief=0.0)}


def fixed_scenes(data: Path, _: Path) -> Sources:
    return {"bank": Fixed(ComposedScenes(data / "bank"), FIXED_SCENES)}


def stored_scenes(data: Path, _: Path) -> Sources:
    return {name: open_dataset(data / name) for name in ("workcell", "clipart")}


def bank_of(change: Callable[[Index], Index]) -> Callable[[Path, Path], Sources]:
    """A bank with less in it: the same pictures under a changed index."""

    def make(data: Path, runs: Path) -> Sources:
        folder = runs / "banks" / change.__name__
        folder.mkdir(parents=True, exist_ok=True)
        pictures = folder / PICTURES
        pictures.unlink(missing_ok=True)
        pictures.symlink_to((data / "bank" / PICTURES).resolve())
        index = json.loads((data / "bank" / BANK_INDEX).read_text())
        with atomic_writer(folder / BANK_INDEX) as file:
            file.write(json.dumps(index | change(index)).encode())
        return {"bank": ComposedScenes(folder)}

    return make


def no_photographs(_: Index) -> Index:
    return {"photographs": []}


def no_grounds(index: Index) -> Index:
    """Only what is said to be rooms remains: neither photographs nor textures to paste on."""
    return {"photographs": [], "scenes": [s for s in index["scenes"] if not is_ground(s, index)]}


def drawings_only(index: Index) -> Index:
    return {
        "cut_outs": [c for c in index["cut_outs"] if c["drawn"]],
        "scenes": [s for s in index["scenes"] if is_ground(s, index)],
    }


def renderings_only(index: Index) -> Index:
    return {
        "cut_outs": [c for c in index["cut_outs"] if not c["drawn"]],
        "scenes": [s for s in index["scenes"] if not is_ground(s, index)],
    }


def is_ground(scene: Index, index: Index) -> bool:
    """Whether a scene of a bank shows stuff alone."""
    return set(scene["labels"].values()) <= set(index["stuff"])


@dataclass(frozen=True)
class Arm:
    """One run.

    Attributes:
        about: what is changed, for the table.
        settings: of the trainer, in place of the recipe's.
        sources: what it learns from.
        fresh: beginning of the names of the weights that start at random instead.
        raw: measure the weights in training instead of their average, of the run of this name.
    """

    about: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    sources: Callable[[Path, Path], Sources] = bank
    fresh: str = ""
    raw: str = ""


ARMS = {
    REFERENCE: Arm("the recipe"),
    "second seed": Arm("the recipe again, another seed", {"seed": 1}),
    "raw weights": Arm("the weights in training, not their average", raw=REFERENCE),
    "random backbone": Arm(
        "backbone from random weights (its normalisation learns, at the full rate)",
        {"freeze_norm": False, "backbone_lr_scale": 1.0},
        fresh="backbone.",
    ),
    "random words": Arm("text encoder from random weights, lessons kept", fresh="text_encoder."),
    "no lessons": Arm("taught text encoder, no lessons during training", {"teacher": None}),
    "no teacher": Arm(
        "neither: text encoder from random weights, no lessons",
        {"teacher": None},
        fresh="text_encoder.",
    ),
    "no negative names": Arm(
        "a step asks only for the names on its images", {"vocabulary_size": 1}
    ),
    "no relief": Arm("drawings stay flat", sources=flat_bank),
    "no photographs": Arm("no photographs to paste on", sources=bank_of(no_photographs)),
    "fixed scenes": Arm(
        f"the bank's first {FIXED_SCENES} scenes again and again", sources=fixed_scenes
    ),
    "stored scenes": Arm(
        "the generator's scenes as they are, nothing pasted", sources=stored_scenes
    ),
    "drawings only": Arm("no renderings, no rooms", sources=bank_of(drawings_only)),
    "renderings only": Arm("no drawings, no textures", sources=bank_of(renderings_only)),
    "backbone rate 1": Arm("the backbone learns at the full rate", {"backbone_lr_scale": 1.0}),
    "backbone rate 0.1": Arm("the backbone learns at a tenth", {"backbone_lr_scale": 0.1}),
    "poly schedule": Arm("poly instead of cosine decay", {"schedule": "poly"}),
    "no grounds": Arm("neither photographs nor textures", sources=bank_of(no_grounds)),
    "size 192": Arm("192 x 192 instead of 128 x 128", {"size": 192}),
    "third seed": Arm("the recipe a third time", {"seed": 2}),
}
