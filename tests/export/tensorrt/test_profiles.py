"""What the runtime feeds each graph is what its engine takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="profiles are of ONNX graphs")

from xdecoder_rt import Engine
from xdecoder_rt.backends.onnxruntime import OnnxRuntimeBackend
from xdecoder_rt.errors import BuildError
from xdecoder_rt.export.tensorrt.graph import read_graph
from xdecoder_rt.export.tensorrt.profiles import OptimizationProfile, fixed_shapes, profiles_of
from xdecoder_rt.plan.file import Plan

MAX_ROWS = 256


@pytest.fixture(scope="module")
def profiles(tiny_plan: Path) -> dict[str, list[OptimizationProfile]]:
    """By member."""
    with Plan.open(tiny_plan) as plan:
        return {
            member: profiles_of(
                member.split("_")[0].removesuffix(".onnx"),
                read_graph(member, plan.graph(member)),
                plan.manifest,
                batch=1,
                max_rows=MAX_ROWS,
            )
            for member in plan.manifest.graphs.members()
        }


def admits(profile: OptimizationProfile, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return set(profile) == set(shapes) and all(
        len(shape) == len(profile[name].least)
        and all(
            low <= size <= high
            for low, size, high in zip(profile[name].least, shape, profile[name].most, strict=True)
        )
        for name, shape in shapes.items()
    )


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[dict[str, tuple[int, ...]]]]:
    """Shapes of every call of a graph, by member."""
    seen: dict[str, list[dict[str, tuple[int, ...]]]] = {}
    load = OnnxRuntimeBackend.load

    def recorded(
        self: OnnxRuntimeBackend, name: str, model: memoryview, is_steady: bool = False
    ) -> Any:
        graph = load(self, name, model, is_steady)

        class Recorded:
            inputs = graph.inputs

            def __call__(self, feeds: Mapping[str, Any]) -> Any:
                shapes = {key: tuple(np.shape(_array(value))) for key, value in feeds.items()}
                seen.setdefault(name, []).append(shapes)
                return graph(feeds)

        return Recorded()

    monkeypatch.setattr(OnnxRuntimeBackend, "load", recorded)
    return seen


def _array(value: Any) -> Any:
    return value.numpy() if hasattr(value, "numpy") else value


def test_everything_that_is_asked_of_an_image_fits_a_profile(
    tiny_plan: Path,
    tmp_path: Path,
    profiles: dict[str, list[OptimizationProfile]],
    fed: dict[str, list[dict[str, tuple[int, ...]]]],
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 64, 3), np.uint8)
    words = [f"thing {i}" for i in range(30)]
    with Engine(tiny_plan, backend="onnxruntime", cache_dir=tmp_path) as engine:
        state = engine.encode(image)
        engine.segment(state, words)
        engine.segment(state, words, task="semantic")
        regions = engine.refer(state, ["the left one", "a much longer phrase about the right one"])
        engine.caption(state, beams=8)
        engine.caption(state, region=regions[0].mask | True)
        engine.answer(state, "what is it?", choices=["a", "b"])
        engine.run(image, segment=words, refer=words[:5], caption=True, embed=True)
    members = {member for member in fed if "32x96" not in member}
    assert members == {member for member in profiles if "32x96" not in member}
    for member in members:
        for shapes in fed[member]:
            assert any(admits(profile, shapes) for profile in profiles[member]), (member, shapes)


def test_the_vision_graph_has_one_shape_without_batches(
    profiles: dict[str, list[OptimizationProfile]],
) -> None:
    assert set(fixed_shapes(profiles["vision_64x64.onnx"]) or {}) == {"frame", "valid"}
    for member in ("decode_64x64.onnx", "text.onnx", "token.onnx"):
        assert fixed_shapes(profiles[member]) is None


def test_the_usual_shape_lies_in_every_range(
    profiles: dict[str, list[OptimizationProfile]],
) -> None:
    for member, made in profiles.items():
        for profile in made:
            for name, shapes in profile.items():
                ordered = zip(shapes.least, shapes.usual, shapes.most, strict=True)
                assert all(low <= usual <= high for low, usual, high in ordered), (member, name)


def test_batches_widen_the_frames(tiny_plan: Path) -> None:
    with Plan.open(tiny_plan) as plan:
        member = plan.manifest.graphs.vision["64x64"]
        graph = read_graph(member, plan.graph(member))
        first, second = profiles_of("vision", graph, plan.manifest, batch=4, max_rows=MAX_ROWS)
    assert fixed_shapes([first, second]) is None
    assert first["frame"].most == (1, 64, 64, 3)
    assert (second["frame"].least[0], second["frame"].most[0]) == (1, 4)


def test_an_unknown_symbolic_size_is_named(tiny_plan: Path) -> None:
    with Plan.open(tiny_plan) as plan:
        graph = read_graph("token.onnx", plan.graph("token.onnx"))
        graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "whatever"
        with pytest.raises(BuildError, match="whatever"):
            profiles_of("token", graph, plan.manifest, batch=1, max_rows=MAX_ROWS)


def test_fewer_rows_than_latents_are_refused(tiny_plan: Path) -> None:
    with Plan.open(tiny_plan) as plan:
        graph = read_graph("decode", plan.graph("decode_64x64.onnx"))
        manifest = replace(plan.manifest)
        with pytest.raises(BuildError, match="at least 9"):
            profiles_of("decode", graph, manifest, batch=1, max_rows=8)
