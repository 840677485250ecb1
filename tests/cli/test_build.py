"""``xdecoder-rt build``: a plan appears whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import document_of, the_error

from xdecoder_rt.cli import main
from xdecoder_rt.engine import Engine
from xdecoder_rt.errors import BuildError
from xdecoder_rt.pixels.letterbox import Letterbox
from xdecoder_rt.plan.file import Plan


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a model of a few thousand parameters."""
    torch = pytest.importorskip("torch", reason="building a plan needs the extra export")
    pytest.importorskip("onnxscript", reason="building a plan needs the extra export")
    from xdecoder_rt.models import XDecoder, compact_config, save_checkpoint
    from xdecoder_rt.models.config import (
        BackboneConfig,
        DecoderConfig,
        PixelDecoderConfig,
        TextConfig,
    )

    torch.manual_seed(0)
    config = compact_config(
        name="small",
        backbone=BackboneConfig(
            kind="focal_dw", embed_dim=8, depths=(1, 1, 1, 1), focal_levels=(1, 1, 1, 1)
        ),
        pixel_decoder=PixelDecoderConfig(
            dim=16, mask_level_dim=16, mask_dim=16, mask_kernel=0, norm="batch",
            transformer_layers=1, heads=2, feedforward_dim=32,
        ),
        decoder=DecoderConfig(
            num_queries=5, hidden_dim=16, heads=2, feedforward_dim=32, layers=3,
            class_token_is_mask=False,
        ),
        text=TextConfig(width=16, heads=2, layers=1, context_length=77, token_rank=4),
        proj_dim=16,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("checkpoint") / "small.safetensors"
    save_checkpoint(path, XDecoder(config))
    return path


@pytest.fixture(scope="module")
def exports_are_kept() -> Iterator[None]:
    """Tests of this module export each graph of the one checkpoint once."""
    pytest.importorskip("torch", reason="building a plan needs the extra export")
    pytest.importorskip("onnxscript", reason="building a plan needs the extra export")
    from xdecoder_rt.export import portable

    def kept(export: Callable[..., Any]) -> Callable[..., Any]:
        exported: dict[tuple[object, ...], Any] = {}

        def take(model: object, *size: object) -> Any:
            if size not in exported:
                made = export(model, *size)
                exported[size] = tuple(made) if isinstance(made, Iterator) else made
            return exported[size]

        return take

    with pytest.MonkeyPatch.context() as patch:
        for name in ("export_image_graphs", "export_text_graph", "export_token_graph"):
            patch.setattr(portable, name, kept(getattr(portable, name)))
        yield


def test_a_checkpoint_becomes_a_plan(
    checkpoint: Path, exports_are_kept: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "small.plan"
    arguments = ["--checkpoint", str(checkpoint), "--size", "32x64", "-o", str(target), "--json"]
    assert main(["build", *arguments]) == 0
    out, err = capsys.readouterr()
    summary = json.loads(out)
    assert (summary["plan"], summary["size"]) == (str(target), target.stat().st_size)
    assert (summary["model"], summary["family"]) == ("small", "compact")
    assert (summary["precision"], summary["sizes"]) == ("fp32", [[32, 64]])
    assert summary["parameters"] > 0 and summary["macs"] > 0
    assert [graph["graph"] for graph in summary["graphs"]] == [
        "vision", "decode", "mask", "text", "token",
    ]  # fmt: skip
    for graph in summary["graphs"]:
        assert graph["nodes"] > 0 and graph["macs"] > 0 and graph["size"] > 0
        assert 0 <= graph["error"] <= 1e-4
    assert "Exporting" in err and "relative RMS" in err
    assert list(tmp_path.iterdir()) == [target]
    with Plan.open(target, verify=True) as plan:
        assert plan.manifest.input.sizes == ((32, 64),)
        assert plan.manifest.postprocess.piece_share == 0.3


def test_python_makes_the_plan_of_the_command(
    checkpoint: Path, exports_are_kept: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from xdecoder_rt.export.options import BuildOptions
    from xdecoder_rt.export.pipeline import build

    by_python, by_command = tmp_path / "python.plan", tmp_path / "command.plan"
    made = build(checkpoint, by_python, BuildOptions(sizes=[(32, 64)], max_phrases=7))
    arguments = ["--size", "32x64", "--max-phrases", "7", "-o", str(by_command), "--json"]
    assert main(["build", "--checkpoint", str(checkpoint), *arguments]) == 0
    assert by_python.read_bytes() == by_command.read_bytes()
    document = json.loads(capsys.readouterr().out)
    given = {"schema": "build/1", "plan": str(by_command), "seconds": document["seconds"]}
    assert document == {**made.to_dict(), **given}


def test_a_rule_and_thresholds_are_in_the_plan_and_images_keep_their_scale(
    checkpoint: Path, exports_are_kept: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "ruled.plan"
    arguments = ["--size", "short:32,longest:60", "--size", "32x64", "--interpolation", "bicubic"]
    arguments += ["--object-threshold", "0.4", "--overlap-threshold", "0.7", "-o", str(target)]
    arguments += ["--text-size", "64x32"]
    assert main(["build", "--checkpoint", str(checkpoint), *arguments]) == 0
    with Plan.open(target) as plan:
        inputs, postprocess = plan.manifest.input, plan.manifest.postprocess
    assert (inputs.resize, inputs.short_side, inputs.longest_side) == ("short_side", 32, 60)
    assert (inputs.sizes, inputs.interpolation) == (((32, 64),), "bicubic")
    assert inputs.all_sizes == ((32, 64), (64, 32))
    assert (postprocess.object_mask_threshold, postprocess.overlap_threshold) == (0.4, 0.7)
    with Engine(target, cache_dir=tmp_path / "cache") as engine:
        for source, scaled in (((30, 40), (32, 43)), ((20, 60), (20, 60)), ((60, 20), (32, 11))):
            state = engine.encode(np.zeros((*source, 3), np.uint8))
            assert state.letterbox == Letterbox(source, (32, 64), scaled)
            assert engine.segment(state, ["mug"]).segmentation.shape == source
        assert engine.embed_image(np.zeros((20, 60, 3), np.uint8)).shape == (16,)
    capsys.readouterr()
    assert main(["info", str(target)]) == 0
    told = "a short side of 32, the long one at most 60; for texts squashed into 64x32, bicubic"
    assert told in capsys.readouterr().out


def test_two_rules_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "--size", "short:32", "--size", "short:64"]) == 1
    assert "--size was given several rules" in capsys.readouterr().err


@pytest.mark.parametrize("share", ["1.1", "-0.5", "nan", "a fifth"])
def test_a_share_of_pieces_is_a_number_from_0_to_1(
    share: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", f"--piece-share={share}"]) == 2
    assert f"'{share}' is not a number from 0 to 1" in capsys.readouterr().err


def test_a_plan_given_as_a_checkpoint_is_refused(
    tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "model.plan"
    assert main(["build", "--checkpoint", str(tiny_plan), "-o", str(target)]) == 1
    error = the_error(capsys)
    assert "is a plan, not a checkpoint" in error and "--plan" in error
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_given_as_a_plan_is_refused(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", "--plan", str(checkpoint), "-o", str(tmp_path / "model.plan")]) == 1
    assert "is a safetensors checkpoint, not a plan" in the_error(capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_plan_becomes_a_smaller_one(
    tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "smaller.plan"
    arguments = ["--plan", str(tiny_plan), "--size", "32x96", "-o", str(target)]
    assert main(["build", *arguments]) == 0
    out = capsys.readouterr().out
    assert "input 32x96" in out and "vision_32x96.onnx" in out and "64x64" not in out
    assert target.stat().st_size < tiny_plan.stat().st_size
    with Plan.open(target, verify=True) as plan:
        assert plan.manifest.input.sizes == ((32, 96),)


def test_a_plan_can_be_rebuilt_in_its_own_place(tiny_plan: Path, tmp_path: Path) -> None:
    place = tmp_path / "model.plan"
    place.write_bytes(tiny_plan.read_bytes())
    assert main(["build", "--plan", str(place), "--size", "64x64", "-o", str(place)]) == 0
    with Plan.open(place, verify=True) as plan:
        assert plan.manifest.input.sizes == ((64, 64),)


def test_a_plan_carries_vocabularies(
    tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kitchen.txt").write_text("mug | cup\nfloor [stuff]\n")
    (tmp_path / "lab.json").write_text('["arm"]')
    target = tmp_path / "robot.plan"
    files = [f"--vocabulary={tmp_path / name}" for name in ("kitchen.txt", "lab.json")]
    assert main(["build", "--plan", str(tiny_plan), *files, "-o", str(target), "--json"]) == 0
    summary = document_of(capsys)
    assert summary["vocabularies"] == {"kitchen": 3, "lab": 1}
    assert summary["size"] == target.stat().st_size
    # A plan made of it carries them on.
    smaller = tmp_path / "smaller.plan"
    assert main(["build", "--plan", str(target), "--size", "64x64", "-o", str(smaller)]) == 0
    with Plan.open(smaller, verify=True) as plan:
        assert [info.name for info in plan.manifest.vocabularies] == ["kitchen", "lab"]


def test_a_bad_file_of_words_is_told_before_the_work(
    tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kitchen.txt").write_text("mug [loud]\n")
    target = tmp_path / "robot.plan"
    words = str(tmp_path / "kitchen.txt")
    assert main(["build", "--plan", str(tiny_plan), "--vocabulary", words, "-o", str(target)]) == 1
    assert "'loud' is not understood" in the_error(capsys, after_progress=True)
    assert not target.exists()


def test_a_size_that_a_plan_lacks(
    tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "other.plan"
    arguments = ["--plan", str(tiny_plan), "--size", "512x512", "-o", str(target)]
    assert main(["build", *arguments]) == 1
    error = the_error(capsys, after_progress=True)
    assert "512x512" in error and "64x64, 32x96" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "flags",
    [["--no-regions"], ["--no-distractors"], ["--tasks", "segment"], ["--size", "short:64"]],
)
def test_what_only_a_checkpoint_can_be_built_with_is_named_as_it_was_typed(
    flags: list[str], tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "other.plan"
    assert main(["build", "--plan", str(tiny_plan), *flags, "-o", str(target)]) == 1
    assert f"{flags[0]} given with --plan" in the_error(capsys)
    assert not target.exists()


def test_a_size_that_no_network_takes(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "odd.plan"
    arguments = ["--checkpoint", str(checkpoint), "--size", "33x64", "-o", str(target)]
    assert main(["build", *arguments]) == 1
    assert "multiples of 32" in the_error(capsys, after_progress=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("absent.safetensors", None),
        ("broken.safetensors", b"\x10\x00\x00\x00\x00\x00\x00\x00{not json"),
        ("empty.safetensors", b""),
        ("broken.pt", b"PK\x03\x04 and nothing more"),
    ],
)
def test_bad_checkpoints(
    tmp_path: Path, name: str, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="building a plan needs the extra export")
    source, target = tmp_path / name, tmp_path / "model.plan"
    if content is not None:
        source.write_bytes(content)
    assert main(["build", "--checkpoint", str(source), "-o", str(target)]) == 1
    assert name in the_error(capsys, after_progress=True)
    assert not target.exists()


@pytest.mark.parametrize("damage", ["absent", "truncated", "flipped"])
def test_bad_plans(
    tiny_plan: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "source.plan", tmp_path / "model.plan"
    data = bytearray(tiny_plan.read_bytes())
    if damage == "truncated":
        source.write_bytes(data[: len(data) // 3])
    elif damage == "flipped":
        data[len(data) // 2] ^= 1
        source.write_bytes(data)
    assert main(["build", "--plan", str(source), "-o", str(target)]) == 1
    assert "source.plan" in the_error(capsys, after_progress=True)
    assert [path.name for path in tmp_path.iterdir()] in ([], ["source.plan"])


def test_a_place_that_cannot_be_written_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", "-o", str(tmp_path / "no" / "model.plan")]) == 1
    assert "no folder" in the_error(capsys, after_progress=True)
    assert main(["build", "-o", str(tmp_path)]) == 1
    assert "it is a folder" in the_error(capsys, after_progress=True)


def test_a_full_disk_leaves_nothing(
    tiny_plan: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import errno
    import os

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert main(["build", "--plan", str(tiny_plan), "-o", str(tmp_path / "model.plan")]) == 1
    assert "No space left" in the_error(capsys, after_progress=True)
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    assert main(["build", "-o", str(tmp_path / "model.plan")]) == 1
    assert "xdecoder_rt[export]" in the_error(capsys, after_progress=True)


def test_an_interruption_among_the_words_leaves_the_older_plan(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xdecoder_rt.words import carried as plan_words

    carry = plan_words.carry

    def interrupted(source: Path, output: Path, name: str, *given: Any) -> Any:
        if name == "second":
            raise KeyboardInterrupt
        return carry(source, output, name, *given)

    monkeypatch.setattr(plan_words, "carry", interrupted)
    target = tmp_path / "robot.plan"
    target.write_bytes(b"older")
    files = [tmp_path / "first.txt", tmp_path / "second.txt"]
    for file in files:
        file.write_text("mug\n")
    words = [f"--vocabulary={file}" for file in files]
    assert main(["build", "--plan", str(tiny_plan), *words, "-o", str(target)]) == 130
    assert target.read_bytes() == b"older"
    assert set(tmp_path.iterdir()) == {*files, target}


def test_the_toolchain_is_looked_at_before_a_conversion(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A calibration takes long, and a wrong target is known before it."""
    from xdecoder_rt.export import convert
    from xdecoder_rt.export.tensorrt import toolchain

    done: list[str] = []

    def missing(*_: object) -> None:
        done.append("toolchain")
        raise BuildError("no such GPU")

    monkeypatch.setattr(toolchain, "open_toolchain", missing)
    monkeypatch.setattr(convert, "convert_plan", lambda *_, **__: done.append("conversion"))
    arguments = ["--backend", "tensorrt_rtx", "--sm", "86", "--precision", "fp16"]
    output = ["-o", str(tmp_path / "rtx.plan")]
    assert main(["build", "--plan", str(tiny_plan), *arguments, *output]) == 1
    assert done == ["toolchain"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [["--size", "big"], ["--plan", "a.plan", "--checkpoint", "b.pt"], ["--backend", "abacus"]],
)
def test_a_wrong_command_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", *arguments]) == 2
    assert "error: " in capsys.readouterr().err
