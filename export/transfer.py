"""A file over HTTP: bounded, resumed where it broke off, under its name only when it is whole."""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

from xdecoder_rt import __version__
from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.errors import ArgumentError, CheckpointError, XDecoderError, quoted
from xdecoder_rt.export.address import BY_HAND, check_url, is_loopback, shown_url
from xdecoder_rt.files.formats import beginning
from xdecoder_rt.files.regular import sha256_of

try:
    import fcntl
except ImportError:  # Windows: two processes may download the same file at once
    _HAS_LOCKS = False
else:
    _HAS_LOCKS = True

LARGEST = 16 << 30
"""Bytes that a download may have: sixteen times the largest published file."""
_TRIES = 5
_PAUSE = 0.5
_CHUNK = 1 << 18
_HEAD_SIZE = 512
_SLOWEST = 1000
_VALIDATOR_LIMIT = 1000
_MAX_SAFETENSORS_HEADER = 100_000_000
_AGAIN = "run the command again: it goes on where it broke off"


@dataclass(frozen=True)
class Request:
    """What to download.

    Attributes:
        url: https, or http on this machine.
        label: names it in messages.
        headers: for the host of the URL alone; where it redirects to, they are not sent.
        size: its bytes, where they are known beforehand.
        sha256: its digest, where it is known beforehand.
        is_fixed: whether the URL always gives the same bytes, so that a part of them stays good
            and a file that is there is not asked for again.
        mode: permissions of what is written, less the umask.
    """

    url: str
    label: str
    headers: Mapping[str, str] = field(default_factory=dict)
    size: int | None = None
    sha256: str | None = None
    is_fixed: bool = False
    mode: int = 0o600


class UnreachableError(CheckpointError):
    """The server of a checkpoint cannot be reached, or is out of order.

    An older copy in the cache is used where there is one.

    Fix: look at the network and the proxy; with ``--offline`` the cache alone is asked.
    """


class _BrokenOffError(Exception):
    """A body that ended early."""


def download(request: Request, target: Path, lock: Path, *, timeout: float) -> None:
    """Download a file, or see that `target` is what the URL still gives.

    What has come so far stays beside `target` as ``.part`` and is gone on with, in this call or the
    next, if the server gives parts and its file has not changed. A bar goes to stderr where that is
    a terminal.

    Args:
        request: what to download.
        target: where it appears, whole or not at all; the folder must exist.
        lock: a file that is locked meanwhile; another process waits for it.
        timeout: seconds without an answer or without 1 kB/s after which a connection is given up.

    Raises:
        UnreachableError: there is no connection, or the server is out of order.
        CheckpointError: the server refuses, the answer is no file of weights, is larger than
            `LARGEST` or the disk, has another digest, or broke off.
    """
    try:
        with _locked(lock, request.mode):
            if request.is_fixed and target.exists():
                return
            _Download(request, target, timeout).run()
    except OSError as error:
        raise CheckpointError(
            f"The download cannot be kept at {quoted(str(target), 120)}: {error.strerror or error}",
            fix="make room there, or choose another folder with HF_HOME or XDECODER_RT_CACHE",
        ) from error


@contextlib.contextmanager
def _locked(path: Path, mode: int) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), mode)
    try:
        if _HAS_LOCKS:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirects to https alone, or from http on this machine to the same."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the next request. Python 3.10 follows 307, and not 308 beside it."""
        return super().redirect_request(req, fp, min(code, 307), msg, headers, newurl)  # type: ignore[arg-type]

    def http_error_302(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
    ) -> Any:
        location = headers.get("location") or headers.get("uri") or ""
        target = urljoin(req.full_url, location)
        begun = urlsplit(req.full_url)
        try:
            check_url(target, "it")
            is_safe = urlsplit(target).scheme == "https" or begun.scheme == "http"
        except ArgumentError:
            is_safe = False
        if not is_safe:
            fp.close()
            raise CheckpointError(
                f"{begun.hostname} redirects to {shown_url(target)}",
                expected="a redirect to https",
                fix=BY_HAND,
            )
        return super().http_error_302(req, fp, code, msg, headers)  # type: ignore[arg-type]

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


