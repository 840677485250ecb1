"""``manifest.json``: what a plan says about itself, as typed values.

Three keys are the same in every format version: ``format_version``, ``backend`` and ``members``.
Everything else belongs to versions 1 and 2, which differ in ``weights`` alone: a plan of version 1
has all weights in its graphs. Keys that this release does not know are ignored, so that a version
can grow; a version that it does not know is refused.
"""

# Without postponed annotations: evaluating them from text would take longer than all the reading.
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, NoReturn, TypeAlias

from xdecoder_rt.errors import PlanError, PlanVersionError, quoted
from xdecoder_rt.json_reader import INTEGER_LIMIT, Rule, parse_json, read_object
from xdecoder_rt.kernels.compiled import KERNEL_INDEX, KERNELS
from xdecoder_rt.masks.resample import LEVEL_STRIDES, REGION_STRIDE
from xdecoder_rt.masks.score_curve import ScoreCurve, score_problem
from xdecoder_rt.pixels.letterbox import Letterbox, ResizeRule
from xdecoder_rt.plan.archive import check_member_name
from xdecoder_rt.plan.external import WEIGHTS, weights_digest
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
    "DistractorInfo",
    "RegionInfo",
    "TextInfo",
    "VocabularyInfo",
    "size_key",
]

FORMAT_VERSION = 2
FIRST_VERSION = 1
MANIFEST_NAME = "manifest.json"
MANIFEST_LIMIT = 4 << 20
BACKENDS = ("portable", "tensorrt", "tensorrt_rtx")
FAMILIES = ("published", "compact")
PROFILES = ("cpu", "tensorrt")
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8", "mixed")
RESIZE_RULES = ("letterbox", "short_side", "squash")
INTERPOLATIONS = ("bilinear", "bicubic")

_SIZE_KEY = r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}"
_CAPABILITY = r"[0-9]{1,2}\.[0-9]"
_SIDE_LIMIT = 16384
_PIXELS_LIMIT = 1 << 23
_OFFSET_LIMIT = 100.0

Count: TypeAlias = Annotated[int, Rule(low=0, high=INTEGER_LIMIT)]
Digest: TypeAlias = Annotated[
    str, Rule(form="[0-9a-f]{64}", wording=("64 hexadecimal digits in lower case", "digests"))
]
ShortText: TypeAlias = Annotated[str, Rule(most=200)]
InputSide: TypeAlias = Annotated[int, Rule(low=32, high=_SIDE_LIMIT)]
ImageSide: TypeAlias = Annotated[int, Rule(low=1, high=_SIDE_LIMIT)]
Frames: TypeAlias = Annotated[int, Rule(low=1, high=1024)]
Share: TypeAlias = Annotated[float, Rule(low=0.0, high=1.0)]
Heads: TypeAlias = Annotated[int, Rule(low=1, high=256)]
Layers: TypeAlias = Annotated[int, Rule(low=1, high=256)]
Width: TypeAlias = Annotated[int, Rule(low=1, high=8192)]
Capability: TypeAlias = Annotated[
    str,
    Rule(form=_CAPABILITY, wording=('a capability such as "8.7"', 'capabilities such as "8.7"')),
]
LevelStrides: TypeAlias = Annotated[
    tuple[Annotated[int, Rule(low=8, high=32)], ...], Rule(least=1, most=len(LEVEL_STRIDES))
]
GraphOfSize: TypeAlias = Mapping[
    Annotated[str, Rule(form=_SIZE_KEY, wording=('input sizes such as "512x288"', ""))], str
]


def size_key(size: tuple[int, int]) -> str:
    """Return the key of an input size (height, width): ``"512x288"`` is 512 high."""
    return f"{size[0]}x{size[1]}"


@dataclass(frozen=True)
class MemberInfo:
    """SHA-256 (hexadecimal) and size in bytes of one member of the archive."""

    sha256: Digest
    size: Count


@dataclass(frozen=True)
class ModelInfo:
    """The weights of the graphs.

    Attributes:
        name: for people.
        family: ``"published"`` or ``"compact"``.
        weights_sha256: digest of the weights that the graphs were exported from.
        parameters: number of parameters, the text encoder included.
        macs: multiply-accumulates of one frame at the first input size, text excluded.
    """

    name: ShortText
    family: Annotated[str, Rule(one_of=FAMILIES)]
    weights_sha256: Digest
    parameters: Count
    macs: Count


