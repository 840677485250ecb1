"""The table of a backend beside ONNX Runtime, ``benchmarks/backend_parity.py``."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import backend_parity

from xdecoder_rt import Engine
from xdecoder_rt.results import Output
from xdecoder_rt.streams import synthetic


def table(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    lines = capsys.readouterr().out.splitlines()
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


def test_a_backend_is_no_way_from_itself(
    tiny_plan: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    written = tmp_path / "rows.json"
    arguments = [str(tiny_plan), "--backend", "onnxruntime", "--json", str(written)]
    monkeypatch.setattr(sys, "argv", ["backend_parity.py", *arguments])
    assert backend_parity.main() == 0
    header, _, row = table(capsys)
    assert header == list(backend_parity.COLUMNS)
    assert row == list(json.loads(written.read_text())[0].values())
    assert row[:4] == ["tiny", "0.0e+00", "0.0e+00", "0.000%"]
    assert all("0.0e+00" in cell for cell in row[4:9])
    assert row[9] == "0.000%, 0.000%"
    assert row[10] == "0.0e+00, 0.000%"
    assert row[11].endswith(", 0.000%")


@pytest.fixture(scope="module")
def output(tiny_plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Output:
    cache = tmp_path_factory.mktemp("cache")
    with Engine(tiny_plan, backend="onnxruntime", threads=1, cache_dir=cache) as engine:
        return engine.run(synthetic.image((64, 64), 7), **backend_parity.questions(engine))


def test_every_difference_is_seen(output: Output) -> None:
    segment, caption, answer = output.segment, output.caption, output.answer
    assert segment is not None and caption is not None and answer is not None
    assert output.embed is not None and output.refer is not None
    changed = segment.segmentation.copy()
    changed[0, :8] += 1
    other = replace(
        output,
        segment=replace(segment, segmentation=changed),
        refer=[replace(one, mask=~one.mask) for one in output.refer],
        caption=replace(caption, text=caption.text + "!", score=caption.score - 0.25),
        answer=replace(answer, scores={name: 0.0 for name in answer.scores}),
        embed=output.embed * 2,
    )
    maps, _, phrases, sentence, told, embedding = backend_parity.answers(other, output)
    assert maps == f"{8 / changed.size:.3%}"
    assert phrases.startswith("100.000%")
    assert sentence.startswith(repr(caption.text + "!")) and sentence.endswith("2.5e-01")
    assert told == f"the same text, {max(answer.scores.values()):.1e}"
    assert embedding == "1.0e+00"


def test_what_a_plan_lacks_is_a_dash(output: Output) -> None:
    less = replace(output, caption=None, answer=None, refer=None)
    assert backend_parity.answers(less, less)[2:5] == ("-", "-", "-")


def test_arrays_of_zeros_do_not_differ() -> None:
    assert backend_parity.largest([(np.zeros(3), np.zeros(3))]) == "0.0e+00"


def test_every_further_difference_is_seen(tiny_plan: Path, tmp_path: Path, output: Output) -> None:
    image = synthetic.image((64, 64), 7)
    with Engine(tiny_plan, backend="onnxruntime", threads=1, cache_dir=tmp_path) as engine:
        found = backend_parity.further(engine, image, output)
    assert {"semantic", "instance", "track", "rank", "find"} <= set(found)
    (semantic,) = found["semantic"]
    changed = semantic.segmentation.copy()
    changed[:, :4] += 1
    finding = found["find"]
    other = found | {
        "semantic": [replace(semantic, segmentation=changed)],
        "track": [replace(each, segments_info=[{"label": "boat"}]) for each in found["track"]],
        "rank": found["rank"] + np.float32(0.5),
        "find": replace(finding, image=1 - finding.image),
        "example": "an error",
    }
    kinds, retrieval, frames = backend_parity.further_answers(other, found | {"example": []})
    assert kinds == f"{4 * 64 / changed.size:.3%}, 0.000%"
    assert retrieval == "5.0e-01, another image"
    assert frames == "'an error', not [], others"
    less = {name: answer for name, answer in found.items() if name not in ("rank", "find")}
    assert backend_parity.further_answers(less, less)[1] == "-, -"
