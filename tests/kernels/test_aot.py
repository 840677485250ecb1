"""Kernels compiled ahead of time: what ships, and what of it is taken for a device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from artifact_cache import ArtifactCache

pytest.importorskip("triton")

from xdecoder_rt.errors import ArgumentError, BackendError, BuildError, PlanError
from xdecoder_rt.kernels import aot, catalog, report
from xdecoder_rt.kernels.compiled import (
    CompiledKernels,
    compiles_for,
    readable_ptx,
    runs_on,
    target_for,
)
from xdecoder_rt.kernels.targets import TARGETS, Target, target


@pytest.fixture(scope="module")
def shipped(artifacts: ArtifactCache, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Facts of every form for every target."""
    folder = tmp_path_factory.mktemp("shipped") / "described"
    artifacts.provide("compiled_kernels.describe_shipped", folder)
    index: dict[str, Any] = json.loads((folder / "kernels.json").read_text())
    return index


@pytest.mark.parametrize("goal", TARGETS, ids=lambda goal: goal.name)
def test_shipped_forms_spill_nothing_and_fit(goal: Target, shipped: dict[str, Any]) -> None:
    """Every form for every target that the compiler knows."""
    unavailable = shipped["targets"][goal.name]["unavailable"]
    if unavailable is not None:
        assert goal.capability == 101, unavailable
        pytest.skip(f"this Triton does not compile for {goal.name}: {unavailable}")
    compiled = {
        name: kernel["targets"][goal.name]
        for name, kernel in shipped["kernels"].items()
        if goal.name in kernel["targets"]
    }
    assert set(compiled) == {spec.name for spec in catalog.shipped(goal)}
    for name, facts in compiled.items():
        assert facts["spilled"] == 0, name
        assert facts["shared"] <= goal.shared_limit, name
        assert 0 < facts["registers"] <= 255, name
        assert f"ptx_{goal.old_ptx // 10}_{goal.old_ptx % 10}" in facts


def test_names_of_forms_are_unique() -> None:
    for goal in TARGETS:
        names = [spec.name for spec in catalog.shipped(goal)]
        assert len(set(names)) == len(names)


def test_a_target_that_the_compiler_lacks_is_listed_and_no_obstacle(orin: Path) -> None:
    index = json.loads((orin / "kernels.json").read_text())
    assert index["targets"]["sm_87"]["unavailable"] is None
    assert index["targets"]["sm_101"]["unavailable"]
    table = report.resources(index)
    assert "sm_101 | Jetson Thor (CUDA 12) (not compiled: " in table
    assert "| `attend_fp16_32x64` | 4 |" in table


def test_nothing_is_left_of_a_compilation_that_fails(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="sm_101"):
        aot.compile_kernels(tmp_path / "out", [target(101)], only="pack_u8")
    assert not list(tmp_path.iterdir())


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    with pytest.raises(ArgumentError, match="not an empty folder"):
        aot.compile_kernels(tmp_path, [target(87)])


def test_ptx_for_drivers_of_jetpack_6(compiled: CompiledKernels) -> None:
    spec = compiled.forms["combine_fp16"]
    # A newer generation than any that was compiled for: its driver compiles the PTX.
    new = compiled.image(spec, (9, 0), (13, 0)).data
    old = compiled.image(spec, (9, 0), (12, 6)).data
    assert b".version 8.5" in old and b".version 8.5" not in new
    assert b".target sm_87" in new and b".target sm_87" in old
    with pytest.raises(BackendError, match="CUDA 12.2"):
        compiled.image(spec, (9, 0), (12, 2))
    assert readable_ptx((12, 7)) == (8, 5)


def test_machine_code_of_a_jetson_runs_on_it_alone(compiled: CompiledKernels) -> None:
    spec = compiled.forms["combine_fp16"]
    assert compiled.image(spec, (8, 7), (12, 6)).data.startswith(b"\x7fELF")
    assert compiled.image(spec, (8, 9), (12, 6)).data.lstrip().startswith(b"//")
    with pytest.raises(BackendError, match="sm_86"):
        compiled.image(spec, (8, 6), (13, 0))


