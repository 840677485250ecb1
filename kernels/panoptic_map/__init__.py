"""Panoptic maps: mask logits enlarged, compared and counted without a full-size logit in memory."""
