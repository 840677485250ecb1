"""The command ``serve``: a process that listens, is asked, and ends in order."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from command_line import save_picture

ROOT = Path(__file__).resolve().parents[2]
WORDS = ["mug", "robot arm"]


@pytest.fixture(scope="module")
def command(tiny_plan: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    cache = tmp_path_factory.mktemp("cache")
    return [
        *(sys.executable, "-m", "xdecoder_rt.cli", "serve", str(tiny_plan), "--port", "0"),
        *("--backend", "onnxruntime", "--threads", "1", "--cache-dir", str(cache)),
    ]


def started(command: list[str]) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("serving at http://127.0.0.1:"), process.stderr and process.stderr.read()
    return process, line.split()[-1]


@pytest.fixture(scope="module")
def address(command: list[str]) -> Iterator[str]:
    process, address = started([*command, "--max-mib", "1"])
    yield address
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "ended\n", "")


def test_the_client_of_the_examples_asks_and_prints(address: str, tmp_path: Path) -> None:
    photo = save_picture(tmp_path / "photo.png")
    script = ROOT / "examples" / "client.py"
    asked = [sys.executable, str(script), address, str(photo), "--words", *WORDS]
    done = subprocess.run(asked, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(line.startswith(f"{photo}: ") for line in done.stdout.splitlines())
    asked[3] = str(tmp_path / "text.png")
    Path(asked[3]).write_text("hello")
    refused = subprocess.run(asked, capture_output=True, text=True)
    assert refused.returncode == 1 and "RuntimeError: 400: " in refused.stderr


@pytest.mark.slow  # thirty seconds of waiting
def test_a_client_that_never_ends_its_request_is_let_go_and_others_are_answered(
    address: str, command: list[str]
) -> None:
    host, port = address.removeprefix("http://").split(":")
    with closing(socket.create_connection((host, int(port)))) as slow:
        slow.sendall(
            b"POST /v1/segment HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000\r\n\r\n{"
        )
        with urlopen(f"{address}/healthz") as answer:
            assert json.load(answer) == {"status": "alive"}
        slow.settimeout(90)
        head = slow.recv(4096)
    assert head.startswith(b"HTTP/1.1 408 ")


def test_an_endless_body_is_cut_off_at_the_bound(address: str) -> None:
    host, port = address.removeprefix("http://").split(":")
    with closing(socket.create_connection((host, int(port)))) as rude:
        rude.settimeout(30)
        rude.sendall(
            b"POST /v1/segment HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        block = b"10000\r\n" + b"A" * 0x10000 + b"\r\n"
        try:
            for _ in range(64):
                rude.sendall(block)
        except OSError:
            pass
        answer = b""
        try:
            answer = rude.recv(4096)
        except ConnectionResetError:
            return  # cut off while it was still sending
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_sigterm_lets_a_running_request_end(command: list[str], tmp_path: Path) -> None:
    process, address = started(command)
    photo = save_picture(tmp_path / "photo.png").read_bytes()
    body = json.dumps({"image": base64.b64encode(photo).decode(), "caption": True})
    request = Request(
        f"{address}/v1/run", body.encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(lambda: urlopen(request, timeout=120).status)
        while not metric(address, "xdecoder_rt_busy") and not answer.done():
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        assert answer.result() == 200
    assert process.wait(timeout=60) == 0


def metric(address: str, name: str) -> float:
    with urlopen(f"{address}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def refused(command: list[str], **environment: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=120
    )
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_other_machines_need_a_token(command: list[str]) -> None:
    assert "XDECODER_RT_TOKEN" in refused([*command, "--host", "0.0.0.0"])
    assert "at least 16 characters" in refused(command, XDECODER_RT_TOKEN="short")


def test_a_port_that_is_in_use_is_told(command: list[str]) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert "Nobody can listen at" in refused([*command, "--port", str(port)])


def test_a_plan_that_is_none_is_told(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "bad.plan").write_bytes(b"hello")
    assert "error: " in refused([*command[:4], str(tmp_path / "bad.plan")])
    assert "Two plans have the name" in refused([*command, command[4]])
