"""A plan that takes few rows at a time gives what one that takes any number gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from xdecoder_rt import Engine
from xdecoder_rt.errors import ArgumentError, PlanError
from xdecoder_rt.plan.file import Plan
from xdecoder_rt.plan.manifest import Manifest
from xdecoder_rt.results import Output, Reference

PHRASES = ["the left one", "the small one behind the large one", "red"]
Altered = Callable[[Callable[[Manifest], Manifest]], Path]


def limited(rows: int) -> Callable[[Manifest], Manifest]:
    return lambda manifest: replace(manifest, decoder=replace(manifest.decoder, max_rows=rows))


@pytest.mark.parametrize("rows", [20, 24, 40])
def test_questions_are_divided_over_runs(
    rows: int, tiny_plan: Path, altered: Altered, tmp_path: Path
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)

    def asked(plan: Path) -> tuple[Output, list[Reference]]:
        with Engine(plan, backend="onnxruntime", cache_dir=tmp_path) as engine:
            found = engine.run(image, segment=["mug"], refer=PHRASES, embed=True, caption=True)
            later = engine.refer(engine.encode(image), PHRASES)
        assert found.segment and found.refer and found.caption and found.embed is not None
        return found, later

    (whole, whole_later), (parts, parts_later) = asked(tiny_plan), asked(altered(limited(rows)))
    np.testing.assert_array_equal(parts.segment.segmentation, whole.segment.segmentation)
    np.testing.assert_allclose(parts.embed, whole.embed, atol=1e-5)
    assert parts.caption.text == whole.caption.text
    for got, wanted in zip([*parts.refer, *parts_later], [*whole.refer, *whole_later], strict=True):
        assert got.score == pytest.approx(wanted.score, abs=1e-4)
        np.testing.assert_array_equal(got.mask, wanted.mask)


def test_one_question_of_more_rows_is_refused(altered: Altered, tmp_path: Path) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    with (
        Engine(altered(limited(20)), backend="onnxruntime", cache_dir=tmp_path) as engine,
        pytest.raises(ArgumentError, match=r"at most 20.*joint=False.*--max-rows"),
    ):
        engine.refer(image, PHRASES, joint=True)


def test_fewer_rows_than_latents_are_no_plan(
    altered: Altered, tiny_plan: Path, tmp_path: Path
) -> None:
    with pytest.raises(PlanError, match="8 rows at a time"):
        altered(limited(8))
    with Plan.open(tiny_plan) as plan:
        assert plan.manifest.decoder.max_rows is None
