"""Documents of commands that label, inspect, score and measure."""

from __future__ import annotations

from typing import Literal, TypedDict

from xdecoder_rt.cli.documents.common import Machine, Percentiles


class LabelDocument(TypedDict):
    """Output of ``xdecoder-rt label --json``.

    Attributes:
        plan: the plan.
        pictures: how many there are.
        labelled: how many were labelled now.
        earlier: how many an earlier run had labelled.
        seconds: that labelling took.
        failed: what could not be read, and why.
        notes: what was left out, in sentences.
        written: the folder of each form, and the review sheet.
    """

    plan: str
    pictures: int
    labelled: int
    earlier: int
    seconds: float
    failed: dict[str, str]
    notes: list[str]
    written: dict[str, str]


class ClassCounts(TypedDict):
    """How often a class is there.

    Attributes:
        images: with it.
        segments: of it.
        median_share: median part of an image that a segment covers, 0 to 1.
    """

    images: int
    segments: int
    median_share: float


class Inspected(TypedDict):
    """What one data set holds.

    Attributes:
        images: how many.
        classes: counts by label.
        sizes: height, width and how many images have them.
        empty: images without a segment.
        small_segments: images with segments too small to be meant, and how many.
        broken: what cannot be read, and why.
        texts: phrases, captions and questions.
        unlabelled: mean part of an image that no segment has, 0 to 1.
    """

    images: int
    classes: dict[str, ClassCounts]
    sizes: list[list[int]]
    empty: list[str]
    small_segments: dict[str, int]
    broken: dict[str, str]
    texts: dict[str, int]
    unlabelled: float


class DataDocument(TypedDict):
    """Output of ``xdecoder-rt data inspect --json``.

    Attributes:
        sources: what each data set holds.
        duplicates: pairs of images that look the same, each as source and file.
    """

    sources: dict[str, Inspected]
    duplicates: list[list[list[str]]]


class Quality(TypedDict):
    """Panoptic quality, 0 to 100."""

    pq: float
    sq: float
    rq: float


class QualityByClass(Quality):
    """Panoptic quality, and that of each class that occurs."""

    per_class: dict[str, Quality]


class InstancePrecision(TypedDict):
    """Average precision of instances, 0 to 100."""

    ap: float
    ap50: float
    ap75: float


class Unscored(TypedDict):
    """What was not scored for want of labels, percent.

    Attributes:
        segments: of predicted segments.
        pixels: of pixels.
    """

    segments: float
    pixels: float


class Absent(TypedDict):
    """What goes to words for what is not there.

    Attributes:
        area: percent of an image.
        words: words an image.
    """

    area: float
    words: float


class MeanIoU(TypedDict):
    """Mean IoU of semantic maps, 0 to 100."""

    miou: float


class ReferringIoU(TypedDict):
    """IoU of the masks of phrases, 0 to 100."""

    ciou: float
    miou: float
    p_at_50: float


class Recall(TypedDict):
    """Recall of retrieval, 0 to 100; null where nothing tells images apart."""

    image_r1: float | None
    image_r5: float | None
    text_r1: float | None
    text_r5: float | None


class CaptionQuality(TypedDict):
    """Agreement of captions; null where it is not defined or its package is missing."""

    cider: float | None
    bleu4: float | None


class Accuracy(TypedDict):
    """Accuracy of answers, 0 to 100."""

    accuracy: float


class _Scored(TypedDict):
    items: int


