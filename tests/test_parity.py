"""The parity command: the original's tensors through both forms, and a check that can fail."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from xdecoder_rt.models.parity.__main__ import main

DATA = Path(__file__).parent / "data"
WHOLE = DATA / "focal_tiny_a"
BACKBONE = DATA / "focal_plain_backbone"
LATER = ("grounding.", "caption.", "caption_region.", "retrieval.")


def run(folder: Path, tmp_path: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main([str(folder), *arguments, "--json", str(tmp_path / "report.json")])
    report = json.loads((tmp_path / "report.json").read_text())
    return code, {tensor["name"]: tensor for tensor in report["tensors"]}


def copy(source: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(source, tmp_path / source.name))


def change_expected(folder: Path, **changes: Any) -> None:
    with np.load(folder / "expected.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays.update({name.replace("__", "."): value for name, value in changes.items()})
    np.savez(folder / "expected.npz", **arrays)


def test_pytorch_passes_every_tensor_of_image_text_and_segmentation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, tensors = run(WHOLE, tmp_path)
    assert code == 0
    with np.load(WHOLE / "expected.npz") as archive:
        assert list(tensors) == archive.files, "a line an array, in order"
    for name, tensor in tensors.items():
        built = not any(task in name for task in LATER)
        assert tensor["verdict"] == ("pass" if built else "not built"), name
    counts = Counter(tensor["verdict"] for tensor in tensors.values())
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"{counts['pass']} pass, 0 FAIL, {counts['not built']} not built, 0 not exposed"


def test_exported_graphs_pass_everything_that_they_expose(tmp_path: Path) -> None:
    code, tensors = run(WHOLE, tmp_path, "--form", "onnxruntime")
    assert code == 0
    passed = {name for name, tensor in tensors.items() if tensor["verdict"] == "pass"}
    for image in ("img0", "img1", "img2"):
        for part in ("pred_logits", "pred_masks", "panoptic1.seg", "semantic.argmax"):
            assert f"{image}.{part}" in passed
    assert {"text.class_emb_templates", "img0.instance.masks"} <= passed
    hidden = {name for name, tensor in tensors.items() if tensor["verdict"] == "not exposed"}
    assert "img0.attn_mask_layer0" in hidden


@pytest.mark.parametrize("form", ["torch", "onnxruntime"])
def test_the_other_backbone(form: str, tmp_path: Path) -> None:
    code, tensors = run(BACKBONE, tmp_path, "--form", form)
    assert code == 0
    assert {tensor["verdict"] for tensor in tensors.values()} == {"pass"}


def test_another_weight_fails(tmp_path: Path) -> None:
    folder = copy(BACKBONE, tmp_path)
    weights = load_file(folder / "weights.safetensors")
    weights["backbone.layers.2.blocks.0.mlp.fc1.weight"] *= 1.01
    save_file(weights, folder / "weights.safetensors")
    code, tensors = run(folder, tmp_path)
    assert code == 1
    assert tensors["res3"]["verdict"] == "pass"
    assert tensors["res4"]["verdict"] == "FAIL"


def test_other_expectations_fail(tmp_path: Path) -> None:
    folder = copy(BACKBONE, tmp_path)
    with np.load(folder / "expected.npz") as archive:
        shifted = archive["res4"] * np.float32(1.001)
    change_expected(folder, res4=shifted, res5=np.zeros((1, 2), np.float32), extra=np.zeros(3))
    code, tensors = run(folder, tmp_path)
    assert code == 1
    assert tensors["res4"]["verdict"] == tensors["res5"]["verdict"] == "FAIL"
    assert tensors["extra"]["verdict"] == "not built", "never silently skipped, never passed"


def test_missing_tensors_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copy(BACKBONE, tmp_path)
    weights = load_file(folder / "weights.safetensors")
    del weights["backbone.norm0.bias"]
    weights["backbone.extra"] = torch.zeros(1)
    save_file(weights, folder / "weights.safetensors")
    assert main([str(folder)]) == 2
    error = capsys.readouterr().err
    assert "missing backbone.norm0.bias" in error
    assert "unexpected backbone.extra" in error


@pytest.mark.parametrize("file", ["config.json", "inputs.npz", "expected.npz"])
@pytest.mark.parametrize("content", [None, b"", b"{]", b"PK\x03\x04"])
def test_folders_that_are_no_fixtures(
    file: str, content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(BACKBONE, tmp_path)
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    assert main([str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and file in error


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("backbone_variant", "resnet"),
        ("post_layernorm", False),
        ("depths", [1, 1]),
        ("pixel_std", [0, 1, 1]),
    ],
)
def test_networks_that_ours_is_not(
    key: str, value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(BACKBONE, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    yaml_keys = {"pixel_std": "INPUT.PIXEL_STD"}
    entry = config["hyperparameters"].setdefault(key, {"yaml_key": yaml_keys.get(key)})
    entry["value"] = value
    (folder / "config.json").write_text(json.dumps(config))
    assert main([str(folder)]) == 2
    assert "error: " in capsys.readouterr().err
