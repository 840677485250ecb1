"""The classifier of regions: the network's form, its graphs, and how scores are joined."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from xdecoder_rt import Engine, tasks
from xdecoder_rt.errors import CheckpointError, PlanError
from xdecoder_rt.export import portable
from xdecoder_rt.export.options import BuildOptions
from xdecoder_rt.export.pipeline import build
from xdecoder_rt.export.precision import is_state
from xdecoder_rt.export.tensorrt.profiles import profiles_of
from xdecoder_rt.masks.classification import class_probabilities, class_shares, join_regions
from xdecoder_rt.models import ModelConfig, XDecoder, load_checkpoint, save_checkpoint
from xdecoder_rt.models.decoder import Rows
from xdecoder_rt.models.graphs import DecodeGraph, VisionGraph
from xdecoder_rt.models.plain import plain_forward
from xdecoder_rt.plan.file import Plan, write_plan
from xdecoder_rt.plan.manifest import Manifest, RegionInfo
from xdecoder_rt.questions.object_words import word_shares
from xdecoder_rt.rows import RowGroup
from xdecoder_rt.training.finetuning import freeze
from xdecoder_rt.words.region_names import RegionNames, names_of
from xdecoder_rt.words.vocabulary import Vocabulary

WORDS = ["mug", "table", "robot arm"]
OWN = {"trunk": "own"}


@pytest.fixture(scope="module")
def naming_model() -> XDecoder:
    """The tiny model with a classifier of regions."""
    import tiny_model

    return tiny_model.naming_model()


def frame() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def run_graphs(model: XDecoder, pixels: np.ndarray) -> dict[str, torch.Tensor]:
    """Return the decode graph's outputs for the latents and a phrase."""
    vision, decode = VisionGraph(model), DecodeGraph(model)
    queries, layers = model.config.num_queries, model.config.decoder.layers
    layout = tasks.side_by_side(
        [tasks.latents(queries), tasks.group("refer", queries, 2)], tasks.LATENT_GROUP
    )
    text = torch.zeros(1, len(layout), model.config.proj_dim)
    rows = Rows.of([layout], text)
    with torch.no_grad():
        values = vision(torch.from_numpy(pixels)[None], torch.tensor([pixels.shape[:2]]))
        feeds = dict(zip(vision.outputs, values, strict=True))
        for level in range(3):
            feeds[f"regions_{level}"] = torch.zeros(1, 1, feeds[f"mask_features_{level}"].shape[1])
        feeds |= {"kind": rows.kind, "content": rows.content, "position": rows.position}
        feeds |= {"text": text, "visible": rows.visible}
        feeds["region_weight"] = torch.zeros(1, len(layout), 1)
        shape = model.config.decoder
        nothing = torch.zeros(1, shape.heads, 0, shape.hidden_dim // shape.heads)
        feeds |= {f"past_{part}_{i}": nothing for part in ("keys", "values") for i in range(layers)}
        return dict(zip(decode.outputs, decode(*(feeds[n] for n in decode.inputs)), strict=True))


@pytest.mark.parametrize(("width", "own"), [(0, {}), (6, {}), (0, OWN), (0, {**OWN, "shrink": 2})])
def test_maps_and_masks_of_the_coarsest_level_give_the_classifier_under_each_mask(
    naming_model: XDecoder, width: int, own: dict[str, Any], redraw: Callable[[XDecoder], XDecoder]
) -> None:
    """Averages and linear maps commute, and so do shrinking and the product of masks."""
    config, pixels = naming_model.config, frame()
    assert config.region is not None
    region = dataclasses.replace(config.region, width=width, **own)
    model = redraw(XDecoder(dataclasses.replace(config, region=region)))
    found = run_graphs(model, pixels)["region_scores"]
    queries = config.num_queries
    layout = tasks.side_by_side(
        [tasks.latents(queries), tasks.group("refer", queries, 2)], tasks.LATENT_GROUP
    )
    mean, std = torch.tensor(config.pixel_mean), torch.tensor(config.pixel_std)
    images = ((torch.from_numpy(pixels) - mean) / std).permute(2, 0, 1)[None]
    rows = Rows.of([layout], torch.zeros(1, len(layout), config.proj_dim))
    with torch.no_grad():
        expected = plain_forward(model, images, rows).region_scores
    assert expected is not None
    assert expected.shape == (1, len(layout), region.names)
    # Of the latents alone: no task asks for the regions of other rows.
    torch.testing.assert_close(found.sum(dim=2), torch.ones(1, queries))
    torch.testing.assert_close(found, expected[:, :queries], rtol=1e-4, atol=1e-5)
    if not own:  # a trunk of random weights sees little, and at half the size one position
        assert found.std(dim=1).max() > 1e-3  # regions differ


def test_the_class_tokens_region_is_all_of_the_image(naming_model: XDecoder) -> None:
    assert naming_model.region is not None
    images = torch.randn(1, 3, 64, 64)
    region_map = naming_model.region.map(images, naming_model.backbone(images)[3])
    whole = naming_model.region.scores(region_map, torch.ones(1, 1, region_map.shape[1]))
    kind = torch.tensor([[tasks.Row.OBJECT, tasks.Row.CLASS]])
    masks, features = torch.randn(1, 2, 16) * 9, torch.randn(1, region_map.shape[1], 16)
    found = naming_model.region(region_map, kind, masks, features)
    torch.testing.assert_close(found[:, 1:], whole)
    assert not torch.allclose(found[:, :1], whole)


def test_rows_that_are_no_latents_have_scores_of_no_region(naming_model: XDecoder) -> None:
    assert naming_model.region is not None
    others = [row for row in tasks.Row if row not in (tasks.Row.OBJECT, tasks.Row.CLASS)]
    masks, features = torch.randn(1, len(others), 16) * 9, torch.randn(1, 4, 16)
    region_map = torch.randn(1, 4, naming_model.region.names.in_features)
    found = naming_model.region(region_map, torch.tensor([others]), masks, features)
    nowhere = naming_model.region.scores(region_map, torch.zeros(1, len(others), 4))
    torch.testing.assert_close(found, nowhere)


def test_a_region_that_is_nowhere_has_scores_all_the_same(naming_model: XDecoder) -> None:
    assert naming_model.region is not None
    region_map = torch.randn(1, 4, naming_model.region.names.in_features)
    found = naming_model.region.scores(region_map, torch.zeros(1, 2, 4))
    assert torch.isfinite(found).all()


def test_a_model_without_the_classifier_has_the_graphs_that_it_had(tiny_model: XDecoder) -> None:
    assert tiny_model.region is None
    assert VisionGraph(tiny_model).outputs[-1] == "backbone_embedding"
    decode = DecodeGraph(tiny_model)
    assert "region_map" not in decode.inputs
    assert "region_scores" not in decode.outputs
    assert not any(name.startswith("region.") for name in tiny_model.state_dict())


def test_the_classifier_is_not_trained_with_the_model(naming_model: XDecoder) -> None:
    assert naming_model.region is not None
    fresh = XDecoder(naming_model.config)
    assert fresh.region is not None
    freeze(fresh, "all")
    assert not any(parameter.requires_grad for parameter in fresh.region.parameters())
    groups = fresh.parameter_groups(1e-3, 0.1, 0.05)
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    assert not trained & {id(parameter) for parameter in fresh.region.parameters()}


def test_a_checkpoint_keeps_the_classifier_and_one_without_it_is_read_as_before(
    naming_model: XDecoder, tiny_model: XDecoder, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "naming.safetensors", naming_model)
    loaded = load_checkpoint(tmp_path / "naming.safetensors")
    assert loaded.config.region == naming_model.config.region
    assert loaded.region is not None
    assert naming_model.region is not None
    torch.testing.assert_close(
        loaded.region.vectors, naming_model.region.vectors, rtol=1e-3, atol=1e-3
    )
    save_checkpoint(tmp_path / "plain.safetensors", tiny_model)
    assert load_checkpoint(tmp_path / "plain.safetensors").config.region is None
    old = dataclasses.asdict(tiny_model.config)
    del old["region"]
    assert ModelConfig.from_json(json.dumps(old)) == tiny_model.config


@pytest.mark.parametrize(("key", "value"), [("weight", 1.5), ("width", -1), ("scale", -1.0)])
def test_a_configuration_out_of_range_is_refused(
    naming_model: XDecoder, key: str, value: float
) -> None:
    assert naming_model.config.region is not None
    region = dataclasses.replace(naming_model.config.region, **{key: value})
    text = dataclasses.replace(naming_model.config, region=region).to_json()
    with pytest.raises(CheckpointError, match=f"region.{key}"):
        ModelConfig.from_json(text)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_plan_gives_the_region_of_every_query_on_each_library(
    naming_plan: Path, naming_model: XDecoder, backend: str
) -> None:
    pytest.importorskip(backend)
    with Engine(naming_plan, backend=backend, threads=1) as engine:
        state = engine.decode(frame())
        assert state.latents is not None
        found = state.latents.region_scores
    assert found is not None
    expected = run_graphs(naming_model, frame())["region_scores"]
    np.testing.assert_allclose(found, expected[0].numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_what_is_decoded_with_the_latents_or_after_them_has_no_regions(
    naming_plan: Path, backend: str
) -> None:
    pytest.importorskip(backend)
    with Engine(naming_plan, backend=backend, threads=1) as engine:
        alone, together = engine.decode(frame()), engine.encode(frame())
        engine.run(together, segment=WORDS, refer=["the mug"], caption=True, max_tokens=3)
        assert alone.latents is not None and together.latents is not None
        assert alone.latents.region_scores is not None
        assert together.latents.region_scores is not None
        np.testing.assert_allclose(
            together.latents.region_scores, alone.latents.region_scores, rtol=1e-3, atol=1e-4
        )
        assert len(together.latents.region_scores) == len(together.latents.layout)
        phrase = RowGroup(
            tasks.group("refer", len(alone.latents.layout), 2), np.ones((2, 16), np.float32)
        )
        fresh = engine.encode(frame())
        for state in (fresh, alone):
            (copies,) = engine._runtime.rows.decode(state, [phrase])
            assert copies.region_scores is None


def test_what_regions_mean_decides_what_is_kept(naming_plan: Path, tmp_path: Path) -> None:
    """The same graphs and image; the vectors of the names alone say which word they mean."""
    kept = {}
    for word in (0, 2):
        with Engine(naming_plan, backend="onnxruntime", threads=1) as engine:
            meaning = np.linalg.pinv(engine.class_table(WORDS)[:-1])[:, word]
        with Plan.open(naming_plan) as plan:
            region = plan.manifest.region
            assert region is not None
            members = {name: plan.read(name) for name in plan.names}
            members[region.vectors] = np.tile(meaning, (region.names, 1)).astype("<f4").tobytes()
            manifest = dataclasses.replace(
                plan.manifest,
                region=dataclasses.replace(region, weight=1.0),
                # To the decoder all words and void are equally likely.
                decoder=dataclasses.replace(plan.manifest.decoder, logit_scale=0.0),
            )
            write_plan(tmp_path / f"{word}.plan", manifest, members)
        with Engine(tmp_path / f"{word}.plan", backend="onnxruntime", threads=1) as engine:
            segmentation = engine.segment(frame(), WORDS)
        kept[word] = {info["label"] for info in segmentation.segments_info}
    assert kept == {0: {"mug"}, 2: {"robot arm"}}


def drawn_logits() -> tuple[np.ndarray, np.ndarray]:
    """Return logits of six queries over four classes and void, and what regions say of them."""
    generator = np.random.default_rng(1)
    logits = generator.normal(size=(6, 5)).astype(np.float32) * 2
    return logits, class_probabilities(generator.normal(size=(6, 5)) * 2)


def test_a_weight_of_zero_leaves_the_decoders_scores_as_they_are() -> None:
    logits, regions = drawn_logits()
    joined = join_regions(logits, regions, 0.0)
    np.testing.assert_allclose(class_probabilities(joined), class_probabilities(logits), rtol=1e-5)


def test_joined_scores_are_probabilities() -> None:
    logits, regions = drawn_logits()
    joined = np.exp(join_regions(logits, regions, 0.8))
    np.testing.assert_allclose(joined.sum(axis=1), 1, rtol=1e-5)
    assert (joined.min(axis=1) > 0).all()


def test_a_sure_region_speaks_where_the_decoder_is_unsure_alone() -> None:
    unsure = np.array([[0.1, 0.0, 0.05, 0.2]], np.float32)
    sure = np.array([[20.0, 0.0, 0.0, 0.0]], np.float32)
    silent = np.array([[0.0, 0.0, 0.0, 6.0]], np.float32)
    region = np.array([[0.01, 0.97, 0.01, 0.01]], np.float32)
    assert join_regions(unsure, region, 0.8).argmax() == 1
    assert join_regions(silent, region, 0.8).argmax() == 1  # void gives way
    assert join_regions(sure, region, 0.8).argmax() == 0
    np.testing.assert_allclose(
        class_probabilities(join_regions(sure, region, 0.8)), class_probabilities(sure), atol=1e-5
    )


def test_a_region_of_which_the_classifier_is_unsure_says_little() -> None:
    logits = np.array([[2.0, 1.0, 0.0, 1.5]], np.float32)
    nothing = np.array([[0.0, 0.02, 0.0, 0.98]], np.float32)
    joined = class_probabilities(join_regions(logits, nothing, 1.0))
    np.testing.assert_allclose(joined, class_probabilities(logits), atol=0.02)


def test_names_are_divided_among_words_and_void_and_synonyms_add_up() -> None:
    table = np.eye(4, dtype=np.float32)
    info = RegionInfo(width=4, names=3, vectors="v", weight=0.5, scale=20.0, void=0.3)
    vectors = np.array([[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 0.1, 0]], np.float32)
    relation = RegionNames(info, vectors).relation(table)
    assert relation.shape == (4, 3)
    np.testing.assert_allclose(relation.sum(axis=0), 1, rtol=1e-6)
    assert relation[0, 0] > 0.99
    np.testing.assert_allclose(relation[0, 1], relation[1, 1])
    assert relation[3, 2] > 0.9  # a name that fits no word speaks for void
    scores = np.array([[0.0, 1.0, 0.0]], np.float32)
    apart = Vocabulary.parse(["sofa", "couch", "lamp"])
    together = Vocabulary.parse([["sofa", "couch"], "lamp"])
    np.testing.assert_allclose(word_shares(scores, relation, apart)[0], relation[:, 1], rtol=1e-6)
    np.testing.assert_allclose(
        word_shares(scores, relation, together)[0],
        [relation[:2, 1].sum(), relation[2, 1], relation[3, 1]],
        rtol=1e-6,
    )


def test_void_has_its_constant_whatever_its_embedding_is() -> None:
    info = RegionInfo(width=4, names=2, vectors="v", weight=0.5, scale=20.0, void=0.3)
    vectors = np.eye(2, 4, dtype=np.float32)
    tables = [np.eye(3, 4, dtype=np.float32), np.eye(3, 4, dtype=np.float32)]
    tables[1][2] = tables[1][0]
    names = RegionNames(info, vectors)
    np.testing.assert_array_equal(names.relation(tables[0]), names.relation(tables[1]))


def test_the_relation_of_a_table_is_kept_for_its_next_call_and_not_for_another() -> None:
    info = RegionInfo(width=4, names=2, vectors="v", weight=0.5, scale=20.0, void=0.3)
    names = RegionNames(info, np.eye(2, 4, dtype=np.float32))
    table = np.eye(3, 4, dtype=np.float32)
    first = names.relation(table)
    assert names.relation(table) is first
    for _ in range(40):
        other = np.eye(3, 4, dtype=np.float32)[::-1].copy()
        assert not np.array_equal(names.relation(other), first)
    np.testing.assert_array_equal(names.relation(table), first)


def test_shares_of_classes_are_products_of_names() -> None:
    generator = np.random.default_rng(2)
    names = class_probabilities(generator.normal(size=(5, 30)))
    relation = class_probabilities(generator.normal(size=(30, 11))).T
    np.testing.assert_allclose(class_shares(names, relation), names @ relation.T, rtol=1e-5)


def test_vectors_of_another_size_are_refused(naming_plan: Path, tmp_path: Path) -> None:
    with Plan.open(naming_plan) as plan:
        members = {name: plan.read(name) for name in plan.names}
        assert plan.manifest.region is not None
        vectors = members[plan.manifest.region.vectors]
        for number, data in enumerate((vectors[:-4], b"\xff" * len(vectors))):
            members[plan.manifest.region.vectors] = data
            path = tmp_path / f"{number}.plan"
            write_plan(path, plan.manifest, members)
            with Plan.open(path) as other, pytest.raises(PlanError, match="names of regions"):
                names_of(other)


def test_the_map_of_regions_has_a_shape_of_its_own_in_an_engines_profile(
    naming_plan: Path,
) -> None:
    with Plan.open(naming_plan) as plan:
        decode = onnx.load_from_string(plan.graph(plan.manifest.graphs.decode["64x64"]))
        profiles = profiles_of("decode", decode, plan.manifest, batch=4, max_rows=64)
        assert plan.manifest.region is not None
        width = plan.manifest.region.width
    assert [profile["region_map"].least for profile in profiles] == [(1, 4, width)]
    assert [profile["region_map"].most for profile in profiles] == [(4, 4, width)]


def test_the_map_of_regions_is_in_a_half_type_between_half_graphs() -> None:
    assert is_state("region_map")
    assert not is_state("region_scores")


def test_a_manifest_and_graphs_that_disagree_about_regions_are_refused(
    naming_plan: Path, tiny_plan: Path, tmp_path: Path
) -> None:
    def opened_with(plan_path: Path, change: Callable[[Manifest], Manifest]) -> None:
        with Plan.open(plan_path) as plan:
            members = {name: plan.read(name) for name in plan.names}
            write_plan(tmp_path / "other.plan", change(plan.manifest), members)
        with Engine(tmp_path / "other.plan", backend="onnxruntime", threads=1) as engine:
            engine.segment(frame(), WORDS)

    with pytest.raises(PlanError, match="region_"):
        opened_with(naming_plan, lambda manifest: dataclasses.replace(manifest, region=None))
    with Plan.open(naming_plan) as plan:
        region = plan.manifest.region
    with pytest.raises(PlanError, match="region_"):
        opened_with(tiny_plan, lambda manifest: dataclasses.replace(manifest, region=region))


@pytest.mark.parametrize("key", ["width", "names", "vectors", "weight", "scale", "void"])
def test_a_region_section_without_one_of_its_keys_is_refused(naming_plan: Path, key: str) -> None:
    with Plan.open(naming_plan) as plan:
        document = json.loads(plan.manifest.to_json())
    del document["region"][key]
    with pytest.raises(PlanError, match=f"region.{key}"):
        Manifest.from_json(json.dumps(document).encode())


@pytest.mark.parametrize(("regions", "has_them"), [(None, True), (True, True), (False, False)])
def test_a_build_may_leave_the_classifier_out(
    naming_model: XDecoder,
    regions: bool | None,
    has_them: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class BuiltError(Exception):
        pass

    def build_portable(model: XDecoder, *_: Any, **__: Any) -> None:
        assert (model.region is not None) == (model.config.region is not None) == has_them
        raise BuiltError

    save_checkpoint(tmp_path / "naming.safetensors", naming_model)
    monkeypatch.setattr(portable, "build_portable", build_portable)
    with pytest.raises(BuiltError):
        build(tmp_path / "naming.safetensors", tmp_path / "a.plan", BuildOptions(regions=regions))
