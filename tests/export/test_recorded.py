"""Ranges recorded with weights: INT8 without images, for these weights and no others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="conversions need the extra export")

import onnx

from xdecoder_rt import Engine
from xdecoder_rt.calibration.observe import observe
from xdecoder_rt.calibration.profiles import profile_of
from xdecoder_rt.calibration.ranges import Histogram
from xdecoder_rt.calibration.sets import CalibrationSet
from xdecoder_rt.cli import main
from xdecoder_rt.datasets.labelled_folder import LabelledFolderWriter
from xdecoder_rt.errors import ArgumentError, BuildError, PlanError
from xdecoder_rt.evaluation.agreement import compare
from xdecoder_rt.export import recorded
from xdecoder_rt.export.convert import convert_plan
from xdecoder_rt.export.options import ConvertOptions
from xdecoder_rt.export.quantized import PlanQuantizer
from xdecoder_rt.export.record import RecordOptions, calibrated_on, held_out_folders, record
from xdecoder_rt.export.recorded import RecordedRange, Recording, joined
from xdecoder_rt.export.repack import portable_members
from xdecoder_rt.plan.file import Plan
from xdecoder_rt.streams import synthetic

SIZE = (64, 64)
OPTIONS = RecordOptions(images=2, judged=1, held_out_images=2, max_drop=100.0, threads=1)
pytestmark = pytest.mark.filterwarnings("ignore:The calibration set")


@pytest.fixture(scope="module")
def fp32(tiny_plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan = tmp_path_factory.mktemp("fp32") / "fp32.plan"
    convert_plan(tiny_plan, plan, ConvertOptions("fp32"), sizes=[SIZE])
    return plan


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[CalibrationSet]:
    """Three labelled folders, of different brightness."""
    sets = []
    for number, domain in enumerate(("one", "two", "held")):
        folder = tmp_path_factory.mktemp("images") / domain
        with LabelledFolderWriter(folder, ("mug", "floor"), ("floor",)) as writer:
            for seed in range(4):
                picture = synthetic.image(SIZE, 10 * number + seed) // (1 + number)
                ids = np.full(SIZE, 2, np.uint8)
                ids[10:30, 20:50] = 1
                writer.add(picture, ids, {1: "mug", 2: "floor"})
        sets.append(CalibrationSet.open(folder))
    return sets


@pytest.fixture(scope="module")
def recording(fp32: Path, folders: list[CalibrationSet]) -> Recording:
    held_out = held_out_folders(fp32, folders[2:], OPTIONS)
    return record(fp32, folders[:2], held_out, OPTIONS)


@pytest.fixture
def with_recording(recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of the recording, in place of the starter's."""
    path = tmp_path / "ranges.json"
    path.write_text(json.dumps(recording.document()))
    monkeypatch.setattr(recorded, "RECORDED", path)
    return path


def test_a_recording_is_read_as_it_was_written(recording: Recording, with_recording: Path) -> None:
    assert Recording.read(with_recording) == recording
    assert [domain.name for domain in recording.domains] == ["one", "two"]
    assert [score.name for score in recording.held_out] == ["held"]
    assert set(recording.estimators) == {"cpu", "tensorrt"}
    assert any(recording.ranges["vision"]) and any(recording.ranges["text"])


@pytest.mark.parametrize("profile", ["cpu", "tensorrt"])
def test_int8_without_images_is_close_to_fp32(
    profile: str, fp32: Path, with_recording: Path, tmp_path: Path
) -> None:
    steps: list[str] = []
    options = ConvertOptions("int8", profile, force=True, threads=1)
    made = convert_plan(fp32, tmp_path / "int8.plan", options, steps.append)
    assert any("recorded of these weights on one, two: no images" in step for step in steps)
    calibration = made.manifest.calibration
    assert calibration is not None
    assert calibration["domains"] == {"one": 2, "two": 2}
    assert [score["name"] for score in made.manifest.accuracy["recorded_pq"]] == ["held"]
    pictures = [synthetic.image(SIZE, seed) for seed in (7, 8)]
    with (
        Engine(made.path, backend="onnxruntime", cache_dir=tmp_path) as tried,
        Engine(fp32, cache_dir=tmp_path) as base,
    ):
        found = compare(tried, base, pictures, ["mug", "table"])
    assert found.outputs["mask_map"].cosine > 0.99
    assert 0 < found.outputs["class_embedding"].relative_rms < 0.3


