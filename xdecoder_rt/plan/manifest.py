"""``manifest.json``: what a plan says about itself, as typed values.

Three keys are the same in every format version: ``format_version``, ``backend`` and ``members``.
Everything else belongs to version 1. Keys that this release does not know are ignored, so that a
version can grow; a version that it does not know is refused.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xdecoder_rt.errors import PlanVersionError
from xdecoder_rt.json_reader import JsonObject, parse_json_object
from xdecoder_rt.kernels.compiled import INDEX, KERNELS
from xdecoder_rt.plan.archive import check_member_name
from xdecoder_rt.tasks import TASKS

__all__ = [
    "BACKENDS",
    "FORMAT_VERSION",
    "MANIFEST_LIMIT",
    "MANIFEST_NAME",
    "DecoderInfo",
    "Graphs",
    "InputInfo",
    "Manifest",
    "MemberInfo",
    "ModelInfo",
    "PostprocessInfo",
    "TextInfo",
    "VocabularyInfo",
    "size_key",
]

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
MANIFEST_LIMIT = 4 << 20
BACKENDS = ("portable", "tensorrt", "tensorrt_rtx")
FAMILIES = ("published", "compact")
PROFILES = ("cpu", "tensorrt")
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8", "mixed")
RESIZE_RULES = ("letterbox",)
INTERPOLATIONS = ("bilinear", "bicubic")

_HEX = re.compile(r"[0-9a-f]{64}")
_SIZE = re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")
_CAPABILITY = re.compile(r"[0-9]{1,2}\.[0-9]")
_SIDE_LIMIT = 16384
_OFFSET_LIMIT = 100.0


def size_key(size: tuple[int, int]) -> str:
    """The key of an input size (height, width) in `Graphs`: ``"512x288"`` is 512 high."""
    return f"{size[0]}x{size[1]}"


@dataclass(frozen=True)
class MemberInfo:
    """SHA-256 (hexadecimal) and size in bytes of one member of the archive."""

    sha256: str
    size: int


@dataclass(frozen=True)
class ModelInfo:
    """Which weights these are.

    Attributes:
        name: for people.
        family: ``"published"`` or ``"compact"``.
        weights_sha256: digest of the weights that the graphs were exported from.
        parameters: number of parameters, the text encoder included.
        macs: multiply-accumulates of one frame at the first input size, text excluded.
    """

    name: str
    family: str
    weights_sha256: str
    parameters: int
    macs: int


@dataclass(frozen=True)
class InputInfo:
    """What the vision graph takes.

    Attributes:
        sizes: (height, width) of each input that the plan carries graphs for.
        batch: smallest and largest number of frames of a call.
        mean: per channel (RGB), of values 0 to 255; subtracted inside the vision graph.
        std: per channel; divided by inside the vision graph.
        resize: ``"letterbox"``: scaled to fit, content at the top left, zeros right and below.
        interpolation: ``"bilinear"`` or ``"bicubic"``, antialiased as in Pillow.
    """

    sizes: tuple[tuple[int, int], ...]
    batch: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: str
    interpolation: str


@dataclass(frozen=True)
class Graphs:
    """The member that holds each graph.

    `vision`, `decode` and `mask` have one per input size, keyed by `size_key`. `token` is None in
    plans that write no captions.
    """

    vision: Mapping[str, str]
    decode: Mapping[str, str]
    mask: Mapping[str, str]
    text: str
    token: str | None = None

    def members(self) -> tuple[str, ...]:
        """The names of all members that hold graphs."""
        groups = (self.vision, self.decode, self.mask)
        single = (self.text,) if self.token is None else (self.text, self.token)
        return (*(name for group in groups for name in group.values()), *single)


@dataclass(frozen=True)
class DecoderInfo:
    """The decoder's dimensions.

    Attributes:
        num_queries: latent queries, the class token (the last one) included.
        layers: decoder layers, each with self-attention keys and values.
        heads: attention heads of a layer; each is ``proj_dim / heads`` wide.
        mask_dim: length of a mask embedding.
        mask_stride: pixels of the input per mask logit, along each axis.
        class_token_is_mask: whether the class token's mask counts as an object, as published.
        logit_scale: factor of the cosine between class and text embedding, exp already taken.
        max_phrases: phrases that one call may refer by.
        retrieval_ensemble: whether an image's embedding is the mean of the class token's and the
            backbone's, or the class token's alone.
        max_rows: most rows of one run of the decode graph; what is more is divided. None: any
            number.
    """

    num_queries: int
    layers: int
    heads: int
    mask_dim: int
    mask_stride: int
    class_token_is_mask: bool
    logit_scale: float
    max_phrases: int
    retrieval_ensemble: bool
    max_rows: int | None = None


@dataclass(frozen=True)
class TextInfo:
    """How words become embeddings.

    Attributes:
        context_length: tokens of a text, start and end included.
        proj_dim: length of a text embedding, and of the decoder's rows.
        layers: transformer layers, each with keys and values.
        heads: attention heads of a layer.
        width: of the transformer.
        tokenizer: the member that holds ``tokenizer.json``.
        templates: sentences with one ``{}``, whose unit embeddings are averaged per class name.
        strip_suffixes: cut from class names before they go into a template.
        background: the name whose embedding is the void class.
        caption_stops: texts that a caption ends before.
        repetition_penalty: how captions are kept from repeating themselves, 1 for not at all; see
            :class:`~xdecoder_rt.questions.caption.CaptionWriter`.
        caption_beams: drafts of a caption followed at a time unless a call asks otherwise.
        answers: what a question without choices is answered from.
        origin_sha256: SHA-256 of the fp32 text graph that this plan's was made from; embeddings
            made by that one are welcome here.
    """

    context_length: int
    proj_dim: int
    layers: int
    heads: int
    width: int
    tokenizer: str
    templates: tuple[str, ...]
    strip_suffixes: tuple[str, ...]
    background: str
    caption_stops: tuple[str, ...] = ()
    repetition_penalty: float = 1.0
    caption_beams: int = 1
    answers: tuple[str, ...] = ()
    origin_sha256: str | None = None


@dataclass(frozen=True)
class PostprocessInfo:
    """Thresholds of the post-processing, each from 0 to 1, and the number of instances kept.

    Attributes:
        object_mask_threshold: a query is kept for panoptic output above this softmax score.
        overlap_threshold: a segment is kept if it owns at least this share of its mask.
        instance_topk: (query, class) pairs taken for instance output.
        keep_semantic_background: whether semantic output has the void class as one of its classes.
        void_offset: what is taken from the void class's logit of every query.
    """

    object_mask_threshold: float
    overlap_threshold: float
    instance_topk: int
    keep_semantic_background: bool = False
    void_offset: float = 0.0


@dataclass(frozen=True)
class VocabularyInfo:
    """A vocabulary embedded at the build, so that the text graph need not run.

    Attributes:
        name: what to ask for.
        texts: the member with the words and their rules, JSON (:mod:`xdecoder_rt.words.files`).
        embeddings: the member with their unit embeddings and, last, that of the void class,
            float32 little-endian ``[count + 1, proj_dim]``.
        count: number of words, synonyms included.
    """

    name: str
    texts: str
    embeddings: str
    count: int


@dataclass(frozen=True)
class Manifest:
    """All that a plan says about itself.

    Attributes:
        backend: ``"portable"``, ``"tensorrt"`` or ``"tensorrt_rtx"``.
        backend_version: version of the library that made the graphs.
        precision: what the heavy layers compute in.
        profile: which targets the graphs were written for, ``"cpu"`` or ``"tensorrt"``; None where
            any can take them.
        targets: CUDA compute capabilities that a TensorRT plan runs on ("8.7"); portable: empty.
        plugins: what must be registered with TensorRT before its engines are read, as
            :mod:`xdecoder_rt.backends.tensorrt.plugins` does; they launch the plan's kernels.
        tasks: what the graphs can do.
        calibration: how the ranges of an INT8 plan were found, or None.
        accuracy: metric name to value, measured against fp32 at the build.
        build: name to version of the tools that made the plan.
        members: every member but the manifest itself; filled in by `plan.write_plan`.
    """

    backend: str
    backend_version: str
    precision: str
    model: ModelInfo
    input: InputInfo
    graphs: Graphs
    decoder: DecoderInfo
    text: TextInfo
    postprocess: PostprocessInfo
    profile: str | None = None
    targets: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ("segment",)
    calibration: Mapping[str, Any] | None = None
    accuracy: Mapping[str, Any] = field(default_factory=dict)
    build: Mapping[str, str] = field(default_factory=dict)
    vocabularies: tuple[VocabularyInfo, ...] = ()
    members: Mapping[str, MemberInfo] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def to_json(self) -> bytes:
        """The manifest as UTF-8 JSON, the same bytes for equal manifests."""
        text = json.dumps(
            dataclasses.asdict(self), ensure_ascii=False, allow_nan=False, sort_keys=True, indent=1
        )
        return text.encode("utf-8") + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Parses and checks ``manifest.json``.

        Args:
            data: the file's bytes, from an untrusted source.

        Returns:
            The manifest; every member that it refers to is in its `members`.

        Raises:
            PlanVersionError: the format version is not 1.
            PlanError: a key is missing or a value is of the wrong type or out of range.
        """
        document = parse_json_object(data, MANIFEST_NAME, MANIFEST_LIMIT)
        version = document.integer("format_version")
        if version != FORMAT_VERSION:
            raise PlanVersionError(
                f"The plan has format version {version}",
                expected=f"version {FORMAT_VERSION}, the one that this release reads",
                fix="build the plan again, or use the release of xdecoder_rt that it was made for",
            )
        manifest = cls(
            format_version=version,
            backend=document.choice("backend", BACKENDS),
            backend_version=document.text("backend_version", 200),
            precision=document.choice("precision", PRECISIONS),
            model=_model(document.child("model")),
            input=_input(document.child("input")),
            graphs=_graphs(document.child("graphs")),
            decoder=_decoder(document.child("decoder")),
            text=_text(document.child("text")),
            postprocess=_postprocess(document.child("postprocess")),
            profile=document.optional("profile", lambda key: document.choice(key, PROFILES), None),
            targets=document.optional("targets", document.texts, ()),
            plugins=document.optional("plugins", document.texts, ()),
            tasks=document.texts("tasks"),
            calibration=document.optional("calibration", document.free_form, None),
            accuracy=document.optional("accuracy", document.free_form, {}),
            build=document.optional("build", document.text_map, {}),
            vocabularies=_vocabularies(document),
            members=_members(document.child("members")),
        )
        _check_agreement(manifest, document)
        return manifest


