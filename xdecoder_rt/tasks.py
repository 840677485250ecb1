"""The task table (paper section 3.2): which rows enter the decoder, who sees whom, what is read.

The decoder is one for all tasks. A task is a *group* of rows beside the latents: copies of the
object queries, text tokens, or both. :data:`ROWS` says of each kind of row what it attends to;
:data:`TASKS` says of each task which rows it adds and which outputs are its answer. The model, the
exporter and the engine read these two tables, and nothing else branches on the task: a new task is
a new entry.

Groups of different tasks may share one decode: no row sees another group than its own and the
latents, so each group's result is what it is alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, IntEnum

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import ArgumentError, quoted

Integers = npt.NDArray[np.int64]

LATENT_GROUP = 0
"""Number of the latents' group; groups of tasks count from 1."""
NO_TEXT = -1


class Row(IntEnum):
    """What a row of the decoder is."""

    OBJECT = 0
    CLASS = 1
    GROUNDING = 2
    FIRST_GROUNDING = 3
    PHRASE = 4
    CAPTION = 5
    QUESTION = 6
    PADDING = 7


class VisiblePixels(Enum):
    """What a row's cross-attention sees of the image."""

    OWN_MASK = "where the row's own mask logit is not negative"
    ALL = "everything, or a given region"
    NONE = "nothing: the row takes no part in cross-attention"


@dataclass(frozen=True)
class RowRule:
    """What one kind of row attends to.

    Attributes:
        pixels: in cross-attention.
        latents: latents that it sees in self-attention.
        group: rows of its own group that it sees.
        causal: whether it sees only rows up to itself of its group.
    """

    pixels: VisiblePixels
    latents: tuple[Row, ...]
    group: tuple[Row, ...]
    causal: bool = False


_GROUNDING = (Row.GROUNDING, Row.FIRST_GROUNDING, Row.PHRASE)
_ALL_LATENTS = (Row.OBJECT, Row.CLASS)

ROWS: dict[Row, RowRule] = {
    Row.OBJECT: RowRule(VisiblePixels.OWN_MASK, (), (Row.OBJECT,)),
    Row.CLASS: RowRule(VisiblePixels.OWN_MASK, (), (Row.CLASS,)),
    Row.GROUNDING: RowRule(VisiblePixels.OWN_MASK, (), _GROUNDING),
    # The original means to open the class token's mask and hits the first copy instead.
    Row.FIRST_GROUNDING: RowRule(VisiblePixels.ALL, (), _GROUNDING),
    Row.PHRASE: RowRule(VisiblePixels.NONE, (), _GROUNDING),
    Row.CAPTION: RowRule(VisiblePixels.ALL, _ALL_LATENTS, (Row.CAPTION,), causal=True),
    Row.QUESTION: RowRule(VisiblePixels.ALL, _ALL_LATENTS, (Row.QUESTION,)),
    Row.PADDING: RowRule(VisiblePixels.NONE, (), (Row.PADDING,)),
}


class RowOutput(str, Enum):
    """What the decoder says of a row, named as the graph's outputs."""

    CLASS = "class_embedding"
    MASK = "mask_embedding"
    CAPTION = "caption_embedding"


class AnswerRows(Enum):
    """Which rows hold a task's answer."""

    LATENTS = "all latents"
    CLASS_TOKEN = "the class token"  # noqa: S105
    COPIES = "the copies of the object queries"
    LAST = "the group's last row"


@dataclass(frozen=True)
class Task:
    """What a task adds to the latents, and where its answer is.

    Attributes:
        copies: whether it adds a copy of every object query.
        text: the kind of its text rows, if it has any.
        placed: whether its text rows carry their place in the text as a position.
        reads: the outputs that are its answer.
        rows: the rows that they are read at.
        graphs: the graphs that it needs besides vision and decode.
    """

    copies: bool
    text: Row | None
    placed: bool
    reads: tuple[RowOutput, ...]
    rows: AnswerRows
    graphs: tuple[str, ...]


TASKS: dict[str, Task] = {
    "segment": Task(
        False, None, False, (RowOutput.CLASS, RowOutput.MASK), AnswerRows.LATENTS, ("text", "mask")
    ),
    "refer": Task(
        True,
        Row.PHRASE,
        False,
        (RowOutput.CLASS, RowOutput.MASK),
        AnswerRows.COPIES,
        ("text", "mask"),
    ),
    "caption": Task(
        False, Row.CAPTION, True, (RowOutput.CAPTION,), AnswerRows.LAST, ("text", "token")
    ),
    "answer": Task(False, Row.QUESTION, True, (RowOutput.CLASS,), AnswerRows.LAST, ("text",)),
    "embed": Task(False, None, False, (RowOutput.CLASS,), AnswerRows.CLASS_TOKEN, ("text",)),
}


