"""What a build may be told: refused where it is wrong, before any work."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xdecoder_rt.backends.tensorrt.library import ENGINE_BACKENDS
from xdecoder_rt.cli import build as command
from xdecoder_rt.errors import ArgumentError, VocabularyError
from xdecoder_rt.export.options import (
    BACKENDS,
    BUILD_PRECISIONS,
    ESTIMATOR_NAMES,
    PROFILES,
    BuildOptions,
    ConvertOptions,
    EngineOptions,
)
from xdecoder_rt.export.presets import PRESET_NAMES
from xdecoder_rt.plan import manifest
from xdecoder_rt.words.vocabulary import Vocabulary

WORDS = Vocabulary.parse(["mug"])


def test_options_need_no_framework(tmp_path: Path) -> None:
    code = """
import sys, xdecoder_rt.export.options
print(sorted({"torch", "onnx", "onnxruntime", "tensorrt", "tensorrt_rtx"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_command_offers_the_same_choices() -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    offered = {action.dest: action.choices for action in parser._actions if action.choices}
    assert offered == {
        "backend": BACKENDS,
        "precision": BUILD_PRECISIONS,
        "profile": PROFILES,
        "estimator": ESTIMATOR_NAMES,
        "preset": PRESET_NAMES,
        "interpolation": manifest.INTERPOLATIONS,
    }


def test_every_choice_is_known_where_it_is_carried_out() -> None:
    assert set(BUILD_PRECISIONS) <= set(manifest.PRECISIONS)
    assert ("portable", *ENGINE_BACKENDS) == BACKENDS
    pytest.importorskip("onnx", reason="the forms of quantized graphs need onnx")
    from xdecoder_rt.calibration import profiles

    assert set(profiles.QUANTIZATION_PROFILES) == set(PROFILES)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: ConvertOptions("int8", report=Path("r")),
            "report was given without a calibration",
        ),
        (lambda: ConvertOptions("fp16"), "no fp16 plan for CPUs"),
        (lambda: ConvertOptions("int5"), "no precision 'int5'"),
        (lambda: ConvertOptions("bf16", "gpu"), "no profile 'gpu'.*cpu or tensorrt"),
        (lambda: ConvertOptions("bf16", estimator="mean"), "no range estimator 'mean'.*entropy"),
        (lambda: ConvertOptions("bf16", max_drop=101), "max_drop is 101.*0 to 100"),
        (lambda: ConvertOptions("bf16", max_drop=float("nan")), "max_drop is nan"),
        (lambda: ConvertOptions("bf16", images=0), "^images is 0.*at least 1"),
        (lambda: ConvertOptions("bf16", search_images=-1), "search_images is -1"),
        (lambda: ConvertOptions("bf16", threads=True), "threads is True"),
        (lambda: EngineOptions("cuda"), "no engines for the backend 'cuda'.*tensorrt_rtx"),
        (lambda: EngineOptions("tensorrt_rtx", (89, "sm_86")), "a target is 'sm_86'.*such as 89"),
        (lambda: EngineOptions("tensorrt", batch=0), "batch is 0"),
        (lambda: EngineOptions("tensorrt", max_rows=1.5), "max_rows is 1.5"),
        (lambda: EngineOptions("tensorrt", workspace=0), "workspace is 0.*bytes"),
        (lambda: BuildOptions(sizes=[]), "sizes is empty"),
        (lambda: BuildOptions(sizes=["64x64"]), r"A size is '64x64'.*\(height, width\)"),
        (lambda: BuildOptions(sizes=[(64, 0)]), "A side of a size is 0"),
        (lambda: BuildOptions(tasks=["segment", "sing"]), "tasks is .*'sing'.*each once"),
        (lambda: BuildOptions(tasks=["segment", "segment"]), "each once"),
        (lambda: BuildOptions(tasks="segment"), "tasks is 'segment'"),
        (lambda: BuildOptions(tasks=()), r"tasks is \(\)"),
        (lambda: BuildOptions(max_phrases=0), "max_phrases is 0"),
        (lambda: BuildOptions(piece_share=1.5), "piece_share is 1.5.*from 0 to 1"),
        (lambda: BuildOptions(piece_share=True), "piece_share is True"),
        (lambda: BuildOptions(regions="none"), "regions is 'none'.*True, False or None"),  # type: ignore[arg-type]
        (lambda: BuildOptions(object_threshold=-0.1), "object_threshold is -0.1.*from 0 to 1"),
        (lambda: BuildOptions(overlap_threshold="0.4"), "overlap_threshold is '0.4'"),
        (lambda: BuildOptions(interpolation="nearest"), "interpolation is 'nearest'.*bicubic"),
        (lambda: BuildOptions(rule="short"), "rule is 'short'.*ResizeRule"),
        (lambda: BuildOptions(conversion="int8"), "conversion is 'int8'.*ConvertOptions"),
        (lambda: BuildOptions(engines="tensorrt"), "engines is 'tensorrt'.*EngineOptions"),
        (
            lambda: BuildOptions(
                conversion=ConvertOptions("bf16"), engines=EngineOptions("tensorrt")
            ),
            "of the profile 'cpu'.*'tensorrt'",
        ),
    ],
)
def test_what_cannot_be_made(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        make()


def test_a_name_that_no_vocabulary_may_have() -> None:
    BuildOptions(vocabularies={"kitchen-2": WORDS})
    with pytest.raises(VocabularyError, match=r"'\.\./kitchen' cannot be a vocabulary's"):
        BuildOptions(vocabularies={"../kitchen": WORDS})
