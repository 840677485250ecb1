"""Every layout of a file ends in the network it holds, or in one short line that says why not."""

from __future__ import annotations

import argparse
import collections
import io
import pickle
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published_layouts import PREDICTOR, published_tensors, save_pt, small_config
from safetensors.torch import save_file
from torch import Tensor, nn

from xdecoder_rt.errors import CheckpointError
from xdecoder_rt.models import XDecoder, load_checkpoint, load_published, save_checkpoint
from xdecoder_rt.models.published import published_name
from xdecoder_rt.tasks import TASKS

Tensors = dict[str, Tensor]
NORM = PREDICTOR + "decoder_norm."
LAYER = PREDICTOR + "transformer_ffn_layers."
CAPTION = (PREDICTOR + "caping_embed", PREDICTOR + "pos_embed_caping.weight")
LONGEST = 300


@dataclass(frozen=True)
class Layout:
    """A way to write a file, and what comes of it.

    Attributes:
        write: writes the tensors at a path, or something else.
        error: a part of the message; empty where the file loads.
        warning: a part of what is told of a file that loads.
        tasks: what the model can do.
        same: whether every tensor is the one that was written.
        name: of the file.
    """

    write: Callable[[Path, Tensors], object]
    error: str = ""
    warning: str = ""
    tasks: tuple[str, ...] = tuple(TASKS)
    same: bool = True
    name: str = "xdecoder.pt"


def content(make: Callable[[Tensors], object], **expected: Any) -> Layout:
    return Layout(lambda path, tensors: save_pt(path, make(tensors)), **expected)


def legacy(make: Callable[[Tensors], object], **expected: Any) -> Layout:
    return Layout(lambda path, tensors: save_pt(path, make(tensors), legacy=True), **expected)


def raw(data: bytes, error: str, **expected: Any) -> Layout:
    return Layout(lambda path, _: path.write_bytes(data), error=error, **expected)


def added(tensors: Tensors, *names: str) -> Tensors:
    return {**tensors, **{name: torch.zeros(2) for name in names}}


def without(tensors: Tensors, *parts: str) -> Tensors:
    return {n: t for n, t in tensors.items() if not any(part in n for part in parts)}


def prefixed(tensors: Tensors, prefix: str) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def changed(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, name: change(tensors[name])}


def half(tensors: Tensors, dtype: torch.dtype) -> Tensors:
    return {n: t.to(dtype) if t.is_floating_point() else t for n, t in tensors.items()}


def optimizer_state() -> dict[str, Any]:
    module = nn.Linear(3, 4)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.randn(2, 3)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


def cut(share: float, *, old: bool = False) -> Callable[[Path, Tensors], object]:
    def write(path: Path, tensors: Tensors) -> None:
        data = save_pt(path, tensors, legacy=old).read_bytes()
        path.write_bytes(data[: int(share * len(data))])

    return write


def deflated(path: Path, tensors: Tensors) -> None:
    save_pt(path, tensors)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def scripted(path: Path, _: Tensors) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Linear(2, 3)), path)


def tar(path: Path, _: Tensors) -> None:
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())


