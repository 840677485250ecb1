"""Names and commands of the version before work for one version more, and say where they are."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

import xdecoder_rt

NAMES = {
    "results": "Answer Caption Finding Output Ranking Reference Segmentation",
    "errors": "ArgumentError BackendError BuildError CheckpointError DatasetError ImageError "
    "MissingExtraError PlanError PlanVersionError VocabularyError",
}


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module in NAMES for name in NAMES[module].split()]
)
def test_a_name_that_was_at_the_top_is_still_found_there(module: str, name: str) -> None:
    place = f"xdecoder_rt.{module}.{name}"
    with pytest.warns(DeprecationWarning, match=f"xdecoder_rt.{name} is now {place}") as caught:
        value = getattr(xdecoder_rt, name)
    assert value is getattr(import_module(f"xdecoder_rt.{module}"), name)
    assert caught[0].filename == __file__


def test_what_the_package_offers_is_listed() -> None:
    offered = {"Engine", "Plan", "Tracker", "Vocabulary", "Word", "XDecoderError", "__version__"}
    assert set(xdecoder_rt.__all__) == offered <= set(dir(xdecoder_rt))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("models.parity", "parity"),
        ("training.scenes", "scenes"),
        ("training.scenes sheet", "training.sheet"),
    ],
)
def test_a_command_that_moved_runs_and_says_so_once(old: str, new: str) -> None:
    pytest.importorskip("torch", reason="the parent of the old command needs the extra export")
    module, *arguments = old.split()
    command = [sys.executable, "-m", f"xdecoder_rt.{module}", *arguments, "--help"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.startswith("usage: ")
    expected = f"python -m xdecoder_rt.{old} is now python -m xdecoder_rt.{new};"
    assert run.stderr.count(expected) == 1 == run.stderr.count("DeprecationWarning")
