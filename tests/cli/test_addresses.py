"""Commands that take a checkpoint by its address, from the shell's environment to the plan."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="files of weights need the extra export")

from command_line import the_error
from file_server import FileServer, Served, serving
from published_layouts import published_tensors, save_pt

from xdecoder_rt.cli import main
from xdecoder_rt.engine import Engine
from xdecoder_rt.plan.file import Plan

ADDRESS = "hf://xdecoder/X-Decoder/tiny.pt"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A published file a few numbers wide."""
    folder = tmp_path_factory.mktemp("weights")
    return save_pt(folder / "tiny.pt", {"model": published_tensors()}).read_bytes()


@pytest.fixture
def server(weights: bytes) -> Iterator[FileServer]:
    with serving() as server:
        server.hub("xdecoder/X-Decoder/tiny.pt", weights)
        yield server


def command(
    server: FileServer, folder: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command whose environment alone says where the hub and the caches are."""
    dropped = ("HF_", "HUGGING", "XDG_CACHE_HOME")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    places = {
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(folder / "hf"),
        "XDECODER_RT_CACHE": str(folder / "cache"),
        "HF_TOKEN": "hf_topsecret",
        "NO_PROXY": "127.0.0.1,localhost",
        "PYTHONWARNINGS": "ignore",
    }
    return subprocess.run(
        [sys.executable, "-m", "xdecoder_rt.cli", *arguments],
        cwd=folder,
        env={**kept, **places, **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_a_published_file_of_the_hub_becomes_a_plan(
    server: FileServer, weights: bytes, tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript", reason="building a plan needs the extra export")
    digest = hashlib.sha256(weights).hexdigest()
    plan = tmp_path / "tiny.plan"
    address = f"{ADDRESS}#sha256={digest}"
    options = ["--size", "64x64", "--tasks", "segment", "-o", str(plan), "--json"]
    built = command(server, tmp_path, "build", "--checkpoint", address, *options)
    assert built.returncode == 0, built.stderr
    summary = json.loads(built.stdout)
    assert (summary["family"], summary["sizes"]) == ("published", [[64, 64]])
    assert f"tiny.pt has the SHA-256 {digest}" in built.stderr
    assert "topsecret" not in built.stderr + built.stdout
    assert (tmp_path / "hf/hub/models--xdecoder--X-Decoder/blobs" / digest).is_file()
    with Plan.open(plan, verify=True) as opened:
        assert opened.manifest.input.sizes == ((64, 64),)
    frame = np.zeros((64, 64, 3), np.uint8)
    with Engine(plan, cache_dir=tmp_path / "cache") as engine:
        assert engine.segment(frame, ["mug", "table"]).segmentation.shape == (64, 64)


def test_info_and_convert_take_an_address_and_then_the_cache(
    server: FileServer, weights: bytes, tmp_path: Path
) -> None:
    told = command(server, tmp_path, "info", ADDRESS, "--json")
    assert told.returncode == 0, told.stderr
    document = json.loads(told.stdout)
    assert document["sha256"] == hashlib.sha256(weights).hexdigest()
    assert document["problem"] is None
    count = len(server.asked)
    target = tmp_path / "tiny.safetensors"
    converted = command(server, tmp_path, "convert", ADDRESS, str(target), HF_HUB_OFFLINE="1")
    assert converted.returncode == 0, converted.stderr
    assert target.is_file() and len(server.asked) == count


@pytest.fixture
def plain(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An address on a server that is no hub."""
    monkeypatch.setenv("XDECODER_RT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    return f"{server.url}/tiny.pt"


@pytest.mark.parametrize("name", ["build", "info", "convert", "train"])
def test_an_address_that_gives_no_file_of_weights_ends_every_command_in_one_line(
    server: FileServer,
    plain: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    server.files["/tiny.pt"] = Served(b"<!doctype html><title>Sign in</title>")
    target = str(tmp_path / "target")
    arguments = {
        "build": ["--checkpoint", plain, "-o", target],
        "info": [plain],
        "convert": [plain, target],
        "train": [str(tmp_path), "--init", plain, "--steps", "1", "-o", target],
    }[name]
    assert main([name, *arguments]) == 1
    error = the_error(capsys, after_progress=True)
    assert "a web page titled 'Sign in' came instead" in error and len(error) < 400
    assert not Path(target).exists()
    assert main([name, *arguments, "--offline"]) == 1
    assert "is not in the cache" in the_error(capsys)


def test_a_training_starts_from_an_address(
    server: FileServer, weights: bytes, plain: str, tmp_path: Path
) -> None:
    import argparse

    from xdecoder_rt.training.arguments import add_arguments, config_from_args

    server.files["/tiny.pt"] = Served(weights)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    config = config_from_args(parser.parse_args(["kitchen", "--init", plain, "--steps", "1"]))
    assert config.init is not None and config.init.read_bytes() == weights


def test_python_takes_an_address_where_it_takes_a_file(
    server: FileServer, weights: bytes, plain: str
) -> None:
    from xdecoder_rt.export.sources import load_model

    server.files["/tiny.pt"] = Served(weights)
    assert load_model(plain).config == load_model(Path(plain)).config
