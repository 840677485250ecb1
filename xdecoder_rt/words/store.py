"""The file behind a text cache: SQLite, shared by processes, bounded, healing itself."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xdecoder_rt.atomic import check_private, private_folder

__all__ = ["StoredEntry", "StoreSummary", "TextStore", "Vector"]

_CHECKSUM_BYTES = 8
_KEYS_PER_QUERY = 500
_BUSY_SECONDS = 0.5
_TOUCH_SECONDS = 3600
_KEPT_BY_EVICTION = 0.8
_MOST_RESETS = 3
# What SQLite keeps in files of its own beside the database.
_BESIDE = ("-wal", "-shm", "-journal")
# What a damaged file can lead to; all but the first by a message or a value that is not what it
# should be.
_ERRORS = (sqlite3.Error, UnicodeError, TypeError, OverflowError)

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True)
class StoredEntry:
    """A text whose embedding is in the file.

    Attributes:
        text: what was embedded, as the cache was asked for it.
        bytes: of its embedding.
        used: when it was last used, to the hour; seconds since 1970.
    """

    text: str
    bytes: int
    used: int


@dataclass(frozen=True)
class StoreSummary:
    """Summary of a file, all namespaces together.

    Attributes:
        entries: embeddings.
        bytes: of the file that are in use.
        counts: name to count, of all processes since the file was begun.
    """

    entries: int
    bytes: int
    counts: Mapping[str, int]


class TextStore:
    """The SQLite file in WAL mode. Raises OSError or sqlite3.Error when it cannot be used at all.

    One thread at a time may use it.

    Args:
        path: the file; a damaged one is set aside under the same name with ``.damaged`` added.
        limit_bytes: how large it may grow before the entries used longest ago are dropped.
    """

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self.path = path
        self._resets_left = _MOST_RESETS
        self._limit_bytes = limit_bytes
        self._connection: sqlite3.Connection | None = None
        self._process = 0
        self._inherited: list[sqlite3.Connection] = []
        self._file: tuple[int, int] | None = None
        self._counts = {"corrupt_rows": 0, "resets": 0, "evicted": 0}

    def open(self) -> None:
        """Open the file, beginning anew when it is damaged."""
        private_folder(self.path.parent)
        for suffix in ("", *_BESIDE):
            check_private(Path(f"{self.path}{suffix}"))
        try:
            self._connect()
        except _ERRORS as error:
            if not _is_damage(error):
                raise
            self._reset()

    def read(
        self, keys: Sequence[bytes], accepts: Callable[[bytes, Vector], bool]
    ) -> list[tuple[bytes, Vector]]:
        """Return the vectors of those `keys` that are stored, sound and accepted.

        The others are dropped from the file: a checksum tells damage, not what was meant.
        """
        try:
            return self._read(keys, accepts)
        except _ERRORS as error:
            self._survive(error)
            return []

    def write(self, namespace: bytes, vectors: Mapping[bytes, tuple[str, Vector]]) -> None:
        """Store vectors with their texts, and drop old ones when there are too many."""
        try:
            self._write(namespace, vectors)
        except _ERRORS as error:
            if self._survive(error):
                self._write(namespace, vectors)

    def entries(self, namespace: bytes) -> list[StoredEntry]:
        """Return the texts of a namespace, those used last first."""
        try:
            rows = self._connected().execute(
                "SELECT text, length(value), used FROM vectors WHERE namespace = ? "
                "ORDER BY used DESC, rowid DESC",
                (namespace,),
            )
            return [
                StoredEntry(text, size - _CHECKSUM_BYTES, used)
                for data, size, used in rows
                if (text := _decoded(data)) is not None and isinstance(used, int)
            ]
        except _ERRORS as error:
            self._survive(error)
            return []

    def summary(self) -> StoreSummary:
        """Return what the file holds, and what became of it so far."""
        try:
            connection = self._connected()
            entries = int(connection.execute("SELECT COUNT(*) FROM vectors").fetchone()[0])
            counts = connection.execute("SELECT name, value FROM counts").fetchall()
            sound = {str(name): count for name, count in counts if isinstance(count, int)}
            return StoreSummary(entries, self._used_bytes(), sound)
        except _ERRORS as error:
            self._survive(error)
            return StoreSummary(0, 0, {})

    def add_counts(self, counts: Mapping[str, int]) -> None:
        """Add to the counts that the file keeps."""
        rows = [(name, count) for name, count in counts.items() if count]
        try:
            self._change(
                "INSERT INTO counts VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
                rows,
            )
        except _ERRORS as error:
            self._survive(error)

    def take_counts(self) -> dict[str, int]:
        """Return the events since the last call."""
        counts, self._counts = self._counts, dict.fromkeys(self._counts, 0)
        return counts

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None and self._process == os.getpid():
            with contextlib.suppress(*_ERRORS):
                self._connection.close()
        self._connection = None

    def _survive(self, error: Exception) -> bool:
        """Do nothing where another process holds the lock; begin a new file for a damaged one.

        Returns:
            Whether there is a new file.

        Raises:
            Exception: `error`, where a new file would not help, or has not helped so far.
        """
        if _is_locked(error):
            return False
        if not _is_damage(error) or self._resets_left == 0:
            raise error
        self._reset()
        return True

    def _reset(self) -> None:
        self.close()
        self._resets_left -= 1
        # Another process may have begun anew already: its file is not the one that was opened.
        if self._file == _identity(self.path):
            for suffix in _BESIDE:
                with contextlib.suppress(FileNotFoundError):
                    Path(f"{self.path}{suffix}").unlink()
            with contextlib.suppress(FileNotFoundError):
                os.replace(self.path, f"{self.path}.damaged")
            self._counts["resets"] += 1
        self._connect()

    def _connect(self) -> sqlite3.Connection:
        # SQLite itself would let the umask decide who may read what was asked.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        self._file = _identity(self.path)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(f"PRAGMA journal_size_limit={4 << 20}")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS vectors "
                "(key BLOB PRIMARY KEY, value BLOB NOT NULL, used INTEGER NOT NULL, "
                "namespace BLOB NOT NULL, text BLOB NOT NULL)"
            )
            connection.execute(
                "CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL)"
            )
            connection.execute("CREATE INDEX IF NOT EXISTS by_use ON vectors (used)")
            connection.execute("CREATE INDEX IF NOT EXISTS by_owner ON vectors (namespace)")
            # A file that can be read only would fail at the first write, not here.
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("COMMIT")
        except _ERRORS as error:
            if not _is_locked(error):
                connection.close()
                raise
        self._connection, self._process = connection, os.getpid()
        return connection

    def _connected(self) -> sqlite3.Connection:
        """Return this process's connection: SQLite's must not be used across a fork."""
        if self._connection is None:
            return self._connect()
        if self._process != os.getpid():
            # Not even closed: that would drop the parent's locks.
            self._inherited.append(self._connection)
            return self._connect()
        return self._connection

    def _read(
        self, keys: Sequence[bytes], accepts: Callable[[bytes, Vector], bool]
    ) -> list[tuple[bytes, Vector]]:
        connection, now = self._connected(), int(time.time())
        vectors, corrupt, stale = [], [], []
        for start in range(0, len(keys), _KEYS_PER_QUERY):
            batch = keys[start : start + _KEYS_PER_QUERY]
            marks = ",".join("?" * len(batch))
            rows = connection.execute(
                f"SELECT key, value, used FROM vectors WHERE key IN ({marks})", batch
            )
            for key, value, used in rows:
                vector = _unpack(key, value)
                if vector is None or not accepts(key, vector):
                    corrupt.append(key)
                    continue
                vectors.append((key, vector))
                # Use is noted by the hour: a hit should not cost a write.
                if not isinstance(used, int) or abs(now - used) > _TOUCH_SECONDS:
                    stale.append(key)
        self._counts["corrupt_rows"] += len(corrupt)
        try:
            self._change("DELETE FROM vectors WHERE key = ?", ((key,) for key in corrupt))
            self._change("UPDATE vectors SET used = ? WHERE key = ?", ((now, k) for k in stale))
        except _ERRORS as error:
            self._survive(error)
        return vectors

    def _write(self, namespace: bytes, vectors: Mapping[bytes, tuple[str, Vector]]) -> None:
        now = int(time.time())
        rows = (
            (key, _pack(key, vector), now, namespace, text.encode("utf-8", "surrogatepass"))
            for key, (text, vector) in vectors.items()
        )
        self._change("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?, ?)", rows)
        self._evict()

    def _change(self, statement: str, rows: Iterable[tuple[bytes | int | str, ...]]) -> None:
        rows = list(rows)
        if not rows:
            return
        with self._transaction() as connection:
            connection.executemany(statement, rows)

    def _used_bytes(self) -> int:
        connection = self._connected()
        pages, free_pages, page_size = (
            int(connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        if not 0 <= free_pages <= pages:
            raise sqlite3.DatabaseError(f"malformed: {free_pages} of {pages} pages are free")
        return (pages - free_pages) * page_size

    def _evict(self) -> None:
        used_bytes = self._used_bytes()
        if used_bytes <= self._limit_bytes:
            return
        with self._transaction() as connection:
            count = int(connection.execute("SELECT COUNT(*) FROM vectors").fetchone()[0])
            kept_rows = int(count * _KEPT_BY_EVICTION * self._limit_bytes / used_bytes)
            # Freed pages are used again, so the file stays at the limit without being vacuumed.
            connection.execute(
                "DELETE FROM vectors WHERE rowid IN "
                "(SELECT rowid FROM vectors ORDER BY used, rowid LIMIT ?)",
                (count - kept_rows,),
            )
        self._counts["evicted"] += count - kept_rows

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connected()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(*_ERRORS):
                connection.execute("ROLLBACK")
            raise


def _pack(key: bytes, vector: Vector) -> bytes:
    data = vector.astype("<f4", copy=False).tobytes()
    return data + hashlib.blake2b(data, key=key, digest_size=_CHECKSUM_BYTES).digest()


def _unpack(key: object, value: object) -> Vector | None:
    """Return the vector in a row, or None if the row is not what was written."""
    if not isinstance(key, bytes) or not isinstance(value, bytes):
        return None
    data, checksum = value[:-_CHECKSUM_BYTES], value[-_CHECKSUM_BYTES:]
    if hashlib.blake2b(data, key=key, digest_size=_CHECKSUM_BYTES).digest() != checksum:
        return None
    return np.frombuffer(data, dtype="<f4")


def _decoded(text: object) -> str | None:
    """Return the text in a row, or None if it is not one: the checksum is the vector's alone."""
    if not isinstance(text, bytes):
        return None
    try:
        return text.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from another of the same name."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_damage(error: Exception) -> bool:
    """Whether a new file may help: always, but where it is locked or there is no room for one.

    Damage has as many names as SQLite has checks, and some of its messages quote the damaged bytes,
    which then cannot even be decoded.
    """
    lacks = ("disk is full", "out of memory")
    return not _is_locked(error) and not any(sign in str(error) for sign in lacks)


def _is_locked(error: Exception) -> bool:
    return "locked" in str(error) or "busy" in str(error)
