"""A server on the loopback that gives files as a hub does, and as bad servers do."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

COMMIT = "c0ffee" + "0" * 34


@dataclass
class Served:
    """What a path gives.

    Attributes:
        content: the file.
        status: of the answer.
        headers: beside the server's own; None takes one of these away.
        cuts: how many bytes of a body are sent before the connection is closed, one an answer;
            the next is whole.
        gives_parts: whether ranges are honoured.
        pause: seconds before each kilobyte.
        gate: waited for before the body's second half.
    """

    content: bytes = b""
    status: int = 200
    headers: dict[str, str | None] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    gives_parts: bool = True
    pause: float = 0.0
    gate: threading.Event | None = None

    @property
    def etag(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True)
class Asked:
    """A request that came; names of headers in small letters."""

    method: str
    path: str
    headers: dict[str, str]


class FileServer(http.server.ThreadingHTTPServer):
    """Serves `files` by path; `asked` has what came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, Served] = {}
        self.asked: list[Asked] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def hub(self, path: str, content: bytes, commit: str = COMMIT, **settings: Any) -> Served:
        """Serve ``owner/name/file`` as a hub does: a redirect with the digest, then the body."""
        owner, name, file = path.split("/", 2)
        body = Served(content, **settings)
        self.files[f"/storage/{body.etag}"] = body
        self.files[f"/{owner}/{name}/resolve/main/{file}"] = Served(
            status=302,
            headers={
                "Location": f"http://localhost:{self.server_address[1]}/storage/{body.etag}",
                "X-Repo-Commit": commit,
                "X-Linked-Etag": f'"{body.etag}"',
                "X-Linked-Size": str(len(content)),
            },
        )
        return body

    def paths(self, method: str = "GET") -> list[str]:
        return [request.path for request in self.asked if request.method == method]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FileServer

    def do_GET(self) -> None:  # noqa: N802 (http.server's name)
        self._answer()

    def do_HEAD(self) -> None:  # noqa: N802
        self._answer()

    def log_message(self, *arguments: object) -> None:
        pass

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append(Asked(self.command, self.path, headers))
        file = self.server.files.get(path, Served(b"nothing here", 404))
        begin, status = 0, file.status
        is_current = f'"{file.etag}"' == self.headers.get("If-None-Match")
        wanted = self.headers.get("Range")
        same = self.headers.get("If-Range") in (None, f'"{file.etag}"')
        answer: dict[str, str | None] = {"ETag": f'"{file.etag}"'}
        if status == 200 and is_current:
            status = 304
        elif status == 200 and wanted and file.gives_parts and same:
            begin = int(wanted.removeprefix("bytes=").rstrip("-"))
            size = len(file.content)
            status = 206 if begin < size else 416
            answer["Content-Range"] = (
                f"bytes {begin}-{size - 1}/{size}" if status == 206 else f"bytes */{size}"
            )
        body = b"" if status in (304, 416) else file.content[begin:]
        answer |= {"Connection": "close", "Content-Length": str(len(body)), **file.headers}
        self.send_response(status)
        for name, value in answer.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = file.cuts.pop(0) if file.cuts and body else None
        with contextlib.suppress(OSError):
            self._send(file, body if cut is None else body[:cut])

    def _send(self, file: Served, body: bytes) -> None:
        if file.gate is not None:
            half = len(body) // 2
            self.wfile.write(body[:half])
            self.wfile.flush()
            file.gate.wait(60)
            body = body[half:]
        if not file.pause:
            self.wfile.write(body)
            return
        for start in range(0, len(body), 1024):
            time.sleep(file.pause)
            self.wfile.write(body[start : start + 1024])


@contextlib.contextmanager
def serving() -> Iterator[FileServer]:
    """Run a server as long as the block."""
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
