"""The server: plans opened, the application run by uvicorn until a signal ends it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from xdecoder_rt.engine import Engine
from xdecoder_rt.errors import ArgumentError, quoted
from xdecoder_rt.serving.app import Service, make_app
from xdecoder_rt.serving.limits import Limits

__all__ = ["ServerOptions", "serve"]

_LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
_CONNECTIONS = 128
_GOODBYE_SECONDS = 30
_KEEP_ALIVE_SECONDS = 5
_LONGEST_HEAD = 1 << 16


@dataclass(frozen=True)
class ServerOptions:
    """Where and how a service listens.

    Attributes:
        host: address to listen at.
        port: 0 chooses a free one.
        token: what clients must have, or None.
        is_open: whether other machines are let in without a token.
        concurrent: calls that run at a time.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    is_open: bool = False
    concurrent: int = 1

    def __post_init__(self) -> None:
        if self.token is not None and (len(self.token) < 16 or not self.token.isascii()):
            raise ArgumentError(
                "The token is too short or not ASCII",
                expected="at least 16 characters",
                fix="make one: python -c 'import secrets; print(secrets.token_urlsafe())'",
            )
        if not self.is_local and self.token is None and not self.is_open:
            raise ArgumentError(
                f"{quoted(self.host)} lets other machines in, and there is no token",
                expected="a token in $XDECODER_RT_TOKEN",
                fix="set it, or say --no-token",
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in _LOCAL_HOSTS


def serve(
    plans: Sequence[str],
    options: ServerOptions,
    limits: Limits,
    *,
    backend: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    cache_dir: Path | None = None,
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Answer requests until SIGINT or SIGTERM; those that run are answered first.

    Args:
        plans: paths, or ``NAME=PATH``; a plan without a name is called as its file is.
        options: where to listen.
        limits: bounds.
        backend: see :class:`xdecoder_rt.Engine`, as the three that follow.
        device: where to run.
        threads: of one call.
        cache_dir: folder of caches.
        ready: called with the address when requests are taken.

    Raises:
        XDecoderError: a plan is not usable, or two have one name.
        ArgumentError: the address is in use.
    """
    with ExitStack() as stack:
        engines: dict[str, Engine] = {}
        for text in plans:
            name, path = _named(text)
            if name in engines:
                raise ArgumentError(
                    f"Two plans have the name {quoted(name)}", fix="name them: NAME=FILE"
                )
            engines[name] = stack.enter_context(Engine(path, backend, device, threads, cache_dir))
        service = Service(engines, limits, options.concurrent, options.token, options.is_local)
        server = _Server(_config(service, options), ready)
        try:
            server.run()
        except SystemExit as error:  # uvicorn's word for an address that it cannot listen at
            raise ArgumentError(
                f"Nobody can listen at {options.host}:{options.port}",
                expected="a free port of this machine",
                fix="choose another --port, or end the service that has this one",
            ) from error


def _config(service: Service, options: ServerOptions) -> uvicorn.Config:
    return uvicorn.Config(
        make_app(service),
        host=options.host,
        port=options.port,
        log_level="critical",
        access_log=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GOODBYE_SECONDS,
        h11_max_incomplete_event_size=_LONGEST_HEAD,
        http="h11",
        ws="none",
    )


class _Server(uvicorn.Server):
    """Says when it listens, and where."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, *arguments: object, **named: object) -> None:
        await super().startup(*arguments, **named)  # type: ignore[arg-type]
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            self._ready(f"http://{shown}:{port}")


def _named(text: str) -> tuple[str, str]:
    """Return a plan's name and path of ``NAME=PATH`` or ``PATH``."""
    name, is_named, path = text.partition("=")
    if is_named and name and "/" not in name:
        return name, path
    return Path(text).stem, text
