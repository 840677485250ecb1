"""Ids that last: what moves, hides, comes back, flickers, changes its name or never ends."""

from __future__ import annotations

import itertools
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xdecoder_rt import Engine, Tracker
from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.results import Segmentation
from xdecoder_rt.tracking.assignment import best_pairs

SIZE = (240, 320)


def frame(
    *things: tuple[str, int, int, int], stuff: str | None = None, task: str = "panoptic"
) -> Segmentation:
    """Return squares (label, top, left, side), over stuff."""
    ids = np.zeros(SIZE, np.int32)
    infos: list[dict[str, Any]] = []
    if stuff:
        ids[:] = 1
        infos.append({"id": 1, "label_id": 9, "label": stuff, "score": 0.9, "isthing": False})
    names = {"mug": 0, "bowl": 1, "plate": 2}
    for label, top, left, side in things:
        number = len(infos) + 1
        ids[max(top, 0) : top + side, max(left, 0) : left + side] = number
        infos.append({
            "id": number, "label_id": names[label], "label": label, "score": 0.8, "isthing": True,
        })  # fmt: skip
    for entry in infos:
        entry["area"] = int((ids == entry["id"]).sum())
    return Segmentation(ids, infos, task)


def ids_of(segmentation: Segmentation) -> list[int]:
    return [entry["id"] for entry in segmentation.segments_info]


def test_things_keep_their_ids_whatever_their_order() -> None:
    tracker = Tracker()
    first = tracker.update(frame(("mug", 20, 20, 40), ("mug", 120, 200, 40)))
    then = tracker.update(frame(("mug", 122, 196, 40), ("mug", 20, 26, 40)))
    assert ids_of(first) == [1, 2] and ids_of(then) == [2, 1]
    assert then.segmentation[40, 40] == 1 and then.segmentation[140, 215] == 2
    assert then.segmentation[0, 0] == 0


def test_a_thing_that_moves_fast_is_expected_where_it_goes() -> None:
    tracker = Tracker()
    for left in range(0, 260, 18):  # its own side and more in two frames
        found = tracker.update(frame(("mug", 100, left, 30), ("mug", 100, 290 - left, 30)))
    # They went through each other, one all but hidden, and kept their ways.
    assert ids_of(found) == [1, 2]
    assert found.segmentation[110, left + 10] == 1


def test_a_thing_that_is_hidden_for_some_frames_comes_back_as_itself() -> None:
    tracker = Tracker(patience=10)
    mug = ("mug", 60, 60, 40)
    assert ids_of(tracker.update(frame(mug))) == [1]
    for _ in range(10):
        tracker.update(frame())
    assert ids_of(tracker.update(frame(("mug", 64, 60, 40)))) == [1]
    for _ in range(11):
        tracker.update(frame())
    assert ids_of(tracker.update(frame(mug))) == [2]


def test_a_hidden_thing_moves_with_the_camera() -> None:
    tracker = Tracker()
    others = [("bowl", 20, 20, 50), ("plate", 150, 30, 60)]
    for step in range(12):
        moved = [(label, top, left + 6 * step, side) for label, top, left, side in others]
        mug = [] if 3 <= step < 10 else [("mug", 90, 100 + 6 * step, 24)]
        found = tracker.update(frame(*moved, *mug))
    assert sorted(ids_of(found)) == [1, 2, 3]


def test_an_id_is_never_given_twice() -> None:
    tracker = Tracker(patience=0)
    seen: list[int] = []
    for number in range(50):
        side = "mug" if number % 2 else "bowl"
        seen += ids_of(tracker.update(frame((side, 20, 20 if number % 2 else 200, 30))))
    tracker.forget()
    seen += ids_of(tracker.update(frame(("mug", 20, 20, 30))))
    assert len(set(seen)) == len(seen) == 51


def test_stuff_has_an_id_of_its_label_for_good() -> None:
    tracker = Tracker(patience=0)
    first = tracker.update(frame(("mug", 20, 20, 30), stuff="floor"))
    for _ in range(5):
        tracker.update(frame(("mug", 20, 20, 30)))
    again = tracker.update(frame(("mug", 20, 20, 30), stuff="floor"))
    other = tracker.update(frame(stuff="wall"))
    assert ids_of(first) == ids_of(again) and ids_of(other)[0] not in ids_of(again)


