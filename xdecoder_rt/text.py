"""Words to embeddings: prompts, tokens, the text graph, and the caches in front of it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xdecoder_rt.backends.base import Array, Backend, Value
from xdecoder_rt.manifest import TextInfo
from xdecoder_rt.templates import prompts
from xdecoder_rt.text_cache import TextCache
from xdecoder_rt.tokenizer import ClipTokenizer
from xdecoder_rt.vocabulary import Vocabulary

Embeddings = npt.NDArray[np.float32]

UNIT_EPS = 1e-7
_BATCH = 256
_TABLES_KEPT = 16
# What a cached text stood for: a class name in every template, or a text as it is.
_AS_CLASS = "class\0"
_AS_TEXT = "text\0"
_AS_TOKENS = "tokens\0"


@dataclass(frozen=True)
class TextStates:
    """Some tokens of texts, encoded.

    Attributes:
        features: float32 ``[T, L, proj_dim]``, projected, unnormalised.
        keys: of these tokens and those before them, one ``[T, heads, P + L, head_dim]`` a layer.
        values: the same.
    """

    features: Embeddings
    keys: tuple[Embeddings, ...]
    values: tuple[Embeddings, ...]

    def chosen(self, texts: npt.NDArray[np.int64]) -> TextStates:
        """The states of some of the texts, in a new order."""
        return TextStates(
            self.features[texts],
            tuple(key[texts] for key in self.keys),
            tuple(value[texts] for value in self.values),
        )


class TextEncoder:
    """Embeds words, once each.

    The encoder is causal and its feature is read at the first end token, so tokens after it are
    never computed. Calls may come from many threads.

    Args:
        info: the plan's text section.
        tokenizer: the plan's.
        graph: runs the text graph, loading it on first need.
        backend: what ran it.
        cache: where embeddings are kept.
    """

    def __init__(
        self,
        info: TextInfo,
        tokenizer: ClipTokenizer,
        graph: Callable[[Mapping[str, Array]], dict[str, Value]],
        backend: Backend,
        cache: TextCache,
    ) -> None:
        self._info = info
        self._tokenizer = tokenizer
        self._graph = graph
        self._backend = backend
        self.cache = cache
        self._tables: OrderedDict[tuple[str, ...], Embeddings] = OrderedDict()
        self._lock = threading.Lock()

    def class_table(self, vocabulary: Vocabulary) -> Embeddings:
        """Unit embeddings of every word of a vocabulary, then of the void class.

        A word's embedding is the mean over the templates, each embedding made unit before and the
        mean after, as the original's benchmarks do.

        Returns:
            float32 ``[texts + 1, proj_dim]``, read-only; the last row is the background's.
        """
        return self._kept(_AS_CLASS, (*vocabulary.texts, self._info.background))

    def background(self) -> Embeddings:
        """Unit embedding of the void class's bare name, to compare phrases with: ``[proj_dim]``.

        Class tables end in the mean over the templates instead, because names are put into them.
        """
        row: Embeddings = self._kept(_AS_TEXT, (self._info.background,))[0]
        return row

    def texts(self, texts: Sequence[str]) -> Embeddings:
        """Unit embeddings of texts as they are, without templates: float32 ``[T, proj_dim]``."""
        return np.stack(self._found(_AS_TEXT, texts))

    def table(self, texts: tuple[str, ...]) -> Embeddings:
        """:meth:`texts` as a read-only table that is kept, for choices asked for repeatedly."""
        return self._kept(_AS_TEXT, texts)

    def token_features(self, texts: Sequence[str]) -> list[Embeddings]:
        """Projected features of every token, start and end included, unnormalised.

        Returns:
            One float32 ``[L, proj_dim]`` a text; the last row is the text's own embedding.
        """
        return [row.reshape(-1, self._info.proj_dim) for row in self._found(_AS_TOKENS, texts)]

    def ids(self, text: str) -> npt.NDArray[np.int64]:
        """Token ids up to the end token, ``[L]``."""
        ids = self._tokenizer([text])
        return ids[0, : self._tokenizer.lengths(ids)[0]]

    def proceed(
        self, token_ids: npt.NDArray[np.int64], before: TextStates | None = None
    ) -> TextStates:
        """Encode int64 ``[T, L]`` tokens, which follow the same number of others in each text."""
        if before is None:
            before = self._nothing(len(token_ids))
        outputs = self._run(token_ids, before)

        def grown(name: str, old: tuple[Embeddings, ...]) -> tuple[Embeddings, ...]:
            return tuple(
                np.concatenate((states, self._backend.to_numpy(outputs[f"{name}_{i}"])), axis=2)
                for i, states in enumerate(old)
            )

        return TextStates(
            self._backend.to_numpy(outputs["token_features"]),
            grown("token_keys", before.keys),
            grown("token_values", before.values),
        )

    def _nothing(self, texts: int) -> TextStates:
        """The states of texts that have not begun."""
        info = self._info
        empty = np.empty((texts, info.heads, 0, info.width // info.heads), np.float32)
        return TextStates(
            np.empty((texts, 0, info.proj_dim), np.float32),
            (empty,) * info.layers,
            (empty,) * info.layers,
        )

    def _run(self, token_ids: npt.NDArray[np.int64], before: TextStates) -> dict[str, Value]:
        past, (texts, length) = before.keys[0].shape[2], token_ids.shape
        feeds: dict[str, Array] = {
            "token_ids": token_ids,
            "places": np.broadcast_to(np.arange(past, past + length), (texts, length)),
        }
        for layer, (key, value) in enumerate(zip(before.keys, before.values, strict=True)):
            feeds[f"past_keys_{layer}"], feeds[f"past_values_{layer}"] = key, value
        return self._graph(feeds)

    def _kept(self, kind: str, texts: tuple[str, ...]) -> Embeddings:
        """A table of embeddings, kept whole for the next call with the same texts."""
        key = (kind, *texts)
        with self._lock:
            table = self._tables.get(key)
            if table is not None:
                self._tables.move_to_end(key)
                return table
        table = np.stack(self._found(kind, texts))
        table.setflags(write=False)
        with self._lock:
            self._tables[key] = table
            while len(self._tables) > _TABLES_KEPT:
                self._tables.popitem(last=False)
        return table

    def _found(self, kind: str, texts: Sequence[str]) -> list[Embeddings]:
        """Vectors in the order of ``texts``, computing those that no cache holds."""
        found = self.cache.get_many([kind + text for text in texts])
        missing = [text for text in dict.fromkeys(texts) if kind + text not in found]
        if missing:
            computed: Sequence[Embeddings]
            if kind == _AS_CLASS:
                computed = list(self._means(missing))
            elif kind == _AS_TEXT:
                computed = list(unit(np.stack([rows[-1] for rows in self._embed(missing)])))
            else:
                computed = [rows.ravel() for rows in self._embed(missing)]
            fresh = {kind + text: row for text, row in zip(missing, computed, strict=True)}
            self.cache.put_many(fresh)
            found = {**found, **fresh}
        return [found[kind + text] for text in texts]

    def _means(self, names: Sequence[str]) -> Embeddings:
        """Template means of class names."""
        info = self._info
        sentences = [
            sentence
            for name in names
            for sentence in prompts(name, info.templates, info.strip_suffixes)
        ]
        rows = unit(np.stack([features[-1] for features in self._embed(sentences)]))
        return unit(rows.reshape(len(names), len(info.templates), info.proj_dim).mean(axis=1))

    def _embed(self, texts: Sequence[str]) -> list[Embeddings]:
        """Features of each text's tokens, ``[L, proj_dim]``, up to its end token.

        The graph runs over batches of texts of similar length.
        """
        ids = self._tokenizer(texts)
        lengths = self._tokenizer.lengths(ids)
        order = np.argsort(lengths, kind="stable")
        rows: list[Embeddings] = [np.empty(0, np.float32)] * len(texts)
        for start in range(0, len(order), _BATCH):
            chosen = order[start : start + _BATCH]
            outputs = self._run(ids[chosen, : lengths[chosen[-1]]], self._nothing(len(chosen)))
            features = self._backend.to_numpy(outputs["token_features"])
            for index, own in zip(chosen.tolist(), features, strict=True):
                rows[index] = own[: lengths[index]]
        return rows


def unit(rows: Embeddings) -> Embeddings:
    """Rows of unit length as the original makes them: ``x / (|x| + 1e-7)``."""
    scaled: Embeddings = rows / (np.linalg.norm(rows, axis=-1, keepdims=True) + UNIT_EPS)
    return scaled.astype(np.float32, copy=False)
