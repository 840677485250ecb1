"""Our checkpoints: written whole, read back the same, refused with a reason otherwise."""

from __future__ import annotations

import errno
import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from xdecoder_rt.errors import CheckpointError
from xdecoder_rt.models import ModelConfig, XDecoder, load_checkpoint, save_checkpoint
from xdecoder_rt.models.checkpoint import CHECKPOINT_FORMAT, read_header, read_tensors

NORM = "decoder.decoder_norm.weight"


@pytest.fixture
def path(tmp_path: Path, tiny_model: XDecoder) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, tiny_model, {"training": "seven steps"})
    return path


def rewritten(path: Path, tensors: dict[str, Tensor], **header: str) -> Path:
    save_file(tensors, path, metadata={**read_header(path), **header})
    return path


def test_round_trip(path: Path, tiny_model: XDecoder) -> None:
    loaded = load_checkpoint(path)
    assert loaded.config == tiny_model.config
    assert not loaded.training
    original = tiny_model.state_dict()
    for name, value in loaded.state_dict().items():
        assert value.dtype == original[name].dtype, name
        stored = original[name]
        if stored.is_floating_point() and stored.ndim >= 2:
            stored = stored.half().float()
        assert torch.equal(value, stored), name


def test_a_second_round_trip_changes_nothing(path: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    save_checkpoint(again, load_checkpoint(path), {"training": "seven steps"})
    first, second = load_file(path), load_file(again)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_matrices_are_stored_in_half_and_vectors_in_full_precision(path: Path) -> None:
    for name, value in load_file(path).items():
        if value.is_floating_point():
            assert value.dtype == (torch.float16 if value.ndim >= 2 else torch.float32), name


def test_header_tells_format_configuration_and_metadata(path: Path, tiny_model: XDecoder) -> None:
    header = read_header(path)
    assert header["format"] == CHECKPOINT_FORMAT
    assert header["training"] == "seven steps"
    assert ModelConfig.from_json(header["config"]) == tiny_model.config
    assert read_tensors(path)[1] == header


def test_metadata_cannot_pass_for_the_format(tmp_path: Path, tiny_model: XDecoder) -> None:
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, tiny_model, {"format": "mine", "config": "{}"})
    assert load_checkpoint(path).config == tiny_model.config


def test_an_older_file_is_replaced_and_nothing_else_is_left(
    path: Path, tiny_model: XDecoder
) -> None:
    save_checkpoint(path, tiny_model)
    assert "training" not in read_header(path)
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e5], ids=["nan", "inf", "over"])
def test_weights_that_are_not_finite_are_refused(
    value: float, tmp_path: Path, tiny_model: XDecoder
) -> None:
    with torch.no_grad():
        tiny_model.decoder.class_embed[2, 3] = value
    with pytest.raises(CheckpointError, match=r"decoder\.class_embed.*not finite in torch.float16"):
        save_checkpoint(tmp_path / "bad.safetensors", tiny_model)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_leaves_the_older_file(
    path: Path, tiny_model: XDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, tiny_model)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_missing_folder_is_named(tmp_path: Path, tiny_model: XDecoder) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        save_checkpoint(tmp_path / "nowhere" / "tiny.safetensors", tiny_model)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*none\.safetensors"):
        load_checkpoint(tmp_path / "none.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.9999])
def test_a_truncated_file_is_refused(share: float, path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"tiny\.safetensors is not a readable"):
        load_checkpoint(path)


def test_bytes_after_the_end_are_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(CheckpointError, match="not a readable"):
        load_checkpoint(path)


def test_a_flipped_bit_in_the_header_is_refused_or_harmless(
    path: Path, tiny_model: XDecoder
) -> None:
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    refused = 0
    for position in range(0, 8 + length, 401):
        flipped = bytearray(content)
        flipped[position] ^= 1 << (position % 7)
        path.write_bytes(flipped)
        try:
            loaded = load_checkpoint(path)
        except CheckpointError:
            refused += 1
        else:
            # The bit lies in a text that is not of the network, or in a number of the settings.
            assert loaded.state_dict().keys() == tiny_model.state_dict().keys()
    assert refused > 5


@pytest.mark.parametrize("length", [1 << 62, 1 << 30, 0])
def test_a_header_of_impossible_length_is_refused(length: int, path: Path) -> None:
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    with pytest.raises(CheckpointError, match="not a readable"):
        load_checkpoint(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"not an xdecoder_rt checkpoint.*load_published"):
        load_checkpoint(path)


def test_another_format_version_is_refused(path: Path) -> None:
    rewritten(path, load_file(path), format="xdecoder_rt checkpoint 999")
    with pytest.raises(CheckpointError, match="checkpoint 1"):
        load_checkpoint(path)


def test_missing_unexpected_and_misshapen_tensors_are_all_named(path: Path) -> None:
    tensors = load_file(path)
    del tensors[NORM]
    tensors["decoder.novelty"] = torch.zeros(2)
    tensors["decoder.query_feat"] = torch.zeros(3, 5)
    rewritten(path, tensors)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    text = str(caught.value)
    assert f"missing {NORM}" in text
    assert "unexpected decoder.novelty" in text
    assert "decoder.query_feat has shape [3, 5], not [9, 16]" in text


def with_config(path: Path, **changes: Any) -> Path:
    document = json.loads(read_header(path)["config"])
    document["decoder"].update(changes)
    return rewritten(path, load_file(path), config=json.dumps(document))


def test_a_corrupt_configuration_is_refused(path: Path) -> None:
    with pytest.raises(CheckpointError, match="configuration"):
        load_checkpoint(rewritten(path, load_file(path), config="{"))


def test_rows_and_texts_must_be_of_one_width(path: Path) -> None:
    with pytest.raises(CheckpointError, match="proj_dim is not the width of decoder"):
        load_checkpoint(with_config(path, hidden_dim=24))


def test_a_configuration_of_before_there_were_shapes_to_choose_is_read(
    path: Path, tiny_model: XDecoder
) -> None:
    document = json.loads(read_header(path)["config"])
    for part, names in (
        ("decoder", ("level_strides",)),
        ("pixel_decoder", ("narrow_stride", "mask_stride", "output_convs")),
    ):
        for name in names:
            del document[part][name]
    loaded = load_checkpoint(rewritten(path, load_file(path), config=json.dumps(document)))
    assert loaded.config == tiny_model.config


@pytest.mark.parametrize("strides", [(16, 16), (24,), (8, 9)])
def test_levels_that_there_are_not_are_refused(strides: tuple[int, ...], path: Path) -> None:
    with pytest.raises(CheckpointError, match="level_strides"):
        load_checkpoint(with_config(path, level_strides=strides))


@pytest.mark.parametrize("heads", [3, 5, 1000])
def test_heads_that_do_not_divide_the_width_are_refused(heads: int, path: Path) -> None:
    with pytest.raises(CheckpointError, match="heads"):
        load_checkpoint(with_config(path, heads=heads))


def test_a_configuration_of_another_size_is_refused_before_it_takes_memory(path: Path) -> None:
    # A million queries, and feed-forward blocks a million wide.
    with pytest.raises(CheckpointError, match="does not fit"):
        load_checkpoint(with_config(path, num_queries=1 << 20, feedforward_dim=1 << 20))