@dataclass(frozen=True)
class InputInfo:
    """The input of the vision graph.

    Attributes:
        sizes: (height, width) of each input that the plan carries graphs for, of at most 2^23
            pixels.
        batch: smallest and largest number of frames of a call.
        mean: per channel (RGB), of values 0 to 255; subtracted inside the vision graph.
        std: per channel; divided by inside the vision graph.
        resize: ``"letterbox"``: scaled to fit, content at the top left, zeros right and below;
            ``"short_side"``: scaled to a short side and laid in the smallest input that holds it;
            ``"squash"``: scaled to the input, without keeping proportions.
        interpolation: ``"bilinear"`` or ``"bicubic"``, antialiased as in Pillow.
        short_side: pixels of a scaled image's short side, for ``"short_side"``; else None.
        longest_side: pixels that its long side may have; None for no limit.
        text_size: (height, width) of one more input, which an image is squashed into of which
            nothing but a sentence or an embedding is asked. None: all images go by `resize`.
    """

    sizes: Annotated[tuple[tuple[InputSide, InputSide], ...], Rule(least=1)]
    batch: tuple[Frames, Frames]
    mean: Annotated[tuple[Annotated[float, Rule(low=-1e4, high=1e4)], ...], Rule(least=3, most=3)]
    std: Annotated[tuple[Annotated[float, Rule(low=1e-4, high=1e4)], ...], Rule(least=3, most=3)]
    resize: Annotated[str, Rule(one_of=RESIZE_RULES)]
    interpolation: Annotated[str, Rule(one_of=INTERPOLATIONS)]
    short_side: ImageSide | None = None
    longest_side: ImageSide | None = None
    text_size: tuple[InputSide, InputSide] | None = None

    def place(
        self, source: tuple[int, int], for_text: bool = False, scales: bool = True
    ) -> Letterbox:
        """Return where an image goes.

        Args:
            source: (height, width) of the image.
            for_text: whether nothing but a sentence or an embedding is asked of it.
            scales: whether it can be scaled.

        Raises:
            ImageError: it would have to be scaled, and cannot be.
        """
        rule, sizes = ResizeRule(self.resize, self.short_side, self.longest_side), self.sizes
        if for_text and self.text_size is not None:
            rule, sizes = ResizeRule("squash"), (self.text_size,)
        return (rule.place if scales else rule.place_unscaled)(source, sizes)

    @property
    def all_sizes(self) -> tuple[tuple[int, int], ...]:
        """The sizes that the plan carries graphs for, that for texts last."""
        if self.text_size is None or self.text_size in self.sizes:
            return self.sizes
        return (*self.sizes, self.text_size)


