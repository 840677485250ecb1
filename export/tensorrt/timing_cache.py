"""TensorRT's measurements of tactics, kept from one build to the next."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from xdecoder_rt.atomic import atomic_writer


def attach(config: Any, path: Path | None) -> None:
    """Give a builder config the cache of a file, or a new one where the file is of no use.

    Args:
        config: an ``IBuilderConfig``.
        path: the file; None for no cache.
    """
    if path is None:
        return
    try:
        measurements = path.read_bytes()
    except OSError:
        measurements = b""
    cache = config.create_timing_cache(measurements)
    # Of another GPU or version: TensorRT says so, and starts anew.
    if cache is None or not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def store(config: Any, path: Path | None) -> None:
    """Write what a build measured; a folder that takes no file costs time at the next build only.

    Args:
        config: the ``IBuilderConfig``.
        path: as given to :func:`attach`.
    """
    cache = None if path is None else config.get_timing_cache()
    if path is None or cache is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_writer(path) as file:
            file.write(bytes(cache.serialize()))
    except OSError as error:
        warnings.warn(
            f"The timing cache {path} was not written ({error.strerror or error})",
            RuntimeWarning,
            stacklevel=2,
        )
