"""The five graphs of a plan: ONNX against PyTorch, and the plan that they are written into."""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("onnxscript", reason="exporting needs the extra export")

import onnx
import onnxruntime as ort
import tiny_model
from artifact_cache import ArtifactCache

from xdecoder_rt import tasks
from xdecoder_rt.errors import BuildError, PlanError
from xdecoder_rt.evaluation.divergence import relative_rms
from xdecoder_rt.export import portable as build
from xdecoder_rt.export.costs import macs, parameters, weights_digest
from xdecoder_rt.export.onnx_graphs import (
    OPSET,
    ExportedGraph,
    export_image_graphs,
)
from xdecoder_rt.export.portable import build_portable
from xdecoder_rt.export.repack import repack_portable
from xdecoder_rt.export.verify import check_against_torch, tolerance
from xdecoder_rt.models import ModelConfig, XDecoder
from xdecoder_rt.models.decoder import Rows
from xdecoder_rt.models.graphs import memory_names, state_names
from xdecoder_rt.plan.file import Plan

HEIGHT, WIDTH = tiny_model.EXPORTED_SIZE
NAMES = ("vision", "decode", "mask", "text", "token")


@pytest.fixture(scope="module")
def model() -> XDecoder:
    return tiny_model.drawn()


@pytest.fixture(scope="module")
def graphs(
    model: XDecoder, artifacts: ArtifactCache, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, ExportedGraph]:
    folder = tmp_path_factory.mktemp("exported") / "graphs"
    artifacts.provide("tiny_model.export_graphs", folder)
    return {graph.name: graph for graph in tiny_model.exported_graphs(folder, model)}


def inputs(
    graphs: dict[str, ExportedGraph], name: str, batch: int, other: int, past: int
) -> dict[str, torch.Tensor]:
    """Inputs of a graph for a batch, another number of what it takes, and what came before."""
    generator = torch.Generator().manual_seed(batch)
    example = graphs[name].example

    def drawn(key: str, **sizes: int) -> torch.Tensor:
        """Like the example, with other sizes of some axes: ``axis_1=5``."""
        shape = [batch, *example[key].shape[1:]]
        for axis, size in sizes.items():
            shape[int(axis[-1])] = size
        return torch.randn(shape, generator=generator)

    earlier = {key: drawn(key, axis_2=past) for key in example if key.startswith("past_")}
    if name == "vision":
        shape = (batch, HEIGHT, WIDTH, 3)
        frame = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        sizes = [[HEIGHT - 7 * i, WIDTH - 11 * i] for i in range(batch)]
        return {"frame": frame, "valid": torch.tensor(sizes)}
    if name == "text":
        token_ids = torch.randint(1, 49406, (batch, other), generator=generator)
        token_ids[:, 0], token_ids[:, -1] = 49406, 49407
        places = torch.arange(past, past + other).expand(batch, other)
        visible = torch.arange(past + other) <= places[..., None]
        return {"token_ids": token_ids, "places": places, "visible": visible, **earlier}
    if name == "decode":
        memory = ("keys_", "values_", "mask_features_")
        given = {key: drawn(key) for key in example if key.startswith(memory)}
        given |= {key: drawn(key, axis_1=1) for key in example if key.startswith("regions_")}
        queries = graphs[name].module.decoder.decoder.num_queries
        groups = [tasks.latents(queries)]
        groups += [tasks.group(task, queries, other) for task in tasks.TASKS if other]
        layout = tasks.side_by_side(groups, tasks.LATENT_GROUP)
        before = tasks.group("caption", queries, past)
        rows = Rows.of([layout] * batch, past=before)
        weight = torch.zeros(batch, len(layout), 1)
        weight[:, torch.from_numpy(tasks.sees_everything(layout))] = 1.0
        return {
            **given,
            "kind": rows.kind,
            "content": rows.content,
            "position": rows.position,
            "text": drawn("text", axis_1=len(layout)),
            "visible": rows.visible,
            "region_weight": weight,
            **earlier,
        }
    sizes = {"axis_1": other} if name == "mask" else {}
    return {key: drawn(key, **(sizes if "embedding" in key else {})) for key in example}


