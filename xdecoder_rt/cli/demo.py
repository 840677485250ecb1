"""``xdecoder-rt demo``: find words in a camera, a stream, a video or images, frame after frame."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from xdecoder_rt.cli.depth import DepthFolder
from xdecoder_rt.cli.images import ImageList, open_engine
from xdecoder_rt.cli.line_input import LineInput
from xdecoder_rt.cli.options import (
    SEGMENT_TASKS,
    add_engine,
    add_json,
    add_min_score,
    add_plan,
    add_words,
    positive,
    read_vocabulary,
)
from xdecoder_rt.cli.output import CommandReport, is_same_file, note
from xdecoder_rt.cli.signals import Terminated
from xdecoder_rt.cli.sinks import PictureWindow, Sink, open_output
from xdecoder_rt.errors import EXIT_INTERRUPTED, ArgumentError, VocabularyError, printable, quoted
from xdecoder_rt.streams.address import without_password
from xdecoder_rt.streams.frames import SOURCES, FrameSource, open_frames
from xdecoder_rt.streams.mailbox import FrameReader, StreamFrame

if TYPE_CHECKING:
    from PIL import Image

    from xdecoder_rt.engine import Engine
    from xdecoder_rt.results import Segmentation
    from xdecoder_rt.streams.timed import TimedFrame
    from xdecoder_rt.tracking.tracker import Tracker
    from xdecoder_rt.words.vocabulary import Vocabulary

SUMMARY = "find words in a camera, a stream, a video or a folder as it plays"
DESCRIPTION = """\
Find words in a stream and show them as it plays. When frames come faster than they are answered,
the newest is taken and the rest are dropped and counted, so that what is shown is the present.

A window is opened where there is a display (Escape closes it). Without one, --output keeps the
pictures. New words can be typed while it runs: separated by commas, then Enter. Ctrl-C ends the
demo with exit code 0 and everything written, SIGTERM and SIGHUP with 130 and everything written.
Moving pictures need the extra "video" (pip install "xdecoder_rt[video]"), csi:// and pipelines
gst-launch-1.0 too; images need nothing more. A camera, address or pipeline that is lost is opened
again, first after half a second, then less often; that is told on stderr.

A video plays by its time stamps. Frames that it announces and does not hold, or that are damaged,
are counted as unreadable, and the exit code is then 1. A video that is written has each picture at
its time (.avi knows one rate: pictures are repeated) and takes its name when it is whole.
"""
EXAMPLES = """\
  xdecoder-rt demo 0 --words mug hand "robot arm"               the first camera
  xdecoder-rt demo drive.mp4 --words car person --stuff road sky
  xdecoder-rt demo drive.mp4 --words car -o found.mp4 --no-window
  xdecoder-rt demo drive.mp4 --words car --track                ids that last
  xdecoder-rt demo frames/ --words mug --depth depth/ --intrinsics 615 615 319.5 239.5
  xdecoder-rt demo rtsp://camera/stream --words car person      also http://, csi://0
  xdecoder-rt demo "videotestsrc ! videoconvert" --words mug    a GStreamer pipeline
  xdecoder-rt demo watch:frames/ --words mug -o drawn           images as they are written there
  xdecoder-rt demo "frames/*.jpg" --words mug -o drawn          also frames/%05d.png
  xdecoder-rt demo frames/ --fps 30 --words mug -o drawn        a folder, as fast as a camera
  xdecoder-rt demo frames/ --every-frame --words mug -o drawn   all of it, however long it takes
