"""All that one training step says and asks: encoded once, decoded in one pass.

Names, phrases, captions, questions and answers of a batch are one list of distinct texts, which
the text encoder sees in a few runs of similar lengths. The decoder's rows take their features from
its output by index, and so do the losses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xdecoder_rt import tasks
from xdecoder_rt.models.decoder import Rows
from xdecoder_rt.tasks import Integers
from xdecoder_rt.training.dataset import Batch
from xdecoder_rt.training.vocabulary import BatchVocabulary, Tokenizer
from xdecoder_rt.words.templates import BACKGROUND

NONE = -1
_BUCKETS = 3


@dataclass
class StepText:
    """Texts of one step as tensors; B images.

    A *place* is an index into the tokens of all `buckets`, one bucket after another. A *row* is an
    index into the rows of all images, one image after another.

    Attributes:
        buckets: token ids, int64 ``[T, L]`` each.
        kind: ``[B, R]`` as in :class:`~xdecoder_rt.models.decoder.Rows`.
        content: ``[B, R]``, the same.
        position: ``[B, R]``, the same.
        visible: ``[B, R, R]``, the same.
        row_place: ``[B, R]`` int64, the place whose feature a row gets; the number of places for
            none.
        names: ``[K + 1]`` int64, end of each name's sentence, void last.
        class_ids: ``[B, N]`` int64, name of each target, -1 for none.
        phrases: ``[U + 1]`` int64, end of each distinct phrase, void last.
        phrase_ids: ``[B, M]`` int64, -1 for none; of the phrases that mean something.
        asked: ``[B]`` bool, whether an image has phrases, though all of them mean nothing.
        captions: ``[B]`` int64, end of each image's caption for retrieval, -1 for none.
        caption_keys: ``[B]`` int64, the same number for the same caption.
        caption_rows: ``[C]`` int64, rows that write the next token.
        caption_next: ``[C]`` int64, the tokens that they should write.
        question_rows: ``[V]`` int64, rows that hold an answer.
        answers: ``[A]`` int64, end of each candidate answer.
        accepted: ``[V, A]`` float32, share of each answer among those accepted.
    """

    buckets: list[Tensor]
    kind: Tensor
    content: Tensor
    position: Tensor
    visible: Tensor
    row_place: Tensor
    names: Tensor
    class_ids: Tensor
    phrases: Tensor
    phrase_ids: Tensor
    asked: Tensor
    captions: Tensor
    caption_keys: Tensor
    caption_rows: Tensor
    caption_next: Tensor
    question_rows: Tensor
    answers: Tensor
    accepted: Tensor

    def _map(self, change: Callable[[Tensor], Tensor]) -> StepText:
        changed: dict[str, Any] = {
            name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        changed["buckets"] = [change(bucket) for bucket in self.buckets]
        return StepText(**changed)

    def to(self, device: torch.device) -> StepText:
        """Move the texts to a device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> StepText:
        """Copy the texts to page-locked memory."""
        return self._map(lambda tensor: tensor.pin_memory())

    def rows(self, features: Tensor) -> Rows:
        """The decoder's rows with their text features.

        Args:
            features: ``[places, D]``, the encoder's output at every place.
        """
        nothing = features.new_zeros(1, features.shape[1])
        text = torch.cat((features, nothing))[self.row_place]
        return Rows(self.kind, self.content, self.position, self.visible, text)