@dataclass(frozen=True)
class Graphs:
    """The member that holds each graph.

    `vision`, `decode` and `mask` have one per input size, keyed by `size_key`. `token` is None in
    plans that write no captions. `frame` decodes the latents alone, in plans of engines.
    """

    vision: GraphOfSize
    decode: GraphOfSize
    mask: GraphOfSize
    text: str
    token: str | None = None
    frame: GraphOfSize = field(default_factory=dict)

    def members(self) -> tuple[str, ...]:
        """Return the names of all members that hold graphs."""
        groups = (self.vision, self.decode, self.mask, self.frame)
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
        level_strides: pixels of the input per position of each level that the layers attend to in
            turn, along each axis; plans of older versions have the default.
    """

    num_queries: Annotated[int, Rule(low=2, high=4096)]
    layers: Layers
    heads: Heads
    mask_dim: Width
    mask_stride: Annotated[int, Rule(low=1, high=64)]
    class_token_is_mask: bool
    logit_scale: Annotated[float, Rule(low=0.0, high=1e6)]
    max_phrases: Annotated[int, Rule(low=1, high=1024)]
    retrieval_ensemble: bool
    max_rows: Count | None = None
    level_strides: LevelStrides = LEVEL_STRIDES

    @property
    def objects(self) -> int:
        """How many of the queries, the first ones, stand for objects."""
        return self.num_queries - (not self.class_token_is_mask)


@dataclass(frozen=True)
class RegionInfo:
    """A classifier that is asked for every query's region, and how its scores join the decoder's.

    Attributes:
        width: channels of the map that regions are averaged of.
        names: what the classifier tells apart.
        vectors: the member that holds a vector of each name in the space of texts, float32
            little-endian ``[names, proj_dim]``.
        weight: share of its scores in those of classes, where it is sure of one.
        scale: factor of the products of those vectors and texts.
        void: the product of every name with the void class.
        void_yield: share of void's probability that it loses where the classifier is sure.
    """

    width: Width
    names: Width
    vectors: str
    weight: Share
    scale: Annotated[float, Rule(low=0.0, high=1000.0)]
    void: Annotated[float, Rule(low=-1000.0, high=1000.0)]
    void_yield: Share = 0.0


@dataclass(frozen=True)
class DistractorInfo:
    """Words of the training that compete with a call's; see :mod:`xdecoder_rt.words.distractors`.

    Attributes:
        count: how many they are.
        vectors: the member that holds their class embeddings, float32 little-endian
            ``[count, proj_dim]``, unit rows.
        likeness: a word of a call that is as like, by the cosine, keeps a distractor out.
        region_likeness: the same where they compete for what a classifier says of regions.
    """

    count: Width
    vectors: str
    likeness: Share
    region_likeness: Share


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
        no_repeat_ngram: so many tokens in a row are never twice in a caption; 0 for no such rule.
        caption_beams: drafts of a caption followed at a time unless a call asks otherwise.
        answers: what a question without choices is answered from.
        origin_sha256: SHA-256 of the fp32 text graph that this plan's was made from; embeddings
            made by that one are welcome here.
        graph_sha256: SHA-256 of the text graph joined with its weights, by which its embeddings
            are known; None where its member has all of it.
    """

    context_length: Annotated[int, Rule(low=3, high=4096)]
    proj_dim: Width
    layers: Layers
    heads: Heads
    width: Width
    tokenizer: str
    templates: Annotated[tuple[str, ...], Rule(least=1)]
    strip_suffixes: tuple[str, ...]
    background: ShortText
    caption_stops: tuple[str, ...] = ()
    repetition_penalty: Annotated[float, Rule(low=1.0, high=100.0, stated=True)] = 1.0
    caption_beams: Annotated[int, Rule(low=1, high=64, stated=True)] = 1
    no_repeat_ngram: Annotated[int, Rule(low=0, high=64)] = 0
    answers: tuple[str, ...] = ()
    origin_sha256: Digest | None = None
    graph_sha256: Digest | None = None


