"""One decode for every task asked of an image: groups of rows side by side over one image state.

The latent queries know the image alone, so they are decoded with the first question and kept; what
is asked later costs its own rows (see :mod:`xdecoder_rt.tasks`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from xdecoder_rt import tasks
from xdecoder_rt.backends.base import Array, Backend, Graph, Recurring
from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.plan.manifest import DecoderInfo
from xdecoder_rt.state import DecodedRows, Floats, ImageState
from xdecoder_rt.tasks import RowLayout

PAST_MULTIPLE = 64
_OF_LATENTS = ("region_scores", "overlaps")
"""Outputs that not all plans have, about the first group's rows if these are the latents."""
RegionLevels = tuple[Floats, ...]
"""1 inside and -1 outside, float32 ``[N]`` for each level that the decoder attends to."""


@dataclass(frozen=True)
class RowGroup:
    """Rows that one task adds to a decode.

    Attributes:
        layout: its rows, of `tasks.group`.
        text: float32 ``[T, proj_dim]``, the features of its text rows.
        region: what its rows are confined to that would see all of the image, or None.
        visible: bool ``[R, P]``, which rows of the past each row sees; None where the task table
            says it. Its rows then see no others of the run but themselves.
    """

    layout: RowLayout
    text: Floats
    region: RegionLevels | None = None
    visible: npt.NDArray[np.bool_] | None = None


class RowDecoder:
    """Runs the decode graph on groups of rows.

    Args:
        info: the plan's decoder section.
        width: of a row, as of a text embedding.
        graph: the decode graph for a state.
        backend: what runs it.
        frame: the graph for a state that decodes the latents alone, with nothing but the image's
            values; None where the plan has none.

    Attributes:
        level_strides: of the decoder's levels, in pixels of the network's input.
    """

    def __init__(
        self,
        info: DecoderInfo,
        width: int,
        graph: Callable[[ImageState], Graph],
        backend: Backend,
        frame: Callable[[ImageState], Graph | None] = lambda state: None,
    ) -> None:
        self.level_strides = info.level_strides
        self._info = info
        self._width = width
        self._graph = graph
        self._frame = frame
        self._backend = backend
        self._latents = _latents(info, width)
        # Most decodes are of the latents alone, whose rows are the same for every image.
        rows = _row_feeds(self._latents.layout, [self._latents], None, width)
        self._latent_rows: dict[str, Array] = {
            name: array.view(Recurring) for name, array in rows.items()
        }
        self._no_past = _past_feeds(None, info, width)

    def latents(self, state: ImageState) -> DecodedRows:
        """Return the latent queries of an image, decoded on first need and kept."""
        self.decode(state, [])
        assert state.latents is not None  # decode left them
        return state.latents

    def decode(self, state: ImageState, groups: Sequence[RowGroup]) -> list[DecodedRows]:
        """Decode groups in one run of the graph, with the latents where they are not known yet.

        Where they are more rows than the plan takes at a time, they are divided over several runs:
        no group sees another, so each result is the same.

        Returns:
            The rows of each group.

        Raises:
            ArgumentError: one group alone is more than the plan takes.
        """
        if state.latents is None:
            with state.lock:
                if state.latents is None:
                    first_run, *later_runs = self._divided([self._latents, *groups])
                    state.latents, *decoded = self._run(state, first_run, None)
                    return decoded + self._runs(state, later_runs, state.latents)
        return self._runs(state, self._divided(groups), state.latents)

    def _runs(
        self, state: ImageState, divided: Sequence[Sequence[RowGroup]], past: DecodedRows
    ) -> list[DecodedRows]:
        return [rows for groups in divided for rows in self._run(state, groups, past)]

    def _divided(self, groups: Sequence[RowGroup]) -> list[list[RowGroup]]:
        """Divide groups into as few runs as take them in this order."""
        limit = self._info.max_rows
        runs: list[list[RowGroup]] = []
        room = 0
        for group in groups:
            rows = len(group.layout.kind)
            if limit is not None and rows > limit:
                raise ArgumentError(
                    f"One question has {rows} rows",
                    expected=f"at most {limit}, what this plan takes at a time",
                    fix="ask phrases one by one (joint=False), or build with a larger --max-rows",
                )
            if not runs or (limit is not None and rows > room):
                runs.append([])
                room = limit or 0
            runs[-1].append(group)
            room -= rows
        return runs

    def proceed(self, state: ImageState, past: DecodedRows, group: RowGroup) -> DecodedRows:
        """Decode rows after others: ``past`` has everything that they may see before them.

        Such rows come one after another, as those of a caption.
        """
        return self._run(state, [group], past, is_recurring=True)[0]

    def _run(
        self,
        state: ImageState,
        groups: Sequence[RowGroup],
        past: DecodedRows | None,
        is_recurring: bool = False,
    ) -> list[DecodedRows]:
        frame = None
        if past is None and len(groups) == 1:
            layout, rows, is_recurring = self._latents.layout, self._latent_rows, True
            frame = self._frame(state)
        else:
            first = tasks.LATENT_GROUP if past is None else 1
            layout = tasks.side_by_side([group.layout for group in groups], first)
            rows = _row_feeds(layout, groups, past, self._width)
        graph = self._graph(state) if frame is None else frame
        feeds = {name: value for name, value in state.values.items() if name in graph.inputs}
        if frame is None:
            size, strides = state.letterbox.target, self._info.level_strides
            regions = _region_feeds(layout, groups, size, strides)
            if is_recurring:
                rows = {**rows, "kind": rows["kind"].view(Recurring)}
                if all(group.region is None for group in groups):
                    regions = {name: array.view(Recurring) for name, array in regions.items()}
            feeds |= {
                **rows,
                **regions,
                **(self._no_past if past is None else _past_feeds(past, self._info, self._width)),
            }
        arrays = self._backend.to_numpy_all(graph(feeds))
        layers = range(self._info.layers)
        decoded = DecodedRows(
            layout,
            arrays["class_embedding"][0],
            arrays["mask_embedding"][0],
            arrays["caption_embedding"][0],
            tuple(arrays[f"row_keys_{i}"] for i in layers),
            tuple(arrays[f"row_values_{i}"] for i in layers),
            groups[0].region if len(groups) == 1 else None,
        )
        decoded_groups = [decoded]
        if len(groups) > 1:
            decoded_groups = [
                replace(decoded.chosen(rows), region=group.region)
                for rows, group in zip(_group_slices(groups), groups, strict=True)
            ]
        if past is None:  # the first group are the latents
            of_latents = {name: arrays[name][0] for name in _OF_LATENTS if name in arrays}
            decoded_groups[0] = replace(decoded_groups[0], **of_latents)
        return decoded_groups