def test_a_label_that_flickers_is_smoothed_and_one_that_stays_is_taken() -> None:
    tracker = Tracker()
    for _ in range(5):
        tracker.update(frame(("mug", 20, 20, 60), ("bowl", 120, 120, 60)))
    flicker = tracker.update(frame(("bowl", 20, 20, 60), ("bowl", 120, 120, 60)))
    assert ids_of(flicker) == [1, 2]
    # The frame has no "mug", so its id in the vocabulary is unknown here.
    assert [entry["label"] for entry in flicker.segments_info] == ["bowl", "bowl"]
    tracker.update(frame(("mug", 20, 20, 60), ("bowl", 120, 120, 60)))
    found = tracker.update(
        frame(("bowl", 20, 20, 60), ("bowl", 120, 120, 60), ("mug", 20, 200, 60))
    )
    assert ids_of(found)[:2] == [1, 2]
    assert [entry["label"] for entry in found.segments_info] == ["mug", "bowl", "mug"]
    assert found.segments_info[0]["label_id"] == 0
    for _ in range(6):
        found = tracker.update(
            frame(("bowl", 20, 20, 60), ("bowl", 120, 120, 60), ("mug", 20, 200, 60))
        )
    assert found.segments_info[0]["label"] == "bowl" and ids_of(found)[0] == 1


def test_an_outline_that_flickers_is_steadied_for_a_frame_and_no_longer() -> None:
    tracker = Tracker()
    narrow, wide = ("mug", 40, 40, 60), ("mug", 40, 40, 62)
    for _ in range(3):
        tracker.update(frame(narrow))
    flicker = tracker.update(frame(wide))
    assert flicker.segments_info[0]["area"] == (flicker.segmentation == 1).sum() == 3600
    stays = tracker.update(frame(wide))
    assert stays.segments_info[0]["area"] == (stays.segmentation == 1).sum() == 62 * 62
    plain = Tracker(steady=False)
    for _ in range(3):
        plain.update(frame(narrow))
    assert plain.update(frame(wide)).segments_info[0]["area"] == 62 * 62


def test_a_thing_that_moves_does_not_lag() -> None:
    tracker = Tracker()
    for left in range(40, 100, 3):
        found = tracker.update(frame(("mug", 40, left, 60)))
        assert (found.segmentation[:, left : left + 60] == 1).any(axis=0).all()


def test_instances_keep_their_masks_scores_and_order() -> None:
    tracker = Tracker()
    masks = np.zeros((2, *SIZE), np.bool_)
    masks[0, 20:80, 20:80] = masks[1, 50:110, 50:110] = True
    painted = frame(("mug", 50, 50, 60), ("bowl", 20, 20, 60), task="instance")
    given = Segmentation(
        painted.segmentation, painted.segments_info, "instance", masks[::-1],
        np.array([0.8, 0.8], np.float32), np.array([0, 1], np.int32), np.zeros((2, 4), np.float32),
    )  # fmt: skip
    tracker.update(given)
    found = tracker.update(given)
    assert ids_of(found) == [1, 2] and found.masks is given.masks
    assert found.scores is not None and found.scores.dtype == np.float32
    assert found.label_ids is not None and found.label_ids.tolist() == [0, 1]


def test_what_is_given_is_not_changed() -> None:
    tracker = Tracker()
    tracker.update(frame(("mug", 100, 100, 20)))
    tracker.forget()
    given = frame(("mug", 20, 20, 40))
    ids, infos = given.segmentation.copy(), [dict(entry) for entry in given.segments_info]
    tracker.update(given)
    assert (given.segmentation == ids).all() and given.segments_info == infos


def test_a_thing_smaller_than_a_cell_is_followed() -> None:
    tracker = Tracker()
    seen = [ids_of(tracker.update(frame(("mug", 101, 151 + n, 1)))) for n in range(5)]
    assert seen == [[1]] * 5


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (3000, 2), (1080, 1920)])
def test_every_size_of_frame(size: tuple[int, int]) -> None:
    tracker = Tracker()
    entry = {"id": 1, "label_id": 0, "label": "mug", "score": 1.0, "area": 1, "isthing": True}
    for _ in range(3):
        found = tracker.update(Segmentation(np.ones(size, np.int32), [entry]))
    assert ids_of(found) == [1]


