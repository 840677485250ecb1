"""The published network at its full size, with random weights: a file, a plan, INT8, answers."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xdecoder_rt import Engine
from xdecoder_rt.evaluation.divergence import cosine
from xdecoder_rt.export.options import BuildOptions, ConvertOptions
from xdecoder_rt.export.pipeline import build
from xdecoder_rt.streams import synthetic

torch = pytest.importorskip("torch", reason="building a plan needs the extra export")
pytest.importorskip("onnxscript", reason="building a plan needs the extra export")

# Tracing takes minutes of one core, on a busy machine many.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

DATA = Path(__file__).parents[1] / "data"
SIZE = (224, 224)
WORDS = ("mug", "table", "robot arm")


def write_published(path: Path, letter: str) -> None:
    """Write a file of the published names and shapes, with random weights."""
    shapes: list[tuple[str, list[int]]] = json.loads(
        gzip.decompress((DATA / f"state_dict_focal{letter}.json.gz").read_bytes())
    )
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, shape in shapes:
        if len(shape) == 1:  # weights of norms around one, as they are trained
            values = 0.1 * torch.randn(shape, generator=generator) + ("weight" in name)
        else:
            fan_in = math.prod(shape[1:]) or 1
            values = torch.randn(shape, generator=generator) / math.sqrt(fan_in)
        tensors[name] = values
    torch.save(tensors, path)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "xdecoder_focalt_last.pt"
    write_published(path, "t")
    return path


@pytest.fixture(scope="module")
def plan(published: Path) -> Path:
    path = published.with_name("focalt.plan")
    build(published, path, BuildOptions(sizes=[SIZE]))
    return path


def answers(path: Path, backend: str) -> dict[str, np.ndarray]:
    """Return what the queries say of an image, the image's embedding, and a caption's tokens."""
    image = synthetic.image(SIZE, 7)
    with Engine(path, backend=backend, threads=2) as engine:
        latents = engine.decode(image).latents
        assert latents is not None
        assert engine.segment(image, WORDS).segmentation.shape == SIZE
        return {
            "classes": latents.class_embedding,
            "masks": latents.mask_embedding,
            "image": engine.embed_image(image),
            "caption": np.array(engine.caption(image, max_tokens=4).text),
        }


def test_a_plan_of_a_published_file_answers_alike_on_both_runtimes(plan: Path) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    ours, theirs = answers(plan, "openvino"), answers(plan, "onnxruntime")
    assert ours["classes"].shape == ours["masks"].shape == (101, 512)
    for name in ("classes", "masks", "image"):
        assert cosine(ours[name], theirs[name]) > 0.9999, name
    assert ours["caption"] == theirs["caption"]


def test_an_int8_plan_of_it_is_built_and_answers(plan: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for seed in range(4):
        Image.fromarray(synthetic.image(SIZE, seed)).save(images / f"{seed}.png")
    conversion = ConvertOptions(
        "int8", calibration=images, estimator="max", images=2, search_images=1, max_drop=100.0,
        threads=2, force=True,
    )  # fmt: skip
    summary = build(plan, tmp_path / "int8.plan", BuildOptions(conversion=conversion))
    assert summary.manifest.precision == "int8"
    assert summary.size < 0.5 * plan.stat().st_size
    exact, quantized = answers(plan, "onnxruntime"), answers(tmp_path / "int8.plan", "onnxruntime")
    assert 0.9 < cosine(exact["image"], quantized["image"]) < 1.0
