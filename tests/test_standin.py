"""A model of the published family that has learnt something, from its weights to words in scenes.

Group normalisation, nine decoder layers, a mask convolution and a class token with a mask have
random weights in other tests; here they are trained (tests/data/focal_standin/README.md).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from artifact_cache import ArtifactCache

from xdecoder_rt import Engine
from xdecoder_rt.datasets.labelled_folder import LabelledFolder
from xdecoder_rt.evaluation.agreement import compare
from xdecoder_rt.evaluation.evaluate import evaluate
from xdecoder_rt.evaluation.report import EvaluationReport
from xdecoder_rt.results import Segmentation

for package in ("torch", "onnxscript"):
    pytest.importorskip(package, reason="building a plan needs the extra export")
pytest.importorskip("pybullet", reason="the scenes are rendered with pybullet")

STUDIES = Path(__file__).parents[1] / "benchmarks" / "studies"
sys.path.append(str(STUDIES))

import standin  # noqa: E402

from xdecoder_rt.export.convert import convert_plan  # noqa: E402
from xdecoder_rt.export.options import ConvertOptions  # noqa: E402


@pytest.fixture(scope="module")
def plan(artifacts: ArtifactCache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in's plan; read only."""
    studies = ArtifactCache(artifacts.folder, STUDIES)
    folder = tmp_path_factory.mktemp("standin") / "plan"
    return (
        studies.provide("standin.build_plan", folder, standin.OWN, standin.STARTER) / "standin.plan"
    )


@pytest.fixture(scope="module")
def scenes(artifacts: ArtifactCache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rendered scenes that no training has seen; read only."""
    studies = ArtifactCache(artifacts.folder, STUDIES)
    return studies.provide("standin.draw_scenes", tmp_path_factory.mktemp("drawn") / "f") / "scenes"


@pytest.fixture(scope="module")
def engine(plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(plan, backend="onnxruntime", cache_dir=tmp_path_factory.mktemp("fp32")) as opened:
        yield opened


@pytest.fixture(scope="module")
def report(engine: Engine, scenes: Path) -> EvaluationReport:
    return evaluate(engine, LabelledFolder.open(scenes), progress=False)


def test_it_is_of_the_published_family(engine: Engine) -> None:
    manifest = engine.manifest
    assert manifest.decoder.layers == 9
    assert manifest.decoder.class_token_is_mask
    assert manifest.postprocess.piece_share == 0  # masks stay as they are
    assert manifest.input.interpolation == "bicubic"
    assert set(manifest.tasks) == {"segment", "refer"}


def test_known_things_are_found_where_they_are(report: EvaluationReport) -> None:
    assert report.panoptic is not None
    assert report.panoptic.pq > 40
    for word in ("floor", "wall", "table"):
        assert report.panoptic.per_class[word].pq > 30, word


def test_phrases_find_what_they_mean(report: EvaluationReport) -> None:
    assert report.referring is not None
    assert report.referring.p_at_50 > 40


def test_words_for_what_is_not_there_take_little_from_what_is(engine: Engine, scenes: Path) -> None:
    kept = []
    for item in LabelledFolder.open(scenes).items[:8]:
        state = engine.encode(item.load_image())
        few = labels(engine.segment(state, standin.WORDS))
        more = labels(engine.segment(state, [*standin.WORDS, "giraffe", "sky"]))
        kept.append((few == more).mean())
    assert np.mean(kept) > 0.7


def labels(segmentation: Segmentation) -> np.ndarray:
    """The label of each pixel, -1 for none."""
    found = np.full(segmentation.size, -1)
    for segment in segmentation.segments_info:
        found[segmentation.segmentation == segment["id"]] = segment["label_id"]
    return found


def test_int8_keeps_the_answers(
    plan: Path, engine: Engine, scenes: Path, report: EvaluationReport, tmp_path: Path
) -> None:
    options = ConvertOptions(
        "int8", calibration=scenes, estimator="max", images=12, search_images=8, force=True,
        threads=1,
    )  # fmt: skip
    convert_plan(plan, tmp_path / "int8.plan", options)
    folder = LabelledFolder.open(scenes)
    pictures = [item.load_image() for item in folder.items[:12]]
    with Engine(tmp_path / "int8.plan", backend="onnxruntime", cache_dir=tmp_path) as small:
        found = compare(small, engine, pictures, standin.WORDS, ["the table", "the floor"])
        quality = evaluate(small, folder, progress=False).panoptic
    assert found.outputs["mask_map"].relative_rms > 0  # it is another graph
    assert found.same_label > 0.9
    assert found.phrase_iou is not None and found.phrase_iou > 0.85
    assert quality is not None and report.panoptic is not None
    assert quality.pq > report.panoptic.pq - 3