@dataclass
class _Download:
    """One download under its lock."""

    request: Request
    target: Path
    timeout: float

    def __post_init__(self) -> None:
        self.part = self.target.with_name(f"{self.target.name}.part")
        self._part_validator = Path(f"{self.part}.validator")
        self._target_validator = Path(f"{self.target}.validator")

    def run(self) -> None:
        """Try until the file is whole, as long as each try brings something."""
        size = self._done()
        for attempt in range(_TRIES):
            try:
                is_new = self._attempt()
            except (_BrokenOffError, UnreachableError) as error:
                if attempt == 0 and isinstance(error, UnreachableError):
                    raise
                before, size = size, self._done()
                if size == before or attempt == _TRIES - 1:
                    raise CheckpointError(
                        f"The download of {self.request.label} broke off after {size:,} bytes: "
                        f"{error}",
                        fix=_AGAIN,
                    ) from error
                time.sleep(_PAUSE)
            else:
                if is_new:
                    self._take()
                return

    def _done(self) -> int:
        """Return the bytes that are there already."""
        with contextlib.suppress(FileNotFoundError):
            return self.part.lstat().st_size
        return 0

    def _attempt(self) -> bool:
        """Ask for the file, or what is missing of it; False if the target is what the URL gives.

        Raises:
            _BrokenOffError: the body ended early; what came is kept.
        """
        done, total = self._done(), self.request.size
        validator = _read_validator(self._part_validator)
        if not self.request.is_fixed and (validator is None or validator.startswith("W/")):
            done = 0
        if done and done == total:
            return True
        headers = {"Accept-Encoding": "identity", "User-Agent": f"xdecoder_rt/{__version__}"}
        if done:
            headers["Range"] = f"bytes={done}-"
            if validator is not None:
                headers["If-Range"] = validator
        elif (current := _read_validator(self._target_validator)) and self.target.is_file():
            name = "If-None-Match" if current.endswith('"') else "If-Modified-Since"
            headers[name] = current
        try:
            response = self._open(headers)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 304:
                return False
            if error.code == 416 and done:
                if str(error.headers.get("Content-Range")) == f"bytes */{done}":
                    return True
                self.discard()
                raise _BrokenOffError("the server's file is shorter") from error
            raise refusal(self.request.label, error.code) from error
        with response:
            self._receive(response, done)
        return True

    def _open(self, headers: Mapping[str, str]) -> Any:
        """Send a request and return the answer, redirects followed.

        Raises:
            urllib.error.HTTPError: the answer is no file.
            UnreachableError: there is no answer.
        """
        url = check_url(self.request.url, self.request.label)
        message = urllib.request.Request(url, headers=dict(headers))
        for name, value in self.request.headers.items():
            # Of all headers, redirects leave these behind.
            message.add_unredirected_header(name, value)
        here = is_loopback(urlsplit(url).hostname)
        proxies = [urllib.request.ProxyHandler({})] if here else []
        opener = urllib.request.build_opener(_Redirects, *proxies)
        try:
            return opener.open(message, timeout=self.timeout)
        except (urllib.error.HTTPError, XDecoderError):
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise unreachable(self.request.label, _reason(reason)) from error

    def _receive(self, response: Any, done: int) -> None:
        """Write the body to the part.

        Raises:
            _BrokenOffError: it ended early.
        """
        is_rest = response.status == 206
        found = re.fullmatch(
            r"bytes (\d+)-\d+/(\d+|\*)", str(response.headers.get("Content-Range")).strip()
        )
        if is_rest and (not done or found is None or int(found[1]) != done):
            self.discard()
            raise _BrokenOffError("the server gave another part than was asked for")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise CheckpointError(
                f"{self.request.label} comes compressed",
                expected="the file itself",
                fix=BY_HAND,
            )
        total = self._total(response, found if is_rest else None, done)
        if not is_rest:
            done = 0
            self.discard()
            validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
            if validator and len(validator) <= _VALIDATOR_LIMIT and not self.request.is_fixed:
                with atomic_writer(self._part_validator, private=True) as file:
                    file.write(validator.encode("latin-1"))
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        with os.fdopen(os.open(self.part, flags, self.request.mode), "ab") as file:
            try:
                for chunk in self._chunks(response, done, total):
                    file.write(chunk)
            except CheckpointError:
                self.discard()
                raise
            file.flush()
            os.fsync(file.fileno())

    def _total(self, response: Any, content_range: re.Match[str] | None, done: int) -> int | None:
        """Return the size of the file as the server says it, which must be one that fits."""
        text = content_range[2] if content_range else response.headers.get("Content-Length")
        total = int(text) if text and text.isdecimal() else None
        label, known = self.request.label, self.request.size
        if known is not None and total is not None and total != known:
            self.discard()
            raise CheckpointError(
                f"{label} comes with {total:,} bytes",
                expected=f"{known:,} bytes, as its repository says",
                fix="try again later",
            )
        total = known if total is None else total
        if total is not None:
            _check_size(total, label)
            missing = total - (done if content_range else 0)
            free = shutil.disk_usage(self.part.parent).free
            if missing > free:
                raise OSError(errno.ENOSPC, f"{missing:,} bytes are to come, {free:,} are free")
        elif not response.chunked and self.request.sha256 is None:
            raise CheckpointError(
                f"The server does not say how large {label} is, so that a part could pass for all",
                fix="put the file's digest behind the address: #sha256=…",
            )
        return total

    def _chunks(self, response: Any, done: int, total: int | None) -> Iterator[bytes]:
        """Yield the body as it comes.

        Raises:
            _BrokenOffError: it ended early, or hardly comes.
            CheckpointError: it is no file of weights, or has no end.
        """
        from tqdm import tqdm

        name = self.request.label
        bar = tqdm(
            desc=name[-40:], total=total, initial=done, unit="B", unit_scale=True, leave=False,
            disable=None,
        )  # fmt: skip
        window, came = time.monotonic(), 0
        head = b"" if not done else None
        with bar:
            while True:
                try:
                    chunk = response.read1(_CHUNK)
                except (OSError, http.client.HTTPException, ValueError) as error:
                    raise _BrokenOffError(_reason(error)) from error
                if head is not None:  # until it is seen what comes, nothing is written
                    head += chunk
                    if chunk and len(head) < _HEAD_SIZE:
                        continue
                    if not chunk and total not in (None, len(head)):
                        raise _BrokenOffError(f"{total:,} bytes were announced")
                    _check_head(head, name)
                    chunk, head = head, None
                if not chunk:
                    break
                done, came = done + len(chunk), came + len(chunk)
                _check_size(done, name)
                yield chunk
                bar.update(len(chunk))
                if (seconds := time.monotonic() - window) > self.timeout:
                    if came < _SLOWEST * seconds:
                        raise _BrokenOffError(f"{came:,} bytes came in {seconds:.0f} s")
                    window, came = time.monotonic(), 0
        if total is not None and done != total:
            raise _BrokenOffError(f"{total:,} bytes were announced")

    def _take(self) -> None:
        """Give the part its name, if it is what it should be."""
        expected = self.request.sha256
        if expected is not None and (digest := sha256_of(self.part)) != expected:
            self.discard()
            raise CheckpointError(
                f"{self.request.label} has the SHA-256 {digest}",
                expected=expected,
                fix="find out which of the two is right before you use it",
            )
        # In this order: a validator beside another file than its own would let that pass for new.
        self._target_validator.unlink(missing_ok=True)
        os.replace(self.part, self.target)
        if self._part_validator.exists():
            os.replace(self._part_validator, self._target_validator)

    def discard(self) -> None:
        """Remove what has come."""
        self.part.unlink(missing_ok=True)
        self._part_validator.unlink(missing_ok=True)


