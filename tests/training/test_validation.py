"""The quick measures, on a model whose answers are known."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

pytest.importorskip("scipy", reason="validation needs scipy")
pytest.importorskip("cv2", reason="validation needs opencv-python-headless")

from xdecoder_rt.datasets.items import AnsweredQuestion, Phrase, Segment
from xdecoder_rt.models import LayerPrediction, Prediction, XDecoder
from xdecoder_rt.models.decoder import Rows
from xdecoder_rt.tasks import TASKS, Row
from xdecoder_rt.training.text_validation import fitted
from xdecoder_rt.training.validation import validate

GREYS = (0, 60, 120, 180)
NAMES = ("n0", "n1", "n2", "n3")
SEGMENT = ("miou", "accuracy", "name_rank", "kept")
END, WIDTH, LATENTS = 9, 5, 5
CPU = torch.device("cpu")


class Oracle(nn.Module):
    """Segments an image by its grey levels.

    Query i and its copy answer with name i + `shift`; a question's answer is its own first token's,
    shifted; the class token is the name of the grey that most of the image has, shifted; the next
    token is always the end token, unless there is a shift.
    """

    def __init__(self, shift: int = 0, void: bool = False, answers: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.shift, self.void = shift, void
        self.config = SimpleNamespace(
            num_queries=LATENTS,
            context_length=3,
            pixel_mean=(0.0, 0.0, 0.0),
            pixel_std=(1.0, 1.0, 1.0),
            decoder=SimpleNamespace(class_token_is_mask=False),
            retrieval_ensemble=False,
            answers=answers,
            templates="compact",
        )

    def encode_text(self, token_ids: Tensor) -> Tensor:
        return F.one_hot(token_ids[:, 0], WIDTH).float()

    def text_encoder(self, token_ids: Tensor) -> Tensor:
        return self.encode_text(token_ids)[:, None].expand(-1, token_ids.shape[1], -1)

    def shifted(self, names: Tensor) -> Tensor:
        return torch.cat((names[..., :4].roll(self.shift, -1), names[..., 4:]), -1)

    def forward(self, images: Tensor, rows: Rows) -> Prediction:
        grey = images[:, :1, 2::4, 2::4]
        levels = torch.tensor(GREYS).view(1, 4, 1, 1)
        near = ((grey - levels).abs() < 10).float()
        most = near.sum(dim=(2, 3)).argmax(dim=1)
        nothing = torch.zeros(1, WIDTH)
        mask = torch.cat((torch.eye(WIDTH), nothing))[rows.content][..., :4]
        classes = torch.cat((self.shifted(torch.eye(WIDTH)), nothing))[rows.content]
        if self.void:
            classes[:, : LATENTS - 1, 4] = 2
        whole = self.shifted(F.one_hot(most, WIDTH).float())[:, None]
        classes = torch.where((rows.kind == Row.CLASS)[..., None], whole, classes)
        assert rows.text is not None
        classes = classes + self.shifted(rows.text)
        following = torch.full(rows.kind.shape, END if self.shift == 0 else 0)
        return Prediction(
            2 * near - 1,
            [LayerPrediction(mask, classes)],
            50 * F.one_hot(following, END + 1).float(),
            whole[:, 0],
        )

    def class_logits(self, class_embedding: Tensor, text_table: Tensor) -> Tensor:
        return class_embedding @ text_table.T

    def token_logits(self, caption_embedding: Tensor) -> Tensor:
        return caption_embedding


def tokenizer(texts: Any) -> NDArray[np.int64]:
    """The first digit of a text; 4 for the background."""
    ids = [next((int(c) for c in text if c.isdigit()), 4) for text in texts]
    return np.array([[i, END, END] for i in ids], np.int64)


@pytest.fixture
def dataset(fake_item: Any) -> Any:
    rng = np.random.default_rng(0)
    items = []
    for number in range(5):
        kinds = np.kron(rng.integers(0, 4, (4, 4)), np.ones((16, 16), np.int64))
        kinds[:, :32] = number % 4  # so that most of the image is one grey
        image = np.repeat(np.array(GREYS, np.uint8)[kinds][..., None], 3, axis=2)
        segments = tuple(
            Segment(int(i) + 1, f"n{i}", False, int((kinds == i).sum())) for i in np.unique(kinds)
        )
        items.append(fake_item(image, kinds + 1, segments))
    return SimpleNamespace(vocabulary=NAMES, stuff=frozenset(NAMES), items=items)


@pytest.fixture
def spoken(dataset: Any) -> Any:
    """The same with texts; two images have the same caption."""
    dataset.items = [
        dataclasses.replace(
            item,
            phrases=(Phrase(f"n{number % 4}", (number % 4 + 1,)),),
            captions=(f"{number % 4}",),
            questions=(AnsweredQuestion(f"{number % 4}?", (f"n{number % 4}",) * 10),),
        )
        for number, item in enumerate(dataset.items)
    ]
    return dataset


def measure(
    oracle: Oracle, dataset: Any, items: int = 0, tasks: Any = tuple(TASKS)
) -> dict[str, float]:
    return validate(cast(XDecoder, oracle), tokenizer, dataset, items, 64, 2, CPU, tasks)


def test_a_model_that_knows_everything_scores_one(dataset: Any) -> None:
    assert measure(Oracle(), dataset) == dict.fromkeys(SEGMENT, 1.0)


def test_texts_too(spoken: Any) -> None:
    scores = measure(Oracle(answers=NAMES), spoken)
    assert scores.pop("caption_entropy") < 1e-6
    assert scores == dict.fromkeys(
        [*SEGMENT, "p_at_50", "next_token", "vqa", "image_r1", "text_r1"], 1.0
    )


def test_a_model_that_mistakes_every_text_scores_nothing_for_them(spoken: Any) -> None:
    scores = measure(Oracle(shift=1, answers=NAMES), spoken)
    assert scores["miou"] == 1
    assert scores["caption_entropy"] == pytest.approx(50, rel=1e-3)
    for name in ("accuracy", "p_at_50", "next_token", "vqa", "image_r1", "text_r1"):
        assert scores[name] == 0, name


def test_right_masks_with_wrong_names(dataset: Any) -> None:
    """One of the three other names, the one that is answered, suits better; the rest as badly."""
    expected = {"miou": 1.0, "accuracy": 0.0, "name_rank": 0.0, "kept": 1.0}
    assert measure(Oracle(shift=1), dataset) == expected


def test_the_only_name_there_is_outranks_all_others(dataset: Any) -> None:
    items = [
        dataclasses.replace(
            item,
            pixels=np.full_like(item.pixels, GREYS[0]),
            ids=np.ones_like(item.ids),
            segments=(Segment(1, "n0", False, item.ids.size),),
        )
        for item in dataset.items
    ]
    alone = SimpleNamespace(vocabulary=("n0",), stuff=frozenset(("n0",)), items=items)
    assert measure(Oracle(), alone) == dict.fromkeys(SEGMENT, 1.0)


def test_names_are_asked_for_in_the_first_sentences_of_the_model(dataset: Any) -> None:
    asked: list[str] = []

    def listening(texts: Any) -> NDArray[np.int64]:
        asked.extend(texts)
        return tokenizer(texts)

    oracle = Oracle()
    oracle.config.templates = "published"
    validate(cast(XDecoder, oracle), listening, dataset, 1, 64, 2, CPU, ("segment",))
    for sentence in ("n0.", "a photo of a n0.", "a bad photo of a n0.", "a photo of many n0."):
        assert sentence in asked
    assert not {"a n0", "the n0", "a sculpture of a n0."} & set(asked)


def test_right_names_that_void_outbids(dataset: Any) -> None:
    assert measure(Oracle(void=True), dataset) == dict.fromkeys(SEGMENT, 1.0) | {"kept": 0.0}


def test_without_answers_of_its_own_a_model_has_no_score_for_them(spoken: Any) -> None:
    assert "vqa" not in measure(Oracle(), spoken)


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("segment", set(SEGMENT)),
        ("refer", {"p_at_50"}),
        ("caption", {"next_token", "caption_entropy"}),
        ("answer", {"vqa"}),
        ("embed", {"image_r1", "text_r1"}),
    ],
)
def test_only_what_is_trained_is_measured(spoken: Any, task: str, names: set[str]) -> None:
    assert set(measure(Oracle(answers=NAMES), spoken, tasks=(task,))) == names


def test_unlabelled_pixels_do_not_count(dataset: Any) -> None:
    for item in dataset.items:
        item.ids[:20] = 0
        item.pixels[:20] = GREYS[1]
    assert measure(Oracle(), dataset)["miou"] == 1.0


def test_the_items_measured_are_spread_over_the_set(dataset: Any) -> None:
    for item in dataset.items[1:2] + dataset.items[3:]:
        item.pixels[:] = 255
    assert measure(Oracle(), dataset, items=2)["miou"] == 1.0


@pytest.mark.parametrize("leading", [(2, 3), (5,)])
def test_coarser_masks_are_measured_on_the_same_cells(leading: tuple[int, ...]) -> None:
    logits, cells = torch.randn(*leading, 4, 6), torch.zeros(2, 8, 12)
    resized = fitted(logits, cells)
    assert resized.shape == (*leading, 8, 12)
    expected = F.interpolate(
        logits.view(-1, 1, 4, 6), (8, 12), mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(resized.view(-1, 8, 12), expected[:, 0])
    assert fitted(resized, cells) is resized