def test_other_weights_are_told_to_bring_images(
    recording: Recording, with_recording: Path, fp32: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    other = replace(recording, weights_sha256="0" * 64)
    with_recording.write_text(json.dumps(other.document()))
    output = tmp_path / "int8.plan"
    with pytest.raises(BuildError, match="needs a calibration set.*--calibration"):
        convert_plan(fp32, output, ConvertOptions("int8"))
    arguments = ["--plan", str(fp32), "--precision", "int8", "-o", str(output)]
    assert main(["build", *arguments]) == 1
    assert "add --calibration DIR" in capsys.readouterr().err
    assert not output.exists()


def test_where_nothing_is_recorded_images_are_needed(
    fp32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded, "RECORDED", tmp_path / "none.json")
    with pytest.raises(BuildError, match="needs a calibration set"):
        convert_plan(fp32, tmp_path / "int8.plan", ConvertOptions("int8"))


def test_graphs_of_other_operators_are_refused(
    recording: Recording, with_recording: Path, fp32: Path, tmp_path: Path
) -> None:
    layers = {**recording.layers, "vision": "0" * 64}
    with_recording.write_text(json.dumps(replace(recording, layers=layers).document()))
    with pytest.raises(BuildError, match="other layers to quantize.*add --calibration DIR"):
        convert_plan(fp32, tmp_path / "int8.plan", ConvertOptions("int8"))


def test_a_recording_serves_every_size(recording: Recording, tiny_plan: Path) -> None:
    members, manifest = portable_members(tiny_plan, None)
    known = recording.histograms(manifest, members)
    sizes = [*manifest.graphs.vision.values()]
    assert set(manifest.input.sizes) != {SIZE}
    assert all(known[member] for member in sizes)


def test_blocks_that_are_kept_stay_as_they_are(
    recording: Recording, with_recording: Path, fp32: Path, tmp_path: Path
) -> None:
    members, manifest = portable_members(fp32, None)
    quantizer = PlanQuantizer(
        manifest, members, profile_of("cpu"), recording.histograms(manifest, members)
    )
    kept = tuple(group.name for group in quantizer.groups if group.name.startswith("vision"))
    with_recording.write_text(json.dumps(replace(recording, kept=kept).document()))
    options = ConvertOptions("int8", force=True, threads=1)
    with Plan.open(convert_plan(fp32, tmp_path / "int8.plan", options).path) as plan:
        operators = {
            kind: {node.op_type for node in onnx.load_from_string(plan.read(member)).graph.node}
            for kind, member in (
                ("vision", next(iter(manifest.graphs.vision.values()))),
                ("text", manifest.graphs.text),
            )
        }
    assert "QuantizeLinear" in operators["text"]
    assert "QuantizeLinear" not in operators["vision"]


def test_a_narrow_folder_widens_recorded_ranges_and_never_narrows_them(
    fp32: Path, recording: Recording, folders: list[CalibrationSet]
) -> None:
    members, manifest = portable_members(fp32, None)
    known = recording.histograms(manifest, members)
    seen = observe(fp32, folders[2], 2, threads=1)
    both = joined(seen, known)
    wider = 0
    for member, tensors in known.items():
        for tensor, recorded_range in tensors.items():
            low, high = both[member][tensor].range("max", symmetric=False)
            assert low <= recorded_range.low and high >= recorded_range.high
            observed = seen[member][tensor] if tensor in seen.get(member, {}) else None
            if observed is not None:
                assert (low, high) == (
                    min(recorded_range.low, observed.low), max(recorded_range.high, observed.high),
                )  # fmt: skip
                wider += (low, high) != (recorded_range.low, recorded_range.high)
    assert wider


def test_what_saw_nothing_but_zeros_leaves_a_joined_range_alone() -> None:
    both = joined({"a": {"x": Histogram()}}, {"a": {"x": RecordedRange(-1.0, 2.0, 2.5)}})
    assert both["a"]["x"].limit == 2.5
    assert both["a"]["x"].range("max", symmetric=False) == (-1.0, 2.0)
    assert both["a"]["x"].range("max", symmetric=True) == (-2.5, 2.5)
    assert joined({"a": {"x": Histogram()}}, {})["a"]["x"].limit == 0.0


def by_images_of(folder: CalibrationSet) -> ConvertOptions:
    return ConvertOptions(
        "int8", calibration=folder.path, max_drop=100.0, images=2, search_images=1,
        estimator="max", force=True, threads=1,
    )  # fmt: skip


def test_a_calibration_set_is_joined_with_what_is_recorded(
    fp32: Path, with_recording: Path, folders: list[CalibrationSet], tmp_path: Path
) -> None:
    steps: list[str] = []
    made = convert_plan(fp32, tmp_path / "int8.plan", by_images_of(folders[2]), steps.append)
    assert "Joined with ranges recorded of these weights on one, two" in steps
    assert made.manifest.calibration is not None
    assert made.manifest.calibration["joined_with"] == ["one", "two"]


def test_other_layers_than_the_recorded_ones_are_calibrated_by_images_alone(
    recording: Recording, with_recording: Path, fp32: Path, folders: list[CalibrationSet],
    tmp_path: Path,
) -> None:  # fmt: skip
    layers = {**recording.layers, "vision": "0" * 64}
    with_recording.write_text(json.dumps(replace(recording, layers=layers).document()))
    steps: list[str] = []
    made = convert_plan(fp32, tmp_path / "int8.plan", by_images_of(folders[2]), steps.append)
    assert any(step.startswith("Without the ranges recorded") for step in steps)
    assert made.manifest.calibration is not None
    assert made.manifest.calibration["joined_with"] == []


def test_one_domain_alone_gives_graphs_too(
    fp32: Path, recording: Recording, folders: list[CalibrationSet]
) -> None:
    alone = calibrated_on(fp32, folders[0], OPTIONS)
    together = calibrated_on(fp32, folders[0], OPTIONS, recording)
    assert alone.keys() == together.keys()
    assert alone != together


def test_images_that_judge_never_give_ranges(fp32: Path, folders: list[CalibrationSet]) -> None:
    options = replace(OPTIONS, images=4)
    with pytest.raises(BuildError, match="All 4 images of 'one' give ranges"):
        record(fp32, folders[:1], held_out_folders(fp32, [], options), options)


@pytest.mark.parametrize("damage", [b"", b"[]", b"{", b'{"weights_sha256": "x"}'])
def test_a_damaged_recording_is_refused(damage: bytes, with_recording: Path) -> None:
    with_recording.write_bytes(damage)
    with pytest.raises(PlanError, match=with_recording.name):
        Recording.of("0" * 64)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"estimators": {"cpu": "max"}}, "no estimator of the profile tensorrt"),
        (
            {"ranges": {"vision": [None, [1.0, 2.0, 2.0]]}},
            "an interval of ranges.'vision' is 1 to 2",
        ),
        ({"ranges": {"vision": [[0.0, 2.0, 0.0]]}}, "is 0 to 2, 0"),
    ],
)
def test_an_impossible_recording_is_refused(
    change: dict[str, object], words: str, recording: Recording, with_recording: Path
) -> None:
    with_recording.write_text(json.dumps({**recording.document(), **change}))
    with pytest.raises(PlanError, match=words):
        Recording.of(recording.weights_sha256)


