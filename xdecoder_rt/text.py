"""Words to embeddings: prompts, tokens, the text graph, and the caches in front of it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

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
        key = vocabulary.texts
        with self._lock:
            table = self._tables.get(key)
            if table is not None:
                self._tables.move_to_end(key)
                return table
        table = self._cached(_AS_CLASS, (*key, self._info.background))
        table.setflags(write=False)
        with self._lock:
            self._tables[key] = table
            while len(self._tables) > _TABLES_KEPT:
                self._tables.popitem(last=False)
        return table

    def texts(self, texts: Sequence[str]) -> Embeddings:
        """Unit embeddings of texts as they are, without templates: float32 ``[T, proj_dim]``."""
        return self._cached(_AS_TEXT, texts)

    def _cached(self, kind: str, texts: Sequence[str]) -> Embeddings:
        """Embeddings in the order of ``texts``, computing those that no cache holds."""
        found = self.cache.get_many([kind + text for text in texts])
        missing = [text for text in dict.fromkeys(texts) if kind + text not in found]
        if missing:
            computed = self._means(missing) if kind == _AS_CLASS else self._embed(missing)
            fresh = {kind + text: row for text, row in zip(missing, computed, strict=True)}
            self.cache.put_many(fresh)
            found = {**found, **fresh}
        return np.stack([found[kind + text] for text in texts])

    def _means(self, names: Sequence[str]) -> Embeddings:
        """Template means of class names."""
        info = self._info
        sentences = [
            sentence
            for name in names
            for sentence in prompts(name, info.templates, info.strip_suffixes)
        ]
        rows = self._embed(sentences).reshape(len(names), len(info.templates), info.proj_dim)
        return unit(rows.mean(axis=1))

    def _embed(self, texts: Sequence[str]) -> Embeddings:
        """Run the text graph in batches of texts of similar length."""
        ids = self._tokenizer(texts)
        lengths = self._tokenizer.lengths(ids)
        order = np.argsort(lengths, kind="stable")
        rows = np.empty((len(texts), self._info.proj_dim), np.float32)
        for start in range(0, len(order), _BATCH):
            chosen = order[start : start + _BATCH]
            batch = ids[chosen, : lengths[chosen[-1]]]
            values = self._graph({"token_ids": batch})
            rows[chosen] = self._backend.to_numpy(values["text_embedding"])
        return unit(rows)


def unit(rows: Embeddings) -> Embeddings:
    """Rows of unit length as the original makes them: ``x / (|x| + 1e-7)``."""
    scaled: Embeddings = rows / (np.linalg.norm(rows, axis=-1, keepdims=True) + UNIT_EPS)
    return scaled.astype(np.float32, copy=False)
