"""The losses of texts: phrases, retrieval, captions, answers (X-Decoder, section 3.3).

Those that look at several layers give the layers' mean. A batch without a task's texts has a loss
of zero, with a graph.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from xdecoder_rt.training.distributed import from_all_processes


def phrase_loss(logits: Tensor, phrase_ids: Tensor, assigned: Tensor) -> Tensor:
    """Compare each phrase with the queries of its image, one of which means it.

    Args:
        logits: ``[L, B, Q, U]``, of queries and distinct phrases.
        phrase_ids: ``[B, M]`` int64 index among the distinct phrases, -1 for none.
        assigned: ``[L, B, M]`` int64 query of each phrase, -1 for none.
    """
    index = phrase_ids.clamp(min=0)[None, :, None].expand(*logits.shape[:3], -1)
    over_queries = logits.gather(3, index).log_softmax(dim=2)
    matched = over_queries.gather(2, assigned.clamp(min=0)[:, :, None])[:, :, 0]
    counted = (assigned >= 0).to(logits.dtype)
    return -(matched * counted).sum() / counted.sum().clamp(min=1)


def retrieval_loss(
    images: Tensor, texts: Tensor, keys: Tensor, present: Tensor, scale: Tensor
) -> Tensor:
    """Symmetric contrastive loss of images and their captions, over all processes.

    Captions equal to an image's own are not its negatives.

    Args:
        images: ``[L, B, D]`` embeddings, unnormalised.
        texts: ``[B, D]``, the captions', unnormalised.
        keys: ``[B]`` int64, equal for equal captions.
        present: ``[B]`` bool, whether an image has a caption.
        scale: what cosines are multiplied by.
    """
    images = from_all_processes(F.normalize(images, dim=-1).transpose(0, 1)).transpose(0, 1)
    texts = from_all_processes(F.normalize(texts, dim=-1))
    keys, present = from_all_processes(keys), from_all_processes(present)
    logits = images @ texts.T * scale
    own_caption = torch.eye(len(keys), dtype=torch.bool, device=keys.device)
    negative = present[:, None] & present & (keys[:, None] != keys)
    logits = logits.masked_fill(~(own_caption | negative), -torch.inf)
    own_logit = logits.diagonal(dim1=1, dim2=2)
    entropy = (logits.logsumexp(dim=2) + logits.logsumexp(dim=1)) / 2 - own_logit
    return (entropy * present).sum() / (len(logits) * present.sum().clamp(min=1))


def caption_loss(logits: Tensor, following: Tensor) -> Tensor:
    """Cross-entropy of the next token.

    Args:
        logits: ``[C, vocabulary]``.
        following: ``[C]`` int64.
    """
    return F.cross_entropy(logits, following, reduction="sum") / max(len(following), 1)


def answer_loss(logits: Tensor, accepted: Tensor) -> Tensor:
    """Cross-entropy over candidate answers, spread over the accepted ones.

    Args:
        logits: ``[L, V, A]``.
        accepted: ``[V, A]``, rows that sum to one.
    """
    entropy = -(logits.log_softmax(dim=-1) * accepted).sum()
    return entropy / (len(logits) * max(len(accepted), 1))
