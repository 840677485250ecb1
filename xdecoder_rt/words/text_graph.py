"""The text graph at work: tokens to features, and the states that later tokens read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xdecoder_rt.backends.base import Array, Backend, Value
from xdecoder_rt.plan.manifest import TextInfo
from xdecoder_rt.words import token_rows

Features = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]
"""Called with the number of texts encoded so far, and of all."""


@dataclass(frozen=True)
class TextStates:
    """Some tokens of texts, encoded.

    Attributes:
        features: float32 ``[T, L, proj_dim]``, projected, unnormalised.
        keys: of these tokens and those before them, one ``[T, heads, P + L, head_dim]`` a layer.
        values: the same.
    """

    features: Features
    keys: tuple[Features, ...]
    values: tuple[Features, ...]

    def chosen(self, texts: npt.NDArray[np.int64]) -> TextStates:
        """The states of some of the texts, in a new order."""
        return TextStates(
            self.features[texts],
            tuple(key[texts] for key in self.keys),
            tuple(value[texts] for value in self.values),
        )


class TextGraph:
    """Runs a plan's text graph. Calls may come from many threads.

    Args:
        info: the plan's text section.
        graph: runs the graph, loading it on first need.
        backend: what runs it.
    """

    def __init__(
        self,
        info: TextInfo,
        graph: Callable[[Mapping[str, Array]], dict[str, Value]],
        backend: Backend,
    ) -> None:
        self._info = info
        self._graph = graph
        self._backend = backend

    def encode(
        self, texts: Sequence[tuple[int, ...]], progress: Progress | None = None
    ) -> list[Features]:
        """Features of every token of texts; the beginnings that they share are computed once.

        Args:
            texts: token ids of each, up to its end token.
            progress: told after each call of the graph.

        Returns:
            One float32 ``[L, proj_dim]`` a text, unnormalised; the last row is the text's own.
        """
        return self._gathered(texts, progress, lambda path: path)

    def ends(self, texts: Sequence[tuple[int, ...]], progress: Progress | None = None) -> Features:
        """:meth:`encode`'s last rows only: float32 ``[T, proj_dim]``."""
        found = self._gathered(texts, progress, lambda path: path[-1])
        return np.stack(found) if found else np.empty((0, self._info.proj_dim), np.float32)

    def proceed(
        self, token_ids: npt.NDArray[np.int64], before: TextStates | None = None
    ) -> TextStates:
        """Encode int64 ``[T, L]`` tokens, which follow the same number of others in each text."""
        texts, length = token_ids.shape
        if before is None:
            before = self._nothing(texts)
        past = before.keys[0].shape[2]
        places = np.arange(past, past + length)
        visible = np.arange(past + length) <= places[:, None]
        outputs = self._run(
            token_ids,
            np.broadcast_to(places, (texts, length)),
            np.broadcast_to(visible, (texts, length, past + length)),
            before,
        )

        def grown(name: str, old: tuple[Features, ...]) -> tuple[Features, ...]:
            return tuple(
                np.concatenate((states, self._backend.to_numpy(outputs[f"{name}_{i}"])), axis=2)
                for i, states in enumerate(old)
            )

        return TextStates(
            self._backend.to_numpy(outputs["token_features"]),
            grown("token_keys", before.keys),
            grown("token_values", before.values),
        )

    def _gathered(
        self,
        texts: Sequence[tuple[int, ...]],
        progress: Progress | None,
        chosen: Callable[[tuple[int, ...]], tuple[int, ...] | int],
    ) -> list[Features]:
        """Of each text, the features of the nodes that `chosen` takes of its path."""
        rows: list[Features] = [np.empty(0, np.float32)] * len(texts)
        done = 0
        for batch in token_rows.batches(texts):
            nothing = self._nothing(len(batch.token_ids))
            outputs = self._run(batch.token_ids, batch.places, batch.visible, nothing)
            features = self._backend.to_numpy(outputs["token_features"])
            for own, paths in zip(features, batch.paths, strict=True):
                for text, path in paths.items():
                    rows[text] = np.take(own, chosen(path), axis=0)
                done += len(paths)
            if progress is not None:
                progress(done, len(texts))
        return rows

    def _nothing(self, texts: int) -> TextStates:
        """The states of texts that have not begun."""
        info = self._info
        empty = np.empty((texts, info.heads, 0, info.width // info.heads), np.float32)
        return TextStates(
            np.empty((texts, 0, info.proj_dim), np.float32),
            (empty,) * info.layers,
            (empty,) * info.layers,
        )

    def _run(
        self,
        token_ids: npt.NDArray[np.int64],
        places: npt.NDArray[np.int64],
        visible: npt.NDArray[np.bool_],
        before: TextStates,
    ) -> dict[str, Value]:
        feeds: dict[str, Array] = {"token_ids": token_ids, "places": places, "visible": visible}
        for layer, (key, value) in enumerate(zip(before.keys, before.values, strict=True)):
            feeds[f"past_keys_{layer}"], feeds[f"past_values_{layer}"] = key, value
        return self._graph(feeds)
