"""The losses of segmentation; those of texts are in :mod:`~xdecoder_rt.training.text_losses`.

Sources: Mask2Former (Cheng et al., CVPR 2022, section 3.2) and X-Decoder (Zou et al., CVPR 2023,
section 3.3) for mask, dice and class; the loss of the class token is ours. Every function takes
the predictions of several layers at once (deep supervision) and returns the layers' mean.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

OVERSAMPLE = 3
UNCERTAIN_SHARE = 0.75


def candidate_points(points: int) -> int:
    """Points an image needs so that each target can take its losses on `points` of them.

    As in PointRend: three times as many are looked at and the least decided three quarters taken
    from them; the last quarter is random and comes from points of its own.
    """
    return OVERSAMPLE * points + random_points(points)


def random_points(points: int) -> int:
    """Return how many of a target's points are taken at random."""
    return points - int(UNCERTAIN_SHARE * points)


def mask_losses(
    logits: Tensor, targets: Tensor, usable: Tensor, rows: Tensor, num_targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy and dice on points.

    Args:
        logits: ``[R, P]`` mask logits of R matched (layer, target) pairs at their points.
        targets: ``[R, P]`` 0 or 1.
        usable: ``[R, P]`` 0 or 1; nothing is learnt from a point with 0.
        rows: ``[R]`` 0 or 1; a row with 0 is padding.
        num_targets: scalar, by which the sums are divided: of targets, times the layers.

    Returns:
        Two scalars, summed over the rows.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    cross_entropy = (entropy * usable).sum(dim=1) / usable.sum(dim=1).clamp(min=1)
    probability = logits.sigmoid() * usable
    usable_targets = targets * usable
    overlap = (probability * usable_targets).sum(dim=1)
    dice = 1 - (2 * overlap + 1) / (probability.sum(dim=1) + usable_targets.sum(dim=1) + 1)
    return (cross_entropy * rows).sum() / num_targets, (dice * rows).sum() / num_targets


def class_loss(
    logits: Tensor, class_ids: Tensor, assigned: Tensor, counted: Tensor, void_weight: float
) -> Tensor:
    """Cross-entropy of every object query over the names and void.

    Args:
        logits: ``[L, B, Q, K + 1]``, the last column void.
        class_ids: ``[B, N]`` int64 vocabulary index of each target, -1 for none.
        assigned: ``[L, B, N]`` int64 query of each target, -1 for none.
        counted: ``[B]`` bool; of other images nothing is known, not even what is void.
        void_weight: weight of queries that are matched to nothing.
    """
    layers, batch, queries, classes = logits.shape
    # One extra column swallows what is not matched.
    classes_of_queries = torch.full((layers, batch, queries + 1), classes - 1, device=logits.device)
    index = torch.where(assigned < 0, queries, assigned)
    classes_of_queries.scatter_(2, index, class_ids.clamp(min=0).expand(layers, -1, -1))
    classes_of_queries = classes_of_queries[:, :, :queries]
    weight = torch.where(classes_of_queries == classes - 1, void_weight, 1.0) * counted[:, None]
    entropy = F.cross_entropy(
        logits.reshape(-1, classes), classes_of_queries.reshape(-1), reduction="none"
    )
    # All layers match equally many targets, so the mean of all is the mean of theirs.
    return (entropy * weight.flatten()).sum() / weight.sum().clamp(min=1e-6)


def image_loss(logits: Tensor, class_ids: Tensor) -> Tensor:
    """Compare the class token with the names on its image (ours).

    Cross-entropy with a target spread evenly over the names present, so that the image embedding
    is close to the texts of what the image shows. Images without names do not count.

    Args:
        logits: ``[L, B, K]`` of the class token, without void.
        class_ids: ``[B, N]`` int64, -1 for none.
    """
    layers, batch, classes = logits.shape
    present = torch.zeros(batch, classes + 1, device=logits.device)
    present.scatter_(1, torch.where(class_ids < 0, classes, class_ids), 1.0)
    present = present[:, :classes]
    labelled = present.any(dim=1).float()
    spread = present / present.sum(dim=1, keepdim=True).clamp(min=1)
    entropy = -(logits.log_softmax(dim=-1) * spread).sum(dim=-1)
    return (entropy * labelled).sum() / (layers * labelled.sum().clamp(min=1))