def test_frames_of_another_size_begin_anew_with_new_ids() -> None:
    tracker = Tracker()
    tracker.update(frame(("mug", 20, 20, 40)))
    entry = {"id": 1, "label_id": 0, "label": "mug", "score": 1.0, "area": 1, "isthing": True}
    assert ids_of(tracker.update(Segmentation(np.ones((9, 9), np.int32), [entry]))) == [2]


def test_semantic_output_is_refused() -> None:
    with pytest.raises(ArgumentError, match="'panoptic' or 'instance'"):
        Tracker().update(Segmentation(np.zeros(SIZE, np.int32), [], "semantic"))


@pytest.mark.parametrize("patience", [-1, 1.5, "many", None, True])
def test_a_patience_that_is_none_is_refused(patience: Any) -> None:
    with pytest.raises(ArgumentError, match="patience"):
        Tracker(patience=patience)


def test_maps_of_any_layout_are_followed_and_are_nobody_elses() -> None:
    trackers = Tracker(), Tracker()
    for left in (20, 21, 20, 20, 21, 20):
        plain = frame(("mug", 20, left, 40), ("bowl", 120, 120, 60), stuff="floor")
        turned = Segmentation(
            np.asfortranarray(plain.segmentation.astype(np.int64)), plain.segments_info
        )
        before = turned.segmentation.copy()
        one, other = (t.update(f) for t, f in zip(trackers, (plain, turned), strict=True))
        assert (one.segmentation == other.segmentation).all()
        assert (turned.segmentation == before).all()
        # The next frame is compared with neither map of this one.
        plain.segmentation[:] = 0
        other.segmentation[:] = 0


@pytest.mark.parametrize("width", [1, 15, 63, 64, 65, 200])
def test_ids_are_those_of_a_table_at_every_pixel(width: int) -> None:
    rng = np.random.default_rng(width)
    labels = [f"thing {number}" for number in range(6)]
    tracker = Tracker(steady=False)
    for _ in range(4):
        ids = rng.choice([0, 3, 5, 9, 70_000, -4], (40, width)).astype(np.int32)
        infos = [
            {"id": number, "label_id": i, "label": labels[i], "score": 0.5, "area": 1,
             "isthing": i > 1}
            for i, number in enumerate((3, 5, 9, 70_000))
        ]  # fmt: skip
        found = tracker.update(Segmentation(ids, infos))
        expected = np.zeros_like(ids)
        for info, kept in zip(infos, found.segments_info, strict=True):
            expected[ids == info["id"]] = kept["id"]
        assert (found.segmentation == expected).all()


def test_an_outline_is_steadied_at_every_pixel_by_the_two_frames_before() -> None:
    rng = np.random.default_rng(3)
    tracker = Tracker()
    entry = {"label_id": 0, "score": 0.9, "isthing": False}
    history: list[np.ndarray] = []
    for _ in range(12):
        ids = np.repeat(rng.integers(1, 4, (30, 25), np.int32), 5, axis=1)
        keep = rng.random(ids.shape) < 0.9
        ids = np.where(keep, history[-1], ids) if history else ids
        order = rng.permutation(3).tolist()  # ids of a frame say nothing about the next
        names = np.array([0, *(1 + order.index(i) for i in range(3))], np.int32)
        infos = [
            {**entry, "id": 1 + place, "label": f"stuff {i}", "area": int((ids == i + 1).sum())}
            for place, i in enumerate(order)
        ]
        found = tracker.update(Segmentation(names[ids], infos))
        lasting = {info["label"]: info["id"] for info in found.segments_info}
        numbers = np.array([0, *(lasting[f"stuff {i}"] for i in range(3))], np.int32)
        expected = ids
        if len(history) > 1:
            expected = np.where(history[-1] == history[-2], history[-1], ids)
        assert (found.segmentation == numbers[expected]).all()
        for info in found.segments_info:
            assert info["area"] == (found.segmentation == info["id"]).sum()
        history.append(ids)


def test_a_speck_between_the_cells_of_the_grid_keeps_its_id() -> None:
    tracker = Tracker()
    ids = np.zeros((720, 1280), np.int32)
    entry = {"label_id": 0, "label": "screw", "score": 0.9, "area": 4, "isthing": True}
    places = [(9, 9), (9, 601), (401, 9)]
    infos = [{**entry, "id": 1 + number} for number in range(3)]
    for step in range(3):
        ids[:] = 0
        for number, (top, left) in enumerate(places, 1):
            ids[top : top + 2, left + step : left + step + 2] = number
        assert ids_of(tracker.update(Segmentation(ids, infos))) == [1, 2, 3]