@dataclass(frozen=True)
class RowLayout:
    """Rows of a decode, as the graph takes them: int64 arrays of length R.

    Attributes:
        kind: a :class:`Row` each.
        content: the latent whose feature a row starts as; ``num_queries`` for none.
        position: the latent whose position a row takes, ``num_queries`` for none, or
            ``num_queries + 1 + t`` for place ``t`` of a text.
        group: `LATENT_GROUP`, or the number of the row's group.
        order: place of a text row in its text, 0 for others.
        text: index of the text feature that is added to content and position, or `NO_TEXT`.
    """

    kind: Integers
    content: Integers
    position: Integers
    group: Integers
    order: Integers
    text: Integers

    def __len__(self) -> int:
        return len(self.kind)

    @classmethod
    def joined(cls, layouts: Sequence[RowLayout]) -> RowLayout:
        """Layouts one after another, as they are."""
        nothing = [np.empty(0, np.int64)]
        return cls(
            *(
                np.concatenate(nothing + [getattr(layout, name) for layout in layouts])
                for name in cls.__dataclass_fields__
            )
        )

    def chosen(self, rows: slice | Integers) -> RowLayout:
        """Some of the rows."""
        return RowLayout(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def latents(num_queries: int) -> RowLayout:
    """The object queries and, last, the class token."""
    index = np.arange(num_queries, dtype=np.int64)
    kind = np.where(index == num_queries - 1, Row.CLASS, Row.OBJECT).astype(np.int64)
    zero = np.zeros_like(index)
    return RowLayout(kind, index, index, zero + LATENT_GROUP, zero, zero + NO_TEXT)


def group(task: str, num_queries: int, tokens: int, first: int = 0) -> RowLayout:
    """The rows that one task adds for one text.

    Args:
        task: a name of :data:`TASKS`.
        num_queries: of the model, the class token included.
        tokens: text rows, start and end tokens included.
        first: place of the first of them in its text, where earlier ones were decoded before.

    Returns:
        Copies first, then text rows, in a group of number 1; none for a task of latents alone.

    Raises:
        ArgumentError: there is no such task.
    """
    if task not in TASKS:
        raise ArgumentError(
            f"There is no task {quoted(task)}", expected=", ".join(repr(name) for name in TASKS)
        )
    rule = TASKS[task]
    copies = num_queries - 1 if rule.copies else 0
    tokens = tokens if rule.text is not None else 0
    index = np.arange(copies, dtype=np.int64)
    order = np.arange(first, first + tokens, dtype=np.int64)
    kind = np.full(copies + tokens, Row.GROUNDING if rule.text is None else rule.text, np.int64)
    kind[:copies] = Row.GROUNDING
    kind[: min(copies, 1)] = Row.FIRST_GROUNDING
    none = np.full(tokens, num_queries, np.int64)
    return RowLayout(
        kind=kind,
        content=np.concatenate((index, none)),
        position=np.concatenate((index, none + 1 + order if rule.placed else none)),
        group=np.ones(copies + tokens, np.int64),
        order=np.concatenate((np.zeros_like(index), order)),
        text=np.concatenate((np.full_like(index, NO_TEXT), order - first)),
    )


def side_by_side(layouts: Sequence[RowLayout], first_group: int = 1) -> RowLayout:
    """Layouts as one, each group under a number of its own; latents stay latents.

    Text indices count on from one layout to the next, as if their features were concatenated.
    """
    placed, texts = [], 0
    for number, layout in enumerate(layouts, first_group):
        own = np.where(layout.group == LATENT_GROUP, LATENT_GROUP, number)
        has_text = layout.text != NO_TEXT
        placed.append(
            replace(layout, group=own, text=np.where(has_text, layout.text + texts, NO_TEXT))
        )
        texts += int(layout.text.max(initial=NO_TEXT)) + 1
    return RowLayout.joined(placed)


def padded(layout: RowLayout, rows: int, num_queries: int) -> RowLayout:
    """A layout with rows that see nothing but one another and that nothing sees, up to ``rows``."""
    spare = rows - len(layout)
    if spare <= 0:
        return layout
    zero, none = np.zeros(spare, np.int64), np.full(spare, num_queries, np.int64)
    padding = RowLayout(zero + Row.PADDING, none, none, zero - 1, zero, zero + NO_TEXT)
    return RowLayout.joined((layout, padding))


def _table(member: str) -> npt.NDArray[np.bool_]:
    table = np.zeros((len(Row), len(Row)), np.bool_)
    for row, rule in ROWS.items():
        table[row, list(getattr(rule, member))] = True
    return table


_SEES_LATENTS, _SEES_GROUP = _table("latents"), _table("group")
_IS_CAUSAL = np.array([ROWS[row].causal for row in Row])


def visible(rows: RowLayout, past: RowLayout | None = None) -> npt.NDArray[np.bool_]:
    """Who sees whom in self-attention.

    Args:
        rows: what is decoded.
        past: rows decoded before, whose keys and values are kept.

    Returns:
        bool ``[R, P + R]``, the past's columns first.
    """
    seen = rows if past is None else RowLayout.joined((past, rows))
    looking = rows.kind[:, None]
    own = rows.group[:, None] == seen.group
    not_later = ~_IS_CAUSAL[looking] | (seen.order <= rows.order[:, None])
    in_group = own & _SEES_GROUP[looking, seen.kind] & not_later
    sees: npt.NDArray[np.bool_] = in_group | (
        (seen.group == LATENT_GROUP) & _SEES_LATENTS[looking, seen.kind]
    )
    return sees


_SEES_EVERYTHING = np.array([ROWS[row].pixels is VisiblePixels.ALL for row in Row])


def sees_everything(layout: RowLayout) -> npt.NDArray[np.bool_]:
    """Which rows attend to all of the image, or to the region that they are confined to."""
    seeing: npt.NDArray[np.bool_] = _SEES_EVERYTHING[layout.kind]
    return seeing


def answering_rows(task: str, layout: RowLayout) -> npt.NDArray[np.bool_]:
    """Which rows of a task's own, or of the latents, hold its answer: bool ``[R]``."""
    where = TASKS[task].rows
    kinds = {
        AnswerRows.LATENTS: _ALL_LATENTS,
        AnswerRows.CLASS_TOKEN: (Row.CLASS,),
        AnswerRows.COPIES: (Row.GROUNDING, Row.FIRST_GROUNDING),
    }
    holding: npt.NDArray[np.bool_]
    if where is AnswerRows.LAST:
        holding = np.arange(len(layout)) == len(layout) - 1
    else:
        holding = np.isin(layout.kind, kinds[where])
    return holding
