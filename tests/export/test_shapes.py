"""Plans of models of other shapes: fewer levels, coarser masks, lighter pyramids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from xdecoder_rt import Engine
from xdecoder_rt.errors import PlanError
from xdecoder_rt.models import ModelConfig, XDecoder
from xdecoder_rt.plan.file import Plan, write_plan

pytest.importorskip("onnxscript", reason="building a plan needs the extra export")

from xdecoder_rt.export.portable import build_portable

WORDS = ["mug", "robot arm", "floor"]
BOX = (10, 5, 60, 45)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan of the tiny model with two levels, masks at stride 8 and light convolutions."""
    import tiny_model

    tiny: ModelConfig = tiny_model.tiny_config()
    config = replace(
        tiny,
        pixel_decoder=replace(
            tiny.pixel_decoder, mask_stride=8, output_convs=("none", "none", "separable", "full")
        ),
        decoder=replace(tiny.decoder, level_strides=(16, 32)),
    )
    path = tmp_path_factory.mktemp("shapes") / "light.plan"
    build_portable(tiny_model.redrawn(XDecoder(config)), path, sizes=[(64, 96)])
    return path


@pytest.fixture(scope="module")
def engine(plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(plan, threads=1, cache_dir=tmp_path_factory.mktemp("cache")) as opened:
        yield opened


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)


def test_a_plan_says_which_levels_and_masks_it_has(plan: Path) -> None:
    with Plan.open(plan) as opened:
        decoder = opened.manifest.decoder
        assert decoder.level_strides == (16, 32)
        assert decoder.mask_stride == 8


def test_every_task_of_another_shape_is_answered_in_the_images_size(
    engine: Engine, image: np.ndarray
) -> None:
    output = engine.run(
        image,
        segment=WORDS,
        refer=["the red mug"],
        caption=True,
        region=BOX,
        answer="is there a mug?",
        choices=["yes", "no"],
        embed=True,
        max_tokens=3,
    )
    assert output.segment is not None
    assert output.segment.segmentation.shape == (50, 70)
    assert output.segment.segments_info
    assert output.refer is not None
    assert output.refer[0].mask.shape == (50, 70)
    assert output.caption is not None
    assert output.answer is not None
    assert output.answer.text in ("yes", "no")


def test_a_region_confines_a_caption_on_other_levels_too(engine: Engine, image: np.ndarray) -> None:
    state = engine.encode(image)
    whole = engine.caption(state, max_tokens=3)
    everywhere = engine.caption(state, region=np.ones((50, 70), np.bool_), max_tokens=3)
    corner = engine.caption(state, region=(0, 0, 17, 17), max_tokens=3)
    # The padding is outside every region, so that all of an image is not all of the input.
    assert {whole.score, everywhere.score, corner.score} != {whole.score}


@pytest.mark.parametrize("strides", [(32, 16), (16,), (16, 16), (24, 32)])
def test_a_plan_of_other_levels_than_its_graphs_have_is_refused(
    strides: tuple[int, ...], plan: Path, tmp_path: Path
) -> None:
    path = tmp_path / "other.plan"
    with Plan.open(plan) as opened:
        members = {name: opened.read(name) for name in opened.names}
        decoder = replace(opened.manifest.decoder, level_strides=strides)
        manifest = replace(opened.manifest, decoder=decoder)
    with pytest.raises(PlanError):
        write_plan(path, manifest, members)
        with Engine(path, threads=1, cache_dir=tmp_path / "cache") as broken:
            broken.segment(np.zeros((50, 70, 3), np.uint8), WORDS)
