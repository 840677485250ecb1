"""Public data sets in their own layouts, measured by the protocols of the published figures."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import public_folders as folders
import pytest
from public_folders import HEIGHT, SIZE, WIDTH, quarters

from xdecoder_rt.datasets.class_lists import CLASS_LISTS, class_list
from xdecoder_rt.datasets.published import open_published
from xdecoder_rt.datasets.truth import PanopticTruth, TruthItem, TruthSet
from xdecoder_rt.errors import ArgumentError, DatasetError
from xdecoder_rt.evaluation.protocols import PROTOCOLS, protocol_named
from xdecoder_rt.evaluation.published import evaluate_published, vocabulary_of
from xdecoder_rt.evaluation.report import EvaluationReport
from xdecoder_rt.masks.rle import decode_mask
from xdecoder_rt.pixels.letterbox import Letterbox, ResizeRule
from xdecoder_rt.words.files import read_words
from xdecoder_rt.words.vocabulary import Vocabulary

pytest.importorskip("pycocotools", reason="needs pycocotools")


@dataclass
class Answer:
    """What an engine answers, of whatever task."""

    segmentation: Any = None
    segments_info: list[dict[str, Any]] = field(default_factory=list)
    masks: Any = None
    label_ids: Any = None
    scores: Any = None
    mask: Any = None
    text: str = ""


@dataclass
class Part:
    sizes: tuple[tuple[int, int], ...] = ((1024, 2048),)
    interpolation: str = "bilinear"
    overlap_threshold: float = 0.8
    piece_share: float = 0.0
    instance_topk: int = 100
    max_phrases: int = 8

    def place(self, source: tuple[int, int]) -> Letterbox:
        return ResizeRule("letterbox").place(source, self.sizes)


@dataclass
class Manifest:
    tasks: tuple[str, ...] = ("segment", "refer", "caption", "embed")
    input: Part = field(default_factory=Part)
    postprocess: Part = field(default_factory=Part)
    decoder: Part = field(default_factory=Part)


@dataclass
class Oracle:
    """Answers with the truth of the items in their order, and notes what it was asked."""

    data: TruthSet
    manifest: Manifest = field(default_factory=Manifest)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    images: int = 0

    def encode(self, image: np.ndarray) -> TruthItem:
        self.images += 1
        return self.data.items[self.images - 1]

    def segment(self, item: TruthItem, vocabulary: Any, *, task: str, min_score: float) -> Answer:
        self.asked.append((task, vocabulary))
        assert min_score == 0
        if task == "semantic":
            return Answer(np.maximum(item.semantic(), 0))
        if task == "instance":
            truth = [instance for instance in item.instances() if not instance.iscrowd]
            masks = [decode_mask(instance.runs) for instance in truth]
            return Answer(
                masks=np.array(masks).reshape(-1, *SIZE),
                label_ids=np.array([instance.class_index for instance in truth], np.int32),
                scores=np.ones(len(truth), np.float32),
            )
        truth = self.panoptic(item)
        present = set(np.unique(truth.ids))
        return Answer(
            truth.ids,
            [{"id": i, "label_id": c} for i, c in truth.classes.items() if i in present],
        )

    def panoptic(self, item: TruthItem) -> PanopticTruth:
        return item.panoptic()

    def refer(self, item: TruthItem, texts: Any, *, joint: bool, min_score: float) -> list[Answer]:
        assert joint and min_score == 0
        self.asked.append(("refer", tuple(texts)))
        return [Answer(mask=mask) for mask in item.expression_masks()]

    def caption(self, item: TruthItem) -> Answer:
        return Answer(text=item.captions[0])

    def embed_image(self, item: TruthItem) -> np.ndarray:
        return np.eye(8, dtype=np.float32)[self.images]

    def embed_text(self, texts: list[str]) -> np.ndarray:
        # Captions come image by image, two each.
        return np.eye(8, dtype=np.float32)[[1 + number // 2 for number in range(len(texts))]]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def opened(name: str, root: Path, split: str | None = None) -> TruthSet:
    protocol = protocol_named(name)
    return open_published(protocol.reader, root, protocol.classes, split)


def measured(name: str, root: Path, kind: type[Oracle] = Oracle) -> EvaluationReport:
    data = opened(name, root)
    return evaluate_published(kind(data), data, protocol_named(name), progress=False)


def refusal(name: str, root: Path, split: str | None = None) -> str:
    """The one line that a folder is refused with, pixels included."""
    with pytest.raises(DatasetError) as caught:
        data = opened(name, root, split)
        for item in data.items:
            for load in (item.panoptic, item.semantic, item.instances, item.expression_masks):
                if load is not None:
                    load()
            item.load_image()
    text = str(caught.value)
    assert "\n" not in text and len(text) < 600
    return text.replace(str(root), "ROOT")


PERFECT = {
    "coco": {"panoptic": 100, "instance": 100, "semantic": 100},
    "ade20k": {"instance": 100, "semantic": 100},
    "ade20k-847": {"semantic": 100},
    "cityscapes": {"panoptic": 100, "semantic": 100},
    "bdd": {"semantic": 100},
    "bdd-panoptic": {"panoptic": 100, "semantic": 100},
    "sun": {"semantic": 100},
    "scannet": {"semantic": 100},
    "scannet-41": {"semantic": 100},
    "scannet-panoptic": {"panoptic": 100},
    "refcoco": {"referring": 100},
    "refcoco+": {"referring": 100},
    "refcocog": {"referring": 100},
    "retrieval": {"retrieval": 100},
}
FIRST = {
    "panoptic": "pq",
    "instance": "ap",
    "semantic": "miou",
    "referring": "ciou",
    "retrieval": "image_r1",
}


@pytest.mark.parametrize("name", PERFECT)
def test_the_truth_itself_scores_100_by_every_protocol(name: str, tmp_path: Path) -> None:
    report = measured(name, folders.FOLDERS[name](tmp_path / "data"))
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert document["protocol"] == name
    scores = {section: document[section][FIRST[section]] for section in PERFECT[name]}
    assert scores == PERFECT[name]
    assert name in report.table()


def test_every_protocol_has_a_folder_here() -> None:
    assert set(folders.FOLDERS) == set(PROTOCOLS) == {*PERFECT, "caption"}


def test_the_caption_of_people_scores_as_the_package_says(tmp_path: Path) -> None:
    pytest.importorskip("pycocoevalcap", reason="needs pycocoevalcap")
    report = measured("caption", folders.karpathy(tmp_path))
    assert report.items == 2 and report.caption is not None
    assert report.caption.bleu4 == pytest.approx(100, abs=0.1)


def test_ade20k_counts_the_area_of_stuff_before_things_covered_it(tmp_path: Path) -> None:
    """By hand: wall has 192 pixels listed and 168 visible; its perfect mask has IoU 168 / 192.

    Sky is 1, person 1: PQ = (87.5 + 100 + 100) / 3.
    """
    report = measured("ade20k", folders.ade20k(tmp_path))
    assert report.panoptic is not None
    assert report.panoptic.per_class["wall"].pq == pytest.approx(87.5)
    assert report.panoptic.pq == pytest.approx((87.5 + 100 + 100) / 3)


def test_prepared_files_and_distributed_ones_give_equal_scores(tmp_path: Path) -> None:
    one = measured("ade20k", folders.ade20k(tmp_path / "a")).to_json()
    root = folders.ade20k_prepared(folders.ade20k(tmp_path / "b"))
    two = measured("ade20k", root).to_json()
    assert two.pop("source") == str(root / "ade20k_panoptic_val.json")
    assert one.pop("source") != two
    assert one == two
    full = measured("ade20k-847", folders.ade20k_full(tmp_path / "c")).to_json()
    prepared = measured("ade20k-847", folders.ade20k_full_prepared(tmp_path / "d")).to_json()
    assert full["semantic"] == prepared["semantic"] == {"miou": 100}


class Swapped(Oracle):
    """Calls every class by the next one's name."""

    def panoptic(self, item: TruthItem) -> PanopticTruth:
        truth = item.panoptic()
        classes = {id_: (class_ + 1) % 19 for id_, class_ in truth.classes.items()}
        return PanopticTruth(truth.ids, classes, truth.areas)


