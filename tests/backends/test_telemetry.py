"""Nothing reports on the user: no connection, no id in the home, whatever the environment says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ENCODE = """
import sys, time
import numpy as np
from xdecoder_rt import Engine
with Engine(sys.argv[1], backend=sys.argv[2], cache_dir=sys.argv[3]) as engine:
    engine.segment(np.zeros((64, 64, 3), np.uint8), ["mug"])
time.sleep(1)  # events are sent by threads
print("done")
"""
# Python sees a look-up that itself makes; the tracer below sees those of compiled code as well.
REFUSE = """
import os, socket
def refuse(*arguments, **options):
    os.write(2, f"NETWORK {arguments}\\n".encode())
    raise OSError("there is no network")
socket.getaddrinfo = socket.gethostbyname = socket.create_connection = refuse
socket.socket.connect = refuse
"""
ENVIRONMENTS = {
    "an empty one": {},
    "one that asks for telemetry": {"ORT_DISABLE_TELEMETRY": "0", "CI": ""},
}


def environment(home: Path, settings: dict[str, str]) -> dict[str, str]:
    home.mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return {**kept, "HOME": str(home), "TMPDIR": str(home.parent), **settings}


@pytest.mark.parametrize("settings", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_an_engine_asks_for_no_host_and_leaves_the_home_empty(
    tiny_plan: Path, tmp_path: Path, backend: str, settings: dict[str, str]
) -> None:
    pytest.importorskip(backend)
    home = tmp_path / "home"
    child = subprocess.run(
        [sys.executable, "-c", REFUSE + ENCODE, tiny_plan, backend, tmp_path / "cache"],
        env=environment(home, settings),
        capture_output=True,
        text=True,
    )
    assert child.stdout == "done\n", child.stderr
    assert "NETWORK" not in child.stderr
    assert list(home.rglob("*")) == []


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_no_system_call_of_an_engine_connects_or_writes_an_id(
    tiny_plan: Path, tmp_path: Path, backend: str
) -> None:
    pytest.importorskip(backend)
    home, trace = tmp_path / "home", tmp_path / "trace"
    tracer = ["strace", "-f", "-qq", "-e", "trace=network,openat,mkdir", "-o", str(trace)]
    child = subprocess.run(
        [*tracer, sys.executable, "-c", ENCODE, tiny_plan, backend, tmp_path / "cache"],
        env=environment(home, ENVIRONMENTS["one that asks for telemetry"]),
        capture_output=True,
        text=True,
    )
    if "Operation not permitted" in child.stderr:
        pytest.skip("this machine allows no tracer")
    assert child.stdout == "done\n", child.stderr
    calls = trace.read_text(errors="replace").splitlines()
    assert len(calls) > 100  # it did trace
    written = re.compile(
        re.escape(str(home)) + r".*(O_CREAT|O_WRONLY|O_RDWR)|mkdir\(\"" + str(home)
    )
    assert [call for call in calls if "AF_INET" in call or written.search(call)] == []


def test_what_was_imported_before_is_told_to_stop(tmp_path: Path) -> None:
    code = (
        "import onnxruntime as ort\n"
        "said = []\n"
        "ort.disable_telemetry_events = lambda: said.append('off')\n"
        "from xdecoder_rt.backends.onnxruntime import OnnxRuntimeBackend\n"
        "OnnxRuntimeBackend()\n"
        "print(*said)"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert child.stdout == "off\n", child.stderr


def test_hiding_the_telemetry_leaves_the_packages_of_others(tmp_path: Path) -> None:
    pytest.importorskip("openvino_telemetry")
    code = (
        "import sys, openvino_telemetry as before\n"
        "from xdecoder_rt.backends.openvino import OpenVINOBackend\n"
        "OpenVINOBackend()\n"
        "import openvino_telemetry as after\n"
        "print(before is after, before.main is sys.modules['openvino_telemetry.main'])"
    )
    home = tmp_path / "home"
    child = subprocess.run(
        [sys.executable, "-c", code], env=environment(home, {}), capture_output=True, text=True
    )
    assert child.stdout == "True True\n", child.stderr
    assert list(home.rglob("*")) == []
