"""The door: who may enter, how much a request may bring, and how long it may take to."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, TypeAlias

from xdecoder_rt.errors import quoted
from xdecoder_rt.serving.limits import Limits, RefusedError, described

__all__ = ["Guard"]

_Message: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]
_App: TypeAlias = Callable[[_Message, _Receive, _Send], Awaitable[None]]


class Guard:
    """ASGI middleware that reads a request whole, within bounds, before anything else sees it.

    Args:
        app: the application behind it.
        limits: the bounds.
        token: what ``Authorization: Bearer`` must have; None lets everybody in.
        hosts: values of ``Host`` that are answered, without ports; None for all. A page of another
            site that makes a browser ask this machine names another host.
        open_paths: what needs no token.
    """

    def __init__(
        self,
        app: _App,
        limits: Limits,
        token: str | None,
        hosts: Collection[str] | None,
        open_paths: Collection[str],
    ) -> None:
        self._app = app
        self._limits = limits
        self._token = token
        self._hosts = hosts
        self._open_paths = open_paths
        self._held = 0

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        held = [0]
        try:
            self._admit(scope)
            body = await self._body(scope, receive, held)
            await self._app(scope, _replayed(body, receive), send)
        except RefusedError as error:
            await _refuse(error, send)
        finally:
            self._held -= held[0]

    def _admit(self, scope: _Message) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        host = headers.get(b"host", b"").decode("latin-1")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if self._hosts is not None and name not in self._hosts:
            raise RefusedError(
                403, f"The host {quoted(host)} is not answered", expected=", ".join(self._hosts)
            )
        if self._token is None or scope["path"] in self._open_paths:
            return
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() != b"bearer" or not hmac.compare_digest(given, self._token.encode()):
            raise RefusedError(
                401,
                "The token is missing or wrong",
                expected="the header Authorization: Bearer TOKEN",
                fix="ask whoever runs the service for its token",
            )

    async def _body(self, scope: _Message, receive: _Receive, held: list[int]) -> bytes:
        limit = self._limits.body_bytes
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > limit:
            raise _too_large(int(announced), limit)
        try:
            return await asyncio.wait_for(
                self._read(receive, held), timeout=self._limits.body_seconds
            )
        except (TimeoutError, asyncio.TimeoutError):
            raise RefusedError(
                408,
                f"The request was not there after {self._limits.body_seconds:g} s",
                fix="send a smaller image, or over a faster line",
            ) from None

    async def _read(self, receive: _Receive, held: list[int]) -> bytes:
        parts = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RefusedError(400, "The client left before its request was there")
            part = message.get("body", b"")
            held[0] += len(part)
            self._held += len(part)
            if held[0] > self._limits.body_bytes:
                raise _too_large(held[0], self._limits.body_bytes)
            if self._held > self._limits.bodies_bytes:
                raise RefusedError(
                    429, "Too many requests are being read", fix="try again in a second"
                )
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)


def _replayed(body: bytes, receive: _Receive) -> _Receive:
    """Return a channel that gives a body that has been read, then what comes after it."""
    bodies = [body]

    async def replay() -> _Message:
        if bodies:
            return {"type": "http.request", "body": bodies.pop(), "more_body": False}
        return await receive()

    return replay


def _too_large(size: int, limit: int) -> RefusedError:
    return RefusedError(
        413,
        f"The request has {size:,} bytes or more",
        expected=f"at most {limit:,}",
        fix="send a smaller image, as a JPEG for one",
    )


async def _refuse(error: RefusedError, send: _Send) -> None:
    body = json.dumps(described(error)).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if error.status == 429:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
