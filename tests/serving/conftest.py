"""A service of the tiny plan, asked without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="serving needs the extra serve")
pytest.importorskip("prometheus_client", reason="serving needs the extra serve")
pytest.importorskip("httpx", reason="the test client needs httpx")

from command_line import save_picture
from fastapi.testclient import TestClient

from xdecoder_rt import Engine
from xdecoder_rt.serving.app import Service, make_app
from xdecoder_rt.serving.limits import Limits

ADDRESS = "http://localhost"


@pytest.fixture(scope="session")
def engine(tiny_plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    cache = tmp_path_factory.mktemp("cache")
    with Engine(tiny_plan, backend="onnxruntime", threads=1, cache_dir=cache) as opened:
        yield opened


@pytest.fixture
def limits() -> Limits:
    return Limits(body_bytes=1 << 20, pixels=1_000_000, kept=2, body_seconds=1.0)


@pytest.fixture
def service(engine: Engine, limits: Limits) -> Service:
    return Service({"tiny": engine, "other": engine}, limits)


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(make_app(service), base_url=ADDRESS) as opened:
        yield opened


@pytest.fixture
def photo(tmp_path: Path) -> bytes:
    return save_picture(tmp_path / "photo.png").read_bytes()
