"""A run: pictures are found, asked, noted in the journal, and written as data sets."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.cores import usable_cores
from xdecoder_rt.errors import ArgumentError, quoted
from xdecoder_rt.labelling.asking import EngineOptions, Labeller, Request
from xdecoder_rt.labelling.cluster import label_on_cluster
from xdecoder_rt.labelling.formats.labels import Labels
from xdecoder_rt.labelling.formats.table import FORMATS, write_form
from xdecoder_rt.labelling.journal import Journal
from xdecoder_rt.labelling.pictures import Picture, find_pictures
from xdecoder_rt.labelling.pool import Outcome, label_here, label_in_processes
from xdecoder_rt.labelling.progress import Progress
from xdecoder_rt.labelling.review import REVIEW, write_review

__all__ = ["LabelOptions", "LabelSummary", "label"]

_WRITTEN = "written.json"


@dataclass(frozen=True)
class LabelOptions:
    """How a run is done.

    Attributes:
        output: its folder.
        formats: names of `FORMATS`.
        every: of a video, each so-manyth frame.
        jobs: processes, each with an engine.
        ray: address of a Ray cluster whose workers these are; None for this machine's.
        review: how many pictures the review sheet shows; 0 for no sheet.
        unlabelled: what pixels of no segment show, "unknown" or "nothing" of the words.
    """

    output: Path
    formats: tuple[str, ...] = ("folder",)
    every: int = 1
    jobs: int = 1
    ray: str | None = None
    review: int = 100
    unlabelled: str = "unknown"


@dataclass
class LabelSummary:
    """What a run did.

    Attributes:
        pictures: how many there are.
        labelled: how many were labelled now.
        earlier: how many an earlier run had labelled.
        seconds: that labelling took, with opening the engines.
        failed: what could not be read or asked, by key, and why.
        notes: what was left out, in sentences.
        written: the folder of each form, and the review sheet.
    """

    pictures: int
    labelled: int = 0
    earlier: int = 0
    seconds: float = 0.0
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    written: dict[str, str] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return self.labelled / self.seconds if self.seconds else 0.0


def label(
    sources: Sequence[str],
    engine: EngineOptions,
    request: Request,
    options: LabelOptions,
    progress: Progress | None = None,
) -> LabelSummary:
    """Label pictures and write them as data sets.

    A run that ended, however it ended, goes on when it is called again with the same plan and
    request: what is finished is not asked again. Pictures may have come to the sources since.

    Args:
        sources: see :func:`~xdecoder_rt.labelling.pictures.find_pictures`.
        engine: how engines are opened; several processes share the cores if `threads` is None.
        request: what is asked of every picture.
        options: how.
        progress: told what happens.

    Raises:
        XDecoderError: the plan, the words, the sources or the folder are not usable.

    Example:
        >>> from xdecoder_rt.labelling.asking import EngineOptions, Request
        >>> engine_options = EngineOptions("model.plan", backend="onnxruntime", threads=1)
        >>> request = Request(xdecoder_rt.Vocabulary.parse(["mug"], stuff=["table"]))
        >>> options = LabelOptions(Path("labelled"), review=0)
        >>> summary = label(["shots"], engine_options, request, options)
        >>> summary.pictures, summary.labelled, sorted(summary.written)
        (2, 2, ['folder'])
    """
    progress = progress or Progress()
    for name in options.formats:
        if name not in FORMATS:
            raise ArgumentError(f"There is no form {quoted(name)}", expected=", ".join(FORMATS))
    settings = {"plan": engine.digest(), "every": options.every, **request.to_dict()}
    with Journal(options.output, settings) as journal:
        if not len(journal):
            _refuse_foreign(options)
        found = find_pictures(sources, options.output, options.every, progress.step)
        summary = LabelSummary(len(found.pictures), notes=list(found.failures))
        _ask(found.pictures, engine, request, options, journal, summary, progress)
        _write(found.pictures, request, options, journal, summary, progress)
    return summary


def _ask(
    pictures: Sequence[Picture],
    engine: EngineOptions,
    request: Request,
    options: LabelOptions,
    journal: Journal,
    summary: LabelSummary,
    progress: Progress,
) -> None:
    """Ask for the labels of all pictures that the journal lacks."""
    waiting = [picture for picture in pictures if picture.key not in journal]
    summary.earlier = len(pictures) - len(waiting)
    if not waiting:
        return
    if options.jobs > 1 and engine.threads is None:
        engine = replace(engine, threads=max(1, usable_cores() // options.jobs))
    start = time.perf_counter()
    with closing(_outcomes(waiting, engine, request, options, progress)) as outcomes:
        for outcome in outcomes:
            if outcome.values is not None:
                journal.append(outcome.values)
                summary.labelled += 1
            else:
                summary.failed[outcome.picture.key] = outcome.error or ""
                progress.failed(f"{outcome.picture.key}: {outcome.error}")
            summary.seconds = time.perf_counter() - start
            done = summary.labelled + len(summary.failed)
            progress.labelled(done, len(waiting), summary.seconds)


def _outcomes(
    waiting: Sequence[Picture],
    engine: EngineOptions,
    request: Request,
    options: LabelOptions,
    progress: Progress,
) -> Generator[Outcome, None, None]:
    # Several engines share the cache that this one fills.
    with Labeller(engine, request) as labeller:
        labeller.warm(request, progress.embedded)
        if options.jobs == 1 and options.ray is None:
            yield from label_here(labeller, waiting)
            return
    if options.ray is not None:
        yield from label_on_cluster(engine, request, waiting, options.ray, options.jobs)
    else:
        yield from label_in_processes(engine, request, waiting, options.jobs)


def _write(
    pictures: Sequence[Picture],
    request: Request,
    options: LabelOptions,
    journal: Journal,
    summary: LabelSummary,
    progress: Progress,
) -> None:
    """Write every form that is not yet written of these pictures, and the review sheet."""
    labelled = [picture for picture in pictures if picture.key in journal]
    if not labelled:
        raise ArgumentError(
            f"None of the {len(pictures)} pictures could be labelled",
            expected="at least one that can be read",
        )
    labels = Labels(request.labels, labelled, journal.records, options.unlabelled)
    written = _read_written(options.output)
    state = {"pictures": len(labelled), "unlabelled": options.unlabelled}
    for name in options.formats:
        target = options.output / name
        if written.get(name) != state or not target.is_dir():
            progress.step(f"writing {name}")
            summary.notes += write_form(name, options.output, labels)
            written[name] = state
            with atomic_writer(options.output / _WRITTEN) as file:
                file.write(json.dumps(written, indent=2).encode() + b"\n")
        summary.written[name] = str(target)
    if options.review:
        progress.step("writing the review sheet")
        by_key = {picture.key: picture for picture in labelled}
        keys = journal.most_doubtful(by_key, options.review)
        place = {name: index for index, name in enumerate(labels.names)}
        shown = ((by_key[record.key], record) for record in journal.records(keys))
        write_review(options.output / REVIEW, shown, len(labelled), lambda name: place.get(name, 0))
        summary.written["review"] = str(options.output / REVIEW)


def _read_written(folder: Path) -> dict[str, Any]:
    """Return which forms are written of how many pictures; nothing where that is not known."""
    try:
        values = json.loads((folder / _WRITTEN).read_bytes())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _refuse_foreign(options: LabelOptions) -> None:
    """Refuse a folder that a run would write over things of others in."""
    for name in options.formats:
        if (options.output / name).exists():
            raise ArgumentError(
                f"{quoted(str(options.output / name), 200)} is there, and no run has written it",
                fix="choose a new folder to write to",
            )
