"""Words to embeddings: prompts, tokens, the text graph, and the caches in front of it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import ArgumentError, VocabularyError, quoted, warn_caller
from xdecoder_rt.plan.manifest import TextInfo
from xdecoder_rt.words.cache import TextCache
from xdecoder_rt.words.templates import prompts
from xdecoder_rt.words.text_graph import Features, TextGraph, TextProgress
from xdecoder_rt.words.tokenizer import ClipTokenizer
from xdecoder_rt.words.vocabulary import Vocabulary
from xdecoder_rt.words.word import check_text

_UNIT_EPS = 1e-7
# Names are encoded so many sentences at a time: what is held then is bounded, and what was done
# before an interruption is kept.
_SENTENCES = 16384
_TABLES_KEPT = 16
_TABLE_BYTES_KEPT = 64 << 20
# What a cached text stood for: a class name in every template, or a text as it is.
_UNIT_TOLERANCE = 1e-3
_AS_CLASS = "class\0"
_AS_TEXT = "text\0"
_AS_TOKENS = "tokens\0"


class TextEmbedder:
    """Embeds words, once each.

    The encoder is causal and its feature is read at the first end token, so tokens after it are
    never computed, and what sentences share at their beginning is computed once. Calls may come
    from many threads.

    Args:
        info: the plan's text section.
        tokenizer: gives the plan's, which is asked for only when something is encoded.
        graph: encodes tokens.
        cache: where embeddings are kept.
    """

    def __init__(
        self,
        info: TextInfo,
        tokenizer: Callable[[], ClipTokenizer],
        graph: TextGraph,
        cache: TextCache,
    ) -> None:
        self._info = info
        self._tokenizer = tokenizer
        self._graph = graph
        self.cache = cache
        self._tables: OrderedDict[tuple[str | bytes, ...], Features] = OrderedDict()
        self._lock = threading.Lock()

    def class_table(self, vocabulary: Vocabulary, progress: TextProgress | None = None) -> Features:
        """Return unit embeddings of every word of a vocabulary, then of the void class.

        A word's embedding is the mean over the templates, each embedding made unit before and the
        mean after, as the original's benchmarks do; or that of its example.

        Args:
            vocabulary: the words; those that no cache holds are embedded.
            progress: told how many sentences are encoded, of all that must be.

        Returns:
            float32 ``[texts + 1, proj_dim]``, read-only; the last row is the background's. The
            same array again for the same words, while it is kept.
        """
        rows = {index: example.row() for index, example in vocabulary.examples.items()}
        return self._class_table(vocabulary, rows, progress)

    def region_table(self, vocabulary: Vocabulary) -> Features:
        """Return what a classifier's names are compared with: :meth:`class_table` for texts.

        An example has an embedding of its own there.
        """
        rows = {
            index: example.row(of_region=True) for index, example in vocabulary.examples.items()
        }
        return self._class_table(vocabulary, rows)

    def background(self) -> Features:
        """Return the unit embedding of the void class's bare name, ``[proj_dim]``, for phrases.

        Class tables end in the mean over the templates instead, because names are put into them.
        """
        row: Features = self._cached_table(_AS_TEXT, (self._info.background,))[0]
        return row

    def texts(self, texts: Sequence[str]) -> Features:
        """Return unit embeddings of texts as they are, without templates: ``[T, proj_dim]``."""
        rows = self._vectors(_AS_TEXT, texts)
        return np.stack(rows) if rows else np.empty((0, self._info.proj_dim), np.float32)

    def table(self, texts: tuple[str, ...]) -> Features:
        """Return :meth:`texts` as a read-only table that is kept, for choices asked repeatedly."""
        return self._cached_table(_AS_TEXT, texts)

    def check_texts(self, texts: Sequence[str], strict: bool) -> list[str]:
        """Return a caller's texts as they will be embedded.

        Raises:
            ArgumentError: they are no list.
            VocabularyError: one is empty or unreadable, or too long and `strict` is set.
        """
        if isinstance(texts, str) or not isinstance(texts, Sequence):
            raise ArgumentError(f"texts is {quoted(texts)}", expected="a list of texts")
        checked = [check_text(text, f"Text {i}") for i, text in enumerate(texts)]
        self.check_lengths(checked, strict)
        return checked

    def check_lengths(self, texts: Sequence[str], strict: bool) -> None:
        """Warn of texts that the context length cuts.

        Raises:
            VocabularyError: a text is too long and `strict` is set.
        """
        room = self._info.context_length - 2
        for text in texts:
            # A token is a letter or more: most texts fit, and need no tokenizer to tell.
            if text.isascii() and len(text) <= room or self._tokenizer().fits(text):
                continue
            if strict:
                raise VocabularyError(
                    f"{quoted(text)} is too long",
                    expected=f"at most {room} tokens",
                    fix="shorten it",
                )
            warn_caller(f"{quoted(text)} is cut to its first {room} tokens")

    def token_features(self, texts: Sequence[str]) -> list[Features]:
        """Return projected features of every token, start and end included, unnormalised.

        Returns:
            One float32 ``[L, proj_dim]`` a text; the last row is the text's own embedding.
        """
        return [row.reshape(-1, self._info.proj_dim) for row in self._vectors(_AS_TOKENS, texts)]

    def _class_table(
        self,
        vocabulary: Vocabulary,
        examples: Mapping[int, Features],
        progress: TextProgress | None = None,
    ) -> Features:
        texts = (*vocabulary.texts, self._info.background)
        return self._cached_table(_AS_CLASS, texts, progress, examples)

    def _cached_table(
        self,
        kind: str,
        texts: tuple[str, ...],
        progress: TextProgress | None = None,
        given: Mapping[int, Features] | None = None,
    ) -> Features:
        """Return a table of embeddings, kept whole for the next call with the same texts.

        Args:
            kind: what the texts are.
            texts: of the rows.
            progress: as in :meth:`class_table`.
            given: rows that are no texts' embeddings, by index.
        """
        given = given or {}
        parts = (part for index, row in given.items() for part in (str(index), row.tobytes()))
        key: tuple[str | bytes, ...] = (kind, *texts, *parts)
        with self._lock:
            table = self._tables.get(key)
            if table is not None:
                self._tables.move_to_end(key)
        if table is not None:
            self.cache.count_table()
            return table
        names = [text for index, text in enumerate(texts) if index not in given]
        vectors = iter(self._vectors(kind, names, progress))
        table = np.stack(
            [given[index] if index in given else next(vectors) for index in range(len(texts))]
        )
        table.setflags(write=False)
        with self._lock:
            self._tables[key] = table
            total_bytes = sum(other.nbytes for other in self._tables.values())
            while len(self._tables) > _TABLES_KEPT or (
                total_bytes > _TABLE_BYTES_KEPT and len(self._tables) > 1
            ):
                total_bytes -= self._tables.popitem(last=False)[1].nbytes
        return table

    def _vectors(
        self, kind: str, texts: Sequence[str], progress: TextProgress | None = None
    ) -> list[Features]:
        """Return vectors in the order of ``texts``, computing those that no cache holds."""
        vectors = self.cache.get_many([kind + text for text in texts])
        missing = [text for text in dict.fromkeys(texts) if kind + text not in vectors]
        for batch, batch_vectors in self._encoded_batches(kind, missing, progress):
            new_vectors = {kind + text: row for text, row in zip(batch, batch_vectors, strict=True)}
            self.cache.put_many(new_vectors)
            vectors |= new_vectors
        return [vectors[kind + text] for text in texts]

    def _encoded_batches(
        self, kind: str, texts: Sequence[str], progress: TextProgress | None
    ) -> Iterator[tuple[Sequence[str], Sequence[Features]]]:
        """Encode texts, some at a time."""
        sentences = len(self._info.templates) if kind == _AS_CLASS else 1
        count = max(1, _SENTENCES // sentences)

        for start in range(0, len(texts), count):
            batch = texts[start : start + count]

            def report(done: int, _: int, offset: int = start) -> None:
                if progress is not None:
                    progress(offset * sentences + done, len(texts) * sentences)

            if kind == _AS_CLASS:
                yield batch, list(self._template_means(batch, report))
            elif kind == _AS_TEXT:
                yield batch, list(unit(self._graph.ends(self._tokens(batch), report)))
            else:
                rows = self._graph.encode(self._tokens(batch), report)
                yield batch, [row.ravel() for row in rows]

    def _template_means(self, names: Sequence[str], progress: TextProgress) -> Features:
        """Return class names' means over the templates."""
        info = self._info
        sentences = [
            sentence
            for name in names
            for sentence in prompts(name, info.templates, info.strip_suffixes)
        ]
        rows = unit(self._graph.ends(self._tokens(sentences), progress))
        return unit(rows.reshape(len(names), len(info.templates), info.proj_dim).mean(axis=1))

    def _tokens(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        tokenizer = self._tokenizer()
        return [tokenizer.tokens(text) for text in texts]


def class_key(text: str) -> str:
    """Return the key that a cache knows the embedding of a class name by."""
    return _AS_CLASS + text


def is_embedding(info: TextInfo, text: str, vector: npt.NDArray[np.float32]) -> bool:
    """Whether a vector can be what a cache holds of `text`, by length, finite values and norm.

    Args:
        info: of the plan.
        text: as a cache knows it, its kind first.
        vector: float32 ``[N]``.
    """
    if text.startswith(_AS_TOKENS):
        tokens, rest = divmod(vector.size, info.proj_dim)
        return rest == 0 and 2 <= tokens <= info.context_length and bool(np.isfinite(vector).all())
    norm = float(np.linalg.norm(vector.astype(np.float64)))  # not finite if one value is not
    return vector.size == info.proj_dim and abs(norm - 1) <= _UNIT_TOLERANCE


def unit(rows: npt.NDArray[np.float32]) -> Features:
    """Return rows of unit length as the original makes them: ``x / (|x| + 1e-7)``."""
    scaled: Features = rows / (np.linalg.norm(rows, axis=-1, keepdims=True) + _UNIT_EPS)
    return scaled.astype(np.float32, copy=False)