@dataclass(frozen=True)
class PostprocessInfo:
    """Thresholds of the post-processing, each from 0 to 1, and the number of instances kept.

    Attributes:
        object_mask_threshold: a query is kept for panoptic output above this softmax score.
        overlap_threshold: a segment is kept if it owns at least this share of its mask.
        instance_topk: (query, class) pairs taken for instance output.
        keep_semantic_background: whether semantic output has the void class as one of its classes.
        void_offset: what is taken from the void class's logit of every query.
        piece_share: connected pieces of a mask that are smaller than this share of its largest are
            left out of it; 0 leaves every mask as it is (:mod:`xdecoder_rt.masks.pieces`).
        votes: weight in panoptic output of what queries with much the same mask say, of which one
            then speaks (:mod:`xdecoder_rt.masks.votes`); 0 leaves every query alone.
        curves: from scores to how often they are right, by kinds of output; a kind without
            reports the scores of its rules.
        min_scores: least scores that are reported unless a call says otherwise, on the scale of
            the curves, by kinds of output; others have the family's.
    """

    object_mask_threshold: Share
    overlap_threshold: Share
    instance_topk: Annotated[int, Rule(low=1, high=100_000)]
    keep_semantic_background: bool = False
    void_offset: Annotated[float, Rule(low=0.0, high=_OFFSET_LIMIT)] = 0.0
    piece_share: Share = 0.0
    votes: Share = 0.0
    curves: Mapping[str, ScoreCurve] = field(default_factory=dict)
    min_scores: Mapping[str, Share] = field(default_factory=dict)


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

    name: ShortText
    texts: str
    embeddings: str
    count: Annotated[int, Rule(low=1, high=10_000_000)]


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
        weights: graph member to the members that hold its large initializers; a graph that is
            absent has all of them (:mod:`xdecoder_rt.plan.external`).
        region: how regions are named; None where the decoder alone names what it finds.
        distractors: words that compete unasked; None where a call's words are all there are.
        members: every member but the manifest itself; filled in by `plan.write_plan`.
    """

    backend: Annotated[str, Rule(one_of=BACKENDS)]
    backend_version: ShortText
    precision: Annotated[str, Rule(one_of=PRECISIONS)]
    model: ModelInfo
    input: InputInfo
    graphs: Graphs
    decoder: DecoderInfo
    text: TextInfo
    postprocess: PostprocessInfo
    profile: Annotated[str, Rule(one_of=PROFILES)] | None = None
    targets: tuple[Capability, ...] = ()
    plugins: tuple[str, ...] = ()
    tasks: Annotated[tuple[str, ...], Rule(stated=True)] = ("segment",)
    calibration: Mapping[str, Any] | None = None
    accuracy: Mapping[str, Any] = field(default_factory=dict)
    build: Mapping[str, str] = field(default_factory=dict)
    vocabularies: tuple[VocabularyInfo, ...] = ()
    weights: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    region: RegionInfo | None = None
    distractors: DistractorInfo | None = None
    members: Annotated[Mapping[str, MemberInfo], Rule(stated=True)] = field(default_factory=dict)
    format_version: Annotated[int, Rule(low=FIRST_VERSION, high=FORMAT_VERSION, stated=True)] = (
        FORMAT_VERSION
    )

    @property
    def text_graph_sha256(self) -> str:
        """The digest that embeddings of the text graph are known by."""
        return self.text.graph_sha256 or self.members[self.graphs.text].sha256

    def to_json(self) -> bytes:
        """Return the manifest as UTF-8 JSON, the same bytes for equal manifests."""
        text = json.dumps(
            dataclasses.asdict(self), ensure_ascii=False, allow_nan=False, sort_keys=True, indent=1
        )
        return text.encode("utf-8") + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> "Manifest":
        """Parse and check ``manifest.json``.

        Args:
            data: the file's bytes, from an untrusted source.

        Returns:
            The manifest; every member that it refers to is in its `members`.

        Raises:
            PlanVersionError: the format version is neither 1 nor 2.
            PlanError: a key is missing or a value is of the wrong type or out of range.
        """
        document = parse_json(data, MANIFEST_NAME, MANIFEST_LIMIT)
        version = read_object(document, _Versioned, MANIFEST_NAME).format_version
        if not FIRST_VERSION <= version <= FORMAT_VERSION:
            raise PlanVersionError(
                f"The plan has format version {version}",
                expected=f"version {FIRST_VERSION} or {FORMAT_VERSION}, which this release reads",
                fix="build the plan again, or use the release of xdecoder_rt that it was made for",
            )
        manifest = read_object(document, cls, MANIFEST_NAME, null_is_absent=True)
        _check_agreement(manifest)
        return manifest


@dataclass(frozen=True)
class _Versioned:
    """Keys of a manifest of any version."""

    format_version: Count


def _fail(place: str, problem: str, expected: str | None = None) -> NoReturn:
    raise PlanError(f"{MANIFEST_NAME}: {place} {problem}", expected=expected)


def _check_agreement(manifest: Manifest) -> None:
    """Check what the declarations cannot say: words in texts, and parts that must agree."""
    for name in manifest.members:
        check_member_name(name)
    low, high = manifest.input.batch
    if low > high:
        _fail("input.batch", f"is [{low}, {high}]", "the smallest batch before the largest")
    for template in manifest.text.templates:
        if template.count("{}") != 1:
            _fail("text.templates", f"holds {quoted(template, 40)}", 'exactly one "{}"')
    for height, width in manifest.input.all_sizes:
        if height * width > _PIXELS_LIMIT:
            _fail("input.sizes", f"holds [{height}, {width}]", f"at most {_PIXELS_LIMIT:,} pixels")
    short, longest = manifest.input.short_side, manifest.input.longest_side
    if (short is not None) != (manifest.input.resize == "short_side"):
        expected = 'with the rule "short_side", and with no other'
        _fail("input.short_side", f"goes with the rule {manifest.input.resize!r}", expected)
    if longest is not None and (short is None or longest < short):
        _fail("input.longest_side", f"is {longest}", "at least input.short_side, or none")
    sizes = {size_key(size) for size in manifest.input.all_sizes}
    if len(sizes) != len(manifest.input.all_sizes):
        _fail("input", "has a size twice", "each input size once")
    for name in ("vision", "decode", "mask"):
        if sizes != set(getattr(manifest.graphs, name)):
            expected = f"one {name} graph for each input size"
            _fail("graphs", "and input.sizes differ", expected)
    if not set(manifest.graphs.frame) <= (set() if manifest.backend == "portable" else sizes):
        _fail("graphs.frame", "is not for this plan", "its input sizes, in plans of engines")
    for task in manifest.tasks:
        if not task.isidentifier():
            _fail("tasks", f"holds {task[:40]!r}", f"names such as {', '.join(TASKS)}")
        if task in TASKS and "token" in TASKS[task].graphs and manifest.graphs.token is None:
            _fail("graphs", f"lacks 'token', which the task {task} needs", "its member")
    rows = manifest.decoder.max_rows
    if rows is not None and rows < manifest.decoder.num_queries:
        _fail("decoder", f"takes {rows} rows at a time", "at least its latent queries")
    strides = manifest.decoder.level_strides
    if len(set(strides)) < len(strides) or not set(strides) <= set(LEVEL_STRIDES):
        _fail("decoder.level_strides", f"is {list(strides)}", "some of 32, 16 and 8, each once")
    if problem := score_problem(manifest.postprocess.curves, manifest.postprocess.min_scores):
        _fail("postprocess", *problem)
    if manifest.region is not None and REGION_STRIDE not in strides:
        _fail("decoder.level_strides", f"is {list(strides)}", f"{REGION_STRIDE}, for `region`")
    for part, width, heads in (
        ("decoder", manifest.text.proj_dim, manifest.decoder.heads),
        ("text", manifest.text.width, manifest.text.heads),
    ):
        if width % heads:
            _fail(part, f"has {heads} heads over a width of {width}", "a divisor of it")
    referred = [*manifest.graphs.members(), manifest.text.tokenizer]
    referred += [KERNELS + KERNEL_INDEX] if manifest.plugins else []
    referred += [manifest.region.vectors] if manifest.region is not None else []
    referred += [manifest.distractors.vectors] if manifest.distractors is not None else []
    referred += [name for info in manifest.vocabularies for name in (info.texts, info.embeddings)]
    referred += [name for names in manifest.weights.values() for name in names]
    for name in referred:
        if name not in manifest.members:
            _fail("members", f"does not list {name[:80]!r}, which the manifest refers to")
    _check_weights(manifest)


def _check_weights(manifest: Manifest) -> None:
    """Check that graphs and their weights agree, and that no weights are without a graph."""
    if manifest.format_version == FIRST_VERSION:
        if manifest.weights:
            _fail("weights", "is there in format version 1", "weights in the graphs")
        return
    used: set[str] = set()
    for graph, names in manifest.weights.items():
        if graph not in manifest.graphs.members():
            _fail("weights", f"has {quoted(graph)}", "members that hold graphs")
        for name in names:
            if weights_digest(name) != manifest.members[name].sha256:
                _fail("weights", f"has {quoted(name)}", f"{WEIGHTS}<SHA-256 of the member>.bin")
        if len(set(names)) != len(names):
            _fail("weights", f"has a member of {quoted(graph)} twice", "each once")
        used.update(names)
    for name in manifest.members:
        if name.startswith(WEIGHTS) and name not in used:
            _fail("weights", f"has no graph that uses {quoted(name)}", "no such member")
    if manifest.graphs.text in manifest.weights and manifest.text.graph_sha256 is None:
        _fail("text.graph_sha256", "is missing", "the digest of the text graph with its weights")
