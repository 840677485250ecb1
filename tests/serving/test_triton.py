"""A Triton repository, loaded as Triton's documentation says that it loads one.

No Triton is here: what it would hand to the model is a stand-in.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from xdecoder_rt import Engine
from xdecoder_rt.cli import main

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


def text_format(text: str) -> dict[str, Any]:
    """Read a message in protobuf's text format: names, numbers, texts, messages and lists."""
    tokens = TOKEN.findall(text)

    def message(end: str | None) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        while tokens and tokens[0] != end:
            name = tokens.pop(0)
            if name == ",":
                continue
            if tokens[0] == ":":
                tokens.pop(0)
            read = value()
            if name in fields and isinstance(fields[name], list):
                fields[name].append(read)
            else:
                fields[name] = [read] if name == "parameters" else read
        if end is not None:
            assert tokens.pop(0) == end
        return fields

    def value() -> Any:
        token = tokens.pop(0)
        if token == "{":
            return message("}")
        if token == "[":
            items = []
            while tokens[0] != "]":
                if tokens[0] == ",":
                    tokens.pop(0)
                else:
                    items.append(value())
            tokens.pop(0)
            return items
        return json.loads(token) if re.match(r'["\d-]', token) else token

    return message(None)


@dataclass
class Tensor:
    name: str
    data: Any

    def as_numpy(self) -> Any:
        return self.data


@dataclass
class InferenceResponse:
    output_tensors: list[Tensor] = field(default_factory=list)
    error: Exception | None = None


class Triton:
    """Loads a model of a repository and asks it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        utils = ModuleType("triton_python_backend_utils")
        utils.Tensor, utils.InferenceResponse = Tensor, InferenceResponse  # type: ignore[attr-defined]
        utils.TritonError = RuntimeError  # type: ignore[attr-defined]
        utils.get_input_tensor_by_name = lambda request, name: request[name]  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, utils.__name__, utils)
        self.config = text_format((folder / "config.pbtxt").read_text())
        assert self.config["name"] == folder.name and self.config["backend"] == "python"
        spec = importlib.util.spec_from_file_location("model", folder / "1" / "model.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.model = module.TritonPythonModel()
        parameters = {one["key"]: one["value"] for one in self.config["parameters"]}
        self.model.initialize(
            {
                "model_config": json.dumps({"parameters": parameters}),
                "model_repository": str(folder),
                "model_version": "1",
                "model_name": folder.name,
            }
        )

    def ask(self, image: bytes, asked: object) -> InferenceResponse:
        inputs = {
            "IMAGE": Tensor("IMAGE", np.frombuffer(image, np.uint8)),
            "REQUEST": Tensor("REQUEST", np.array([json.dumps(asked).encode()], np.object_)),
        }
        (response,) = self.model.execute([inputs])
        assert isinstance(response, InferenceResponse)
        return response


def test_the_model_answers_as_the_engine_and_refuses_in_words(
    tiny_plan: Path, tmp_path: Path, photo: bytes, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--backend", "onnxruntime", "--threads", "1", "--instances", "3"]
    assert main(["export-triton", str(tiny_plan), str(tmp_path / "models"), *options]) == 0
    triton = Triton(tmp_path / "models" / "xdecoder", monkeypatch)
    assert triton.config["max_batch_size"] == 0 and "dynamic_batching" not in triton.config
    assert triton.config["instance_group"] == [{"count": 3, "kind": "KIND_CPU"}]
    names = {one["name"]: one["data_type"] for one in triton.config["input"]}
    assert names == {"IMAGE": "TYPE_UINT8", "REQUEST": "TYPE_STRING"}
    response = triton.ask(photo, {"words": ["mug", "bin"]})
    (tensor,) = response.output_tensors
    answer = json.loads(tensor.as_numpy()[0])
    truth = engine.segment(photo, ["mug", "bin"]).to_dict()
    found, true = answer["segment"]["segments"], truth["segments"]
    assert [one["mask"] for one in found] == [one["mask"] for one in true]
    assert [one["label"] for one in found] == [one["label"] for one in true]
    # Texts are embedded in other company by another engine, so their last bit may differ.
    assert [one["score"] for one in found] == pytest.approx([one["score"] for one in true])
    for image, asked, part in (
        (b"hello", {"words": ["mug"]}, "Expected one of"),
        (photo, {}, "nothing is asked"),
        (photo, {"words": [" "]}, "empty"),
    ):
        assert part in str(triton.ask(image, asked).error)
    triton.model.finalize()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--name", "../x"], "letters, digits"), (["--name", "taken"], "exists")],
)
def test_what_cannot_be_written_is_told(
    tiny_plan: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "taken").mkdir()
    assert main(["export-triton", str(tiny_plan), str(tmp_path), *arguments]) == 1
    assert message in capsys.readouterr().err
    assert main(["export-triton", str(tmp_path / "no.plan"), str(tmp_path)]) == 1
