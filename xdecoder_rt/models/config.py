"""Configuration of an X-Decoder: one architecture, two families.

*Published* models (FocalNet-T and -L, width 512) load the original authors' weights; *compact*
models are made for INT8 on small computers. Both are the same modules with other numbers.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, TypeAlias

from xdecoder_rt.errors import CheckpointError
from xdecoder_rt.json_reader import Rule, parse_json, read_object
from xdecoder_rt.masks.resample import LEVEL_STRIDES, REGION_STRIDE
from xdecoder_rt.masks.score_curve import ScoreCurve, score_problem
from xdecoder_rt.tasks import TASKS

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
_NAME = "The checkpoint's configuration"
_JSON_LIMIT = 1 << 20
_LARGEST = 1 << 20

Count: TypeAlias = Annotated[int, Rule(low=1, high=256)]
"""Of blocks, levels or pixels of a window: each means tensors of its own, or their area."""
CountOrZero: TypeAlias = Annotated[int, Rule(low=0, high=256)]
Size: TypeAlias = Annotated[int, Rule(low=1, high=_LARGEST)]
SizeOrZero: TypeAlias = Annotated[int, Rule(low=0, high=_LARGEST)]
Stages: TypeAlias = Annotated[tuple[Count, ...], Rule(least=4, most=4)]
"""A value for each of FocalNet's stages."""
PYRAMID = (4, 8, 16, 32)
"""Strides of the backbone's maps and of the pixel decoder's: pixels of the input a position."""
LevelStrides: TypeAlias = Annotated[
    tuple[Annotated[int, Rule(low=8, high=32)], ...], Rule(least=1, most=len(LEVEL_STRIDES))
]
OUTPUT_CONVS = ("full", "separable", "pointwise", "none")
"""Forms of the convolution after a sum of the pyramid."""
OutputConvs: TypeAlias = Annotated[
    tuple[Annotated[str, Rule(one_of=OUTPUT_CONVS)], ...],
    Rule(least=len(PYRAMID), most=len(PYRAMID)),
]
TaskNames: TypeAlias = Annotated[
    tuple[Annotated[str, Rule(one_of=tuple(TASKS))], ...], Rule(least=1, most=len(TASKS))
]
MAX_DISTRACTORS = 8192
NonEmptyTexts: TypeAlias = tuple[Annotated[str, Rule(least=1)], ...]


@dataclass(frozen=True)
class BackboneConfig:
    """The backbone, which turns pixels into maps at strides 4, 8, 16 and 32.

    Attributes:
        kind: ``focal_dw`` (Focal-T), ``focal`` (Focal-L), ``efficientnet_lite0`` or ``timm``.
        timm_name: the model's name for ``kind="timm"``.
        embed_dim: FocalNet's stem width; stage ``i`` has ``embed_dim * 2**i`` channels.
        depths: FocalNet's blocks per stage.
        focal_levels: FocalNet's focal levels per stage.
        focal_windows: FocalNet's smallest window per stage.
        mlp_ratio: FocalNet's feed-forward expansion.
        patch_norm: whether FocalNet's stem ends in a LayerNorm.
        layer_scale: whether FocalNet's branches are scaled per channel.
        scale_modulator: whether FocalNet divides its modulator by the number of contexts.
    """

    kind: str
    timm_name: str = ""
    embed_dim: Size = 96
    depths: Stages = (2, 2, 6, 2)
    focal_levels: Stages = (3, 3, 3, 3)
    focal_windows: Stages = (3, 3, 3, 3)
    mlp_ratio: Annotated[float, Rule(above=0, high=256)] = 4.0
    patch_norm: bool = True
    layer_scale: bool = True
    scale_modulator: bool = True