def frame_feeds(info: DecoderInfo, width: int, size: tuple[int, int]) -> dict[str, Array]:
    """Return what the decode graph takes besides the image's values when it decodes the latents.

    It is the same for every image of an input size, so that a graph may have it in it.

    Args:
        info: the plan's decoder section.
        width: of a row.
        size: of the network's input, (height, width).
    """
    latents = _latents(info, width)
    return {
        **_row_feeds(latents.layout, [latents], None, width),
        **_region_feeds(latents.layout, [latents], size, info.level_strides),
        **_past_feeds(None, info, width),
    }


def _latents(info: DecoderInfo, width: int) -> RowGroup:
    return RowGroup(tasks.latents(info.num_queries), np.empty((0, width), np.float32))


def _row_feeds(
    layout: RowLayout, groups: Sequence[RowGroup], past: DecodedRows | None, width: int
) -> dict[str, Array]:
    text = np.zeros((len(layout), width), np.float32)
    text[layout.text != tasks.NO_TEXT] = np.concatenate([group.text for group in groups])
    visible = tasks.visible(layout, None if past is None else past.layout)
    if past is not None:
        past_rows = len(past.layout)
        for rows, group in zip(_group_slices(groups), groups, strict=True):
            if group.visible is not None:
                visible[rows, :past_rows] = group.visible
                visible[rows, past_rows:] = np.eye(len(layout), dtype=np.bool_)[rows]
        unused = np.zeros((len(layout), _padding(past_rows)), np.bool_)
        visible = np.concatenate((visible[:, :past_rows], unused, visible[:, past_rows:]), axis=1)
    return {
        "kind": layout.kind[None],
        "content": layout.content[None],
        "position": layout.position[None],
        "text": text[None],
        "visible": visible[None],
    }


def _past_feeds(past: DecodedRows | None, info: DecoderInfo, width: int) -> dict[str, Array]:
    past_rows = 0 if past is None else len(past.layout)
    unused = np.zeros((1, info.heads, _padding(past_rows), width // info.heads), np.float32)
    feeds: dict[str, Array] = {}
    for i in range(info.layers):
        for name in ("keys", "values"):
            states = () if past is None else (getattr(past, name)[i],)
            feeds[f"past_{name}_{i}"] = np.concatenate((*states, unused), axis=2)
    return feeds


def _group_slices(groups: Sequence[RowGroup]) -> list[slice]:
    """Return where the rows of each group lie, side by side."""
    ends = np.cumsum([len(group.layout) for group in groups]).tolist()
    return [slice(end - len(group.layout), end) for group, end in zip(groups, ends, strict=True)]


def _padding(rows: int) -> int:
    """Return how many unseen rows fill up a past, so that its size changes at few steps.

    To some backends a new size is a new plan of the graph.
    """
    return -rows % PAST_MULTIPLE


def joined(first: DecodedRows, *others: DecodedRows) -> DecodedRows:
    """Return rows one after another, as a past."""
    parts = (first, *others)

    def all_of(name: str) -> Floats:
        return np.concatenate([getattr(part, name) for part in parts])

    def states(name: str) -> tuple[Floats, ...]:
        by_layer = zip(*(getattr(part, name) for part in parts), strict=True)
        return tuple(np.concatenate(layer, axis=2) for layer in by_layer)

    return DecodedRows(
        RowLayout.joined([part.layout for part in parts]),
        all_of("class_embedding"),
        all_of("mask_embedding"),
        all_of("caption_embedding"),
        states("keys"),
        states("values"),
    )


def _region_feeds(
    layout: RowLayout, groups: Sequence[RowGroup], size: tuple[int, int], strides: Sequence[int]
) -> dict[str, Array]:
    """Return every group's region as a channel of its own; one of zeros where there is none."""
    regions = [group.region for group in groups if group.region is not None]
    weight = np.zeros((1, len(layout.kind), max(1, len(regions))), np.float32)
    if regions:
        channel = 0
        for rows, group in zip(_group_slices(groups), groups, strict=True):
            if group.region is not None:
                weight[0, rows, channel] = tasks.sees_everything(group.layout)
                channel += 1
    feeds: dict[str, Array] = {"region_weight": weight}
    height, width = size
    for level, stride in enumerate(strides):
        positions = (height // stride) * (width // stride)
        feeds[f"regions_{level}"] = (
            np.stack([region[level] for region in regions])
            if regions
            else np.zeros((1, positions), np.float32)
        )[None]
    return feeds
