"""Compiled models are read back only as this user wrote them."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xdecoder_rt import Engine
from xdecoder_rt.backends.blobs import ModelBlobs
from xdecoder_rt.errors import PlanError
from xdecoder_rt.plan.file import Plan
from xdecoder_rt.plan.plan_graph import PlanGraph

pytest.importorskip("openvino", reason="needs the extra openvino")


def embed(plan: Path, cache: Path) -> np.ndarray:
    with Engine(plan, backend="openvino", threads=1, cache_dir=cache) as engine:
        return engine.embed_text(["a mug"])


def kept(cache: Path) -> list[Path]:
    return sorted(cache.glob("openvino/*/*.blob"))


KEY, OTHER = "1" * 64, "2" * 64


@pytest.fixture
def blobs(tmp_path: Path) -> ModelBlobs:
    """A folder with one model."""
    kept = ModelBlobs(tmp_path / "cache", "library", "graphs/vision.onnx")
    kept.write(KEY, ["x"], ["y", "z"], b"compiled")
    return kept


def place(tmp_path: Path, key: str = KEY) -> Path:
    return tmp_path / "cache/library/graphs_vision_onnx" / f"{key}.blob"


def test_what_was_written_is_read(blobs: ModelBlobs, tmp_path: Path) -> None:
    blob = blobs.read(KEY)
    assert blob is not None and bytes(blob.model) == b"compiled"
    assert (blob.inputs, blob.outputs) == (("x",), ("y", "z"))
    folder = place(tmp_path).parent
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, folder.parent)} == {0o700}
    assert blobs.read(OTHER) is None


def test_weights_lie_where_they_would_in_a_file_of_their_own(
    blobs: ModelBlobs, tmp_path: Path
) -> None:
    assert place(tmp_path).read_bytes().index(b"compiled") % 4096 == 0


@pytest.mark.parametrize(
    "change", ["bytes", "head", "cut", "empty", "swapped", "planted", "link", "second name", "mode"]
)
def test_what_is_not_as_it_was_written_is_removed(
    blobs: ModelBlobs, tmp_path: Path, change: str
) -> None:
    path = place(tmp_path)
    whole = path.read_bytes()
    if change == "bytes":
        path.write_bytes(whole.replace(b"compiled", b"compileD"))
    elif change == "head":
        path.write_bytes(whole.replace(b'"z"', b'"x"'))
    elif change == "cut":
        path.write_bytes(whole[:-1])
    elif change == "empty":
        path.write_bytes(b"")
    elif change == "swapped":
        blobs.write(OTHER, ["x"], ["y", "z"], b"another")
        place(tmp_path, OTHER).replace(path)
    elif change == "planted":
        path.write_bytes(b"planted")
    elif change == "link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    elif change == "second name":
        os.link(path, tmp_path / "elsewhere")
    else:
        path.chmod(0o666)
    assert blobs.read(KEY) is None
    assert not path.is_symlink() and not path.exists()


@pytest.mark.parametrize("about", ["[]", '{"key": 1}', '{"key": "%s", "inputs": [1]}', "{", "\xff"])
def test_a_head_with_a_right_digest_that_nobody_here_wrote_is_refused(
    blobs: ModelBlobs, tmp_path: Path, about: str
) -> None:
    rest = about.replace("%s", KEY).encode("latin-1") + b"\ncompiled"
    place(tmp_path).write_bytes(hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)
    assert blobs.read(KEY) is None
    assert not place(tmp_path).exists()


def test_the_model_used_last_comes_first_and_the_oldest_of_many_go(blobs: ModelBlobs) -> None:
    keys = [f"3{number:063x}" for number in range(30)]
    for number, key in enumerate(keys):
        blobs.write(key, [], [], b"")
        os.utime(blobs._path(key), ns=(number, number))
    assert blobs.latest("3") == keys[-1]
    assert blobs.latest("4") is None
    blobs.note_use(keys[10])
    assert blobs.latest("3") == keys[10]
    blobs.write(OTHER, [], [], b"")
    kept = [key for key in (KEY, OTHER, *keys) if blobs.read(key) is not None]
    assert len(kept) == 24 and {KEY, OTHER} < set(kept)
    assert blobs.read(keys[10]) is not None


@pytest.mark.parametrize("folder", ["library", "library/graphs_vision_onnx"])
@pytest.mark.parametrize("change", ["link", "mode", "file"])
def test_a_folder_that_others_may_write_is_not_used_with_one_warning(
    blobs: ModelBlobs, tmp_path: Path, folder: str, change: str
) -> None:
    path = tmp_path / "cache" / folder
    if change == "mode":
        path.chmod(0o777)
    else:
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere") if change == "link" else path.write_text("file")
    with pytest.warns(RuntimeWarning, match="Compiled models are not kept") as caught:
        assert blobs.read(KEY) is None
        blobs.write(OTHER, [], [], b"")
    assert len(caught) == 1


def segment(plan: Path, cache: Path) -> np.ndarray:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    with Engine(plan, backend="openvino", threads=1, cache_dir=cache) as engine:
        return engine.segment(image, ["mug", "table"]).segmentation


def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every model that is read, and every one that is compiled, from now on."""
    import openvino

    found: list[str] = []
    for name in ("read_model", "compile_model"):
        method = getattr(openvino.Core, name)

        def note(*arguments: Any, _name: str = name, _method: Any = method, **named: Any) -> Any:
            found.append(_name)
            return _method(*arguments, **named)

        monkeypatch.setattr(openvino.Core, name, note)
    return found


