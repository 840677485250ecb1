"""Files that are there whole or not at all, in folders into which nobody else writes."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = [
    "HAS_LOCKS",
    "atomic_writer",
    "check_private",
    "check_private_folder",
    "lock",
    "make_folder",
    "private_folder",
    "real_path",
    "remove_foreign",
]

try:
    import fcntl
except ImportError:  # Windows: temporary files of a killed process stay
    HAS_LOCKS = False
else:
    HAS_LOCKS = True

_TEMPORARY = re.compile(r"\.xdecoder_rt-[0-9a-f]{16}\.tmp")
_SWEPT_AFTER = 60.0
_swept: set[Path] = set()
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


@contextlib.contextmanager
def atomic_writer(path: str | os.PathLike[str], *, private: bool = False) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` when the block ends without an exception.

    The bytes go to a temporary file in the same directory, reach the disk (fsync), and replace
    `path` in one step. Whatever interrupts the block, a full disk or Ctrl-C included, an older file
    at `path` stays as it was and the temporary file is removed. A symbolic link is followed. What a
    killed process left in the directory is removed by the next that writes there.

    Args:
        path: the file to write; its directory must exist.
        private: whether this user alone may read and write it, whatever the umask (0600).

    Yields:
        The open temporary file, writable and readable.

    Raises:
        OSError: the directory is missing or not writable, `path` exists and is not a regular file,
            the disk is full, or no file can have this name.
    """
    target = real_path(path)
    if os.path.exists(target) and not os.path.isfile(target):
        raise IsADirectoryError(errno.EISDIR, "it exists and is no regular file", str(target))
    _remove_left_behind(target.parent)
    temporary = target.with_name(f".xdecoder_rt-{secrets.token_hex(8)}.tmp")
    # os.open with 0o666 lets the umask decide, which tempfile's 0o600 would not.
    mode = 0o600 if private else 0o666
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            lock(descriptor)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_directory(target.parent)


def real_path(path: str | os.PathLike[str]) -> Path:
    """Return where a path leads, links followed, whether or not there is anything.

    Raises:
        OSError: no file can have this name.
    """
    try:
        target = Path(os.path.realpath(path))
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            target.lstat()
    except ValueError as error:  # NUL, or half a character
        raise OSError(errno.EINVAL, "no file can have this name") from error
    return target


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, unless it is there.

    Raises:
        OSError: it cannot be made, or no folder can have this name.
    """
    real_path(path)
    path.mkdir(parents=True, exist_ok=True)


def lock(descriptor: int) -> bool:
    """Lock a file as long as it is open in this process; False if another process holds it."""
    if not HAS_LOCKS:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_left_behind(folder: Path) -> None:
    """Remove temporary files whose process is no more, once for each folder.

    A process that writes holds the lock of its file, and a file younger than a minute may not have
    been locked yet.
    """
    if folder in _swept:
        return
    _swept.add(folder)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _TEMPORARY.fullmatch(entry.name):
                _remove_if_dead(entry)


def _remove_if_dead(entry: os.DirEntry[str]) -> None:
    with contextlib.suppress(OSError):
        status = entry.stat(follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode) or time.time() - status.st_mtime < _SWEPT_AFTER:
            return
        descriptor = os.open(entry.path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
        try:
            if lock(descriptor):
                os.unlink(entry.path)
        finally:
            os.close(descriptor)


def private_folder(path: Path) -> Path:
    """Return a folder of this user's, into which only this user writes; made if need be (0700).

    What a cache holds is believed when it is read again, so it must have been written by the same
    user. A folder that others may enter and read is taken; one that they may write into is not.

    Raises:
        OSError: it cannot be made, written or searched, is a link or no folder, belongs to another
            user, or others may write into it; the message says which.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    _check_private_folder(path)
    return path


def check_private_folder(path: Path) -> None:
    """Refuse what :func:`private_folder` would refuse, and make nothing.

    Raises:
        OSError: as for :func:`private_folder`.
    """
    if os.path.lexists(path):
        _check_private_folder(path)
        return
    parent = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if not parent.is_dir():
        raise NotADirectoryError(f"{parent} is no folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(f"no folder can be made in {parent}")


def _check_private_folder(path: Path) -> None:
    check_private(path, stat.S_ISDIR, "folder")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise PermissionError(f"the folder {path} cannot be read, written and searched")


def check_private(
    path: Path, is_kind: Callable[[int], bool] = stat.S_ISREG, kind: str = "file"
) -> None:
    """Refuse a path that another user may have written to. One that does not exist passes.

    Args:
        path: where it is.
        is_kind: tells a mode of the right kind, as of `stat`.
        kind: its name.

    Raises:
        OSError: it is a link or of another kind, has a second name, belongs to another user, or
            others may write to it; the message says which.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISLNK(status.st_mode):
        raise OSError(f"{path} is a symbolic link, not a {kind}")
    if not is_kind(status.st_mode):
        raise OSError(f"{path} is no {kind}")
    if kind == "file" and status.st_nlink > 1:
        raise OSError(f"the file {path} has another name elsewhere")
    if not hasattr(os, "geteuid"):  # Windows: what is in a user's folders is the user's
        return
    if status.st_uid != os.geteuid():
        raise OSError(f"the {kind} {path} belongs to another user")
    if status.st_mode & _OTHERS_MAY_WRITE:
        raise OSError(f"others may write to the {kind} {path}: chmod go-w")


def remove_foreign(path: Path) -> None:
    """Remove what lies in a private folder and cannot be this user's file, so that one can be.

    Raises:
        OSError: it is a folder.
    """
    try:
        check_private(path)
    except OSError:
        path.unlink()


def _sync_directory(directory: Path) -> None:
    """Make the new name durable; file systems that cannot do this lose nothing but that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
