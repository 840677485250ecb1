"""Captions, one token a step: earlier tokens' keys and values are kept, and beams share them.

The latents do not see the text and the text is causal, so nothing that was computed for an earlier
token changes: a step encodes one token, decodes one row a beam, and scores the vocabulary once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from xdecoder_rt import tasks
from xdecoder_rt.errors import whole_number
from xdecoder_rt.questions.regions import RegionSource, read_region, region_levels
from xdecoder_rt.results import Caption
from xdecoder_rt.rows import RegionLevels, RowDecoder, RowGroup, joined
from xdecoder_rt.runtime import Runtime
from xdecoder_rt.state import DecodedRows, Floats, ImageState
from xdecoder_rt.words.text_graph import TextGraph, TextStates
from xdecoder_rt.words.tokenizer import ClipTokenizer
from xdecoder_rt.words.word import check_text

CAPTION_TOKENS = 50
"""Tokens of a caption unless asked otherwise, as the original writes."""
MAX_BEAMS = 64
# What the next token may still change: a letter whose last bytes are to come, and an apostrophe,
# which decoding closes up to the word before it if a contraction follows.
_UNSETTLED = re.compile("(?: ?'\\w{0,2}|\N{REPLACEMENT CHARACTER}+)$")


@dataclass(frozen=True)
class CaptionQuestion:
    """A caption of the image or of a part of it.

    Attributes:
        writer: writes it.
        opening: how it begins.
        region: what it is about, as :meth:`Engine.caption` takes it; None for all of the image.
        beams: drafts followed at a time.
        max_tokens: longest caption; None for 50.
    """

    writer: CaptionWriter
    opening: Opening
    region: RegionSource | None
    beams: int
    max_tokens: int | None

    @property
    def is_textual(self) -> bool:
        """Whether the caption is of the whole image; a region needs the image's proportions."""
        return self.region is None

    @classmethod
    def ask(
        cls,
        runtime: Runtime,
        prompt: str | None,
        region: RegionSource | None,
        beams: int | None,
        max_tokens: int | None,
        strict: bool,
    ) -> CaptionQuestion:
        """Check and encode a caption's beginning; the arguments are those of `Engine.caption`.

        Raises:
            ArgumentError: the plan lacks this task, or the runtime is closed.
            VocabularyError: the prompt is empty, unreadable, or too long and `strict` is set.
        """
        runtime.require("caption")
        if prompt is not None:
            runtime.text.check_lengths([check_text(prompt, "The prompt")], strict)
        info = runtime.manifest.text
        writer = CaptionWriter(
            runtime.text_graph,
            runtime.rows,
            runtime.tokenizer,
            runtime.token_logits,
            runtime.manifest.decoder.num_queries,
            info.caption_stops,
            info.repetition_penalty,
            info.no_repeat_ngram,
        )
        count = info.caption_beams if beams is None else beams
        return cls(writer, writer.open(prompt), region, count, max_tokens)

    def groups(self, state: ImageState) -> Sequence[RowGroup]:
        """Return the rows of the caption's beginning, confined to its region.

        Raises:
            ArgumentError: the region is outside the image or empty.
        """
        if self.region is None:
            return (self.writer.group(self.opening),)
        mask = read_region(self.region, state.letterbox.source)
        region = region_levels(mask, state.letterbox, self.writer.level_strides)
        return (self.writer.group(self.opening, region),)

    def read(self, runtime: Runtime, state: ImageState, rows: Sequence[DecodedRows]) -> Caption:
        """Write on from the beginning, token by token.

        Raises:
            ArgumentError: `beams` or `max_tokens` is out of range.
        """
        *_, draft = self._drafts(state, rows)
        return self.writer.caption(self.opening, draft)

    def pieces(self, state: ImageState, rows: Sequence[DecodedRows]) -> Iterator[str]:
        """Write on as :meth:`read` does with one beam, and give texts as they become final.

        Raises:
            ArgumentError: as :meth:`read`.
        """
        written = ""
        for draft in self._drafts(state, rows):
            text = self.writer.settled(self.opening, draft)
            if len(text) > len(written):
                yield text[len(written) :]
                written = text

    def _drafts(self, state: ImageState, rows: Sequence[DecodedRows]) -> Iterator[Draft]:
        (opening_rows,) = rows
        return self.writer.drafts(state, self.opening, opening_rows, self.beams, self.max_tokens)


@dataclass(frozen=True)
class Opening:
    """The beginning of a caption.

    Attributes:
        token_ids: the start token and the prompt's.
        states: of these tokens in the text encoder.
    """

    token_ids: tuple[int, ...]
    states: TextStates


@dataclass(frozen=True)
class Draft:
    """A caption so far.

    Attributes:
        token_ids: the tokens after the opening, without an end token.
        log_prob: of them, and of the end token if it has one, repetition penalised.
        scored: how many tokens that is.
        columns: the rows of the past that hold the caption's tokens.
        finished: whether it has ended.
    """

    token_ids: tuple[int, ...]
    log_prob: float
    scored: int
    columns: tuple[int, ...]
    finished: bool = False

    @property
    def score(self) -> float:
        """Mean log-probability of a token."""
        return self.log_prob / max(1, self.scored)