CASES = [
    ("vision", 1, 0, 0),
    ("vision", 3, 0, 0),
    ("decode", 1, 0, 0),
    ("decode", 1, 4, 0),
    ("decode", 1, 1, 11),
    ("decode", 3, 6, 2),
    ("mask", 1, 1, 0),
    ("mask", 3, 5, 0),
    ("text", 1, 2, 0),
    ("text", 5, 77, 0),
    ("text", 3, 1, 6),
    ("text", 2, 5, 3),
    ("token", 1, 0, 0),
    ("token", 7, 0, 0),
]


@pytest.mark.parametrize(("name", "batch", "other", "past"), CASES)
def test_onnx_computes_what_torch_computes_for_other_lengths(
    name: str, batch: int, other: int, past: int, graphs: dict[str, ExportedGraph]
) -> None:
    graph = graphs[name]
    values = inputs(graphs, name, batch, other, past)
    assert list(values) == list(graph.example)
    session = ort.InferenceSession(
        graph.model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    outputs = [output.name for output in session.get_outputs()]
    assert outputs == list(graph.module.outputs)
    actual = session.run(outputs, {key: value.numpy() for key, value in values.items()})
    with torch.no_grad():
        expected = graph.module(*values.values())
    expected = (expected,) if isinstance(expected, torch.Tensor) else expected
    for key, got, wanted in zip(outputs, actual, expected, strict=True):
        assert got.dtype == np.float32
        assert got.shape == tuple(wanted.shape), key
        assert relative_rms(got, wanted.numpy()) < 1e-5, key


def symbolic(graph: ExportedGraph) -> dict[str, list[int]]:
    """Which dimensions of each input are symbolic."""
    return {
        value.name: [i for i, d in enumerate(value.type.tensor_type.shape.dim) if d.dim_param]
        for value in graph.model.graph.input
    }


def test_axes_that_vary_are_symbolic_and_no_others(
    model: XDecoder, graphs: dict[str, ExportedGraph]
) -> None:
    shape = model.config.decoder
    layers = shape.layers
    assert symbolic(graphs["vision"]) == {"frame": [0], "valid": [0]}
    assert symbolic(graphs["decode"]) == {
        **dict.fromkeys(memory_names(shape), [0]),
        **{f"regions_{level}": [0, 1] for level in range(len(shape.level_strides))},
        **dict.fromkeys(("kind", "content", "position", "text"), [0, 1]),
        **dict.fromkeys(("visible", "region_weight"), [0, 1, 2]),
        **dict.fromkeys(state_names("past", layers), [0, 2]),
    }
    assert symbolic(graphs["mask"]) == {"mask_embedding": [0, 1], "mask_map": [0]}
    assert symbolic(graphs["text"]) == {
        **dict.fromkeys(("token_ids", "places"), [0, 1]),
        "visible": [0, 1, 2],
        **dict.fromkeys(state_names("past", model.config.text.layers), [0, 2]),
    }
    assert symbolic(graphs["token"]) == {"caption_embedding": [0]}


def ports(values: Sequence[onnx.ValueInfoProto], without: str = "") -> list[str]:
    return [value.name.removeprefix(without) for value in values]


def test_graphs_fit_together(model: XDecoder, graphs: dict[str, ExportedGraph]) -> None:
    memory = list(memory_names(model.config.decoder))
    vision = ports(graphs["vision"].model.graph.output)
    decode = graphs["decode"].model.graph
    assert ports(decode.input)[: len(memory)] == memory
    assert vision == [*memory, "mask_map", "backbone_embedding"]
    assert ports(graphs["mask"].model.graph.input) == ["mask_embedding", "mask_map"]
    assert ports(graphs["token"].model.graph.input) == ["caption_embedding"]
    # What a step leaves is what the next one takes.
    states = 2 * model.config.decoder.layers
    assert ports(decode.output[-states:], "row_") == ports(decode.input[-states:], "past_")
    text, states = graphs["text"].model.graph, 2 * model.config.text.layers
    assert ports(text.output[-states:], "token_") == ports(text.input[-states:], "past_")


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from nodes(attribute.g)


@pytest.mark.parametrize("name", NAMES)
def test_graph_is_plain_onnx(name: str, graphs: dict[str, ExportedGraph]) -> None:
    model = graphs[name].model
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import if o.domain == ""] == [("", OPSET)]
    assert OPSET == 18
    assert not model.functions
    for node in nodes(model.graph):
        assert node.domain == "", node.op_type
        if node.op_type == "Resize":
            # Runtimes disagree about the antialiased form, and few have it.
            assert all(a.name != "antialias" or a.i == 0 for a in node.attribute)


