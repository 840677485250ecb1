"""The graphs of a plan as ONNX: exported, simplified, checked."""

from __future__ import annotations

import gc
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxsim
import torch
from torch import Tensor, nn

from xdecoder_rt import tasks
from xdecoder_rt.errors import BuildError
from xdecoder_rt.export.joined_products import part_products
from xdecoder_rt.export.masked_attention import translation_table
from xdecoder_rt.models import XDecoder
from xdecoder_rt.models.decoder import Rows
from xdecoder_rt.models.graphs import (
    DecodeGraph,
    MaskGraph,
    TextGraph,
    TokenGraph,
    VisionGraph,
    memory_names,
    region_names,
    state_names,
)

OPSET = 18
MAX_BATCH = 16
MAX_ROWS = 16384
MAX_TEXT_LENGTH = 1024


@dataclass(frozen=True)
class ExportedGraph:
    """One graph, ready to be written into a plan.

    Attributes:
        name: ``vision``, ``decode``, ``mask``, ``text`` or ``token``.
        model: the simplified, checked ONNX model.
        module: its PyTorch form.
        example: inputs that it was traced with, by name.
        typical: inputs that its cost is counted with: one image, or one short text.
    """

    name: str
    model: onnx.ModelProto
    module: nn.Module
    example: dict[str, Tensor]
    typical: dict[str, Tensor]


def export_image_graphs(model: XDecoder, size: tuple[int, int]) -> Iterator[ExportedGraph]:
    """Export the vision, decode and mask graphs for one image size, with a symbolic batch.

    Args:
        model: in eval mode.
        size: height and width of the padded image, multiples of 32.

    Yields:
        One graph at a time, made when it is asked for: a reader that keeps none has one in memory.
        The vision graph, which takes most, is the last.

    Raises:
        BuildError: the size is not usable, now; or a graph cannot be exported, when it is its turn.
    """
    height, width = size
    if height % 32 or width % 32 or min(size) < 32:
        raise BuildError(
            f"Images of {height}x{width} cannot be encoded",
            expected="a height and a width that are multiples of 32",
            fix=f"Use {max(32, round(height / 32) * 32)}x{max(32, round(width / 32) * 32)}",
        )
    return _image_graphs(model, height, width)


