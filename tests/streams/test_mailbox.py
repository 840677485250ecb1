"""The newest frame is answered; older ones are dropped and counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from xdecoder_rt.streams.mailbox import FrameReader, LatestFrame


class Stream:
    """Numbers, each let out by the test."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.gate = threading.Semaphore(0)
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[int]:
        for number in range(self.count):
            assert self.gate.acquire(timeout=10)
            yield number


def wait_until(condition: object) -> None:
    assert callable(condition)
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_newer_frame_replaces_one_that_was_not_taken() -> None:
    box: LatestFrame[str] = LatestFrame()
    for content in ("a", "b", "c"):
        assert box.put(content)
    frame = box.take()
    assert frame is not None and (frame.content, frame.index) == ("c", 2)
    assert (box.received, box.dropped) == (3, 2)


def test_nothing_is_dropped_when_frames_are_taken_in_time() -> None:
    box: LatestFrame[int] = LatestFrame()
    for number in range(5):
        box.put(number)
        frame = box.take()
        assert frame is not None and frame.content == number
    assert box.dropped == 0


def test_an_empty_box_gives_nothing_in_time() -> None:
    box: LatestFrame[int] = LatestFrame()
    assert box.take(timeout=0.01) is None
    assert not box.ended


def test_the_last_frame_can_still_be_taken_after_the_end() -> None:
    box: LatestFrame[int] = LatestFrame()
    box.put(7)
    box.close()
    assert not box.ended
    frame = box.take()
    assert frame is not None and frame.content == 7
    assert box.ended and box.take() is None
    assert not box.put(8)


def test_an_error_of_the_stream_reaches_who_takes_after_the_last_frame() -> None:
    box: LatestFrame[int] = LatestFrame()
    box.put(1)
    box.close(OSError("unplugged"))
    assert box.take() is not None
    with pytest.raises(OSError, match="unplugged"):
        box.take()
    assert box.take() is None


def test_a_putter_that_waits_drops_nothing() -> None:
    box: LatestFrame[int] = LatestFrame()
    taken = []

    def put_all() -> None:
        for number in range(20):
            box.put(number, wait=True)
        box.close()

    thread = threading.Thread(target=put_all)
    thread.start()
    while (frame := box.take(timeout=10)) is not None:
        taken.append(frame.content)
    thread.join(10)
    assert taken == list(range(20))
    assert box.dropped == 0


def test_closing_frees_a_putter_that_waits() -> None:
    box: LatestFrame[int] = LatestFrame()
    box.put(0)
    accepted = []
    thread = threading.Thread(target=lambda: accepted.append(box.put(1, wait=True)))
    thread.start()
    box.close()
    thread.join(10)
    assert accepted == [False]


def test_a_slow_consumer_sees_the_newest_of_what_a_reader_read() -> None:
    stream = Stream(6)
    with FrameReader(stream) as reader:
        stream.gate.release()
        first = reader.box.take(timeout=10)
        assert first is not None and first.content == 0
        for _ in range(4):  # these come while the first is being answered
            stream.gate.release()
        wait_until(lambda: reader.box.received == 5)
        second = reader.box.take(timeout=10)
        assert second is not None and (second.content, second.index) == (4, 4)
        stream.gate.release()
        last = reader.box.take(timeout=10)
        assert last is not None and last.content == 5
        assert reader.box.take(timeout=10) is None
    assert reader.box.ended
    assert (reader.box.received, reader.box.dropped) == (6, 3)


def test_the_reading_thread_lets_go_of_the_stream_at_its_end() -> None:
    closed = threading.Event()
    with FrameReader(range(3), on_end=closed.set) as reader:
        while reader.box.take(timeout=10) is not None:
            pass
        assert closed.wait(10)


def test_leaving_early_ends_the_thread_and_lets_go_of_the_stream() -> None:
    closed = threading.Event()

    def forever() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1
            time.sleep(0.001)

    with FrameReader(forever(), on_end=closed.set) as reader:
        assert reader.box.take(timeout=10) is not None
    assert closed.wait(10)
    assert reader.box.take() is None or reader.box.ended


def test_an_error_while_reading_is_raised_where_frames_are_taken() -> None:
    def broken() -> Iterator[int]:
        yield 0
        raise RuntimeError("the lens cap is on")

    with FrameReader(broken(), every=True) as reader:
        assert reader.box.take(timeout=10) is not None
        with pytest.raises(RuntimeError, match="lens cap"):
            reader.box.take(timeout=10)


def test_a_paced_stream_is_not_read_faster_than_it_happened() -> None:
    start = time.perf_counter()
    with FrameReader(range(6), fps=50, every=False) as reader:
        while reader.box.take(timeout=10) is not None:
            pass
    assert time.perf_counter() - start >= 5 / 50


def test_reading_every_frame_keeps_no_pace() -> None:
    with FrameReader(range(100), fps=0.01, every=True) as reader:
        taken = 0
        while reader.box.take(timeout=10) is not None:
            taken += 1
    assert (taken, reader.box.dropped) == (100, 0)


def test_the_pace_does_not_hold_up_the_end() -> None:
    start = time.perf_counter()
    with FrameReader(range(10), fps=0.01) as reader:
        assert reader.box.take(timeout=10) is not None
    assert time.perf_counter() - start < 5
