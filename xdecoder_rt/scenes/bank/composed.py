"""A data set without end: every item is composed from a bank when it is read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.datasets.items import AnsweredQuestion, Phrase, Segment
from xdecoder_rt.scenes.bank.composer import RELIEF, Composer, Composition
from xdecoder_rt.scenes.bank.store import Bank
from xdecoder_rt.scenes.language import Description, describe_picture
from xdecoder_rt.scenes.names import synonyms
from xdecoder_rt.scenes.scene import scene_generator

__all__ = ["ComposedItem", "ComposedScenes"]

LENGTH = 1_000_000
"""Items until they repeat."""
_OTHER_WORD = 0.3


class ComposedItem:
    """One scene, composed when something of it is first asked for.

    Args:
        source: the data set.
        number: which of its items.
    """

    def __init__(self, source: ComposedScenes, number: int) -> None:
        self._source = source
        self._number = number

    @property
    def image(self) -> Path:
        """The bank; there is no file of the image alone."""
        return self._source.bank.folder

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments."""
        ids = self._scene.ids
        counts = np.bincount(np.maximum(ids, 0).ravel())
        return tuple(
            Segment(number, label, label not in self._source.stuff, int(counts[number]))
            for number, label in self._words.items()
        )

    @property
    def phrases(self) -> tuple[Phrase, ...]:
        """Referring expressions."""
        return self._texts.phrases

    @property
    def captions(self) -> tuple[str, ...]:
        """Descriptions."""
        return self._texts.captions

    @property
    def questions(self) -> tuple[AnsweredQuestion, ...]:
        """Questions."""
        return self._texts.questions

    def load_image(self) -> NDArray[np.uint8]:
        """Return the image: ``[h, w, 3]``."""
        return self._scene.image

    def load_panoptic(self) -> NDArray[np.integer[Any]]:
        """Return the map: ``[h, w]``."""
        return self._scene.ids

    @cached_property
    def _scene(self) -> Composition:
        return self._source.composer.compose(self._generator("scene"))

    @cached_property
    def _words(self) -> dict[int, str]:
        """The word for each segment: a synonym at times, one for all segments of a name."""
        rng = self._generator("words")
        word: dict[str, str] = {}
        for name in sorted(set(self._scene.labels.values())):
            words = (name,) if name in self._source.stuff else synonyms(name)
            use_synonym = len(words) > 1 and rng.random() < _OTHER_WORD
            word[name] = words[int(rng.integers(1, len(words)))] if use_synonym else name
        return {number: word[name] for number, name in self._scene.labels.items()}

    @cached_property
    def _texts(self) -> Description:
        ids = np.maximum(self._scene.ids, 0).astype(np.uint8)
        source = self._source
        rng = self._generator("language")
        return describe_picture(
            self._scene.image, ids, self._words, source.vocabulary, source.stuff, rng
        )

    def _generator(self, part: str) -> np.random.Generator:
        return scene_generator("composed", part, self._source.seed, self._number)


class _Items(Sequence[ComposedItem]):
    def __init__(self, source: ComposedScenes) -> None:
        self._source = source

    def __len__(self) -> int:
        return LENGTH

    @overload
    def __getitem__(self, index: int) -> ComposedItem: ...

    @overload
    def __getitem__(self, index: slice) -> list[ComposedItem]: ...

    def __getitem__(self, index: int | slice) -> ComposedItem | list[ComposedItem]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(LENGTH))]
        if not -LENGTH <= index < LENGTH:
            raise IndexError(index)
        return ComposedItem(self._source, index % LENGTH)


class ComposedScenes:
    """Scenes of a bank, as many as anyone wants.

    Args:
        folder: the bank.
        seed: another seed gives other scenes.
        relief: share of the drawings that are lit as if they were rounded bodies, 0 to 1.

    Attributes:
        bank: what the scenes are composed of.
        composer: what composes them.
        seed: as given.
        stuff: labels that are stuff.
        vocabulary: every label and its synonyms.
        items: the scenes.

    Raises:
        DatasetError: it is not a bank, or damaged.
    """

    def __init__(self, folder: Path, seed: int = 0, relief: float = RELIEF) -> None:
        self.bank = Bank(folder)
        self.composer = Composer(self.bank, relief)
        self.seed = seed
        names = {*self.bank.by_name}
        for scene in self.bank.scenes:
            names.update(scene.labels.values())
        self.stuff = self.bank.stuff & names
        words = {word for name in names - self.stuff for word in synonyms(name)}
        self.vocabulary = (*sorted(words - self.stuff), *sorted(self.stuff))
        self.items: Sequence[ComposedItem] = _Items(self)
