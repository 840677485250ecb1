"""Plans in lower precision: close to fp32, refused where they are no gain, whole or not there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnx", reason="conversions need the extra export")

from xdecoder_rt import Engine  # noqa: E402
from xdecoder_rt.cli import main
from xdecoder_rt.errors import BuildError  # noqa: E402
from xdecoder_rt.evaluation.agreement import compare  # noqa: E402
from xdecoder_rt.export import convert as conversion  # noqa: E402
from xdecoder_rt.export.conversion import Converted  # noqa: E402
from xdecoder_rt.export.convert import convert_plan  # noqa: E402
from xdecoder_rt.export.options import ConvertOptions  # noqa: E402
from xdecoder_rt.plan.contents import graph_size  # noqa: E402
from xdecoder_rt.plan.file import Plan  # noqa: E402
from xdecoder_rt.streams import synthetic

SIZE = (64, 64)
pytestmark = pytest.mark.filterwarnings("ignore:The calibration set")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for seed in range(6):
        Image.fromarray(synthetic.image(SIZE, seed)).save(folder / f"{seed}.png")
    return folder


@pytest.fixture(scope="module")
def fp32(tiny_plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One size, to convert less."""
    plan = tmp_path_factory.mktemp("fp32") / "fp32.plan"
    convert_plan(tiny_plan, plan, ConvertOptions("fp32"), sizes=[SIZE])
    return plan


