"""What the library says reaches everyone who listens, and a report of layers costs no engine."""

from __future__ import annotations

import gc
from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest
from onnx import ModelProto

from xdecoder_rt.backends.tensorrt.log import listen
from xdecoder_rt.export.tensorrt import engine
from xdecoder_rt.export.tensorrt.log import BuildLog


class Severity(Enum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3


def library() -> Any:
    class ILogger:
        pass

    return SimpleNamespace(ILogger=ILogger)


class Ear:
    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def hear(self, severity: str, message: str) -> None:
        self.heard.append((severity, message))


def test_one_logger_serves_everyone_who_listens_to_a_library() -> None:
    module, first, second = library(), Ear(), Ear()
    logger = listen(module, first)
    assert listen(module, second) is logger
    log = BuildLog(module)
    assert log.logger is logger
    logger.log(Severity.ERROR, "no  room")
    assert first.heard == second.heard == [("ERROR", "no  room")]
    assert log.errors() == "no room"


def test_who_is_gone_hears_nothing_and_is_not_held() -> None:
    module, first, second = library(), Ear(), Ear()
    logger = listen(module, first)
    listen(module, second)
    del first
    gc.collect()
    logger.log(Severity.WARNING, "late")
    assert second.heard == [("WARNING", "late")]


def test_libraries_have_loggers_of_their_own() -> None:
    ear, other = Ear(), Ear()
    listen(library(), ear).log(Severity.INFO, "one")
    listen(library(), other)
    assert (ear.heard, other.heard) == ([("INFO", "one")], [])


def test_a_report_of_layers_that_is_unknown_costs_the_report_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = library()
    log = BuildLog(module)
    log.layers = "Layers: in another form"

    def unknown(*_: object) -> None:
        raise KeyError("Inputs")

    monkeypatch.setattr(engine.layer_reports, "from_log", unknown)
    toolchain: Any = SimpleNamespace(library=SimpleNamespace(module=module), release="TensorRT 99")
    with pytest.warns(RuntimeWarning, match="TensorRT 99 describes the layers"):
        assert engine._layers(b"engine", ModelProto(), toolchain, log) == []