def test_wrong_classes_score_nothing(tmp_path: Path) -> None:
    report = measured("cityscapes", folders.cityscapes(tmp_path), Swapped)
    assert report.panoptic is not None and report.panoptic.pq == 0


def test_a_group_of_cityscapes_is_a_crowd_and_the_ego_vehicle_void(tmp_path: Path) -> None:
    [item] = opened("cityscapes", folders.cityscapes(tmp_path)).items
    truth, listed = item.panoptic(), class_list("cityscapes-19")
    names = {id_: listed.labels[index] for id_, index in truth.classes.items()}
    assert names == {24001: "person", 26: "car", 7: "road"}
    assert truth.crowds == {26}
    assert (truth.ids == quarters(24001, 26, 0, 7)).all()
    assert (item.semantic() == quarters(11, 13, -1, 0)).all()


def test_a_crowd_of_coco_is_neither_missed_nor_false(tmp_path: Path) -> None:
    class Blind(Oracle):
        def panoptic(self, item: TruthItem) -> PanopticTruth:
            truth = item.panoptic()
            ids = np.where(np.isin(truth.ids, list(truth.crowds)), 0, truth.ids)
            return PanopticTruth(ids, truth.classes, truth.areas)

    report = measured("coco", folders.coco(tmp_path), Blind)
    assert report.panoptic is not None and report.panoptic.pq == 100
    assert report.to_json()["panoptic_things"]["pq"] == 100
    assert report.to_json()["panoptic_stuff"]["pq"] == 100


