"""The PyTorch X-Decoder: configuration, network, checkpoints. Needs the ``export`` extra."""

from __future__ import annotations

from xdecoder_rt.errors import require

require("torch", "export")

from xdecoder_rt.models.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from xdecoder_rt.models.config import (  # noqa: E402
    ModelConfig,
    compact_config,
    published_config,
)
from xdecoder_rt.models.decoder import LayerPrediction  # noqa: E402
from xdecoder_rt.models.published import load_published  # noqa: E402
from xdecoder_rt.models.xdecoder import Prediction, XDecoder  # noqa: E402

__all__ = [
    "LayerPrediction",
    "ModelConfig",
    "Prediction",
    "XDecoder",
    "compact_config",
    "load_checkpoint",
    "load_published",
    "published_config",
    "save_checkpoint",
]