@dataclass(frozen=True)
class PixelDecoderConfig:
    """The feature pyramid between backbone and decoder.

    Attributes:
        dim: width of the maps at strides 32, 16 and 8.
        mask_level_dim: width of the finest maps (the published models use ``dim``).
        narrow_stride: coarsest stride of the maps that are ``mask_level_dim`` wide, 4 or 8.
        mask_stride: stride of the mask features, 4 or 8: what is finer is not computed.
        output_convs: what follows the sum at strides 4, 8, 16 and 32: ``full`` (3x3),
            ``separable`` (3x3 of each channel, then 1x1), ``pointwise`` (1x1), each with
            normalisation and ReLU, or ``none``.
        mask_dim: channels of the mask features.
        mask_kernel: kernel of the last, linear mask convolution; 0 when the finest map itself is
            the mask features (then ``mask_dim == mask_level_dim``).
        norm: ``group`` (GroupNorm of 32 groups) or ``batch`` (folds into the convolution).
        transformer_layers: encoder layers on the stride-32 map.
        heads: attention heads of those layers.
        feedforward_dim: hidden width of those layers.
    """

    dim: Size = 512
    mask_level_dim: Size = 512
    mask_dim: Size = 512
    mask_kernel: CountOrZero = 3
    norm: Annotated[str, Rule(one_of=("group", "batch"))] = "group"
    transformer_layers: CountOrZero = 6
    heads: Size = 8
    feedforward_dim: Size = 2048
    narrow_stride: Annotated[int, Rule(low=4, high=8)] = 4
    mask_stride: Annotated[int, Rule(low=4, high=8)] = 4
    output_convs: OutputConvs = ("full",) * len(PYRAMID)


@dataclass(frozen=True)
class DecoderConfig:
    """The query decoder (paper section 3.2).

    Attributes:
        num_queries: all latent queries; the last is the class (image) token.
        hidden_dim: query width.
        heads: attention heads.
        feedforward_dim: hidden width of the feed-forward blocks.
        layers: decoder layers; layer ``i`` attends to the level ``i % len(level_strides)``.
        class_token_is_mask: whether the class token takes part in masks and classes
            (the published models count it; compact ones need not).
        input_projection: whether levels are projected to ``hidden_dim`` before the layers read
            them (the original does so where the widths differ); without it keys and values are
            made from the levels' own width.
        level_strides: strides of the pixel decoder's maps that the layers attend to in turn: some
            of 32, 16 and 8, each once.
    """

    num_queries: Size = 101
    hidden_dim: Size = 512
    heads: Size = 8
    feedforward_dim: Size = 2048
    layers: Count = 9
    class_token_is_mask: bool = True
    input_projection: bool = False
    level_strides: LevelStrides = LEVEL_STRIDES


@dataclass(frozen=True)
class TextConfig:
    """The causal text encoder over CLIP's byte-pair tokens.

    Attributes:
        width: transformer width.
        heads: attention heads.
        layers: transformer layers.
        context_length: positions, start and end tokens included.
        token_rank: rank of a factorised token table (``vocabulary x rank`` times
            ``rank x width``); 0 for a plain table.
        vocabulary_size: rows of the token table.
    """

    width: Size = 512
    heads: Size = 8
    layers: Count = 12
    context_length: Size = 77
    token_rank: SizeOrZero = 0
    vocabulary_size: Size = 49408


@dataclass(frozen=True)
class RegionConfig:
    """A classifier that is asked for every query's region; see :mod:`xdecoder_rt.models.region`.

    Attributes:
        features: channels that the classifier averages.
        width: channels that the features are narrowed to before they are averaged, which makes
            the checkpoint smaller and the classifier worse; 0 for the features as they are.
        names: what the classifier tells apart.
        weight: share of its scores in those of classes where it is sure, 0 to 1.
        scale: factor of the products of its names' vectors and texts.
        void: the product of each of its names with the void class.
        void_yield: share of void's probability that it loses where the classifier is sure of a
            word, 0 to 1.
        trunk: ``shared``: the model's backbone, as ImageNet made it; ``own``: another with
            ImageNet's weights, beside a backbone that was trained further.
        shrink: an own trunk sees the image smaller by this factor, and takes less time.
        weights: ``stored``: checkpoints hold all of it; ``imagenet``: its own trunk, its head and
            its names are read from the package with ImageNet's weights instead, which have 10 MB.
    """

    features: Size = 1280
    width: SizeOrZero = 0
    names: Size = 1000
    weight: Annotated[float, Rule(low=0, high=1)] = 0.3
    scale: Annotated[float, Rule(low=0, high=1000)] = 28.0
    void: Annotated[float, Rule(low=-1000, high=1000)] = 0.2
    void_yield: Annotated[float, Rule(low=0, high=1)] = 0.0
    trunk: Annotated[str, Rule(one_of=("shared", "own"))] = "shared"
    shrink: Annotated[int, Rule(low=1, high=4)] = 1
    weights: Annotated[str, Rule(one_of=("stored", "imagenet"))] = "stored"

    @property
    def map_width(self) -> int:
        """Channels of the map that regions are averaged of."""
        return self.width or self.features