def test_a_segment_that_is_listed_and_not_drawn_is_missed(tmp_path: Path) -> None:
    root = folders.coco(tmp_path)
    hidden = {"id": 77, "category_id": 3, "area": 0, "iscrowd": 0}
    edited(
        root / "annotations" / "panoptic_val2017.json",
        lambda d: d["annotations"][0]["segments_info"].append(hidden),
    )
    report = measured("coco", root)
    assert report.panoptic is not None
    car = report.panoptic.per_class["car"]
    assert (car.tp, car.fp, car.fn) == (1, 0, 1)


def test_the_first_sentence_of_the_last_ref_of_each_annotation_is_asked_jointly(
    tmp_path: Path,
) -> None:
    data = opened("refcocog", folders.refer(tmp_path))
    oracle = Oracle(data)
    evaluate_published(oracle, data, protocol_named("refcocog"), progress=False)
    assert oracle.asked == [("refer", ("the second ref", "a small box"))]
    first, second = data.items[0].expression_masks()
    assert first.sum() == 100 + 16 and second.sum() == 9, "the box below the other is whole"
    assert opened("refcocog", tmp_path, "testA").items[0].expressions == ("elsewhere",)


def test_the_file_of_the_authors_is_read_too(tmp_path: Path) -> None:
    data = opened("refcocog", folders.refer_json(tmp_path))
    assert data.items[0].expressions == ("one", "two", "three")
    assert data.items[0].load_image().shape == (*SIZE, 3)


def test_an_image_with_more_expressions_than_the_plan_takes_is_refused_before_the_first(
    tmp_path: Path,
) -> None:
    data = opened("refcocog", folders.refer_json(tmp_path))
    oracle = Oracle(data)
    oracle.manifest.decoder.max_phrases = 2
    with pytest.raises(ArgumentError, match="3 expressions.*--max-phrases 3"):
        evaluate_published(oracle, data, protocol_named("refcocog"), progress=False)
    assert oracle.images == 0


