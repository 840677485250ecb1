"""Checkpoints of a few bytes that could mean gigabytes and minutes."""

from __future__ import annotations

import json
import time
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from bounded import Cost, cost
from safetensors.torch import save_file

from xdecoder_rt.errors import CheckpointError, MissingExtraError
from xdecoder_rt.models import compact_config, load_checkpoint, published_config
from xdecoder_rt.models.checkpoint import CHECKPOINT_FORMAT

_IMPORTS = """
import torch
from xdecoder_rt.models import load_checkpoint, load_published
"""


def published(path: Path) -> Cost:
    return cost(_IMPORTS, "load_published(sys.argv[1])", path)


def own(path: Path, document: dict[str, Any], tensors: int = 30) -> Path:
    values = {f"x{i}": torch.zeros(1) for i in range(tensors)}
    save_file(values, path, {"format": CHECKPOINT_FORMAT, "config": json.dumps(document)})
    return path


def rewritten(path: Path, pickle: bytes | None, method: int) -> None:
    """Write an archive of PyTorch's again with another pickle, or compressed."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in parts.items():
            replaced = pickle is not None and name.endswith("data.pkl")
            archive.writestr(name, pickle if replaced and pickle else content)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "bare pickle"])
def test_a_pt_of_an_empty_mapping_takes_no_network(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "weights.pt"
    torch.save({}, path, _use_new_zipfile_serialization=not legacy)
    result = published(path)
    assert "is not a flat mapping from names to tensors" in result.text
    assert len(result.text) < 2000
    assert result.mebibytes < 256  # of them 149 are what PyTorch imports for it
    assert result.seconds < 15


def test_a_pt_whose_parts_are_compressed_is_refused_before_they_inflate(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"x": torch.zeros(1 << 26)}, path)
    rewritten(path, None, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 19
    result = published(path)
    assert "weights alone: its members are compressed" in result.text
    assert result.mebibytes < 16


def test_a_pt_that_names_one_part_many_times_costs_it_once(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"x": torch.zeros(1 << 16)}, path)
    with zipfile.ZipFile(path, "a") as archive:
        (part,) = [info for info in archive.infolist() if info.filename.endswith("data/0")]
        for i in range(50):
            other = zipfile.ZipInfo(f"{part.filename}{i}")
            other.file_size, other.compress_size = part.file_size, part.compress_size
            other.header_offset, other.CRC = part.header_offset, part.CRC
            archive.filelist.append(other)
        archive._didModify = True  # type: ignore[attr-defined]
    result = published(path)
    assert "holds no X-Decoder but 1 other tensors" in result.text
    assert result.mebibytes < 16


@pytest.mark.parametrize("name", [b"__builtin__\nbytearray", b"builtins\nbytearray"])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "bare pickle"])
def test_a_pt_that_asks_for_memory_is_refused(tmp_path: Path, name: bytes, legacy: bool) -> None:
    path = tmp_path / "weights.pt"
    torch.save({}, path, _use_new_zipfile_serialization=not legacy)
    bomb = b"\x80\x02c" + name + b"\nJ\x00\x00\x00\x40\x85R."
    if legacy:
        path.write_bytes(bomb * 5)
    else:
        rewritten(path, bomb, zipfile.ZIP_STORED)
    result = published(path)
    assert result.text.startswith("CheckpointError: weights.pt ")
    assert result.mebibytes < 16


def test_what_pytorch_writes_of_parameters_and_half_precision_passes(tmp_path: Path) -> None:
    from xdecoder_rt.models.weights_file import open_weights

    module = torch.nn.Linear(2, 3).half()
    for legacy in (False, True):
        for content in (module.state_dict(), dict(module.named_parameters())):
            path = tmp_path / "weights.pt"
            torch.save(content, path, _use_new_zipfile_serialization=not legacy)
            read = open_weights(path).tensors
            assert all(torch.equal(read[name], value) for name, value in content.items())


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("backbone", {"depths": [4000, 2, 6, 2]}),
        ("backbone", {"depths": [256] * 4, "focal_levels": [256] * 4}),
        ("backbone", {"focal_levels": [1 << 20] * 4}),
        ("backbone", {"focal_windows": [1 << 20] * 4}),
        ("backbone", {"mlp_ratio": 1e300}),
        ("backbone", {"mlp_ratio": -1.0}),
        ("backbone", {"embed_dim": 1 << 20}),
        ("backbone", {"kind": "timm", "timm_name": "hf-hub:somebody/something"}),
        ("decoder", {"layers": 1 << 20}),
        ("decoder", {"layers": 256, "num_queries": 1 << 20}),
        ("pixel_decoder", {"transformer_layers": 256, "mask_kernel": 256}),
        ("pixel_decoder", {"mask_kernel": 1 << 20}),
        ("text", {"layers": 256, "context_length": 1 << 20, "vocabulary_size": 1 << 20}),
        ("text", {"token_rank": 1 << 20}),
    ],
)
def test_a_configuration_costs_what_the_tensors_beside_it_may_cost(
    tmp_path: Path, part: str, changes: dict[str, Any]
) -> None:
    for config in (published_config("tiny"), compact_config()):
        document = asdict(config)
        document[part].update(changes)
        path = own(tmp_path / "own.safetensors", document)
        start = time.process_time()
        # What is built before the refusal is built without memory.
        with pytest.raises((CheckpointError, MissingExtraError)):
            load_checkpoint(path)
        assert time.process_time() - start < 5


def test_many_tensors_of_other_names_are_told_in_a_few_words(tmp_path: Path) -> None:
    path = own(tmp_path / "own.safetensors", asdict(published_config("tiny")), tensors=5000)
    result = cost(_IMPORTS, "load_checkpoint(sys.argv[1])", path)
    assert path.stat().st_size < 1 << 20
    assert "more. Expected the 724 tensors" in result.text
    assert len(result.text) < 2000
    assert result.mebibytes < 256