@dataclass(frozen=True)
class DistractorConfig:
    """Words that compete with those of a call; see :mod:`xdecoder_rt.words.distractors`.

    Attributes:
        words: what the model was trained to tell apart.
        likeness: a word of a call that is as like, by the cosine of their embeddings, keeps a
            distractor out, 0 to 1.
        region_likeness: the same where they compete for what a classifier says of regions.
    """

    words: Annotated[tuple[Annotated[str, Rule(least=1)], ...], Rule(least=1, most=MAX_DISTRACTORS)]
    likeness: Annotated[float, Rule(low=0, high=1)] = 0.5
    region_likeness: Annotated[float, Rule(low=0, high=1)] = 0.4


@dataclass(frozen=True)
class PostprocessConfig:
    """Thresholds of the output rules; see :mod:`xdecoder_rt.masks.postprocess`.

    Attributes:
        object_mask_threshold: least softmax score of a kept query, 0..1.
        overlap_threshold: least share of its own mask that a panoptic segment must own, 0..1.
        instance_topk: candidates that instance output looks at.
        void_offset: what is taken from the void class's logit, 0 or more: names that share a
            query's probability among them then lose less often to void, which does not.
        votes: weight in panoptic output of what queries with much the same mask say, 0 to 1; see
            :mod:`xdecoder_rt.masks.votes`. With 0 no graph says how masks overlap.
        curves: from scores to how often they are right, by kinds of output; see
            :mod:`xdecoder_rt.masks.score_curve`.
        min_scores: least scores that are reported unless a call says otherwise, by kinds of output.
    """

    object_mask_threshold: float = 0.8
    overlap_threshold: float = 0.8
    instance_topk: Size = 100
    void_offset: float = 0.0
    votes: Annotated[float, Rule(low=0, high=1)] = 0.0
    curves: Mapping[str, ScoreCurve] = field(default_factory=dict, hash=False)
    min_scores: Mapping[str, Annotated[float, Rule(low=0, high=1)]] = field(
        default_factory=dict, hash=False
    )

    def without_curves(self) -> PostprocessConfig:
        """Return rules that report scores as they are: curves are of one model's weights.

        The least scores that were chosen with the curves go with them.
        """
        return replace(self, curves={}, min_scores={})


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to build an :class:`~xdecoder_rt.models.XDecoder`.

    Attributes:
        name: short name, written into plans.
        family: ``published`` or ``compact``.
        proj_dim: width of the space that images and texts share.
        pixel_mean: per-channel mean on the 0..255 scale, RGB.
        pixel_std: per-channel standard deviation on the 0..255 scale, RGB.
        templates: ``published`` (81 prompts) or ``compact``; see
            :mod:`xdecoder_rt.words.templates`.
        retrieval_ensemble: whether an image's embedding is the mean of the class token's and the
            backbone's, as published, or the class token's alone.
        caption_stops: texts that a caption ends before.
        repetition_penalty: of captions; 1 for none, as published.
        caption_beams: drafts of a caption followed at a time; 1 as published.
        answers: what a question without choices is answered from.
        tasks: what the weights are trained for, of :data:`~xdecoder_rt.tasks.TASKS`; tensors that
            belong to no task of these are zero.
        region: the classifier of regions, or None for a model without.
        distractors: words that compete unasked, or None.
    """

    name: str
    family: Annotated[str, Rule(one_of=("published", "compact"))]
    backbone: BackboneConfig
    pixel_decoder: Annotated[PixelDecoderConfig, Rule(stated=True)] = field(
        default_factory=PixelDecoderConfig
    )
    decoder: Annotated[DecoderConfig, Rule(stated=True)] = field(default_factory=DecoderConfig)
    text: Annotated[TextConfig, Rule(stated=True)] = field(default_factory=TextConfig)
    postprocess: Annotated[PostprocessConfig, Rule(stated=True)] = field(
        default_factory=PostprocessConfig
    )
    proj_dim: Size = 512
    pixel_mean: tuple[float, float, float] = IMAGENET_MEAN
    pixel_std: tuple[float, float, float] = IMAGENET_STD
    templates: Annotated[str, Rule(one_of=("published", "compact"))] = "published"
    retrieval_ensemble: bool = True
    caption_stops: NonEmptyTexts = (".",)
    repetition_penalty: Annotated[float, Rule(low=1)] = 1.0
    caption_beams: Size = 1
    answers: NonEmptyTexts = ()
    tasks: TaskNames = tuple(TASKS)
    region: RegionConfig | None = None
    distractors: DistractorConfig | None = None

    @property
    def num_queries(self) -> int:
        """All latent queries, the class token included."""
        return self.decoder.num_queries

    @property
    def mask_dim(self) -> int:
        """Channels of mask embeddings and mask features."""
        return self.pixel_decoder.mask_dim

    @property
    def mask_stride(self) -> int:
        """Pixels of the input a position of the mask features, along each axis."""
        return self.pixel_decoder.mask_stride

    @property
    def context_length(self) -> int:
        """Token positions of the text encoder."""
        return self.text.context_length

    @property
    def blocks(self) -> int:
        """How many blocks there are, each with several tensors of its own."""
        backbone = self.backbone
        focal = sum(
            depth * levels
            for depth, levels in zip(backbone.depths, backbone.focal_levels, strict=True)
        )
        return (
            (focal if backbone.kind in ("focal", "focal_dw") else 0)
            + self.pixel_decoder.transformer_layers
            + self.decoder.layers
            + self.text.layers
        )

    def to_json(self) -> str:
        """Return the configuration as JSON text; :meth:`from_json` reads it back."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ModelConfig:
        """Read what :meth:`to_json` wrote.

        Raises:
            CheckpointError: the text is not such a configuration.
        """
        try:
            document = parse_json(text, _NAME, _JSON_LIMIT, CheckpointError)
            config = read_object(document, cls, _NAME, CheckpointError, refuse_unknown=True)
            check_agreement(config)
            return config
        except CheckpointError as error:
            raise CheckpointError(
                error.what,
                expected=error.expected or "the configuration that xdecoder_rt writes",
                fix="Use a checkpoint written by this or an older version of xdecoder_rt",
            ) from error


