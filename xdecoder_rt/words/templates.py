"""Prompt templates: how a class name becomes the sentences that the text encoder reads.

X-Decoder (https://arxiv.org/abs/2212.11270) describes a class by the mean of its embeddings in
many sentences, as CLIP does. A template holds one ``{}``, where the class name goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from xdecoder_rt.errors import ArgumentError, quoted

__all__ = [
    "BACKGROUND",
    "COMPACT_TEMPLATES",
    "NAME_SUFFIXES",
    "PUBLISHED_TEMPLATES",
    "TEMPLATES",
    "check_template",
    "clean_class_name",
    "prompts",
    "sampled_prompts",
    "sampled_template_indices",
]

BACKGROUND = "background"
"""The name of the class of what is none of the others."""

NAME_SUFFIXES: tuple[str, ...] = ("-other", "-merged", "-stuff")
"""Endings of COCO's merged stuff classes, which a sentence should not have."""

COMPACT_TEMPLATES: tuple[str, ...] = ("{}", "a {}", "the {}", "a photo of a {}")
"""The sentences that compact models are trained on and asked with, the plainest first."""

PUBLISHED_TEMPLATES: tuple[str, ...] = (
    "{}.",
    "a photo of a {}.",
    "a bad photo of a {}.",
    "a photo of many {}.",
    "a sculpture of a {}.",
    "a photo of the hard to see {}.",
    "a low resolution photo of the {}.",
    "a rendering of a {}.",
    "graffiti of a {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
    "a tattoo of a {}.",
    "the embroidered {}.",
    "a photo of a hard to see {}.",
    "a bright photo of a {}.",
    "a photo of a clean {}.",
    "a photo of a dirty {}.",
    "a dark photo of the {}.",
    "a drawing of a {}.",
    "a photo of my {}.",
    "the plastic {}.",
    "a photo of the cool {}.",
    "a close-up photo of a {}.",
    "a black and white photo of the {}.",
    "a painting of the {}.",
    "a painting of a {}.",
    "a pixelated photo of the {}.",
    "a sculpture of the {}.",
    "a bright photo of the {}.",
    "a cropped photo of a {}.",
    "a plastic {}.",
    "a photo of the dirty {}.",
    "a jpeg corrupted photo of a {}.",
    "a blurry photo of the {}.",
    "a photo of the {}.",
    "a good photo of the {}.",
    "a rendering of the {}.",
    "a {} in a video game.",
    "a photo of one {}.",
    "a doodle of a {}.",
    "a close-up photo of the {}.",
    "the origami {}.",
    "the {} in a video game.",
    "a sketch of a {}.",
    "a doodle of the {}.",
    "a origami {}.",
    "a low resolution photo of a {}.",
    "the toy {}.",
    "a rendition of the {}.",
    "a photo of the clean {}.",
    "a photo of a large {}.",
    "a rendition of a {}.",
    "a photo of a nice {}.",
    "a photo of a weird {}.",
    "a blurry photo of a {}.",
    "a cartoon {}.",
    "art of a {}.",
    "a sketch of the {}.",
    "a embroidered {}.",
    "a pixelated photo of a {}.",
    "itap of the {}.",
    "a jpeg corrupted photo of the {}.",
    "a good photo of a {}.",
    "a plushie {}.",
    "a photo of the nice {}.",
    "a photo of the small {}.",
    "a photo of the weird {}.",
    "the cartoon {}.",
    "art of the {}.",
    "a drawing of the {}.",
    "a photo of the large {}.",
    "a black and white photo of a {}.",
    "the plushie {}.",
    "a dark photo of a {}.",
    "itap of a {}.",
    "graffiti of the {}.",
    "a toy {}.",
    "itap of my {}.",
    "a photo of a cool {}.",
    "a photo of a small {}.",
    "a tattoo of the {}.",
)
"""The 81 sentences of the published models, in the published order."""

TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "published": PUBLISHED_TEMPLATES,
    "compact": COMPACT_TEMPLATES,
}
"""The sentences of a model by what its configuration calls them."""


def clean_class_name(name: str, suffixes: Sequence[str] = NAME_SUFFIXES) -> str:
    """Return `name` without COCO's annotation suffixes ("sky-other-merged" becomes "sky").

    To be applied when a template is used, and only then: a raw name is embedded as it is.
    """
    for suffix in suffixes:
        name = name.replace(suffix, "")
    return name


def check_template(template: str) -> str:
    """Return `template` if it holds exactly one ``{}``.

    Raises:
        ArgumentError: it holds none or several.
    """
    if template.count("{}") != 1:
        raise ArgumentError(
            f"The prompt template {quoted(template)} has {template.count('{}')} places "
            "for the name",
            expected='exactly one "{}"',
        )
    return template


def prompts(
    name: str, templates: Sequence[str], suffixes: Sequence[str] = NAME_SUFFIXES
) -> list[str]:
    """Return the sentence of every template for one class name, cleaned by `clean_class_name`."""
    cleaned = clean_class_name(name, suffixes)
    # replace, not str.format: neither a template from a file nor a name with braces is code.
    return [check_template(template).replace("{}", cleaned) for template in templates]


def sampled_template_indices(
    count: int, generator: np.random.RandomState, templates: int = len(PUBLISHED_TEMPLATES)
) -> list[int]:
    """Draw a template for each of `count` names, as the original's panoptic and instance demos do.

    Args:
        count: number of names, the background included.
        generator: NumPy's legacy generator; the original draws from the global one, seeded.
        templates: number of templates to draw from.

    Returns:
        One index in ``range(templates)`` per name, drawn in order.
    """
    return [int(generator.randint(templates)) for _ in range(count)]


def sampled_prompts(
    names: Sequence[str],
    generator: np.random.RandomState,
    templates: Sequence[str] = PUBLISHED_TEMPLATES,
) -> list[str]:
    """Return one randomly drawn sentence per name: the mode of the original's panoptic demo.

    Besides the suffixes, this mode drops commas and turns "+" into a space.

    Args:
        names: class names, the background last.
        generator: NumPy's legacy generator (``np.random.RandomState(seed)``).
        templates: the sentences to draw from.

    Returns:
        One sentence per name.
    """
    indices = sampled_template_indices(len(names), generator, len(templates))
    return [
        prompts(name.replace(",", "").replace("+", " "), [templates[index]])[0]
        for name, index in zip(names, indices, strict=True)
    ]