"""
_POLL_SECONDS = 0.1
_STATUS_SECONDS = 2.0
_LATENCIES_KEPT = 10_000
_NAMES_LISTED = 12
_COMMA = re.compile(r",(?![^\[]*\])")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``demo``."""
    parser.add_argument("source", metavar="SOURCE", help=SOURCES.replace("%", "%%"))
    add_plan(parser)
    add_words(parser)
    parser.add_argument(
        "--task",
        choices=SEGMENT_TASKS,
        default="panoptic",
        help="kind of output (default: %(default)s)",
    )
    add_min_score(parser, "segments", "0.25 for --task instance, else 0")
    stream = parser.add_argument_group("stream")
    stream.add_argument(
        "--fps",
        type=_rate,
        metavar="RATE",
        help="frames a second of a video or folder (default: the video's own; 10 for a folder)",
    )
    stream.add_argument(
        "--every-frame",
        action="store_true",
        help="drop nothing: wait for each frame of a video or folder to be answered",
    )
    stream.add_argument("--frames", type=positive, metavar="N", help="end after N answered frames")
    robot = parser.add_argument_group("ids and distances")
    robot.add_argument(
        "--track",
        action="store_true",
        help="give things ids that last over frames, and show them (panoptic or instance)",
    )
    robot.add_argument(
        "--depth",
        metavar="FOLDER",
        help="show distances: a depth image a frame, in their order, aligned with them (16-bit PNG "
        "or TIFF in millimetres, 0 for none)",
    )
    robot.add_argument(
        "--intrinsics",
        type=float,
        nargs=4,
        metavar=("FX", "FY", "CX", "CY"),
        help="of the camera, in pixels; needed with --depth",
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "-o",
        "--output",
        metavar="PATH",
        help="keep the pictures: a folder, or a video ending in .mp4, .avi or .mkv",
    )
    output.add_argument("--no-window", dest="window", action="store_false", help="open no window")
    add_json(output)
    add_engine(parser)


def run(args: argparse.Namespace) -> int:
    """Play the stream to its end; 1 if a frame could not be read, 130 if SIGTERM or SIGHUP came.

    Raises:
        XDecoderError: the plan, the words, the source or the output are not usable.
    """
    report: CommandReport = args.command_report
    if args.output is not None and is_same_file(args.output, args.source):
        raise ArgumentError(
            f"{quoted(args.output, 200)} is the source itself",
            fix="keep the pictures somewhere else",
        )
    if (args.depth is None) != (args.intrinsics is None):
        raise ArgumentError(
            "Distances need depth images and the camera's intrinsics",
            expected="both --depth and --intrinsics, or neither",
        )
    if args.track and args.task == "semantic":
        raise ArgumentError(
            "Semantic output has no things to track", expected="--task panoptic or instance"
        )
    words = read_vocabulary(args)
    import numpy as np

    from xdecoder_rt.tracking.tracker import Tracker

    document: dict[str, Any] = {"source": without_password(args.source), "answered": 0}
    with report.kept(document):
        with ExitStack() as stack:
            engine = stack.enter_context(open_engine(args))
            # Graphs are loaded on first need: now, and not while frames go by.
            blank = np.zeros((*engine.manifest.input.sizes[0], 3), np.uint8)
            engine.segment(blank, words, task=args.task, min_score=args.min_score)
            source = open_frames(args.source, args.fps, note)
            document["left_out"] = ImageList.read([args.source]).left_out
            sinks = _open_sinks(args, source.name, source.fps)
            stack.push(lambda kind, *_: _close(sinks, keep=kind is None))
            lines = LineInput(_standard_input())
            player = Player(
                engine,
                words,
                args.task,
                sinks,
                lines,
                args.min_score,
                Tracker() if args.track else None,
                None if args.depth is None else DepthFolder(args.depth, args.intrinsics),
            )
            reader = FrameReader(
                source,
                due=None if source.is_live else _seconds,
                every=args.every_frame and not source.is_live,
                on_stop=source.stop,
                on_end=source.close,
            )
            stack.callback(lambda: document.update(_counts(args, source, reader, player)))
            note(f"{printable(source.name, 200)}: looking for {_word_list(words)}")
            note("Type other words, separated by commas, and press Enter; Ctrl-C ends.")
            document["stopped"] = player.play(reader, args.frames)
        for failure in source.failures:
            note(f"error: {failure}")
        report.text(_session_text(document))
    return EXIT_INTERRUPTED if player.is_terminated else int(bool(source.failures))


