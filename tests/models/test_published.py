"""Published checkpoints: every tensor has its place, and a file that does not fit is refused."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path
from typing import Any

import original
import pytest
import torch
from torch import Tensor

from xdecoder_rt.errors import CheckpointError
from xdecoder_rt.models import ModelConfig, XDecoder, load_published, published_config
from xdecoder_rt.models.checkpoint import read_tensors
from xdecoder_rt.models.published import IGNORED, published_name
from xdecoder_rt.parity.fixture import Fixture
from xdecoder_rt.parity.settings import model_config

DATA = Path(__file__).parents[1] / "data"
FIXTURE = DATA / "focal_tiny_a"
BIAS = "sem_seg_head.predictor.decoder_norm.bias"


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    return model_config(Fixture.open(FIXTURE).settings, "tiny")


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return read_tensors(original.weights())[0]


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize(("size", "file", "count"), [("tiny", "t", 726), ("large", "l", 930)])
def test_every_published_tensor_maps_onto_ours_one_to_one(size: str, file: str, count: int) -> None:
    published: list[tuple[str, list[int]]] = json.loads(
        gzip.decompress((DATA / f"state_dict_focal{file}.json.gz").read_bytes())
    )
    assert len(published) == count
    with torch.device("meta"):
        ours = XDecoder(published_config(size)).state_dict()
    expected = {name: shape for name, shape in published if name not in IGNORED}
    renamed = {published_name(name): list(value.shape) for name, value in ours.items()}
    assert len(renamed) == len(ours), "two of our tensors have one published name"
    assert renamed == expected


def test_loads_safetensors_in_full_precision(
    config: ModelConfig, tensors: dict[str, Tensor]
) -> None:
    model = load_published(original.weights(), config)
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert tensors[BIAS].dtype == torch.float16
    assert torch.equal(model.decoder.decoder_norm.bias, tensors[BIAS].float())


def test_loads_pt(tmp_path: Path, config: ModelConfig, tensors: dict[str, Tensor]) -> None:
    path = save(tmp_path / "weights.pt", tensors)
    model = load_published(path, config)
    expected = load_published(original.weights(), config)
    for (name, ours), theirs in zip(
        model.state_dict().items(), expected.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name


def test_training_tensors_need_not_be_there(
    tmp_path: Path, config: ModelConfig, tensors: dict[str, Tensor]
) -> None:
    kept = {name: value for name, value in tensors.items() if name not in IGNORED}
    assert len(kept) < len(tensors)
    load_published(save(tmp_path / "weights.pt", kept), config)


@pytest.mark.parametrize("problem", ["missing", "unexpected", "misshapen"])
def test_refuses_a_file_that_does_not_fit_by_naming_the_tensor(
    problem: str, tmp_path: Path, config: ModelConfig, tensors: dict[str, Tensor]
) -> None:
    changed = dict(tensors)
    named = BIAS
    if problem == "missing":
        del changed[BIAS]
    elif problem == "misshapen":
        changed[BIAS] = torch.zeros(3)
    else:
        named = "sem_seg_head.predictor.decoder_norm.running_mean"
        changed[named] = torch.zeros(3)
    with pytest.raises(CheckpointError) as caught:
        load_published(save(tmp_path / "weights.pt", changed), config)
    # The file is known to its owner by the original's names.
    assert named in str(caught.value)


def test_refuses_another_size_than_asked_for() -> None:
    with pytest.raises(CheckpointError, match="does not fit"):
        load_published(original.weights(), published_config("tiny"))


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "bare pickle"])
def test_a_malicious_pickle_is_refused_and_not_run(legacy: bool, tmp_path: Path) -> None:
    path, trace = tmp_path / "weights.pt", tmp_path / "trace"
    if legacy:
        path.write_bytes(pickle.dumps({"x": Malicious(trace)}))
    else:
        save(path, {"x": Malicious(trace)})
    with pytest.raises(CheckpointError, match="weights alone"):
        load_published(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", b"\x80\x02", b"not a checkpoint at all" * 20],
    ids=["empty", "cut zip", "cut pickle", "text"],
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_broken_file_is_refused(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="weights"):
        load_published(path)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "bare pickle"])
def test_a_damaged_pt_is_refused(legacy: bool, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"x": torch.zeros(3)}, path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, max(1, len(whole) // 100)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="weights alone"):
            load_published(path)


@pytest.mark.parametrize("content", [{"model": {"x": 1}}, [torch.zeros(1)], {1: 2}])
def test_a_pt_that_is_no_flat_mapping_is_refused(content: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="flat mapping"):
        load_published(save(tmp_path / "weights.pt", content))


@pytest.mark.parametrize("name", ["none.pt", "none.safetensors", ""])
def test_a_missing_file_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_published(tmp_path / name)


def test_there_are_two_published_sizes() -> None:
    with pytest.raises(CheckpointError, match="huge"):
        published_config("huge")
