"""Results convert to what other tools read, draw over their own image only, and may be empty."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageFont

import xdecoder_rt
from xdecoder_rt.drawing import picture as drawing
from xdecoder_rt.drawing.labels import LabelPlacer
from xdecoder_rt.drawing.outlines import RegionOutline, paint_outlines
from xdecoder_rt.drawing.strip import KeyEntry, Note, with_strip
from xdecoder_rt.errors import ArgumentError, ImageError, MissingExtraError
from xdecoder_rt.masks.rle import decode_mask, encode_mask
from xdecoder_rt.results import (
    Answer,
    Caption,
    Finding,
    Output,
    Ranking,
    Reference,
    Segmentation,
    box_of_mask,
)

HEIGHT, WIDTH = 60, 80
MASKS = hnp.arrays(bool, st.tuples(st.integers(1, 30), st.integers(1, 30)))


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture
def panoptic() -> Segmentation:
    segmentation = np.zeros((HEIGHT, WIDTH), np.int32)
    segmentation[40:] = 1
    segmentation[10:30, 5:35] = 4
    segmentation[20:50, 50:70] = 9
    infos = [
        {"id": 1, "label_id": 2, "label": "floor", "score": 0.9, "isthing": False},
        {"id": 4, "label_id": 0, "label": "mug", "score": 0.8, "isthing": True},
        {"id": 9, "label_id": 0, "label": "mug", "score": 0.7, "isthing": True},
    ]
    for info in infos:
        info["area"] = int((segmentation == info["id"]).sum())
    return Segmentation(segmentation, infos)


@pytest.fixture
def instance() -> Segmentation:
    masks = np.zeros((2, HEIGHT, WIDTH), bool)
    masks[0, 10:40, 10:50] = True
    masks[1, 30:55, 30:70] = True
    segmentation = np.where(masks[0], 1, np.where(masks[1], 2, 0)).astype(np.int32)
    infos = [
        {"id": k + 1, "label_id": k, "label": "abc"[k], "score": 0.9 - k / 10, "isthing": True}
        | {"area": int(masks[k].sum())}
        for k in range(2)
    ]
    return Segmentation(
        segmentation,
        infos,
        "instance",
        masks=masks,
        scores=np.array([0.9, 0.8], np.float32),
        label_ids=np.array([0, 1], np.int32),
        boxes=np.array([[10, 10, 50, 40], [30, 30, 70, 55]], np.float32),
    )


@pytest.fixture
def semantic() -> Segmentation:
    segmentation = np.full((HEIGHT, WIDTH), -1, np.int32)
    segmentation[:20], segmentation[30:] = 0, 2
    infos = [
        {"id": k, "label_id": k, "label": f"class {k}", "score": 0.5, "area": area, "isthing": True}
        for k, area in ((0, 20 * WIDTH), (2, 30 * WIDTH))
    ]
    return Segmentation(segmentation, infos, "semantic")


@pytest.fixture
def reference() -> Reference:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[5:25, 30:60] = True
    return Reference("the red mug", mask, 0.6, box_of_mask(mask))


def empty_results() -> list[Segmentation]:
    nothing = np.zeros((HEIGHT, WIDTH), np.int32)
    no_instances = Segmentation(
        nothing,
        [],
        "instance",
        masks=np.zeros((0, HEIGHT, WIDTH), bool),
        scores=np.zeros(0, np.float32),
        label_ids=np.zeros(0, np.int32),
        boxes=np.zeros((0, 4), np.float32),
    )
    return [Segmentation(nothing, []), Segmentation(nothing - 1, [], "semantic"), no_instances]


# --- run lengths, against COCO's own code ---------------------------------------------------------


@given(MASKS)
@settings(deadline=None)
def test_run_lengths_round_trip(mask):
    np.testing.assert_array_equal(decode_mask(encode_mask(mask)), mask)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@given(MASKS)
@settings(deadline=None)
def test_run_lengths_are_those_of_pycocotools(mask):
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    wanted = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert encode_mask(mask) == {"size": wanted["size"], "counts": wanted["counts"].decode()}
    np.testing.assert_array_equal(mask, coco.decode(wanted).astype(bool))


@pytest.mark.parametrize("shape", [(1, 1), (700, 900), (1, 5000), (3000, 1)])
@pytest.mark.parametrize("kind", ["none", "all", "noise", "one pixel"])
def test_run_lengths_of_large_masks(shape, kind):
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    mask = np.zeros(shape, bool)
    if kind == "all":
        mask[:] = True
    elif kind == "noise":
        mask = np.random.default_rng(0).random(shape) < 0.3
    elif kind == "one pixel":
        mask[shape[0] // 2, shape[1] // 2] = True
    wanted = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    assert encode_mask(mask)["counts"] == wanted


def test_run_lengths_that_do_not_fit():
    with pytest.raises(ArgumentError, match="Run 1 of a mask has 16 pixels"):
        decode_mask({"size": [3, 3], "counts": encode_mask(np.ones((4, 4), bool))["counts"]})


# --- masks and boxes ------------------------------------------------------------------------------


@given(MASKS)
@settings(deadline=None)
def test_boxes_are_tight(mask):
    left, top, right, bottom = box_of_mask(mask).astype(int)
    assert mask.sum() == mask[top:bottom, left:right].sum()
    if mask.any():
        inside = mask[top:bottom, left:right]
        assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
    else:
        assert (left, top, right, bottom) == (0, 0, 0, 0)


def test_masks_of_segments(panoptic, semantic, instance):
    for result in (panoptic, semantic, instance):
        assert result.size == (HEIGHT, WIDTH) and len(result) == len(result.segments_info)
        for index, info in enumerate(result.segments_info):
            assert result.mask(index).dtype == bool and result.mask(index).sum() == info["area"]


# --- conversions ----------------------------------------------------------------------------------


def test_supervision(panoptic, semantic, instance):
    supervision = pytest.importorskip("supervision", reason="supervision is not installed")
    for result in (panoptic, semantic, instance):
        detections = result.to_supervision()
        assert isinstance(detections, supervision.Detections) and len(detections) == len(result)
        for index, info in enumerate(result.segments_info):
            np.testing.assert_array_equal(detections.mask[index], result.mask(index))
            np.testing.assert_array_equal(detections.xyxy[index], box_of_mask(result.mask(index)))
            assert detections.class_id[index] == info["label_id"]
            assert detections.data["class_name"][index] == info["label"]
            assert detections.confidence[index] == pytest.approx(info["score"])


def test_the_usual_label_loop_runs_on_nothing(image):
    supervision = pytest.importorskip("supervision", reason="supervision is not installed")
    for result in empty_results():
        detections = result.to_supervision()
        assert len(detections) == 0 and detections.is_empty()
        labels = [
            f"{name} {confidence:.2f}"
            for name, confidence in zip(
                detections.data["class_name"], detections.confidence, strict=True
            )
        ]
        assert labels == [] and detections["class_name"].dtype.kind == "U"
        assert detections.mask.shape == (0, HEIGHT, WIDTH) and detections.mask.dtype == bool
        assert detections.xyxy.shape == (0, 4) and detections.class_id.dtype.kind == "i"
        scene = image.copy()
        for annotator in (supervision.MaskAnnotator(), supervision.BoxAnnotator()):
            scene = annotator.annotate(scene, detections)
        scene = supervision.LabelAnnotator().annotate(scene, detections, labels)
        np.testing.assert_array_equal(scene, image)
        assert len(detections[detections.confidence > 0.5]) == 0


def test_what_was_found_and_nothing_merge(panoptic):
    supervision = pytest.importorskip("supervision", reason="supervision is not installed")
    parts = [result.to_supervision() for result in (panoptic, *empty_results(), panoptic)]
    merged = supervision.Detections.merge(parts)
    assert list(merged["class_name"]) == 2 * [info["label"] for info in panoptic.segments_info]


def test_supervision_is_named_when_it_is_missing(panoptic, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingExtraError, match=r'pip install "xdecoder_rt\[supervision\]"'):
        panoptic.to_supervision()


def test_coco(panoptic, instance, tmp_path):
    for result in (panoptic, instance):
        annotations = result.to_coco(image_id=7)
        assert json.loads(json.dumps(annotations)) == annotations
        for index, annotation in enumerate(annotations):
            mask = decode_mask(annotation["segmentation"])
            np.testing.assert_array_equal(mask, result.mask(index))
            x, y, width, height = (int(value) for value in annotation["bbox"])
            assert mask[y : y + height, x : x + width].sum() == mask.sum() == annotation["area"]
            assert annotation["image_id"] == 7 and annotation["iscrowd"] == 0


def test_coco_ids_are_positive_and_go_on_from_the_first(panoptic, semantic, instance):
    for result in (panoptic, semantic, instance, *empty_results()):
        count = len(result)
        for first in (1, 1000, np.int64(7)):
            annotations = result.to_coco(np.int32(3), first_id=first)
            assert [a["id"] for a in annotations] == list(range(int(first), int(first) + count))
            assert json.loads(json.dumps(annotations)) == annotations
        assert [a["id"] for a in result.to_coco()] == list(range(1, count + 1))
    with pytest.raises(ArgumentError, match="no category id"):
        panoptic.to_coco(1, {})
    for wrong in (0, -1, True, 1.0, "1", None):
        with pytest.raises(ArgumentError, match="first_id is"):
            panoptic.to_coco(1, first_id=wrong)
    for wrong in (-1, True, 1.5, None):
        with pytest.raises(ArgumentError, match="image_id is"):
            panoptic.to_coco(wrong)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_coco_is_read_by_pycocotools(instance, tmp_path):
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    document = {
        "images": [{"id": 1, "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": 17, "name": "a"}, {"id": 18, "name": "b"}],
        "annotations": instance.to_coco(1, {"a": 17, "b": 18}),
    }
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(document))
    data = coco.COCO(str(path))
    for index, annotation in enumerate(data.loadAnns(data.getAnnIds(catIds=[17, 18]))):
        np.testing.assert_array_equal(
            data.annToMask(annotation).astype(bool), instance.masks[index]
        )
    with pytest.raises(ArgumentError, match="'b' has no category id"):
        instance.to_coco(1, {"a": 17})


def test_everything_as_json(panoptic, semantic, instance, reference):
    for result in [panoptic, semantic, instance, *empty_results()]:
        document = json.loads(json.dumps(result.to_dict()))
        assert (document["height"], document["width"]) == (HEIGHT, WIDTH)
        assert len(document["segments"]) == len(result)
    output = Output(
        segment=panoptic,
        refer=[reference],
        caption=Caption("a mug", -0.5),
        answer=Answer("red", 0.9, {"red": 0.9, "blue": 0.1}),
        embed=np.ones(4, np.float32) / 2,
    )
    document = json.loads(json.dumps(output.to_dict()))
    assert list(document) == ["segment", "caption", "answer", "refer", "embed"]
    assert document["refer"][0]["box"] == [30, 5, 60, 25]
    assert document["answer"]["scores"] == {"red": 0.9, "blue": 0.1}
    assert Output().to_dict() == {}


def test_rankings_go_both_ways():
    scores = np.array([[0.1, 0.9], [0.5, 0.2], [0.5, 0.3]], np.float32)
    ranking = Ranking(("a mug", "a fork"), scores)
    assert ranking.images(0) == [1, 2, 0] and ranking.images(1) == [0, 2, 1]
    assert ranking.best_texts(0) == [1, 0] and ranking.best_texts(1) == [0, 1]
    document = json.loads(json.dumps(ranking.to_dict()))
    assert document["texts"] == ["a mug", "a fork"]
    np.testing.assert_allclose(document["scores"], scores)


def test_a_finding_names_the_image_and_the_place(reference):
    document = json.loads(json.dumps(Finding(2, 0.5, reference).to_dict()))
    assert (document["image"], document["score"]) == (2, 0.5)
    assert document["reference"]["phrase"] == "the red mug"


# --- drawing --------------------------------------------------------------------------------------


def test_a_drawing_has_the_images_size_and_leaves_the_image_alone(panoptic, image):
    before = image.copy()
    drawn = panoptic.draw(image)
    assert isinstance(drawn, Image.Image) and drawn.mode == "RGB" and drawn.size == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(image, before)
    changed = (np.asarray(drawn) != image).any(axis=2)
    assert changed[panoptic.segmentation > 0].mean() > 0.95
    np.testing.assert_array_equal(np.asarray(drawn), np.asarray(panoptic.draw(image)))


def test_a_picture_over_an_array_of_opencv_has_its_true_colours(panoptic, reference, image):
    bgr = np.ascontiguousarray(image[:, :, ::-1])
    for result in (panoptic, reference, Output(segment=panoptic, refer=[reference])):
        drawn = result.draw(bgr, channels="bgr")
        np.testing.assert_array_equal(np.asarray(drawn), np.asarray(result.draw(image)))


def test_other_kinds_of_results_draw_too(semantic, instance, reference, image):
    for result in (semantic, instance, reference):
        assert (np.asarray(result.draw(image)) != image).any()
    output = Output(segment=instance)
    assert output.draw(Image.fromarray(image)).size == (WIDTH, HEIGHT)


def test_nothing_found_draws_the_image_itself(image):
    empty = Reference("nothing", np.zeros((HEIGHT, WIDTH), bool), 0.0, np.zeros(4, np.float32))
    for result in [*empty_results(), empty, Output(), Output(refer=[])]:
        np.testing.assert_array_equal(np.asarray(result.draw(image)), image)


def test_an_image_of_another_size_is_refused(panoptic, reference, image):
    for result in (panoptic, reference, Output(refer=[reference])):
        with pytest.raises(ImageError, match="79 x 60 pixels and the result is 80 x 60"):
            result.draw(image[:, 1:])


def test_things_stand_out_more_than_stuff():
    grey = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    indices = np.ones((HEIGHT, WIDTH), np.int32)
    corner = [
        np.asarray(
            drawing.draw_map(grey, indices, [drawing.LabelledRegion("x", 1.0, 0, is_quiet)])
        )[1, 1]
        for is_quiet in (False, True)
    ]
    thing, stuff = (np.abs(pixel.astype(int) - 128).sum() for pixel in corner)
    assert thing > stuff > 0


def strength(result: Segmentation | Reference | Output, image: np.ndarray) -> float:
    """How much a drawing changes its image where nothing is written."""
    drawn = np.asarray(result.draw(image, font=None))[: image.shape[0], : image.shape[1]]
    return float(np.abs(drawn.astype(int) - image)[30:, :20].mean())


@pytest.mark.parametrize("kind", ["segment", "reference", "output"])
def test_the_less_sure_something_is_the_paler_it_is_drawn(kind):
    grey = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[2:-2, 2:-2] = True

    def drawn(score: float) -> Segmentation | Reference | Output:
        info = {"id": 1, "label_id": 0, "label": "x", "score": score, "isthing": True}
        if kind == "segment":
            return Segmentation(mask.astype(np.int32), [info | {"area": int(mask.sum())}])
        reference = Reference("x", mask, score, box_of_mask(mask))
        return reference if kind == "reference" else Output(refer=[reference])

    strengths = [strength(drawn(score), grey) for score in (0.0, 0.1, 0.25, 0.4, 0.5)]
    assert strengths == sorted(set(strengths)) and 0 < strengths[0] < strengths[-1] / 2
    # From 50 % on everything is as strong.
    sure = [np.asarray(drawn(score).draw(grey))[HEIGHT - 8 : HEIGHT] for score in (0.5, 0.99)]
    if kind != "output":  # its strip says the score
        np.testing.assert_array_equal(*sure)


def test_the_outline_of_what_is_unsure_is_dashed():
    pixels = np.full((200, 200, 3), 128, np.uint8)
    mask = np.zeros((200, 200), bool)
    mask[40:160, 40:160] = True
    shares = []
    for score in (0.49, 0.5):
        painted = pixels.copy()
        paint_outlines(painted, [RegionOutline(mask, "", (250, 10, 10), score)], filled=False)
        shares.append((painted[40, 40:160] == (250, 10, 10)).all(axis=1).mean())
    assert 0.3 < shares[0] < 0.7 and shares[1] == 1.0
    # A segment's line, at the seam of two bands of rows, too.
    tall = np.ones((600, 100), np.int32)
    tall[:, :40] = 0
    grey = np.full((*tall.shape, 3), 128, np.uint8)
    lines = [
        np.asarray(drawing.draw_map(grey, tall, [drawing.LabelledRegion("", score, 0, True)]))
        for score in (0.3, 0.9)
    ]
    fills = [np.abs(line[:, 90].astype(int) - line[:, 40]).any(axis=1) for line in lines]
    assert 0.3 < fills[0].mean() < 0.7 and fills[1].mean() > 0.95
    runs = np.diff(np.flatnonzero(np.diff(fills[0][20:-20].astype(int))))
    assert runs.max() - runs.min() <= 2, "dashes are of one length"


def test_texts_of_what_is_unsure_are_quiet(image, reference):
    mask = reference.mask
    strips = [
        np.asarray(Output(refer=[Reference("mug", mask, score, reference.box)]).draw(image))[
            HEIGHT:
        ]
        for score in (0.49, 0.5)
    ]
    answers = [
        np.asarray(Output(answer=Answer("red", score, {"red": score})).draw(image))[HEIGHT:]
        for score in (0.49, 0.5)
    ]
    for unsure, sure in (strips, answers):
        assert unsure.max() < sure.max()


def test_colours_are_stable_and_distinct():
    colours = [drawing.colour(index) for index in range(12)]
    assert colours == [drawing.colour(index) for index in range(12)]
    for index, one in enumerate(colours):
        for other in colours[:index]:
            assert max(abs(a - b) for a, b in zip(one, other, strict=True)) > 25
    assert drawing.colour(3, 1) != drawing.colour(3, 0)


MAPS = hnp.arrays(
    np.int32, st.tuples(st.integers(1, 70), st.integers(1, 70)), elements=st.integers(0, 5)
)


@given(
    indices=MAPS,
    labels=st.lists(st.text(max_size=50), min_size=5, max_size=5),
    quiet=st.lists(st.booleans(), min_size=5, max_size=5),
)
@settings(deadline=None)
def test_any_map_and_any_label_can_be_drawn(indices, labels, quiet):
    regions = [drawing.LabelledRegion(labels[k], 0.5, k, quiet[k]) for k in range(5)]
    pixels = np.zeros((*indices.shape, 3), np.uint8)
    drawn = drawing.draw_map(pixels, indices, regions)
    assert drawn.size == indices.shape[::-1]


def test_labels_do_not_lie_on_one_another():
    indices = np.zeros((200, 300), np.int32)
    for k in range(12):
        indices[10 + 60 * (k // 4) : 50 + 60 * (k // 4), 10 + 70 * (k % 4) : 60 + 70 * (k % 4)] = (
            k + 1
        )
    placer = LabelPlacer(indices, [False] * 12)
    covered = np.zeros(indices.shape, int)
    for k in range(12):
        place = placer.take(k + 1, (44, 14))
        assert place is not None and place.anchor is None
        covered[place.y : place.y + 14, place.x : place.x + 44] += 1
        inside = indices[place.y : place.y + 14, place.x : place.x + 44]
        assert (inside == k + 1).mean() > 0.9
    assert covered.max() == 1


def test_a_small_segment_has_its_label_beside_it():
    indices = np.zeros((100, 100), np.int32)
    indices[50:56, 50:56] = 1
    place = LabelPlacer(indices, [False]).take(1, (40, 14))
    assert place is not None and place.anchor == (52, 52)
    assert not (indices[place.y : place.y + 14, place.x : place.x + 40] == 1).any()


def test_a_label_larger_than_the_image_has_no_place():
    placer = LabelPlacer(np.ones((20, 20), np.int32), [False])
    assert placer.take(1, (30, 10)) is None
    assert placer.take(2, (5, 5)) is None


def test_fonts(panoptic, image, tmp_path):
    (tmp_path / "font.ttf").write_bytes(b"not a font")
    for path in (tmp_path / "font.ttf", tmp_path / "none.ttf"):
        with pytest.raises(ArgumentError, match="cannot be read"):
            panoptic.draw(image, font=str(path))
    assert isinstance(ImageFont.load_default(12), ImageFont.FreeTypeFont)


# --- outlines, and the strip of texts -------------------------------------------------------------


def strip_of(output: Output, image: np.ndarray, **options: str) -> np.ndarray:
    """What lies under the image."""
    return np.asarray(output.draw(image, **options))[image.shape[0] :]


def test_phrases_caption_and_answer_stand_under_the_image(panoptic, reference, image):
    answer = Answer("red", 0.9, {"red": 0.9, "blue": 0.1})
    heights = [
        len(strip_of(output, image))
        for output in (
            Output(segment=panoptic),
            Output(segment=panoptic, caption=Caption("a mug", -1.0)),
            Output(segment=panoptic, caption=Caption("a mug", -1.0), answer=answer),
            Output(panoptic, [reference], Caption("a mug", -1.0), answer),
        )
    ]
    assert heights[0] == 0
    assert heights == sorted(set(heights))
    asked = strip_of(Output(answer=answer), image, question="what colour is it?")
    assert len(asked) > len(strip_of(Output(answer=answer), image))


def test_a_phrase_without_a_region_is_named_all_the_same(image):
    nothing = Reference("nothing", np.zeros((HEIGHT, WIDTH), bool), 0.0, np.zeros(4, np.float32))
    drawn = np.asarray(Output(refer=[nothing]).draw(image))
    np.testing.assert_array_equal(drawn[:HEIGHT, :WIDTH], image)
    assert len(drawn) > HEIGHT


def test_segments_show_through_the_outlines(panoptic, reference, image):
    plain = np.asarray(panoptic.draw(image)).astype(int)
    both = np.asarray(Output(segment=panoptic, refer=[reference]).draw(image)).astype(int)
    changed = (plain != both[:HEIGHT, :WIDTH]).any(axis=2)
    assert 0 < changed[reference.mask].mean() < 0.7


def test_outlines_lie_along_the_border():
    mask = np.zeros((60, 80), bool)
    mask[20:40, 20:60] = True
    pixels = np.full((60, 80, 3), 128, np.uint8)
    paint_outlines(pixels, [RegionOutline(mask, "1", (255, 0, 0))], filled=False)
    red = (pixels == (255, 0, 0)).all(axis=2)
    assert red[20, 20:60].all() and red[20:40, 59].all()
    assert not red[~mask].any() and (pixels[24:36, 24:56] == 128).all()
    assert (pixels[19, 20:60] < 60).all()  # the casing
    assert (pixels[:15] == 128).all()


def test_the_border_of_the_picture_closes_an_outline():
    pixels = np.zeros((30, 40, 3), np.uint8)
    paint_outlines(pixels, [RegionOutline(np.ones((30, 40), bool), "1", (9, 99, 9))], filled=False)
    green = (pixels == (9, 99, 9)).all(axis=2)
    assert green[0].all() and green[-1].all() and green[:, 0].all() and green[:, -1].all()


def test_names_of_one_thing_share_its_outline():
    mask = np.zeros((100, 100), bool)
    mask[20:80, 20:80] = True
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    pixels = np.zeros((100, 100, 3), np.uint8)
    paint_outlines(pixels, [RegionOutline(mask, "", colour) for colour in colours], filled=False)
    shares = [int((pixels == colour).all(axis=2).sum()) for colour in colours]
    assert min(shares) > 0.2 * sum(shares)


def test_a_badge_stands_at_the_densest_part():
    mask = np.zeros((200, 300), bool)
    mask[10:40, 10:40] = mask[190:194, 280:284] = mask[100:103, 290:293] = True
    placer = LabelPlacer(np.zeros((200, 300), np.int32), [])
    place = placer.take_mask(mask, (12, 12))
    assert place is not None and mask[place.y : place.y + 12, place.x : place.x + 12].all()


def test_a_badge_finds_a_region_of_one_pixel():
    mask = np.zeros((400, 600), bool)
    mask[201, 303] = True
    place = LabelPlacer(np.zeros((400, 600), np.int32), []).take_mask(mask, (20, 20))
    assert place is not None and place.anchor is not None
    assert np.hypot(place.anchor[0] - 303, place.anchor[1] - 201) < 6


@pytest.mark.parametrize("size", [(1, 1), (1, 1000), (1000, 1), (2, 3000), (30, 20_000)])
def test_thin_pictures_are_drawn(size):
    image, mask = np.full((*size, 3), 200, np.uint8), np.zeros(size, bool)
    mask[0, 0] = True
    reference = Reference("a mug", mask, 0.5, box_of_mask(mask))
    drawn = Output(refer=[reference]).draw(image)
    assert drawn.height > size[0] and drawn.width >= size[1]


def test_nothing_is_placed_outside_of_the_picture():
    mask = np.ones((70, 20_000), bool)
    placer = LabelPlacer(mask.astype(np.int32), [False])
    assert placer.take_mask(mask, (40, 71)) is None
    place = placer.take(1, (40, 70))
    assert place is not None and place.y == 0


TEXTS = st.text(max_size=60)


@given(
    size=st.tuples(st.integers(1, 400), st.integers(1, 300)),
    key=st.lists(st.tuples(TEXTS, st.sampled_from(["83%", "not found"])), max_size=9),
    notes=st.lists(st.tuples(TEXTS, TEXTS), max_size=3),
)
@settings(deadline=None, max_examples=40)
def test_a_strip_leaves_the_picture_whole(size, key, notes):
    picture = Image.new("RGB", size, (200, 30, 30))
    entries = [KeyEntry(str(k), (9, 9, 99), *one) for k, one in enumerate(key)]
    drawn = with_strip(picture, entries, [Note(*note, "5%") for note in notes])
    assert drawn.crop((0, 0, *size)).tobytes() == picture.tobytes()
    assert (drawn.size == size) == (not key and not notes)
    assert drawn.width >= size[0]


def test_long_texts_are_wrapped_and_end():
    picture = Image.new("RGB", (160, 120))
    heights = [
        with_strip(picture, notes=[Note(text)]).height
        for text in ("a mug", "a mug " * 12, "a mug " * 1000, "m" * 100_000)
    ]
    assert heights[0] < heights[1] < heights[2] == heights[3] < 3 * picture.height


def test_many_short_phrases_stand_in_columns():
    picture = Image.new("RGB", (1280, 720))
    entries = [KeyEntry(str(k), (200, 200, 0), "a mug", "50%") for k in range(12)]
    rows = [with_strip(picture, entries[:count]).height for count in (1, 4, 12)]
    assert rows[0] == rows[1] and rows[2] - picture.height < 4 * (rows[0] - picture.height)


# --- the package ----------------------------------------------------------------------------------


def test_importing_the_package_imports_no_heavy_package():
    code = (
        "import sys, xdecoder_rt\n"
        "assert xdecoder_rt.__version__\n"
        "print(*sys.modules)\n"
        "import xdecoder_rt.results\n"
        "xdecoder_rt.Vocabulary, xdecoder_rt.Plan, xdecoder_rt.XDecoderError\n"
        "print(*sys.modules)"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    light, used = (set(line.split()) for line in child.stdout.splitlines())
    heavy = {"torch", "onnx", "scipy", "matplotlib", "cv2", "supervision", "pycuda", "tensorrt"}
    assert not heavy & used
    assert not {"numpy", "PIL", "onnxruntime", "tokenizers"} & light


def test_the_names_of_the_package():
    for name in xdecoder_rt.__all__:
        if name != "Engine":
            assert getattr(xdecoder_rt, name) is not None
    assert set(xdecoder_rt.__all__) <= set(dir(xdecoder_rt))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = xdecoder_rt.no_such_name
    assert issubclass(xdecoder_rt.errors.ImageError, builtins.ValueError)
