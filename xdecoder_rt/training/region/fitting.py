"""Gives a compact model the classifier of its trunk, put into its space of texts.

Nothing is learnt of labels. The classifier stays what ImageNet's training made it. Each of its
names gets a vector in the space of texts: near the texts that are true of it, its own names and
those of what stands above it in WordNet, and far from all others. So "dog" is known from a hundred
breeds. The matrix of names may be stored as a product of two narrow ones, as near as the features
of some images allow.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from xdecoder_rt.errors import ArgumentError, CheckpointError
from xdecoder_rt.export.sources import checkpoint_file, load_model
from xdecoder_rt.image import RgbImage, lay_image
from xdecoder_rt.models import XDecoder, save_checkpoint
from xdecoder_rt.models.checkpoint import read_header
from xdecoder_rt.models.config import RegionConfig
from xdecoder_rt.models.efficientnet_lite import (
    EfficientNetLite0,
    ImageNetClassifier,
    load_imagenet_classifier,
    load_imagenet_weights,
)
from xdecoder_rt.models.graphs import Normalise
from xdecoder_rt.models.region import RegionClassifier
from xdecoder_rt.pixels.letterbox import Letterbox
from xdecoder_rt.training.region.names import Names, imagenet_names
from xdecoder_rt.training.validation import text_table
from xdecoder_rt.words.tokenizer import ClipTokenizer

_SIDE = 448
"""Of the images that the features are taken of: the input of compact plans."""
_TRUNK_TOLERANCE = 2e-3
"""Of the trunk's weights, relative: checkpoints keep matrices in fp16."""
_RIDGE = 1e-2
_LEARNING_RATE = 0.02


@dataclass(frozen=True)
class FitSettings:
    """How the classifier is fitted.

    Attributes:
        config: sizes, and how scores are joined.
        votes: weight in panoptic output of queries with much the same mask, 0 to 1, which what a
            classifier names needs more than what a decoder knows (:mod:`xdecoder_rt.masks.votes`).
        steps: of the vectors' optimization.
        texts_a_step: how many texts are told apart in a step.
        nearness: what a vector's distance from its class's own names costs.
        seed: decides the texts of each step.
    """

    config: RegionConfig = RegionConfig(weight=0.3, void_yield=0.5)
    votes: float = 0.5
    steps: int = 150
    texts_a_step: int = 384
    nearness: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ArgumentError: one is out of range.
        """
        if not 0 <= self.votes <= 1:
            raise ArgumentError(f"votes is {self.votes}", expected="0 to 1")
        if self.steps < 0 or self.texts_a_step < 2 or not self.nearness >= 0:
            raise ArgumentError(
                f"{self.steps} steps of {self.texts_a_step} texts at a nearness of {self.nearness}",
                expected="0 steps or more, at least two texts, a nearness of 0 or more",
            )


@dataclass(frozen=True)
class FitReport:
    """What a fit came to.

    Attributes:
        texts: how many the vectors were fitted to.
        loss: cross-entropy of the texts that are true of a class, in the last step.
        same_name: share of the images' positions whose best name narrow matrices leave; 1 where
            the classifier is kept as it is.
    """

    texts: int
    loss: float
    same_name: float


def fit_region_classifier(
    checkpoint: Path,
    out: Path,
    images: Iterable[RgbImage],
    wordnet: Path,
    settings: FitSettings | None = None,
) -> FitReport:
    """Write a checkpoint with the classifier of its trunk; the same inputs give the same weights.

    Args:
        checkpoint: a compact model on EfficientNet-Lite0 whose trunk kept its ImageNet weights.
        out: the checkpoint to write.
        images: to narrow the classifier by, if the settings say so; nothing need be known of them.
        wordnet: folder of ``data.noun``.
        settings: sizes and numbers; None for the defaults.

    Raises:
        ArgumentError: there are no images to narrow the classifier by.
        CheckpointError: the trunk is another, or was trained, or a file cannot be read or written.
        DatasetError: WordNet's file cannot be read.
        MissingExtraError: the package with the ImageNet weights is not installed.
    """
    settings = FitSettings() if settings is None else settings
    base = load_model(checkpoint)
    if settings.config.trunk == "shared":
        check_trunk(base)
    classifier = load_imagenet_classifier()
    reduce, scores, same_name = None, classifier.names, 1.0
    if settings.config.width:
        features = image_features(base, classifier, images)
        reduce, scores = narrowed(classifier.names, features, settings.config.width)
        exact = (features @ classifier.names.T + classifier.names_bias).argmax(dim=1)
        narrow = (features @ reduce @ scores.T + classifier.names_bias).argmax(dim=1)
        same_name = float((exact == narrow).float().mean())
    names = imagenet_names(wordnet)
    with torch.no_grad():
        tokenizer = ClipTokenizer.default(base.config.context_length)
        table = text_table(base, tokenizer, names.texts, torch.device("cpu"))
    scale = float(base.text_encoder.logit_scale.detach().exp())
    vectors, loss = class_vectors(names, table, scale, settings)
    base.drop_curves()
    base.config = replace(
        base.config, postprocess=replace(base.config.postprocess, votes=settings.votes)
    )
    model = with_classifier(base, classifier, reduce, scores, vectors, settings.config)
    report = FitReport(len(names.texts), loss, same_name)
    try:
        header = read_header(checkpoint_file(checkpoint))
    except CheckpointError:  # a published file, which says nothing about itself
        header = {}
    try:
        save_checkpoint(out, model, {**header, "region": json.dumps(vars(report))})
    except OSError as error:
        raise CheckpointError(f"{out} cannot be written: {error.strerror or error}") from error
    return report


def check_trunk(model: XDecoder) -> None:
    """Check that a model's trunk is the one that the classifier was trained on.

    Raises:
        CheckpointError: it is another network, or its weights or statistics were trained further.
    """
    trunk = model.backbone
    if not isinstance(trunk, EfficientNetLite0):
        raise CheckpointError(
            f"The trunk is {model.config.backbone.kind}",
            expected="efficientnet_lite0, whose classifier is known",
        )
    original = EfficientNetLite0()
    load_imagenet_weights(original)
    weights = trunk.state_dict()
    for name, value in original.state_dict().items():
        if value.is_floating_point():
            difference = (weights[name].float() - value).norm()
            if not difference <= _TRUNK_TOLERANCE * value.norm():
                raise CheckpointError(
                    f"The trunk was trained further: {name} has changed",
                    expected="ImageNet's weights, which the classifier knows",
                    fix="train with --freeze-backbone, or give the classifier a trunk of its own: "
                    "--trunk own",
                )


def image_features(
    model: XDecoder, classifier: ImageNetClassifier, images: Iterable[RgbImage]
) -> Tensor:
    """Return the classifier's features at the positions of images: ``[positions, features]``.

    Raises:
        ArgumentError: there are no images.
    """
    config = model.config
    normalise = Normalise(config.pixel_mean, config.pixel_std)
    parts = []
    with torch.inference_mode():
        for image in images:
            box = Letterbox.fit((image.shape[0], image.shape[1]), (_SIDE, _SIDE))
            pixels = torch.from_numpy(np.array(lay_image(image, box, "bilinear")))[None]
            coarsest = model.backbone(normalise(pixels, torch.tensor([box.valid])))[3][0]
            rows, columns = (max(1, side // 32) for side in box.valid)
            positions = coarsest[:, :rows, :columns].flatten(1).T
            parts.append(F.relu6(positions @ classifier.head.T + classifier.head_bias))
    if not parts:
        raise ArgumentError("There are no images", expected="at least one")
    return torch.cat(parts).clone()


def narrowed(names: Tensor, features: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Return two matrices whose product is nearest to the names', on such features.

    Args:
        names: ``[N, F]``.
        features: ``[P, F]``, whose second moments weigh the error.
        width: of the map between.

    Returns:
        ``[F, width]`` and ``[N, width]``.
    """
    centred = features.double() - features.double().mean(dim=0)
    moments = centred.T @ centred / len(features)
    moments += _RIDGE * moments.diagonal().mean() * torch.eye(len(moments), dtype=torch.float64)
    root = torch.linalg.cholesky(moments)
    # What all names share says nothing: the softmax over them takes it out.
    different = names.double() - names.double().mean(dim=0)
    left, size, right = torch.linalg.svd(different @ root, full_matrices=False)
    scores = left[:, :width] * size[:width]
    reduce = torch.linalg.solve_triangular(root.T, right[:width].T, upper=True)
    return reduce.float(), scores.float()


