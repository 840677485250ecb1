"""The parity command: the original's tensors through both forms, and a check that can fail."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from xdecoder_rt import Engine
from xdecoder_rt.errors import DatasetError
from xdecoder_rt.evaluation.divergence import relative_rms
from xdecoder_rt.export.portable import build_portable
from xdecoder_rt.models.published import load_published
from xdecoder_rt.parity.__main__ import main
from xdecoder_rt.parity.fixture import Fixture
from xdecoder_rt.parity.settings import model_config
from xdecoder_rt.parity.torch_form import TorchNetwork

DATA = Path(__file__).parents[1] / "data"
WHOLE = DATA / "focal_tiny_a"
BACKBONE = DATA / "focal_plain_backbone"
TEXT_TASKS = re.compile(r".*(grounding|caption|caption_region|retrieval)\.\w+")
INTERMEDIATE = re.compile(
    r"img\d\.(pixel_values|res\d|multi_scale_\d|transformer_encoder_features|decoder_output"
    r"|attn_mask_layer\d|pred_masks_layer0|pred_logits_all_layers)"
)


def run(folder: Path, tmp_path: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main([str(folder), *arguments, "--json", str(tmp_path / "report.json")])
    report = json.loads((tmp_path / "report.json").read_text())
    return code, {tensor["name"]: tensor for tensor in report["tensors"]}


def copy(source: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(source, tmp_path / source.name))


def change_expected(folder: Path, **changes: Any) -> None:
    with np.load(folder / "expected.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays.update({name.replace("__", "."): value for name, value in changes.items()})
    np.savez(folder / "expected.npz", **arrays)


def keep_expected(folder: Path, keep: Callable[[str, Any], Any]) -> list[str]:
    """Replace each expected array by what `keep` makes of it, or drop it; the names that stay."""
    with np.load(folder / "expected.npz") as archive:
        changed = {name: keep(name, archive[name]) for name in archive.files}
    kept = {name: array for name, array in changed.items() if array is not None}
    np.savez(folder / "expected.npz", **kept)
    return list(kept)


def change_weight(folder: Path, name: str, factor: float) -> None:
    fixture = Fixture.open(folder)
    weights = load_file(fixture.weights)
    weights[name] *= factor
    save_file(weights, folder / "weights.safetensors")


def test_pytorch_passes_every_tensor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, tensors = run(WHOLE, tmp_path)
    assert code == 0
    with np.load(WHOLE / "expected.npz") as archive:
        assert list(tensors) == archive.files, "a line an array, in order"
    assert {tensor["verdict"] for tensor in tensors.values()} == {"pass"}
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "119 pass, 0 FAIL, 0 not built, 0 not exposed"


@pytest.mark.slow
def test_exported_graphs_pass_everything_but_intermediates(tmp_path: Path) -> None:
    code, tensors = run(WHOLE, tmp_path, "--form", "onnxruntime")
    assert code == 0
    for name, tensor in tensors.items():
        hidden = INTERMEDIATE.fullmatch(name)
        assert tensor["verdict"] == ("not exposed" if hidden else "pass"), name


@pytest.mark.slow
def test_the_engine_says_what_the_original_says(tmp_path: Path) -> None:
    # img0 goes in at its own size and comes out at it, so that the engine changes nothing of it.
    fixture = Fixture.open(WHOLE)
    image, expected = fixture.images["img0"], fixture.expected
    model = load_published(fixture.weights, model_config(fixture.settings, "fixture"))
    plan = tmp_path / "fixture.plan"
    build_portable(model, plan, sizes=[image.letterbox.target])
    texts = json.loads((WHOLE / "config.json").read_text())["case"]["caption_text"]
    with Engine(plan, threads=1) as engine:
        state = engine.encode(image.frame)
        found = engine.refer(state, fixture.phrases(), joint=True)
        for reference, logits in zip(
            found, expected["img0.grounding.masks_at_output_size"], strict=True
        ):
            assert (reference.mask == (logits > 0)).mean() >= 0.999, reference.phrase
        whole = engine.caption(state, max_tokens=12)
        part = engine.caption(state, region=image.region, max_tokens=12)
        assert whole.text == texts["img0.caption"]
        assert part.text == texts["img0.caption_region"]
        captions = [text for one in fixture.captioned_images() for text in fixture.captions(one)]
        scores = engine.embed_text(captions) @ engine.embed_image(state)
    assert relative_rms(scores, expected["retrieval.scores"][0]) <= 1e-4


def test_every_wrong_value_of_a_text_task_fails(tmp_path: Path) -> None:
    folder = copy(WHOLE, tmp_path)

    def spoilt(name: str, array: Any) -> Any:
        if not TEXT_TASKS.fullmatch(name):
            return None
        if array.dtype.kind == "f":
            return array * np.float32(1.001)
        wrong = array.copy()
        wrong.flat[-1] += 1
        return wrong

    names = keep_expected(folder, spoilt)
    assert len(names) == 36
    code, tensors = run(folder, tmp_path)
    assert code == 1
    assert {name for name, tensor in tensors.items() if tensor["verdict"] != "FAIL"} == set()


@pytest.mark.parametrize(
    ("weight", "wrong"),
    [
        ("caping_embed", {"caption.step_feature", "caption.step_top10_logits"}),
        ("lang_encoder.logit_scale", {"grounding.scores"}),
    ],
)
def test_a_wrong_weight_fails_what_reads_it(weight: str, wrong: set[str], tmp_path: Path) -> None:
    folder = copy(WHOLE, tmp_path)
    change_weight(folder, "sem_seg_head.predictor." + weight, 1.01)
    read = re.compile(r"img1\.(grounding|caption|retrieval)\.\w+")
    names = keep_expected(folder, lambda name, array: array if read.fullmatch(name) else None)
    code, tensors = run(folder, tmp_path)
    assert code == 1
    assert {name for name in names if tensors[name]["verdict"] == "FAIL"} == {
        "img1." + name for name in wrong
    }


def test_captions_go_on_past_end_tokens(tmp_path: Path) -> None:
    fixture = Fixture.open(WHOLE)
    model = load_published(fixture.weights, model_config(fixture.settings, "fixture"))
    network = TorchNetwork(model.requires_grad_(False), fixture.background())
    image = fixture.images["img1"]
    first = network.write_caption(image, None, 1)[0]
    # The end token's row of the table, which is never read before it is written, wins every step.
    model.text_encoder.token_embedding.weight[-1] = torch.from_numpy(first.features[0])
    anew, cached = network.write_caption(image, None, 3)
    assert len(anew.token_ids) == 3
    assert anew.token_ids[0] == 49407
    assert (anew.token_ids == cached.token_ids).all()
    assert relative_rms(cached.features, anew.features) <= 1e-4


@pytest.mark.parametrize(
    "blocked", [None, np.ones((96, 128), bool), np.zeros((96, 64), bool), np.zeros((96, 128))]
)
def test_a_region_that_is_none(
    blocked: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(WHOLE, tmp_path)
    with np.load(folder / "inputs.npz") as archive:
        inputs = {name: archive[name] for name in archive.files}
    del inputs["img0.caption_region.blocked_mask"]
    if blocked is not None:
        inputs["img0.caption_region.blocked_mask"] = blocked
    np.savez(folder / "inputs.npz", **inputs)
    only = "img0.caption_region.token_ids"
    keep_expected(folder, lambda name, array: array if name == only else None)
    assert main([str(folder)]) == 2
    assert "img0.caption_region.blocked_mask" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["torch", "onnxruntime"])
def test_the_other_backbone(form: str, tmp_path: Path) -> None:
    code, tensors = run(BACKBONE, tmp_path, "--form", form)
    assert code == 0
    assert {tensor["verdict"] for tensor in tensors.values()} == {"pass"}


def test_another_weight_fails(tmp_path: Path) -> None:
    folder = copy(BACKBONE, tmp_path)
    change_weight(folder, "backbone.layers.2.blocks.0.mlp.fc1.weight", 1.01)
    code, tensors = run(folder, tmp_path)
    assert code == 1
    assert tensors["res3"]["verdict"] == "pass"
    assert tensors["res4"]["verdict"] == "FAIL"


def test_other_expectations_fail(tmp_path: Path) -> None:
    folder = copy(BACKBONE, tmp_path)
    with np.load(folder / "expected.npz") as archive:
        shifted = archive["res4"] * np.float32(1.001)
    change_expected(folder, res4=shifted, res5=np.zeros((1, 2), np.float32), extra=np.zeros(3))
    code, tensors = run(folder, tmp_path)
    assert code == 1
    assert tensors["res4"]["verdict"] == tensors["res5"]["verdict"] == "FAIL"
    assert tensors["extra"]["verdict"] == "not built", "never silently skipped, never passed"


def test_packed_weights_that_are_damaged_are_told(tmp_path: Path) -> None:
    folder = copy(WHOLE, tmp_path)
    packed = folder / "weights.safetensors.xz"
    packed.write_bytes(packed.read_bytes()[:100_000])
    fixture = Fixture.open(folder)
    with pytest.raises(DatasetError, match=r"weights\.safetensors\.xz is damaged"):
        _ = fixture.weights


def test_missing_tensors_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copy(BACKBONE, tmp_path)
    weights = load_file(folder / "weights.safetensors")
    del weights["backbone.norm0.bias"]
    weights["backbone.extra"] = torch.zeros(1)
    save_file(weights, folder / "weights.safetensors")
    assert main([str(folder)]) == 2
    error = capsys.readouterr().err
    assert "missing backbone.norm0.bias" in error
    assert "unexpected backbone.extra" in error


@pytest.mark.parametrize("file", ["config.json", "inputs.npz", "expected.npz"])
@pytest.mark.parametrize("content", [None, b"", b"{]", b"PK\x03\x04"])
def test_folders_that_are_no_fixtures(
    file: str, content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(BACKBONE, tmp_path)
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    assert main([str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and file in error


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("backbone_variant", "resnet"),
        ("post_layernorm", False),
        ("depths", [1, 1]),
        ("pixel_std", [0, 1, 1]),
    ],
)
def test_networks_that_ours_is_not(
    key: str, value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(BACKBONE, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    yaml_keys = {"pixel_std": "INPUT.PIXEL_STD"}
    entry = config["hyperparameters"].setdefault(key, {"yaml_key": yaml_keys.get(key)})
    entry["value"] = value
    (folder / "config.json").write_text(json.dumps(config))
    assert main([str(folder)]) == 2
    assert "error: " in capsys.readouterr().err