def _image_graphs(model: XDecoder, height: int, width: int) -> Iterator[ExportedGraph]:
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    kept_queries = torch.export.Dim("kept", min=1, max=4096)
    vision, decode, mask = VisionGraph(model), DecodeGraph(model), MaskGraph()
    generator = torch.Generator().manual_seed(0)
    frame = torch.randint(0, 256, (2, height, width, 3), dtype=torch.uint8, generator=generator)
    valid = torch.tensor([[height, width], [max(1, height // 2), width]])
    frames = {"frame": frame, "valid": valid}
    # The vision graph comes last, when its outputs, examples of the others' inputs, are forgotten.
    with torch.no_grad():
        memory = dict(zip(vision.outputs, vision(frame, valid), strict=True))
        rows, dimensions = _example_rows(model, memory, batch, generator)
        mask_embedding = decode(*(rows[name] for name in decode.inputs))[1]
    masks = {"mask_embedding": mask_embedding, "mask_map": memory["mask_map"]}
    latents = _latents_of(rows, model.config.num_queries)
    yield export_graph("decode", decode, rows, (dimensions,), latents)
    del memory, rows, latents
    yield export_graph("mask", mask, masks, ({0: batch, 1: kept_queries}, {0: batch}))
    del masks
    yield export_graph("vision", vision, frames, ({0: batch}, {0: batch}))


def _example_rows(
    model: XDecoder, memory: dict[str, Tensor], batch: object, generator: torch.Generator
) -> tuple[dict[str, Tensor], tuple[object, ...]]:
    """Inputs of the decode graph that use all of it: every task beside the latents, and a past.

    Returns:
        The inputs by name, and which of their dimensions are symbolic.
    """
    shape = model.config.decoder
    queries, dim = shape.num_queries, shape.hidden_dim
    past = tasks.group("caption", queries, 3)
    groups = [tasks.latents(queries)]
    groups += [tasks.group(name, queries, 5, 3) for name in tasks.TASKS]
    layout = tasks.side_by_side(groups, tasks.LATENT_GROUP)
    length, earlier, regions = len(layout), len(past), 2
    text = torch.randn(2, length, dim, generator=generator)
    rows = Rows.of([layout, layout], text, past)
    region_weight = torch.zeros(2, length, regions)
    region_weight[:, torch.from_numpy(layout.kind) == tasks.Row.CAPTION, 1] = 1.0
    heads = shape.heads
    inputs = {name: memory[name] for name in (*memory_names(shape), *region_names(model))}
    levels = range(len(shape.level_strides))
    for level in levels:
        positions = memory[f"mask_features_{level}"].shape[1]
        inside = torch.rand(2, regions, positions, generator=generator) < 0.5
        inputs[f"regions_{level}"] = inside * 2.0 - 1.0
    inputs |= {
        "kind": rows.kind,
        "content": rows.content,
        "position": rows.position,
        "text": text,
        "visible": rows.visible,
        "region_weight": region_weight,
    }
    for name in state_names("past", shape.layers):
        inputs[name] = torch.randn(2, heads, earlier, dim // heads, generator=generator)
    rows_axis = torch.export.Dim("rows", min=1, max=MAX_ROWS)
    past_axis = torch.export.Dim("past", min=1, max=MAX_ROWS)
    seen_axis = torch.export.Dim.DYNAMIC
    region_axis = torch.export.Dim("regions", min=1, max=64)
    axes: dict[str, dict[int, object]] = {
        "kind": {1: rows_axis},
        "content": {1: rows_axis},
        "position": {1: rows_axis},
        "text": {1: rows_axis},
        "visible": {1: rows_axis, 2: seen_axis},
        "region_weight": {1: rows_axis, 2: region_axis},
        **{f"regions_{level}": {1: region_axis} for level in levels},
        **{name: {2: past_axis} for name in state_names("past", shape.layers)},
    }
    return inputs, tuple({0: batch, **axes.get(name, {})} for name in inputs)


def _latents_of(rows: dict[str, Tensor], num_queries: int) -> dict[str, Tensor]:
    """Of the decode graph's inputs, what the latents of one image are decoded with."""
    inputs = {name: value[:1] for name, value in rows.items()}
    for name in ("kind", "content", "position", "text", "region_weight"):
        inputs[name] = inputs[name][:, :num_queries]
    past = rows["visible"].shape[2] - rows["visible"].shape[1]
    inputs["visible"] = inputs["visible"][:, :num_queries, past : past + num_queries]
    return {k: v[:, :, :0] if k.startswith("past_") else v for k, v in inputs.items()}


def export_text_graph(model: XDecoder) -> ExportedGraph:
    """Export the text graph, with a symbolic number and length of rows and of earlier tokens."""
    shape = model.config.text
    texts = torch.export.Dim("texts", min=1, max=65536)
    length = torch.export.Dim("length", min=1, max=MAX_TEXT_LENGTH)
    past = torch.export.Dim("past", min=0, max=shape.context_length)
    generator = torch.Generator().manual_seed(0)
    token_ids = torch.randint(0, shape.vocabulary_size, (3, 4), generator=generator)
    places = torch.arange(2, 6).repeat(3, 1)
    visible = (torch.arange(6) <= places[..., None]).clone()
    # The last token of the second row begins another text: it sees the past and itself.
    places[1, 3], visible[1, 3, 2:5] = 2, False
    example = {"token_ids": token_ids, "places": places, "visible": visible}
    heads = shape.heads
    for name in state_names("past", shape.layers):
        example[name] = torch.randn(3, heads, 2, shape.width // heads, generator=generator)
    states = tuple({0: texts, 2: past} for _ in state_names("past", shape.layers))
    rows = {0: texts, 1: length}
    dimensions = (rows, rows, {**rows, 2: torch.export.Dim.DYNAMIC}, states)
    return export_graph("text", TextGraph(model), example, dimensions)


def export_token_graph(model: XDecoder) -> ExportedGraph:
    """Export the scores of the next token, with a symbolic number of captions."""
    captions = torch.export.Dim("captions", min=1, max=1024)
    generator = torch.Generator().manual_seed(0)
    embedding = torch.randn(3, model.config.text.width, generator=generator)
    return export_graph(
        "token", TokenGraph(model), {"caption_embedding": embedding}, ({0: captions},)
    )


def export_graph(
    name: str,
    module: nn.Module,
    example: dict[str, Tensor],
    dynamic_shapes: tuple[object, ...],
    typical: dict[str, Tensor] | None = None,
) -> ExportedGraph:
    """Export, simplify and check one module.

    Args:
        name: of the graph.
        module: its ``outputs`` attribute names what it returns.
        example: inputs to trace it with, by name and in order.
        dynamic_shapes: which of their dimensions are symbolic, as ``torch.export`` takes it.
        typical: inputs to count its cost with; None for the first of each example.

    Raises:
        BuildError: the simplified graph computes something else.
    """
    with _quiet_exporter():
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
    # By way of files: handed over in memory, the weights would be there six times.
    with tempfile.TemporaryDirectory(prefix="xdecoder-rt-") as folder:
        traced = Path(folder, "traced.onnx")
        program.save(traced, external_data=True)
        # What traced the module holds itself in circles.
        del program
        gc.collect()
        simplified, agrees = onnxsim.simplify(str(traced))
    if not agrees:
        raise BuildError(
            f"onnxsim changed what the {name} graph computes",
            fix="Report it with the versions of torch, onnx and onnxsim",
        )
    part_products(simplified)
    simplified.graph.name = name
    del simplified.metadata_props[:]
    for node in simplified.graph.node:
        # The tracer's notes name source files of this machine.
        del node.metadata_props[:]
        node.doc_string = ""
    for value in simplified.graph.value_info:
        del value.metadata_props[:]
    onnx.checker.check_model(simplified, full_check=True)
    if typical is None:
        typical = {key: value[:1] for key, value in example.items()}
    return ExportedGraph(name, simplified, module, example, typical)


@contextmanager
def _quiet_exporter() -> Iterator[None]:
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
