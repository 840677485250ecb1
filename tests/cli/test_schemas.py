"""What commands write with ``--json`` is as their schemas say, and the schemas are strict."""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from command_line import check_document, document_of, save_labelled_folder, save_picture

from xdecoder_rt.cli import main
from xdecoder_rt.cli.dispatch import _build_parser
from xdecoder_rt.cli.documents import DOCUMENTS
from xdecoder_rt.cli.json_schema import document_schema

# A form whose keys change gets a new version and with it a new digest; words of descriptions are
# free. `info` has the manifest's schema in it, which has a version of its own.
DIGESTS = {
    "segment/1": "1ddbef43f839",
    "refer/1": "f19865193a58",
    "caption/1": "2fee1fc34e99",
    "answer/1": "9d999fe69fda",
    "rank/1": "3f3a4d4f5dec",
    "run/1": "6a2adf6848d8",
    "demo/1": "aed4c8e1d64e",
    "build/1": "06d513f4e552",
    "convert/1": "b41a31cae879",
    "vocab/1": "c5b88eb2b6d4",
    "label/1": "a529e577b6df",
    "data/1": "c61605bb0c54",
    "eval/1": "3d1959deb22e",
    "export-triton/1": "9f778a672a8a",
    "doctor/1": "bc7964084a85",
    "info/1": "f15ef10c765d",
    "check/1": "8ef4284b1c30",
    "bench/1": "3e6e97fb4e9a",
    "extract/1": "618b97733a43",
}
BACKEND = ("--backend", "onnxruntime", "--threads", "1")
COMMANDS: dict[str, list[str]] = {
    "segment": ["segment", "shots", "--words", "mug", "sofa|couch", "knife [threshold 0.9]"],
    "segment instance": ["segment", "photo.png", "--words", "mug", "--task", "instance"],
    "refer": ["refer", "shots", "--phrases", "the mug", "--min-score", "0"],
    "caption": ["caption", "photo.png", "--max-tokens", "2"],
    "caption box": ["caption", "photo.png", "--box", "5,5,40,40", "--max-tokens", "2"],
    "answer": ["answer", "photo.png", "--question", "is it?", "--choices", "yes,no"],
    "rank": ["rank", "shots", "--texts", "a mug", "a table"],
    "rank find": ["rank", "shots", "--texts", "a mug", "--find", "--min-score", "0"],
    "run": [
        *("run", "photo.png", "--words", "mug", "--phrases", "the mug", "--caption"),
        *("--max-tokens", "2", "--question", "is it?", "--choices", "yes", "no", "--embed"),
    ],
    "run embed": ["run", "photo.png", "--embed"],
    "demo": ["demo", "shots", "--words", "mug", "--no-window", "--every-frame"],
    "build": ["build", "--plan", "PLAN", "--size", "64x64", "-o", "small.plan"],
    "vocab embed": ["vocab", "embed", "--words", "mug", "--into", "words.plan"],
    "vocab list": ["vocab", "list"],
    "vocab export": ["vocab", "export", "some.xemb", "--words", "mug"],
    "vocab import": ["vocab", "import", "some.xemb"],
    "vocab example": [
        *("vocab", "example", "words.json", "--name", "my mug", "--mark", "photo.png", "0,0,70,50"),
    ],
    "label": ["label", "shots", "--words", "mug", "-o", "labelled", "--review", "1"],
    "data": ["data", "inspect", "scenes", "scenes"],
    "eval": ["eval", "PLAN", "scenes", "--no-progress"],
    "check": ["check", "PLAN", "--against", "PLAN", "--limit", "1"],
    "info": ["info", "PLAN"],
    "bench": ["bench", "PLAN", "--size", "32x64", "--words", "2", "--iterations", "1"],
    "extract": ["extract", "PLAN", "--graph", "text", "-o", "text.onnx"],
    "extract list": ["extract", "PLAN"],
    "export-triton": ["export-triton", "PLAN", "triton"],
    "doctor": ["doctor", "--quick"],
}
WITHOUT_PLAN = {
    *("build", "data", "eval", "check", "info", "bench", "extract", "export-triton", "doctor"),
}
WITHOUT_ENGINE = {"build", "data", "info", "extract", "export-triton", "doctor"}
NEEDED = {"data": "torch", "eval": "tqdm"}


