"""Text embeddings, kept in memory and on disk, so that the text graph runs once per text.

A cache may always be lost: whatever goes wrong with its file, work goes on without it, with at most
one warning.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import sys
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xdecoder_rt.words.store import StoredEntry, StoreSummary, TextStore, Vector

__all__ = ["CACHE_FILE", "CacheStats", "TextCache", "default_directory"]

CACHE_FILE = "text-v2.sqlite"


def default_directory() -> Path | None:
    """Return the folder for caches: ``$XDECODER_RT_CACHE``, else one in the user's cache folder.

    Returns:
        The folder, which need not exist; None when the user has no home.
    """
    if chosen := os.environ.get("XDECODER_RT_CACHE"):
        return Path(chosen)
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "xdecoder_rt"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "xdecoder_rt"


@dataclass(frozen=True)
class CacheStats:
    """Counts since a cache was opened.

    Attributes:
        tables: whole vocabularies found assembled.
        memory_hits: texts found in memory.
        plan_hits: texts found among those that the plan carries.
        disk_hits: texts found on disk.
        misses: texts found nowhere, which are then embedded.
        corrupt_rows: rows of the file that were damaged, or no embeddings, and were dropped.
        resets: how often the whole file was damaged, set aside and begun anew.
        evicted: rows dropped from the file to keep it within its size.
    """

    tables: int = 0
    memory_hits: int = 0
    plan_hits: int = 0
    disk_hits: int = 0
    misses: int = 0
    corrupt_rows: int = 0
    resets: int = 0
    evicted: int = 0


class TextCache:
    """An LRU in memory over what the plan carries and an SQLite file; for many threads.

    Args:
        directory: folder of the file, created if need be (0700); None for memory only. If it cannot
            be used, is a link or another user's, or others may write into it, one RuntimeWarning is
            given and the cache works in memory only.
        namespace: what the embeddings depend on besides the text: the digest of the text graph and
            the template set. Entries of different namespaces share the file and never mix.
        memory_bytes: how many bytes of vectors to keep in memory.
        disk_bytes: how large the file may grow before the entries used longest ago are dropped.
        carried: gives the vectors that came with the plan, by text; called when first needed.
        accepts: whether a vector can be the embedding of a text; rows of the file that cannot are
            dropped like damaged ones.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None,
        *,
        namespace: str,
        memory_bytes: int = 64 << 20,
        disk_bytes: int = 256 << 20,
        carried: Callable[[], Mapping[str, Vector]] = dict,
        accepts: Callable[[str, Vector], bool] = lambda text, vector: True,
    ) -> None:
        self._prefix = hashlib.sha256(namespace.encode("utf-8", "surrogatepass")).digest()
        self._memory: OrderedDict[str, Vector] = OrderedDict()
        self._memory_bytes = memory_bytes
        self._held_bytes = 0
        self._load_carried = carried
        self._accepts = accepts
        self._carried: Mapping[str, Vector] | None = None
        self._stats = self._filed = CacheStats()
        self._lock = threading.RLock()
        self._disk: TextStore | None = None
        self.disk_bytes = disk_bytes
        if directory is not None:
            self._disk = TextStore(Path(directory) / CACHE_FILE, disk_bytes)
            with self._guarded(self._disk):
                self._disk.open()

    def get_many(self, texts: Sequence[str]) -> dict[str, Vector]:
        """Look up embeddings.

        Args:
            texts: any number of texts; repeated ones count once.

        Returns:
            A read-only float32 vector for each text that is known; the others are absent.
        """
        vectors: dict[str, Vector] = {}
        missing: dict[str, None] = {}
        with self._lock:
            for text in texts:
                vector = self._memory.get(text)
                if vector is None:
                    missing[text] = None
                else:
                    vectors[text] = vector
                    self._memory.move_to_end(text)
            in_memory = len(vectors)
            if missing:
                vectors |= self._from_plan(missing)
            carried = len(vectors) - in_memory
            if missing and self._disk is not None:
                keys = {self._key(text): text for text in missing}
                with self._guarded(self._disk):
                    for key, vector in self._disk.read(
                        list(keys), lambda key, vector: self._accepts(keys[key], vector)
                    ):
                        vectors[keys[key]] = vector
                        del missing[keys[key]]
                        self._remember(keys[key], vector)
            self._count(
                memory_hits=in_memory,
                plan_hits=carried,
                disk_hits=len(vectors) - in_memory - carried,
                misses=len(missing),
            )
        return vectors

    def put_many(self, vectors: Mapping[str, npt.NDArray[np.floating]]) -> None:
        """Store embeddings, copied as float32; texts that are known already are replaced."""
        copies: dict[str, Vector] = {}
        for text, vector in vectors.items():
            copy = np.array(vector, dtype="<f4").ravel()
            copy.setflags(write=False)
            copies[text] = copy
        with self._lock:
            for text, copy in copies.items():
                self._remember(text, copy)
            if copies and self._disk is not None:
                rows = {self._key(text): (text, copy) for text, copy in copies.items()}
                with self._guarded(self._disk):
                    self._disk.write(self._prefix, rows)
                self._file_counts()

    def count_table(self) -> None:
        """Count a vocabulary that was found assembled, for which no text was looked up."""
        with self._lock:
            self._count(tables=1)

    @property
    def stats(self) -> CacheStats:
        """Counts of hits and misses so far."""
        with self._lock:
            return self._stats

    @property
    def path(self) -> Path | None:
        """The file, or None when memory only is used."""
        return None if self._disk is None else self._disk.path

    @property
    def is_on_disk(self) -> bool:
        """Whether the file is in use, as opposed to memory only."""
        return self._disk is not None

    def entries(self) -> list[StoredEntry]:
        """Return what the file holds of this namespace, last used first; nothing without a file."""
        entries: list[StoredEntry] = []
        with self._lock:
            if self._disk is not None:
                with self._guarded(self._disk):
                    entries = self._disk.entries(self._prefix)
        return entries

    def summary(self) -> StoreSummary:
        """Return what the file holds, and the counts of all processes, this one included."""
        summary = StoreSummary(0, 0, {})
        with self._lock:
            self._file_counts()
            if self._disk is not None:
                with self._guarded(self._disk):
                    summary = self._disk.summary()
        return summary

    def close(self) -> None:
        """Close the file and forget what is in memory. May be called twice."""
        with self._lock:
            self._file_counts()
            if self._disk is not None:
                self._disk.close()
                self._disk = None
            self._memory.clear()
            self._held_bytes = 0
            self._carried = {}

    def _from_plan(self, missing: dict[str, None]) -> dict[str, Vector]:
        """Take the missing texts that the plan carries; they are missing no more."""
        if self._carried is None:
            self._carried = self._load_carried()
        vectors = {text: self._carried[text] for text in missing if text in self._carried}
        for text in vectors:
            del missing[text]
        return vectors

    def _key(self, text: str) -> bytes:
        return hashlib.sha256(self._prefix + text.encode("utf-8", "surrogatepass")).digest()

    def _remember(self, text: str, vector: Vector) -> None:
        previous = self._memory.pop(text, None)
        self._memory[text] = vector
        self._held_bytes += vector.nbytes - (0 if previous is None else previous.nbytes)
        while self._held_bytes > self._memory_bytes:
            self._held_bytes -= self._memory.popitem(last=False)[1].nbytes

    def _count(self, **increments: int) -> None:
        sums = {name: getattr(self._stats, name) + count for name, count in increments.items()}
        self._stats = replace(self._stats, **sums)

    def _file_counts(self) -> None:
        """Add what was counted since the last time to the file's counts."""
        counts, filed_counts = asdict(self._stats), asdict(self._filed)
        increments = {
            field.name: counts[field.name] - filed_counts[field.name]
            for field in fields(CacheStats)
        }
        if self._disk is not None and any(increments.values()):
            self._filed = self._stats
            with self._guarded(self._disk):
                self._disk.add_counts(increments)

    @contextlib.contextmanager
    def _guarded(self, disk: TextStore) -> Iterator[None]:
        """Run disk work; if the disk fails, this cache goes on in memory, with one warning."""
        try:
            yield
        except (OSError, ValueError, TypeError, OverflowError, sqlite3.Error) as error:
            disk.close()
            self._disk = None
            warnings.warn(
                f"The text cache {disk.path} cannot be used ({error}); embeddings are kept in "
                "memory only. Set XDECODER_RT_CACHE or cache_dir to a writable folder of your own.",
                RuntimeWarning,
                stacklevel=4,
            )
        finally:
            self._count(**disk.take_counts())
