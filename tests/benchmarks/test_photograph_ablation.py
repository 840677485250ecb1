"""``benchmarks/studies/photograph_ablation.py``: what an arm changes, and the table."""

from __future__ import annotations

import argparse
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cv2", reason="the benchmark trains, which needs opencv-python-headless")
pytest.importorskip("onnxscript", reason="the benchmark builds plans")
sys.path.append(str(Path(__file__).parents[2] / "benchmarks" / "studies"))

import photograph_ablation as study
import photograph_arms as arms

from xdecoder_rt.models.config import RegionConfig, compact_config
from xdecoder_rt.scenes.bank.store import Bank, BankWriter
from xdecoder_rt.training.config import SourceSpec, TrainConfig

OPTIONS = argparse.Namespace(
    steps=30, size=128, batch_size=4, lr=1e-4, vocabulary_size=64, threads=1
)
TRAINED = [name for name, arm in arms.ARMS.items() if arm.source]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter's bank, one of a stamp and a ground, and one of both and a chair."""
    folder = tmp_path_factory.mktemp("banks")

    def png(level: int, *shape: int) -> bytes:
        out = BytesIO()
        Image.fromarray(np.full(shape, level, np.uint8)).save(out, "PNG")
        return out.getvalue()

    def write(name: str, things: dict[str, int], scenes: dict[str, int]) -> None:
        writer = BankWriter(frozenset({"floor", "grass"}))
        for thing, level in things.items():
            writer.cut_out(thing, False, png(level, 40, 40, 4))
        for stuff, level in scenes.items():
            writer.scene({200: stuff}, png(level, 64, 64, 3), png(200, 64, 64))
        writer.write(folder / name)

    write("bank", {"cup": 10}, {"floor": 10})
    write("stamps", {"cat": 20}, {"grass": 20})
    write("larger", {"cup": 10, "cat": 20, "chair": 30}, {"floor": 10, "grass": 20})
    return folder


@pytest.mark.parametrize("name", TRAINED)
def test_every_trained_arm_is_a_run_of_the_same_length_and_images(name: str) -> None:
    settings = study.settings_of(arms.ARMS[name], OPTIONS)
    config = TrainConfig(sources=(SourceSpec(Path("bank")),), out=Path("run"), **settings)
    assert (config.steps, config.batch_size, config.size) == (30, 4, 128)


def test_every_trained_arm_changes_one_thing_of_the_reference() -> None:
    full = arms.ARMS[arms.REFERENCE]
    for name in set(TRAINED) - {arms.REFERENCE}:
        arm = arms.ARMS[name]
        assert (arm.source is full.source) == bool(arm.settings)
    assert len({arm.about for arm in arms.ARMS.values()}) == len(arms.ARMS)
    assert len({study.slug(name) for name in arms.ARMS}) == len(arms.ARMS)


@pytest.mark.parametrize(
    ("name", "things", "scenes"),
    [
        ("starter's bank", {"cup"}, 1),
        ("everything", {"cup", "cat", "chair"}, 2),
        ("no stamps", {"cup", "chair"}, 2),
        ("no furniture", {"cup", "cat"}, 2),
        ("no grounds", {"cup", "cat", "chair"}, 1),
    ],
)
def test_a_bank_lacks_what_the_arm_leaves_out_and_nothing_else(
    name: str, things: set[str], scenes: int, data: Path, tmp_path: Path
) -> None:
    before = (data / "larger" / "bank.json").read_bytes()
    make = arms.ARMS[name].source
    assert make is not None
    scenes_of_arm = make(data, tmp_path)
    assert set(scenes_of_arm.bank.by_name) == things
    assert len(scenes_of_arm.bank.scenes) == scenes
    assert scenes_of_arm.items[3].load_image().dtype == np.uint8
    assert (data / "larger" / "bank.json").read_bytes() == before
    assert len(Bank(data / "larger").cut_outs) == 3


def test_arms_with_regions_change_one_setting_of_the_model() -> None:
    config = compact_config(region=RegionConfig(trunk="own", shrink=2))
    assert arms.no_votes(config).postprocess.votes == 0
    assert arms.no_votes(config).region == config.region
    whole = arms.whole_size(config)
    assert whole.region is not None
    assert whole.region.shrink == 1
    assert whole.postprocess == config.postprocess


def result(arm: str, value: float, trained: bool = True) -> dict[str, Any]:
    shares = dict.fromkeys(("named_things", "named", "unlabelled"), value)
    outputs = {output for output, _ in study.POINTS}
    spans = dict.fromkeys(outputs, dict.fromkeys(shares, [value - 1, value + 1]))
    return {
        "arm": arm, "about": f"about {arm}", "settings": {"steps": 4} if trained else {},
        "scores": {folder: dict.fromkeys(study.MEASURES, value) for folder in ("a", "b")},
        "photographs": {**dict.fromkeys(outputs, shares), "intervals": spans},
    }  # fmt: skip


def test_the_table_has_every_arm_and_what_was_not_made() -> None:
    results = [
        result("no training", 20.0, trained=False), result("everything", 10.0),
        result("second seed", 11.0), result("no stamps", 11.25), result("trunk trained", 15.0),
    ]  # fmt: skip
    text = study.tables(results)
    measures, points = len(study.MEASURES), len(study.POINTS)
    assert f"| no training | about no training |{' 20.0 |' * measures}" in text
    assert f"| no stamps | about no stamps |{' 11.2 |' * measures}" in text  # as another seed
    assert f"| trunk trained | about trunk trained |{' **15.0** |' * measures}" in text
    assert text.count(" 15.0 (14-16) |") == points
    for name in study.NOT_MADE:
        assert f"| {name} | " in text
    assert f"| second seed |{' 11.0 |' * 2 * measures}" in text