def _model(values: JsonObject) -> ModelInfo:
    return ModelInfo(
        name=values.text("name", 200),
        family=values.choice("family", FAMILIES),
        weights_sha256=_digest(values, "weights_sha256"),
        parameters=values.integer("parameters"),
        macs=values.integer("macs"),
    )


def _input(values: JsonObject) -> InputInfo:
    low, high = values.integer_pair("batch", 1, 1024)
    if low > high:
        values.fail("batch", f"is [{low}, {high}]", "the smallest batch before the largest")
    return InputInfo(
        sizes=values.integer_pairs("sizes", 32, _SIDE_LIMIT),
        batch=(low, high),
        mean=values.numbers("mean", 3, -1e4, 1e4),
        std=values.numbers("std", 3, 1e-4, 1e4),
        resize=values.choice("resize", RESIZE_RULES),
        interpolation=values.choice("interpolation", INTERPOLATIONS),
    )


def _graphs(values: JsonObject) -> Graphs:
    graphs = Graphs(
        vision=values.text_map("vision"),
        decode=values.text_map("decode"),
        mask=values.text_map("mask"),
        text=values.text("text"),
        token=values.optional("token", values.text, None),
    )
    for key in graphs.vision:
        if not _SIZE.fullmatch(key):
            values.fail("vision", f"has the key {key[:40]!r}", 'input sizes such as "512x288"')
    return graphs


