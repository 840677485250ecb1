"""Options of a build; needs neither PyTorch nor ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from xdecoder_rt.calibration import ranges
from xdecoder_rt.errors import ArgumentError, quoted
from xdecoder_rt.export.presets import Preset, input_sizes, preset_named
from xdecoder_rt.export.tensorrt.options import EngineOptions, check_count
from xdecoder_rt.pixels.letterbox import ResizeRule
from xdecoder_rt.plan.manifest import BACKENDS, INTERPOLATIONS, PROFILES
from xdecoder_rt.tasks import TASKS

if TYPE_CHECKING:
    from xdecoder_rt.words.vocabulary import Vocabulary

__all__ = [
    "BACKENDS",
    "BUILD_PRECISIONS",
    "ESTIMATOR_NAMES",
    "PROFILES",
    "BuildOptions",
    "ConvertOptions",
    "EngineOptions",
]

BUILD_PRECISIONS = ("fp32", "fp16", "bf16", "int8")
"""What a plan can be built in; more can be read."""
ESTIMATOR_NAMES = tuple(ranges.ESTIMATORS)
MAX_DROP = 1.0
SEARCH_IMAGES = 48
CALIBRATION_IMAGES = 128
# By family. Compact models see 320 to 384 pixels in training, and were measured at several sizes.
_DEFAULT_SIZES = {"compact": (448, 448), "published": (512, 512)}

_OF_WEIGHTS = (
    "preset",
    "rule",
    "interpolation",
    "object_threshold",
    "overlap_threshold",
    "text_size",
    "tasks",
    "max_phrases",
    "piece_share",
    "regions",
    "distractors",
)


@dataclass(frozen=True)
class ConvertOptions:
    """How a plan in another precision is made.

    Attributes:
        precision: one of `BUILD_PRECISIONS`.
        profile: one of `PROFILES`: which target the graphs are written for.
        calibration: the calibration set of int8: a labelled folder, a folder of images, or a video.
            None takes the ranges that are recorded of the weights, where there are any.
        max_drop: the most that int8 may lose, 0 to 100: PQ where the set is labelled, else percent
            of pixels.
        estimator: of ranges, one of `ESTIMATOR_NAMES`; None compares all and takes the best.
        images: calibration images at most.
        search_images: images that accuracy is measured on, at most.
        report: the folder that the report of an int8 search is written to, or None.
        force: write the plan even if it is worse or slower than fp32.
        threads: processor threads of what is measured; None for the backend's choice.
        cache_dir: where activation statistics are kept, or None.

    Raises:
        ArgumentError: a value is outside what is allowed, or the precision and the profile do not
            go together.
    """

    precision: str
    profile: str = "cpu"
    calibration: Path | None = None
    max_drop: float = MAX_DROP
    estimator: str | None = None
    images: int = CALIBRATION_IMAGES
    search_images: int = SEARCH_IMAGES
    report: Path | None = None
    force: bool = False
    threads: int | None = None
    cache_dir: Path | None = None

    def __post_init__(self) -> None:
        if self.precision not in BUILD_PRECISIONS:
            raise ArgumentError(
                f"There is no precision {quoted(self.precision)}",
                expected=", ".join(BUILD_PRECISIONS),
            )
        if self.profile not in PROFILES:
            raise ArgumentError(
                f"There is no profile {quoted(self.profile)}", expected=" or ".join(PROFILES)
            )
        if self.precision == "int8" and self.calibration is None:
            for name in ("estimator", "report"):
                if getattr(self, name) is not None:
                    raise ArgumentError(
                        f"{name} was given without a calibration set",
                        expected="neither, which takes ranges recorded of the weights, or both",
                        fix="name one with calibration",
                    )
        if self.precision == "fp16" and self.profile == "cpu":
            raise ArgumentError(
                "There is no fp16 plan for CPUs: their runtimes compute fp16 graphs in fp32",
                expected="bf16 or int8 for a CPU",
                fix="add --profile tensorrt for a plan that TensorRT engines are built from",
            )
        if self.estimator not in (None, *ESTIMATOR_NAMES):
            raise ArgumentError(
                f"There is no range estimator {quoted(self.estimator)}",
                expected=", ".join(ESTIMATOR_NAMES),
            )
        if not 0.0 <= self.max_drop <= 100.0:
            raise ArgumentError(
                f"max_drop is {quoted(self.max_drop)}", expected="a number from 0 to 100"
            )
        check_count("images", self.images)
        check_count("search_images", self.search_images)
        if self.threads is not None:
            check_count("threads", self.threads)


@dataclass(frozen=True)
class BuildOptions:
    """Options of `xdecoder_rt.export.pipeline.build`; by default a portable fp32 plan.

    Attributes:
        sizes: (height, width) of the network's inputs, multiples of 32. None: of a plan all that it
            has; else those of the preset or the rule, or 448 x 448 for compact models and 512 x 512
            for published ones.
        preset: inputs, rule, interpolation and thresholds of a published figure, one of
            `xdecoder_rt.export.presets.PRESET_NAMES`; what is given beside it goes before it. Not
            for a plan, which keeps what it has, nor are the following five.
        rule: how images are scaled into the inputs. None: to fill the one that fits best.
        interpolation: ``"bilinear"`` or ``"bicubic"``. None: bilinear for compact models, bicubic
            for published ones.
        object_threshold: least score of a query in panoptic output, 0 to 1. None: the model's.
        overlap_threshold: least share of its own mask that a panoptic segment owns, 0 to 1. None:
            the model's.
        text_size: (height, width) of one more input, which images are squashed into of which
            nothing but a caption or an embedding is asked; published 224 x 224. None: no such
            input. Not for a plan.
        tasks: names of `xdecoder_rt.tasks.TASKS` that the plan is to do. None: all that the
            checkpoint is trained for. A plan without captions is smaller. Not for a plan, which
            keeps its tasks.
        max_phrases: phrases that one call may refer by. None: 64. Not for a plan either.
        piece_share: connected pieces of a mask that are smaller than this share of its largest are
            left out, 0 to 1; 0 keeps all. None: 0.3 for compact models, 0 for published ones. Not
            for a plan either.
        regions: False leaves the classifier of regions out of a model that has one: frames take
            less time, and things of photographs get no names. None: the model's. Not for a plan.
        distractors: False leaves out the words of its training that a model brings to compete with
            those of a call: more is named then, and more that is not there. None: the model's. Not
            for a plan.
        vocabularies: words for the plan to carry, embedded, by names of at most 60 letters, digits,
            ``-`` and ``_``.
        conversion: the precision, and how it is reached. None: that of the source.
        engines: what engines for NVIDIA GPUs are built for. None: a portable plan, which runs on
            any CPU. A conversion must then have the profile ``"tensorrt"``.

    Raises:
        ArgumentError: a value is outside what is allowed, or two contradict one another.
        VocabularyError: a name cannot be a vocabulary's.
    """

    sizes: Sequence[tuple[int, int]] | None = None
    preset: str | None = None
    rule: ResizeRule | None = None
    interpolation: str | None = None
    object_threshold: float | None = None
    overlap_threshold: float | None = None
    text_size: tuple[int, int] | None = None
    tasks: Sequence[str] | None = None
    max_phrases: int | None = None
    piece_share: float | None = None
    regions: bool | None = None
    distractors: bool | None = None
    vocabularies: Mapping[str, Vocabulary] = field(default_factory=dict)
    conversion: ConvertOptions | None = None
    engines: EngineOptions | None = None

    def __post_init__(self) -> None:
        if self.sizes is not None:
            _check_sizes(self.sizes)
        if self.text_size is not None:
            _check_sizes([self.text_size])
        if self.preset is not None:
            preset_named(self.preset)
        if self.rule is not None and not isinstance(self.rule, ResizeRule):
            raise ArgumentError(f"rule is {quoted(self.rule)}", expected="ResizeRule(...) or None")
        if self.interpolation not in (None, *INTERPOLATIONS):
            raise ArgumentError(
                f"interpolation is {quoted(self.interpolation)}",
                expected=" or ".join(INTERPOLATIONS),
            )
        if self.tasks is not None:
            _check_tasks(self.tasks)
        if self.max_phrases is not None:
            check_count("max_phrases", self.max_phrases)
        for name in ("piece_share", "object_threshold", "overlap_threshold"):
            if getattr(self, name) is not None:
                _check_share(name, getattr(self, name))
        for name in ("regions", "distractors"):
            if getattr(self, name) not in (None, True, False):
                raise ArgumentError(
                    f"{name} is {quoted(getattr(self, name))}", expected="True, False or None"
                )
        if self.vocabularies:
            from xdecoder_rt.words.carried import check_name

            for name in self.vocabularies:
                check_name(name)
        for part, value, kind in (
            ("conversion", self.conversion, ConvertOptions),
            ("engines", self.engines, EngineOptions),
        ):
            if value is not None and not isinstance(value, kind):
                raise ArgumentError(
                    f"{part} is {quoted(value)}", expected=f"{kind.__name__}(...) or None"
                )
        if self.engines and self.conversion and self.conversion.profile != "tensorrt":
            raise ArgumentError(
                f"Engines cannot be built from graphs of the profile {self.conversion.profile!r}",
                expected="a conversion with the profile 'tensorrt'",
            )

    def inputs(self, family: str) -> Preset:
        """Return the inputs and thresholds of a plan from weights.

        Args:
            family: of the model.
        """
        if self.preset is not None:
            inputs = preset_named(self.preset)
        else:
            inputs = Preset((_DEFAULT_SIZES[family],), ResizeRule())
        if self.rule is not None:
            inputs = replace(inputs, rule=self.rule)
            if self.rule.short_side is not None:
                inputs = replace(inputs, sizes=input_sizes(self.rule))
        if self.sizes is not None:
            inputs = replace(inputs, sizes=tuple(self.sizes))
        named = ("interpolation", "object_threshold", "overlap_threshold")
        given = {name: getattr(self, name) for name in named if getattr(self, name) is not None}
        return replace(inputs, **given)

    def for_weights(self) -> tuple[str, ...]:
        """Return the names of what was asked for that a plan, unlike weights, keeps its own of."""
        return tuple(name for name in _OF_WEIGHTS if getattr(self, name) is not None)


def _check_share(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ArgumentError(f"{name} is {quoted(value)}", expected="a number from 0 to 1")


def _check_sizes(sizes: Sequence[tuple[int, int]]) -> None:
    if not sizes:
        raise ArgumentError("sizes is empty", expected="some (height, width), or None")
    for size in sizes:
        if not isinstance(size, tuple) or len(size) != 2:
            raise ArgumentError(f"A size is {quoted(size)}", expected="(height, width)")
        for side in size:
            check_count("A side of a size", side, "pixels, such as 448")


def _check_tasks(tasks: Sequence[str]) -> None:
    unknown = [task for task in tasks if task not in TASKS]
    if isinstance(tasks, str) or unknown or not tasks or len(set(tasks)) != len(tasks):
        raise ArgumentError(
            f"tasks is {quoted(tasks)}", expected=f"some of {', '.join(TASKS)}, each once"
        )
