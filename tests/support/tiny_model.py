"""A compact model of a few thousand parameters, and the plan of it that tests read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn import functional as F

from xdecoder_rt.export.onnx_graphs import (
    ExportedGraph,
    export_image_graphs,
    export_text_graph,
    export_token_graph,
)
from xdecoder_rt.export.portable import build_portable
from xdecoder_rt.models import XDecoder
from xdecoder_rt.models.config import (
    BackboneConfig,
    DecoderConfig,
    ModelConfig,
    PixelDecoderConfig,
    PostprocessConfig,
    RegionConfig,
    TextConfig,
)
from xdecoder_rt.models.graphs import (
    DecodeGraph,
    MaskGraph,
    Normalise,
    TextGraph,
    TokenGraph,
    VisionGraph,
)

SIZES = ((64, 64), (32, 96))
EXPORTED_SIZE = (64, 96)


def tiny_config() -> ModelConfig:
    """Return the configuration of a model that keeps every segment it can."""
    return ModelConfig(
        name="tiny",
        family="compact",
        backbone=BackboneConfig(
            kind="focal_dw",
            embed_dim=8,
            depths=(1, 1, 1, 1),
            focal_levels=(1, 1, 1, 1),
        ),
        pixel_decoder=PixelDecoderConfig(
            dim=16,
            mask_level_dim=16,
            mask_dim=16,
            mask_kernel=0,
            norm="batch",
            transformer_layers=1,
            heads=2,
            feedforward_dim=32,
        ),
        decoder=DecoderConfig(
            num_queries=9,
            hidden_dim=16,
            heads=2,
            feedforward_dim=32,
            layers=3,
            class_token_is_mask=False,
        ),
        text=TextConfig(width=16, heads=2, layers=1, context_length=77, token_rank=4),
        # Random weights are sure of nothing: without thresholds there is something to look at.
        postprocess=PostprocessConfig(object_mask_threshold=0.0, overlap_threshold=0.0),
        proj_dim=16,
        templates="compact",
    )


def redrawn(model: XDecoder) -> XDecoder:
    """Draw every value anew, so that no norm, bias, statistic or layer scale is as it begins."""
    torch.manual_seed(0)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            if value.ndim >= 2:
                value.normal_(0, max(0.02, value[0].numel() ** -0.5))
            elif name.endswith("bias") or name.endswith("running_mean"):
                value.normal_(0, 0.2)
            elif value.ndim == 1:
                value.uniform_(0.5, 1.5)
    return model.eval()


def drawn() -> XDecoder:
    """Return the model of the plan and of the exported graphs, by its seed."""
    torch.manual_seed(0)
    return XDecoder(tiny_config()).eval().requires_grad_(False)


def naming_config() -> ModelConfig:
    """Return the configuration of the tiny model with a classifier of regions, and votes."""
    region = RegionConfig(
        features=12, width=6, names=7, weight=0.5, scale=30.0, void=0.1, void_yield=0.5
    )
    rules = replace(tiny_config().postprocess, votes=0.5)
    return replace(tiny_config(), region=region, postprocess=rules)


def naming_model() -> XDecoder:
    """Return the model of `build_naming_plan`, every value drawn at random."""
    model = redrawn(XDecoder(naming_config())).requires_grad_(False)
    # Random masks are alike, and cover all of the image or nothing: what they have in common, and
    # what positions have in common, is taken out.
    frame = torch.randint(0, 256, (1, *SIZES[0], 3), dtype=torch.uint8)
    normalise = Normalise(model.config.pixel_mean, model.config.pixel_std)
    seen = model(normalise(frame, torch.tensor(SIZES[:1])))
    last = model.decoder.mask_embed[2]
    last.bias.sub_(seen.layers[-1].mask_embedding.mean((0, 1)))
    common = F.normalize(seen.mask_features.mean((0, 2, 3)), dim=0)
    last.weight.sub_(torch.outer(common, common @ last.weight))
    last.bias.sub_(common * (common @ last.bias))
    return model


def build_naming_plan(folder: Path) -> None:
    """Write ``naming.plan``, the portable plan of the model with a classifier of regions."""
    build_portable(naming_model(), folder / "naming.plan", sizes=SIZES[:1])


def build_plan(folder: Path) -> None:
    """Write ``tiny.plan``, the portable plan of the model for inputs of `SIZES`."""
    build_portable(drawn(), folder / "tiny.plan", sizes=SIZES)


def export_graphs(folder: Path) -> None:
    """Write the model's five graphs for `EXPORTED_SIZE`, and the inputs that come with them."""
    model = drawn()
    graphs = export_image_graphs(model, EXPORTED_SIZE)
    for graph in (*graphs, export_text_graph(model), export_token_graph(model)):
        onnx.save(graph.model, folder / f"{graph.name}.onnx")
        for kind, values in (("example", graph.example), ("typical", graph.typical)):
            arrays = {name: value.numpy() for name, value in values.items()}
            np.savez(folder / f"{graph.name}_{kind}.npz", **arrays)


def exported_graphs(folder: Path, model: XDecoder) -> Iterator[ExportedGraph]:
    """Read what `export_graphs` wrote, around the model's own modules."""
    modules: dict[str, nn.Module] = {
        "vision": VisionGraph(model),
        "decode": DecodeGraph(model),
        "mask": MaskGraph(),
        "text": TextGraph(model),
        "token": TokenGraph(model),
    }
    for name, module in modules.items():
        example, typical = (
            {key: torch.from_numpy(value) for key, value in np.load(path).items()}
            for path in (folder / f"{name}_example.npz", folder / f"{name}_typical.npz")
        )
        graph = onnx.load(folder / f"{name}.onnx")
        yield ExportedGraph(name, graph, module.eval(), example, typical)
