"""``info`` and ``convert`` of files of weights: what a report says, and tensors taken alone."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="files of weights need the extra export")

import torch
from published_layouts import PREDICTOR, published_tensors, save_pt, small_config
from safetensors.torch import load_file
from torch import Tensor

from xdecoder_rt.cli import main
from xdecoder_rt.models import XDecoder, save_checkpoint

CAPTION = (PREDICTOR + "caping_embed", PREDICTOR + "pos_embed_caping.weight")
NORM = PREDICTOR + "decoder_norm."


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return published_tensors()


def info(capsys: pytest.CaptureFixture[str], path: Path) -> dict[str, Any]:
    assert main(["info", str(path), "--json"]) == 0
    output = capsys.readouterr()
    document: dict[str, Any] = json.loads(output.out)
    assert document["sha256"] in output.err
    return document


def test_a_whole_file_says_what_it_is_and_how_to_build_from_it(
    tensors: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_pt(tmp_path / "a b.pt", {"model": tensors, "epoch": 3})
    document = info(capsys, path)
    assert document["network"].startswith("X-Decoder with a FocalNet 8 wide")
    assert document["sizes"]["decoder"]["num_queries"] == 11
    assert document["tasks"] == ["segment", "refer", "caption", "answer", "embed"]
    assert document["wrappers"] == ["model"]
    assert document["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [document[key]["count"] for key in ("missing", "misshapen", "extra")] == [0, 0, 0]
    assert document["problem"] is None
    assert document["build"] == f"xdecoder-rt build --checkpoint '{path}' -o 'a b.plan'"


def test_lost_tasks_and_extra_tensors_are_listed_ten_names_at_most(
    tensors: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = {name: value for name, value in tensors.items() if name not in CAPTION}
    changed |= {f"extra.{i}": torch.zeros(1) for i in range(150)}
    document = info(capsys, save_pt(tmp_path / "x.pt", changed))
    assert document["lost"] == {"caption": list(CAPTION), "answer": [CAPTION[1]]}
    assert document["extra"]["count"] == 150
    assert len(document["extra"]["names"]) == 10
    assert document["build"] is not None


@pytest.mark.parametrize(
    ("problem", "key", "count"), [("missing", "missing", 2), ("other", "misshapen", 1)]
)
def test_what_does_not_fit_is_named_and_nothing_can_be_built(
    problem: str,
    key: str,
    count: int,
    tensors: dict[str, Tensor],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changed = {n: v for n, v in tensors.items() if problem != "missing" or NORM not in n}
    if problem == "other":
        changed[NORM + "bias"] = torch.full((3,), torch.nan)
    document = info(capsys, save_pt(tmp_path / "x.pt", changed))
    assert document[key]["count"] == count
    assert document["not_finite"]["count"] == (problem == "other")
    assert "does not fit the network" in document["problem"]
    assert document["build"] is None


def test_other_networks_are_named(
    tensors: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seem = {**tensors, PREDICTOR + "pn_indicator.weight": torch.zeros(2, 32)}
    document = info(capsys, save_pt(tmp_path / "x.pt", seem))
    assert document["network"] == "SEEM"
    assert document["build"] is None


def test_our_own_checkpoint_is_told_by_its_header(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ours.safetensors"
    save_checkpoint(path, XDecoder(small_config()))
    document = info(capsys, path)
    assert document["network"].endswith("a checkpoint of xdecoder_rt")
    assert document["build"] is not None


def test_a_web_page_is_an_error_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(b"<html><title>Sign in</title></html>")
    for arguments in (["info", str(path)], ["convert", str(path), str(tmp_path / "y")]):
        assert main(arguments) == 1
        output = capsys.readouterr()
        assert output.err.startswith(
            "error: x.pt cannot be read as weights alone: it is a web page"
        )
        assert output.err.count("\n") == 1
        assert len(output.err) <= 300
    assert os.listdir(tmp_path) == ["x.pt"]


def test_the_tensors_are_taken_alone_without_running_anything(
    tensors: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = {
        "module": {f"module.model.{name}": value.half() for name, value in tensors.items()},
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}},
        "args": argparse.Namespace(lr=1e-4),
    }
    path, output = save_pt(tmp_path / "x.pt", saved), tmp_path / "x.safetensors"
    assert main(["convert", str(path), str(output)]) == 0
    told = capsys.readouterr()
    assert "argparse.Namespace" in told.err
    assert f"{len(tensors)} tensors" in told.out
    written = load_file(output)
    assert written.keys() == tensors.keys()
    assert all(torch.equal(written[name], value.half()) for name, value in tensors.items())
    assert sorted(os.listdir(tmp_path)) == ["x.pt", "x.safetensors"]
    assert info(capsys, output)["build"] is not None


def test_an_output_that_cannot_be_written_is_told_and_the_input_is_safe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_pt(tmp_path / "x.pt", {"x": torch.zeros(3)})
    before = path.read_bytes()
    for output in (path, tmp_path / "none" / "x.safetensors", tmp_path):
        assert main(["convert", str(path), str(output)]) == 1
        assert capsys.readouterr().err.startswith("error: ")
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.pt"]