@pytest.mark.parametrize("option", [["--max-drop", "1"], ["--search-images", "9"]])
def test_what_is_asked_of_a_calibration_set_needs_one(
    option: list[str], fp32: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--plan", str(fp32), "--precision", "int8", "-o", str(tmp_path / "a.plan")]
    assert main(["build", *arguments, *option]) == 1
    assert f"{option[0]} was given without a calibration set" in capsys.readouterr().err
    with pytest.raises(ArgumentError, match="estimator was given without a calibration set"):
        ConvertOptions("int8", estimator="max")


@pytest.mark.parametrize("scales", [(1.0, 5.0), (5.0, 1.0), (0.0, 2.0), (2.0, 0.0), (0.0, 0.0)])
def test_merged_histograms_count_what_both_counted(scales: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    values = [scale * rng.normal(size=1000).astype(np.float32) for scale in scales]
    together, merged = Histogram(), Histogram()
    for part in values:
        alone = Histogram()
        alone.add(part)
        merged.merge(alone)
        together.add(part)
    assert merged.is_possible
    assert (merged.low, merged.high, merged.limit) == (
        together.low, together.high, together.limit,
    )  # fmt: skip
    assert merged.counts.sum() == together.counts.sum()
    folded = np.abs(np.cumsum(merged.counts) - np.cumsum(together.counts))
    assert folded.max() <= 2  # a value on the border of two bins


def test_the_ranges_that_come_with_the_starter_are_the_starters() -> None:
    """Run ``benchmarks/studies/starter_ranges.py`` after an exchange of the weights."""
    pytest.importorskip("torch", reason="reads the weights")
    if not recorded.RECORDED.is_file():
        pytest.skip("no ranges are recorded of the starter")
    from xdecoder_rt.export.costs import weights_digest
    from xdecoder_rt.export.sources import load_model

    assert Recording.read(recorded.RECORDED).weights_sha256 == weights_digest(load_model())


def test_a_build_says_what_its_ranges_were_recorded_on(
    fp32: Path, with_recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "int8.plan"
    arguments = ["--plan", str(fp32), "--precision", "int8", "-o", str(output), "--force"]
    assert main(["build", *arguments, "--threads", "1"]) == 0
    printed = capsys.readouterr()
    assert "ranges recorded of these weights on one, two: no images" in printed.err
    assert "in int8, on 2 images of held (with 95 % certainty between" in printed.out
    with Plan.open(output, verify=True) as plan:
        calibration = plan.manifest.calibration
    assert calibration is not None and calibration["set"] == "recorded with the weights"
