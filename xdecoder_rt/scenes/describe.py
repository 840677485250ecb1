"""Writing the texts of a labelled folder anew."""

from __future__ import annotations

import json
import multiprocessing
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.cores import usable_cores
from xdecoder_rt.datasets.labelled_folder import ANNOTATIONS, LabelledFolder
from xdecoder_rt.errors import ArgumentError, DatasetError, require
from xdecoder_rt.scenes.language import describe_picture
from xdecoder_rt.scenes.scene import scene_generator

__all__ = ["describe_folder"]

_ITEMS_A_TASK = 8


class _Worker:
    """Describes items by number; made once in each process."""

    current: _Worker | None = None

    def __init__(self, root: Path, seed: int) -> None:
        self.folder = LabelledFolder.open(root, verify=False)
        self.seed = seed

    def describe(self, index: int) -> dict[str, Any]:
        """Return the changed fields of an item, as `annotations.json` has them."""
        folder, item = self.folder, self.folder.items[index]
        texts = describe_picture(
            item.load_image(),
            np.maximum(item.load_panoptic(), 0).astype(np.uint8),
            {segment.id: segment.label for segment in item.segments},
            folder.vocabulary,
            folder.stuff,
            scene_generator("language", "", self.seed, index),
        )
        questions = []
        for question in texts.questions:
            entry: dict[str, Any] = {"text": question.text, "answers": list(question.answers)}
            if question.choices is not None:
                entry["choices"] = list(question.choices)
            questions.append(entry)
        return {
            "phrases": [{"text": p.text, "ids": list(p.ids)} for p in texts.phrases],
            "captions": list(texts.captions),
            "questions": questions,
        }


def _start(root: Path, seed: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the pool's process, which ends it
    _Worker.current = _Worker(root, seed)


def _describe(index: int) -> dict[str, Any]:
    return cast(_Worker, _Worker.current).describe(index)


def describe_folder(
    path: str | Path, *, seed: int = 0, workers: int | None = None, progress: bool = True
) -> LabelledFolder:
    """Replace the phrases, captions and questions of a labelled folder by newly written ones.

    Labels and pixels stay, and so do all other keys of `annotations.json`, which is replaced in
    one step at the end: an interrupted run changes nothing. The texts of item i depend on its
    picture, its labels, the vocabulary, i and the seed, not on the number of processes.

    Args:
        path: The folder.
        seed: Another seed gives other texts.
        workers: Processes; None takes one for each core that this process may use.
        progress: Show a progress bar on standard error.

    Returns:
        The folder, opened.

    Raises:
        ArgumentError: `workers` is less than 1.
        DatasetError: the folder is broken or cannot be written.
        MissingExtraError: tqdm is not installed and `progress` is set.
    """
    root = Path(path)
    worker = _Worker(root, seed)
    count = len(worker.folder)
    processes = min(workers if workers is not None else usable_cores(), count)
    if processes < 1:
        raise ArgumentError(f"workers is {workers}", expected="at least 1 process")
    texts = _describe_all(worker, root, count, processes)
    if progress:
        tqdm = require("tqdm", "scenes")
        texts = iter(tqdm.tqdm(texts, total=count, desc="texts", unit="image"))
    file = root / ANNOTATIONS
    try:
        document = json.loads(file.read_bytes())
        for entry, changed in zip(document["items"], texts, strict=True):
            entry.update(changed)
        head = "".join(
            f"{json.dumps(key)}: {json.dumps(value)},\n"
            for key, value in document.items()
            if key != "items"
        )
        items = ",\n".join(json.dumps(entry) for entry in document["items"])
        with atomic_writer(file) as out:
            out.write(f'{{{head}"items": [\n{items}\n]}}\n'.encode())
    except OSError as error:
        raise DatasetError(f"{file} cannot be written: {error.strerror or error}") from error
    return LabelledFolder.open(root, verify=False)


def _describe_all(
    worker: _Worker, root: Path, count: int, processes: int
) -> Iterator[dict[str, Any]]:
    if processes == 1:
        yield from map(worker.describe, range(count))
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, _start, (root, worker.seed)) as pool:
        yield from pool.imap(_describe, range(count), chunksize=_ITEMS_A_TASK)
