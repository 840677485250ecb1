"""Labelled scenes for training, drawn or rendered from what package registries ship."""

from xdecoder_rt.scenes.generate import DOMAINS, SPLITS, generate

__all__ = ["DOMAINS", "SPLITS", "generate"]