@pytest.mark.parametrize("name", NAMES)
def test_graph_tells_nothing_of_the_machine_that_made_it(
    name: str, graphs: dict[str, ExportedGraph]
) -> None:
    content = graphs[name].model.SerializeToString()
    for trace in (b".py", b"site-packages", os.getcwd().encode(), str(Path.home()).encode() + b"/"):
        assert trace not in content, trace


def test_the_image_is_read_once(graphs: dict[str, ExportedGraph]) -> None:
    # What depends on the image alone is in the vision graph: decoding multiplies no maps.
    kinds = {node.op_type for node in nodes(graphs["decode"].model.graph)}
    assert "Conv" not in kinds
    assert "Resize" not in kinds


@pytest.mark.parametrize(
    ("size", "advice"),
    [((60, 96), "64x96"), ((64, 100), "64x96"), ((0, 64), "32x64"), ((33, 1), "32x32")],
)
def test_sizes_that_cannot_be_encoded_are_refused(
    size: tuple[int, int], advice: str, model: XDecoder, tmp_path: Path
) -> None:
    with pytest.raises(BuildError, match=f"multiples of 32.*{advice}"):
        export_image_graphs(model, size)
    with pytest.raises(BuildError, match=f"multiples of 32.*{advice}"):
        build_portable(model, tmp_path / "new.plan", sizes=[size])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("sizes", [[], [(64, 96), (64, 96)]], ids=["none", "repeated"])
def test_sizes_must_be_distinct(
    sizes: list[tuple[int, int]], model: XDecoder, tmp_path: Path
) -> None:
    with pytest.raises(BuildError, match="missing or repeat"):
        build_portable(model, tmp_path / "new.plan", sizes=sizes)


def test_macs_are_those_of_the_products(graphs: dict[str, ExportedGraph]) -> None:
    mask = graphs["mask"].typical
    assert len(mask["mask_map"]) == 1
    queries, channels = mask["mask_embedding"].shape[1:]
    positions = mask["mask_map"][0, :, :, 0].numel()
    assert macs(graphs["mask"]) == queries * channels * positions
    assert all(macs(graph) > 0 for graph in graphs.values())


def test_a_decode_costs_what_the_latents_of_one_image_cost(
    model: XDecoder, graphs: dict[str, ExportedGraph]
) -> None:
    typical = graphs["decode"].typical
    assert typical["kind"].tolist() == [tasks.latents(model.config.num_queries).kind.tolist()]
    assert typical["past_keys_0"].shape[2] == 0
    more = inputs(graphs, "decode", 1, 5, 0)
    assert macs(graphs["decode"]) < macs(replace(graphs["decode"], typical=more))


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ([], r"\(none\)"),
        (["segment", "sing"], "segment, sing"),
        (["segment", "segment"], "segment, segment"),
    ],
)
def test_tasks_must_be_of_the_table_each_once(
    asked: list[str], named: str, model: XDecoder, tmp_path: Path
) -> None:
    with pytest.raises(BuildError, match=f"The tasks {named} cannot be built.*each once"):
        build_portable(model, tmp_path / "new.plan", sizes=[(HEIGHT, WIDTH)], tasks=asked)
    assert os.listdir(tmp_path) == []


