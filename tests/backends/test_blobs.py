"""Compiled models are read back only as this user wrote them."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from xdecoder_rt import Engine
from xdecoder_rt.backends.blobs import ModelBlobs

pytest.importorskip("openvino", reason="needs the extra openvino")


def embed(plan: Path, cache: Path) -> np.ndarray:
    with Engine(plan, backend="openvino", threads=1, cache_dir=cache) as engine:
        return engine.embed_text(["a mug"])


def kept(cache: Path) -> list[Path]:
    return sorted(cache.glob("openvino/*/*.blob"))


@pytest.fixture
def blobs(tmp_path: Path) -> ModelBlobs:
    """A folder in which a library has left one model."""
    kept = ModelBlobs(tmp_path / "cache", "library", "graphs/vision.onnx", 7)
    folder = kept.folder()
    assert folder is not None
    (folder / "1.blob").write_bytes(b"compiled")
    kept.seal()
    return kept


def test_what_was_listed_stays(blobs: ModelBlobs) -> None:
    folder = blobs.folder()
    assert folder is not None and (folder / "1.blob").read_bytes() == b"compiled"
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, folder.parent)} == {0o700}


@pytest.mark.parametrize("change", ["bytes", "swapped", "unlisted", "link", "second name", "mode"])
def test_what_is_not_as_it_was_listed_is_removed(
    blobs: ModelBlobs, tmp_path: Path, change: str
) -> None:
    folder = blobs.folder()
    assert folder is not None
    path = folder / "1.blob"
    if change == "bytes":
        path.write_bytes(b"compileD")
    elif change == "swapped":
        (folder / "2.blob").write_bytes(b"another")
        blobs.seal()
        (folder / "2.blob").replace(path)
    elif change == "unlisted":
        path = folder / "2.blob"
        path.write_bytes(b"planted")
    elif change == "link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    elif change == "second name":
        os.link(path, tmp_path / "elsewhere")
    else:
        path.chmod(0o666)
    assert blobs.folder() == folder
    assert not path.is_symlink() and not path.exists()


@pytest.mark.parametrize("place", ["library", "library/graphs_vision_onnx-7"])
@pytest.mark.parametrize("change", ["link", "mode", "file"])
def test_a_folder_that_others_may_write_is_not_used_with_one_warning(
    blobs: ModelBlobs, tmp_path: Path, place: str, change: str
) -> None:
    path = tmp_path / "cache" / place
    if change == "mode":
        path.chmod(0o777)
    else:
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere") if change == "link" else path.write_text("file")
    with pytest.warns(RuntimeWarning, match="Compiled models are not kept") as caught:
        assert blobs.folder() is None
        assert blobs.folder() is None
    assert len(caught) == 1


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
