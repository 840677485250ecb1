"""COCO's captions: `captions_*.json` and a folder of images.

The format is described at https://cocodataset.org/#format-data, "Image Captioning".
"""

from __future__ import annotations

from dataclasses import dataclass

from xdecoder_rt.datasets.coco_images import CocoImage, CocoImages
from xdecoder_rt.datasets.documents import Document, LongText, squeezed
from xdecoder_rt.datasets.text_items import ItemSet, TextItem


@dataclass(frozen=True)
class _Caption:
    caption: LongText


def read_captions(document: Document, images: CocoImages) -> ItemSet:
    """Read the captioned images of a file, in its order of images.

    White space in captions is normalised, and a caption of white space alone is left out, as is
    an image without captions.

    Args:
        document: The content of `captions_train2017.json` or the like.
        images: Where the images are.

    Raises:
        DatasetError: if a field is missing or wrong, or an image is missing; it names the place.
    """
    records = document.by_id("images", "image")
    captions: dict[int, list[str]] = {image_id: [] for image_id in records}
    for annotation in document.documents("annotations", "annotation"):
        image_id = annotation.reference("image_id", records, "image")
        if caption := squeezed(annotation.read(_Caption).caption):
            captions[image_id].append(caption)
    items = [
        TextItem(
            images.find(records[image_id], image_id, records[image_id].read(CocoImage).file_name),
            tuple(texts),
        )
        for image_id, texts in captions.items()
        if texts
    ]
    if not items:
        raise document.error("no image has a caption", expected="at least one")
    return ItemSet(tuple(items))