def _decoder(values: JsonObject) -> DecoderInfo:
    return DecoderInfo(
        num_queries=values.integer("num_queries", 2, 4096),
        layers=values.integer("layers", 1, 256),
        heads=values.integer("heads", 1, 256),
        mask_dim=values.integer("mask_dim", 1, 8192),
        mask_stride=values.integer("mask_stride", 1, 64),
        class_token_is_mask=values.flag("class_token_is_mask"),
        logit_scale=values.number("logit_scale", 0.0, 1e6),
        max_phrases=values.integer("max_phrases", 1, 1024),
        retrieval_ensemble=values.flag("retrieval_ensemble"),
        max_rows=values.optional("max_rows", values.integer, None),
    )


def _text(values: JsonObject) -> TextInfo:
    templates = values.texts("templates")
    for template in templates:
        if template.count("{}") != 1:
            values.fail("templates", f"holds {template[:40]!r}", 'exactly one "{}"')
    if not templates:
        values.fail("templates", "is empty", 'at least one, such as "{}"')
    return TextInfo(
        context_length=values.integer("context_length", 3, 4096),
        proj_dim=values.integer("proj_dim", 1, 8192),
        layers=values.integer("layers", 1, 256),
        heads=values.integer("heads", 1, 256),
        width=values.integer("width", 1, 8192),
        tokenizer=values.text("tokenizer"),
        templates=templates,
        strip_suffixes=values.texts("strip_suffixes"),
        background=values.text("background", 200),
        caption_stops=values.optional("caption_stops", values.texts, ()),
        repetition_penalty=values.number("repetition_penalty", 1.0, 100.0),
        caption_beams=values.integer("caption_beams", 1, 64),
        answers=values.optional("answers", values.texts, ()),
        origin_sha256=values.optional("origin_sha256", lambda key: _digest(values, key), None),
    )


