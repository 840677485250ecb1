"""Text embeddings, kept in memory and on disk, so that the text graph runs once per text.

The disk part is one SQLite file in WAL mode, which processes share safely. A cache may always be
lost: whatever goes wrong with the file, work goes on without it, with at most one warning.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import sys
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["CacheStats", "TextCache", "default_directory"]

_FILE_NAME = "text-v1.sqlite"
_CHECKSUM_BYTES = 8
_KEYS_PER_QUERY = 500
_BUSY_SECONDS = 0.5
_TOUCH_SECONDS = 3600
_KEPT_BY_EVICTION = 0.8

_Vector = npt.NDArray[np.float32]


def default_directory() -> Path | None:
    """The folder for caches: ``$XDECODER_RT_CACHE``, else ``xdecoder_rt`` in the user's cache.

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
        memory_hits: texts found in memory.
        disk_hits: texts found on disk.
        misses: texts found in neither.
        corrupt_rows: rows of the file that failed their checksum and were dropped.
        resets: how often the whole file was damaged and begun anew.
        evicted: rows dropped from the file to keep it within its size.
    """

    memory_hits: int = 0
    disk_hits: int = 0
    misses: int = 0
    corrupt_rows: int = 0
    resets: int = 0
    evicted: int = 0


class TextCache:
    """An LRU in memory over an SQLite file; may be called from many threads.

    Args:
        directory: folder of the file, created if need be; None for memory only. If it cannot be
            used, one RuntimeWarning is given and the cache works in memory only.
        namespace: what the embeddings depend on besides the text: the digest of the text graph and
            the template set. Entries of different namespaces share the file and never mix.
        memory_items: how many vectors to keep in memory.
        disk_bytes: how large the file may grow before the entries used longest ago are dropped.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None,
        *,
        namespace: str,
        memory_items: int = 65536,
        disk_bytes: int = 256 << 20,
    ) -> None:
        self._prefix = hashlib.sha256(namespace.encode("utf-8", "surrogatepass")).digest()
        self._memory: OrderedDict[bytes, _Vector] = OrderedDict()
        self._memory_items = memory_items
        self._stats = CacheStats()
        self._lock = threading.RLock()
        self._disk: _Disk | None = None
        if directory is not None:
            self._disk = _Disk(Path(directory) / _FILE_NAME, disk_bytes)
            with self._guarded(self._disk):
                self._disk.open()

    def get_many(self, texts: Sequence[str]) -> dict[str, _Vector]:
        """Looks up embeddings.

        Args:
            texts: any number of texts; repeated ones count once.

        Returns:
            A read-only float32 vector for each text that is known; the others are absent.
        """
        keys = {text: self._key(text) for text in texts}
        found: dict[str, _Vector] = {}
        with self._lock:
            for text, key in keys.items():
                if key in self._memory:
                    self._memory.move_to_end(key)
                    found[text] = self._memory[key]
            in_memory = len(found)
            missing = {key: text for text, key in keys.items() if text not in found}
            if missing and self._disk is not None:
                with self._guarded(self._disk):
                    for key, vector in self._disk.read(list(missing)):
                        found[missing[key]] = vector
                        self._remember(key, vector)
            self._count(
                memory_hits=in_memory,
                disk_hits=len(found) - in_memory,
                misses=len(keys) - len(found),
            )
        return found

    def put_many(self, vectors: Mapping[str, npt.NDArray[np.floating]]) -> None:
        """Stores embeddings, copied as float32; texts that are known already are replaced."""
        copies: dict[bytes, _Vector] = {}
        for text, vector in vectors.items():
            copy = np.array(vector, dtype="<f4").ravel()
            copy.setflags(write=False)
            copies[self._key(text)] = copy
        with self._lock:
            for key, copy in copies.items():
                self._remember(key, copy)
            if copies and self._disk is not None:
                with self._guarded(self._disk):
                    self._disk.write(copies)

    @property
    def stats(self) -> CacheStats:
        """Counts of hits and misses so far."""
        with self._lock:
            return self._stats

    @property
    def is_on_disk(self) -> bool:
        """Whether the file is in use, as opposed to memory only."""
        return self._disk is not None

    def close(self) -> None:
        """Closes the file and forgets what is in memory. May be called twice."""
        with self._lock:
            if self._disk is not None:
                self._disk.close()
                self._disk = None
            self._memory.clear()

    def _key(self, text: str) -> bytes:
        return hashlib.sha256(self._prefix + text.encode("utf-8", "surrogatepass")).digest()

    def _remember(self, key: bytes, vector: _Vector) -> None:
        self._memory[key] = vector
        self._memory.move_to_end(key)
        while len(self._memory) > self._memory_items:
            self._memory.popitem(last=False)

    def _count(self, **more: int) -> None:
        sums = {name: getattr(self._stats, name) + count for name, count in more.items()}
        self._stats = replace(self._stats, **sums)

    @contextlib.contextmanager
    def _guarded(self, disk: _Disk) -> Iterator[None]:
        """Runs disk work; if the disk fails, this cache goes on in memory, with one warning."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            disk.close()
            self._disk = None
            warnings.warn(
                f"The text cache {disk.path} cannot be used ({error}); embeddings are kept in "
                "memory only. Set XDECODER_RT_CACHE or cache_dir to a writable folder.",
                RuntimeWarning,
                stacklevel=4,
            )
        finally:
            self._count(**disk.take_counts())


class _Disk:
    """The SQLite file. Raises OSError or sqlite3.Error when it cannot be used at all."""

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self.path = path
        self._limit_bytes = limit_bytes
        self._connection: sqlite3.Connection | None = None
        self._process = 0
        self._inherited: list[sqlite3.Connection] = []
        self._counts = {"corrupt_rows": 0, "resets": 0, "evicted": 0}

    def open(self) -> None:
        """Opens the file, beginning anew when it is damaged."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connect()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            self._reset()

    def read(self, keys: Sequence[bytes]) -> list[tuple[bytes, _Vector]]:
        """The vectors of those `keys` that are stored and sound."""
        try:
            return self._read(keys)
        except sqlite3.DatabaseError as error:
            self._survive(error)
            return []

    def write(self, vectors: Mapping[bytes, _Vector]) -> None:
        """Stores vectors, and drops old ones when there are too many."""
        try:
            self._write(vectors)
        except sqlite3.DatabaseError as error:
            self._survive(error)

    def take_counts(self) -> dict[str, int]:
        """Events since the last call."""
        counts, self._counts = self._counts, dict.fromkeys(self._counts, 0)
        return counts

    def close(self) -> None:
        """Closes the file."""
        if self._connection is not None and self._process == os.getpid():
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None

    def _survive(self, error: sqlite3.DatabaseError) -> None:
        """Nothing to do when another process holds the lock, a new file for a damaged one."""
        if _is_damage(error):
            self._reset()
        elif not _is_locked(error):
            raise error

    def _reset(self) -> None:
        self.close()
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self.path}{suffix}").unlink()
        self._counts["resets"] += 1
        self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(f"PRAGMA journal_size_limit={4 << 20}")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS vectors "
                "(key BLOB PRIMARY KEY, value BLOB NOT NULL, used INTEGER NOT NULL)"
            )
            connection.execute("CREATE INDEX IF NOT EXISTS by_use ON vectors (used)")
            # A file that can be read only would fail at the first write, not here.
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            if not _is_locked(error):
                connection.close()
                raise
        self._connection, self._process = connection, os.getpid()
        return connection

    def _connected(self) -> sqlite3.Connection:
        """The connection of this process: SQLite's must not be used across a fork."""
        if self._connection is None:
            return self._connect()
        if self._process != os.getpid():
            # Not even closed: that would drop the parent's locks.
            self._inherited.append(self._connection)
            return self._connect()
        return self._connection

    def _read(self, keys: Sequence[bytes]) -> list[tuple[bytes, _Vector]]:
        connection, now = self._connected(), int(time.time())
        found, corrupt, stale = [], [], []
        for start in range(0, len(keys), _KEYS_PER_QUERY):
            some = keys[start : start + _KEYS_PER_QUERY]
            marks = ",".join("?" * len(some))
            rows = connection.execute(
                f"SELECT key, value, used FROM vectors WHERE key IN ({marks})", some
            )
            for key, value, used in rows:
                vector = _unpack(key, value)
                if vector is None:
                    corrupt.append(key)
                    continue
                found.append((key, vector))
                # Use is noted by the hour: a hit should not cost a write.
                if not isinstance(used, int) or abs(now - used) > _TOUCH_SECONDS:
                    stale.append(key)
        self._counts["corrupt_rows"] += len(corrupt)
        try:
            self._change("DELETE FROM vectors WHERE key = ?", ((key,) for key in corrupt))
            self._change("UPDATE vectors SET used = ? WHERE key = ?", ((now, k) for k in stale))
        except sqlite3.DatabaseError as error:
            self._survive(error)
        return found

    def _write(self, vectors: Mapping[bytes, _Vector]) -> None:
        now = int(time.time())
        rows = ((key, _pack(key, vector), now) for key, vector in vectors.items())
        self._change("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)
        self._evict()

    def _change(self, statement: str, rows: Iterable[tuple[bytes | int, ...]]) -> None:
        rows = list(rows)
        if not rows:
            return
        with self._transaction() as connection:
            connection.executemany(statement, rows)

    def _evict(self) -> None:
        connection = self._connected()
        pages, free, page_size = (
            int(connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        used_bytes = (pages - free) * page_size
        if used_bytes <= self._limit_bytes:
            return
        with self._transaction():
            count = int(connection.execute("SELECT COUNT(*) FROM vectors").fetchone()[0])
            kept = int(count * _KEPT_BY_EVICTION * self._limit_bytes / used_bytes)
            # Freed pages are used again, so the file stays at the limit without being vacuumed.
            connection.execute(
                "DELETE FROM vectors WHERE rowid IN "
                "(SELECT rowid FROM vectors ORDER BY used, rowid LIMIT ?)",
                (count - kept,),
            )
        self._counts["evicted"] += count - kept

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connected()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise


def _pack(key: bytes, vector: _Vector) -> bytes:
    data = vector.astype("<f4", copy=False).tobytes()
    return data + hashlib.blake2b(data, key=key, digest_size=_CHECKSUM_BYTES).digest()


def _unpack(key: object, value: object) -> _Vector | None:
    """The vector in a row, or None if the row is not what was written."""
    if not isinstance(key, bytes) or not isinstance(value, bytes):
        return None
    data, checksum = value[:-_CHECKSUM_BYTES], value[-_CHECKSUM_BYTES:]
    if hashlib.blake2b(data, key=key, digest_size=_CHECKSUM_BYTES).digest() != checksum:
        return None
    return np.frombuffer(data, dtype="<f4")


def _is_damage(error: sqlite3.Error) -> bool:
    """SQLITE_CORRUPT and SQLITE_NOTADB, or a file of another layout."""
    text = str(error)
    return any(sign in text for sign in ("malformed", "not a database", "no such", "has no column"))


def _is_locked(error: sqlite3.Error) -> bool:
    return "locked" in str(error) or "busy" in str(error)