def test_nothing_is_read_or_compiled_of_what_was_compiled_before(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = segment(tiny_plan, tmp_path)
    found = compilations(monkeypatch)
    np.testing.assert_array_equal(segment(tiny_plan, tmp_path), first)
    assert found == []


@pytest.mark.parametrize("change", ["library", "code", "processor", "cores", "settings"])
def test_what_was_compiled_with_anything_else_is_not_taken(
    change: str, tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openvino

    from xdecoder_rt.backends import kept as module

    segment(tiny_plan, tmp_path)
    if change == "library":
        monkeypatch.setattr(openvino, "__version__", "1.0")
    elif change == "code":
        monkeypatch.setattr(module, "_own_code", lambda: "other")
    elif change == "processor":
        monkeypatch.setattr(module, "_instructions", lambda: "avx1024")
    elif change == "cores":
        monkeypatch.setattr(module, "usable_cores", lambda: 3)
    found = compilations(monkeypatch)
    if change == "settings":
        with Engine(tiny_plan, backend="openvino", threads=2, cache_dir=tmp_path) as engine:
            engine.segment(np.zeros((64, 64, 3), np.uint8), ["mug", "table"])
    else:
        segment(tiny_plan, tmp_path)
    # Vision, decode, masks; the words are in the text cache.
    assert found.count("compile_model") == 3


def test_a_plan_with_other_weights_is_not_served_what_was_compiled(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Plan.open(tiny_plan) as plan:
        graph = PlanGraph(plan, next(iter(plan.manifest.graphs.vision.values())))
        digest = graph.digest()
        assert digest == graph.digest()
        others = [PlanGraph(plan, name).digest() for name in plan.manifest.graphs.members()]
    assert others.count(digest) == 1


def test_a_damaged_plan_is_refused_though_its_graphs_were_compiled(
    tiny_plan: Path, tmp_path: Path
) -> None:
    segment(tiny_plan, tmp_path)
    damaged = tmp_path / "damaged.plan"
    with Plan.open(tiny_plan) as plan:
        name = plan.manifest.graphs.vision["64x64"]
        members = (name, *plan.manifest.weights.get(name, ()))
        middle = plan._members[members[-1]].offset + plan._members[members[-1]].size // 2
    data = bytearray(tiny_plan.read_bytes())
    data[middle] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(PlanError, match="damaged"):
        segment(damaged, tmp_path)


def test_a_damaged_model_is_compiled_again(tiny_plan: Path, tmp_path: Path) -> None:
    first = embed(tiny_plan, tmp_path)
    assert kept(tmp_path)
    for path in kept(tmp_path):
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:-100] + b"\xff" * 100)
    damaged = [path.read_bytes() for path in kept(tmp_path)]
    for path in tmp_path.glob("*.sqlite*"):
        path.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(embed(tiny_plan, tmp_path), first)
    assert all(path.read_bytes() not in damaged for path in kept(tmp_path))


def test_models_that_are_as_they_were_are_not_written_again(
    tiny_plan: Path, tmp_path: Path
) -> None:
    embed(tiny_plan, tmp_path)
    times = [path.stat().st_mtime_ns for path in kept(tmp_path)]
    for path in tmp_path.glob("*.sqlite*"):
        path.unlink()
    embed(tiny_plan, tmp_path)
    assert [path.stat().st_mtime_ns for path in kept(tmp_path)] == times


SEGMENT = """
import sys
import numpy as np
from xdecoder_rt import Engine
with Engine(sys.argv[1], backend="openvino", threads=1, cache_dir=sys.argv[2]) as engine:
    engine.segment(np.zeros((64, 64, 3), np.uint8), ["mug"])
print("done")
"""


CUT_OFF = """
import pathlib, sys
import numpy as np
from xdecoder_rt import Engine
image = np.zeros((64, 64, 3), np.uint8)
with Engine(sys.argv[1], "openvino", threads=1, cache_dir=sys.argv[2]) as engine:
    engine.segment(image, ["mug"])
    for path in pathlib.Path(sys.argv[2]).glob("openvino/*/*.blob"):
        with path.open("r+b") as file:
            file.truncate(0)
    engine.segment(image, ["mug", "another"])
    engine.caption(image, max_tokens=3)
print("done")
"""


def test_a_compiled_model_that_is_cut_off_while_in_use_does_not_end_the_process(
    tiny_plan: Path, tmp_path: Path
) -> None:
    with Engine(tiny_plan, "openvino", threads=1, cache_dir=tmp_path) as engine:
        engine.segment(np.zeros((64, 64, 3), np.uint8), ["mug"])
    assert kept(tmp_path)
    child = subprocess.run(
        [sys.executable, "-c", CUT_OFF, tiny_plan, tmp_path], capture_output=True, text=True
    )
    assert child.stdout == "done\n", (child.returncode, child.stderr)


@pytest.mark.parametrize("mode", [0o600, 0o500, 0o000])
@pytest.mark.parametrize("place", ["", "openvino"])
def test_a_folder_without_permissions_is_one_warning_and_no_end(
    tiny_plan: Path, tmp_path: Path, place: str, mode: int
) -> None:
    command = [sys.executable, "-W", "always", "-c", SEGMENT, str(tiny_plan), str(tmp_path / "c")]
    if os.geteuid() == 0:  # to whom permissions say nothing, but for these
        if shutil.which("setpriv") is None:
            pytest.skip("root needs setpriv to be refused anything")
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    folder = tmp_path / "c" / place
    folder.mkdir(parents=True, mode=0o700)
    (tmp_path / "c").chmod(0o700)
    folder.chmod(mode)
    try:
        child = subprocess.run(command, capture_output=True, text=True)
    finally:
        folder.chmod(0o700)
    assert child.stdout == "done\n", (child.returncode, child.stderr)
    assert child.stderr.count("RuntimeWarning") == 1, child.stderr