def quantised(tensor: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


def oversized(path: Path, tensors: Tensors) -> None:
    """A file whose one number passes for a token table."""
    name = PREDICTOR + "lang_encoder.lang_encoder.token_embedding.weight"
    save_pt(path, {**tensors, name: torch.zeros(1).expand(tensors[name].shape)})


def shared(path: Path, tensors: Tensors) -> None:
    """A file of one matrix under many names, as if each were its own."""
    matrix = torch.zeros(1000, 1000)
    save_pt(path, {**tensors, **{f"extra.{i}": matrix.view(-1, 1) for i in range(100)}})


LORA = LAYER + "0.linear1.lora_A.weight"
PAGE = b"\n<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>"
XML = b'<?xml version="1.0"?><Error><Code>BlobNotFound</Code></Error>'
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 158\n"

LAYOUTS: dict[str, Layout] = {
    "flat": content(lambda t: t),
    "ordered": content(collections.OrderedDict),
    "parameters": content(
        lambda t: {n: nn.Parameter(v) if v.is_floating_point() else v for n, v in t.items()}
    ),
    "under model": content(lambda t: {"model": t}),
    "under state_dict": content(lambda t: {"state_dict": t, "epoch": 3}),
    "under module": content(lambda t: {"module": t, "step": 7, "amp_state": None}),
    "under another name": content(lambda t: {"network_weights": t, "config": {"lr": 1e-4}}),
    "wrapped twice": content(lambda t: {"state": 1, "state_dict": {"model": t}}),
    "DataParallel": content(lambda t: prefixed(t, "module.")),
    "as the trainer saves": content(
        lambda t: {
            "module": prefixed(t, "module.model."),
            "optimizer": optimizer_state(),
            "lr_scheduler": {"last_epoch": 3, "milestones": collections.Counter([1, 2])},
            "amp_state": None,
        }
    ),
    "compiled": content(lambda t: prefixed(t, "_orig_mod.model.")),
    "counters among the tensors": content(lambda t: {**t, "iteration": 9, "best": 50.8}),
    "no tensors of training": content(lambda t: without(t, "criterion", "self_attn_mask")),
    "more tensors of training": content(
        lambda t: added(t, "criterion.more", "pixel_mean", "pixel_std")
    ),
    "one extra tensor": content(
        lambda t: added(t, PREDICTOR + "bbox_embed.layers.0.weight"),
        warning="1 tensor outside the network was left out: sem_seg_head.predictor.bbox_embed",
    ),
    "150 extra tensors": content(
        lambda t: added(t, *(f"extra.{i}.weight" for i in range(150))),
        warning="150 tensors outside the network were left out: extra.0.weight, extra.1.weight",
    ),
    "a queue of texts": content(
        lambda t: added(t, PREDICTOR + "lang_encoder.queue_text"), warning="lang_encoder.queue_text"
    ),
    "an average beside": content(lambda t: {"model": t, "model_ema": t, "optimizer": {}}),
    "fp16": content(lambda t: half(t, torch.float16), same=False),
    "bf16": content(lambda t: half(t, torch.bfloat16), same=False),
    "fp64": content(lambda t: half(t, torch.float64)),
    "before PyTorch 1.6": legacy(lambda t: {"model": t, "epoch": 3}),
    "safetensors": Layout(lambda path, t: save_file(t, path), name="xdecoder.safetensors"),
    "safetensors named .pt": Layout(lambda path, t: save_file(t, path)),
    "pt named .safetensors": Layout(save_pt, name="xdecoder.safetensors"),
    "views of one tensor": content(
        lambda t: {
            **t,
            NORM + "weight": torch.arange(64.0)[:32],
            NORM + "bias": torch.arange(64.0).view(32, 2).t()[1],
        },
        same=False,
    ),
    "another number of queries": Layout(
        lambda path, _: save_pt(path, published_tensors(small_config(queries=21))), same=False
    ),
    "more layers": Layout(
        lambda path, _: save_pt(path, published_tensors(small_config(layers=4))), same=False
    ),
    "without captions": content(
        lambda t: without(t, *CAPTION),
        tasks=("segment", "refer", "embed"),
        warning="was trained without caption and answer",
    ),
    "without retrieval": content(
        lambda t: without(t, "backbone_proj"),
        tasks=("segment", "refer", "caption", "answer"),
        warning="was trained without embed",
    ),
    "LPCVC's baseline": content(
        lambda t: without(t, "backbone_proj", *CAPTION),
        tasks=("segment", "refer"),
        warning="was trained without caption and answer and embed",
    ),
    "one norm less": content(lambda t: without(t, NORM), error="lacks 2 tensors: " + NORM),
    "half of the network": content(
        lambda t: without(t, "pixel_decoder"), error="lacks 106 tensors: sem_seg_head.pixel_decoder"
    ),
    "a gap in the layers": content(
        lambda t: without(t, LAYER + "1."), error=f"lacks 6 tensors: {LAYER}1.linear1.weight"
    ),
    "a layer of one kind": content(
        lambda t: added(t, LAYER + "3.linear1.weight"),
        error="lacks 17 tensors: sem_seg_head.predictor.transformer_cross_attention_layers.3",
    ),
    "an adapter": content(lambda t: added(t, LORA), error="no place for: " + LORA),
    "another shape": content(
        changed(NORM + "bias", lambda v: v[:3]), error=NORM + "bias has shape [3], not [32]"
    ),
    "another width": content(
        lambda t: {**t, PREDICTOR + "query_embed.weight": torch.zeros(11, 64)},
        error="query_embed.weight has shape [11, 64], not [11, 32]",
    ),
    "integers": content(changed(NORM + "bias", lambda v: v.int()), error="is of the type int32"),
    "not a number": content(changed(NORM + "bias", lambda v: v / 0), error="are not finite"),
    "no numbers": content(changed(NORM + "bias", lambda v: v[:0]), error="has shape [0]"),
    "without data": content(
        changed(NORM + "bias", lambda v: v.to("meta")), error=NORM + "bias is a meta tensor"
    ),
    "sparse": content(
        changed(NORM + "bias", lambda v: v.to_sparse()), error=NORM + "bias is a sparse tensor"
    ),
    "quantised": content(
        changed(NORM + "bias", quantised), error=NORM + "bias is a quantised tensor"
    ),
    "one number as many": Layout(oversized, error="lacks the numbers of"),
    "one matrix as a hundred": Layout(shared, error="its tensors share their numbers too often"),
    "two of a name": content(
        lambda t: {**t, "module." + NORM + "bias": torch.zeros(32)}, error="holds two tensors"
    ),
    "nested too deeply": content(
        lambda t: {"a": {"b": {"c": {"d": {}}}}, "x": 3}, error="not a flat mapping"
    ),
    "an empty dictionary": content(lambda t: {}, error="not a flat mapping"),
    "a list": content(lambda t: list(t.values()), error="not a flat mapping"),
    "one tensor": content(lambda t: torch.zeros(3), error="not a flat mapping"),
    "an object beside": content(
        lambda t: {"model": t, "args": argparse.Namespace(lr=1)},
        error="holds objects of argparse.Namespace",
    ),
    "arrays": content(
        lambda t: {n: v.numpy() for n, v in t.items()}, error="it is an object of numpy"
    ),
    "a module": content(lambda t: nn.Linear(2, 3), error="it is an object of torch.nn.modules"),
    "compressed members": Layout(deflated, error="its members are compressed"),
    "TorchScript": Layout(scripted, error="it is a TorchScript program"),
    "tar": Layout(tar, error="it is a tar archive, as PyTorch 0.1 wrote"),
    "cut after two bytes": raw(b"PK", error="it ends after a few bytes"),
    "cut in the middle": Layout(cut(0.5), error="it is cut or damaged"),
    "cut at the end": Layout(cut(0.999), error="it is cut or damaged"),
    "cut in the middle, old form": Layout(cut(0.5, old=True), error="it is cut or damaged"),
    "empty": raw(b"", error="it is empty"),
    "zeros": raw(bytes(9000), error="it holds zeros alone"),
    "a web page": raw(PAGE, error="it is a web page that says '404 Not Found'"),
    "an XML answer": raw(XML, error="it is an XML answer that says 'BlobNotFound'"),
    "a JSON answer": raw(b'{"error": "Access denied"}', error="it is JSON that begins"),
    "a pointer": raw(POINTER, error="it is a pointer of Git LFS"),
    "text": raw(b"Entry not found\n", error="it is text that begins 'Entry not found'"),
    "gzip": raw(b"\x1f\x8b\x08" + bytes(range(99)), error="it is a gzip file"),
    "ZIP": raw(b"PK\x05\x06" + bytes(18), error="it is an empty ZIP archive"),
    "HDF5": raw(b"\x89HDF\r\n\x1a\n" + bytes(99), error="it is an HDF5 file"),
    "ONNX": raw(b"\x08\x08\x12\x07pytorch" + bytes(99), error="it is an ONNX model"),
    "noise": raw(bytes(range(128, 256)), error="it is of no known format"),
    "a bare pickle": raw(pickle.dumps({"x": 1}), error="it is a pickle that torch.save did not"),
    "broken safetensors": raw(
        (90).to_bytes(8, "little") + b"{" + bytes(200), error="not a readable safetensors"
    ),
    "SEEM": content(
        lambda t: added(without(t, *CAPTION), PREDICTOR + "pn_indicator.weight"),
        error="is of another network: SEEM",
    ),
    "SEEM, spatial": content(
        lambda t: added(t, PREDICTOR + "mask_sptial_embed.0"), error="another network: SEEM"
    ),
    "VQA": content(
        lambda t: added(t, PREDICTOR + "vqa_classifier.0.weight"), error="X-Decoder for VQA"
    ),
    "DaViT": content(
        lambda t: added(
            {n: v for n, v in t.items() if not n.startswith("backbone.")},
            "backbone.convs.0.proj.weight",
        ),
        error="DaViT backbone",
    ),
    "Swin": content(
        lambda t: added(t, "backbone.layers.0.blocks.0.attn.relative_position_bias_table"),
        error="Swin backbone",
    ),
    "deformable": content(
        lambda t: added(t, "sem_seg_head.pixel_decoder.transformer.level_embed"),
        error="deformable encoder",
    ),
    "a FocalNet alone": content(
        lambda t: {n[9:]: v for n, v in t.items() if n.startswith("backbone.")},
        error="a FocalNet alone",
    ),
    "another model": content(
        lambda t: nn.Linear(2, 3).state_dict(), error="holds no X-Decoder but 2 other tensors"
    ),
    "ours without its header": content(
        lambda t: XDecoder(small_config()).state_dict(),
        error="xdecoder_rt without its configuration",
    ),
}


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    return published_tensors()


@pytest.mark.parametrize("title", LAYOUTS)
def test_every_layout_loads_or_is_refused_in_one_short_line(
    title: str, tensors: Tensors, tmp_path: Path
) -> None:
    layout = LAYOUTS[title]
    path = tmp_path / layout.name
    layout.write(path, tensors)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = load_published(path)
        except CheckpointError as error:
            message = str(error)
            assert layout.error, message
            assert layout.error in message
            assert len(message) <= LONGEST
            assert message.isprintable()
            assert "weights_only" not in message
            return
    assert not layout.error
    told = [str(warning.message) for warning in caught if warning.category is RuntimeWarning]
    assert all(len(line) <= LONGEST for line in told)
    assert layout.warning in " ".join(told)
    # A network as narrow as this one cannot tell its heads.
    assert len(told) == 1 + bool(layout.warning), told
    assert model.config.tasks == layout.tasks
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    if layout.same:
        for name, value in model.state_dict().items():
            expected = tensors[published_name(name)]
            lost = not set(layout.tasks) >= set(TASKS) and not value.any()
            assert lost or torch.equal(value, expected), name


def test_there_are_many_layouts() -> None:
    assert len(LAYOUTS) >= 80


def test_sizes_are_those_of_the_tensors(tmp_path: Path) -> None:
    config = replace(
        small_config(queries=21, layers=4),
        pixel_decoder=replace(small_config().pixel_decoder, norm="batch", mask_kernel=1),
    )
    path = save_pt(tmp_path / "xdecoder.pt", published_tensors(config))
    with pytest.warns(RuntimeWarning, match="attention heads"):
        assert load_published(path).config == config


@pytest.mark.parametrize("task", ["caption", "answer"])
def test_a_task_that_is_asked_for_needs_its_tensors(
    task: str, tensors: Tensors, tmp_path: Path
) -> None:
    path = save_pt(tmp_path / "xdecoder.pt", without(tensors, *CAPTION))
    with pytest.raises(CheckpointError, match=rf"without {task}: it lacks .*Ask for segment,refer"):
        load_published(path, tasks=["segment", task])


def test_what_is_not_asked_for_is_not_told_of(tensors: Tensors, tmp_path: Path) -> None:
    path = save_pt(tmp_path / "xdecoder.pt", without(tensors, *CAPTION))
    with pytest.warns(RuntimeWarning) as caught:
        model = load_published(path, tasks=["refer"])
    assert ["heads" in str(warning.message) for warning in caught] == [True]
    assert model.config.tasks == ("refer",)


def test_a_model_without_captions_is_saved_as_such(tensors: Tensors, tmp_path: Path) -> None:
    path = save_pt(tmp_path / "xdecoder.pt", without(tensors, *CAPTION))
    with pytest.warns(RuntimeWarning):
        model = load_published(path)
    save_checkpoint(tmp_path / "ours.safetensors", model)
    again = load_checkpoint(tmp_path / "ours.safetensors")
    assert again.config.tasks == ("segment", "refer", "embed")
    assert not again.decoder.caption_embed.any()


def test_no_pickled_code_is_run_even_where_the_tensors_are_good(
    tensors: Tensors, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"

    class Malicious:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(trace), "w"))

    for old in (False, True):
        path = save_pt(tmp_path / "x.pt", {**tensors, "y": Malicious()}, legacy=old)
        with pytest.raises(CheckpointError, match="objects of io.open"):
            load_published(path)
    assert not trace.exists()