@pytest.mark.parametrize(
    ("compiled_for", "device", "code_runs", "ptx_serves"),
    [
        (86, 89, True, True),
        (89, 86, False, False),
        (87, 89, False, True),
        (89, 121, False, True),
        (90, 90, True, True),
        # sm_90a, sm_100a and sm_120a: NVIDIA's assembler refuses their PTX for any other.
        (90, 100, False, False),
        (100, 103, False, False),
        (120, 121, False, False),
    ],
)
def test_where_code_runs(compiled_for: int, device: int, code_runs: bool, ptx_serves: bool) -> None:
    assert runs_on(compiled_for, device) == code_runs
    assert compiles_for(compiled_for, device) == ptx_serves


def test_advice_names_a_target_that_can_be_compiled() -> None:
    assert [target_for(device) for device in (86, 103, 110, 121)] == [86, 89, 110, 89]


def test_ptx_for_drivers_as_old_as_their_devices(tmp_path: Path) -> None:
    """TensorRT's plugins take PTX; JetPack 7's driver is of CUDA 13.0."""
    goals = [target(89), target(100), target(110), target(120)]
    aot.compile_kernels(tmp_path / "out", goals, only="^relabel$")
    compiled = CompiledKernels(tmp_path / "out")
    spec = compiled.forms["relabel"]
    for device, cuda in (((10, 0), (12, 8)), ((11, 0), (13, 0)), ((12, 0), (12, 8))):
        name = f"sm_{device[0]}{device[1]}"
        assert f".target {name}a".encode() in compiled.ptx(spec, device, cuda).data
    assert b".target sm_89" in compiled.image(spec, (12, 1), (13, 0)).data
    with pytest.raises(BackendError, match="update the NVIDIA driver"):
        compiled.ptx(spec, (8, 9), (12, 2))


def test_forms_are_read_back_as_they_were_written(compiled: CompiledKernels) -> None:
    known = {spec.name: spec for spec in catalog.shipped(target(87))}
    for name, spec in compiled.forms.items():
        assert spec == known[name]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        ({"format_version": 2}, "format version 2"),
        ({"kernels": {"x": {}}}, "does not describe kernels"),
        ({"kernels": 3}, "does not describe kernels"),
    ],
    ids=["version", "form", "type"],
)
def test_a_damaged_index_is_refused(
    orin: Path, tmp_path: Path, damage: dict[str, Any], sentence: str
) -> None:
    index = json.loads((orin / "kernels.json").read_text()) | damage
    (tmp_path / "kernels.json").write_text(json.dumps(index))
    with pytest.raises(PlanError, match=sentence):
        CompiledKernels(tmp_path)


def test_files_are_checked_before_they_are_loaded(orin: Path, tmp_path: Path) -> None:
    index = json.loads((orin / "kernels.json").read_text())
    file = index["kernels"]["combine_fp16"]["targets"]["sm_87"]["cubin"]
    (tmp_path / "sm_87").mkdir()
    (tmp_path / "sm_87/combine_fp16.cubin").write_bytes(b"other")
    (tmp_path / "kernels.json").write_text(json.dumps(index))
    altered = CompiledKernels(tmp_path)
    with pytest.raises(PlanError, match="not the file that was compiled"):
        altered.image(altered.forms["combine_fp16"], (8, 7), (12, 6))
    file["file"] = "../outside"
    (tmp_path / "kernels.json").write_text(json.dumps(index))
    outside = CompiledKernels(tmp_path)
    with pytest.raises(PlanError, match="outside its folder"):
        outside.image(outside.forms["combine_fp16"], (8, 7), (12, 6))
    with pytest.raises(PlanError, match="holds no compiled kernels"):
        CompiledKernels(tmp_path / "absent")


def test_a_device_of_another_generation_is_named(compiled: CompiledKernels) -> None:
    spec = compiled.forms["pack_u8"]
    with pytest.raises(BackendError, match=r"sm_87.*sm_75"):
        compiled.image(spec, (7, 5), (13, 0))


def test_the_command_compiles_and_prints_the_table(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "xdecoder_rt.kernels.aot", "-o", str(tmp_path / "out")]
    options = ["--target", "87", "--only", "^pack_u8$", "--report", str(tmp_path / "table.md")]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    ended = subprocess.run(
        command + options, capture_output=True, text=True, check=True, env=environment
    )
    assert "| `pack_u8` | 4 |" in ended.stdout
    assert (tmp_path / "table.md").read_text() == ended.stdout.removesuffix("\n")
    assert sorted(p.name for p in (tmp_path / "out/sm_87").iterdir()) == [
        "pack_u8.cubin",
        "pack_u8.ptx",
        "pack_u8.ptx85",
    ]
    assert os.stat(tmp_path / "out").st_mode & 0o777 == 0o755
