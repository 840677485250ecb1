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
TextProgress = Callable[[int, int], None]
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
        """Return the states of some of the texts, in a new order."""
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
        self, texts: Sequence[tuple[int, ...]], progress: TextProgress | None = None
    ) -> list[Features]:
        """Encode every token of texts; the beginnings that they share are computed once.

        Args:
            texts: token ids of each, up to its end token.
            progress: told after each call of the graph.

        Returns:
            One float32 ``[L, proj_dim]`` a text, unnormalised; the last row is the text's own.
        """
        return self._node_features(texts, progress, lambda path: path)

    def ends(
        self, texts: Sequence[tuple[int, ...]], progress: TextProgress | None = None
    ) -> Features:
        """Return :meth:`encode`'s last rows only: float32 ``[T, proj_dim]``."""
        rows = self._node_features(texts, progress, lambda path: path[-1])
        return np.stack(rows) if rows else np.empty((0, self._info.proj_dim), np.float32)

    def proceed(
        self, token_ids: npt.NDArray[np.int64], past: TextStates | None = None
    ) -> TextStates:
        """Encode int64 ``[T, L]`` tokens, which follow the same number of others in each text."""
        texts, length = token_ids.shape
        if past is None:
            past = self._empty_states(texts)
        past_length = past.keys[0].shape[2]
        places = np.arange(past_length, past_length + length)
        visible = np.arange(past_length + length) <= places[:, None]
        outputs = self._run(
            token_ids,
            np.broadcast_to(places, (texts, length)),
            np.broadcast_to(visible, (texts, length, past_length + length)),
            past,
        )

        def grown(name: str, old: tuple[Features, ...]) -> tuple[Features, ...]:
            return tuple(
                np.concatenate((states, self._backend.to_numpy(outputs[f"{name}_{i}"])), axis=2)
                for i, states in enumerate(old)
            )

        return TextStates(
            self._backend.to_numpy(outputs["token_features"]),
            grown("token_keys", past.keys),
            grown("token_values", past.values),
        )

    def _node_features(
        self,
        texts: Sequence[tuple[int, ...]],
        progress: TextProgress | None,
        nodes_of: Callable[[tuple[int, ...]], tuple[int, ...] | int],
    ) -> list[Features]:
        """Return the features of the nodes that `nodes_of` takes of each text's path."""
        rows: list[Features] = [np.empty(0, np.float32)] * len(texts)
        done = 0
        for batch in token_rows.batches(texts):
            no_past = self._empty_states(len(batch.token_ids))
            outputs = self._run(batch.token_ids, batch.places, batch.visible, no_past)
            features = self._backend.to_numpy(outputs["token_features"])
            for row_features, paths in zip(features, batch.paths, strict=True):
                for text, path in paths.items():
                    rows[text] = np.take(row_features, nodes_of(path), axis=0)
                done += len(paths)
            if progress is not None:
                progress(done, len(texts))
        return rows

    def _empty_states(self, texts: int) -> TextStates:
        """Return the states of texts that have not begun."""
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
        past: TextStates,
    ) -> dict[str, Value]:
        feeds: dict[str, Array] = {"token_ids": token_ids, "places": places, "visible": visible}
        for layer, (key, value) in enumerate(zip(past.keys, past.values, strict=True)):
            feeds[f"past_keys_{layer}"], feeds[f"past_values_{layer}"] = key, value
        return self._graph(feeds)
