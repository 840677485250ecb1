"""A pytest plugin: writes outcomes as they come, and lets tests run on a machine that lacks much.

What lacks a package of others is skipped with its name. Where hypothesis is missing, so are the
tests that it would feed, and no others. Loaded by :mod:`gpu.tests` with ``-p``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

MISSING = re.compile(r"No module named '([A-Za-z0-9_]+)")
OWN = ("xdecoder_rt", "gpu", "kernels", "fake_cuda")


class _Anything:
    """Takes part in whatever builds strategies and settings."""

    def __call__(self, *_: Any, **__: Any) -> _Anything:
        return self

    def __getattr__(self, name: str) -> _Anything:
        return self


class _Settings(_Anything):
    """``settings(...)`` as a decorator changes nothing."""

    def __call__(self, *given: Any, **_: Any) -> Any:
        is_test = len(given) == 1 and callable(given[0]) and not isinstance(given[0], _Anything)
        return given[0] if is_test else self


def _given(*_: Any, **__: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def skipped(test: Callable[..., Any]) -> Callable[..., Any]:
        def stand_in() -> None:
            pytest.skip("lacks hypothesis")

        # Marks outside of @given are added to what is returned here, those inside to the test.
        stand_in.pytestmark = [  # type: ignore[attr-defined]
            mark for mark in getattr(test, "pytestmark", []) if mark.name != "parametrize"
        ]
        stand_in.__name__ = test.__name__
        return stand_in

    return skipped


def _without_hypothesis() -> None:
    """A module of that name whose ``@given`` skips."""
    module, strategies = ModuleType("hypothesis"), ModuleType("hypothesis.strategies")
    anything = _Anything()
    strategies.__getattr__ = lambda name: anything  # type: ignore[method-assign]
    settings = _Settings()
    parts = {"given": _given, "settings": settings, "strategies": strategies}
    for name, part in {**parts, "HealthCheck": anything, "assume": anything}.items():
        setattr(module, name, part)
    module.__getattr__ = lambda name: anything  # type: ignore[method-assign]
    sys.modules |= {"hypothesis": module, "hypothesis.strategies": strategies}


def _fake_cuda() -> ModuleType:
    """The tests' package of that name, by its path, as their top conftest.py registers it."""
    path = Path(__file__).parents[1] / "tests" / "support" / "fake_cuda" / "__init__.py"
    spec = importlib.util.spec_from_file_location("fake_cuda", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules["fake_cuda"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if importlib.util.find_spec("hypothesis") is None:
    _without_hypothesis()
_package = _fake_cuda()
fake_cuda, fake_driver = _package.fake_cuda, _package.fake_driver


def lacking(text: str) -> str | None:
    """The package of others that an error says is missing."""
    found = [name for name in MISSING.findall(text) if name not in OWN]
    return found[-1] if found else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Skip where a package is missing."""
    report: pytest.TestReport = yield
    if call.excinfo is not None and call.excinfo.errisinstance(ImportError):
        _skipped(report, str(call.excinfo.value))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Any:
    """Skip a module whose imports are missing."""
    report: pytest.CollectReport = yield
    if report.failed:
        _skipped(report, str(report.longrepr))
    return report


def _skipped(report: Any, text: str) -> None:
    name = lacking(text)
    if report.failed and name:
        report.outcome = "skipped"
        report.longrepr = ("", 0, f"Skipped: lacks {name}")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the outcome of a test: of its call, or of a setup or teardown that went wrong."""
    if report.when == "call" or not report.passed:
        _keep(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Keep a module that could not be imported, or was skipped as a whole."""
    if not report.passed:
        _keep(report)


def _keep(report: Any) -> None:
    # Workers' reports come here from the process that started them.
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    record = {"test": report.nodeid, "outcome": report.outcome, "reason": _reason(report)}
    with open(os.environ["GPU_RUNBOOK_OUTCOMES"], "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def _reason(report: Any) -> str:
    if report.passed:
        return ""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    said = str(report.longrepr)
    # Of several errors, as hypothesis groups them, each on a line of its own.
    errors = re.findall(r"^E? *[|+ ]*([\w.]*(?:Error|Exception)\b.*)$", said, re.MULTILINE)
    errors = errors or re.findall(r"^E +(.+)$", said, re.MULTILINE)
    return "; ".join(dict.fromkeys(errors or said.splitlines() or ["no reason"]))[:400]