def test_more_segments_than_a_grid_holds_are_refused() -> None:
    entry = {"label_id": 0, "label": "mug", "score": 1.0, "area": 0, "isthing": True}
    many = [{**entry, "id": number} for number in range(1, 40_000)]
    with pytest.raises(ArgumentError, match="39999 segments"):
        Tracker().update(Segmentation(np.zeros(SIZE, np.int32), many))


@pytest.mark.slow
def test_memory_is_flat_over_ten_thousand_frames() -> None:
    tracker = Tracker(patience=5)
    rng = np.random.default_rng(0)

    def some(count: int) -> None:
        ids = np.zeros((60, 80), np.int32)
        for _ in range(count):
            ids[:] = 0
            infos = []
            for number, (top, left) in enumerate(rng.integers(0, (40, 60), (6, 2)).tolist(), 1):
                ids[top : top + 12, left : left + 12] = number
                infos.append({
                    "id": number, "label_id": 0, "label": f"thing {rng.integers(9)}",
                    "score": 0.5, "area": 1, "isthing": True,
                })  # fmt: skip
            tracker.update(Segmentation(ids.copy(), infos))

    def pages() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    some(1000)
    before = pages()
    some(9000)
    grown = (pages() - before) * resource.getpagesize()
    print(f"grown by {grown / 2**20:.2f} MiB in the last 9,000 of 10,000 frames")
    assert grown < 2 << 20, grown
    assert len(tracker._tracks) <= 6 * 6 and tracker._last_id > 20_000


class TestAssignment:
    @pytest.mark.parametrize("seed", range(40))
    def test_it_is_the_best_of_all(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        scores = rng.random((int(rng.integers(1, 6)), int(rng.integers(1, 6))))
        scores[rng.random(scores.shape) < 0.4] = 0
        pairs = best_pairs(scores)
        rows, columns = [row for row, _ in pairs], [column for _, column in pairs]
        assert len(set(rows)) == len(rows) and len(set(columns)) == len(columns)
        assert all(scores[pair] > 0 for pair in pairs)
        tall = scores if scores.shape[0] >= scores.shape[1] else scores.T
        best = max(
            sum(tall[row, column] for column, row in enumerate(order))
            for order in itertools.permutations(range(tall.shape[0]), tall.shape[1])
        )
        assert sum(scores[pair] for pair in pairs) == pytest.approx(best)

    @pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
    def test_nothing_pairs_with_nothing(self, shape: tuple[int, int]) -> None:
        assert best_pairs(np.zeros(shape)) == []

    def test_it_agrees_with_scipy_on_many(self) -> None:
        optimize = pytest.importorskip("scipy.optimize")
        scores = np.random.default_rng(1).random((60, 45))
        rows, columns = optimize.linear_sum_assignment(scores, maximize=True)
        assert sum(scores[pair] for pair in best_pairs(scores)) == pytest.approx(
            scores[rows, columns].sum()
        )


class TestEngine:
    def test_frames_are_taken_one_by_one_and_keep_their_ids(self, tiny_plan: Path) -> None:
        taken: list[int] = []

        def frames() -> Any:
            pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
            for number in range(3):
                taken.append(number)
                yield pixels

        with Engine(tiny_plan, backend="onnxruntime", threads=1) as engine:
            results = engine.track(frames(), ["mug", "bowl"], task="instance", min_score=0.0)
            assert taken == []
            first = next(results)
            assert taken == [0]
            plain = engine.segment(next(frames()), ["mug", "bowl"], task="instance", min_score=0.0)
            assert len(first) == len(plain)
            assert [ids_of(later) for later in results] == [ids_of(first)] * 2

    def test_a_tracker_goes_on_where_it_was(self, tiny_plan: Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
        tracker = Tracker()
        with Engine(tiny_plan, backend="onnxruntime", threads=1) as engine:
            asked = {"task": "instance", "min_score": 0.0, "tracker": tracker}
            (first,) = engine.track([pixels], ["mug"], **asked)
            (second,) = engine.track([pixels], ["mug"], **asked)
            assert ids_of(first) == ids_of(second)
            with pytest.raises(ArgumentError, match="'panoptic' or 'instance'"):
                engine.track([pixels], ["mug"], task="semantic")
