"""From weights to a portable ``.plan`` file."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from xdecoder_rt.errors import BuildError
from xdecoder_rt.export.class_names import class_embeddings
from xdecoder_rt.export.costs import macs, parameters, weights_digest
from xdecoder_rt.export.onnx_graphs import (
    MAX_BATCH,
    ExportedGraph,
    export_image_graphs,
    export_text_graph,
    export_token_graph,
)
from xdecoder_rt.export.progress import StepProgress
from xdecoder_rt.export.summary import GraphSummary
from xdecoder_rt.export.verify import check_against_torch
from xdecoder_rt.models import XDecoder
from xdecoder_rt.pixels.letterbox import ResizeRule
from xdecoder_rt.plan.file import write_plan
from xdecoder_rt.plan.manifest import (
    DecoderInfo,
    DistractorInfo,
    Graphs,
    InputInfo,
    Manifest,
    ModelInfo,
    PostprocessInfo,
    RegionInfo,
    TextInfo,
    size_key,
)
from xdecoder_rt.plan.sharing import share_weights
from xdecoder_rt.tasks import TASKS
from xdecoder_rt.words.templates import BACKGROUND, NAME_SUFFIXES, TEMPLATES
from xdecoder_rt.words.tokenizer import ClipTokenizer

MAX_PHRASES = 64
NO_REPEAT_NGRAM = 3
"""Tokens in a row that a caption of a compact model never has twice; published ones are exact."""
TOKENIZER = "tokenizer.json"
REGION_VECTORS = "region_names.f32"
DISTRACTOR_VECTORS = "distractors.f32"
_TOOLS = ("xdecoder_rt", "torch", "onnx", "onnxscript", "onnxsim", "onnxruntime", "numpy")


@dataclass(frozen=True)
class PortableSummary:
    """Result of an export: the plan's path, its manifest, and a line a graph."""

    path: Path
    manifest: Manifest
    graphs: tuple[GraphSummary, ...]


def build_portable(
    model: XDecoder,
    output: Path,
    *,
    sizes: Sequence[tuple[int, int]],
    rule: ResizeRule | None = None,
    interpolation: str | None = None,
    object_threshold: float | None = None,
    overlap_threshold: float | None = None,
    text_size: tuple[int, int] | None = None,
    tasks: Sequence[str] | None = None,
    max_phrases: int = MAX_PHRASES,
    piece_share: float = 0.0,
    progress: StepProgress = lambda _: None,
) -> PortableSummary:
    """Export a model's graphs and write them as a portable plan.

    Args:
        model: the weights, in eval mode.
        output: the plan to write; it appears whole or not at all.
        sizes: (height, width) of the inputs, multiples of 32; the engine takes the one that fits.
        rule: how images are scaled into them; None to fill the one that fits best.
        interpolation: ``"bilinear"`` or ``"bicubic"``; None for bilinear of compact models and
            bicubic of published ones.
        object_threshold: least score of a query in panoptic output; None for the model's.
        overlap_threshold: least share of its own mask that a panoptic segment owns; None for the
            model's.
        text_size: (height, width) of one more input, for texts of images alone; see
            :class:`~xdecoder_rt.plan.manifest.InputInfo`.
        tasks: what the plan is to do; None for all that the weights are trained for. Without
            captions it carries no token graph.
        max_phrases: phrases that one call may refer by.
        piece_share: how the plan cleans masks; see
            :class:`~xdecoder_rt.plan.manifest.PostprocessInfo`.
        progress: called with a sentence before each step.

    Raises:
        BuildError: a size or a task is unusable, a graph does not compute what PyTorch does, or
            the file cannot be written.
    """
    if not sizes or len(set(sizes)) != len(sizes):
        raise BuildError("The input sizes are missing or repeat", expected="distinct sizes")
    tasks = model.config.tasks if tasks is None else tasks
    unknown = [task for task in tasks if task not in model.config.tasks]
    if unknown or not tasks or len(set(tasks)) != len(tasks):
        raise BuildError(
            f"The tasks {', '.join(tasks) or '(none)'} cannot be built",
            expected=f"some of {', '.join(model.config.tasks)}, each once",
        )
    model = model.eval().requires_grad_(False)
    members: dict[str, bytes] = {}
    summaries: list[GraphSummary] = []
    costs: dict[str, int] = {}
    errors: dict[str, float] = {}
    names: dict[str, dict[str, str]] = {"vision": {}, "decode": {}, "mask": {}}

    def add(graph: ExportedGraph, member: str) -> None:
        progress(f"Checking {member} against PyTorch")
        errors[member] = max(check_against_torch(graph).values())
        costs[member] = macs(graph)
        members[member] = graph.model.SerializeToString(deterministic=True)
        summaries.append(
            GraphSummary(
                graph.name,
                member,
                nodes=len(graph.model.graph.node),
                macs=costs[member],
                size=len(members[member]),
                error=errors[member],
            )
        )

    for size in dict.fromkeys([*sizes, *([] if text_size is None else [text_size])]):
        key = size_key(size)
        progress(f"Exporting the image graphs for {key}")
        for graph in export_image_graphs(model, size):
            names[graph.name][key] = f"{graph.name}_{key}.onnx"
            add(graph, names[graph.name][key])
            del graph  # before the next is made
    progress("Exporting the text graph")
    add(export_text_graph(model), "text.onnx")
    token = None
    if any("token" in TASKS[task].graphs for task in tasks):
        progress("Exporting the token graph")
        token = "token.onnx"
        add(export_token_graph(model), token)
    if model.region is not None:
        members[REGION_VECTORS] = model.region.vectors.numpy().astype("<f4").tobytes()
    if model.config.distractors is not None:
        vectors = class_embeddings(model, model.config.distractors.words)
        members[DISTRACTOR_VECTORS] = vectors.numpy().astype("<f4").tobytes()
    members[TOKENIZER] = ClipTokenizer.default(model.config.context_length).to_json()
    first = size_key(sizes[0])
    family = model.config.family
    rule = ResizeRule() if rule is None else rule
    inputs = InputInfo(
        sizes=tuple(sizes),
        batch=(1, MAX_BATCH),
        mean=model.config.pixel_mean,
        std=model.config.pixel_std,
        resize=rule.name,
        interpolation=interpolation or ("bicubic" if family == "published" else "bilinear"),
        short_side=rule.short_side,
        longest_side=rule.longest_side,
        text_size=text_size,
    )
    thresholds = model.config.postprocess
    postprocess = PostprocessInfo(
        object_mask_threshold=_given(object_threshold, thresholds.object_mask_threshold),
        overlap_threshold=_given(overlap_threshold, thresholds.overlap_threshold),
        instance_topk=thresholds.instance_topk,
        void_offset=thresholds.void_offset,
        votes=thresholds.votes,
        piece_share=piece_share,
        curves=thresholds.curves,
        min_scores=thresholds.min_scores,
    )
    manifest = _manifest(
        model,
        inputs,
        Graphs(names["vision"], names["decode"], names["mask"], "text.onnx", token),
        tasks,
        max_phrases,
        postprocess,
        sum(costs[of_size[first]] for of_size in names.values()),
        errors,
        hashlib.sha256(members["text.onnx"]).hexdigest(),
    )
    progress(f"Writing {output}")
    written = write_plan(output, *share_weights(manifest, members))
    return PortableSummary(output, written, tuple(summaries))