def test_a_file_of_any_bytes_raises_nothing_else(tensors: Tensors, tmp_path: Path) -> None:
    whole = save_pt(tmp_path / "whole.pt", {"x": torch.zeros(3), "y": 1}).read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "x.pt"
    for _ in range(300):
        data = bytearray(whole)
        for position in rng.integers(0, len(data), 3):
            data[position] = rng.integers(256)
        path.write_bytes(data)
        with pytest.raises(CheckpointError) as caught:
            load_published(path)
        assert len(str(caught.value)) <= LONGEST


def test_names_of_a_hostile_file_are_shown_escaped_and_cut(tmp_path: Path) -> None:
    names = {f"\x1b[31m{'long' * 300}{i}": torch.zeros(1) for i in range(400)}
    path = save_pt(tmp_path / ("n" * 200 + ".pt"), names)
    with pytest.raises(CheckpointError, match="holds no X-Decoder but 400 other") as caught:
        load_published(path)
    assert len(str(caught.value)) <= LONGEST
    assert str(caught.value).isprintable()


def test_a_short_pickle_takes_no_memory(tmp_path: Path) -> None:
    # A memo index of two thousand million, and a list within a list within a list.
    for body in (b"\x80\x02}r\xff\xff\xff\x7f.", b"\x80\x02" + b"]" * 100_000 + b"."):
        path = tmp_path / "x.pt"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x/data.pkl", body)
        with pytest.raises(CheckpointError):
            load_published(path)
