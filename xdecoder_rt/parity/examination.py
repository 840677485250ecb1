"""Every expected array of a fixture, computed again and judged."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from xdecoder_rt.backends.base import Array
from xdecoder_rt.errors import DatasetError
from xdecoder_rt.image import resize_shorter_side
from xdecoder_rt.models.config import ModelConfig, PostprocessConfig
from xdecoder_rt.parity import segmentation
from xdecoder_rt.parity.comparison import (
    AgreementRule,
    Outcome,
    Verdict,
    continuous,
    exact,
)
from xdecoder_rt.parity.fixture import Fixture, FixtureImage, find_image
from xdecoder_rt.parity.forms import BACKBONE_TENSORS, Embeddings, Form
from xdecoder_rt.parity.language import LanguageTensors

_CONTINUOUS = re.compile(
    BACKBONE_TENSORS.pattern + r"|transformer_encoder_features|multi_scale_[0-2]|mask_features"
    r"|pred_masks_layer\d+|pred_logits_all_layers|decoder_output"
    r"|pred_logits|pred_masks|pred_captions"
)
_EXACT = re.compile(r"attn_mask_layer\d+")


@dataclass(frozen=True)
class Line:
    """The verdict on one expected array.

    Attributes:
        name: of the array.
        shape: of the expected array.
        verdict: pass, fail, or why there was nothing to compare.
        outcome: the comparison, where there was one.
    """

    name: str
    shape: tuple[int, ...]
    verdict: Verdict
    outcome: Outcome | None = None


class Examination:
    """A fixture beside one form of its network.

    Args:
        fixture: what the original computed.
        form: what is examined.
        config: the network's configuration; None for a backbone alone.
    """

    def __init__(self, fixture: Fixture, form: Form, config: ModelConfig | None) -> None:
        self._fixture = fixture
        self._form = form
        self._config = config
        self._language: LanguageTensors | None = None
        if form.words is not None and config is not None:
            self._language = LanguageTensors(
                fixture,
                form,
                form.words,
                lambda image: self._tensors(image).network,
                config.context_length,
            )
        self._images: dict[str, segmentation.ImageTensors] = {}

    def lines(self) -> Iterator[Line]:
        """Yield a line an expected array, in the file's order; computed as they are taken.

        Raises:
            DatasetError: the fixture lacks what an array of it needs.
        """
        for name, expected in self._fixture.expected.items():
            judged = self._judge(name, expected)
            if isinstance(judged, Outcome):
                verdict = Verdict.PASS if judged.passed else Verdict.FAIL
                yield Line(name, expected.shape, verdict, judged)
            else:
                yield Line(name, expected.shape, judged)

    def _judge(self, name: str, expected: Array) -> Outcome | Verdict:
        if name == "resize.out" and self._fixture.resize_source is not None:
            short = self._fixture.resize_shorter_side()
            return exact(resize_shorter_side(self._fixture.resize_source, short), expected)
        if self._language is not None and (outcome := self._language.judge(name, expected)):
            return outcome
        image_array = find_image(self._fixture.images, name)
        return self._judge_image(*image_array, name, expected) if image_array else Verdict.NOT_BUILT

    def _judge_image(
        self, image: FixtureImage, local: str, name: str, expected: Array
    ) -> Outcome | Verdict:
        rule = _network_rule(local)
        if rule is not None:
            if not self._form.exposed.fullmatch(local):
                return Verdict.NOT_EXPOSED
            actual = self._tensors(image).tensor(local)
            if actual is None:
                return Outcome(False, "our network has no such tensor")
            return rule(actual, expected)
        if self._language is None:
            return Verdict.NOT_BUILT
        for pattern, result_rule in segmentation.SEGMENTATION_RULES:
            if pattern.fullmatch(local):
                expected_of = partial(self._expected, name.removesuffix(local))
                return result_rule(self._tensors(image).result(local, expected_of), expected)
        return self._language.judge_image(image, local, expected) or Verdict.NOT_BUILT

    def _expected(self, prefix: str, name: str) -> Array:
        try:
            return self._fixture.expected[prefix + name]
        except KeyError as error:
            raise DatasetError(
                f"expected.npz of {self._fixture.folder} has no {prefix}{name}",
                expected="masks, scores and classes of instances together",
            ) from error

    def _tensors(self, image: FixtureImage) -> segmentation.ImageTensors:
        if image.name not in self._images:
            # One image at a time: a published network's intermediates are large.
            self._images.clear()
            self._images[image.name] = segmentation.ImageTensors(
                self._fixture,
                self._form,
                image,
                self._class_table,
                self._config.postprocess if self._config else PostprocessConfig(),
            )
        return self._images[image.name]

    def _class_table(self) -> Embeddings:
        assert self._language is not None  # asked for by whole networks only
        return self._language.class_table


def _network_rule(local: str) -> AgreementRule | None:
    if _EXACT.fullmatch(local):
        return exact
    return continuous if _CONTINUOUS.fullmatch(local) else None


def count_verdicts(lines: list[Line]) -> dict[Verdict, int]:
    """Return how many lines have each verdict."""
    counted = Counter(line.verdict for line in lines)
    return {verdict: counted[verdict] for verdict in Verdict}
