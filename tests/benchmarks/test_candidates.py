"""``benchmarks/studies/candidates.py``: its candidates, what is fastest, and the page."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("cv2", reason="the study trains, which needs opencv-python-headless")
pytest.importorskip("onnxscript", reason="the study exports graphs")
pytest.importorskip("openvino", reason="the study measures OpenVINO")
sys.path.append(str(Path(__file__).parents[2] / "benchmarks" / "studies"))

import candidates as study
from candidate_shapes import CHOSEN, REFERENCE
from candidate_times import FORMS, GRAPHS, fastest
from candidate_training import Recall

from xdecoder_rt.errors import XDecoderError
from xdecoder_rt.models import ModelConfig, XDecoder, compact_config


def test_candidates_are_shapes_that_a_checkpoint_can_have_and_all_differ() -> None:
    configurations = study.candidates()
    assert REFERENCE in configurations
    texts = {config.to_json() for config in configurations.values()}
    assert len(texts) == len(configurations) >= 10
    for config in configurations.values():
        assert ModelConfig.from_json(config.to_json()) == config


def test_the_chosen_candidate_is_what_new_trainings_begin_with() -> None:
    assert study.candidates()[CHOSEN] == compact_config()


def test_the_reference_is_the_shape_of_the_checkpoint_that_comes_with_the_package() -> None:
    from xdecoder_rt.models import load_checkpoint

    starter = Path(__file__).parents[2] / "export" / "starter" / "starter.safetensors"
    reference, config = study.candidates()[REFERENCE], load_checkpoint(starter).config
    assert config.pixel_decoder == reference.pixel_decoder
    assert config.decoder == reference.decoder
    assert config.text == reference.text


def test_all_candidates_begin_with_the_same_trunk_and_words() -> None:
    with torch.device("meta"):
        shapes = [
            {
                name: value.shape
                for name, value in XDecoder(config).named_parameters()
                if name.startswith(("backbone.", "text_encoder."))
            }
            for config in study.candidates().values()
        ]
    assert all(shape == shapes[0] for shape in shapes)


def milliseconds(**of: float) -> dict[str, dict[str, float]]:
    return {
        form: {graph: of.get(f"{form.replace(' ', '_')}_{graph}", 9.0) for graph in GRAPHS}
        for form in FORMS
    }


def test_the_fastest_plan_leaves_in_fp32_what_int8_makes_slower() -> None:
    plan = fastest(
        milliseconds(
            openvino_fp32_vision=8, openvino_int8_vision=5, openvino_fp32_decode=2,
            openvino_int8_decode=3, onnxruntime_fp32_mask=1,
        )
    )  # fmt: skip
    assert plan["vision"] == ("openvino int8", 5)
    assert plan["decode"] == ("openvino fp32", 2)
    # A plan is run by one library.
    assert plan["mask"][0].startswith("openvino")


def test_the_front_holds_what_nothing_beats_in_both() -> None:
    points = {"a": (1.0, 10.0), "b": (2.0, 30.0), "c": (3.0, 20.0), "d": (4.0, 40.0)}
    assert study.front(points) == ["a", "b", "d"]
    assert study.front({"a": (1.0, 10.0), "b": (1.0, 20.0)}) == ["b"]


def test_nothing_frozen_is_computed_twice() -> None:
    calls = []

    def forward(x: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        return 2 * x

    recall = Recall()
    first, second = recall.of(forward), recall.of(forward)
    assert torch.equal(first(torch.ones(3)), torch.full((3,), 2.0))
    assert torch.equal(second(torch.ones(3)), torch.full((3,), 2.0))
    assert torch.equal(second(torch.zeros(3)), torch.zeros(3))
    assert len(calls) == 2


@pytest.mark.parametrize("arm", ["no such", f"{REFERENCE}@x", ""])
def test_an_unknown_arm_is_refused(arm: str) -> None:
    with pytest.raises(XDecoderError, match="no arm"):
        study.parse_arm(arm)


def test_an_arm_is_a_candidate_and_a_seed() -> None:
    assert study.parse_arm(f"{REFERENCE}@2") == (REFERENCE, 2)
    assert study.parse_arm(REFERENCE) == (REFERENCE, 0)


def test_the_page_keeps_what_is_written_around_its_table(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the page has a picture")
    names = list(study.candidates())[:3]
    costs = {graph: {"macs": 10**9, "nodes": 5, "int8_nodes": 2} for graph in GRAPHS}
    times: dict[str, Any] = {
        name: {"milliseconds": milliseconds(), "costs": costs, "parameters": 1} for name in names
    }
    courses = tmp_path / "runs"
    for course in ("screening", "longer"):
        (courses / course).mkdir(parents=True)
    (tmp_path / "times.json").write_text(json.dumps(times))
    for seed, name in enumerate(names):
        for course, score in (("screening", 0.25), ("longer", 0.5)):
            run = {
                "candidate": name,
                "course": course,
                "seed": seed,
                "scores": {"val": dict.fromkeys(study.MEASURES, score)},
            }
            (courses / course / f"{name}@{seed}.json").write_text(json.dumps(run))
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\n{study.BEGIN}\nold\n{study.END}\n\nProse.\n")
    options = ["page", str(tmp_path), "--chosen", names[1], "-o", str(page)]
    options += ["--picture", str(tmp_path / "p.png"), "--json", str(tmp_path / "r.json")]
    args = study.parser().parse_args(options)
    args.run(args)
    text = page.read_text()
    assert text.startswith("# Title\n")
    assert text.endswith("\n\nProse.\n")
    assert "old" not in text
    assert f"**{names[1]}**" in text
    for value in ("25.0", "50.0"):
        assert text.count(f"| {value} ") == len(names) * len(study.MEASURES)
    assert (tmp_path / "p.png").stat().st_size > 1000
    assert len(json.loads((tmp_path / "r.json").read_text())["training"]) == 2 * len(names)
