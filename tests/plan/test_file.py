"""A plan is written whole or not at all, reads back equal, and is what any ZIP tool can list."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.errors import BuildError, PlanError, PlanVersionError
from xdecoder_rt.plan import file as plan_module
from xdecoder_rt.plan.archive import MEMBER_ALIGNMENT
from xdecoder_rt.plan.file import Plan, write_plan
from xdecoder_rt.plan.manifest import Manifest, MemberInfo

SAMPLE = Path(__file__).parents[1] / "data" / "manifest.json"


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return Manifest.from_json(SAMPLE.read_bytes())


@pytest.fixture(scope="module")
def members(manifest) -> dict[str, bytes]:
    return {
        name: bytes(info.size)  # the digest is in the name
        if name.startswith("weights/")
        else bytes((position * 7 + index) % 251 for position in range(info.size))
        for index, (name, info) in enumerate(manifest.members.items())
    }


@pytest.fixture
def plan_path(tmp_path, manifest, members) -> Path:
    path = tmp_path / "model.plan"
    write_plan(path, manifest, members)
    return path


# --- reading back ---------------------------------------------------------------------------------


def test_what_is_written_is_read(plan_path, manifest, members):
    with Plan.open(plan_path, verify=True) as plan:
        assert set(plan.names) == set(members)
        for name, data in members.items():
            assert plan.read(name) == data == b"".join(plan.chunks(name))
            assert plan.manifest.members[name].size == len(data)
        assert dataclasses.replace(plan.manifest, members={}) == dataclasses.replace(
            manifest, members={}
        )


def test_write_plan_returns_the_manifest_of_the_file(tmp_path, manifest, members):
    written = write_plan(tmp_path / "model.plan", manifest, members)
    with Plan.open(tmp_path / "model.plan") as plan:
        assert plan.manifest == written
        assert all(isinstance(info, MemberInfo) for info in written.members.values())


def test_a_closed_plan_reads_nothing(plan_path):
    plan = Plan.open(plan_path)
    chunks = plan.chunks("text.onnx")
    plan.close()
    plan.close()
    for use in (
        plan.read,
        plan.graph,
        lambda name: next(plan.chunks(name)),
        lambda _: next(chunks),
    ):
        with pytest.raises(PlanError, match="closed"):
            use("text.onnx")


def test_a_member_in_parts_is_never_in_memory_whole(tmp_path, manifest, members):
    large = {**members, "text.onnx": bytes(32 << 20)}
    write_plan(tmp_path / "large.plan", manifest, large)
    with Plan.open(tmp_path / "large.plan") as plan:
        tracemalloc.start()
        copies = {name: partial(plan.chunks, name) for name in plan.names}
        write_plan(tmp_path / "copy.plan", plan.manifest, copies)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 << 20
    assert (tmp_path / "copy.plan").read_bytes() == (tmp_path / "large.plan").read_bytes()


def test_members_lie_on_64_byte_boundaries(plan_path):
    for member in _directory(plan_path).values():
        assert member.offset % MEMBER_ALIGNMENT == 0


def _directory(path: Path):
    with path.open("rb") as file:
        return plan_module.read_directory(file, path.stat().st_size)


def test_any_zip_tool_lists_it_and_finds_it_sound(plan_path, members):
    with zipfile.ZipFile(plan_path) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[0] == "manifest.json"
        assert {name: archive.read(name) for name in members} == members
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    if unzip := shutil.which("unzip"):
        listing = subprocess.run([unzip, "-l", plan_path], capture_output=True, text=True)
        assert listing.returncode == 0 and "manifest.json" in listing.stdout


def test_a_plan_repacked_by_another_zip_tool_opens(plan_path, tmp_path, members):
    repacked = tmp_path / "repacked.plan"
    with zipfile.ZipFile(plan_path) as old, zipfile.ZipFile(repacked, "w") as new:
        for name in reversed(old.namelist()):
            new.writestr(name, old.read(name))
    with Plan.open(repacked, verify=True) as plan:
        assert plan.read("text.onnx") == members["text.onnx"]


def test_the_same_content_gives_the_same_bytes(plan_path, tmp_path, manifest, members):
    sources = {}
    for name, data in members.items():
        sources[name] = tmp_path / name.replace("/", "-")
        sources[name].write_bytes(data)
    again = tmp_path / "again.plan"
    write_plan(again, dataclasses.replace(manifest, members={}), sources)
    assert again.read_bytes() == plan_path.read_bytes()


def test_opening_does_not_hash_and_the_first_use_does(plan_path, members):
    _flip(plan_path, _directory(plan_path)["text.onnx"].offset + 3)
    with Plan.open(plan_path) as plan:
        assert plan.read("tokenizer.json") == members["tokenizer.json"]
        for use in (plan.read, plan.graph, lambda name: list(plan.chunks(name))):
            with pytest.raises(PlanError, match=r"'text\.onnx' is damaged"):
                use("text.onnx")
    with pytest.raises(PlanError, match=r"'text\.onnx' is damaged"):
        Plan.open(plan_path, verify=True)


def _flip(path: Path, offset: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)


def test_a_member_that_is_not_there(plan_path):
    with Plan.open(plan_path) as plan:
        for name in ("no.onnx", "manifest.json", "../../etc/passwd"):
            with pytest.raises(PlanError, match="no member"):
                plan.read(name)


def test_many_threads_read_one_plan(plan_path, members):
    with Plan.open(plan_path) as plan, ThreadPoolExecutor(8) as pool:
        names = list(members) * 50
        for name, data in zip(names, pool.map(plan.read, names), strict=True):
            assert data == members[name]


def test_no_file_descriptor_is_left(plan_path, tmp_path):
    bad = tmp_path / "bad.plan"
    bad.write_bytes(plan_path.read_bytes()[:-5])
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else None
    if before is None:
        pytest.skip("needs /proc/self/fd to count open files")
    for _ in range(5):
        Plan.open(plan_path).close()
        with pytest.raises(PlanError):
            Plan.open(bad)
    assert len(os.listdir("/proc/self/fd")) == before


@given(
    contents=st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9._-]{0,20}(/[a-z][a-z0-9]{0,8})?", fullmatch=True),
        st.binary(max_size=300),
        max_size=8,
    )
)
@settings(max_examples=60, deadline=None)
def test_any_members_round_trip(contents, tmp_path_factory):
    manifest = Manifest.from_json(SAMPLE.read_bytes())
    needed = {name: b"graph" for name in manifest.members if not name.startswith("weights/")}
    manifest = dataclasses.replace(manifest, weights={})
    path = tmp_path_factory.mktemp("plan") / "any.plan"
    write_plan(path, manifest, needed | contents)
    with Plan.open(path, verify=True) as plan:
        assert {name: plan.read(name) for name in plan.names} == needed | contents


def test_members_beyond_4_gib_use_zip64(tmp_path, manifest, members, monkeypatch):
    # The same code with small limits: nobody wants a 4 GiB file in a test.
    monkeypatch.setattr("xdecoder_rt.plan.archive._MAX32", 600)
    path = tmp_path / "wide.plan"
    # 600 stands for 0xFFFFFFFF in 32-bit fields, so CRCs and names must stay out of its way.
    write_plan(path, manifest, members)
    with Plan.open(path, verify=True) as plan:
        assert plan.read("vision-512x512.onnx") == members["vision-512x512.onnx"]
    assert b"PK\x06\x06" in path.read_bytes()[-98:]


# --- the manifest ---------------------------------------------------------------------------------


def test_manifest_round_trip(manifest):
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert manifest.to_json() == Manifest.from_json(manifest.to_json()).to_json()
    assert json.loads(manifest.to_json()) == json.loads(SAMPLE.read_text())


def test_keys_of_a_later_release_are_ignored(manifest):
    document = json.loads(SAMPLE.read_text())
    document["invented"] = {"later": [1, 2, 3]}
    document["model"]["licence"] = "Apache-2.0"
    assert Manifest.from_json(json.dumps(document).encode()) == manifest


def test_a_plan_that_says_nothing_of_its_levels_has_the_three_of_before(manifest):
    assert manifest.decoder.level_strides == (32, 16)
    document = json.loads(SAMPLE.read_text())
    del document["decoder"]["level_strides"]
    assert Manifest.from_json(json.dumps(document).encode()).decoder.level_strides == (32, 16, 8)


def test_a_plan_that_says_nothing_of_pieces_keeps_every_mask_as_it_is(manifest):
    assert manifest.postprocess.piece_share == 0.2
    document = json.loads(SAMPLE.read_text())
    del document["postprocess"]["piece_share"]
    assert Manifest.from_json(json.dumps(document).encode()).postprocess.piece_share == 0.0
    for value in (-0.1, 1.5, "0.2", True, [0.2]):
        document["postprocess"]["piece_share"] = value
        with pytest.raises(PlanError, match="postprocess.piece_share"):
            Manifest.from_json(json.dumps(document).encode())


# --- writing, when something goes wrong -----------------------------------------------------------


@pytest.fixture
def old_plan(tmp_path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    path = folder / "model.plan"
    path.write_bytes(b"an older plan")
    return path


def _is_untouched(old_plan: Path) -> bool:
    only_it = [entry.name for entry in old_plan.parent.iterdir()] == [old_plan.name]
    return only_it and old_plan.read_bytes() == b"an older plan"


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_nothing_and_keeps_the_old_plan(
    old_plan, manifest, members, monkeypatch, step
):
    def fail(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    if step == "write":
        monkeypatch.setattr("xdecoder_rt.plan.archive.ArchiveWriter.close", fail)
    else:
        monkeypatch.setattr(f"xdecoder_rt.atomic.os.{step}", fail)
    with pytest.raises(BuildError, match="No space left") as caught:
        write_plan(old_plan, manifest, members)
    assert str(old_plan) in str(caught.value) and "nothing was left" in str(caught.value)
    assert _is_untouched(old_plan)


def test_a_real_limit_on_file_size(old_plan):
    """A child process may write 4 KiB to a file; the plan has more."""
    code = f"""
