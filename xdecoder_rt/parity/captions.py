"""Caption tensors: tokens, what each was chosen by, and the ten likeliest of each step."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from xdecoder_rt.backends.base import Array
from xdecoder_rt.errors import DatasetError
from xdecoder_rt.parity.comparison import AgreementRule, Outcome, continuous, exact, worst
from xdecoder_rt.parity.fixture import BLOCKED_PIXELS, Fixture, FixtureImage
from xdecoder_rt.parity.forms import Form, WrittenCaption
from xdecoder_rt.parity.settings import caption_steps
from xdecoder_rt.words.tokenizer import ClipTokenizer

REGION = "caption_region"
_BEST = 10
CAPTION_RULES: dict[str, AgreementRule] = {
    "token_ids": exact,
    "step_feature": continuous,
    f"step_top{_BEST}_ids": exact,
    f"step_top{_BEST}_logits": continuous,
}
NAMES = re.compile(rf"(caption|{REGION})\.({'|'.join(CAPTION_RULES)})")


class CaptionTensors:
    """The captions of one image, computed on demand.

    Args:
        fixture: how many tokens are written.
        form: writes them.
        image: the image.
        context_length: tokens of a text.
    """

    def __init__(
        self, fixture: Fixture, form: Form, image: FixtureImage, context_length: int
    ) -> None:
        self._form = form
        self._image = image
        self._steps = caption_steps(fixture.settings)
        self._tokenizer = ClipTokenizer.default(context_length)
        self._captions: dict[str, list[WrittenCaption]] = {}

    def judge(self, name: str, expected: Array) -> Outcome:
        """Compare an array that `NAMES` matches; every way of the form must pass.

        Raises:
            DatasetError: a caption of a region is expected, and there is no region.
        """
        kind, _, part = name.partition(".")
        if kind not in self._captions:
            region = self._region() if kind == REGION else None
            self._captions[kind] = list(self._form.write_caption(self._image, region, self._steps))
        captions = self._captions[kind]
        return worst(
            [CAPTION_RULES[part](self._array(caption, part), expected) for caption in captions]
        )

    def _region(self) -> npt.NDArray[np.bool_]:
        if self._image.region is None:
            raise DatasetError(
                f"inputs.npz has no {self._image.name + BLOCKED_PIXELS}",
                expected="the mask of the region that expected.npz has a caption of",
            )
        return self._image.region

    def _array(self, caption: WrittenCaption, part: str) -> Array:
        if part == "token_ids":
            # The original begins with a row of start tokens and writes from the second on.
            row = np.full(self._tokenizer.context_length, self._tokenizer.start_token, np.int64)
            row[1 : 1 + len(caption.token_ids)] = caption.token_ids
            return row
        if part == "step_feature":
            return caption.features
        best = np.argsort(-caption.logits, axis=1, kind="stable")[:, :_BEST]
        if part == f"step_top{_BEST}_ids":
            return best
        return np.take_along_axis(caption.logits, best, axis=1)
