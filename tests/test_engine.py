"""`Engine`: one plan, any words, many threads; in the image's own pixels."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xdecoder_rt import Engine
from xdecoder_rt.backends import open_backend
from xdecoder_rt.errors import (
    ArgumentError,
    BackendError,
    ImageError,
    PlanError,
    VocabularyError,
)
from xdecoder_rt.masks import postprocess
from xdecoder_rt.pixels.letterbox import Letterbox
from xdecoder_rt.plan.file import Plan
from xdecoder_rt.plan.manifest import Manifest
from xdecoder_rt.results import Segmentation
from xdecoder_rt.state import ImageState

WORDS = ["mug", "robot arm", "floor"]
Altered = Callable[[Callable[[Manifest], Manifest]], Path]


@pytest.fixture(scope="module")
def engine(tiny_plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(tiny_plan, threads=1, cache_dir=tmp_path_factory.mktemp("cache")) as opened:
        yield opened


def picture(height: int = 50, width: int = 70, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def same(a: Segmentation, b: Segmentation) -> bool:
    return bool((a.segmentation == b.segmentation).all()) and a.segments_info == b.segments_info


@pytest.mark.parametrize("task", ["panoptic", "semantic", "instance"])
@pytest.mark.parametrize("size", [(50, 70), (64, 64), (1, 1), (7, 300), (200, 31)])
def test_results_lie_in_the_pixels_of_the_image(
    engine: Engine, task: str, size: tuple[int, int]
) -> None:
    result = engine.segment(picture(*size), WORDS, task=task, stuff=["floor"])
    assert result.task == task
    assert result.segmentation.shape == size
    assert result.segmentation.dtype == np.int32
    for info in result.segments_info:
        assert info["label"] == WORDS[info["label_id"]]
        assert info["isthing"] == (info["label"] != "floor")
        assert 0.0 <= info["score"] <= 1.0
        assert 0 < info["area"] <= size[0] * size[1]


def test_panoptic_ids_partition_the_image(engine: Engine) -> None:
    result = engine.segment(picture(), WORDS, stuff=["floor"])
    ids = {info["id"]: info["area"] for info in result.segments_info}
    assert ids, "the fixture's thresholds keep segments"
    assert set(np.unique(result.segmentation)) <= {0, *ids}
    for segment, area in ids.items():
        assert (result.segmentation == segment).sum() == area
    floors = [info for info in result.segments_info if info["label"] == "floor"]
    assert len(floors) <= 1, "stuff of one class is one segment"


def test_semantic_gives_every_pixel_a_word(engine: Engine) -> None:
    result = engine.segment(picture(), WORDS, task="semantic")
    assert result.segmentation.min() >= 0
    assert result.segmentation.max() < len(WORDS)
    assert sum(info["area"] for info in result.segments_info) == 50 * 70


def test_instances_are_sorted_things_with_boxes(engine: Engine) -> None:
    result = engine.segment(picture(), WORDS, task="instance", stuff=["floor"])
    assert result.masks is not None and result.scores is not None and result.boxes is not None
    assert len(result.masks) == len(result.scores) == len(result.boxes) == len(result) > 0
    assert (np.diff(result.scores) <= 0).all()
    for mask, box, info in zip(result.masks, result.boxes, result.segments_info, strict=True):
        left, top, right, bottom = box.astype(int)
        assert mask.sum() == mask[top:bottom, left:right].sum() == info["area"] > 0
        assert info["label"] != "floor"


def test_a_list_in_gives_a_list_out(engine: Engine) -> None:
    images = [picture(seed=1), picture(64, 64, seed=2)]
    together = engine.segment(images, WORDS)
    assert isinstance(together, list)
    assert all(
        same(one, engine.segment(image, WORDS)) for one, image in zip(together, images, strict=True)
    )


def test_arrays_pictures_and_paths_are_the_same_image(engine: Engine, tmp_path: Path) -> None:
    array = picture()
    Image.fromarray(array).save(tmp_path / "image.png")
    expected = engine.segment(array, WORDS)
    assert same(expected, engine.segment(Image.fromarray(array), WORDS))
    assert same(expected, engine.segment(tmp_path / "image.png", WORDS))
    assert same(expected, engine.segment(str(tmp_path / "image.png"), WORDS))


class Counted:
    """A graph that counts its calls."""

    def __init__(self, graph: object) -> None:
        self.graph, self.inputs, self.calls = graph, graph.inputs, 0  # type: ignore[attr-defined]

    def __call__(self, feeds: object) -> object:
        self.calls += 1
        return self.graph(feeds)  # type: ignore[operator]


def test_a_state_is_encoded_and_decoded_once_whatever_is_asked_of_it(
    tiny_plan: Path, tmp_path: Path
) -> None:
    with Engine(tiny_plan, cache_dir=tmp_path) as engine:
        engine.segment(picture(64, 64), WORDS)
        for member, graph in engine._runtime._graphs.items():
            engine._runtime._graphs[member] = Counted(graph)  # type: ignore[assignment]
        state = engine.encode(picture(64, 64))
        first = engine.segment(state, WORDS)
        engine.segment(state, ["something", "else"])
        engine.segment(state, WORDS, task="semantic")
        assert same(first, engine.segment(state, WORDS))
        calls = {m.split("_")[0]: g.calls for m, g in engine._runtime._graphs.items()}  # type: ignore[attr-defined]
    assert calls["vision"] == 1
    assert calls["decode"] == 1


def test_known_words_cost_a_look_up(tiny_plan: Path, tmp_path: Path) -> None:
    words = [f"part {number}" for number in range(1000)]
    with Engine(tiny_plan, cache_dir=tmp_path) as engine:
        table = engine.class_table(words)
        assert engine.text_cache.stats.misses == len(words) + 1  # and the void class
        tracemalloc.start()
        again = engine.class_table(list(words))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert again is table and not table.flags.writeable
        assert peak < 64 * len(words), "a key of the words, and no table"
        assert engine.text_cache.stats.tables == 1


def test_of_a_changed_vocabulary_only_new_words_are_embedded(
    tiny_plan: Path, tmp_path: Path
) -> None:
    with Engine(tiny_plan, cache_dir=tmp_path) as engine:
        before = engine.class_table(WORDS)
        told: list[tuple[int, int]] = []
        after = engine.class_table(
            [WORDS[2], "a new one", *WORDS[:2]], lambda *progress: told.append(progress)
        )
        templates = len(engine.manifest.text.templates)
        assert told == [(templates, templates)], "of one word"
        np.testing.assert_array_equal(after[[2, 3, 0, 4]], before)


def test_a_warm_vocabulary_never_runs_the_text_graph(tiny_plan: Path, tmp_path: Path) -> None:
    with Engine(tiny_plan, cache_dir=tmp_path) as engine:
        engine.warm(WORDS)
    with Engine(tiny_plan, cache_dir=tmp_path) as engine:
        engine.segment(picture(), WORDS)
        assert "text.onnx" not in engine._runtime._graphs
        assert engine.text_cache.stats.disk_hits == len(WORDS) + 1  # and the background


def test_the_plans_size_with_the_least_padding_is_taken(engine: Engine) -> None:
    assert engine.encode(picture(100, 100)).letterbox.target == (64, 64)
    assert engine.encode(picture(40, 120)).letterbox.target == (32, 96)


def test_synonyms_speak_for_their_class(engine: Engine) -> None:
    grouped = engine.segment(picture(), [["mug", "cup"], "floor"], task="instance")
    assert {info["label"] for info in grouped.segments_info} <= {"mug", "floor"}
    alone = engine.segment(picture(), [["mug"], ["floor"]])
    assert same(alone, engine.segment(picture(), ["mug", "floor"]))


def test_text_embeddings_are_unit_rows_that_do_not_depend_on_company(engine: Engine) -> None:
    rows = engine.embed_text(["a mug", "the very long name of a thing that nobody has seen"])
    assert rows.shape == (2, engine.manifest.text.proj_dim)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(engine.embed_text(["a mug"])[0], rows[0])
    assert engine.embed_text([]).shape == (0, engine.manifest.text.proj_dim)


def test_one_engine_serves_many_threads(engine: Engine) -> None:
    images = [picture(64, 64, seed) for seed in range(4)] + [picture(30, 90, 9)]
    expected = [engine.segment(image, WORDS) for image in images]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda i: engine.segment(images[i % 5], WORDS), range(40)))
    assert all(same(result, expected[i % 5]) for i, result in enumerate(results))


def test_openvino_agrees_with_onnx_runtime(engine: Engine, tiny_plan: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    with Engine(tiny_plan, backend="openvino", cache_dir=tmp_path) as other:
        assert other.backend.name == "openvino"
        for task in ("panoptic", "semantic"):
            ours = engine.segment(picture(), WORDS, task=task).segmentation
            theirs = other.segment(picture(), WORDS, task=task).segmentation
            assert (ours == theirs).mean() >= 0.999


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_graph_with_other_inputs_is_a_plan_of_another_version(
    tiny_plan: Path, backend: str
) -> None:
    pytest.importorskip(backend)
    with Plan.open(tiny_plan) as plan:
        member = plan.manifest.graphs.text
        graph = open_backend(plan.manifest, backend).load("text", partial(plan.graph, member))
    feeds = {name: np.zeros(1) for name in graph.inputs if name != "visible"}
    with pytest.raises(PlanError, match=r"text graph .* takes .*visible.*build the plan again"):
        graph(feeds)


@pytest.mark.parametrize("backend", [None, "onnxruntime", "openvino"])
@pytest.mark.parametrize("folder", ["file", "file/folder"])
def test_an_unwritable_cache_is_one_warning(
    tiny_plan: Path, tmp_path: Path, folder: str, backend: str | None
) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino", reason="needs the extra openvino")
    (tmp_path / "file").write_text("a file where a folder should be")
    with (
        pytest.warns(RuntimeWarning) as caught,
        Engine(tiny_plan, backend, cache_dir=tmp_path / folder) as engine,
    ):
        engine.segment(picture(), WORDS)
        engine.segment(picture(), [*WORDS, "another"])
    assert [w.category for w in caught] == [RuntimeWarning]


def test_a_state_belongs_to_the_engine_that_made_it(
    engine: Engine, tiny_plan: Path, tmp_path: Path
) -> None:
    with Engine(tiny_plan, cache_dir=tmp_path) as other:
        state = other.encode(picture())
    for ask in (
        lambda: engine.segment(state, WORDS),
        lambda: engine.segment([picture(), state], WORDS),
        lambda: engine.decode(state),
        lambda: engine.run(state, embed=True),
        lambda: next(engine.caption_stream(state)),
    ):
        with pytest.raises(ArgumentError, match="another engine"):
            ask()


@pytest.mark.parametrize("texts", ["a mug", np.array(["a", "b"]), 5, None], ids=repr)
def test_texts_that_are_no_list(engine: Engine, texts: object) -> None:
    with pytest.raises(ArgumentError, match="list of texts"):
        engine.embed_text(texts)  # type: ignore[arg-type]


def test_a_graph_that_fails_is_named(tiny_plan: Path, tmp_path: Path) -> None:
    with Engine(tiny_plan, "onnxruntime", cache_dir=tmp_path) as engine:
        graph = engine._runtime._graph("token.onnx")
        with pytest.raises(BackendError, match=r"cannot run the token\.onnx graph"):
            graph({"caption_embedding": np.zeros((1, 3), np.float32)})


def test_thresholds_of_a_call_are_those_of_a_plan_that_has_them(
    engine: Engine, altered: Altered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stricter(manifest: Manifest) -> Manifest:
        rules = replace(manifest.postprocess, object_mask_threshold=0.5, overlap_threshold=0.7)
        return replace(manifest, postprocess=rules)

    overlaps: list[float] = []
    form = postprocess.panoptic

    def noted(*arguments: Any, **options: Any) -> Any:
        overlaps.append(arguments[5])
        return form(*arguments, **options)

    monkeypatch.setattr("xdecoder_rt.runtime.postprocess.panoptic", noted)
    image, given = picture(), {"object_threshold": 0.5, "overlap_threshold": 0.7}
    with Engine(altered(stricter), threads=1, cache_dir=tmp_path / "cache") as strict:
        expected = strict.segment(image, WORDS)
    assert same(engine.segment(image, WORDS, **given), expected)
    fused = engine.run(image, segment=WORDS, **given).segment
    assert fused is not None and same(fused, expected)
    assert engine.segment(image, WORDS).segments_info
    assert overlaps == [0.7, 0.7, 0.7, 0.0]
    assert not engine.segment(image, WORDS, object_threshold=1).segments_info


@pytest.mark.parametrize("name", ["object_threshold", "overlap_threshold"])
def test_a_threshold_is_a_share_and_of_panoptic_output(engine: Engine, name: str) -> None:
    for value in (-0.1, 1.1, float("nan"), "0.4", True):
        with pytest.raises(ArgumentError, match=f"{name} is .*from 0 to 1"):
            engine.segment(picture(), WORDS, **{name: value})
    for task in ("semantic", "instance"):
        with pytest.raises(ArgumentError, match=f"{name} was given for {task} output"):
            engine.segment(picture(), WORDS, task=task, **{name: 0.4})


def test_squashed_images_fill_the_input_and_masks_come_back_in_proportion(
    altered: Altered, tmp_path: Path
) -> None:
    plan = altered(lambda m: replace(m, input=replace(m.input, resize="squash")))
    with Engine(plan, threads=1, cache_dir=tmp_path / "cache") as squashing:
        state = squashing.encode(picture(20, 90))
        assert state.letterbox.valid == state.letterbox.target
        for task in ("panoptic", "semantic", "instance"):
            assert squashing.segment(state, WORDS, task=task).segmentation.shape == (20, 90)
        (found,) = squashing.refer(state, ["the mug"], min_score=0)
        assert found.mask.shape == (20, 90)


def test_a_text_size_serves_captions_and_embeddings_that_are_asked_alone(
    engine: Engine, altered: Altered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = altered(
        lambda m: replace(m, input=replace(m.input, sizes=((64, 64),), text_size=(32, 96)))
    )
    looks: list[Letterbox] = []
    run = ImageState.__init__

    def noted(state: ImageState, letterbox: Letterbox, *rest: Any) -> None:
        looks.append(letterbox)
        run(state, letterbox, *rest)

    image = picture(30, 90)
    own, squashed = (64, 64), Letterbox((30, 90), (32, 96), (32, 96))
    with Engine(plan, threads=1, cache_dir=tmp_path / "cache") as texts:
        monkeypatch.setattr(ImageState, "__init__", noted)
        calls: list[tuple[Callable[[], object], bool]] = [
            (lambda: texts.caption(image, max_tokens=2, beams=1), True),
            (lambda: list(texts.caption_stream(image, max_tokens=2)), True),
            (lambda: texts.embed_image(image), True),
            (lambda: texts.rank([image], ["a mug"]), True),
            (lambda: texts.run(image, embed=True, caption=True, max_tokens=2, beams=1), True),
            (lambda: texts.caption(image, region=(0, 0, 9, 9), max_tokens=2, beams=1), False),
            (lambda: texts.run(image, segment=WORDS, embed=True), False),
            (lambda: texts.segment(image, WORDS), False),
            (lambda: texts.refer(image, ["the mug"]), False),
            (lambda: texts.encode(image), False),
        ]
        for call, is_textual in calls:
            looks.clear()
            call()
            assert len(looks) == 1
            assert looks[0] == squashed if is_textual else looks[0].target == own
        state = texts.encode(image)
        assert (texts.embed_image(state) == texts.run(state, embed=True).embed).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"text_size": (96, 96)}, "input.sizes differ"),
        ({"resize": "short_side"}, "input.short_side goes with the rule 'short_side'"),
        ({"short_side": 64}, "input.short_side goes with the rule 'letterbox'"),
        ({"resize": "short_side", "short_side": 64, "longest_side": 32}, "longest_side is 32"),
        ({"longest_side": 64}, "longest_side is 64"),
        ({"resize": "short_side", "short_side": 0}, "short_side"),
        ({"resize": "crop"}, "resize"),
    ],
)
def test_a_manifest_whose_rule_of_scaling_is_not_whole_is_refused(
    altered: Altered, change: dict[str, object], words: str
) -> None:
    with pytest.raises(PlanError, match=words):
        Engine(altered(lambda m: replace(m, input=replace(m.input, **change))))


def test_a_graph_that_the_manifest_contradicts_is_refused(altered: Altered, tmp_path: Path) -> None:
    plan = altered(lambda manifest: replace(manifest, text=replace(manifest.text, heads=1)))
    with (
        Engine(plan, "onnxruntime", cache_dir=tmp_path) as engine,
        pytest.raises(PlanError, match=r"text\.onnx.*past_keys_0.*as the manifest has it"),
    ):
        engine.embed_text(["mug"])


@pytest.mark.parametrize(
    "vocabulary",
    [
        [],
        [""],
        ["mug", " "],
        ["mug", "mug"],
        ["mug", ["cup", "mug"]],
        [[]],
        ["a" * 1_000_000],
        ["nul\0"],
        ["\ud800"],
        [3],
        "mug",
        None,
    ],
    ids=lambda value: repr(value)[:24],
)
def test_vocabularies_that_cannot_be_asked(engine: Engine, vocabulary: object) -> None:
    with pytest.raises(VocabularyError):
        engine.segment(picture(), vocabulary)  # type: ignore[call-overload]


def test_odd_vocabularies_that_can_be_asked(engine: Engine) -> None:
    engine.segment(picture(), ["🦆", "日本語", "x" * 900])
    many = [f"thing {i}" for i in range(10_000)]
    assert engine.segment(picture(), many).segmentation.shape == (50, 70)


def test_what_is_only_stuff_is_looked_for_too(engine: Engine) -> None:
    image = picture()
    result = engine.segment(image, WORDS, stuff=["wall"])
    expected = engine.segment(image, [*WORDS, "wall"], stuff=["wall"])
    assert np.array_equal(result.segmentation, expected.segmentation)
    assert result.segments_info == expected.segments_info
    with pytest.raises(VocabularyError, match="list"):
        engine.segment(picture(), WORDS, stuff="floor")


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((0, 0, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.full((4, 4, 3), np.nan),
        np.zeros((4, 4, 7), np.uint8),
        "no such file.png",
        42,
    ],
    ids=["empty", "float", "nan", "channels", "missing", "number"],
)
def test_images_that_cannot_be_read(engine: Engine, image: object) -> None:
    with pytest.raises(ImageError):
        engine.segment(image, WORDS)  # type: ignore[call-overload]


def test_images_of_every_layout(engine: Engine) -> None:
    array = picture()
    expected = engine.segment(array, WORDS)
    frozen = array.copy()
    frozen.setflags(write=False)
    strided = np.repeat(array, 2, axis=1)[:, ::2]
    assert not strided.flags.c_contiguous
    for variant in (frozen, strided, np.dstack([array, np.full((50, 70), 255, np.uint8)])):
        assert same(expected, engine.segment(variant, WORDS))
    assert engine.segment(array[..., 0], WORDS).segmentation.shape == (50, 70)
    assert engine.segment(picture(3, 20_000), WORDS).segmentation.shape == (3, 20_000)


def test_every_call_takes_arrays_of_opencv(engine: Engine) -> None:
    rgb = picture()
    bgr = np.ascontiguousarray(rgb[:, :, ::-1])
    phrases = ["the red mug", "a floor"]

    def answers(image: np.ndarray, **order: str) -> list[object]:
        state = engine.encode(image, **order)
        run = engine.run([image], segment=WORDS, refer=phrases, caption=True, embed=True, **order)
        return [
            {name: engine.backend.to_numpy(value).tolist() for name, value in state.values.items()},
            *(engine.segment(image, WORDS, task=t, **order).to_dict() for t in ("panoptic",)),
            engine.segment([image, image], WORDS, **order)[1].to_dict(),
            [reference.to_dict() for reference in engine.refer(image, phrases, **order)],
            engine.caption(image, max_tokens=3, **order),
            list(engine.caption_stream(image, max_tokens=3, **order)),
            engine.answer(image, "what is it?", ["mug", "floor"], **order),
            engine.embed_image(image, **order).tolist(),
            engine.rank([image], phrases, **order).to_dict(),
            engine.find([image], "the mug", **order).to_dict(),
            engine.decode(image, **order).latents.class_embedding.tolist(),
            run[0].to_dict(),
        ]

    assert answers(bgr, channels="bgr") == answers(rgb)
    assert answers(bgr)[0] != answers(rgb)[0]


def test_the_channels_of_a_state_are_known_and_wrong_ones_are_refused(engine: Engine) -> None:
    state = engine.encode(picture())
    assert same(engine.segment(state, WORDS, channels="bgr"), engine.segment(state, WORDS))
    for image in (state, picture(), [picture()]):
        with pytest.raises(ArgumentError, match="channels is 'gbr'"):
            engine.segment(image, WORDS, channels="gbr")


def test_unknown_tasks_backends_and_devices(engine: Engine, tiny_plan: Path) -> None:
    with pytest.raises(ArgumentError, match="panoptic"):
        engine.segment(picture(), WORDS, task="everything")
    with pytest.raises(BackendError, match="onnxruntime"):
        Engine(tiny_plan, backend="abacus")
    with pytest.raises(BackendError, match="cuda"):
        Engine(tiny_plan, device="cuda:0")
    with pytest.raises(ArgumentError, match="threads"):
        Engine(tiny_plan, threads=0)


def test_a_closed_engine_says_so(tiny_plan: Path, tmp_path: Path) -> None:
    engine = Engine(tiny_plan, cache_dir=tmp_path)
    engine.close()
    engine.close()
    with pytest.raises(ArgumentError, match="closed"):
        engine.segment(picture(), WORDS)
    with pytest.raises(ArgumentError, match="closed"):
        engine.embed_text(["mug"])


def test_files_that_are_no_plans(tmp_path: Path) -> None:
    with pytest.raises(PlanError):
        Engine(tmp_path / "absent.plan")
    (tmp_path / "text.plan").write_text("not a plan")
    with pytest.raises(PlanError):
        Engine(tmp_path / "text.plan")


def test_a_graph_that_is_no_graph_is_named(tiny_plan: Path, tmp_path: Path) -> None:
    from xdecoder_rt.plan.file import Plan, write_plan

    with Plan.open(tiny_plan) as plan:
        members = {name: plan.read(name) for name in plan.names}
        members["vision_64x64.onnx"] = b"\x08\x08 no ONNX model at all"
        write_plan(tmp_path / "broken.plan", plan.manifest, members)
    with (
        Engine(tmp_path / "broken.plan", cache_dir=tmp_path) as engine,
        pytest.raises(PlanError, match=r"vision_64x64\.onnx"),
    ):
        engine.segment(picture(64, 64), WORDS)


def test_known_words_need_no_tokenizer_and_new_ones_say_that_it_is_broken(
    tiny_plan: Path, tmp_path: Path
) -> None:
    from xdecoder_rt.plan.file import write_plan

    with Engine(tiny_plan, cache_dir=tmp_path) as engine:
        before = engine.segment(picture(), WORDS)
    with Plan.open(tiny_plan) as plan:
        members = {name: plan.read(name) for name in plan.names}
        members[plan.manifest.text.tokenizer] = b"[]"
        write_plan(tmp_path / "broken.plan", plan.manifest, members)
    with Engine(tmp_path / "broken.plan", cache_dir=tmp_path) as engine:
        assert same(engine.segment(picture(), WORDS), before)
        for words in (["a word of which no cache knows"], ["é"]):
            with pytest.raises(PlanError, match="tokenizer"):
                engine.segment(picture(), words)


def test_the_runtime_needs_no_pytorch(tiny_plan: Path, tmp_path: Path) -> None:
    code = (
        "import sys, numpy, xdecoder_rt\n"
        f"with xdecoder_rt.Engine({str(tiny_plan)!r}, cache_dir={str(tmp_path)!r}) as engine:\n"
        "    engine.segment(numpy.zeros((9, 9, 3), numpy.uint8), ['mug'])\n"
        "print([m for m in ('torch', 'onnx', 'scipy', 'matplotlib', 'cv2') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