class StepWriter:
    """Puts the texts of a batch together.

    Args:
        tokenizer: texts to ids padded with the end token.
        num_queries: latents of the model, the class token included.
        wanted: names of :data:`~xdecoder_rt.tasks.TASKS` to train.
        caption_tokens: most rows of a caption; the rest of a longer one is not learnt.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        num_queries: int,
        wanted: Collection[str],
        caption_tokens: int,
    ) -> None:
        self.tokenizer = tokenizer
        self.num_queries = num_queries
        self.wanted = frozenset(wanted)
        self.caption_tokens = caption_tokens

    def write(
        self, batch: Batch, vocabulary: BatchVocabulary, answers: Sequence[str] = ()
    ) -> StepText:
        """The texts of one step.

        Args:
            batch: images with their texts.
            vocabulary: names that segments are classified against.
            answers: candidates that questions are answered from, besides those they accept.
        """
        said = [
            (*there, *absent) for there, absent in zip(batch.phrases, batch.absent, strict=True)
        ]
        distinct = list(dict.fromkeys(chain.from_iterable(said)))
        asked = list(chain.from_iterable(batch.questions))
        accepted = [answer for question in asked for answer in question.answers]
        candidates = list(dict.fromkeys((*answers, *accepted))) if asked else []
        everything = [*vocabulary.sentences, *distinct, *candidates]
        everything += [BACKGROUND] if distinct else []
        everything += [text for text in batch.captions if text is not None]
        everything += [question.text for question in asked]
        texts = _Encoded.of(self.tokenizer, everything)

        layouts, places = self._layouts(batch, said, texts)
        longest = max(map(len, layouts))
        layouts = [tasks.padded(layout, longest, self.num_queries) for layout in layouts]
        rows = Rows.of(layouts)
        row_place = np.full((len(layouts), longest), texts.total, dtype=np.int64)
        for row, layout, own in zip(row_place, layouts, places, strict=True):
            has_text = layout.text != tasks.NO_TEXT
            row[has_text] = own[layout.text[has_text]]
        caption_rows, caption_next = self._next_tokens(batch, texts, layouts)
        retrieved = batch.captions if "embed" in self.wanted else [None] * len(batch.captions)
        return StepText(
            buckets=texts.buckets,
            kind=rows.kind,
            content=rows.content,
            position=rows.position,
            visible=rows.visible,
            row_place=torch.from_numpy(row_place),
            names=texts.ends(vocabulary.sentences),
            class_ids=vocabulary.indices(batch.labels, batch.membership.shape[1]),
            phrases=texts.ends([*distinct, BACKGROUND] if distinct else []),
            phrase_ids=_phrase_ids(batch, distinct),
            asked=torch.tensor([bool(phrases) for phrases in said]),
            captions=torch.tensor([NONE if t is None else texts.end[t] for t in retrieved]),
            caption_keys=torch.tensor([0 if t is None else _key(t) for t in retrieved]),
            caption_rows=caption_rows,
            caption_next=caption_next,
            question_rows=_last_rows(layouts, tasks.Row.QUESTION),
            answers=texts.ends(candidates),
            accepted=_accepted([question.answers for question in asked], candidates),
        )

    def _layouts(
        self, batch: Batch, said: Sequence[tuple[str, ...]], texts: _Encoded
    ) -> tuple[list[tasks.RowLayout], list[Integers]]:
        """Each image's rows, and the places that their text indices mean."""
        layouts, places = [], []
        refers = any(said)
        for phrases, caption, questions in zip(said, batch.captions, batch.questions, strict=True):
            parts, own = [tasks.latents(self.num_queries)], [np.empty(0, dtype=np.int64)]

            def add(task: str, *spans: Integers) -> None:
                own.extend(spans)  # noqa: B023
                tokens = sum(map(len, spans))
                parts.append(tasks.group(task, self.num_queries, tokens))  # noqa: B023

            if refers:
                # Without phrases too, so that the copies are the same rows in every image.
                add("refer", *map(texts.span, phrases))
            if caption is not None and "caption" in self.wanted:
                add("caption", texts.span(caption)[: self._written(texts, caption)])
            for question in questions:
                add("answer", texts.span(question.text))
            layouts.append(tasks.side_by_side(parts, tasks.LATENT_GROUP))
            places.append(np.concatenate(own))
        return layouts, places

    def _written(self, texts: _Encoded, caption: str) -> int:
        """Tokens of a caption that rows are made of: the end token is only written."""
        return min(len(texts.tokens[caption]) - 1, self.caption_tokens)

    def _next_tokens(
        self, batch: Batch, texts: _Encoded, layouts: Sequence[tasks.RowLayout]
    ) -> tuple[Tensor, Tensor]:
        rows = [
            image * len(layout) + np.flatnonzero(layout.kind == tasks.Row.CAPTION)
            for image, layout in enumerate(layouts)
        ]
        written = [
            texts.tokens[caption][1 : 1 + self._written(texts, caption)]
            for caption in batch.captions
            if caption is not None and "caption" in self.wanted
        ]
        following = np.concatenate([np.empty(0, dtype=np.int64), *written])
        return torch.from_numpy(np.concatenate(rows)), torch.from_numpy(following)