def test_the_object_threshold_is_the_protocols_in_panoptic_maps_alone(tmp_path: Path) -> None:
    data = opened("ade20k", folders.ade20k(tmp_path))
    oracle = Oracle(data)
    evaluate_published(oracle, data, protocol_named("ade20k"), progress=False)
    asked = dict(oracle.asked)
    assert list(asked) == ["panoptic", "instance", "semantic"]
    assert set(asked["panoptic"].thresholds.tolist()) == {float(np.float32(0.4))}
    assert np.isnan(asked["instance"].thresholds).all()
    assert not asked["semantic"].has_rules


def test_what_the_plan_does_otherwise_is_told(tmp_path: Path) -> None:
    data = opened("coco", folders.coco(tmp_path))
    oracle = Oracle(data)
    oracle.manifest.input = Part(((512, 512),), "bicubic")
    oracle.manifest.postprocess = Part(overlap_threshold=0.6, piece_share=0.003, instance_topk=50)
    report = evaluate_published(oracle, data, protocol_named("coco"), progress=False)
    text = "\n".join(report.notes)
    # 512 x 384 of 1067 x 800.
    assert "2 of 2 images are scaled otherwise" in text and "23 % of its pixels" in text
    assert "'bicubic'" in text and "overlap threshold is 0.6" in text
    assert "piece share" in text and "number of instances is 50" in text
    same = Oracle(data)
    same.manifest.input = Part(((800, 1333),))
    assert not evaluate_published(same, data, protocol_named("coco"), progress=False).notes


def test_what_is_missing_beside_the_panoptic_file_is_told_and_left_out(tmp_path: Path) -> None:
    root = folders.coco(tmp_path)
    (root / "annotations" / "instances_val2017.json").unlink()
    report = measured("coco", root)
    assert report.instance is None and "no AP" in report.notes[0]
    root = folders.ade20k(tmp_path / "ade")
    folder = root / "annotations_instance"
    folder.rename(root / "elsewhere")
    report = measured("ade20k", root)
    assert report.panoptic is None and report.semantic is not None
    assert "neither PQ nor AP" in report.notes[0]