def _postprocess(values: JsonObject) -> PostprocessInfo:
    return PostprocessInfo(
        object_mask_threshold=values.number("object_mask_threshold", 0.0, 1.0),
        overlap_threshold=values.number("overlap_threshold", 0.0, 1.0),
        instance_topk=values.integer("instance_topk", 1, 100_000),
        keep_semantic_background=values.optional("keep_semantic_background", values.flag, False),
        void_offset=values.optional(
            "void_offset", lambda key: values.number(key, 0.0, _OFFSET_LIMIT), 0.0
        ),
    )


def _vocabularies(document: JsonObject) -> tuple[VocabularyInfo, ...]:
    entries = document.children("vocabularies") if "vocabularies" in document else []
    return tuple(
        VocabularyInfo(
            name=values.text("name", 200),
            texts=values.text("texts"),
            embeddings=values.text("embeddings"),
            count=values.integer("count", 1, 10_000_000),
        )
        for values in entries
    )


def _members(values: JsonObject) -> dict[str, MemberInfo]:
    members = {}
    for name in values.names():
        check_member_name(name)
        member = values.child(name)
        members[name] = MemberInfo(_digest(member, "sha256"), member.integer("size"))
    return members


def _digest(values: JsonObject, key: str) -> str:
    digest = values.text(key, 64)
    if not _HEX.fullmatch(digest):
        values.fail(key, f"is {digest!r}", "64 hexadecimal digits in lower case")
    return digest


def _check_agreement(manifest: Manifest, document: JsonObject) -> None:
    """What the parts of a manifest must agree on."""
    sizes = {size_key(size) for size in manifest.input.sizes}
    if len(sizes) != len(manifest.input.sizes):
        document.fail("input", "has a size twice", "each input size once")
    for name in ("vision", "decode", "mask"):
        if sizes != set(getattr(manifest.graphs, name)):
            expected = f"one {name} graph for each input size"
            document.fail("graphs", "and input.sizes differ", expected)
    for task in manifest.tasks:
        if not task.isidentifier():
            document.fail("tasks", f"holds {task[:40]!r}", f"names such as {', '.join(TASKS)}")
        if task in TASKS and "token" in TASKS[task].graphs and manifest.graphs.token is None:
            document.fail("graphs", f"lacks 'token', which the task {task} needs", "its member")
    rows = manifest.decoder.max_rows
    if rows is not None and rows < manifest.decoder.num_queries:
        document.fail("decoder", f"takes {rows} rows at a time", "at least its latent queries")
    for part, width, heads in (
        ("decoder", manifest.text.proj_dim, manifest.decoder.heads),
        ("text", manifest.text.width, manifest.text.heads),
    ):
        if width % heads:
            document.fail(part, f"has {heads} heads over a width of {width}", "a divisor of it")
    for capability in manifest.targets:
        if not _CAPABILITY.fullmatch(capability):
            document.fail("targets", f"holds {capability[:40]!r}", 'capabilities such as "8.7"')
    referred = [*manifest.graphs.members(), manifest.text.tokenizer]
    referred += [KERNELS + INDEX] if manifest.plugins else []
    referred += [name for info in manifest.vocabularies for name in (info.texts, info.embeddings)]
    for name in referred:
        if name not in manifest.members:
            document.fail("members", f"does not list {name[:80]!r}, which the manifest refers to")
