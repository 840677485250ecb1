"""Streams by their address, read with PyAV: rtsp, http."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from xdecoder_rt.errors import ImageError, printable, require
from xdecoder_rt.streams.reconnect import LiveStream, Tell
from xdecoder_rt.streams.video import CONTAINERS, moving_pictures, upright

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["SCHEMES", "open_address", "without_password"]

SCHEMES = ("rtsp", "rtsps", "http", "https")
_FORMATS = f"{CONTAINERS},rtsp,sdp,rtp,hls,mpjpeg,jpeg_pipe,png_pipe"
# No file of this machine, whatever a play list says.
_PROTOCOLS = "rtsp,rtsps,rtp,srtp,udp,tcp,tls,http,https,httpproxy,crypto"
_OPEN_SECONDS, _READ_SECONDS = 10.0, 5.0
_OPTIONS = {
    "format_whitelist": _FORMATS,
    "protocol_whitelist": _PROTOCOLS,
    "rtsp_flags": "prefer_tcp",
}


def without_password(address: str) -> str:
    """Return an address as it may be shown and written down."""
    return re.sub(r"(?<=://)[^/@]*@", "…@", address)


def open_address(address: str, tell: Tell) -> LiveStream:
    """Open a stream by its address.

    A file behind ``http://`` ends where it ends; what is live is opened again when it is lost.

    Args:
        address: ``rtsp://…``, ``rtsps://…``, ``http://…`` or ``https://…``.
        tell: see `LiveStream`.

    Raises:
        ImageError: nothing answers, or it holds no moving pictures.
        MissingExtraError: PyAV is not installed.
    """
    av = require("av", "video")
    name = f"stream {without_password(address)}"
    return LiveStream(name, lambda: _Address(av, address, name), tell)


class _Address:
    """An address, open.

    Args:
        av: PyAV's module.
        address: see `open_address`.
        name: for people.

    Raises:
        ImageError: see `open_address`.
    """

    def __init__(self, av: Any, address: str, name: str) -> None:
        self._av = av
        self._name = printable(name, 200)
        if not urlsplit(address).hostname:
            raise ImageError(f"The {self._name} names no host", expected="rtsp://HOST/PATH")
        try:
            self._container = av.open(
                address, metadata_errors="replace", options=_OPTIONS,
                timeout=(_OPEN_SECONDS, _READ_SECONDS),
            )  # fmt: skip
        except (av.error.FFmpegError, ValueError) as error:
            raise ImageError(
                f"The {self._name} cannot be opened: {_reason(error)}",
                expected="the address of a stream that runs",
            ) from error
        try:
            self._stream = moving_pictures(self._container, name, av)
        except BaseException:
            self._container.close()
            raise
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.fps = float(rate) if rate and 1.0 <= rate <= 1000.0 else None
        form = self._container.format.name
        self._is_file = form.endswith("_pipe") or bool(self._container.duration)
        self._ended = False

    @property
    def is_over(self) -> bool:
        """Whether a file was read to its end."""
        return self._is_file and self._ended

    def frames(self) -> Iterator[tuple[npt.NDArray[np.uint8], float | None]]:
        """Yield frames; packets that cannot be decoded are passed over."""
        error_class = self._av.error.FFmpegError
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except error_class as error:
                raise ImageError(_reason(error)) from error
            try:
                frames = self._stream.codec_context.decode(packet)
            except error_class:
                continue
            for frame in frames:
                yield upright(frame), frame.time
        self._ended = True

    def stop(self) -> None:
        """Do nothing: a read ends by itself after seconds."""

    def close(self) -> None:
        """Close the connection."""
        self._container.close()


def _reason(error: Exception) -> str:
    """Return FFmpeg's words, without the address, which may hold a password."""
    return str(getattr(error, "strerror", None) or type(error).__name__).lower()
