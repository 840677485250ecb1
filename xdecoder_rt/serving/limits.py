"""What a service bounds, and the errors of what is beyond."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xdecoder_rt.errors import (
    ArgumentError,
    BackendError,
    ImageError,
    MissingExtraError,
    VocabularyError,
    XDecoderError,
)

__all__ = ["Limits", "RefusedError", "described", "status_of"]


@dataclass(frozen=True)
class Limits:
    """Bounds of a service.

    Attributes:
        body_bytes: of one request.
        bodies_bytes: of all requests that are being read or answered.
        body_seconds: in which a request's body is there.
        pixels: of one image, by its header, before it is decoded.
        images: of one request.
        waiting: requests that wait for an engine.
        seconds: in which a request is answered, waiting included.
        kept: encoded images that are kept for later questions, the latest used.
    """

    body_bytes: int = 20 << 20
    bodies_bytes: int = 256 << 20
    body_seconds: float = 30.0
    pixels: int = 50_000_000
    images: int = 16
    waiting: int = 16
    seconds: float = 120.0
    kept: int = 16


class RefusedError(XDecoderError):
    """A request to the server is malformed, too large, late or unauthorised.

    No engine has seen it.

    Fix: the answer says what was expected; the bounds are options of ``xdecoder-rt serve``, the
    calls stand in ``/openapi.json``.

    Args:
        status: of HTTP.
        what: what was wrong.
        expected: what would have been right.
        fix: what the client can do.
    """

    def __init__(
        self, status: int, what: str, *, expected: str | None = None, fix: str | None = None
    ) -> None:
        super().__init__(what, expected=expected, fix=fix)
        self.status = status


def status_of(error: XDecoderError) -> int:
    """Return the status of HTTP for an error: 4xx for what the client can mend."""
    if isinstance(error, RefusedError):
        return error.status
    if isinstance(error, ImageError | VocabularyError | ArgumentError):
        return 400
    if isinstance(error, MissingExtraError):
        return 501
    if isinstance(error, BackendError):
        return 503
    return 500


def described(error: XDecoderError) -> dict[str, Any]:
    """Return an error as the body of an answer: what is wrong, what was expected, what to do."""
    return {
        "error": {
            "what": error.what,
            "expected": error.expected,
            "fix": error.fix,
            "message": str(error),
        }
    }
