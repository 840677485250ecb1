"""Pictures labelled on the machines of a Ray cluster, with Ray Data.

Every worker is an actor with an engine of its own. Plan and pictures are read where the workers
run, under the same paths: a file system that all machines share. An actor that dies is replaced
by Ray and its pictures are asked again; results come back to the one process that writes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from xdecoder_rt.errors import BackendError, ImageError, require
from xdecoder_rt.labelling.asking import EngineOptions, Labeller, Request
from xdecoder_rt.labelling.pictures import Picture
from xdecoder_rt.labelling.pool import Outcome

__all__ = ["RayWorker", "label_on_cluster"]

LOCAL = "local"
_BLOCK = 4  # pictures that are asked again at most when a worker dies


class RayWorker:
    """What an actor of Ray Data does with a row: the same as every other worker."""

    def __init__(self, options: EngineOptions, request: Request) -> None:
        self._labeller = Labeller(options, request)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Label the picture of a row: `place`, `key` and `path` in, `values` or `error` out."""
        picture = Picture(row["key"], row["path"])
        try:
            values, error = json.dumps(self._labeller.label(picture)), ""
        except ImageError as failure:
            values, error = "", str(failure)
        return {"place": row["place"], "values": values, "error": error}


def label_on_cluster(
    options: EngineOptions,
    request: Request,
    pictures: Sequence[Picture],
    address: str,
    workers: int,
) -> Iterator[Outcome]:
    """Label pictures on a Ray cluster, in the order in which they are done.

    Args:
        options: how every worker opens its engine; a worker reserves as many cores as `threads`.
        request: what is asked.
        pictures: their paths are read by the workers.
        address: of the cluster, ``"auto"`` for the running one, ``"local"`` for one on this
            machine that ends with the run.
        workers: how many actors.

    Raises:
        MissingExtraError: Ray is not installed.
        BackendError: there is no such cluster, or its workers fail.
    """
    ray: Any = require("ray", "ray")
    data: Any = require("ray.data", "ray")
    # Ray Data tells each step of its plan on stderr, where this run shows its own progress.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    is_begun = not ray.is_initialized()
    try:
        if is_begun:
            ray.init(
                address=None if address == LOCAL else address,
                log_to_driver=False,
                logging_level="ERROR",
            )
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        rows = [
            {"place": place, "key": picture.key, "path": picture.path}
            for place, picture in enumerate(pictures)
        ]
        blocks = max(workers, -(-len(rows) // _BLOCK))
        results = data.from_items(rows, override_num_blocks=min(blocks, len(rows))).map(
            RayWorker,
            fn_constructor_args=(options, request),
            compute=data.ActorPoolStrategy(size=workers),
            num_cpus=options.threads or 1,
        )
        for row in results.iter_rows():
            values = json.loads(row["values"]) if row["values"] else None
            yield Outcome(pictures[row["place"]], values, row["error"] or None)
    except (ray.exceptions.RayError, ConnectionError, ValueError) as error:
        raise BackendError(
            f"The Ray cluster {address!r} failed: {error}",
            fix="see that it runs and that its machines read the plan and the pictures under "
            "these paths; the same command then goes on",
        ) from error
    finally:
        if is_begun:
            ray.shutdown()
