"""The result of an evaluation, as JSON and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from xdecoder_rt.errors import printable
from xdecoder_rt.evaluation.absent import AbsentScores
from xdecoder_rt.evaluation.answers import AnswerScores
from xdecoder_rt.evaluation.captions import CaptionScores
from xdecoder_rt.evaluation.instance_ap import InstanceScores
from xdecoder_rt.evaluation.panoptic_quality import PanopticScores, UnscoredShare
from xdecoder_rt.evaluation.referring import ReferringScores
from xdecoder_rt.evaluation.retrieval import RetrievalScores
from xdecoder_rt.evaluation.semantic import SemanticScores

_CALL_OF = {"refer": "phrase", "embed": "image embedding", "caption": "caption", "answer": "answer"}


@dataclass(frozen=True)
class Percentiles:
    """Percentiles of a sample, in its own unit."""

    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Percentiles:
        """Return the percentiles of at least one value, interpolated linearly."""
        return cls(*np.percentile(values, (50, 90, 99)).tolist())


@dataclass(frozen=True)
class EvaluationReport:
    """Scores of an engine on a data set; None where a task was not scored.

    Attributes:
        items: The number of images.
        panoptic: Panoptic quality.
        unscored: What of it was not scored, for want of labels.
        absent: What panoptic segmentation gives to words for what is not in the image.
        semantic: Mean IoU.
        referring: IoU of the masks of phrases.
        retrieval: Recall of images by captions and the reverse.
        caption: Agreement of captions with those of people.
        vqa: Accuracy of answers.
        time_ms: Milliseconds an image, from decoded pixels to the panoptic result.
        task_time_ms: Milliseconds of one call (one phrase, caption, answer, image embedding) on an
            encoded image, by task. Without panoptic segmentation before, the first call on an
            image includes its decode.
        lacking: The sections that the data set could have scored and the plan lacks the task for.
        notes: Why sections or scores are missing, in sentences.
        instance: Average precision of instances; of protocols alone.
        protocol: The protocol of published figures that was followed, or None.
        source: The files that it was measured on.
    """

    items: int
    panoptic: PanopticScores | None = None
    unscored: UnscoredShare | None = None
    absent: AbsentScores | None = None
    semantic: SemanticScores | None = None
    referring: ReferringScores | None = None
    retrieval: RetrievalScores | None = None
    caption: CaptionScores | None = None
    vqa: AnswerScores | None = None
    time_ms: Percentiles | None = None
    task_time_ms: Mapping[str, Percentiles] = field(default_factory=dict)
    lacking: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    instance: InstanceScores | None = None
    protocol: str | None = None
    source: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values; scores are 0 to 100, CIDEr may exceed it.

        A section is absent where the data set has nothing for it or its task was not asked for, and
        null where the plan lacks the task. `panoptic.per_class` has the classes that occur in the
        truth or in the predictions, which are those that the means are over.
        """
        document: dict[str, Any] = dict.fromkeys(self.lacking)
        if self.protocol is not None:
            document |= {"protocol": self.protocol, "source": self.source}
        if self.panoptic:
            document["panoptic"] = _scores_named(self.panoptic, "pq", "sq", "rq")
            document["panoptic"]["per_class"] = {
                label: _scores_named(quality, "pq", "sq", "rq")
                for label, quality in self.panoptic.per_class.items()
            }
        if self.panoptic and self.protocol is not None:
            for name, scores in self.panoptic.by_kind().items():
                document[f"panoptic_{name}"] = _scores_named(scores, "pq", "sq", "rq")
        if self.instance:
            document["instance"] = _scores_named(self.instance, "ap", "ap50", "ap75")
        if u := self.unscored:
            document["unscored"] = {"segments": u.share, "pixels": u.pixels}
        if self.absent:
            document["absent"] = _scores_named(self.absent, "area", "words")
        if self.semantic:
            document["semantic"] = _scores_named(self.semantic, "miou")
        if self.referring:
            document["referring"] = _scores_named(self.referring, "ciou", "miou", "p_at_50")
        if self.retrieval:
            document["retrieval"] = _scores_named(
                self.retrieval, "image_r1", "image_r5", "text_r1", "text_r5"
            )
        if self.caption:
            document["caption"] = _scores_named(self.caption, "cider", "bleu4")
        if self.vqa:
            document["vqa"] = _scores_named(self.vqa, "accuracy")
        if self.time_ms:
            document["time_ms"] = asdict(self.time_ms)
        if self.task_time_ms:
            document["task_time_ms"] = {
                task: asdict(times) for task, times in self.task_time_ms.items()
            }
        document["items"] = self.items
        if self.notes:
            document["notes"] = list(self.notes)
        return document

    def table(self) -> str:
        """Return the report as lines of text for a terminal, worst classes last."""
        lines = [] if self.protocol is None else [f"protocol {self.protocol}: {self.source}", ""]
        if self.panoptic:
            lines += _panoptic_lines(self.panoptic, self.semantic)
        if self.instance:
            lines.append(
                f"AP {self.instance.ap:.1f}, AP50 {self.instance.ap50:.1f}, AP75 "
                f"{self.instance.ap75:.1f} over {_count(self.instance.instances, 'instance')}"
            )
        if self.semantic:
            lines.append(
                f"mIoU {self.semantic.miou:.1f} over {len(self.semantic.per_class)} classes"
            )
        if (u := self.unscored) and (u.segments or u.pixels):
            lines += [
                f"not scored: {u.segments} of {_count(u.predicted, 'predicted segment')} "
                f"({u.share:.1f} %), which lie where nothing is labelled: {u.pixels:.1f} % of the "
                "pixels",
                '(everything labelled? "unlabelled": "nothing" in annotations.json scores them)',
            ]
        if a := self.absent:
            lines.append(
                f"absent words: {a.area:.2f} % of an image's pixels, {a.words:.2f} words an image"
            )
        if r := self.referring:
            lines.append(
                f"phrases: cIoU {r.ciou:.1f}, mIoU {r.miou:.1f}, P@0.5 {r.p_at_50:.1f} over "
                f"{_count(r.phrases, 'phrase')}"
            )
        if v := self.retrieval:
            lines.append(
                f"retrieval: image R@1 {_score(v.image_r1)}, R@5 {_score(v.image_r5)}, "
                f"text R@1 {_score(v.text_r1)}, R@5 {_score(v.text_r5)} over "
                f"{_count(v.images, 'image')} and {_count(v.texts, 'text')}"
            )
        if c := self.caption:
            lines.append(
                f"captions: CIDEr {_score(c.cider)}, BLEU-4 {_score(c.bleu4)} over "
                f"{_count(c.images, 'image')}"
            )
        if self.vqa:
            kinds = ", ".join(
                f"{kind} {accuracy:.1f} of {count}"
                for kind, (accuracy, count) in self.vqa.per_kind.items()
            )
            lines.append(
                f"answers: accuracy {self.vqa.accuracy:.1f} over "
                f"{_count(self.vqa.questions, 'question')} ({kinds})"
            )
        if self.time_ms:
            lines.append(f"time an image: {_times(self.time_ms)}")
        lines += [
            f"time of one {_CALL_OF[task]}: {_times(times)}"
            for task, times in self.task_time_ms.items()
        ]
        lines.append(_count(self.items, "image"))
        return "\n".join(lines)