def _given(value: float | None, default: float) -> float:
    return default if value is None else value


def _manifest(
    model: XDecoder,
    inputs: InputInfo,
    graphs: Graphs,
    tasks: Sequence[str],
    max_phrases: int,
    postprocess: PostprocessInfo,
    frame_macs: int,
    errors: dict[str, float],
    text_sha256: str,
) -> Manifest:
    config = model.config
    return Manifest(
        backend="portable",
        backend_version=f"onnx opset {18}",
        precision="fp32",
        model=ModelInfo(
            name=config.name,
            family=config.family,
            weights_sha256=weights_digest(model),
            parameters=parameters(model),
            macs=frame_macs,
        ),
        input=inputs,
        graphs=graphs,
        decoder=DecoderInfo(
            num_queries=config.num_queries,
            layers=config.decoder.layers,
            heads=config.decoder.heads,
            mask_dim=config.mask_dim,
            mask_stride=config.mask_stride,
            level_strides=config.decoder.level_strides,
            class_token_is_mask=config.decoder.class_token_is_mask,
            logit_scale=float(model.text_encoder.logit_scale.exp()),
            max_phrases=max_phrases,
            retrieval_ensemble=config.retrieval_ensemble,
        ),
        text=TextInfo(
            context_length=config.context_length,
            proj_dim=config.proj_dim,
            layers=config.text.layers,
            heads=config.text.heads,
            width=config.text.width,
            tokenizer=TOKENIZER,
            templates=TEMPLATES[config.templates],
            strip_suffixes=NAME_SUFFIXES,
            background=BACKGROUND,
            caption_stops=config.caption_stops,
            repetition_penalty=config.repetition_penalty,
            no_repeat_ngram=0 if config.family == "published" else NO_REPEAT_NGRAM,
            caption_beams=config.caption_beams,
            answers=config.answers,
            origin_sha256=text_sha256,
        ),
        tasks=tuple(tasks),
        postprocess=postprocess,
        region=(
            None
            if config.region is None
            else RegionInfo(
                width=config.region.map_width,
                names=config.region.names,
                vectors=REGION_VECTORS,
                weight=config.region.weight,
                scale=config.region.scale,
                void=config.region.void,
                void_yield=config.region.void_yield,
            )
        ),
        distractors=(
            None
            if config.distractors is None
            else DistractorInfo(
                count=len(config.distractors.words),
                vectors=DISTRACTOR_VECTORS,
                likeness=config.distractors.likeness,
                region_likeness=config.distractors.region_likeness,
            )
        ),
        accuracy={"relative_rms_error_against_pytorch": errors},
        build={**{tool: version(tool) for tool in _TOOLS}, "python": platform.python_version()},
    )
