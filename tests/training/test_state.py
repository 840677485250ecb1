"""A run's state comes back exactly, and a damaged one is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("safetensors", reason="training states are safetensors files")

from xdecoder_rt.errors import CheckpointError
from xdecoder_rt.models import XDecoder
from xdecoder_rt.training.state import load_state, save_state

Parts = tuple[nn.Module, nn.Module, torch.optim.AdamW]


@pytest.fixture
def parts(tiny_model: Callable[..., XDecoder]) -> Callable[[int], Parts]:
    def build(seed: int) -> Parts:
        model = tiny_model(seed).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.AdamW(model.parameter_groups(1e-2, 0.1, 0.01), fused=True)
        prediction = model(torch.randn(2, 3, 64, 64))
        (
            prediction.mask_features.square().sum() + prediction.layers[-1].class_embedding.sum()
        ).backward()
        optimizer.step()
        return model, tiny_model(seed + 100), optimizer

    return build


def test_everything_comes_back(parts: Callable[[int], Parts], tmp_path: Path) -> None:
    model, average, optimizer = parts(0)
    torch.manual_seed(5)
    save_state(tmp_path / "s", model, average, optimizer, {"position": 7, "text": "é"})
    expected = torch.rand(3)
    other, other_average, other_optimizer = parts(1)
    run = load_state(tmp_path / "s", other, other_average, other_optimizer)
    assert run == {"position": 7, "text": "é"}
    assert torch.equal(torch.rand(3), expected)
    for ours, theirs in ((model, other), (average, other_average)):
        for name, value in ours.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[name]), name
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        before, after = optimizer.state.get(p, {}), other_optimizer.state.get(q, {})
        assert before.keys() == after.keys()
        for kind, value in before.items():
            assert torch.equal(value, after[kind])
            # The fused optimiser walks raw memory.
            assert value.stride() == after[kind].stride()


def test_parameters_without_gradient_have_no_moments_to_save(
    parts: Callable[[int], Parts], tmp_path: Path
) -> None:
    model, average, optimizer = parts(0)
    unused = dict(model.named_parameters())["backbone_proj"]
    assert unused not in optimizer.state
    save_state(tmp_path / "s", model, average, optimizer, {})
    load_state(tmp_path / "s", model, average, optimizer)
    assert unused not in optimizer.state


def test_a_damaged_state_is_refused_and_changes_nothing(
    parts: Callable[[int], Parts], tmp_path: Path
) -> None:
    model, average, optimizer = parts(0)
    path = tmp_path / "s"
    save_state(path, model, average, optimizer, {})
    whole = path.read_bytes()
    other = parts(1)
    before = {name: value.clone() for name, value in other[0].state_dict().items()}
    flipped = bytearray(whole)
    flipped[-5] ^= 1
    for damaged in (b"", b"not a state", whole[:1000], whole[:-1], bytes(flipped)):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            load_state(path, *other)
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        load_state(tmp_path / "absent", *other)
    for name, value in other[0].state_dict().items():
        assert torch.equal(value, before[name])


def test_the_state_of_another_model_is_refused_by_name(
    parts: Callable[[int], Parts], tiny_model: Callable[..., XDecoder], tmp_path: Path
) -> None:
    save_state(tmp_path / "s", *parts(0), {})
    wider = tiny_model(queries=9)
    optimizer = torch.optim.AdamW(wider.parameters())
    with pytest.raises(CheckpointError, match=r"decoder\.query_feat has shape"):
        load_state(tmp_path / "s", wider, tiny_model(queries=9), optimizer)


def test_a_checkpoint_is_no_state(parts: Callable[[int], Parts], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "s")
    with pytest.raises(CheckpointError, match="not the state of a training run"):
        load_state(tmp_path / "s", *parts(0))


def test_an_interrupted_write_leaves_the_older_state(
    parts: Callable[[int], Parts], tmp_path: Path
) -> None:
    model, average, optimizer = parts(0)
    save_state(tmp_path / "s", model, average, optimizer, {"step": 1})
    with pytest.raises(TypeError):
        save_state(tmp_path / "s", model, average, optimizer, {"step": object()})
    assert load_state(tmp_path / "s", model, average, optimizer) == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