class CaptionWriter:
    """Writes captions of encoded images.

    Args:
        text: encodes tokens.
        rows: decodes rows.
        tokenizer: the plan's.
        scores: the token graph: ``[N, text width]`` to logits ``[N, vocabulary]``.
        num_queries: of the model.
        stops: texts that a caption ends before.
        repetition_penalty: what the logits of tokens that a draft has already are divided by, or
            multiplied by where they are negative (Keskar et al., CTRL, section 4.1); 1 for none.
        no_repeat_ngram: so many tokens in a row are never written twice, those of the opening
            counted; 0 for no such rule. The end is always free to come.

    Attributes:
        level_strides: of the grids that a region is brought to.
    """

    def __init__(
        self,
        text: TextGraph,
        rows: RowDecoder,
        tokenizer: ClipTokenizer,
        scores: Callable[[Floats], Floats],
        num_queries: int,
        stops: Sequence[str],
        repetition_penalty: float = 1.0,
        no_repeat_ngram: int = 0,
    ) -> None:
        self.level_strides = rows.level_strides
        self._text = text
        self._rows = rows
        self._tokenizer = tokenizer
        self._scores = scores
        self._num_queries = num_queries
        self._stops = tuple(stops)
        self._repetition_penalty = repetition_penalty
        self._no_repeat_ngram = no_repeat_ngram

    def open(self, prompt: str | None) -> Opening:
        """Encode a caption's beginning: the start token, and the words that it is to go on from."""
        ids = self._tokenizer.tokens(prompt or "")[:-1]
        return Opening(ids, self._text.proceed(np.array([ids], np.int64)))

    def group(self, opening: Opening, region: RegionLevels | None = None) -> RowGroup:
        """Return the rows of a caption's beginning.

        Args:
            opening: of :meth:`open`.
            region: what the caption is about, or None for all of the image.
        """
        layout = tasks.group("caption", self._num_queries, len(opening.token_ids))
        return RowGroup(layout, opening.states.features[0], region)

    def drafts(
        self,
        state: ImageState,
        opening: Opening,
        decoded: DecodedRows,
        beams: int = 1,
        max_tokens: int | None = None,
    ) -> Iterator[Draft]:
        """Write a caption; the best draft after each token, the finished one last.

        With one beam each draft continues the one before. The best of several finished captions is
        that with the highest mean log-probability a token.

        Args:
            state: of the image.
            opening: of :meth:`open`.
            decoded: the opening's rows, to whose region the caption is confined.
            beams: drafts followed at a time.
            max_tokens: longest caption, without opening and end; None for 50.

        Raises:
            ArgumentError: `beams` or `max_tokens` is out of range.
        """
        steps = self._steps(opening, beams, max_tokens)
        latents = self._rows.latents(state)
        past = joined(latents, decoded)
        first = tuple(range(len(latents.layout), len(past.layout)))
        live, finished = [Draft((), 0.0, 0, first)], []
        states, (embedding,) = opening.states, decoded.answer("caption")
        for step in range(steps):
            live, parents, ended_drafts = self._extended(
                live, self._scores(embedding), beams, opening
            )
            finished += ended_drafts
            if not live or len(finished) >= beams or step == steps - 1:
                break
            yield live[0]
            # Tokens of the opening and of earlier steps come before.
            place = len(opening.token_ids) + step
            ids = np.array([[draft.token_ids[-1]] for draft in live], np.int64)
            states = self._text.proceed(ids, states.chosen(parents))
            group = self._step(states.features[:, 0], live, place, decoded.region, past)
            rows = self._rows.proceed(state, past, group)
            live = [
                replace(draft, columns=(*draft.columns, len(past.layout) + i))
                for i, draft in enumerate(live)
            ]
            past, embedding = joined(past, rows), rows.caption_embedding
        best = max(finished or live, key=lambda draft: draft.score)
        yield replace(best, finished=True)

    def caption(self, opening: Opening, draft: Draft) -> Caption:
        """Return a draft as a result: the opening's words and its own, up to a stop."""
        text = self._tokenizer.decode((*opening.token_ids, *draft.token_ids))
        opening_length = len(self._tokenizer.decode(opening.token_ids))
        ends = [at for stop in self._stops if (at := text.find(stop, opening_length)) >= 0]
        return Caption(text[: min(ends, default=len(text))].strip(), draft.score)

    def settled(self, opening: Opening, draft: Draft) -> str:
        """Return the beginning of a draft's :meth:`caption` that no later token takes back."""
        text = self.caption(opening, draft).text
        if draft.finished:
            return text
        text = _UNSETTLED.sub("", text)
        # A stop may have begun.
        stop_beginnings = (
            size
            for stop in self._stops
            for size in range(len(stop) - 1, 0, -1)
            if text.endswith(stop[:size])
        )
        return text[: len(text) - max(stop_beginnings, default=0)].rstrip()

    def _steps(self, opening: Opening, beams: int, max_tokens: int | None) -> int:
        room = self._tokenizer.context_length - len(opening.token_ids)
        whole_number("beams", beams, 1, MAX_BEAMS, f"1 to {MAX_BEAMS}")
        if max_tokens is None:
            return min(CAPTION_TOKENS, room)
        expected = f"1 to {room}, what the context length leaves after the prompt"
        return whole_number("max_tokens", max_tokens, 1, room, expected)

    def _extended(
        self, live: list[Draft], logits: Floats, beams: int, opening: Opening
    ) -> tuple[list[Draft], npt.NDArray[np.int64], list[Draft]]:
        """Extend every draft by its likeliest next tokens.

        Returns:
            Up to `beams` drafts that go on, best first; the draft that each continues; and the
            drafts that ended among the best `beams` of all.
        """
        scores = self._penalised(live, logits)
        highest, log_totals = normalisers(scores)
        if self._no_repeat_ngram:
            for row, draft in zip(scores, live, strict=True):
                tokens = (*opening.token_ids, *draft.token_ids)
                row[list(repeating_tokens(tokens, self._no_repeat_ngram))] = -np.inf
        # A draft ends in one way at most, or in as many as it has stops.
        count = min(scores.shape[1], 2 * beams)
        likeliest = np.argpartition(scores, -count, axis=1)[:, -count:]
        likely = np.take_along_axis(scores, likeliest, axis=1).astype(np.float64)
        log_probs = likely - highest[:, None] - log_totals[:, None]
        candidates = sorted(
            (-(draft.log_prob + float(log_prob)), i, int(token))
            for i, draft in enumerate(live)
            for token, log_prob in zip(likeliest[i], log_probs[i], strict=True)
        )
        next_drafts: list[Draft] = []
        parents: list[int] = []
        ended_drafts: list[Draft] = []
        for rank, (negative, parent, token) in enumerate(candidates):
            if len(next_drafts) == beams or np.isinf(negative):
                break
            draft = live[parent]
            ids = draft.token_ids
            ids = ids if token == self._tokenizer.end_token else (*ids, token)
            longer = replace(draft, token_ids=ids, log_prob=-negative, scored=draft.scored + 1)
            if token == self._tokenizer.end_token or self._stops_at(opening, ids):
                if rank < beams:
                    ended_drafts.append(replace(longer, finished=True))
            else:
                next_drafts.append(longer)
                parents.append(parent)
        return next_drafts, np.array(parents, np.int64), ended_drafts

    def _penalised(self, live: list[Draft], logits: Floats) -> Floats:
        """Return a copy of the logits, those of each draft's own tokens lowered."""
        lowered = logits.copy()
        if self._repetition_penalty == 1.0:
            return lowered
        for row, draft in zip(lowered, live, strict=True):
            token_ids = list(set(draft.token_ids))
            values = row[token_ids]
            penalty = self._repetition_penalty
            row[token_ids] = np.where(values > 0, values / penalty, values * penalty)
        return lowered

    def _stops_at(self, opening: Opening, token_ids: tuple[int, ...]) -> bool:
        if not self._stops:
            return False
        # Enough of the last tokens to hold any stop: a token is at least a byte.
        longest = max(len(stop.encode()) for stop in self._stops)
        tail = self._tokenizer.decode((*opening.token_ids, *token_ids)[-longest:])
        return any(stop in tail for stop in self._stops)

    def _step(
        self,
        features: Floats,
        live: list[Draft],
        place: int,
        region: RegionLevels | None,
        past: DecodedRows,
    ) -> RowGroup:
        """Return one row a draft, each seeing the latents and its own earlier tokens."""
        count = len(live)
        single_row = tasks.group("caption", self._num_queries, 1, place)
        layout = replace(single_row.chosen(np.zeros(count, np.int64)), text=np.arange(count))
        visible = np.zeros((count, len(past.layout)), np.bool_)
        visible[:, : self._num_queries] = True
        for row, draft in zip(visible, live, strict=True):
            row[list(draft.columns)] = True
        return RowGroup(layout, features, region, visible)


def repeating_tokens(token_ids: Sequence[int], length: int) -> set[int]:
    """Return the tokens that would end a run of `length` tokens that has been there before."""
    tail = tuple(token_ids[len(token_ids) - length + 1 :])
    return {
        token_ids[end]
        for end in range(length - 1, len(token_ids))
        if tuple(token_ids[end - length + 1 : end]) == tail
    }


def normalisers(logits: Floats) -> tuple[Floats, npt.NDArray[np.float64]]:
    """Return the highest logit ``m`` of each row, and ``log(sum(exp(x - m)))``.

    A logit less both is its log-probability. Exponentials are of the logits' own type: of float32
    many are computed at a time.
    """
    highest = logits.max(axis=-1)
    totals = np.exp(logits - highest[..., None]).sum(axis=-1, dtype=np.float64)
    return highest, np.log(totals)
