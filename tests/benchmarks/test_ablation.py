"""``benchmarks/studies/ablation.py``: what an arm changes, and the tables."""

from __future__ import annotations

import argparse
import json
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

import ablation
import ablation_arms as arms

from xdecoder_rt.scenes.bank.store import BANK_INDEX, PICTURES, BankWriter
from xdecoder_rt.training.config import SourceSpec, TrainConfig


@pytest.fixture
def options(tmp_path: Path) -> argparse.Namespace:
    return argparse.Namespace(
        data=tmp_path, steps=30, size=128, batch_size=4, lr=1e-3, vocabulary_size=64,
        lesson_size=16, precision="fp32", threads=1,
    )  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A bank of a drawn and a rendered thing, a room, a lawn and a photograph."""

    def png(*shape: int) -> bytes:
        out = BytesIO()
        Image.fromarray(np.full(shape, 200, np.uint8)).save(out, "PNG")
        return out.getvalue()

    writer = BankWriter(frozenset({"floor", "grass"}))
    writer.cut_out("cup", True, png(40, 40, 4))
    writer.cut_out("box", False, png(40, 40, 4))
    for labels in ({200: "grass"}, {200: "table", 1: "floor"}):
        writer.scene(labels, png(64, 64, 3), png(64, 64))
    writer.photograph(png(64, 64, 3))
    writer.write(tmp_path / "data" / "bank")
    return tmp_path / "data"


@pytest.mark.parametrize("name", arms.ARMS)
def test_every_arm_is_a_run_of_the_same_length_and_images(
    name: str, options: argparse.Namespace
) -> None:
    settings = ablation.settings_of(arms.ARMS[name], options)
    config = TrainConfig(sources=(SourceSpec(Path("bank")),), out=Path("run"), **settings)
    assert (config.steps, config.batch_size) == (30, 4)


@pytest.mark.parametrize("name", sorted(set(arms.ARMS) - {arms.REFERENCE}))
def test_every_arm_changes_something(name: str) -> None:
    arm, full = arms.ARMS[name], arms.ARMS[arms.REFERENCE]
    assert arm.settings or arm.fresh or arm.raw or arm.sources is not full.sources
    assert arm.about not in {a.about for n, a in arms.ARMS.items() if n != name}


@pytest.mark.parametrize(
    ("change", "things", "stuff", "photographs"),
    [
        (arms.no_photographs, {"cup", "box"}, 1, 0),
        (arms.no_grounds, {"cup", "box"}, 0, 0),
        (arms.drawings_only, {"cup"}, 1, 1),
        (arms.renderings_only, {"box"}, 0, 1),
    ],
)
def test_a_bank_with_less_in_it(
    data: Path, tmp_path: Path, change: Any, things: set[str], stuff: int, photographs: int
) -> None:
    before = {name: (data / "bank" / name).read_bytes() for name in (BANK_INDEX, PICTURES)}
    (scenes,) = arms.bank_of(change)(data, tmp_path / "runs").values()
    left = scenes.bank  # type: ignore[attr-defined]
    assert set(left.by_name) == things
    assert sum(set(s.labels.values()) <= left.stuff for s in left.scenes) == stuff
    assert len(left.photographs) == photographs
    for item in scenes.items[:5]:
        assert item.load_image().dtype == np.uint8
    assert {name: (data / "bank" / name).read_bytes() for name in before} == before


def test_fixed_scenes_are_the_first_and_no_more(data: Path, tmp_path: Path) -> None:
    (every,) = arms.bank(data, tmp_path).values()
    fixed = arms.Fixed(every, 3)
    assert len(fixed.items) == 3
    assert np.array_equal(fixed.items[-1].load_image(), every.items[2].load_image())
    with pytest.raises(IndexError):
        fixed.items[3]


RESULTS = {
    "full": {"a": 1.0, "b": 2.0},
    "second seed": {"a": 4.0, "b": 5.0},
    "less": {"a": 3.0, "b": 5.0},
    "most": {"a": 7.0, "b": 6.0},
}


def test_the_tables_have_every_arm_measure_and_folder() -> None:
    results = [
        {"arm": arm, "about": f"about {arm}", "scores": {
            folder: dict.fromkeys(ablation.MEASURES, value) for folder, value in scores.items()
        }}
        for arm, scores in RESULTS.items()
    ]  # fmt: skip
    text = ablation.report(results, ["a", "b"], "python it.py")
    assert "`python it.py`" in text
    columns = len(ablation.MEASURES)
    assert f"| full | about full |{' 1.5 |' * columns}" in text
    assert f"| less | about less |{' 4.0 |' * columns}" in text  # as another seed may be
    assert f"| most | about most |{' **6.5** |' * columns}" in text
    assert text.count("| less | 3.0 | 5.0 |") == columns
    assert text.count("(less is better)") == 2  # one measure, in both kinds of table


def test_results_come_in_the_order_asked_for_and_only_those_there_are(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"arm": name}))
    assert [r["arm"] for r in ablation.finished(tmp_path, ["a", "c", "b"])] == ["a", "b"]


def test_an_unknown_arm_is_refused_before_anything_runs() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no such"):
        ablation.arm_names("full,no such")
