"""The texts of a step: every row carries the right token's feature, every target its text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from xdecoder_rt import tasks
from xdecoder_rt.datasets.items import AnsweredQuestion, Phrase, Segment
from xdecoder_rt.models import XDecoder
from xdecoder_rt.tasks import TASKS, Row
from xdecoder_rt.training.dataset import Batch, collate, make_example
from xdecoder_rt.training.step_text import StepText, StepWriter
from xdecoder_rt.training.texts import Texts
from xdecoder_rt.training.vocabulary import BatchVocabulary

Tokenizer = Callable[[Sequence[str]], NDArray[np.int64]]
QUERIES, END = 6, 63
VOCABULARY = BatchVocabulary(("cup", "bin"), ("a photo of a cup", "a bin", "background"))
MIXED = (
    Texts((Phrase("the red cup", (1,)), Phrase("the bin", (2,))), (), "a cup left of a bin"),
    Texts(questions=(AnsweredQuestion("what is it ?", ("a cup", "cup", "cup", "bin")),)),
    Texts(
        (Phrase("the bin", (2,)),),
        ("the red bin",),
        "a bin",
        (
            AnsweredQuestion("how many ?", ("two",), ("two", "one")),
            AnsweredQuestion("is the bin red ?", ("yes",)),
        ),
    ),
    Texts(),
)
WORDS = st.lists(st.sampled_from(["a", "red", "cup", "bin", "left", "of", "two"]), max_size=20)
SENTENCES = WORDS.map(lambda words: " ".join(["the", *words]))


def batch_of(texts: Sequence[Texts]) -> Batch:
    ids = np.ones((32, 32), np.int64)
    ids[16:] = 2
    segments = [Segment(1, "cup", True, 512), Segment(2, "bin", True, 512)]
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    return collate([make_example(image, ids, segments, t, 32, 8, 0, rng) for t in texts])


@pytest.fixture
def writer(tiny_tokenizer: Tokenizer) -> Callable[..., StepText]:
    def write(
        texts: Sequence[Texts] = MIXED,
        wanted: Sequence[str] = tuple(TASKS),
        caption_tokens: int = 16,
        answers: Sequence[str] = (),
    ) -> StepText:
        step = StepWriter(tiny_tokenizer, QUERIES, wanted, caption_tokens)
        return step.write(batch_of(texts), VOCABULARY, answers)

    return write


def token_at(text: StepText) -> Tensor:
    """The token at each place."""
    return torch.cat([bucket.flatten() for bucket in text.buckets])


def tokens_of(tokenizer: Tokenizer, text: str) -> list[int]:
    ids = tokenizer([text])[0].tolist()
    return [*ids[: ids.index(END)], END]


def row_tokens(text: StepText, image: int, kind: Row) -> list[int]:
    """The tokens of an image's rows of one kind, in order."""
    return token_at(text)[text.row_place[image][text.kind[image] == kind]].tolist()


def test_every_text_row_stands_for_its_token(
    writer: Callable[..., StepText], tiny_tokenizer: Tokenizer
) -> None:
    text = writer()
    for image, texts in enumerate(MIXED):
        said = [*(phrase.text for phrase in texts.phrases), *texts.absent]
        phrases = [token for phrase in said for token in tokens_of(tiny_tokenizer, phrase)]
        assert row_tokens(text, image, Row.PHRASE) == phrases
        # The end token is written and never read.
        caption = tokens_of(tiny_tokenizer, texts.caption)[:-1] if texts.caption else []
        assert row_tokens(text, image, Row.CAPTION) == caption
        question = [t for q in texts.questions for t in tokens_of(tiny_tokenizer, q.text)]
        assert row_tokens(text, image, Row.QUESTION) == question
    total = len(token_at(text))
    without = (text.kind <= Row.FIRST_GROUNDING) | (text.kind == Row.PADDING)
    assert (text.row_place[without] == total).all()
    assert (text.row_place[~without] < total).all()
    rows = text.rows(torch.arange(1.0, total + 1)[:, None])
    assert rows.text is not None
    assert torch.equal(rows.text[..., 0], torch.where(without, 0, text.row_place + 1))


