"""A plan built from Python is the plan that the command builds."""

from __future__ import annotations

import doctest
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from xdecoder_rt.backends.tensorrt.library import load_module
from xdecoder_rt.cli import main
from xdecoder_rt.errors import ArgumentError, CheckpointError, MissingExtraError, PlanError
from xdecoder_rt.export import pipeline
from xdecoder_rt.export.options import BuildOptions, ConvertOptions, EngineOptions
from xdecoder_rt.export.pipeline import build
from xdecoder_rt.export.sources import is_plan
from xdecoder_rt.export.summary import EngineGraphSummary
from xdecoder_rt.masks.score_curve import ScoreCurve
from xdecoder_rt.plan.file import Plan
from xdecoder_rt.streams import synthetic
from xdecoder_rt.words.vocabulary import Vocabulary

if TYPE_CHECKING:
    from xdecoder_rt.models import ModelConfig

ROOT = Path(__file__).resolve().parents[2]
SIZE = (64, 64)


@pytest.fixture(scope="module")
def checkpoint(tiny: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the tiny model."""
    import torch

    pytest.importorskip("onnxscript", reason="building a plan needs the extra export")
    from xdecoder_rt.models import XDecoder, save_checkpoint

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(path, XDecoder(tiny))
    return path


def test_curves_of_scores_with_distractors_are_not_of_a_plan_without(
    tiny: ModelConfig, tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript", reason="building a plan needs the extra export")
    from xdecoder_rt.models import XDecoder, save_checkpoint
    from xdecoder_rt.models.config import DistractorConfig

    curves = {"refer": ScoreCurve((0.0, 1.0), (0.2, 0.6))}
    rules = replace(tiny.postprocess, curves=curves, min_scores={"refer": 0.3})
    model = XDecoder(replace(tiny, postprocess=rules, distractors=DistractorConfig(("mug", "cat"))))
    save_checkpoint(tmp_path / "curved.safetensors", model)
    for distractors in (None, False):
        options = BuildOptions(sizes=[SIZE], distractors=distractors)
        built = build(tmp_path / "curved.safetensors", tmp_path / "curved.plan", options)
        found = built.manifest.postprocess
        assert bool(found.curves) == bool(found.min_scores) == (distractors is None)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A calibration set of four images."""
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(4):
        Image.fromarray(synthetic.image(SIZE, seed)).save(folder / f"{seed}.png")
    return folder


def require_rtx() -> None:
    """Skip where no engine can be built."""
    pytest.importorskip("onnx", reason="building engines needs onnx")
    try:
        load_module("tensorrt_rtx")
    except MissingExtraError:
        pytest.skip("TensorRT-RTX is not installed (the extra tensorrt-rtx-build)")


def by_command(
    capsys: pytest.CaptureFixture[str], output: Path, *arguments: object
) -> dict[str, Any]:
    """The JSON of the command, without what is measured anew each time."""
    capsys.readouterr()
    assert main(["build", *map(str, arguments), "-o", str(output), "--json"]) == 0
    document = without_times(json.loads(capsys.readouterr().out))
    assert document.pop("schema") == "build/1"  # of the command's document alone
    return document


def without_times(summary: dict[str, Any]) -> dict[str, Any]:
    graphs = [{**graph, "seconds": None} for graph in summary["graphs"]]
    accuracy = {**summary["accuracy"], "times_faster_than_fp32": None}
    left = {"plan": None, "seconds": None, "graphs": graphs, "accuracy": accuracy}
    return {**summary, **left}


def without_sizes(summary: dict[str, Any]) -> dict[str, Any]:
    """Leave out what TensorRT-RTX's builder decides anew in every build: layers and their code."""
    graphs = [{**graph, "size": None, "layers": None} for graph in summary["graphs"]]
    return {**summary, "size": None, "graphs": graphs}


@pytest.mark.slow
def test_a_checkpoint(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = ("segment", "refer")
    told: list[str] = []
    options = BuildOptions(sizes=[SIZE], tasks=tasks, max_phrases=7, piece_share=0.3)
    summary = build(str(checkpoint), tmp_path / "python.plan", options, told.append)
    arguments = ["--size", "64x64", "--tasks", ",".join(tasks), "--max-phrases", 7]
    arguments += ["--piece-share", 0.3]
    document = by_command(capsys, tmp_path / "command.plan", "--checkpoint", checkpoint, *arguments)
    assert without_times(summary.to_dict()) == document
    assert (tmp_path / "python.plan").read_bytes() == (tmp_path / "command.plan").read_bytes()
    assert told[0] == f"Loading {checkpoint}" and told[-1].startswith("Writing")
    assert summary.path == tmp_path / "python.plan" and summary.seconds > 0
    assert summary.manifest.postprocess.piece_share == 0.3
    assert [graph.nodes is not None for graph in summary.graphs] == [True] * 4


def test_words_in_a_smaller_plan(
    tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kitchen.txt").write_text("mug | cup\nfloor [stuff]\n")
    words = {"kitchen": Vocabulary.load(tmp_path / "kitchen.txt")}
    options = BuildOptions(sizes=[SIZE], vocabularies=words)
    summary = build(tiny_plan, tmp_path / "python.plan", options)
    arguments = ["--plan", tiny_plan, "--size", "64x64", "--vocabulary", tmp_path / "kitchen.txt"]
    document = by_command(capsys, tmp_path / "command.plan", *arguments)
    assert without_times(summary.to_dict()) == document
    assert summary.vocabularies == {"kitchen": 3}
    assert (tmp_path / "python.plan").read_bytes() == (tmp_path / "command.plan").read_bytes()
    with Plan.open(tmp_path / "python.plan") as plan:
        assert plan.manifest == summary.manifest


def test_fp16(tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnx", reason="conversions need the extra export")
    conversion = ConvertOptions("fp16", "tensorrt", threads=1, force=True)
    options = BuildOptions(sizes=[SIZE], conversion=conversion)
    summary = build(tiny_plan, tmp_path / "python.plan", options)
    arguments = ["--precision", "fp16", "--profile", "tensorrt", "--threads", 1, "--force"]
    document = by_command(
        capsys, tmp_path / "command.plan", "--plan", tiny_plan, "--size", "64x64", *arguments
    )
    assert without_times(summary.to_dict()) == document
    assert (tmp_path / "python.plan").read_bytes() == (tmp_path / "command.plan").read_bytes()
    assert summary.manifest.precision == "fp16"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The calibration set")
def test_int8(
    tiny_plan: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnx", reason="conversions need the extra export")
    conversion = ConvertOptions(
        "int8", calibration=images, estimator="max", images=2, search_images=2, max_drop=100.0,
        report=tmp_path / "report", threads=1, force=True,
    )  # fmt: skip
    summary = build(
        tiny_plan, tmp_path / "python.plan", BuildOptions(sizes=[SIZE], conversion=conversion)
    )
    assert summary.report is not None and (tmp_path / "report" / "quantization.md").is_file()
    arguments = [
        "--plan", tiny_plan, "--size", "64x64", "--precision", "int8", "--calibration", images,
        "--estimator", "max", "--calibration-images", 2, "--search-images", 2, "--max-drop", 100,
        "--threads", 1, "--force",
    ]  # fmt: skip
    document = by_command(capsys, tmp_path / "command.plan", *arguments)
    made = without_times(summary.to_dict())
    # The time of a frame in the manifest is as long as it is measured.
    assert {**made, "size": None} == {**document, "size": None}
    with Plan.open(tmp_path / "python.plan") as one, Plan.open(tmp_path / "command.plan") as other:
        assert one.manifest.members == other.manifest.members


def test_engines(tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_rtx()
    engines = EngineOptions("tensorrt_rtx", targets=(86, 89), max_rows=64)
    summary = build(
        tiny_plan, tmp_path / "python.plan", BuildOptions(sizes=[SIZE], engines=engines)
    )
    assert all(isinstance(graph, EngineGraphSummary) for graph in summary.graphs)
    arguments = ["--backend", "tensorrt_rtx", "--sm", 86, 89, "--max-rows", 64]
    document = by_command(
        capsys, tmp_path / "command.plan", "--plan", tiny_plan, "--size", "64x64", *arguments
    )
    assert without_times(without_sizes(summary.to_dict())) == without_sizes(document)
    assert document["targets"] == ["8.6", "8.9"]
    assert document["backend_version"] == summary.manifest.backend_version


def test_a_forced_plan_says_why_it_would_be_refused(
    tiny_plan: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("onnx", reason="conversions need the extra export")
    from xdecoder_rt.export import convert

    def complain(_: object, __: object, converted: Any, *___: object) -> None:
        converted.complaints.append("a frame takes 1.20 times as long as in fp32")

    monkeypatch.setattr(convert, "_compare_times", complain)
    options = BuildOptions(conversion=ConvertOptions("bf16", force=True))
    summary = build(tiny_plan, tmp_path / "python.plan", options)
    assert summary.complaints == ("a frame takes 1.20 times as long as in fp32",)
    output = ["-o", str(tmp_path / "command.plan")]
    assert main(["build", "--plan", str(tiny_plan), "--precision", "bf16", "--force", *output]) == 0
    assert f"warning: written all the same, as --force says: {summary.complaints[0]}\n" in (
        capsys.readouterr().err
    )


def test_a_source_is_told_by_its_content_and_what_is_no_archive_by_its_name(
    tiny_plan: Path, checkpoint: Path, tmp_path: Path
) -> None:
    unnamed = tmp_path / "unnamed"
    unnamed.write_bytes(tiny_plan.read_bytes())
    assert is_plan(unnamed) and not is_plan(checkpoint) and not is_plan(tmp_path)
    summary = build(unnamed, tmp_path / "small.plan", BuildOptions(sizes=[SIZE]))
    assert summary.manifest.input.sizes == (SIZE,)
    with pytest.raises(PlanError, match=r"no file .*absent\.plan"):
        build(tmp_path / "absent.plan", tmp_path / "model.plan")
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*absent\.pt"):
        build(tmp_path / "absent.pt", tmp_path / "model.plan")
    assert {path.name for path in tmp_path.iterdir()} == {"unnamed", "small.plan"}


def test_a_published_file_is_no_plan_though_it_is_an_archive(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="published files need the extra export")
    for name in ("published.pt", "published.plan"):
        torch.save({"weight": torch.zeros(1)}, tmp_path / name)
        assert not is_plan(tmp_path / name)


@pytest.mark.parametrize(
    ("family", "share", "expected"),
    [("compact", None, 0.3), ("published", None, 0.0), ("compact", 0, 0), ("published", 0.1, 0.1)],
)
def test_compact_plans_clean_masks_and_published_ones_keep_their_rule(
    family: str,
    share: float | None,
    expected: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("onnxscript", reason="exports need the extra export")
    from xdecoder_rt.export import portable

    given: dict[str, Any] = {}

    def export(model: object, output: Path, **options: Any) -> None:
        given.update(options)
        raise KeyboardInterrupt

    model = SimpleNamespace(
        config=SimpleNamespace(family=family, tasks=("segment",), distractors=None), region=None
    )
    monkeypatch.setattr("xdecoder_rt.export.pipeline.load_model", lambda source, tasks: model)
    monkeypatch.setattr(portable, "build_portable", export)
    with pytest.raises(KeyboardInterrupt):
        build(None, tmp_path / "model.plan", BuildOptions(piece_share=share))
    assert given["piece_share"] == expected


@pytest.mark.parametrize(
    "options",
    [
        BuildOptions(tasks=["segment"]),
        BuildOptions(max_phrases=3),
        BuildOptions(piece_share=0.0),
        BuildOptions(preset="coco"),
        BuildOptions(object_threshold=0.4),
        BuildOptions(interpolation="bilinear"),
        BuildOptions(text_size=(224, 224)),
    ],
)
def test_a_plan_keeps_its_tasks(options: BuildOptions, tiny_plan: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="a plan keeps its tasks"):
        build(tiny_plan, tmp_path / "model.plan", options)
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_the_older_plan(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    target = tmp_path / "model.plan"
    target.write_bytes(b"older")
    with pytest.raises(KeyboardInterrupt):
        build(tiny_plan, target, BuildOptions(sizes=[SIZE]), interrupted)
    assert target.read_bytes() == b"older" and list(tmp_path.iterdir()) == [target]


def test_the_example_of_the_docstring_runs(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.plan").write_bytes(tiny_plan.read_bytes())
    monkeypatch.chdir(tmp_path)
    (example,) = doctest.DocTestFinder(recurse=False).find(build, globs={})
    results = doctest.DocTestRunner().run(example)
    assert results.attempted > 0 and results.failed == 0


def test_the_example_of_the_docs_runs(
    tiny_plan: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On the tiny model."""
    require_rtx()
    page = (ROOT / "docs" / "gpu.md").read_text()
    (code,) = re.findall(r"### From Python\n.*?```python\n(.*?)```", page, re.DOTALL)
    build(tiny_plan, tmp_path / "model.plan", BuildOptions(sizes=[SIZE]))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs", "exec"), {})
    with Plan.open(tmp_path / "rtx.plan") as plan:
        assert plan.manifest.backend == "tensorrt_rtx"
    assert "vision_64x64.engine" in capsys.readouterr().out


def test_the_recipe_imports_no_framework_before_it_needs_one(tmp_path: Path) -> None:
    code = f"import sys, {pipeline.__name__}\nprint(sorted({{'torch', 'onnx'}} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