def _panoptic_lines(panoptic: PanopticScores, semantic: SemanticScores | None) -> list[str]:
    ranked = sorted(panoptic.per_class.items(), key=lambda entry: -entry[1].pq)
    width = max(12, *(len(printable(label)) for label in panoptic.per_class))
    lines = [f"{'class':{width}}     PQ     SQ     RQ    IoU     TP     FP     FN"]
    for label, c in ranked:
        iou = semantic.per_class.get(label) if semantic else None
        lines.append(
            f"{printable(label):{width}} {c.pq:6.1f} {c.sq:6.1f} {c.rq:6.1f} "
            f"{_score(iou):>6} {c.tp:6} {c.fp:6} {c.fn:6}"
        )
    lines += ["", f"{'':{width}}     PQ     SQ     RQ  classes"]
    lines += [_averages(name, scores, width) for name, scores in panoptic.by_kind().items()]
    return [*lines, _averages("all", panoptic, width), ""]


def _averages(name: str, scores: PanopticScores, width: int) -> str:
    return (
        f"{name:{width}} {scores.pq:6.1f} {scores.sq:6.1f} {scores.rq:6.1f} "
        f"{len(scores.per_class):8}"
    )


def _scores_named(scores: object, *names: str) -> dict[str, Any]:
    return {name: getattr(scores, name) for name in names}


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _times(times: Percentiles) -> str:
    return f"p50 {times.p50:.1f} ms, p90 {times.p90:.1f} ms, p99 {times.p99:.1f} ms"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