import resource, signal
from pathlib import Path
from xdecoder_rt.errors import BuildError
from xdecoder_rt.plan.manifest import Manifest
from xdecoder_rt.plan.file import write_plan
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
manifest = Manifest.from_json(Path({str(SAMPLE)!r}).read_bytes())
try:
    write_plan({str(old_plan)!r}, manifest, dict.fromkeys(manifest.members, bytes(3000)))
except BuildError as error:
    print(error)
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "could not be written: File too large" in child.stdout, child.stderr
    assert _is_untouched(old_plan)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, MemoryError])
def test_an_interruption_leaves_nothing(old_plan, manifest, members, monkeypatch, interruption):
    def interrupt(*_args):
        raise interruption

    monkeypatch.setattr("xdecoder_rt.plan.archive.ArchiveWriter.close", interrupt)
    with pytest.raises(interruption):
        write_plan(old_plan, manifest, members)
    assert _is_untouched(old_plan)


def test_places_where_no_plan_can_be_written(tmp_path, manifest, members):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "missing" / "model.plan", Path("/dev/null")):
        with pytest.raises(BuildError, match="could not be written"):
            write_plan(path, manifest, members)
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_an_unwritable_directory(old_plan, manifest, members, monkeypatch):
    def refuse(*_args):
        raise PermissionError(errno.EACCES, "Permission denied")

    # Faked, because a test run as root may write anywhere.
    monkeypatch.setattr("xdecoder_rt.atomic.os.open", refuse)
    with pytest.raises(BuildError, match="could not be written: Permission denied"):
        write_plan(old_plan, manifest, members)
    assert _is_untouched(old_plan)