def test_ap_is_what_pycocotools_computes_of_the_files_themselves(tmp_path: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    root = folders.coco(tmp_path)
    generator = np.random.default_rng(3)
    listed = class_list("coco-133")
    results: list[dict[str, Any]] = []

    class Noisy(Oracle):
        """Detections near the truth and beside it, more than are counted, in no order."""

        def segment(self, item: TruthItem, vocabulary: Any, **keywords: Any) -> Answer:
            if keywords["task"] != "instance":
                return super().segment(item, vocabulary, **keywords)
            truth = list(item.instances())
            masks, labels = [], []
            for _ in range(130):
                instance = truth[generator.integers(len(truth))]
                mask = decode_mask(instance.runs)
                mask = np.roll(mask, generator.integers(-3, 4, 2), (0, 1))
                masks.append(mask & (generator.random(SIZE) > 0.1))
                labels.append(instance.class_index if generator.random() < 0.9 else 0)
            scores = generator.random(130).astype(np.float32)
            image_id = int(item.image.stem)
            for mask, label, score in zip(masks, labels, scores, strict=True):
                runs = decode_runs(mask)
                results.append(
                    {
                        "image_id": image_id,
                        "category_id": listed.classes[label].id,
                        "segmentation": runs,
                        "score": float(score),
                    }
                )
            return Answer(masks=np.array(masks), label_ids=np.array(labels), scores=scores)

    def decode_runs(mask: np.ndarray) -> dict[str, Any]:
        from pycocotools.mask import encode

        runs = encode(np.asfortranarray(mask.astype(np.uint8)))
        return {"size": runs["size"], "counts": runs["counts"].decode()}

    report = measured("coco", root, Noisy)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(root / "annotations" / "instances_val2017.json"))
        evaluation = COCOeval(truth, truth.loadRes(results), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert report.instance is not None
    ours = (report.instance.ap, report.instance.ap50, report.instance.ap75)
    assert ours == pytest.approx(tuple(100 * evaluation.stats[:3]), abs=1e-6)
    assert 1 < report.instance.ap < 99


def test_pq_is_what_torchmetrics_computes(tmp_path: Path) -> None:
    detection = pytest.importorskip("torchmetrics.detection", reason="needs torchmetrics")
    torch = pytest.importorskip("torch", reason="needs torch")
    generator = np.random.default_rng(1)
    things, stuff = (11, 13), (0, 10)
    theirs = detection.PanopticQuality(set(things), set(stuff), allow_unknown_preds_category=True)
    items, answers = [], []
    for number in range(4):
        true_ids, ids = (generator.integers(1, 6, (3, 4)).repeat(8, 0).repeat(8, 1) for _ in "ab")
        ids = np.where(generator.random(ids.shape) < 0.7, true_ids, ids)
        class_of = {id_: (*things, *stuff)[id_ % 4] for id_ in range(1, 6)}
        areas = {id_: int((true_ids == id_).sum()) for id_ in class_of}
        present = {id_: class_ for id_, class_ in class_of.items() if areas[id_]}
        # Stuff is one segment a class there, whatever its ids.
        pairs = [
            torch.tensor(np.stack([np.vectorize(class_of.get)(image), image], -1))
            for image in (ids, true_ids)
        ]
        theirs.update(*(pair[None] for pair in pairs))
        image = folders.picture(tmp_path / f"{number}.png")
        items.append(
            TruthItem(image, lambda t=true_ids, p=present, a=areas: PanopticTruth(t, p, a))
        )
        answers.append(PanopticTruth(ids, class_of, {}))

    class Given(Oracle):
        def panoptic(self, item: TruthItem) -> PanopticTruth:
            return answers[self.images - 1]

    data = TruthSet(items, class_list("cityscapes-19"), "made")
    report = evaluate_published(Given(data), data, protocol_named("cityscapes"), progress=False)
    assert report.panoptic is not None
    assert report.panoptic.pq / 100 == pytest.approx(float(theirs.compute()), abs=1e-6)


def test_miou_is_the_mean_over_the_classes_that_occur_by_hand(tmp_path: Path) -> None:
    """Truth: road, bicycle, void, building; found: road everywhere.

    Road: 192 of 192 + 192 + 192, the void quarter left out; bicycle and building 0.
    """

    class Road(Oracle):
        def segment(self, item: TruthItem, vocabulary: Any, **keywords: Any) -> Answer:
            return Answer(np.zeros(SIZE, np.int32))

    report = measured("bdd", folders.bdd(tmp_path), Road)
    assert report.semantic is not None
    assert report.semantic.miou == pytest.approx(100 / 3 / 3)


def test_classes_of_one_name_are_asked_for_apart(tmp_path: Path) -> None:
    listed = class_list("ade20k-847")
    vocabulary = vocabulary_of(listed)
    assert isinstance(vocabulary, Vocabulary) and vocabulary.labels.count("bag") == 3
    assert len(vocabulary.texts) == len(set(listed.labels)) == 847
    assert [label for label in listed.labels if label.startswith("bag")][:3] == [
        *("bag", "bag (2)", "bag (3)"),
    ]
    assert vocabulary.ids.tolist() == list(range(847))


def test_class_lists_have_the_numbers_of_their_names() -> None:
    things = {"coco-133": 80, "ade20k-150": 100, "cityscapes-19": 8, "bdd-40": 10, "scannet-20": 18}
    for name in CLASS_LISTS:
        listed = class_list(name)
        assert len(listed) == int(name.rpartition("-")[2]) == len(listed.index_of)
        words = read_words(resources.files("xdecoder_rt") / "assets" / "classes" / f"{name}.txt")
        as_words = [(word.name, word.id, word.stuff) for word in words.entries]
        assert as_words == [(c.name, c.id, c.stuff) for c in listed.classes]
        if name in things:
            assert len(listed) - len(listed.stuff) == things[name]


def edited(path: Path, change: Any) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


COCO_FAULTS = {
    "swapped ids of categories": (
        lambda d: d["categories"].__setitem__(
            slice(2), [{"id": 3, "name": "person"}, {"id": 1, "name": "car"}]
        ),
        "the category 3 is 'person'. Expected 'car', as coco-133 has it",
    ),
    "a category of another data set": (
        lambda d: d["categories"].append({"id": 12, "name": "street sign"}),
        "'id' is 12, which no class of coco-133 has",
    ),
    "a segment without a category": (
        lambda d: d["annotations"][0]["segments_info"][1].update(category_id=90),
        "annotation 0, segment 1: 'category_id' is 90, which no category has",
    ),
    "two segments of one id": (
        lambda d: d["annotations"][0]["segments_info"][1].update(id=1),
        "two segments have the id 1",
    ),
    "a segment that is not listed": (
        lambda d: d["annotations"][0]["segments_info"].pop(),
        "has ids that its annotation does not list as segments: [3]",
    ),
    "an area below nothing": (
        lambda d: d["annotations"][0]["segments_info"][0].update(area=-1),
        "'area' is -1",
    ),
    "a map that is not there": (
        lambda d: d["annotations"][1].update(file_name="none.png"),
        "which does not exist",
    ),
    "a path out of the folder": (
        lambda d: d["annotations"][1].update(file_name="../../secret.png"),
        "which is outside the folder",
    ),
    "no annotation": (lambda d: d["annotations"].clear(), "'annotations' is empty"),
}


@pytest.mark.parametrize("fault", COCO_FAULTS)
def test_a_wrong_panoptic_file_ends_in_one_line(fault: str, tmp_path: Path) -> None:
    change, expected = COCO_FAULTS[fault]
    root = folders.coco(tmp_path)
    edited(root / "annotations" / "panoptic_val2017.json", change)
    assert expected in refusal("coco", root)


def test_a_wrong_folder_ends_in_one_line(tmp_path: Path) -> None:
    root = folders.coco(tmp_path / "a")
    folders.picture(root / "val2017" / "000000000009.jpg", size=(WIDTH, HEIGHT))
    assert "(24, 32) and its image" in refusal("coco", root)
    root = folders.coco(tmp_path / "b")
    folders.grey(
        root / "annotations" / "panoptic_val2017" / "000000000025.png",
        np.zeros(SIZE, np.uint8),
    )
    assert "Expected an 8-bit RGB PNG" in refusal("coco", root)
    root = folders.coco(tmp_path / "c")
    (root / "val2017" / "000000000009.jpg").unlink()
    assert "there is no image '000000000009'" in refusal("coco", root)
    edited(
        (root := folders.coco(tmp_path / "d")) / "annotations" / "instances_val2017.json",
        lambda d: d["images"].pop(0) and d["annotations"].clear(),
    )
    assert "the file of instances has no image '000000000009'" in refusal("coco", root)
    assert "/a/annotations/panoptic_val2016.json does not exist" in refusal(
        "coco", tmp_path / "a", "val2016"
    ).replace("ROOT", "/a")
    assert "is not a folder" in refusal("coco", tmp_path / "nowhere")
    for name in ("ade20k", "cityscapes", "bdd", "sun", "ade20k-847", "bdd-panoptic", "caption"):
        (empty := tmp_path / f"empty-{name}").mkdir()
        assert "ROOT" in refusal(name, empty)
    assert "refs(unc).p and instances.json" in refusal("refcoco", tmp_path / "empty-sun")


def test_values_that_are_no_class_end_in_one_line(tmp_path: Path) -> None:
    root = folders.bdd(tmp_path / "bdd")
    folders.grey(
        root / "labels" / "sem_seg" / "masks" / "val" / "a.png",
        quarters(0, 19, 255, 40).astype(np.uint8),
    )
    assert "no class: [19, 40]. Expected 0 to 18, 255" in refusal("bdd", root)
    root = folders.cityscapes(tmp_path / "city")
    path = next(root.glob("gtFine/val/*/*.png"))
    folders.grey(path, quarters(24001, 40, 1, 7).astype(np.uint16))
    assert "has the value 40" in refusal("cityscapes", root)
    folders.colours(path, quarters(1, 2, 3, 4))
    assert "mode 'RGB'" in refusal("cityscapes", root)
    path.unlink()
    assert "does not exist, the map of" in refusal("cityscapes", root)
    root = folders.ade20k(tmp_path / "ade")
    things = next(root.glob("annotations_instance/validation/*.png"))
    folders.colours(things, quarters(0, 101 + 256, 0, 0))
    assert "the instance 1 has the classes [101]" in refusal("ade20k", root)


def test_wrong_refs_end_in_one_line(tmp_path: Path) -> None:
    root = folders.refer(tmp_path / "a")
    assert "Expected one of ['testA', 'val']" in refusal("refcocog", root, "test")
    edited(root / "refcocog" / "instances.json", lambda d: d["images"][0].update(height=25))
    assert "The annotated size is (25, 32)" in refusal("refcocog", root)
    root = folders.refer(tmp_path / "b")
    (root / "refcocog" / "instances.json").unlink()
    assert "instances.json' does not exist" in refusal("refcocog", root)
    root = folders.refer_json(tmp_path / "c")
    edited(
        root / "annotations" / "refcocog_umd_val.json",
        lambda d: d["annotations"][1].update(sentences=[]),
    )
    assert "'sentences' is empty" in refusal("refcocog", root)


def test_what_was_measured_before_a_stop_is_told(tmp_path: Path) -> None:
    class Interrupted(Oracle):
        def encode(self, image: np.ndarray) -> TruthItem:
            if self.images == 1:
                raise KeyboardInterrupt
            return super().encode(image)

    data = opened("coco", folders.coco(tmp_path))
    told: list[EvaluationReport] = []
    with pytest.raises(KeyboardInterrupt):
        evaluate_published(
            Interrupted(data),
            data,
            protocol_named("coco"),
            progress=False,
            when_stopped=told.append,
        )
    [report] = told
    assert report.items == 1 and report.panoptic is not None and report.panoptic.pq == 100


def test_a_plan_without_the_task_is_refused(tmp_path: Path) -> None:
    data = opened("refcocog", folders.refer(tmp_path))
    oracle = Oracle(data)
    oracle.manifest.tasks = ("segment",)
    with pytest.raises(ArgumentError, match="lacks the task 'refer'"):
        evaluate_published(oracle, data, protocol_named("refcocog"), progress=False)


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("coco", (480, 640), (800, 1067)),
        ("coco", (1080, 1920), (750, 1333)),
        ("coco", (1024, 2048), (667, 1333)),
        ("coco", (640, 480), (1067, 800)),
        ("ade20k", (480, 640), (640, 853)),
        ("ade20k", (1080, 1920), (640, 1138)),
        ("cityscapes", (1024, 2048), (1024, 2048)),
        ("refcocog", (480, 640), (512, 683)),
        ("bdd", (720, 1280), (800, 1422)),
        ("sun", (530, 730), (512, 705)),
        ("caption", (480, 640), (224, 224)),
    ],
)
def test_a_protocol_scales_an_image_as_published(
    name: str, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert protocol_named(name).input_size(*size) == expected


def test_names_that_are_none_are_refused() -> None:
    with pytest.raises(ArgumentError, match="There is no protocol 'imagenet'"):
        protocol_named("imagenet")
    with pytest.raises(ArgumentError, match="There is no class list"):
        class_list("../secret")
    with pytest.raises(ArgumentError, match="positive sides"):
        protocol_named("coco").input_size(0, 5)