def check_agreement(config: ModelConfig) -> None:
    """Check what the declarations cannot say.

    Raises:
        CheckpointError: sizes contradict one another.
    """
    pixel = config.pixel_decoder
    for part, width, heads in (
        ("pixel_decoder", pixel.dim, pixel.heads),
        ("decoder", config.decoder.hidden_dim, config.decoder.heads),
        ("text", config.text.width, config.text.heads),
    ):
        if width % heads:
            raise CheckpointError(
                f"{_NAME}: the {heads} heads of {part} do not divide its width of {width}"
            )
    if pixel.norm == "group" and (pixel.dim % 32 or pixel.mask_level_dim % 32):
        raise CheckpointError(
            f"{_NAME}: the widths of pixel_decoder are no multiples of the 32 groups"
        )
    strides = config.decoder.level_strides
    if len(set(strides)) < len(strides) or not set(strides) <= set(LEVEL_STRIDES):
        raise CheckpointError(
            f"{_NAME}: level_strides is {list(strides)}",
            expected="some of 32, 16 and 8, each once",
        )
    if not {pixel.narrow_stride, pixel.mask_stride} <= set(PYRAMID):
        raise CheckpointError(f"{_NAME}: narrow_stride and mask_stride must be 4 or 8")
    if pixel.dim != pixel.mask_level_dim and min(strides) <= pixel.narrow_stride:
        raise CheckpointError(
            f"{_NAME}: decoder attends to stride {min(strides)}, whose map is narrower than others",
            expected="level_strides above narrow_stride",
        )
    if config.region is not None and REGION_STRIDE not in strides:
        raise CheckpointError(
            f"{_NAME}: with region, decoder must attend to stride {REGION_STRIDE}, whose masks "
            "say what a region is"
        )
    if config.region is not None and config.region.weights == "imagenet":
        region = config.region
        if (region.features, region.width, region.names) != (1280, 0, 1000) or (
            region.trunk == "shared" and config.backbone.kind != "efficientnet_lite0"
        ):
            raise CheckpointError(
                f"{_NAME}: the weights of region are not ImageNet's",
                expected="1280 features of EfficientNet-Lite0 as they are, and 1000 names",
            )
    rules = config.postprocess
    if problem := score_problem(rules.curves, rules.min_scores):
        raise CheckpointError(f"{_NAME}: postprocess {problem[0]}", expected=problem[1])
    if config.num_queries < 2:
        raise CheckpointError(f"{_NAME}: num_queries is 1, the class token and no object")
    if config.context_length < 3:
        raise CheckpointError(f"{_NAME}: context_length leaves no place between start and end")
    if config.proj_dim != config.decoder.hidden_dim:
        # Text features enter the decoder as rows.
        raise CheckpointError(f"{_NAME}: proj_dim is not the width of decoder")
    if len(set(config.answers)) != len(config.answers):
        raise CheckpointError(f"{_NAME}: answers repeat")
    if len(set(config.tasks)) != len(config.tasks):
        raise CheckpointError(f"{_NAME}: tasks repeat")
    if not pixel.mask_kernel and pixel.mask_dim != pixel.mask_level_dim:
        raise CheckpointError(f"{_NAME}: without mask_kernel, mask_dim must be mask_level_dim")