@settings(max_examples=40, deadline=None)
@given(st.lists(SENTENCES, min_size=1, max_size=9))
def test_texts_of_all_lengths_are_encoded_as_if_alone(
    tiny_tokenizer: Tokenizer, captions: list[str]
) -> None:
    step = StepWriter(tiny_tokenizer, QUERIES, ("caption", "embed"), 16)
    text = step.write(batch_of([Texts(caption=caption) for caption in captions]), VOCABULARY)
    ids = token_at(text)
    for image, caption in enumerate(captions):
        end = int(text.captions[image])
        whole = tokens_of(tiny_tokenizer, caption)
        assert ids[end - len(whole) + 1 : end + 1].tolist() == whole
        assert row_tokens(text, image, Row.CAPTION) == whole[:-1]
    distinct = {*captions, *VOCABULARY.sentences}
    assert sum(len(bucket) for bucket in text.buckets) == len(distinct)
    longest = max(len(tokens_of(tiny_tokenizer, caption)) for caption in distinct)
    assert len(ids) <= longest * len(distinct)


def test_features_are_the_text_encoders(
    writer: Callable[..., StepText],
    tiny_model: Callable[..., XDecoder],
    tiny_tokenizer: Tokenizer,
) -> None:
    model, text = tiny_model().eval(), writer(answers=["yes"])
    with torch.no_grad():
        features = torch.cat([model.text_encoder(ids).flatten(0, 1) for ids in text.buckets])

        def alone(*texts: str) -> Tensor:
            return model.encode_text(torch.from_numpy(tiny_tokenizer(texts)))

        expected = {
            "names": alone(*VOCABULARY.sentences),
            "phrases": alone("the red cup", "the bin", "the red bin", "background"),
            "answers": alone("yes", "a cup", "cup", "bin", "two"),
        }
        captions = alone("a cup left of a bin", "a bin")
    for name, wanted in expected.items():
        torch.testing.assert_close(features[getattr(text, name)], wanted)
    assert (text.captions < 0).tolist() == [False, True, False, True]
    torch.testing.assert_close(features[text.captions[[0, 2]]], captions)


def test_rows_say_what_they_say_alone(
    writer: Callable[..., StepText], tiny_model: Callable[..., XDecoder]
) -> None:
    model = tiny_model().eval()
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def decoded(texts: Sequence[Texts], **changes: Any) -> tuple[StepText, Tensor, Tensor]:
        text = writer(texts, **changes)
        features = torch.cat([model.text_encoder(ids).flatten(0, 1) for ids in text.buckets])
        said = model(images.expand(len(texts), -1, -1, -1), text.rows(features))
        return text, said.layers[-1].class_embedding, said.caption_embedding

    with torch.no_grad():
        text, classes, following = decoded(MIXED)
        latents = model(images).layers[-1].class_embedding
        torch.testing.assert_close(classes[:, :QUERIES], latents.expand(len(MIXED), -1, -1))
        for image, texts in enumerate(MIXED):
            for kind, own in (
                (Row.PHRASE, Texts(texts.phrases, texts.absent)),
                (Row.CAPTION, Texts(caption=texts.caption)),
                (Row.QUESTION, Texts(questions=texts.questions)),
            ):
                if own == Texts():
                    continue
                single, single_classes, single_following = decoded([own])
                kinds = (Row.GROUNDING, kind) if kind is Row.PHRASE else (kind,)
                here = torch.isin(text.kind[image], torch.tensor(kinds))
                there = torch.isin(single.kind[0], torch.tensor(kinds))
                torch.testing.assert_close(classes[image, here], single_classes[0, there])
                torch.testing.assert_close(following[image, here], single_following[0, there])