@pytest.fixture(scope="module")
def desk(tiny_plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands name."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "shots").mkdir()
    for number in range(2):
        save_picture(folder / "shots" / f"{number}.png", number)
    (folder / "shots" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing else")
    save_picture(folder / "photo.png")
    save_labelled_folder(folder / "scenes")
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_what_a_command_writes_is_valid_and_no_key_of_it_could_be_another(
    name: str,
    desk: Path,
    tiny_plan: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(desk)
    words = [str(tiny_plan) if word == "PLAN" else word for word in COMMANDS[name]]
    if (needed := NEEDED.get(words[0])) and find_spec(needed) is None:
        pytest.skip(f"needs {needed}")
    if name == "vocab import":  # stands alone where its neighbour was not run
        arguments = ["vocab", "export", "some.xemb", "--words", "mug", "--plan", str(tiny_plan)]
        assert main([*arguments, *BACKEND]) == 0
        capsys.readouterr()
    if words[0] not in WITHOUT_PLAN:
        words += ["--plan", str(tiny_plan)]
    if words[0] not in WITHOUT_ENGINE and name not in ("vocab list", "vocab import"):
        words += BACKEND
    assert main([*words, "--json"]) in (0, 1), capsys.readouterr().err
    document = document_of(capsys)
    assert document["schema"] == f"{words[0]}/1" and document.get("complete", True)
    for changed in (
        {**document, "another": 1},
        *({k: v for k, v in document.items() if k != key} for key in required(document)),
    ):
        with pytest.raises(jsonschema.ValidationError):
            check_document(changed)
    if "shots" in words and words[0] not in ("demo", "label"):
        assert any("error" in entry for entry in document["images"])


def required(document: dict[str, Any]) -> list[str]:
    """Return the keys that a document of its form cannot do without."""
    schema = document_schema(document["schema"].partition("/")[0])
    forms = schema.get("anyOf", [schema])
    keys = [set(form["else"]["required"]) for form in forms]
    return sorted(min((one for one in keys if one <= document.keys()), key=len))


def takes_json(parser: argparse.ArgumentParser) -> bool:
    """Return whether a command, or one of its actions, has the option."""
    return any(
        "--json" in action.option_strings
        or isinstance(action, argparse._SubParsersAction)
        and any(map(takes_json, action.choices.values()))
        for action in parser._actions
    )


def test_every_command_with_json_has_a_schema_and_a_document_here() -> None:
    parser = _build_parser()
    (action,) = parser._subparsers._group_actions  # type: ignore[union-attr]
    with_json = {
        name
        for name, command in action.choices.items()  # type: ignore[union-attr]
        if takes_json(command)
    }
    assert with_json == set(DOCUMENTS)
    tried = {name.partition(" ")[0] for name in COMMANDS}
    # tests/cli/test_weights.py has files of weights to convert.
    assert tried | {"convert"} == with_json


@pytest.mark.parametrize("command", DOCUMENTS)
def test_a_schema_is_sound_and_every_object_in_it_is_closed(command: str) -> None:
    schema = document_schema(command)
    jsonschema.Draft202012Validator.check_schema(schema)

    def walk(part: Any) -> None:
        if isinstance(part, dict):
            if "properties" in part and part.get("type") == "object":
                assert part["additionalProperties"] is False, part
            for value in part.values():
                walk(value)
        elif isinstance(part, list):
            for value in part:
                walk(value)

    if command != "info":  # the manifest's is open where its reader is
        walk(schema)


@pytest.mark.parametrize("command", DOCUMENTS)
def test_a_document_that_was_cut_short_may_lack_keys_and_a_whole_one_not(command: str) -> None:
    kind = f"{command}/{DOCUMENTS[command]['version']}"
    check_document({"schema": kind, "complete": False})
    for document in ({"schema": kind, "complete": True}, {"schema": kind}):
        with pytest.raises(jsonschema.ValidationError):
            check_document(document)
    with pytest.raises(jsonschema.ValidationError):
        check_document({"schema": kind, "complete": False, "another": 1})


def test_a_form_that_changes_gets_another_version() -> None:
    def bare(part: Any) -> Any:
        if isinstance(part, dict):
            named = part.get("properties")
            rest = {
                key: bare(value)
                for key, value in sorted(part.items())
                if key not in ("description", "title", "properties")
            }
            kept = (
                {} if named is None else {"properties": {k: bare(named[k]) for k in sorted(named)}}
            )
            return {**rest, **kept}
        return [bare(value) for value in part] if isinstance(part, list) else part

    digests = {}
    for command, form in DOCUMENTS.items():
        schema = bare(document_schema(command))
        if command == "info":
            del schema["anyOf"][0]["properties"]["manifest"]
        text = json.dumps(schema, sort_keys=True)
        kind = f"{command}/{form['version']}"
        digests[kind] = hashlib.sha256(text.encode()).hexdigest()[:12]
    assert digests == DIGESTS


def test_the_command_prints_a_schema_or_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "segment"]) == 0
    assert json.loads(capsys.readouterr().out) == document_schema("segment")
    assert main(["schema"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {command}/" in out for command in DOCUMENTS)
    assert main(["schema", "train"]) == 2


def test_a_command_that_is_stopped_before_all_else_says_which_it_was(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from xdecoder_rt.cli import diagnosis

    def stop(**arguments: Any) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(diagnosis, "diagnose", stop)
    assert main(["doctor", "--json"]) == 130
    assert document_of(capsys) == {"schema": "doctor/1", "complete": False}
