"""Quick measures of phrases, captions, answers and retrieval for a model in training.

One phrase, caption and question of each image count. These are not the scores of
``xdecoder-rt eval``: masks are compared at stride 4, and captions are not written but continued
token by token.
"""

from __future__ import annotations

from itertools import chain

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from xdecoder_rt.evaluation.answers import answer_accuracy
from xdecoder_rt.models import Prediction, XDecoder
from xdecoder_rt.training.dataset import Batch
from xdecoder_rt.training.step_text import StepText
from xdecoder_rt.training.vocabulary import Tokenizer, trimmed_tokens

STRIDE = 4
_TEXT_BATCH = 256


class TextScores:
    """Collects the measures of a data set.

    Args:
        model: in evaluation mode; open questions are answered from its ``config.answers``.
        tokenizer: texts to token ids.
        device: the model's.
    """

    def __init__(self, model: XDecoder, tokenizer: Tokenizer, device: torch.device) -> None:
        self.model = model
        answers = model.config.answers
        self._answers = [
            F.normalize(
                model.encode_text(
                    trimmed_tokens(tokenizer, answers[i : i + _TEXT_BATCH]).to(device)
                ).float(),
                dim=-1,
            )
            for i in range(0, len(answers), _TEXT_BATCH)
        ]
        self._phrase_ious: list[float] = []
        self._tokens: list[Tensor] = []
        self._entropies: list[Tensor] = []
        self._answered: list[float] = []
        self._images: list[Tensor] = []
        self._captions: list[Tensor] = []
        self._keys: list[Tensor] = []

    def update(
        self, prediction: Prediction, features: Tensor, batch: Batch, text: StepText
    ) -> None:
        """Count one batch.

        Args:
            prediction: of the batch with its texts.
            features: ``[places, D]``, the text encoder's output.
            batch: targets.
            text: the batch's texts.
        """
        if len(text.phrases):
            self._score_phrases(prediction, features, batch, text)
        if len(text.caption_rows):
            rows = prediction.caption_embedding.flatten(0, 1)[text.caption_rows]
            logits = self.model.token_logits(rows).float()
            self._tokens.append(logits.argmax(dim=1) == text.caption_next)
            self._entropies.append(F.cross_entropy(logits, text.caption_next, reduction="none"))
        embedding = prediction.layers[-1].class_embedding.float()
        if self._answers and len(text.question_rows):
            rows = F.normalize(embedding.flatten(0, 1)[text.question_rows], dim=-1)
            best = (rows @ torch.cat(self._answers).T).argmax(dim=1).tolist()
            for index, question in zip(best, chain.from_iterable(batch.questions), strict=True):
                answer = self.model.config.answers[index]
                self._answered.append(answer_accuracy(answer, question.answers))
        present = text.captions >= 0
        images = F.normalize(embedding[:, self.model.config.num_queries - 1], dim=-1)
        if self.model.config.retrieval_ensemble:
            images = images + F.normalize(prediction.backbone_embedding.float(), dim=-1)
        self._images.append(images[present])
        self._captions.append(F.normalize(features[text.captions[present]].float(), dim=-1))
        self._keys.append(text.caption_keys[present])

    def compute(self) -> dict[str, float]:
        """Return the measures of all batches, without those that the data have nothing for.

        Returns:
            Shares from 0 to 1: ``p_at_50``: phrases whose best query has an intersection over
            union of at least 0.5; ``next_token``: caption tokens told from those before;
            ``vqa``: accuracy of open answers; ``image_r1`` and ``text_r1``: captions whose image,
            and images whose caption, is the nearest of all measured. And ``caption_entropy``: the
            captions' cross-entropy in nats a token.
        """
        measured: dict[str, float] = {}
        if self._phrase_ious:
            measured["p_at_50"] = float(np.mean(np.array(self._phrase_ious) >= 0.5))
        if self._tokens:
            measured["next_token"] = torch.cat(self._tokens).float().mean().item()
            measured["caption_entropy"] = torch.cat(self._entropies).mean().item()
        if self._answered:
            measured["vqa"] = float(np.mean(self._answered))
        keys = torch.cat(self._keys) if self._keys else torch.empty(0)
        if len(keys):
            # An image's caption that another image has too is right for both.
            same_key = keys[:, None] == keys
            cosines = torch.cat(self._images) @ torch.cat(self._captions).T
            for name, table in (("text_r1", cosines), ("image_r1", cosines.T)):
                best = table.argmax(dim=1, keepdim=True)
                measured[name] = same_key.gather(1, best).float().mean().item()
        return measured

    def _score_phrases(
        self, prediction: Prediction, features: Tensor, batch: Batch, text: StepText
    ) -> None:
        """Intersection over union of each phrase and the mask of its best query."""
        queries = self.model.config.num_queries
        copies = slice(queries, 2 * queries - 1)
        last = prediction.layers[-1]
        embedding = F.normalize(last.class_embedding[:, copies].float(), dim=-1)
        phrases = F.normalize(features[text.phrases].float(), dim=-1)
        cells = at_stride(batch.ids)
        for image, texts in enumerate(batch.phrases):
            true_masks = batch.phrase_membership[image, : len(texts)][:, cells[image].long()]
            best = (embedding[image] @ phrases[text.phrase_ids[image, : len(texts)]].T).argmax(0)
            masks = torch.einsum(
                "qc,chw->qhw",
                last.mask_embedding[image, copies][best],
                prediction.mask_features[image],
            )
            predicted_masks = fitted(masks, cells) > 0
            overlap = (predicted_masks & true_masks).flatten(1).sum(dim=1)
            union = (predicted_masks | true_masks).flatten(1).sum(dim=1)
            self._phrase_ious += (overlap / union.clamp(min=1)).tolist()


def at_stride(ids: Tensor) -> Tensor:
    """Return the pixel next to each cell's centre: ``[B, S, S] -> [B, S/4, S/4]``."""
    return ids[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]


def fitted(logits: Tensor, cells: Tensor) -> Tensor:
    """Return mask logits ``[..., h, w]`` at the size of cells ``[B, S/4, S/4]``.

    Models of coarser mask features are measured on the same cells as others.
    """
    if logits.shape[-2:] == cells.shape[-2:]:
        return logits
    batch = logits.flatten(0, -3)[None]
    resized = F.interpolate(batch, cells.shape[-2:], mode="bilinear", align_corners=False)
    return resized[0].view(*logits.shape[:-2], *cells.shape[-2:])
