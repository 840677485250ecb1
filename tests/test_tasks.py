"""The task table: which rows a task adds, who sees whom, and that tasks share a decode unseen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdecoder_rt import tasks
from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.tasks import LATENT_GROUP, NO_TEXT, TASKS, Row, RowLayout, Task

QUERIES = 4
GROUNDING = {Row.GROUNDING, Row.FIRST_GROUNDING, Row.PHRASE}

Described = tuple[Row, int, int]
"""A row's kind, group and place in its text."""


def sees(looking: Described, seen: Described) -> bool:
    """The sentences of the paper's section 3.2 and of the original, one after another."""
    kind, group, place = looking
    other, other_group, other_place = seen
    if kind is Row.OBJECT:
        return other is Row.OBJECT
    if kind is Row.CLASS:
        return other is Row.CLASS
    if kind in GROUNDING:
        return other in GROUNDING and other_group == group
    if kind is Row.CAPTION:
        earlier = other_group == group and other_place <= place
        return other in (Row.OBJECT, Row.CLASS) or (other is Row.CAPTION and earlier)
    if kind is Row.QUESTION:
        same = other is Row.QUESTION and other_group == group
        return other in (Row.OBJECT, Row.CLASS) or same
    return other is Row.PADDING


def rows_of(described: list[Described]) -> RowLayout:
    kinds, groups, places = (np.array(column, np.int64) for column in zip(*described, strict=True))
    none = np.full(len(described), QUERIES, np.int64)
    return RowLayout(kinds, none, none, groups, places, np.full(len(described), NO_TEXT))


# Every kind, in two groups where there may be several, at three places of a text.
EVERYONE: list[Described] = [
    (Row.OBJECT, LATENT_GROUP, 0),
    (Row.CLASS, LATENT_GROUP, 0),
    (Row.OBJECT, LATENT_GROUP, 0),
    *((kind, group, 0) for group in (1, 2) for kind in (Row.FIRST_GROUNDING, Row.GROUNDING)),
    *((Row.PHRASE, group, place) for group in (1, 2) for place in range(3)),
    *((Row.CAPTION, group, place) for group in (3, 4) for place in range(3)),
    *((Row.QUESTION, group, place) for group in (5, 6) for place in range(3)),
    (Row.PADDING, -1, 0),
    (Row.PADDING, -1, 0),
]


def test_who_sees_whom() -> None:
    assert {kind for kind, _, _ in EVERYONE} == set(Row)
    actual = tasks.visible(rows_of(EVERYONE))
    assert actual.dtype == np.bool_
    for i, looking in enumerate(EVERYONE):
        for j, seen in enumerate(EVERYONE):
            assert actual[i, j] == sees(looking, seen), (looking, seen)


@pytest.mark.parametrize("split", range(1, len(EVERYONE)))
def test_a_past_is_seen_as_if_it_were_decoded_together(split: int) -> None:
    together = tasks.visible(rows_of(EVERYONE))
    past, rows = rows_of(EVERYONE[:split]), rows_of(EVERYONE[split:])
    np.testing.assert_array_equal(tasks.visible(rows, past), together[split:])


def test_no_row_looks_at_nothing() -> None:
    # A softmax over nothing is no number.
    assert tasks.visible(rows_of(EVERYONE)).any(axis=1).all()


def test_who_looks_at_all_of_the_image() -> None:
    kinds = [Row(kind) for kind in rows_of(EVERYONE).kind[tasks.sees_everything(rows_of(EVERYONE))]]
    # The first copy of the objects is open in the original, by an index that means another row.
    assert set(kinds) == {Row.FIRST_GROUNDING, Row.CAPTION, Row.QUESTION}


def test_latents() -> None:
    layout = tasks.latents(QUERIES)
    assert layout.kind.tolist() == [Row.OBJECT] * 3 + [Row.CLASS]
    assert layout.content.tolist() == layout.position.tolist() == [0, 1, 2, 3]
    assert layout.group.tolist() == [LATENT_GROUP] * 4
    assert layout.text.tolist() == [NO_TEXT] * 4


def test_a_phrase_comes_with_copies_of_the_objects() -> None:
    layout = tasks.group("refer", QUERIES, 2)
    assert layout.kind.tolist() == [
        Row.FIRST_GROUNDING,
        Row.GROUNDING,
        Row.GROUNDING,
        Row.PHRASE,
        Row.PHRASE,
    ]
    assert layout.content.tolist() == [0, 1, 2, QUERIES, QUERIES]
    # A phrase's tokens have no place: their position is their feature.
    assert layout.position.tolist() == [0, 1, 2, QUERIES, QUERIES]
    assert layout.text.tolist() == [NO_TEXT] * 3 + [0, 1]
    assert layout.group.tolist() == [1] * 5


@pytest.mark.parametrize(("task", "kind"), [("caption", Row.CAPTION), ("answer", Row.QUESTION)])
def test_captions_and_questions_are_placed_text(task: str, kind: Row) -> None:
    layout = tasks.group(task, QUERIES, 3, first=5)
    assert layout.kind.tolist() == [kind] * 3
    assert layout.content.tolist() == [QUERIES] * 3
    assert layout.position.tolist() == [QUERIES + 1 + place for place in (5, 6, 7)]
    assert layout.order.tolist() == [5, 6, 7]
    assert layout.text.tolist() == [0, 1, 2]