def _counts(
    args: argparse.Namespace,
    source: FrameSource,
    reader: FrameReader[TimedFrame],
    player: Player,
) -> dict[str, Any]:
    return {
        "frames": reader.box.received,
        "announced": source.announced,
        "dropped": reader.box.dropped,
        "unreadable": source.missing,
        **player.results(),
        "output": args.output,
    }


def _seconds(frame: TimedFrame) -> float:
    return frame.seconds


class Player:
    """Answers frames until there are no more.

    Args:
        engine: what answers.
        words: what to look for first.
        task: kind of output.
        sinks: where the pictures go.
        lines: other words, typed on the way.
        min_score: see `Engine.segment`.
        tracker: gives ids that last; None gives none.
        depth: where distances come from; None shows none.

    Attributes:
        words: what is being looked for.
        answered: frames answered so far.
        is_terminated: whether SIGTERM or SIGHUP ended it, and not Ctrl-C.
    """

    def __init__(
        self,
        engine: Engine,
        words: Vocabulary,
        task: str,
        sinks: Sequence[Sink],
        lines: LineInput,
        min_score: float | None = None,
        tracker: Tracker | None = None,
        depth: DepthFolder | None = None,
    ) -> None:
        self.words = words
        self.answered = 0
        self.is_terminated = False
        self._engine = engine
        self._task = task
        self._min_score = min_score
        self._sinks = sinks
        self._lines = lines
        self._tracker = tracker
        self._depth = depth
        self._latencies_ms: deque[float] = deque(maxlen=_LATENCIES_KEPT)
        self._seconds = 0.0

    def play(self, reader: FrameReader[TimedFrame], limit: int | None = None) -> str:
        """Answer the newest frame again and again.

        Args:
            reader: reads the frames; started and ended here.
            limit: frames to answer at most.

        Returns:
            What ended it: ``"end of stream"``, ``"interrupted"``, ``"window closed"`` or
            ``"enough frames"``.
        """
        start = last_status = time.perf_counter()
        try:
            with reader:
                while limit is None or self.answered < limit:
                    for line in self._lines.poll():
                        self._change_words(line)
                    frame = reader.box.take(timeout=_POLL_SECONDS)
                    if frame is None:
                        if reader.box.ended:
                            return "end of stream"
                        continue
                    label_counts, goes_on = self._answer(frame)
                    self._seconds = (now := time.perf_counter()) - start
                    if now - last_status >= _STATUS_SECONDS:
                        last_status = now
                        note(self._status(reader.box.dropped, label_counts))
                    if not goes_on:
                        return "window closed"
                return "enough frames"
        except KeyboardInterrupt as interruption:
            self.is_terminated = isinstance(interruption, Terminated)
            return "interrupted"

    def results(self) -> dict[str, Any]:
        """Return counts and times as JSON values; latency is from arrival to answer."""
        from xdecoder_rt.evaluation.report import Percentiles
        from xdecoder_rt.words.files import plain_entries

        latencies = list(self._latencies_ms)
        return {
            "answered": self.answered,
            "seconds": self._seconds,
            "fps": self.answered / self._seconds if self._seconds else 0.0,
            "latency_ms": asdict(Percentiles.of(latencies)) if latencies else None,
            "words": plain_entries(self.words.words),
        }

    def _answer(self, frame: StreamFrame[TimedFrame]) -> tuple[Counter[str], bool]:
        """Answer one frame; return segments by label, and whether the sinks want more."""
        pixels = frame.content.pixels
        result = self._engine.segment(
            pixels, self.words, task=self._task, min_score=self._min_score
        )
        if self._tracker is not None:
            result = self._tracker.update(result)
        self._latencies_ms.append(1000 * (time.perf_counter() - frame.time))
        self.answered += 1
        goes_on = True
        if self._sinks:
            picture = self._drawn(result, frame)
            place = frame.index, frame.content.seconds
            goes_on = all([sink.show(picture, *place) for sink in self._sinks])
        return Counter(info["label"] for info in result.segments_info), goes_on

    def _drawn(self, result: Segmentation, frame: StreamFrame[TimedFrame]) -> Image.Image:
        """Return the picture, with ids if things are tracked and boxes if there is depth."""
        shown = result
        if self._tracker is not None:
            infos = [
                {**info, "label": f"{info['label']} {info['id']}"} if info["isthing"] else info
                for info in result.segments_info
            ]
            shown = replace(result, segments_info=infos)
        picture = shown.draw(frame.content.pixels)
        if self._depth is not None:
            self._depth.draw(picture, result, frame.index)
        return picture

    def _change_words(self, line: str) -> None:
        """Look for the words of a line from now on; a wrong line changes nothing."""
        try:
            words = _renewed(self.words, line)
            self._engine.warm(words)
        except VocabularyError as error:
            note(f"error: {error} Still looking for {_word_list(self.words)}.")
            return
        self.words = words
        if self._tracker is not None:
            self._tracker.forget()
        note(f"looking for {_word_list(words)}")

    def _status(self, dropped: int, label_counts: Counter[str]) -> str:
        recent = list(self._latencies_ms)[-30:]
        names = ", ".join(
            printable(label) if number == 1 else f"{number} {printable(label)}"
            for label, number in label_counts.most_common()
        )
        return (
            f"{self.answered / self._seconds:.1f} fps, latency {sum(recent) / len(recent):.0f} ms, "
            f"{self.answered} answered, {dropped} dropped: {names or 'nothing found'}"
        )