def class_vectors(
    names: Names, table: Tensor, scale: float, settings: FitSettings
) -> tuple[Tensor, float]:
    """Return a vector for each class, near the texts that are true of it.

    Args:
        names: texts, and how well they fit each class.
        table: ``[T, D]``, their unit embeddings.
        scale: factor of the products of vectors and texts.
        settings: of the optimization.

    Returns:
        ``[classes, D]``, and the cross-entropy of the last step.
    """
    weights = torch.from_numpy(names.weights)
    own = F.normalize((weights == 1).float() @ table, dim=-1)
    vectors = own.clone().requires_grad_(True)
    generator = torch.Generator().manual_seed(settings.seed)
    optimizer = torch.optim.Adam([vectors], lr=_LEARNING_RATE)
    loss = own.new_zeros(())
    for step in range(settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = _LEARNING_RATE * (1 - step / settings.steps)
        some = torch.randperm(len(table), generator=generator)[: settings.texts_a_step]
        wanted = weights[:, some]
        total = wanted.sum(dim=1, keepdim=True)
        found = (vectors @ table[some].T * scale).log_softmax(dim=1)
        errors = -(wanted / total.clamp(min=1e-9) * found).sum(dim=1)
        loss = errors[total[:, 0] > 0].mean()
        distance = (vectors - own).square().sum(dim=1).mean()
        optimizer.zero_grad()
        (loss + settings.nearness * distance).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return vectors.detach(), float(loss.detach())


def with_classifier(
    base: XDecoder,
    classifier: ImageNetClassifier,
    reduce: Tensor | None,
    scores: Tensor,
    vectors: Tensor,
    config: RegionConfig,
) -> XDecoder:
    """Return a model with a classifier of regions and the weights of another."""
    features, count = classifier.head.shape[0], len(classifier.names)
    width = 0 if reduce is None else reduce.shape[1]
    weights = "stored" if width else "imagenet"
    config = replace(config, features=features, width=width, names=count, weights=weights)
    model = XDecoder(replace(base.config, region=config))
    kept = {k: v for k, v in base.state_dict().items() if not k.startswith("region.")}
    model.load_state_dict(kept, strict=False)
    region = model.region
    assert isinstance(region, RegionClassifier)  # as configured
    region.load_imagenet()
    with torch.no_grad():
        if region.reduce is not None and reduce is not None:
            region.reduce.copy_(reduce)
            region.names.weight.copy_(scores)
        region.vectors.copy_(vectors)
    return model.eval()