def int8(calibration: Path, profile: str = "cpu", **changes: object) -> ConvertOptions:
    settings = {
        "calibration": calibration, "profile": profile, "estimator": "max", "force": True,
        "images": 3, "search_images": 2, "max_drop": 100.0, "threads": 1, **changes,
    }  # fmt: skip
    return ConvertOptions("int8", **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def int8_plan(fp32: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("int8")
    summary = convert_plan(fp32, folder / "int8.plan", int8(images))
    assert summary.report is not None
    summary.report.write(folder / "report")
    return folder / "int8.plan"


def test_int8_is_close_to_fp32(fp32: Path, int8_plan: Path, tmp_path: Path) -> None:
    pictures = [synthetic.image(SIZE, seed) for seed in (7, 8)]
    with (
        Engine(int8_plan, backend="onnxruntime", cache_dir=tmp_path) as tried,
        Engine(fp32, cache_dir=tmp_path) as base,
    ):
        found = compare(tried, base, pictures, ["mug", "table"])
    assert found.outputs["mask_map"].cosine > 0.99
    assert found.outputs["class_embedding"].cosine > 0.95
    assert found.outputs["mask_map"].relative_rms > 0  # it is another graph


def test_the_manifest_says_how_it_was_made(int8_plan: Path, images: Path) -> None:
    with Plan.open(int8_plan, verify=True) as plan:
        manifest = plan.manifest
    assert (manifest.precision, manifest.profile) == ("int8", "cpu")
    assert manifest.calibration is not None
    assert manifest.calibration["estimator"] == "max"
    assert manifest.calibration["images"] == 3
    assert manifest.calibration["set"] == images.name
    assert {"metric", "fp32", "int8", "times_faster_than_fp32"} <= set(manifest.accuracy)


def test_int8_of_several_sizes_and_a_size_for_texts(images: Path, tmp_path: Path) -> None:
    import onnx
    from old_plan import SIZES, TEXT_SIZE, version_1_bytes

    source = tmp_path / "version_1.plan"
    source.write_bytes(version_1_bytes())
    made = convert_plan(source, tmp_path / "int8.plan", int8(images))
    assert made.manifest.format_version == 2
    assert (made.manifest.input.sizes, made.manifest.input.text_size) == (SIZES, TEXT_SIZE)
    with Plan.open(made.path, verify=True) as plan:
        for members in (plan.manifest.graphs.vision, plan.manifest.graphs.decode):
            graphs = [onnx.load_from_string(plan.graph(name)).graph for name in members.values()]
            kinds = [[node.op_type for node in graph.node] for graph in graphs]
            # Images were square: the other sizes have the ranges of theirs.
            assert [each.count("QuantizeLinear") for each in kinds[1:]] == [
                kinds[0].count("QuantizeLinear")
            ] * (len(kinds) - 1)
            assert "QuantizeLinear" in kinds[0]
            used = [set(plan.manifest.weights[name]) for name in members.values()]
            assert set.intersection(*used)
        weights = sum(len(plan.read(n)) for n in plan.names if n.startswith("weights/"))
        wholes = sum(len(plan.graph(name)) for name in plan.manifest.graphs.vision.values())
        assert weights < wholes
    with Engine(made.path, backend="onnxruntime", cache_dir=tmp_path) as engine:
        for size in SIZES:
            state = engine.encode(synthetic.image(size, 7))
            assert state.letterbox.target == size
            assert engine.segment(state, ["mug"]).segmentation.shape == size
        assert np.isfinite(engine.embed_image(synthetic.image(SIZE, 7))).all()


def test_the_report_has_every_block(int8_plan: Path) -> None:
    folder = int8_plan.parent / "report"
    document = json.loads((folder / "quantization.json").read_text())
    assert document["blocks"] and all(block["quantized"] for block in document["blocks"])
    page = (folder / "quantization.md").read_text()
    assert all(block["name"] in page for block in document["blocks"])
    with Plan.open(int8_plan) as plan:
        accuracy = plan.manifest.accuracy
    # The table's times are those of the verdict.
    times = document["fp32"]["latency_ms"] / document["chosen"]["latency_ms"]
    assert document["is_timed_in_turns"]
    assert round(times, 3) == accuracy["times_faster_than_fp32"]
    is_slower = any("times as long as in fp32" in line for line in document["complaints"])
    assert is_slower == (times < 1)


def test_a_smaller_file(fp32: Path, int8_plan: Path) -> None:
    with Plan.open(fp32) as one, Plan.open(int8_plan) as other:
        member = one.manifest.graphs.text
        sizes = [graph_size(plan.manifest, member) for plan in (one, other)]
    assert sizes[1] < 0.6 * sizes[0]


@pytest.mark.slow
def test_nothing_fits_no_budget(fp32: Path, images: Path, tmp_path: Path) -> None:
    output = tmp_path / "int8.plan"
    options = int8(images, max_drop=0.0, force=False)
    # A block without any effect on two small images may fit even this.
    try:
        summary = convert_plan(fp32, output, options)
    except BuildError as error:
        assert "within a drop of 0" in str(error) or "no gain" in str(error)
        assert list(tmp_path.iterdir()) == []
    else:
        assert summary.report is not None and summary.report.chosen.score >= 100.0


def test_a_slower_plan_is_refused_unless_forced(
    fp32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def complain(_: object, __: object, converted: Converted, *___: object) -> None:
        converted.complaints.append("a frame takes 1.20 times as long as in fp32")

    monkeypatch.setattr(conversion, "_compare_times", complain)
    output = tmp_path / "bf16.plan"
    with pytest.raises(BuildError, match=r"no gain: a frame takes 1\.20 times .* --force"):
        convert_plan(fp32, output, ConvertOptions("bf16"))
    assert list(tmp_path.iterdir()) == []
    forced = convert_plan(fp32, output, ConvertOptions("bf16", force=True))
    assert forced.complaints == ("a frame takes 1.20 times as long as in fp32",)
    assert (forced.manifest.precision, forced.manifest.profile) == ("bf16", "cpu")


def test_an_output_that_strays_is_refused(
    fp32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xdecoder_rt.export import half

    monkeypatch.setattr(half, "search", lambda *_: (set(), {"mask_logits": 0.9}))
    with pytest.raises(BuildError, match=r"mask_logits has a cosine of 0\.90000"):
        convert_plan(fp32, tmp_path / "fp16.plan", ConvertOptions("fp16", "tensorrt"))
    assert list(tmp_path.iterdir()) == []


def test_what_strays_is_found_and_kept(fp32: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx

    from xdecoder_rt.export import half

    with Plan.open(fp32) as plan:
        model = onnx.load_from_string(plan.graph("vision_64x64.onnx"))
    names = half.candidates(model)
    guilty = names[len(names) // 2]
    right = {"keys_0": np.float32([1.0, 2.0])}

    def cosines(emulation: set[str], _: object) -> dict[str, float]:
        return {"keys_0": 0.5 if guilty in emulation else 0.9999}

    monkeypatch.setattr(half, "emulated", lambda _, __, keep: set(names) - set(keep))
    monkeypatch.setattr(half, "output_cosines", cosines)
    kept, found = half.search(model, "fp16", [(right, right)])
    assert guilty in kept and len(kept) <= 2 * half._BLOCK
    assert min(found.values()) >= 0.999


def test_an_interruption_leaves_nothing(
    fp32: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("xdecoder_rt.export.quantized.observe", interrupt)
    with pytest.raises(KeyboardInterrupt):
        convert_plan(fp32, tmp_path / "int8.plan", int8(images))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_typed_plans_say_their_profile(fp32: Path, tmp_path: Path) -> None:
    made = convert_plan(fp32, tmp_path / "fp16.plan", ConvertOptions("fp16", "tensorrt"))
    assert (made.manifest.precision, made.manifest.profile) == ("fp16", "tensorrt")
    assert min(made.manifest.accuracy["least_cosine_against_fp32"].values()) >= 0.999


@pytest.mark.slow
def test_int8_for_tensorrt_is_symmetric(fp32: Path, images: Path, tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto

    made = convert_plan(fp32, tmp_path / "int8.plan", int8(images, "tensorrt"))
    assert made.manifest.profile == "tensorrt"
    with Plan.open(made.path) as plan:
        model = onnx.load_from_string(plan.graph("vision_64x64.onnx"))
    assert any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    assert TensorProto.UINT8 not in {value.data_type for value in model.graph.initializer}


def test_a_plan_that_is_lower_already(int8_plan: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="is in int8"):
        convert_plan(int8_plan, tmp_path / "bf16.plan", ConvertOptions("bf16"))


def test_check_compares_no_plans_of_different_sizes(
    fp32: Path, tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(fp32), "--against", str(tiny_plan), "--cache-dir", str(tmp_path)]
    assert main(["check", *arguments]) == 1
    assert "have different input sizes" in capsys.readouterr().err


def test_check_says_how_far_two_plans_are_apart(
    fp32: Path, int8_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--cache-dir", str(tmp_path), "--limit", "1", "--json"]
    assert main(["check", str(fp32), "--against", str(fp32), *common]) == 0
    same = json.loads(capsys.readouterr().out)
    assert same["same_segment"] == same["same_label"] == same["phrase_iou"] == 1.0
    assert all(row["cosine"] > 0.999999 for row in same["outputs"].values())
    assert same["left_out"] == {}
    limits = ["--least-cosine", "1.0"]
    assert main(["check", str(int8_plan), "--against", str(fp32), *limits, *common]) == 1
    apart = json.loads(capsys.readouterr().out)
    assert apart["failures"] and "cosine" in apart["failures"][0]