@dataclass
class _Encoded:
    """Distinct texts as token ids, in buckets of similar length.

    Attributes:
        buckets: int64 ``[T, L]`` each.
        tokens: each text's ids, up to the first end token.
        start: each text's first place.
        end: each text's last place.
        total: number of places.
    """

    buckets: list[Tensor]
    tokens: Mapping[str, Integers]
    start: Mapping[str, int]
    end: Mapping[str, int]
    total: int

    @classmethod
    def of(cls, tokenizer: Tokenizer, texts: Sequence[str]) -> _Encoded:
        texts = list(dict.fromkeys(texts))
        ids = tokenizer(texts)
        # Rows are filled up with the end token, which is each row's last.
        lengths = (ids != ids[:, -1:]).sum(axis=1) + 1
        order = np.argsort(lengths, kind="stable")
        buckets, start, total = [], {}, 0
        for members in _split(order, lengths[order]):
            width = int(lengths[members].max())
            for row, index in enumerate(members.tolist()):
                start[texts[index]] = total + row * width
            buckets.append(torch.from_numpy(ids[members, :width]))
            total += len(members) * width
        size = dict(zip(texts, lengths.tolist(), strict=True))
        return cls(
            buckets,
            {text: ids[row, : size[text]] for row, text in enumerate(texts)},
            start,
            {text: first + size[text] - 1 for text, first in start.items()},
            total,
        )

    def span(self, text: str) -> Integers:
        """The places of a text."""
        return np.arange(self.start[text], self.end[text] + 1, dtype=np.int64)

    def ends(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([self.end[text] for text in texts], dtype=torch.int64)


def _split(order: Integers, lengths: Integers) -> list[Integers]:
    """Texts in order of length, cut into a few buckets with least padding."""
    count = len(order)
    # least[n]: the least number of places for the first n texts, and where its last bucket starts.
    least, starts = lengths * np.arange(1, count + 1), []
    least = np.concatenate(([0], least))
    for _ in range(_BUCKETS - 1):
        # Columns: where the last bucket starts; it is as wide as its last text.
        width = np.concatenate(([0], lengths))[:, None]
        index = np.arange(count + 1)
        places = least + width * (index[:, None] - index)
        places = np.where(index > index[:, None], np.iinfo(np.int64).max, places)
        starts.append(places.argmin(axis=1))
        least = places.min(axis=1)
    buckets, end = [], count
    for start in (*reversed(starts), np.zeros(count + 1, np.int64)):
        first = int(start[end])
        if first < end:
            buckets.append(order[first:end])
        end = first
    return buckets[::-1]


def _phrase_ids(batch: Batch, distinct: Sequence[str]) -> Tensor:
    number = {text: index for index, text in enumerate(distinct)}
    ids = torch.full((len(batch.phrases), batch.phrase_membership.shape[1]), NONE)
    for row, texts in zip(ids, batch.phrases, strict=True):
        row[: len(texts)] = torch.tensor([number[text] for text in texts], dtype=torch.int64)
    return ids


def _last_rows(layouts: Sequence[tasks.RowLayout], kind: tasks.Row) -> Tensor:
    """The last row of each group that has rows of a kind."""
    length = len(layouts[0])
    last = []
    for image, layout in enumerate(layouts):
        rows = np.flatnonzero(layout.kind == kind)
        ends = np.flatnonzero(np.diff(layout.group[rows], append=tasks.LATENT_GROUP))
        last.append(image * length + rows[ends])
    return torch.from_numpy(np.concatenate(last))


def _accepted(answers: Sequence[Sequence[str]], candidates: Sequence[str]) -> Tensor:
    number = {text: index for index, text in enumerate(candidates)}
    shares = torch.zeros(len(answers), len(candidates))
    for row, texts in zip(shares, answers, strict=True):
        for text in texts:
            row[number[text]] += 1 / len(texts)
    return shares


def _key(text: str) -> int:
    """Return 63 bits of a text, equal in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