class EvalDocument(_Scored, total=False):
    """Output of ``xdecoder-rt eval --json``.

    A section is absent where the data set has nothing for it or its task was not asked for, and
    null where the plan lacks the task.

    Attributes:
        items: images.
        protocol: the published protocol, with ``--protocol``.
        source: the files that it was measured on, with ``--protocol``.
        panoptic_things: of things alone, with ``--protocol``.
        panoptic_stuff: of stuff alone, with ``--protocol``.
        time_ms: an image, from pixels to the panoptic result.
        task_time_ms: one call, by task.
        notes: why sections or scores are missing.
    """

    protocol: str
    source: str | None
    panoptic: QualityByClass | None
    panoptic_things: Quality
    panoptic_stuff: Quality
    instance: InstancePrecision | None
    unscored: Unscored | None
    absent: Absent | None
    semantic: MeanIoU | None
    referring: ReferringIoU | None
    retrieval: Recall | None
    caption: CaptionQuality | None
    vqa: Accuracy | None
    time_ms: Percentiles | None
    task_time_ms: dict[str, Percentiles]
    notes: list[str]


class OutputAgreement(TypedDict):
    """How near one output of two plans is.

    Attributes:
        cosine: 1 for the same direction.
        relative_rms: RMS of the difference over that of the reference.
        largest: largest difference.
    """

    cosine: float
    relative_rms: float
    largest: float


class CheckDocument(TypedDict):
    """Output of ``xdecoder-rt check --json``.

    Attributes:
        plan: the plan in doubt.
        against: the plan that it is held against.
        forms: backend and precision of both.
        images: how many were asked about.
        outputs: agreement by output.
        same_segment: share of pixels with the same panoptic segment, 0 to 1.
        same_label: share of pixels with the same label, 0 to 1.
        segments: how many each found.
        phrase_iou: mean IoU of the masks of phrases, or null.
        left_out: other things in the folders, counted by kind.
        failures: what is beyond the limits, in sentences.
    """

    plan: str
    against: str
    forms: list[str]
    images: int
    outputs: dict[str, OutputAgreement]
    same_segment: float
    same_label: float
    segments: list[int]
    phrase_iou: float | None
    left_out: dict[str, int]
    failures: list[str]


class TextCounts(TypedDict):
    """Where the texts of an engine were found, counted."""

    tables: int
    memory_hits: int
    plan_hits: int
    disk_hits: int
    misses: int
    corrupt_rows: int
    resets: int
    evicted: int


class Stages(TypedDict):
    """Milliseconds of each stage of a frame."""

    preprocess: Percentiles
    vision: Percentiles
    decode: Percentiles
    postprocess: Percentiles
    end_to_end: Percentiles
    text_cold: Percentiles
    text_disk: Percentiles
    end_to_end_cold: Percentiles


class PeakMemory(TypedDict):
    """Peak resident memory after each step, MB (10^6 bytes).

    Attributes:
        again: of a process that finds compiled models and words kept by the first.
        with_torch: whether PyTorch had been imported.
    """

    imported: float
    loaded: float
    segmented: float
    again: float
    with_torch: bool


class Measured(TypedDict):
    """One backend, measured.

    Attributes:
        version: of its library.
        device: that it ran on.
        open_ms: milliseconds to open the plan.
        first_frame_ms: milliseconds of the first frame.
        frames_per_second: with words known.
        segments: found in the image.
        text_cache: where texts were found.
    """

    version: str
    device: str
    open_ms: float
    first_frame_ms: float
    stages_ms: Stages
    frames_per_second: float
    segments: int
    text_cache: TextCounts
    peak_memory_mb: PeakMemory


class BenchImage(TypedDict):
    """The image that was measured with.

    Attributes:
        file: null for a synthetic one.
    """

    height: int
    width: int
    file: str | None


class BenchDocument(TypedDict):
    """Output of ``xdecoder-rt bench --json``.

    Attributes:
        macs: multiply-accumulates of a frame.
        words: size of the vocabulary.
        threads: null for the backend's choice.
        iterations: timed rounds.
        backends: what was measured, by backend.
    """

    plan: str
    model: str
    precision: str
    macs: int
    image: BenchImage
    task: Literal["panoptic", "semantic", "instance"]
    words: int
    threads: int | None
    iterations: int
    machine: Machine
    backends: dict[str, Measured]
