"""Negatives, thresholds and the other class, in every kind of output."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdecoder_rt import Vocabulary, Word
from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.masks import postprocess
from xdecoder_rt.masks.classification import (
    Selection,
    class_probabilities,
    keep_panoptic,
    top_instances,
)
from xdecoder_rt.masks.score_curve import ScoreCurve
from xdecoder_rt.pixels.letterbox import Letterbox
from xdecoder_rt.plan.manifest import PostprocessInfo
from xdecoder_rt.questions.least_score import ScoreScale, least_score
from xdecoder_rt.questions.segment import (
    SEGMENT_RULES,
    instance_result,
    panoptic_result,
    semantic_result,
)
from xdecoder_rt.questions.segment_rules import instance_pairs, panoptic_queries, semantic_columns
from xdecoder_rt.results import Segmentation

SIDE = 8
PLAN = PostprocessInfo(object_mask_threshold=0.5, overlap_threshold=0.5, instance_topk=50)
CURVE = ScoreCurve((0.0, 0.3, 0.7, 1.0), (0.1, 0.2, 0.8, 0.9))
CURVED = replace(PLAN, curves={"panoptic": CURVE, "instance": CURVE})


def logits_of(*rows: list[float]) -> np.ndarray:
    """Class logits whose softmax is each row and, last, what is left for void."""
    full = np.array([[*row, 1 - sum(row)] for row in rows])
    return np.log(np.maximum(full, 1e-9)).astype(np.float32)


def segmented(
    task: str,
    words: Vocabulary,
    *rows: list[float],
    min_score: float = 0.0,
    plan: PostprocessInfo = PLAN,
) -> Segmentation:
    """The output of one query a horizontal band of the image, each sure of its band."""
    size = (4 * SIDE, 4 * SIDE)
    masks = np.full((len(rows), SIDE, SIDE), -20.0, np.float32)
    for index, band in enumerate(np.array_split(np.arange(SIDE), len(rows))):
        masks[index, band] = 20.0
    box = Letterbox(size, size, size)
    logits = logits_of(*rows)
    if task == "panoptic":

        def form(kept: Selection) -> postprocess.Panoptic:
            things, overlap = words.is_thing(), PLAN.overlap_threshold
            chosen = masks[kept.queries]
            return postprocess.panoptic(kept.scores, kept.labels, chosen, box, things, overlap)

        return panoptic_result(logits, form, box, words, plan, min_score)
    rule = semantic_result if task == "semantic" else instance_result
    return rule(logits, lambda kept: masks[kept], box, words, plan, 1, min_score)


def found(result: Segmentation) -> list[str]:
    return [info["label"] for info in result.segments_info]


@pytest.mark.parametrize("task", SEGMENT_RULES)
def test_negatives_compete_and_are_never_reported(task: str) -> None:
    words = Vocabulary.parse(["mug", "cup"], negatives=["hand"])
    result = segmented(task, words, [0.9, 0.03, 0.04], [0.1, 0.1, 0.75])
    assert set(found(result)) == {"mug"} | ({"cup"} if task == "instance" else set())
    assert "hand" not in found(result)
    lower = result.segmentation[3 * SIDE :]
    assert (lower == (-1 if task == "semantic" else 0)).all(), "what it wins is nobody's"


@pytest.mark.parametrize("task", SEGMENT_RULES)
def test_a_word_below_its_threshold_is_silent_and_nobody_takes_its_place(task: str) -> None:
    plain = Vocabulary.parse(["knife", "fork"])
    strict = Vocabulary.parse(["knife", "fork"], thresholds={"knife": 0.9, "fork": 0.2})
    rows = ([0.8, 0.1], [0.1, 0.3])
    assert "knife" in found(segmented(task, plain, *rows))
    result = segmented(task, strict, *rows)
    assert found(result) == ([] if task == "panoptic" else ["fork"])
    assert (result.segmentation[: 2 * SIDE] == (-1 if task == "semantic" else 0)).all()


def test_a_threshold_may_be_below_the_plans() -> None:
    words = Vocabulary.parse(["mug", Word("drone", threshold=0.2)])
    assert found(segmented("panoptic", words, [0.45, 0.4], [0.1, 0.19])) == []
    assert found(segmented("panoptic", words, [0.35, 0.05], [0.25, 0.45])) == ["drone"]


@pytest.mark.parametrize("task", SEGMENT_RULES)
def test_what_is_no_word_for_sure_is_other(task: str) -> None:
    words = Vocabulary.parse(["mug", "cup"], negatives=["hand"], other="something")
    result = segmented(
        task, words, [0.9, 0.05, 0.0], [0.4, 0.45, 0.0], [0.1, 0.1, 0.0], [0.1, 0.1, 0.7]
    )
    # The third is most likely nothing, the fourth a negative's. Every pixel of a semantic map has
    # a column: where nothing is likely, none of the words is.
    assert found(result) == ["mug", "something"]
    label_ids = {info["label"]: info["label_id"] for info in result.segments_info}
    assert label_ids == {"mug": 0, "something": 3}
    assert result.segments_info[1]["score"] == pytest.approx(0.85, abs=1e-3)
    assert (result.segmentation[3 * 4 * SIDE // 4 :] == (-1 if task == "semantic" else 0)).all()


def test_the_other_class_has_a_threshold_and_may_be_stuff() -> None:
    for threshold, expected in ((0.8, ["other"]), (0.9, [])):
        words = Vocabulary.parse(
            ["mug", "cup"], stuff=["other"], thresholds={"other": threshold}, other="other"
        )
        result = segmented("panoptic", words, [0.4, 0.45], [0.45, 0.4])
        assert found(result) == expected, "stuff is one segment"


def test_no_instance_is_reported_below_its_threshold() -> None:
    # What is reported is the class's share times the mask's certainty, here 1 / (1 + exp(-2)).
    for words in (
        Vocabulary.parse(["mug", "cup"], thresholds={"mug": 0.8}),
        Vocabulary.parse(["mug", "cup"], thresholds={"mug": 0.9, "other": 0.8}, other="other"),
    ):
        box = Letterbox((4 * SIDE,) * 2, (4 * SIDE,) * 2, (4 * SIDE,) * 2)
        for logit, count in ((20.0, 1), (2.0, 0)):
            mask = np.full((1, SIDE, SIDE), logit, np.float32)
            result = instance_result(
                logits_of([0.85, 0.0]), lambda kept, mask=mask: mask[kept], box, words, PLAN, 1
            )
            assert len([info for info in result.segments_info if info["label"] != "cup"]) == count


@pytest.mark.parametrize("task", SEGMENT_RULES)
def test_results_carry_the_words_ids(task: str) -> None:
    words = Vocabulary.parse([Word("mug", id=40), Word("cup", id=7)], other=Word("other", id=3))
    result = segmented(task, words, [0.9, 0.05], [0.1, 0.85], [0.45, 0.45])
    ids = {info["label"]: info["label_id"] for info in result.segments_info}
    assert ids == {"mug": 40, "cup": 7, "other": 3}
    if task == "semantic":
        assert set(np.unique(result.segmentation)) == {40, 7, 3}
    if result.label_ids is not None:
        assert result.label_ids.tolist() == [info["label_id"] for info in result.segments_info]


def test_a_changed_vocabulary_keeps_its_ids_in_results() -> None:
    before = Vocabulary.parse(["mug", "cup"])
    after = before.without("mug").with_words("plate")
    first = segmented("semantic", before, [0.05, 0.9], [0.9, 0.05])
    second = segmented("semantic", after, [0.9, 0.05], [0.05, 0.9])
    half = 2 * SIDE
    assert (first.segmentation[:half] == 1).all() and (second.segmentation[:half] == 1).all()
    assert (second.segmentation[half:] == 2).all(), "plate is new"


PROBABILITIES = st.lists(
    st.lists(st.floats(0.01, 1), min_size=4, max_size=4), min_size=1, max_size=5
)


@given(rows=PROBABILITIES)
@settings(deadline=None)
def test_rules_that_say_nothing_change_nothing(rows: list[list[float]]) -> None:
    logits = np.log(np.array(rows, np.float32))
    plain = Vocabulary.parse(["a", "b", "c"])
    ruled = Vocabulary.parse(["a", "b", Word("c", threshold=PLAN.object_mask_threshold)])
    mine, theirs = (
        panoptic_queries(logits, ruled, PLAN),
        keep_panoptic(logits, PLAN.object_mask_threshold),
    )
    assert mine.queries.tolist() == theirs.queries.tolist()
    assert mine.labels.tolist() == theirs.labels.tolist()
    free = Vocabulary.parse(["a", "b", Word("c", threshold=0.0)])
    pairs, best = (
        instance_pairs(logits, free, PLAN),
        top_instances(logits, PLAN.instance_topk, plain.is_thing()),
    )
    assert pairs.queries.tolist() == best.queries.tolist()
    assert pairs.labels.tolist() == best.labels.tolist()
    columns, means = semantic_columns(logits, free, PLAN)
    assert means.tolist() == [-1, 0, 1, 2]
    np.testing.assert_array_equal(columns[:, 1:], class_probabilities(logits)[:, :-1])
    assert not columns[:, 0].any()


@given(rows=PROBABILITIES, negative=st.booleans(), limit=st.floats(0, 1))
@settings(deadline=None)
def test_nothing_is_said_twice_and_negatives_say_nothing(
    rows: list[list[float]], negative: bool, limit: float
) -> None:
    logits = np.log(np.array(rows, np.float32))
    words = Vocabulary.parse(
        ["a", Word("b", threshold=limit), Word("c", negative=negative)], other="other"
    )
    columns, means = semantic_columns(logits, words, PLAN)
    total = class_probabilities(logits)[:, :-1].sum(axis=1)
    np.testing.assert_allclose(columns.sum(axis=1), total, rtol=1e-5)
    hidden = {2} if negative else set()
    assert not hidden & set(means.tolist())
    for selection in (panoptic_queries(logits, words, PLAN), instance_pairs(logits, words, PLAN)):
        assert not hidden & set(selection.labels.tolist())
        assert (selection.scores > 0).all()


# --- the least score ------------------------------------------------------------------------------


RULED = [
    Vocabulary.parse(["mug", "cup", "fork"]),
    Vocabulary.parse(["mug", "cup", "fork"], thresholds={"mug": 0.3}, negatives=["hand"]),
    Vocabulary.parse(["mug", "cup"], negatives=["hand"], other="other"),
]


@given(
    shares=st.lists(st.lists(st.floats(0.0, 0.25), min_size=4, max_size=4), min_size=1, max_size=4),
    scale=st.floats(0.0, 4.0),
    min_score=st.floats(0.0, 1.0),
    task=st.sampled_from(SEGMENT_RULES),
    words=st.sampled_from(RULED),
    plan=st.sampled_from([PLAN, CURVED]),
)
@settings(deadline=None, max_examples=500)
def test_nothing_is_reported_below_the_least_score(
    shares, scale, min_score, task, words, plan
) -> None:
    columns = len(words.words)
    rows = [[min(scale, 1 / max(sum(row), 1e-9)) * share for share in row] for row in shares]
    rows = [row[:columns] for row in rows]
    result = segmented(task, words, *rows, min_score=min_score, plan=plan)
    assert all(info["score"] >= min_score for info in result.segments_info)
    assert all(info["area"] > 0 for info in result.segments_info)
    if task == "instance":
        assert (result.scores >= min_score).all()


@pytest.mark.parametrize("words", RULED)
@pytest.mark.parametrize("task", SEGMENT_RULES)
def test_what_is_sure_is_reported_with_a_least_score_as_without(task, words) -> None:
    rows = [[0.9, 0.05, 0.0], [0.05, 0.9, 0.0]]
    free, bound = (segmented(task, words, *rows, min_score=least) for least in (0.0, 0.6))
    sure = [info for info in free.segments_info if info["score"] >= 0.6]
    assert [info["label"] for info in bound.segments_info] == ["mug", "cup"]
    assert [(info["label"], info["score"]) for info in sure] == [
        (info["label"], info["score"]) for info in bound.segments_info
    ]


def test_pixels_of_an_unsure_word_are_nobodys() -> None:
    words = Vocabulary.parse(["mug", "cup"])
    rows = ([0.9, 0.05], [0.2, 0.3])
    assert (segmented("semantic", words, *rows).segmentation >= 0).all()
    bound = segmented("semantic", words, *rows, min_score=0.5)
    half = 2 * SIDE
    assert found(bound) == ["mug"]
    assert (bound.segmentation[half:] == -1).all() and (bound.segmentation[:half] == 0).all()


def test_masks_of_unsure_instances_are_never_formed() -> None:
    words, box = Vocabulary.parse(["mug", "cup"]), Letterbox((32, 32), (32, 32), (32, 32))
    formed: list[int] = []

    def masks(queries: np.ndarray) -> np.ndarray:
        formed.extend(queries.tolist())
        return np.full((len(queries), SIDE, SIDE), 20.0, np.float32)

    logits = logits_of([0.9, 0.05], [0.2, 0.3], [0.01, 0.7])
    result = instance_result(logits, masks, box, words, PLAN, 1, 0.5)
    assert found(result) == ["mug", "cup"] and formed == [0, 2]
    assert len(instance_result(logits, masks, box, words, PLAN, 1, 0.99)) == 0


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan"), True, "0.5", [0.5], 1j, 10**400])
def test_a_least_score_is_a_number_from_0_to_1(wrong: object) -> None:
    with pytest.raises(ArgumentError, match="min_score is .* Expected a number from 0"):
        least_score(wrong, "instance", "compact")


def test_published_plans_have_no_least_score_unless_asked() -> None:
    for kind in (*SEGMENT_RULES, "refer"):
        assert least_score(None, kind, "published") == 0.0
        assert least_score(np.float32(0.5), kind, "published") == 0.5
    assert least_score(None, "instance", "compact") == least_score(None, "refer", "compact") == 0.25


def test_a_plans_own_defaults_go_before_the_familys() -> None:
    assert least_score(None, "refer", "compact", {"refer": 0.4}) == 0.4
    assert least_score(None, "instance", "compact", {"refer": 0.4}) == 0.25
    assert least_score(0.1, "refer", "compact", {"refer": 0.4}) == 0.1


# --- curves ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", RULED)
@pytest.mark.parametrize("task", SEGMENT_RULES)
def test_a_curve_changes_scores_and_nothing_else(task, words) -> None:
    """Thresholds of words are on its scale: so far none of these keeps anything back."""
    rows = [[0.9, 0.05, 0.0], [0.05, 0.9, 0.0], [0.45, 0.4, 0.1]]
    plain, curved = (segmented(task, words, *rows, plan=plan) for plan in (PLAN, CURVED))
    assert [info["label"] for info in plain.segments_info] == [
        info["label"] for info in curved.segments_info
    ]
    assert np.array_equal(plain.segmentation, curved.segmentation)
    for before, after in zip(plain.segments_info, curved.segments_info, strict=True):
        assert after["score"] == CURVE.reported(before["score"])
    if task == "instance":
        assert curved.scores.tolist() == [info["score"] for info in curved.segments_info]


@pytest.mark.parametrize(("threshold", "reported"), [(0.79, True), (0.81, False)])
@pytest.mark.parametrize("task", SEGMENT_RULES)
def test_the_threshold_of_a_word_is_one_of_the_scores_reported(task, threshold, reported) -> None:
    words = Vocabulary.parse(["mug", "cup"], thresholds={"mug": threshold})
    result = segmented(task, words, [0.7, 0.05], plan=CURVED)
    assert ("mug" in found(result)) == reported


def test_semantic_output_has_the_scale_of_panoptic_output() -> None:
    assert ScoreScale.of(CURVED, "semantic") == ScoreScale.of(CURVED, "panoptic")
    assert ScoreScale.of(CURVED, "refer").reported(0.3) == 0.3
