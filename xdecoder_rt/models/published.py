"""The published X-Decoder checkpoints, mapped onto our modules name by name.

Names are those of the original's v2.0 branch (``xdecoder_focalt_last.pt`` and
``xdecoder_focall_last.pt``): a flat mapping from name to tensor.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from xdecoder_rt.errors import CheckpointError
from xdecoder_rt.models.checkpoint import check_fit, load_exactly, read_tensors
from xdecoder_rt.models.config import ModelConfig, published_config
from xdecoder_rt.models.weights_file import check_weights_file, unreadable_weights
from xdecoder_rt.models.xdecoder import XDecoder

# In the file, but nothing of the network: a training weight, and a mask that the shape determines.
IGNORED = ("criterion.empty_weight", "sem_seg_head.predictor.self_attn_mask")

_PIXEL = "sem_seg_head.pixel_decoder."
_PREDICTOR = "sem_seg_head.predictor."
_TEXT = _PREDICTOR + "lang_encoder."
# Our names to theirs; the first rule that matches the beginning of a name is taken.
_RULES: tuple[tuple[str, str], ...] = (
    (r"backbone", "backbone"),
    (r"pixel_decoder\.encoder\.", _PIXEL + "transformer.encoder.layers."),
    (r"pixel_decoder\.mask_conv\.", _PIXEL + "mask_features."),
    (r"pixel_decoder\.input_proj\.", _PIXEL + "input_proj."),
    (r"decoder\.self_attention\.(\d+)\.attn\.",
     _PREDICTOR + r"transformer_self_attention_layers.\1.self_attn."),
    (r"decoder\.self_attention\.", _PREDICTOR + "transformer_self_attention_layers."),
    (r"decoder\.cross\.(\d+)\.attn\.",
     _PREDICTOR + r"transformer_cross_attention_layers.\1.multihead_attn."),
    (r"decoder\.cross\.", _PREDICTOR + "transformer_cross_attention_layers."),
    (r"decoder\.ffn\.", _PREDICTOR + "transformer_ffn_layers."),
    (r"decoder\.(query_feat|query_embed|level_embed)$", _PREDICTOR + r"\1.weight"),
    (r"decoder\.caption_position$", _PREDICTOR + "pos_embed_caping.weight"),
    (r"decoder\.caption_embed$", _PREDICTOR + "caping_embed"),
    (r"decoder\.mask_embed\.", _PREDICTOR + "mask_embed.layers."),
    (r"decoder\.", _PREDICTOR),
    (r"text_encoder\.(lang_proj|logit_scale)$", _TEXT + r"\1"),
    (r"text_encoder\.blocks\.(\d+)\.(c_fc|c_proj)\.",
     _TEXT + r"lang_encoder.resblocks.\1.mlp.\2."),
    (r"text_encoder\.blocks\.", _TEXT + "lang_encoder.resblocks."),
    (r"text_encoder\.", _TEXT + "lang_encoder."),
)  # fmt: skip


def published_name(name: str) -> str:
    """Return the original's name of the tensor that our model calls ``name``."""
    convolution = re.fullmatch(r"pixel_decoder\.(lateral|output)\.(\d)\.(conv|norm)\.(\w+)", name)
    if convolution:
        block, level, part, leaf = convolution.groups()
        kind = "adapter" if block == "lateral" else "layer"
        return f"{_PIXEL}{kind}_{int(level) + 1}.{'norm.' if part == 'norm' else ''}{leaf}"
    for pattern, replacement in _RULES:
        renamed, count = re.subn("^" + pattern, replacement, name)
        if count:
            return renamed
    return name


def load_published(path: str | Path, config: ModelConfig | None = None) -> XDecoder:
    """Load a published checkpoint into our model (fp32, eval mode).

    Args:
        path: the original ``.pt`` (read without running any pickled code) or safetensors.
        config: the network's sizes; by default Focal-T or Focal-L, told by the file.

    Raises:
        CheckpointError: the file is missing or broken, or has missing, unexpected or wrong-shaped
            tensors; all of them are named as the file names them.
    """
    tensors = {name: t for name, t in _read(Path(path)).items() if name not in IGNORED}
    if config is None:
        tiny = "backbone.layers.0.blocks.0.dw1.weight" in tensors
        config = published_config("tiny" if tiny else "large")
    with torch.device("meta"):
        # The network of a file that does not fit takes no memory.
        check_fit(XDecoder(config), tensors, str(path), published_name)
    model = XDecoder(config)
    load_exactly(model, tensors, str(path), published_name)
    return model.eval()


def load_backbone(backbone: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Load a backbone alone from tensors under the original's names.

    Raises:
        CheckpointError: tensors are missing, unexpected or wrong-shaped; they are named.
    """
    load_exactly(backbone, tensors, source, lambda name: published_name(f"backbone.{name}"))


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        tensors, _ = read_tensors(path)
        return tensors
    if not path.is_file():
        raise CheckpointError(
            f"There is no checkpoint at {path}", expected="a .pt or .safetensors file"
        )
    check_weights_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged file PyTorch raises almost anything
        raise unreadable_weights(path, error) from error
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(
            f"{path} is not a flat mapping from names to tensors",
            expected="a published X-Decoder checkpoint",
        )
    return content
