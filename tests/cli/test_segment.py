"""``xdecoder-rt segment``: a table, pictures, JSON; bad input is one line and an exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import HEIGHT, WIDTH, Run, document_of, save_picture, the_error
from PIL import Image

from xdecoder_rt import Engine
from xdecoder_rt.cli import main
from xdecoder_rt.masks.rle import decode_mask

WORDS = ["mug", "robot arm", "floor"]


@pytest.fixture
def segment(on_tiny_plan: Callable[..., Run]) -> Run:
    return on_tiny_plan("segment")


class TestWhatIsFound:
    def test_the_table_names_every_segment(
        self, segment: Run, photo: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert segment(photo, "--words", *WORDS, "--stuff", "floor") == 0
        out, err = capsys.readouterr()
        head, columns, *rows = out.strip().splitlines()
        assert f"{WIDTH} x {HEIGHT}, panoptic, {len(rows)} segment" in head
        assert " ".join(columns.split()) == "label score area kind left top right bottom"
        assert rows and err == ""

    @pytest.mark.parametrize("task", ["panoptic", "semantic", "instance"])
    def test_json_alone_is_all_that_stdout_holds(
        self,
        segment: Run,
        photo: Path,
        tiny_plan: Path,
        task: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        asked = ["--words", *WORDS, "--stuff", "floor", "--task", task]
        code = segment(photo, *asked, "--backend", "onnxruntime", "--json")
        out, err = capsys.readouterr()
        assert code == 0 and f"{task}, " in err
        document = json.loads(out)
        assert document["plan"] == str(tiny_plan)
        assert document["backend"] == "onnxruntime"
        assert (document["task"], document["vocabulary"]) == (task, WORDS)
        assert document["stuff"] == ["floor"]
        (image,) = document["images"]
        assert (image["image"], image["height"], image["width"]) == (str(photo), HEIGHT, WIDTH)
        assert image["time_ms"] > 0 and image["segments"]
        assert image["picture"] is image["labels_png"] is None
        for found in image["segments"]:
            mask = decode_mask(found["mask"])
            assert mask.shape == (HEIGHT, WIDTH)
            assert mask.sum() == found["area"] > 0
            assert found["label"] == WORDS[found["label_id"]]
            assert found["isthing"] == (found["label"] != "floor")

    def test_json_in_a_file_leaves_the_table_on_stdout(
        self, segment: Run, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        target = tmp_path / "found.json"
        assert segment(photo, "--words", "mug", "--json", target) == 0
        assert "panoptic" in capsys.readouterr().out
        assert json.loads(target.read_text())["images"][0]["image"] == str(photo)

    def test_the_answer_is_the_engines(
        self, segment: Run, photo: Path, tiny_plan: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        segment(photo, "--words", *WORDS, "--stuff", "floor", "--json")
        document = document_of(capsys)
        with Engine(tiny_plan, threads=1) as engine:
            expected = engine.segment(photo, WORDS, stuff=["floor"]).to_dict()
        assert document["images"][0]["segments"] == json.loads(json.dumps(expected["segments"]))


class TestWords:
    def asked(self, capsys: pytest.CaptureFixture[str]) -> tuple[Any, Any]:
        document = document_of(capsys)
        return document["vocabulary"], document["stuff"]

    def test_stuff_is_looked_for_too(
        self, segment: Run, photo: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert segment(photo, "--words", "mug", "wall", "--stuff", "wall", "sky", "--json") == 0
        assert self.asked(capsys) == (["mug", "wall", "sky"], ["wall", "sky"])

    def test_synonyms_are_one_class(
        self, segment: Run, photo: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert segment(photo, "--words", "sofa|couch", "lamp", "--json") == 0
        assert self.asked(capsys) == ([["sofa", "couch"], "lamp"], [])

    def test_words_come_from_a_file(
        self, segment: Run, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        names = tmp_path / "names.txt"
        names.write_text("\ufeff# tools\nhammer\n\n  wrench  \n", encoding="utf-8")
        assert segment(photo, "--words", "mug", "--words-file", names, "--json") == 0
        assert self.asked(capsys) == (["mug", "hammer", "wrench"], [])

    def test_rules_of_words(
        self, segment: Run, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        names = tmp_path / "names.txt"
        names.write_text("wrench [id 9]\nelse [other]\n")
        words = ("--words", "mug", "knife [threshold 0.9]", "--words-file", names)
        assert segment(photo, *words, "--negatives", "hand", "--task", "semantic", "--json") == 0
        document = document_of(capsys)
        assert document["vocabulary"] == [
            "mug",
            {"name": "knife", "threshold": 0.9, "id": 11},
            "wrench",
            {"name": "hand", "negative": True, "id": 12},
        ]
        (image,) = document["images"]
        assert {one["label"] for one in image["segments"]} <= {"mug", "knife", "wrench", "else"}
        ids = {one["label"]: one["label_id"] for one in image["segments"]}
        assert ids.items() <= {"mug": 10, "knife": 11, "wrench": 9, "else": 13}.items()

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["mug [loud]"], "not understood"),
            ([], "no words"),
            (["mug", ""], "empty"),
            (["mug", "mug"], "'mug'"),
            (["sofa|"], "empty"),
        ],
    )
    def test_bad_vocabularies(
        self,
        segment: Run,
        photo: Path,
        words: list[str],
        message: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert segment(photo, *(["--words", *words] if words else [])) == 1
        assert message in the_error(capsys)

    @pytest.mark.parametrize("content", [None, b"\xff\xfe\x00mug", b"# nothing\n"])
    def test_bad_files_of_words(
        self,
        segment: Run,
        photo: Path,
        tmp_path: Path,
        content: bytes | None,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        names = tmp_path / "names.txt"
        if content is not None:
            names.write_bytes(content)
        assert segment(photo, "--words-file", names) == 1
        assert "words" in the_error(capsys)


class TestFiles:
    @pytest.mark.parametrize("name", ["found.png", "found.jpg", "found.webp"])
    def test_the_picture_has_the_size_of_the_image(
        self, segment: Run, photo: Path, tmp_path: Path, name: str
    ) -> None:
        assert segment(photo, "--words", *WORDS, "-o", tmp_path / name) == 0
        with Image.open(tmp_path / name) as drawn:
            assert drawn.size == (WIDTH, HEIGHT)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "photo.png"])

    def test_the_labels_are_the_segments_ids(
        self, segment: Run, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        target = tmp_path / "ids.png"
        assert segment(photo, "--words", *WORDS, "--labels-png", target, "--json") == 0
        found = document_of(capsys)["images"][0]["segments"]
        ids = np.asarray(Image.open(target))
        assert ids.shape == (HEIGHT, WIDTH)
        for one in found:
            np.testing.assert_array_equal(ids == one["id"], decode_mask(one["mask"]))

    def test_semantic_labels_are_places_in_the_vocabulary(
        self, segment: Run, photo: Path, tmp_path: Path
    ) -> None:
        target = tmp_path / "ids.png"
        arguments = ("--words", *WORDS, "--task", "semantic", "--labels-png", target)
        assert segment(photo, *arguments) == 0
        ids = np.asarray(Image.open(target))
        assert ids.min() >= 1 and ids.max() <= len(WORDS)

    def test_several_images_go_into_a_folder(
        self, segment: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
        images = [save_picture(tmp_path / folder / "one.png") for folder in ("a", "b")]
        drawn = tmp_path / "new" / "drawn"
        assert segment(*images, "--words", "mug", "-o", drawn, "--json") == 0
        assert sorted(path.name for path in drawn.iterdir()) == ["one-2.png", "one.png"]
        named = [entry["picture"] for entry in document_of(capsys)["images"]]
        assert named == [str(drawn / "one.png"), str(drawn / "one-2.png")]

    def test_one_coco_file_holds_all_images(
        self, segment: Run, photo: Path, tmp_path: Path
    ) -> None:
        others = [save_picture(tmp_path / f"{name}.png") for name in ("a", "b")]
        asked = ["--words", *WORDS, "--stuff", "floor", "--negatives", "hand", "--min-score", "0"]
        target = tmp_path / "found.json"
        assert segment(photo, *others, *asked, "--task", "instance", "--coco", target) == 0
        document = json.loads(target.read_text())
        assert [image["file_name"] for image in document["images"]] == [
            str(path) for path in (photo, *others)
        ]
        assert [category["name"] for category in document["categories"]] == WORDS
        ids = [annotation["id"] for annotation in document["annotations"]]
        assert ids == list(range(1, len(ids) + 1)) and ids
        assert segment(photo, *asked, "--coco", tmp_path / "none" / "found.json") == 1

    @pytest.mark.parametrize("score", ["1.1", "-0.1", "nan", "inf", "half", "1e-1", ""])
    def test_a_least_score_is_a_number_from_0_to_1(
        self, segment: Run, photo: Path, score: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert segment(photo, "--words", "mug", f"--min-score={score}") == 2
        assert "is not a number from 0 to 1" in capsys.readouterr().err

    def test_nothing_is_shown_below_the_least_score(
        self, segment: Run, photo: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        scores = {}
        for least in ("0", "0.3"):
            asked = ["--words", *WORDS, "--task", "instance", "--min-score", least, "--json"]
            assert segment(photo, *asked) == 0
            (image,) = json.loads(capsys.readouterr().out)["images"]
            scores[least] = [found["score"] for found in image["segments"]]
        assert scores["0.3"] == [score for score in scores["0"] if score >= 0.3]
        assert len(scores["0.3"]) < len(scores["0"])

    def test_one_bad_image_of_several_is_reported_and_skipped(
        self, segment: Run, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        broken = tmp_path / "broken.jpg"
        broken.write_bytes(b"\xff\xd8\xff\xe0 and nothing more")
        other = save_picture(tmp_path / "other.png", seed=1)
        drawn = tmp_path / "drawn"
        assert segment(photo, broken, other, "--words", "mug", "-o", drawn, "--json") == 1
        out, err = capsys.readouterr()
        first, bad, last = json.loads(out)["images"]
        assert "segments" in first and "segments" in last
        assert set(bad) == {"image", "error"} and "broken.jpg" in bad["error"]
        assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 1
        assert sorted(path.name for path in drawn.iterdir()) == ["other.png", "photo.png"]


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "missing.jpg"),
            (b"", "photo.jpg"),
            (b"not an image", "photo.jpg"),
        ],
    )
    def test_bad_images(
        self,
        segment: Run,
        tmp_path: Path,
        content: bytes | None,
        message: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        path = tmp_path / message
        if content is not None:
            path.write_bytes(content)
        assert segment(path, "--words", "mug", "-o", tmp_path / "found.png") == 1
        assert message in the_error(capsys)
        assert not (tmp_path / "found.png").exists()

    def test_an_absent_plan_tells_how_to_build_one(
        self,
        photo: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert main(["segment", str(photo), "--words", "mug"]) == 1
        error = the_error(capsys)
        assert "model.plan" in error and "xdecoder-rt build" in error

    @pytest.mark.parametrize("damage", ["truncated", "flipped", "not a plan", "empty"])
    def test_damaged_plans(
        self,
        photo: Path,
        tiny_plan: Path,
        tmp_path: Path,
        damage: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        data = bytearray(tiny_plan.read_bytes())
        if damage == "truncated":
            del data[len(data) // 2 :]
        elif damage == "flipped":
            with zipfile.ZipFile(tiny_plan) as archive:
                member = archive.getinfo("vision_64x64.onnx")
            data[member.header_offset + member.file_size // 2] ^= 1
        elif damage == "not a plan":
            data = bytearray(b"PK, or so it says")
        else:
            data.clear()
        plan = tmp_path / "damaged.plan"
        plan.write_bytes(data)
        target = tmp_path / "found.png"
        code = main(
            ["segment", str(photo), "--words", "mug", "--plan", str(plan), "-o", str(target)]
        )
        assert code == 1
        the_error(capsys)
        assert not target.exists()

    def test_outputs_that_cannot_be_written(
        self, segment: Run, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for option in ("-o", "--labels-png", "--json"):
            assert segment(photo, "--words", "mug", option, tmp_path / "no" / "found.png") == 1
            assert "no folder" in the_error(capsys)

    def test_an_image_is_never_overwritten(
        self, segment: Run, photo: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = photo.read_bytes()
        for option in ("-o", "--labels-png", "--json"):
            assert segment(photo, "--words", "mug", option, photo) == 1
            the_error(capsys)
        assert photo.read_bytes() == before

    def test_labels_are_not_written_over_the_pictures(
        self, segment: Run, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for target in (tmp_path / "found.png", f"{tmp_path / 'found'}/"):
            assert segment(photo, "--words", "mug", "-o", target, "--labels-png", target) == 1
            assert "both the picture and the labels" in the_error(capsys)
            assert not Path(target).is_file()

    def test_a_picture_of_no_known_kind(
        self, segment: Run, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert segment(photo, "--words", "mug", "-o", tmp_path / "found.bmp") == 1
        assert ".png or .jpg" in the_error(capsys)

    @pytest.mark.parametrize(
        "arguments",
        [
            ["segment"],
            ["segment", "a.png", "--task", "poetry"],
            ["segment", "a.png", "--threads", "0"],
            ["segment", "a.png", "--backend", "tensorflow"],
            ["segmentate"],
            ["--nonsense"],
        ],
    )
    def test_a_wrong_command_line(
        self, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert out == "" and "error: " in err and "--help" in err

    def test_what_is_missing_is_named_with_its_place(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for arguments, has_place in (
            (["segment", "--words", "mug", "a.png"], True),
            (["rank", "a.png"], False),
        ):
            assert main(arguments) == 2
            err = capsys.readouterr().err
            assert "are required" in err and ("before options" in err) == has_place

    def test_interrupted(
        self,
        segment: Run,
        photo: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def interrupt(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(Engine, "segment", interrupt)
        assert segment(photo, "--words", "mug") == 130
        assert capsys.readouterr() == ("", "interrupted\n")

    def test_a_fault_of_the_program_is_named_and_debug_shows_where(
        self,
        segment: Run,
        photo: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise RuntimeError("the sky\nfell")

        monkeypatch.setattr(Engine, "segment", fail)
        assert segment(photo, "--words", "mug") == 1
        assert "RuntimeError: the sky fell" in the_error(capsys)
        assert segment(photo, "--words", "mug", "--debug") == 1
        assert "Traceback" in capsys.readouterr().err

    def test_terminated_it_ends_as_if_interrupted(
        self,
        segment: Run,
        photo: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def terminate(*_: object, **__: object) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(Image.Image, "save", terminate)
        before = signal.getsignal(signal.SIGTERM)
        assert segment(photo, "--words", "mug", "-o", tmp_path / "found.png") == 130
        assert capsys.readouterr() == ("", "interrupted\n")
        assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]
        assert signal.getsignal(signal.SIGTERM) == before

    def test_nothing_is_left_when_the_plan_is_not_usable(
        self, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ["--words", "mug", "--plan", str(tmp_path / "no.plan"), "-o"]
        assert main(["segment", str(photo), *arguments, str(tmp_path / "drawn") + "/"]) == 1
        the_error(capsys)
        assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]

    def test_names_and_words_in_any_script(
        self, segment: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        image = save_picture(tmp_path / "caf\u00e9 \U0001f44b.png")
        assert segment(image, "--words", "\U0001f9f8", "杯子", "--json") == 0
        document = document_of(capsys)
        assert document["vocabulary"] == ["\U0001f9f8", "杯子"]
        assert document["images"][0]["image"] == str(image)

    @pytest.mark.parametrize("options", [[], ["--json"]])
    def test_what_the_terminal_cannot_show_is_escaped(
        self, tiny_plan: Path, tmp_path: Path, options: list[str]
    ) -> None:
        folder = os.fsencode(tmp_path)
        image = folder + b"/not utf-8 \xff.png"
        save_picture(tmp_path / "photo.png").rename(os.fsdecode(image))
        command = [sys.executable, "-m", "xdecoder_rt.cli", "segment", image, "--words", "杯子"]
        command += ["--plan", str(tiny_plan), *options]
        environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
        done = subprocess.run(command, capture_output=True, env=environment)
        assert done.returncode == 0, done.stderr
        done.stdout.decode("ascii")
        if options:
            assert os.fsencode(json.loads(done.stdout)["images"][0]["image"]) == image


class TestHelp:
    def test_without_a_command_a_guide_is_printed(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        for command in ("build", "segment", "eval", "train", "info", "bench", "demo"):
            assert f"\n  {command} " in out

    @pytest.mark.parametrize(
        "command", ["build", "segment", "eval", "train", "info", "bench", "demo"]
    )
    def test_every_command_shows_examples_and_exit_codes(
        self, command: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main([command, "--help"]) == 0
        out = capsys.readouterr().out
        assert f"xdecoder-rt {command}" in out and "examples:" in out and "exit codes:" in out

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        import xdecoder_rt

        assert main(["--version"]) == 0
        assert capsys.readouterr().out == f"xdecoder-rt {xdecoder_rt.__version__}\n"

    def test_help_imports_no_framework(self) -> None:
        code = (
            "import sys\n"
            "from xdecoder_rt.cli import main\n"
            "assert main(['--help']) == 0\n"
            "heavy = {'torch', 'onnx', 'onnxruntime', 'openvino', 'matplotlib', 'scipy', 'cv2'}\n"
            "sys.exit(f'imported {heavy & set(sys.modules)}' if heavy & set(sys.modules) else 0)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def test_segmenting_imports_no_framework(
        self, tiny_plan: Path, photo: Path, tmp_path: Path
    ) -> None:
        code = (
            "import sys\n"
            "from xdecoder_rt.cli import main\n"
            "assert main(sys.argv[1:]) == 0\n"
            "heavy = {'torch', 'onnx', 'openvino', 'matplotlib', 'scipy', 'cv2', 'tqdm'}\n"
            "sys.exit(f'imported {heavy & set(sys.modules)}' if heavy & set(sys.modules) else 0)\n"
        )
        arguments = ["segment", photo, "--words", "mug", "--plan", tiny_plan]
        arguments += ["-o", tmp_path / "found.png", "--backend", "onnxruntime"]
        command = [sys.executable, "-c", code, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