def test_the_copies_are_the_same_rows_in_every_image(writer: Callable[..., StepText]) -> None:
    text = writer()
    copies = slice(QUERIES, 2 * QUERIES - 1)
    assert (text.kind[:, QUERIES] == Row.FIRST_GROUNDING).all()
    assert (text.kind[:, QUERIES + 1 : copies.stop] == Row.GROUNDING).all()
    assert (text.content[:, copies] == torch.arange(QUERIES - 1)).all()
    silent = writer([Texts(), Texts(caption="a bin")])
    assert not torch.isin(silent.kind, torch.tensor([Row.GROUNDING, Row.PHRASE])).any()


def test_caption_rows_write_the_tokens_that_follow(writer: Callable[..., StepText]) -> None:
    text = writer()
    ids = token_at(text)
    read = text.row_place.flatten()[text.caption_rows]
    assert ((read[1:] != read[:-1] + 1) | (ids[read[1:]] == text.caption_next[:-1])).all()
    assert (text.caption_next == END).sum() == 2
    short = writer(caption_tokens=2)
    assert len(short.caption_rows) == len(short.caption_next) == 4
    assert short.caption_next[:2].tolist() == text.caption_next[:2].tolist()


def test_equal_phrases_are_one_and_find_their_images(writer: Callable[..., StepText]) -> None:
    text = writer()
    assert len(text.phrases) == 4  # two phrases, one of what is not there, and void
    assert text.phrase_ids.tolist() == [[0, 1], [-1, -1], [1, -1], [-1, -1]]
    assert text.asked.tolist() == [True, False, True, False]
    assert text.class_ids.tolist() == [[0, 1]] * 4


def test_answers_share_what_people_gave(writer: Callable[..., StepText]) -> None:
    text = writer(answers=["yes", "two"])
    assert text.accepted.tolist() == [[0, 0, 0.25, 0.5, 0.25], [0, 1, 0, 0, 0], [1, 0, 0, 0, 0]]
    rows = text.kind.flatten()[text.question_rows]
    assert rows.tolist() == [Row.QUESTION] * 3
    last = token_at(text)[text.row_place.flatten()[text.question_rows]]
    assert last.tolist() == [END] * 3


def test_questions_of_an_image_do_not_see_one_another(writer: Callable[..., StepText]) -> None:
    text = writer()
    rows = torch.nonzero(text.kind[2] == Row.QUESTION).flatten()
    first, second = (text.question_rows[-2:] - 2 * text.kind.shape[1]).tolist()
    seen = text.visible[2][second, rows]
    assert seen.tolist() == (rows > first).tolist()


def test_an_image_asked_only_for_what_is_not_there_is_learnt_from(
    writer: Callable[..., StepText],
) -> None:
    text = writer([Texts(absent=("the red cup",)), Texts()])
    assert text.asked.tolist() == [True, False]
    assert text.phrase_ids.shape[1] == 0
    assert (text.kind[0] == Row.PHRASE).any()


def test_equal_captions_have_equal_keys(writer: Callable[..., StepText]) -> None:
    text = writer([Texts(caption=caption) for caption in ("a cup", "a bin", "a cup")])
    first, second, third = text.caption_keys.tolist()
    assert first == third != second


def test_a_caption_is_written_or_found_only_where_that_is_trained(
    writer: Callable[..., StepText],
) -> None:
    found, written = writer(wanted=["embed"]), writer(wanted=["caption"])
    assert len(found.caption_rows) == 0
    assert (found.captions >= 0).sum() == 2
    assert len(written.caption_rows) > 0
    assert (written.captions < 0).all()


def test_a_step_without_texts_has_names_alone(writer: Callable[..., StepText]) -> None:
    text = writer([Texts(), Texts()])
    assert text.kind.shape == (2, QUERIES)
    assert torch.equal(text.visible[0], torch.from_numpy(tasks.visible(tasks.latents(QUERIES))))
    for empty in (text.phrases, text.caption_rows, text.question_rows, text.answers):
        assert len(empty) == 0
    assert sum(len(bucket) for bucket in text.buckets) == len(VOCABULARY.sentences)
