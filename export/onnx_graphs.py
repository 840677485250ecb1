"""The graphs of a plan as ONNX: exported, simplified, checked."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import onnx
import onnxsim
import torch
from torch import Tensor, nn

from xdecoder_rt.errors import BuildError
from xdecoder_rt.export.masked_attention import translation_table
from xdecoder_rt.models import XDecoder
from xdecoder_rt.models.graphs import DecodeGraph, MaskGraph, TextGraph, VisionGraph

OPSET = 18
MAX_BATCH = 16


@dataclass(frozen=True)
class ExportedGraph:
    """One graph, ready to be written into a plan.

    Attributes:
        name: ``vision``, ``decode``, ``mask`` or ``text``.
        model: the simplified, checked ONNX model.
        module: its PyTorch form.
        example: inputs that it was traced with, by name.
    """

    name: str
    model: onnx.ModelProto
    module: nn.Module
    example: dict[str, Tensor]


def export_image_graphs(model: XDecoder, size: tuple[int, int]) -> list[ExportedGraph]:
    """Export the vision, decode and mask graphs for one image size, with a symbolic batch.

    Args:
        model: in eval mode.
        size: height and width of the padded image, multiples of 32.

    Raises:
        BuildError: the size is not usable, or a graph cannot be exported.
    """
    height, width = size
    if height % 32 or width % 32 or min(size) < 32:
        raise BuildError(
            f"Images of {height}x{width} cannot be encoded",
            expected="a height and a width that are multiples of 32",
            fix=f"Use {max(32, round(height / 32) * 32)}x{max(32, round(width / 32) * 32)}",
        )
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    kept = torch.export.Dim("kept", min=1, max=4096)
    vision, decode, mask = VisionGraph(model), DecodeGraph(model), MaskGraph()
    generator = torch.Generator().manual_seed(0)
    frame = torch.randint(0, 256, (2, height, width, 3), dtype=torch.uint8, generator=generator)
    valid = torch.tensor([[height, width], [max(1, height // 2), width]])
    with torch.no_grad():
        memory = dict(zip(vision.outputs, vision(frame, valid), strict=True))
        decoded = decode(*(memory[name] for name in decode.inputs))
    frames = {"frame": frame, "valid": valid}
    memories = {name: memory[name] for name in decode.inputs}
    masks = {"mask_embedding": decoded[1], "mask_map": memory["mask_map"]}
    return [
        export_graph("vision", vision, frames, ({0: batch}, {0: batch})),
        export_graph("decode", decode, memories, (tuple({0: batch} for _ in memories),)),
        export_graph("mask", mask, masks, ({0: batch, 1: kept}, {0: batch})),
    ]


def export_text_graph(model: XDecoder) -> ExportedGraph:
    """Export the text graph, with a symbolic number and length of texts."""
    texts = torch.export.Dim("texts", min=1, max=65536)
    length = torch.export.Dim("length", min=2, max=model.config.context_length)
    token_ids = torch.full((3, 7), 49407)
    token_ids[:, 0] = 49406
    token_ids[:, 1:3] = torch.tensor([[320, 1929], [2368, 320], [518, 1615]])
    example = {"token_ids": token_ids}
    return export_graph("text", TextGraph(model), example, ({0: texts, 1: length},))


def export_graph(
    name: str, module: nn.Module, example: dict[str, Tensor], dynamic_shapes: tuple[object, ...]
) -> ExportedGraph:
    """Export, simplify and check one module.

    Args:
        name: of the graph.
        module: its ``outputs`` attribute names what it returns.
        example: inputs to trace it with, by name and in order.
        dynamic_shapes: which of their dimensions are symbolic, as ``torch.export`` takes it.

    Raises:
        BuildError: the simplified graph computes something else.
    """
    with _quiet():
        program = torch.onnx.export(
            module.eval(),
            tuple(example.values()),
            dynamo=True,
            dynamic_shapes=dynamic_shapes,
            input_names=list(example),
            output_names=list(getattr(module, "outputs")),  # noqa: B009
            opset_version=OPSET,
            custom_translation_table=translation_table(),
            verbose=False,
        )
    assert program is not None  # returned whenever dynamo=True
    simplified, agrees = onnxsim.simplify(program.model_proto)
    if not agrees:
        raise BuildError(
            f"onnxsim changed what the {name} graph computes",
            fix="Report it with the versions of torch, onnx and onnxsim",
        )
    simplified.graph.name = name
    del simplified.metadata_props[:]
    for node in simplified.graph.node:
        # The tracer's notes name source files of this machine.
        del node.metadata_props[:]
        node.doc_string = ""
    for value in simplified.graph.value_info:
        del value.metadata_props[:]
    onnx.checker.check_model(simplified, full_check=True)
    return ExportedGraph(name, simplified, module, example)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's notes on folding, which concern nobody who builds a plan."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
