"""How much of their masks the latents share: as the original's do, in plans that ask for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torch.nn import functional as F

torch = pytest.importorskip("torch", reason="the models need the extra export")

from xdecoder_rt import Engine  # noqa: E402
from xdecoder_rt.errors import PlanError  # noqa: E402
from xdecoder_rt.models import XDecoder  # noqa: E402
from xdecoder_rt.models.graphs import DecodeGraph, Normalise, VisionGraph  # noqa: E402
from xdecoder_rt.models.overlaps import overlap_stride, overlaps  # noqa: E402
from xdecoder_rt.models.plain import plain_forward  # noqa: E402
from xdecoder_rt.plan.file import Plan, write_plan  # noqa: E402
from xdecoder_rt.plan.manifest import Manifest  # noqa: E402

WORDS = ["mug", "table", "robot arm"]


@pytest.fixture(scope="module")
def naming_model() -> XDecoder:
    import tiny_model

    return tiny_model.naming_model()


def frame() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def original_overlaps(model: XDecoder, pixels: np.ndarray) -> np.ndarray:
    """Masks of the last layer, resized to stride 16 and compared pair by pair."""
    config = model.config
    normalise = Normalise(config.pixel_mean, config.pixel_std)
    images = normalise(torch.from_numpy(pixels)[None], torch.tensor([pixels.shape[:2]]))
    with torch.no_grad():
        masks = plain_forward(model, images).mask_logits[-1]
    size = [side // 16 for side in pixels.shape[:2]]
    resized = F.interpolate(masks, size, mode="bicubic", antialias=True, align_corners=False)
    inside = (resized[0].flatten(1) > 0).numpy()
    union = (inside[:, None] | inside[None]).sum(axis=2)
    return (inside[:, None] & inside[None]).sum(axis=2) / np.maximum(union, 1)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "torch"])
def test_a_plan_says_how_masks_overlap_as_the_originals_do(
    naming_plan: Path, naming_model: XDecoder, backend: str
) -> None:
    pytest.importorskip(backend)
    with Engine(naming_plan, backend=backend, threads=1) as engine:
        state, together = engine.decode(frame()), engine.encode(frame())
        engine.run(together, segment=WORDS, refer=["the mug"])
        assert state.latents is not None and together.latents is not None
        found, beside = state.latents.overlaps, together.latents.overlaps
    expected = original_overlaps(naming_model, frame())
    assert found is not None and beside is not None
    assert len(np.unique(expected.round(2))) > 2  # there is something to tell
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(beside, expected, atol=1e-5)


def test_masks_without_a_position_overlap_nothing() -> None:
    features = torch.ones(1, 4, 2)
    embedding = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    found = overlaps(embedding, features)
    torch.testing.assert_close(found, torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]))


def test_masks_are_compared_where_a_level_is_fine_enough() -> None:
    assert overlap_stride((32, 16, 8)) == overlap_stride((16, 32)) == 16
    assert overlap_stride((32,)) == 32
    assert overlap_stride((8,)) == 8


def test_rules_without_votes_have_the_graphs_that_they_had(tiny_model: XDecoder) -> None:
    assert tiny_model.config.postprocess.votes == 0
    assert "overlaps" not in DecodeGraph(tiny_model).outputs
    assert "overlaps" not in VisionGraph(tiny_model).outputs


def test_votes_decide_the_panoptic_output_of_a_plan(naming_plan: Path, tmp_path: Path) -> None:
    with Plan.open(naming_plan) as plan:
        manifest, members = plan.manifest, {name: plan.read(name) for name in plan.names}
    rules = dataclasses.replace(manifest.postprocess, votes=1.0)
    write_plan(tmp_path / "loud.plan", dataclasses.replace(manifest, postprocess=rules), members)
    names = {}
    for path in (naming_plan, tmp_path / "loud.plan"):
        with Engine(path, backend="onnxruntime", threads=1) as engine:
            state = engine.decode(frame())
            names[path.stem] = engine.segment(state, WORDS).segments_info
            assert engine.segment(state, WORDS, task="semantic").segments_info
    scores = {stem: [each["score"] for each in infos] for stem, infos in names.items()}
    assert scores["loud"] != scores["naming"]


def test_rules_with_votes_need_a_graph_that_tells_overlaps(
    altered: Callable[[Callable[[Manifest], Manifest]], Path],
) -> None:
    def ask(manifest: Manifest) -> Manifest:
        rules = dataclasses.replace(manifest.postprocess, votes=0.5)
        return dataclasses.replace(manifest, postprocess=rules)

    with (
        Engine(altered(ask), backend="onnxruntime", threads=1) as engine,
        pytest.raises(PlanError, match="overlaps"),
    ):
        engine.segment(frame(), WORDS)