def unreachable(label: str, reason: str) -> UnreachableError:
    """Return the error of a server that does not answer."""
    return UnreachableError(
        f"{label} cannot be reached: {reason}",
        fix="check the connection and the proxy (HTTPS_PROXY), or download it elsewhere and name "
        "the file",
    )


def refusal(label: str, status: int, denied_fix: str = BY_HAND) -> CheckpointError:
    """Return the error of an answer that is no file.

    Args:
        label: names what was asked for.
        status: of HTTP.
        denied_fix: what to do where it is for some people only.
    """
    answer = f"{label}: the server answered {status} {http.client.responses.get(status, '')}"
    if status >= 500 or status in (408, 425, 429):
        return UnreachableError(answer, fix="try again later; what has come is kept")
    if status in (401, 403):
        return CheckpointError(answer, expected="a file for everybody", fix=denied_fix)
    if status in (404, 410):
        return CheckpointError(answer, fix="check the address; is the file still there?")
    if 300 <= status < 400:
        return CheckpointError(answer, expected="a redirect that ends at a file", fix=BY_HAND)
    return CheckpointError(answer, fix=BY_HAND)


def _check_size(size: int, label: str) -> None:
    if size > LARGEST:
        raise CheckpointError(
            f"{label} has {size:,} bytes or more",
            expected=f"at most {LARGEST:,}, which is sixteen times the largest published file",
            fix="check the address",
        )


def _check_head(head: bytes, label: str) -> None:
    """Refuse what begins as no file of weights does, and say what it is.

    Raises:
        CheckpointError: it is a web page, an answer in XML or JSON, a pointer, text, or nothing.
    """
    header = int.from_bytes(head[:8], "little")
    is_safetensors = head[8:9] == b"{" and 2 <= header <= _MAX_SAFETENSORS_HEADER
    if is_safetensors or head.startswith((b"PK\x03\x04", b"\x80")):
        return
    raise CheckpointError(
        f"{label} is no file of weights: {_content(head)} came instead",
        expected="a .pt file of torch.save, or .safetensors",
        fix=f"use the address of the file itself (of a hub's page: resolve, not blob), or "
        f"{BY_HAND}",
    )


def _content(head: bytes) -> str:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not text:
        return "nothing"
    if text.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS"
    if re.match(rb"<(!doctype html|html|head|body|script|meta|title|!--)", text):
        title = re.search(rb"<title[^>]*>\s*([^<]{1,80})", head, re.IGNORECASE)
        return "a web page" + (f" titled {beginning(title[1])}" if title else "")
    if text.startswith(b"<"):
        return f"an answer in XML ({beginning(head)})"
    if text[:1] in (b"{", b"["):
        return f"JSON ({beginning(head)})"
    words = head.decode("utf-8", "replace")
    is_text = all(letter.isprintable() or letter.isspace() for letter in words.rstrip("\ufffd"))
    return f"text ({beginning(head)})" if is_text else f"something that begins {head[:8]!r}"


def _reason(error: object) -> str:
    """Return why a connection failed, in a few words."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection was closed"
    text = getattr(error, "strerror", None) or getattr(error, "verify_message", None) or str(error)
    return quoted(str(text) or type(error).__name__, 100).strip("'\"")


def _read_validator(path: Path) -> str | None:
    """Return the ETag, or the date, of what lies beside."""
    with contextlib.suppress(OSError):
        text = path.read_bytes()[: _VALIDATOR_LIMIT + 1].decode("latin-1")
        if text.isprintable() and text:
            return text
    return None
