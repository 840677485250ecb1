"""The published X-Decoder checkpoints, mapped onto our modules name by name.

Names are those of the original's v2.0 branch (``xdecoder_focalt_last.pt`` and
``xdecoder_focall_last.pt``): a flat mapping from name to tensor.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import torch
from torch import Tensor

from xdecoder_rt.errors import CheckpointError
from xdecoder_rt.models.checkpoint import load_exactly, read_tensors
from xdecoder_rt.models.config import ModelConfig, published_config
from xdecoder_rt.models.xdecoder import XDecoder

# In the file, but nothing of the network: a training weight, and a mask that the shape determines.
IGNORED = ("criterion.empty_weight", "sem_seg_head.predictor.self_attn_mask")

_PIXEL = r"sem_seg_head\.pixel_decoder\."
_PREDICTOR = r"sem_seg_head\.predictor\."
_TEXT = _PREDICTOR + r"lang_encoder\."
_RULES: tuple[tuple[str, str], ...] = (
    (r"backbone_proj$", "backbone_proj"),
    (r"backbone\.", "backbone."),
    (_PIXEL + r"transformer\.encoder\.layers\.", "pixel_decoder.encoder."),
    (_PIXEL + r"mask_features\.", "pixel_decoder.mask_conv."),
    (_PIXEL + r"input_proj\.", "pixel_decoder.input_proj."),
    (_PREDICTOR + r"transformer_self_attention_layers\.(\d+)\.self_attn\.",
     r"decoder.self_attention.\1.attn."),
    (_PREDICTOR + r"transformer_self_attention_layers\.", "decoder.self_attention."),
    (_PREDICTOR + r"transformer_cross_attention_layers\.(\d+)\.multihead_attn\.",
     r"decoder.cross.\1.attn."),
    (_PREDICTOR + r"transformer_cross_attention_layers\.", "decoder.cross."),
    (_PREDICTOR + r"transformer_ffn_layers\.", "decoder.ffn."),
    (_PREDICTOR + r"(query_feat|query_embed|level_embed)\.weight$", r"decoder.\1"),
    (_PREDICTOR + r"input_proj\.", "decoder.input_proj."),
    (_PREDICTOR + r"pos_embed_caping\.weight$", "decoder.caption_position"),
    (_PREDICTOR + r"caping_embed$", "decoder.caption_embed"),
    (_PREDICTOR + r"class_embed$", "decoder.class_embed"),
    (_PREDICTOR + r"decoder_norm\.", "decoder.decoder_norm."),
    (_PREDICTOR + r"mask_embed\.layers\.", "decoder.mask_embed."),
    (_TEXT + r"lang_encoder\.resblocks\.(\d+)\.mlp\.", r"text_encoder.blocks.\1."),
    (_TEXT + r"lang_encoder\.resblocks\.", "text_encoder.blocks."),
    (_TEXT + r"lang_encoder\.", "text_encoder."),
    (_TEXT, "text_encoder."),
)  # fmt: skip


def our_name(name: str) -> str | None:
    """Our name of a published tensor, or None where the network has no such tensor."""
    convolution = re.match(_PIXEL + r"(adapter|layer)_([1-4])\.(norm\.)?(\w+)$", name)
    if convolution:
        kind, number, norm, leaf = convolution.groups()
        block = "lateral" if kind == "adapter" else "output"
        return f"pixel_decoder.{block}.{int(number) - 1}.{norm or 'conv.'}{leaf}"
    for pattern, replacement in _RULES:
        renamed, count = re.subn("^" + pattern, replacement, name)
        if count:
            return renamed
    return None


def load_published(path: str | Path, config: ModelConfig | None = None) -> XDecoder:
    """Load a published checkpoint into our model (fp32, eval mode).

    Args:
        path: the original ``.pt`` (read without running any pickled code) or safetensors.
        config: the network's sizes; by default Focal-T or Focal-L, told by the file.

    Raises:
        CheckpointError: the file is missing or broken, or has missing, unexpected or wrong-shaped
            tensors; all of them are named as the file names them.
    """
    tensors = _read(Path(path))
    if config is None:
        tiny = "backbone.layers.0.blocks.0.dw1.weight" in tensors
        config = published_config("tiny" if tiny else "large")
    model = XDecoder(config)
    renamed: dict[str, Tensor] = {}
    unexpected = []
    for name, value in tensors.items():
        if name in IGNORED:
            continue
        ours = our_name(name)
        if ours is None:
            unexpected.append(name)
        else:
            renamed[ours] = value
    if unexpected:
        raise CheckpointError(
            f"{path} holds tensors that no X-Decoder has: {', '.join(unexpected)}",
            expected="a published X-Decoder checkpoint (v2.0, Focal-T or Focal-L)",
        )
    load_exactly(model, renamed, str(path))
    return model.eval()


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        tensors, _ = read_tensors(path)
        return tensors
    if not path.is_file():
        raise CheckpointError(
            f"There is no checkpoint at {path}", expected="a .pt or .safetensors file"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise CheckpointError(
            f"{path} cannot be read as weights alone ({error})",
            expected="a .pt file that holds tensors and nothing else",
            fix="Download it again, or convert it to .safetensors where you trust it",
        ) from error
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(
            f"{path} is not a flat mapping from names to tensors",
            expected="a published X-Decoder checkpoint",
        )
    return content
