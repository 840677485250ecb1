"""A plan that is cut off or written over while it is in use ends in results or in our errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# What happens to the file, and what is asked before it and after it. An error of ours is an answer;
# a signal, or an error of anyone else, is none.
CHILD = """
import os, sys
import numpy as np
from xdecoder_rt import Engine, Plan
from xdecoder_rt.errors import XDecoderError
from xdecoder_rt.export.repack import repack_portable
from xdecoder_rt.words.carried import carry
from xdecoder_rt.words.vocabulary import Vocabulary

path, backend, damage, cache = sys.argv[1:5]
size = os.path.getsize(path)
image = np.zeros((64, 64, 3), np.uint8)

def strike():
    if damage == "cut off":
        os.truncate(path, 100)
    elif damage == "emptied":
        os.truncate(path, 0)
    else:
        with open(path, "r+b") as file:
            file.write(bytes(size))

def asked(*calls):
    for call in calls:
        try:
            call()
        except XDecoderError as error:
            print(type(error).__name__)
        else:
            print("a result")

with Plan.open(path, verify=True) as plan, Engine(path, backend, cache_dir=cache) as fresh:
    with Engine(path, backend, cache_dir=cache) as used:
        used.segment(image, ["mug"])
        strike()
        asked(
            lambda: used.segment(image, ["mug"]),
            lambda: used.segment(image, ["another"]),
            lambda: used.refer(image, ["the mug"]),
            lambda: used.segment(np.zeros((32, 96, 3), np.uint8), ["mug"]),
            lambda: used.caption(image),
            lambda: fresh.segment(image, ["mug"]),
            lambda: [plan.read(name) for name in plan.names],
            lambda: [plan.graph(name) for name in plan.manifest.graphs.members()],
            plan.verify,
        )
asked(
    lambda: repack_portable(path, path + ".copy"),
    lambda: carry(path, path + ".copy", "words", Vocabulary.parse(["mug"]), np.zeros((2, 16))),
    lambda: Engine(path, backend, cache_dir=cache),
)
"""


@pytest.mark.parametrize("damage", ["cut off", "emptied", "written over"])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_plan_changed_in_place_is_an_error_and_no_signal(
    tiny_plan: Path, tmp_path: Path, backend: str, damage: str
) -> None:
    pytest.importorskip(backend)
    path = tmp_path / "model.plan"
    path.write_bytes(tiny_plan.read_bytes())
    child = subprocess.run(
        [sys.executable, "-c", CHILD, path, backend, damage, tmp_path / "cache"],
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr
    answers = child.stdout.split("\n")[:-1]
    assert answers[:2] == ["a result", "a result"], "what was loaded before goes on"
    assert answers[5:] == ["PlanError"] * 7, "what is read afterwards is refused"


OPENINGS = """
import os, sys, threading
import numpy as np
from xdecoder_rt import Engine
from xdecoder_rt.errors import XDecoderError

path, backend, cache = sys.argv[1:4]
whole = open(path, "rb").read()
image = np.zeros((64, 64, 3), np.uint8)
rng = np.random.default_rng(0)

def toggle():
    while not over.wait(rng.uniform(0, 0.01)):
        os.truncate(path, int(rng.integers(len(whole))))
        with open(path, "r+b") as file:
            file.write(whole)

over = threading.Event()
thread = threading.Thread(target=toggle)
thread.start()
outcomes = set()
try:
    for _ in range(12):
        try:
            with Engine(path, backend, cache_dir=cache) as engine:
                engine.segment(image, ["mug"])
                outcomes.add("a result")
        except XDecoderError as error:
            outcomes.add(type(error).__name__)
finally:
    over.set()
    thread.join()
print(*sorted(outcomes), sep=", ")
"""


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_plan_that_is_rewritten_while_it_is_opened_is_an_error_or_whole(
    tiny_plan: Path, tmp_path: Path, backend: str
) -> None:
    pytest.importorskip(backend)
    path = tmp_path / "model.plan"
    path.write_bytes(tiny_plan.read_bytes())
    child = subprocess.run(
        [sys.executable, "-c", OPENINGS, path, backend, tmp_path / "cache"],
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr
    assert set(child.stdout.strip().split(", ")) <= {"PlanError", "a result"}
