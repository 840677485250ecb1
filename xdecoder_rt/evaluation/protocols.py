"""The protocols of X-Decoder's published figures: one table of sizes, thresholds and metrics.

Every entry was read from the authors' configurations, mappers and registrations (branches `main`
and `v2.0` of https://github.com/microsoft/X-Decoder): `configs/xdecoder/*_lang.yaml` has the sizes,
`utils/misc.py` of `main` sets the object threshold to 0.4 for the panoptic sets that the model was
not trained on (mIoU and IoU of phrases read none), and `datasets/dataset_mappers/` scales SUN
RGB-D, ScanNet and BDD bicubically by the short side alone, without a limit of the long one.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdecoder_rt.errors import ArgumentError, quoted
from xdecoder_rt.pixels.letterbox import ResizeRule


@dataclass(frozen=True)
class Protocol:
    """How one published figure is measured.

    Attributes:
        name: As ``eval --protocol`` and ``build --preset`` take it.
        data: What it is measured on, in words.
        reader: Which reader of :mod:`xdecoder_rt.datasets.published` reads the folder.
        classes: The class list of :mod:`xdecoder_rt.datasets.class_lists`; None without classes.
        short_side: Pixels that an image's short side is scaled to.
        longest_side: Pixels that the long side may have at most, which scales the image less; None
            for no limit.
        squashed: Whether images are scaled to ``short_side`` x ``longest_side`` without keeping
            their proportions.
        interpolation: ``"bilinear"`` or ``"bicubic"``, of the image.
        object_threshold: Least score of a panoptic query.
        overlap_threshold: Least share of its own mask that a panoptic segment owns.
        metrics: What is reported, the figure that papers quote first.
    """

    name: str
    data: str
    reader: str
    classes: str | None
    short_side: int
    longest_side: int | None
    interpolation: str
    object_threshold: float
    metrics: tuple[str, ...]
    overlap_threshold: float = 0.8
    squashed: bool = False

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width that an image of a size is scaled to.

        Sides are rounded half up, as detectron2's `ResizeShortestEdge` rounds; where there is no
        limit of the long side it is rounded down, as torchvision's `Resize` does.

        Args:
            height: Of the image, in pixels.
            width: Of the image, in pixels.

        Raises:
            ArgumentError: if a side is not positive.
        """
        if min(height, width) < 1:
            raise ArgumentError(
                f"The size is {height} x {width} (height, width)", expected="positive sides"
            )
        if self.squashed:
            return self.short_side, self.longest_side or self.short_side
        return self.resize_rule.scaled_size((height, width))

    @property
    def resize_rule(self) -> ResizeRule:
        """The rule, as a plan keeps it."""
        if self.squashed:
            return ResizeRule("squash")
        return ResizeRule("short_side", self.short_side, self.longest_side)


_PANOPTIC = ("pq", "ap", "miou")

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("coco", "COCO panoptic, val2017", "coco", "coco-133",
                 800, 1333, "bilinear", 0.8, _PANOPTIC),
        Protocol("ade20k", "ADE20K, 150 classes, validation", "ade20k", "ade20k-150",
                 640, 2560, "bilinear", 0.4, _PANOPTIC),
        Protocol("ade20k-847", "ADE20K, 847 classes, validation", "ade20k-847", "ade20k-847",
                 640, 2560, "bilinear", 0.4, ("miou",)),
        Protocol("cityscapes", "Cityscapes fine, val", "cityscapes", "cityscapes-19",
                 1024, 2048, "bilinear", 0.4, _PANOPTIC),
        Protocol("bdd", "BDD100K 10k, 19 classes, val", "bdd", "cityscapes-19",
                 800, None, "bicubic", 0.4, ("miou",)),
        Protocol("bdd-panoptic", "BDD100K 10k, 40 classes, val", "bdd-panoptic", "bdd-40",
                 800, None, "bicubic", 0.4, ("pq", "miou")),
        Protocol("sun", "SUN RGB-D, 37 classes, test", "sun", "sun-37",
                 512, None, "bicubic", 0.4, ("miou",)),
        Protocol("scannet", "ScanNet frames, 20 classes, val", "scannet", "scannet-20",
                 512, None, "bicubic", 0.4, ("miou",)),
        Protocol("scannet-41", "ScanNet frames, 40 classes, val", "scannet", "scannet-40",
                 512, None, "bicubic", 0.4, ("miou",)),
        Protocol("scannet-panoptic", "ScanNet frames, 20 classes, val", "scannet-panoptic",
                 "scannet-20", 512, None, "bicubic", 0.4, ("pq",)),
        Protocol("refcoco", "RefCOCO, val of UNC", "refcoco", None,
                 512, 1024, "bilinear", 0.8, ("ciou", "miou", "p_at_50")),
        Protocol("refcoco+", "RefCOCO+, val of UNC", "refcoco+", None,
                 512, 1024, "bilinear", 0.8, ("ciou", "miou", "p_at_50")),
        Protocol("refcocog", "RefCOCOg, val of UMD", "refcocog", None,
                 512, 1024, "bilinear", 0.8, ("ciou", "miou", "p_at_50")),
        Protocol("caption", "COCO captions, Karpathy's test", "captions", None,
                 224, 224, "bilinear", 0.8, ("cider", "bleu4"), squashed=True),
        Protocol("retrieval", "COCO captions, Karpathy's test", "captions", None,
                 224, 224, "bilinear", 0.8, ("image_r1", "text_r1"), squashed=True),
    )
}  # fmt: skip
"""Every protocol by its name."""


def protocol_named(name: str) -> Protocol:
    """Return a protocol by its name.

    Raises:
        ArgumentError: if there is none of that name.
    """
    if name not in PROTOCOLS:
        raise ArgumentError(
            f"There is no protocol {quoted(name)}", expected="one of " + ", ".join(PROTOCOLS)
        )
    return PROTOCOLS[name]
