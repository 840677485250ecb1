"""Segmentation tensors: the runtime's post-processing on a form's class and mask logits."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from xdecoder_rt.backends.base import Array
from xdecoder_rt.errors import DatasetError
from xdecoder_rt.masks import postprocess
from xdecoder_rt.masks.classification import keep_panoptic, top_instances
from xdecoder_rt.models.config import PostprocessConfig
from xdecoder_rt.parity.comparison import AgreementRule, continuous, exact, pixels, table_rows
from xdecoder_rt.parity.fixture import Fixture, FixtureImage, Thresholds
from xdecoder_rt.parity.forms import ALL_CLASS_EMBEDDINGS, Embeddings, Form, TextSide

SEGMENTATION_RULES: tuple[tuple[re.Pattern[str], AgreementRule], ...] = (
    (re.compile(r"panoptic\d+\.seg"), pixels),
    (re.compile(r"panoptic\d+\.segments"), table_rows),
    (re.compile(r"semantic\.scores"), continuous),
    (re.compile(r"semantic\.argmax"), pixels),
    (re.compile(r"instance\.masks"), pixels),
    (re.compile(r"instance\.scores"), continuous),
    (re.compile(r"instance\.classes"), exact),
    (re.compile(r"masks_at_output_size_first\d+"), continuous),
)


@dataclass(frozen=True)
class InstanceArrays:
    """Instances in the fixture's three arrays."""

    masks: npt.NDArray[np.bool_]
    scores: Array
    classes: Array

    def in_order_of(self, other: InstanceArrays) -> InstanceArrays:
        """Return the instances, each at the place of its likeness in `other`."""
        free = list(range(len(self.scores)))
        order = []
        for mask, score, label in zip(other.masks, other.scores, other.classes, strict=True):
            if not free:
                break
            best = min(
                free,
                key=lambda i: (
                    self.classes[i] != label,
                    abs(float(self.scores[i]) - float(score)) > 1e-3,
                    int((self.masks[i] != mask).sum()) if self.masks[i].shape == mask.shape else 0,
                ),
            )
            free.remove(best)
            order.append(best)
        indices = [*order, *free]
        return InstanceArrays(self.masks[indices], self.scores[indices], self.classes[indices])


class ImageTensors:
    """Everything that a form and the runtime's post-processing make of one image, on demand.

    Args:
        fixture: whose vocabulary and thresholds.
        form: computes the network's tensors.
        image: the image.
        table: gives the class table, for the first class logits that are asked for.
        defaults: the network's own thresholds and number of instances.
    """

    def __init__(
        self,
        fixture: Fixture,
        form: Form,
        image: FixtureImage,
        table: Callable[[], Embeddings],
        defaults: PostprocessConfig,
    ) -> None:
        self._fixture = fixture
        self._form = form
        self._image = image
        self._table = table
        self._defaults = defaults

    @cached_property
    def network(self) -> Mapping[str, Array]:
        """The form's tensors of the image."""
        return self._form.tensors(self._image)

    @cached_property
    def class_logits(self) -> Array:
        """Class logits of all queries, ``[1, Q, K + 1]``."""
        return self._words.class_logits(self.network["pred_captions"], self._table())

    def tensor(self, name: str) -> Array | None:
        """A tensor of the network by the fixture's name; None where it has no such tensor."""
        if name == "pred_logits":
            return self.class_logits
        if name == "pred_logits_all_layers":
            embeddings = self.network[ALL_CLASS_EMBEDDINGS]
            return self._words.class_logits(embeddings, self._table())
        return self.network.get(name)

    def result(self, name: str, expected: Callable[[str], Array]) -> Array:
        """Compute an array of the output rules.

        Args:
            name: one that `SEGMENTATION_RULES` knows.
            expected: the fixture's array of a name, for what has no order of its own.
        """
        masks = self.network["pred_masks"][0]
        task, _, part = name.partition(".")
        if task.startswith("panoptic"):
            seg, segments = self._panoptic(int(task.removeprefix("panoptic")))
            return seg if part == "seg" else segments
        if name == "semantic.argmax":
            return postprocess.semantic(self.class_logits[0], masks, self._image.letterbox)
        if name == "semantic.scores":
            return postprocess.semantic_scores(self.class_logits[0], masks, self._image.letterbox)
        if task == "instance":
            theirs = InstanceArrays(
                *(expected(f"instance.{kind}") for kind in ("masks", "scores", "classes"))
            )
            aligned: Array = getattr(self._instances.in_order_of(theirs), part)
            return aligned
        count = int(re.sub(r"\D", "", name))
        return postprocess.full_size_logits(masks[:count], self._image.letterbox)

    @property
    def _words(self) -> TextSide:
        if self._form.words is None:
            raise DatasetError(
                f"{self._fixture.folder} expects class logits of a backbone alone",
                expected="the whole network's hyper-parameters in config.json",
            )
        return self._form.words

    def _panoptic(self, number: int) -> tuple[Array, Array]:
        """Return the map and the table of (id, class, is thing) under one setting of thresholds."""
        default = Thresholds(self._defaults.object_mask_threshold, self._defaults.overlap_threshold)
        thresholds = self._fixture.thresholds(number, default)
        kept_queries = keep_panoptic(self.class_logits[0], thresholds.object_mask)
        panoptic_map = postprocess.panoptic(
            kept_queries.scores,
            kept_queries.labels,
            self.network["pred_masks"][0][kept_queries.queries],
            self._image.letterbox,
            self._fixture.is_thing(),
            thresholds.overlap,
        )
        table = [(s.id, s.label_id, int(s.isthing)) for s in panoptic_map.segments]
        return panoptic_map.segmentation, np.array(table, np.int32).reshape(-1, 3)

    @cached_property
    def _instances(self) -> InstanceArrays:
        logits = self.class_logits[0]
        instances = top_instances(logits, self._defaults.instance_topk, self._fixture.is_thing())
        masks = self.network["pred_masks"][0][instances.unique_queries]
        instance_masks = postprocess.instance(instances, masks, self._image.letterbox)
        return InstanceArrays(instance_masks.masks, instance_masks.scores, instance_masks.label_ids)