def _open_sinks(args: argparse.Namespace, name: str, fps: float) -> list[Sink]:
    sinks: list[Sink] = []
    if args.output is not None:
        sinks.append(open_output(args.output, fps))
    if args.window:
        try:
            sinks.append(PictureWindow(f"xdecoder-rt: {name}"))
        except ArgumentError as error:
            note(f"{error}" if sinks else f"{error} Use --output to keep pictures.")
    return sinks


def _close(sinks: Sequence[Sink], *, keep: bool) -> None:
    for sink in sinks:
        sink.close(keep=keep)


def _standard_input() -> int | None:
    try:
        return sys.stdin.fileno() if sys.stdin else None
    except (OSError, ValueError):
        return None


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0.01 <= rate <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate from 0.01 to 1000")
    return rate


def _renewed(words: Vocabulary, line: str) -> Vocabulary:
    """Return the words of a line, separated by commas, under the rules and ids of those before."""
    from xdecoder_rt.words.files import parse_lines
    from xdecoder_rt.words.normal_form import name_key
    from xdecoder_rt.words.vocabulary import Vocabulary

    # Rules in brackets have commas of their own.
    typed = parse_lines([part.strip() for part in _COMMA.split(line) if part.strip()])
    parsed = Vocabulary.parse(
        typed.entries,
        negatives=[word for word in words.words if word.negative],
        other=typed.other or words.other,
    )
    known = {name_key(label) for label in words.stuff}
    stuff = [word.name for word in parsed.words if name_key(word.name) in known]
    return Vocabulary.parse(parsed, stuff).keeping_ids_of(words)


def _word_list(words: Vocabulary) -> str:
    names = [printable(word.name) for word in words.words if not word.negative]
    remark = f" and {len(names) - _NAMES_LISTED} more" if len(names) > _NAMES_LISTED else ""
    return ", ".join(names[:_NAMES_LISTED]) + remark


def _session_text(document: dict[str, Any]) -> str:
    latency = document["latency_ms"]
    lines = [
        f"{document['stopped']}: {document['frames']} frames, {document['answered']} answered, "
        f"{document['dropped']} dropped, {document['unreadable']} unreadable",
        f"{document['fps']:.1f} frames a second over {document['seconds']:.1f} s",
    ]
    if latency:
        lines.append(
            f"latency p50 {latency['p50']:.0f} ms, p90 {latency['p90']:.0f} ms, "
            f"p99 {latency['p99']:.0f} ms"
        )
    if document["output"]:
        lines.append(f"pictures in {printable(document['output'], 200)}")
    return "\n".join(lines)
