"""What tests of commands start from: an image, the tiny plan, a cache of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Run, save_picture

from xdecoder_rt.cli import main


@pytest.fixture(autouse=True)
def text_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.getbasetemp() / "cli_cache"
    monkeypatch.setenv("XDECODER_RT_CACHE", str(folder))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return save_picture(tmp_path / "photo.png")


@pytest.fixture
def on_tiny_plan(tiny_plan: Path) -> Callable[..., Run]:
    """Makes a command with the tiny plan and one thread: ``on_tiny_plan("refer")(photo, ...)``."""

    def command(name: str, *options: str) -> Run:
        def run(*arguments: object) -> int:
            texts = [str(argument) for argument in arguments]
            return main([name, *texts, "--plan", str(tiny_plan), "--threads", "1", *options])

        return run

    return command