def test_a_source_file_that_is_missing_or_changes(tmp_path, manifest, members, monkeypatch):
    path = tmp_path / "model.plan"
    with pytest.raises(BuildError):
        write_plan(path, manifest, members | {"text.onnx": tmp_path / "none"})
    source = tmp_path / "text.onnx"
    source.write_bytes(b"before")
    original = plan_module.ArchiveWriter.__init__

    def change(self, file):
        source.write_bytes(b"afterwards")
        original(self, file)

    monkeypatch.setattr(plan_module.ArchiveWriter, "__init__", change)
    with pytest.raises(PlanError, match="changed while"):
        write_plan(path, manifest, members | {"text.onnx": source})
    assert not path.exists()


@pytest.mark.parametrize("name", ["../x", "/x", "a\\b", "c:x", "", ".hidden", "a//b", "a/", "ü"])
def test_names_that_are_not_allowed(tmp_path, manifest, members, name):
    with pytest.raises(PlanError, match="not allowed"):
        write_plan(tmp_path / "model.plan", manifest, members | {name: b""})
    assert not list(tmp_path.iterdir())


def test_a_manifest_that_contradicts_the_members_is_not_written(tmp_path, manifest, members):
    without = {name: data for name, data in members.items() if name != "text.onnx"}
    with pytest.raises(PlanError, match=r"does not list 'text\.onnx'"):
        write_plan(tmp_path / "model.plan", manifest, without)
    with pytest.raises(PlanError, match="among the members"):
        write_plan(tmp_path / "model.plan", manifest, members | {"manifest.json": b""})
    assert not list(tmp_path.iterdir())


def test_atomic_writer_follows_links_and_respects_the_umask(tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"old")
    link = tmp_path / "link"
    link.symlink_to(target)
    before = os.umask(0o027)
    try:
        with atomic_writer(link) as file:
            file.write(b"new")
            assert target.read_bytes() == b"old"
    finally:
        os.umask(before)
    assert link.is_symlink() and target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o640


def test_version_error_is_a_plan_error():
    assert issubclass(PlanVersionError, PlanError)
