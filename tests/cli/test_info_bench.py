"""``xdecoder-rt info`` says what a plan is; ``xdecoder-rt bench`` how fast it is here."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from command_line import document_of, the_error

from xdecoder_rt import Engine
from xdecoder_rt.cli import main
from xdecoder_rt.cli.bench import STAGE_NAMES
from xdecoder_rt.cli.memory import measure_memory
from xdecoder_rt.errors import BackendError
from xdecoder_rt.streams import synthetic
from xdecoder_rt.words.cache import CACHE_FILE

SHORT = ["--iterations", "2", "--warmup", "1", "--size", "40x60", "--words", "3", "--threads", "1"]


class TestInfo:
    def test_the_facts_are_listed(
        self, tiny_plan: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["info", str(tiny_plan)]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        for fact in ("tiny (compact)", "64x64, 32x96", "portable", "fp32", "every member whole"):
            assert fact in out
        for graph in ("vision_64x64", "decode_32x96", "mask_64x64", "text.onnx"):
            assert graph in out

    def test_json_is_the_manifest(
        self, tiny_plan: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["info", str(tiny_plan), "--json"]) == 0
        document = document_of(capsys)
        assert document["size"] == tiny_plan.stat().st_size
        assert document["manifest"]["model"]["name"] == "tiny"
        assert document["manifest"]["input"]["sizes"] == [[64, 64], [32, 96]]

    def test_the_text_cache_is_counted(
        self, tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        asked = ["info", str(tiny_plan), "--cache-dir", str(tmp_path)]
        assert main(asked) == 0
        assert f"{CACHE_FILE}: empty" in capsys.readouterr().out
        assert list(tmp_path.iterdir()) == [], "looking makes no cache"
        for _ in range(2):
            with Engine(tiny_plan, cache_dir=tmp_path) as engine:
                engine.warm(["mug", "cup"])
        assert main(asked) == 0
        out = capsys.readouterr().out
        assert "3 texts of this plan, 3 of all" in out
        assert "3 disk hits" in out and "3 misses" in out
        assert main([*asked, "--json"]) == 0
        counts = document_of(capsys)["text_cache"]["counts"]
        assert (counts["disk_hits"], counts["misses"]) == (3, 3)

    def test_an_absent_plan_tells_how_to_build_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert main(["info"]) == 1
        error = the_error(capsys, after_progress=True)
        assert "model.plan" in error and "xdecoder-rt build" in error

    @pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.7, 0.99])
    def test_one_flipped_bit_anywhere_is_found(
        self, tiny_plan: Path, tmp_path: Path, share: float, capsys: pytest.CaptureFixture[str]
    ) -> None:
        data = bytearray(tiny_plan.read_bytes())
        data[int(share * len(data))] ^= 4
        flipped = tmp_path / "flipped.plan"
        flipped.write_bytes(data)
        assert main(["info", str(flipped)]) == 1
        assert "flipped.plan" in the_error(capsys, after_progress=True)

    def test_a_bare_tensorrt_engine_is_told_apart(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bare = tmp_path / "bare.plan"
        bare.write_bytes(b"ftrt" + bytes(1000))
        assert main(["info", str(bare)]) == 1
        assert "TensorRT" in the_error(capsys, after_progress=True)

    def test_a_closed_pipe_is_no_story(self, tiny_plan: Path) -> None:
        import subprocess

        command = [sys.executable, "-m", "xdecoder_rt.cli", "info", str(tiny_plan)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == ""
            assert process.wait(60) == 1


class TestBench:
    def bench(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
        assert main(["bench", *arguments, *SHORT, "--json"]) == 0
        document: dict[str, Any] = document_of(capsys)
        return document

    def test_every_stage_memory_and_machine_are_reported(
        self, tiny_plan: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        document = self.bench(capsys, str(tiny_plan))
        assert document["model"] == "tiny" and document["macs"] > 0
        assert document["image"] == {"height": 40, "width": 60, "file": None}
        assert (document["words"], document["threads"], document["iterations"]) == (3, 1, 2)
        assert {"cpu", "cores", "memory_gb", "os", "python", "libraries"} <= set(
            document["machine"]
        )
        (result,) = document["backends"].values()
        assert set(result["stages_ms"]) == set(STAGE_NAMES)
        for times in result["stages_ms"].values():
            assert times["p50"] <= times["p90"] <= times["p99"]
        stages = result["stages_ms"]
        assert stages["end_to_end"]["p50"] > stages["preprocess"]["p50"] > 0
        memory = result["peak_memory_mb"]
        assert 0 < memory["imported"] <= memory["loaded"] <= memory["segmented"]
        assert memory["imported"] < memory["again"]
        assert memory["with_torch"] is False

    def test_the_text_has_a_row_a_stage(
        self, tiny_plan: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["bench", str(tiny_plan), *SHORT]) == 0
        out = capsys.readouterr().out
        for title in (*STAGE_NAMES.values(), "peak memory", "frames a second"):
            assert title in out

    @pytest.mark.skipif(not find_spec("openvino"), reason="OpenVINO is not installed")
    def test_backends_are_measured_in_turns(
        self, tiny_plan: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        names = ["onnxruntime", "openvino"]
        document = self.bench(capsys, str(tiny_plan), "--backend", *names)
        assert list(document["backends"]) == names

    def test_a_backend_named_twice_is_refused(
        self, tiny_plan: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        twice = ["--backend", "onnxruntime", "onnxruntime"]
        assert main(["bench", str(tiny_plan), *twice, *SHORT]) == 1
        assert "twice" in the_error(capsys, after_progress=True)

    def test_an_absent_plan_tells_how_to_build_one(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["bench", str(tmp_path / "no.plan"), *SHORT]) == 1
        assert "xdecoder-rt build" in the_error(capsys, after_progress=True)

    @pytest.mark.parametrize(
        "arguments", [["--size", "40"], ["--iterations", "0"], ["--words", "many"]]
    )
    def test_a_wrong_command_line(
        self, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["bench", *arguments]) == 2
        assert "error: " in capsys.readouterr().err


def test_the_measuring_process_tells_why_it_failed(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"no\.plan"):
        measure_memory(str(tmp_path / "no.plan"), (40, 60), 3)


def test_synthetic_words_differ_and_variants_share_none() -> None:
    plain, variant = synthetic.words(3000), synthetic.words(3000, 7)
    assert len(set(plain)) == len(set(variant)) == 3000
    assert not set(plain) & set(variant)


def test_synthetic_images_repeat_with_their_seed() -> None:
    first = synthetic.image((40, 60), 1)
    assert first.shape == (40, 60, 3) and first.std() > 10
    assert (first == synthetic.image((40, 60), 1)).all()
    assert (first != synthetic.image((40, 60), 2)).any()