def compact_config(name: str = "compact", **changes: Any) -> ModelConfig:
    """Return the compact family's default: EfficientNet-Lite0 and a narrow, shallow decoder.

    The shape was chosen by the time of a frame and by short trainings, whose table is in
    ``docs/measured/candidates.md``. The checkpoint that comes with the package has the shape before
    it.

    Args:
        name: the model's name.
        changes: other top-level fields of :class:`ModelConfig`.
    """
    settings: dict[str, Any] = {
        "backbone": BackboneConfig(kind="efficientnet_lite0"),
        "pixel_decoder": PixelDecoderConfig(
            dim=96,
            mask_level_dim=64,
            mask_dim=64,
            mask_kernel=0,
            norm="batch",
            transformer_layers=2,
            heads=3,
            feedforward_dim=384,
            narrow_stride=8,
            output_convs=("none", "separable", "full", "full"),
        ),
        "decoder": DecoderConfig(
            num_queries=65,
            hidden_dim=192,
            heads=3,
            feedforward_dim=768,
            layers=4,
            class_token_is_mask=False,
            level_strides=(32, 16),
        ),
        "text": TextConfig(width=256, heads=8, layers=3, context_length=77, token_rank=48),
        "postprocess": PostprocessConfig(object_mask_threshold=0.5, overlap_threshold=0.6),
        "proj_dim": 192,
        # EfficientNet-Lite was trained on (x - 127) / 128.
        "pixel_mean": (127.0, 127.0, 127.0),
        "pixel_std": (128.0, 128.0, 128.0),
        "templates": "compact",
        "retrieval_ensemble": False,
        "caption_stops": (),
    }
    settings.update(changes)
    return ModelConfig(name=name, family="compact", **settings)


def published_config(size: str) -> ModelConfig:
    """Return the configuration of a published checkpoint.

    Args:
        size: ``tiny`` (Focal-T, 101 queries) or ``large`` (Focal-L, 201 queries).

    Raises:
        CheckpointError: another size.
    """
    if size == "tiny":
        backbone = BackboneConfig(kind="focal_dw")
        queries = 101
    elif size == "large":
        backbone = BackboneConfig(
            kind="focal",
            embed_dim=192,
            depths=(2, 2, 18, 2),
            focal_levels=(4, 4, 4, 4),
        )
        queries = 201
    else:
        raise CheckpointError(
            f"There is no published X-Decoder of size {size!r}", expected="'tiny' or 'large'"
        )
    return ModelConfig(
        name=f"xdecoder-focal-{size}",
        family="published",
        backbone=backbone,
        decoder=DecoderConfig(num_queries=queries),
    )