@pytest.mark.parametrize("task", ["segment", "embed"])
def test_some_tasks_read_the_latents_alone(task: str) -> None:
    assert len(tasks.group(task, QUERIES, 7)) == 0


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(ArgumentError, match="'sing'.*'caption'"):
        tasks.group("sing", QUERIES, 1)


def test_a_new_task_is_a_new_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    pointing = Task(
        copies=True,
        text=Row.PHRASE,
        placed=True,
        reads=(tasks.RowOutput.MASK,),
        rows=tasks.AnswerRows.COPIES,
        graphs=("text", "mask"),
    )
    monkeypatch.setitem(TASKS, "point", pointing)
    layout = tasks.group("point", QUERIES, 2)
    assert layout.kind.tolist() == tasks.group("refer", QUERIES, 2).kind.tolist()
    assert layout.position.tolist() == [0, 1, 2, QUERIES + 1, QUERIES + 2]
    both = tasks.side_by_side([layout, tasks.group("refer", QUERIES, 2)])
    assert not tasks.visible(both)[:5, 5:].any()


def test_every_task_reads_rows_that_it_has() -> None:
    for name, task in TASKS.items():
        layout = tasks.group(name, QUERIES, 3)
        if task.rows is tasks.AnswerRows.COPIES:
            assert Row.GROUNDING in layout.kind, name
        elif task.rows is tasks.AnswerRows.LAST:
            assert layout.kind[-1] == task.text, name
        else:
            assert len(layout) == 0, name


GROUPS = st.lists(
    st.tuples(st.sampled_from(sorted(TASKS)), st.integers(1, 5), st.integers(0, 3)), max_size=5
)


@settings(max_examples=60, deadline=None)
@given(asked=GROUPS, queries=st.integers(2, 6), spare=st.integers(0, 3))
def test_groups_side_by_side_do_not_see_each_other(
    asked: list[tuple[str, int, int]], queries: int, spare: int
) -> None:
    groups = [tasks.group(task, queries, tokens, first) for task, tokens, first in asked]
    known = tasks.latents(queries)
    layout = tasks.side_by_side([known, *groups], LATENT_GROUP)
    whole = tasks.padded(layout, len(layout) + spare, queries)
    assert len(whole) == len(layout) + spare
    seen = tasks.visible(whole)

    start = queries
    for group in groups:
        own = np.zeros(len(whole), np.bool_)
        own[start : start + len(group)] = True
        # Alone: the group after the latents. Together: the same block, and nothing else.
        alone = tasks.visible(tasks.side_by_side([known, group], LATENT_GROUP))[queries:]
        np.testing.assert_array_equal(seen[own][:, :queries], alone[:, :queries])
        np.testing.assert_array_equal(seen[own][:, own], alone[:, queries:])
        others = ~own
        others[:queries] = False
        assert not seen[np.ix_(own, others)].any()
        assert not seen[np.ix_(others, own)].any()
        start += len(group)

    # The latents know nothing of any task, nor does anyone know of the padding.
    np.testing.assert_array_equal(seen[:queries, :queries], tasks.visible(known))
    assert not seen[:queries, queries:].any()
    assert not seen[: len(layout), len(layout) :].any()
    assert not seen[len(layout) :, : len(layout)].any()
    assert (whole.kind[len(layout) :] == Row.PADDING).all()


@settings(max_examples=40, deadline=None)
@given(asked=GROUPS)
def test_texts_are_counted_on_from_group_to_group(asked: list[tuple[str, int, int]]) -> None:
    layout = tasks.side_by_side([tasks.group(task, QUERIES, n, first) for task, n, first in asked])
    texts = layout.text[layout.text != NO_TEXT]
    assert texts.tolist() == list(range(len(texts)))
    expected = [n for task, n, _ in asked if TASKS[task].text is not None]
    assert len(texts) == sum(expected)
    numbers = layout.group.tolist()
    assert numbers == sorted(numbers)
    assert 0 not in numbers


def test_groups_are_numbered_from_where_it_is_asked() -> None:
    phrase = tasks.group("refer", QUERIES, 1)
    assert set(tasks.side_by_side([phrase, phrase], 3).group.tolist()) == {3, 4}
    assert len(tasks.side_by_side([])) == 0


def test_a_layout_that_is_long_enough_is_not_padded() -> None:
    layout = tasks.latents(QUERIES)
    assert tasks.padded(layout, QUERIES, QUERIES) is layout
    assert tasks.padded(layout, 1, QUERIES) is layout


def test_rows_can_be_chosen() -> None:
    layout = tasks.group("refer", QUERIES, 2)
    assert layout.chosen(slice(1, 3)).content.tolist() == [1, 2]
    assert layout.chosen(np.array([4, 0])).content.tolist() == [QUERIES, 0]
