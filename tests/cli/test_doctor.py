"""``xdecoder-rt doctor`` tells what a machine can run, also where things are hidden or broken."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from command_line import document_of

from xdecoder_rt.cli import diagnosis, extras, main, probe

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
ROOT_FILES = {
    "proc/cpuinfo": "flags\t\t: fpu sse4_2 avx2 fma f16c avx512f avx512_vnni\n",
    "proc/meminfo": "MemTotal:       16000 kB\nMemAvailable:   8000 kB\n",
    "proc/self/cgroup": "0::/job\n",
    "proc/self/mountinfo": "30 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
    "sys/fs/cgroup/job/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/job/memory.max": "4096000\n",
}
Machine = Callable[..., Path]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Makes a file system; a file of None is left out of the usual ones."""

    def make(**more: str | None) -> Path:
        files = {**ROOT_FILES, **{name.replace("__", "/"): text for name, text in more.items()}}
        for name, text in files.items():
            if text is not None:
                path = tmp_path / "root" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        return tmp_path / "root"

    return make


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """What children answer, by question; by default that a module imports."""
    known: dict[str, dict[str, Any]] = {}
    monkeypatch.setattr(diagnosis, "ask", lambda name: known.get(name, {"version": "9.9"}))
    return known


@pytest.fixture
def requirements(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what the metadata of this package ask for."""

    def ask_for(*texts: str) -> None:
        monkeypatch.setattr(importlib.metadata, "requires", lambda name: list(texts))

    return ask_for


def hide(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Make modules and their metadata absent."""
    version, there = importlib.metadata.version, extras.is_there

    def version_of(name: str) -> str:
        if extras.module_of(name) in modules:
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", version_of)
    for place in (extras, diagnosis):
        monkeypatch.setattr(place, "is_there", lambda name: name not in modules and there(name))


def commands(document: Mapping[str, Any]) -> list[str]:
    return [entry["command"] for entry in document["advice"]]


class TestTheMachine:
    def test_instruction_sets_cores_quota_and_memory_are_those_of_the_process(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "cpu_count", lambda: 16)
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(4)))
        document = diagnosis.diagnose(is_quick=True, root=machine())
        assert document["processor"] == {
            "instruction_sets": ["sse4_2", "avx2", "fma", "f16c", "avx512f", "avx512_vnni"],
            "fast_int8": True,
            "fast_bf16": False,
            "cores": 16,
            "affinity": 4,
            "quota": 1.5,
            "usable_cores": 2,
        }
        assert document["memory"] == {"total": 16384000, "available": 8192000, "limit": 4096000}

    def test_an_arm_board_with_jetpack_is_told_by_its_files(self, machine: Machine) -> None:
        root = machine(
            proc__cpuinfo="Features\t: fp asimd asimddp i8mm bf16\n",
            etc__nv_tegra_release="# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic\n",
            **{"sys__fs__cgroup__job__memory.max": "max\n"},
        )
        document = diagnosis.diagnose(is_quick=True, root=root)
        assert document["processor"]["fast_int8"] and document["processor"]["fast_bf16"]
        assert document["gpus"]["jetson_linux"] == "36.4.3"
        assert document["memory"]["limit"] is None

    def test_a_machine_that_says_nothing_of_itself_is_no_error(self, tmp_path: Path) -> None:
        document = diagnosis.diagnose(is_quick=True, root=tmp_path / "nothing")
        assert document["processor"]["instruction_sets"] == []
        assert document["memory"]["total"] is None
        assert document["processor"]["usable_cores"] >= 1

    @pytest.mark.parametrize("node", ["dev__nvidia0", "dev__nvidiactl", "dev__nvgpu"])
    def test_a_gpu_with_a_broken_driver_is_told(
        self, node: str, machine: Machine, answers: dict[str, dict[str, Any]]
    ) -> None:
        answers["gpus"] = {"problem": "the NVIDIA driver does not start: no device"}
        root = machine(**{node: ""})
        document = diagnosis.diagnose(root=root)
        assert document["gpus"]["devices"] == []
        assert "GPU: the NVIDIA driver does not start: no device" in document["problems"]

    def test_a_gpu_without_a_library_is_advised_one(
        self,
        machine: Machine,
        answers: dict[str, dict[str, Any]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        gpu = {"name": "NVIDIA L4", "capability": "8.9", "memory": 23 << 30}
        answers["gpus"] = {"cuda": "12.8", "devices": [gpu]}
        hide(monkeypatch, "torch", "tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")
        version = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Release Build\n"
        root = machine(dev__nvidia0="", proc__driver__nvidia__version=version)
        document = diagnosis.diagnose(root=root)
        assert document["gpus"]["devices"] == [gpu] and document["gpus"]["cuda"] == "12.8"
        assert document["gpus"]["driver"] == "570.86.15"
        assert 'pip install "xdecoder_rt[torch]"' in commands(document)
        assert 'pip install "xdecoder_rt[tensorrt]"' in commands(document)

    def test_ros_that_is_installed_and_not_sourced_is_told_how(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("ROS_DISTRO", raising=False)
        root = machine(**{"opt__ros__jazzy__setup.bash": ""})
        document = diagnosis.diagnose(is_quick=True, root=root)
        assert document["ros2"]["installed"] == ["jazzy"]
        assert f"source {root}/opt/ros/jazzy/setup.bash" in commands(document)


class TestPackages:
    def test_every_extra_of_the_project_has_a_purpose(self) -> None:
        text = PYPROJECT.read_text()
        section = text.split("[project.optional-dependencies]")[1].split("\n[")[0]
        names = re.findall(r"^([a-z-]+) = \[", section, re.MULTILINE)
        assert [name for name in extras.PURPOSES if name] == names

    def test_a_missing_package_brings_its_command(
        self,
        requirements: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
        answers: dict[str, dict[str, Any]],
    ) -> None:
        requirements("numpy>=1.24", 'openvino>=2024.4; extra == "openvino"')
        hide(monkeypatch, "openvino")
        document = diagnosis.diagnose()
        entry = document["extras"]["openvino"]
        assert entry["packages"]["openvino"]["state"] == "missing" and not entry["installed"]
        assert entry["install"] == 'pip install "xdecoder_rt[openvino]"'
        assert not document["backends"]["openvino"]["installed"]
        assert document["backends"]["openvino"]["works"] is None
        assert not any("openvino" in problem for problem in document["problems"])

    def test_an_old_package_is_told_with_what_is_asked_for(
        self, requirements: Callable[..., None], answers: dict[str, dict[str, Any]]
    ) -> None:
        requirements("numpy>=999.1", 'pillow<90,>=10.1; extra == "train"')
        document = diagnosis.diagnose()
        assert document["base"]["packages"]["numpy"]["state"] == "outdated"
        assert document["extras"]["train"]["packages"]["pillow"]["state"] == "installed"
        told = r"numpy .* is installed, and >=999\.1 is needed"
        assert any(re.fullmatch(told, problem) for problem in document["problems"])
        assert "pip install xdecoder_rt" in commands(document)

    def test_a_package_for_another_system_is_not_asked_for(
        self, requirements: Callable[..., None]
    ) -> None:
        requirements("numpy", "nothing>=1; sys_platform == 'win32' and extra == 'triton'")
        assert list(diagnosis.diagnose(is_quick=True)["extras"]) == []

    def test_a_library_that_does_not_import_is_broken_and_named(
        self, requirements: Callable[..., None], answers: dict[str, dict[str, Any]]
    ) -> None:
        requirements("numpy>=1.24", "onnxruntime>=1.18")
        answers["onnxruntime"] = {"problem": "ImportError: libfoo.so.1: cannot open"}
        document = diagnosis.diagnose()
        backend = document["backends"]["onnxruntime"]
        assert backend["installed"] and backend["works"] is False
        assert not document["base"]["installed"]
        told = "onnxruntime does not import: ImportError: libfoo.so.1: cannot open"
        assert told in document["problems"]

    def test_without_metadata_it_says_that_nothing_is_installed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def requires(name: str) -> list[str]:
            raise importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(importlib.metadata, "requires", requires)
        document = diagnosis.diagnose(is_quick=True)
        assert any("not installed" in problem for problem in document["problems"])

    def test_quickly_nothing_is_imported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(diagnosis, "ask", lambda name: pytest.fail(f"asked for {name}"))
        document = diagnosis.diagnose(is_quick=True)
        assert document["backends"]["onnxruntime"]["works"] is None


class TestCache:
    def test_a_folder_that_is_not_there_yet_is_not_made(self, tmp_path: Path) -> None:
        cache = diagnosis.diagnose(is_quick=True, cache_dir=tmp_path / "a" / "b")["cache"]
        assert cache["writable"] and cache["bytes"] == 0 and not (tmp_path / "a").exists()

    def test_its_size_counts_every_file(self, tmp_path: Path) -> None:
        folder = tmp_path / "cache"
        (folder / "sub").mkdir(parents=True, mode=0o700)
        folder.chmod(0o700)
        (folder / "a").write_bytes(bytes(10))
        (folder / "sub" / "b").write_bytes(bytes(7))
        cache = diagnosis.diagnose(is_quick=True, cache_dir=folder)["cache"]
        assert (cache["files"], cache["bytes"], cache["writable"]) == (2, 17, True)

    def test_a_folder_that_others_may_write_into_is_told(self, tmp_path: Path) -> None:
        folder = tmp_path / "cache"
        folder.mkdir()
        folder.chmod(0o777)
        document = diagnosis.diagnose(is_quick=True, cache_dir=folder)
        assert not document["cache"]["writable"]
        assert any(problem.startswith("cache: ") for problem in document["problems"])

    def test_a_file_in_its_place_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        for folder in (tmp_path / "file", tmp_path / "file" / "below"):
            document = diagnosis.diagnose(is_quick=True, cache_dir=folder)
            assert not document["cache"]["writable"] and document["cache"]["problem"]


class TestProbe:
    def test_a_module_says_its_version(self) -> None:
        import numpy

        assert probe.ask("numpy") == {"version": numpy.__version__}

    @pytest.mark.parametrize(
        ("body", "problem"),
        [
            ("raise RuntimeError('no\\nluck')", "RuntimeError: no luck"),
            ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
            ("import sys; sys.exit(3)", "ended with 3"),
            ("import no_such_module_anywhere", "No module named"),
            ("import time; time.sleep(600)", "no answer within"),
        ],
    )
    def test_what_is_broken_is_told_in_a_line_and_ends_nothing(
        self, body: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "a_broken_one.py").write_text(body)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        seconds = 2.0 if "sleep" in body else 300.0
        answer = probe.ask("a_broken_one", seconds)
        assert set(answer) == {"problem"} and problem in answer["problem"]
        assert "\n" not in answer["problem"]

    def test_what_a_library_prints_does_not_disturb_the_answer(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "a_talker.py").write_text("__version__ = '1.5'\nprint('{}', end='')")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        assert probe.ask("a_talker") == {"version": "1.5"}

    def test_without_a_driver_the_gpu_is_a_problem_and_no_error(self) -> None:
        if Path("/dev/nvidia0").exists():
            pytest.skip("there is a GPU")
        assert "problem" in probe.ask("gpus")


def test_the_command_prints_for_people_and_for_programs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["doctor", "--quick", "--cache-dir", str(tmp_path / "cache")]) == 0
    out = capsys.readouterr().out
    for part in ("instructions", "cores", "memory", "backends", "extras", "cache", "ROS 2"):
        assert part in out
    assert main(["doctor", "--quick", "--json"]) == 0
    document = document_of(capsys)
    assert document["complete"] and document["backends"]["onnxruntime"]["installed"]


def test_it_works_where_nothing_but_the_base_is_installed() -> None:
    code = (
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('torch', 'openvino', 'cv2', 'av', 'onnx', 'cuda'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hide())\n"
        "from xdecoder_rt.cli import main\n"
        "code = main(['doctor', '--quick', '--json'])\n"
        "assert not {'torch', 'openvino', 'onnxruntime', 'tensorrt', 'cv2'} & set(sys.modules)\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert not document["backends"]["openvino"]["works"]