def test_a_plan_carries_the_graphs_of_its_tasks(
    graphs: dict[str, ExportedGraph],
    model: XDecoder,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(build, "export_image_graphs", lambda *_: [graphs[n] for n in NAMES[:3]])
    monkeypatch.setattr(build, "export_text_graph", lambda _: graphs["text"])
    monkeypatch.setattr(build, "export_token_graph", lambda _: graphs["token"])
    held = {}
    for asked in (["segment", "refer"], ["caption"]):
        output = tmp_path / f"{asked[0]}.plan"
        summary = build_portable(model, output, sizes=[(HEIGHT, WIDTH)], tasks=asked, max_phrases=7)
        with Plan.open(output, verify=True) as plan:
            assert plan.manifest.tasks == tuple(asked)
            assert plan.manifest.decoder.max_phrases == 7
            held[asked[0]] = {name for name in plan.names if name.endswith(".onnx")}
        assert held[asked[0]] == {graph.member for graph in summary.graphs}
    assert held["caption"] - held["segment"] == {"token.onnx"}


def test_a_graph_is_forgotten_before_the_next_is_made(
    graphs: dict[str, ExportedGraph],
    model: XDecoder,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    made: list[weakref.ref[ExportedGraph]] = []

    def one_at_a_time(*_: object) -> Iterator[ExportedGraph]:
        for name in ("decode", "mask", "vision"):
            assert not any(graph() for graph in made)
            copies = [replace(graphs[name])]
            made.append(weakref.ref(copies[0]))
            yield copies.pop()

    monkeypatch.setattr(build, "export_image_graphs", one_at_a_time)
    monkeypatch.setattr(build, "export_text_graph", lambda _: graphs["text"])
    build_portable(model, tmp_path / "new.plan", sizes=[(HEIGHT, WIDTH)], tasks=["segment"])
    assert len(made) == 3


def test_the_digest_tells_weights_apart(tiny: ModelConfig, model: XDecoder) -> None:
    torch.manual_seed(0)
    same = XDecoder(tiny)
    assert weights_digest(same) == weights_digest(model)
    with torch.no_grad():
        same.decoder.class_embed[0, 0] += 1e-3
    assert weights_digest(same) != weights_digest(model)


def with_another_weight(graph: ExportedGraph) -> ExportedGraph:
    """The graph with one number of its largest matrix changed."""
    changed = onnx.ModelProto()
    changed.CopyFrom(graph.model)
    largest = max(changed.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = onnx.numpy_helper.to_array(largest).copy()
    values.flat[:] += 0.5
    largest.CopyFrom(onnx.numpy_helper.from_array(values, largest.name))
    return replace(graph, model=changed)


def test_a_graph_that_computes_something_else_is_refused(
    graphs: dict[str, ExportedGraph],
    model: XDecoder,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    wrong = with_another_weight(graphs["text"])
    with pytest.raises(BuildError, match="of the text graph differs"):
        check_against_torch(wrong)
    image = [graphs[name] for name in NAMES[:3]]
    monkeypatch.setattr(build, "export_image_graphs", lambda *_: image)
    monkeypatch.setattr(build, "export_text_graph", lambda _: wrong)
    with pytest.raises(BuildError, match="differs from PyTorch"):
        build_portable(model, tmp_path / "new.plan", sizes=[(HEIGHT, WIDTH)])
    assert os.listdir(tmp_path) == []


def test_nan_is_refused(graphs: dict[str, ExportedGraph]) -> None:
    mask = graphs["mask"]
    poisoned = {key: value * float("nan") for key, value in mask.example.items()}
    with pytest.raises(BuildError, match="differs from PyTorch"):
        check_against_torch(replace(mask, example=poisoned))


def test_a_full_disk_leaves_nothing(
    graphs: dict[str, ExportedGraph],
    model: XDecoder,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    image = [graphs[name] for name in NAMES[:3]]
    monkeypatch.setattr(build, "export_image_graphs", lambda *_: image)
    monkeypatch.setattr(build, "export_text_graph", lambda _: graphs["text"])
    monkeypatch.setattr(build, "export_token_graph", lambda _: graphs["token"])

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(BuildError, match="No space left"):
            build_portable(model, tmp_path / "new.plan", sizes=[(HEIGHT, WIDTH)])
    assert os.listdir(tmp_path) == []
    build_portable(model, tmp_path / "new.plan", sizes=[(HEIGHT, WIDTH)])
    assert os.listdir(tmp_path) == ["new.plan"]


def test_the_manifest_agrees_with_the_model(tiny_plan: Path, model: XDecoder) -> None:
    config = model.config
    with Plan.open(tiny_plan, verify=True) as plan:
        manifest = plan.manifest
    assert manifest.backend == "portable"
    assert manifest.model.name == config.name
    assert manifest.model.parameters == parameters(model)
    assert manifest.model.parameters == sum(p.numel() for p in model.parameters())
    assert manifest.model.macs > 0
    # The same seed made the plan's model.
    assert manifest.model.weights_sha256 == weights_digest(model)
    assert manifest.input.mean == config.pixel_mean
    assert manifest.input.std == config.pixel_std
    assert manifest.decoder.num_queries == config.num_queries
    assert manifest.decoder.mask_dim == config.mask_dim
    assert manifest.decoder.logit_scale == pytest.approx(np.exp(2.6593), rel=1e-5)
    assert manifest.decoder.layers == config.decoder.layers
    assert manifest.decoder.heads == config.decoder.heads
    assert manifest.decoder.retrieval_ensemble == config.retrieval_ensemble
    assert manifest.text.context_length == config.context_length
    assert manifest.text.layers == config.text.layers
    assert manifest.text.heads == config.text.heads
    assert manifest.text.width == config.text.width
    assert manifest.text.caption_stops == config.caption_stops
    assert manifest.text.answers == config.answers
    assert manifest.tasks == tuple(tasks.TASKS)
    assert manifest.postprocess.instance_topk == config.postprocess.instance_topk
    errors = manifest.accuracy["relative_rms_error_against_pytorch"]
    assert set(errors) == set(manifest.graphs.members())
    assert all(error < 1e-4 for error in errors.values())


class TestRepack:
    def test_keeps_some_sizes(self, tiny_plan: Path, tmp_path: Path) -> None:
        output = tmp_path / "small.plan"
        returned = repack_portable(tiny_plan, output, [(32, 96)])
        with Plan.open(output, verify=True) as plan, Plan.open(tiny_plan) as source:
            assert plan.manifest == returned
            assert plan.manifest.input.sizes == ((32, 96),)
            assert set(plan.manifest.graphs.vision) == {"32x96"}
            assert not [name for name in plan.names if "64x64" in name]
            assert set(plan.names) < set(source.names)
            assert all(plan.read(name) == source.read(name) for name in plan.names)
            assert plan.manifest.model.weights_sha256 == source.manifest.model.weights_sha256

    def test_keeps_all_sizes_by_default(self, tiny_plan: Path, tmp_path: Path) -> None:
        output = tmp_path / "all.plan"
        repack_portable(tiny_plan, output)
        assert output.read_bytes() == tiny_plan.read_bytes()

    @pytest.mark.parametrize(
        ("sizes", "named"),
        [([(64, 64), (128, 128)], "128x128"), ([(96, 32)], "96x32"), ([], "no size at all")],
    )
    def test_refuses_absent_sizes(
        self, sizes: list[tuple[int, int]], named: str, tiny_plan: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(BuildError, match=f"no graphs for {named}.*64x64, 32x96"):
            repack_portable(tiny_plan, tmp_path / "new.plan", sizes)
        assert os.listdir(tmp_path) == []

    def test_refuses_a_damaged_source(self, tiny_plan: Path, tmp_path: Path) -> None:
        content = bytearray(tiny_plan.read_bytes())
        content[len(content) // 2] ^= 1
        damaged = tmp_path / "damaged.plan"
        damaged.write_bytes(content)
        with pytest.raises(PlanError):
            repack_portable(damaged, tmp_path / "new.plan")
        assert os.listdir(tmp_path) == ["damaged.plan"]

    def test_a_full_disk_leaves_the_older_plan(
        self, tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        output = tmp_path / "new.plan"
        output.write_bytes(b"older")

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(BuildError, match="No space left"):
            repack_portable(tiny_plan, output)
        assert output.read_bytes() == b"older"
        assert os.listdir(tmp_path) == ["new.plan"]


@pytest.mark.parametrize(
    ("size", "bound"), [((448, 448), 1e-4), ((1024, 1024), 1e-4), ((2048, 2048), 2e-4)]
)
def test_only_large_frames_may_differ_by_more(size: tuple[int, int], bound: float) -> None:
    frame = torch.zeros(1, *size, 3, dtype=torch.uint8)
    assert tolerance({"frame": frame, "valid": torch.tensor([size])}) == pytest.approx(bound)
    assert tolerance({"mask_map": torch.zeros(1, *size, 4)}) == 1e-4
