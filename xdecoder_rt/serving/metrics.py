"""Figures of a service for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

__all__ = ["Metrics"]

_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class Metrics:
    """Counts requests and their times; refusals at the door are not among them.

    Args:
        busy: says how many requests run or wait.
        kept: says how many images are kept.
    """

    def __init__(self, busy: Callable[[], int], kept: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "xdecoder_rt_requests", "Requests answered", ("call", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "xdecoder_rt_seconds", "Time of a request, waiting included", ("call",),
            registry=self._registry, buckets=_SECONDS,
        )  # fmt: skip
        for name, text, value in (
            ("xdecoder_rt_busy", "Requests that run or wait", busy),
            ("xdecoder_rt_kept_images", "Encoded images that are kept", kept),
        ):
            Gauge(name, text, registry=self._registry).set_function(value)

    def observe(self, call: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(call, str(status)).inc()
        self._seconds.labels(call).observe(seconds)

    def page(self) -> tuple[bytes, str]:
        """Return what Prometheus reads, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST
