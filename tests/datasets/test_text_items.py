"""COCO captions, VQA's questions, joined data sets, and how a user names each."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xdecoder_rt.datasets.coco_panoptic import CocoPanoptic
from xdecoder_rt.datasets.items import AnsweredQuestion, PanopticDataset, Phrase, Segment
from xdecoder_rt.datasets.join import join_by_image
from xdecoder_rt.datasets.labelled_folder import LabelledFolder, LabelledFolderWriter
from xdecoder_rt.errors import DatasetError
from xdecoder_rt.training.sources import open_dataset

ANSWERS = ("red", "red", "dark red", "red", "maroon", "red", "red", "red", "Red", "")
QUESTIONS = "v2_OpenEnded_mscoco_train2014_questions.json"
ANNOTATIONS = "v2_mscoco_train2014_annotations.json"


def answers_to(question: int, image: int, answers: tuple[str, ...]) -> dict[str, Any]:
    return {
        "question_id": question,
        "image_id": image,
        "question_type": "what",
        "answer_type": "other",
        "multiple_choice_answer": answers[0],
        "answers": [
            {"answer": text, "answer_confidence": "yes", "answer_id": number}
            for number, text in enumerate(answers, start=1)
        ],
    }


def save(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (5, 3), (200, 0, 0)).save(folder / name)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """A folder laid out as COCO's: captions, panoptic labels of one image, and VQA's files."""
    root = tmp_path / "coco"
    save(root / "train2017", "000000000009.jpg", "000000000025.jpg", "000000000030.jpg")
    annotations = root / "annotations"
    (annotations / "panoptic_train2017").mkdir(parents=True)
    images = [{"id": i, "file_name": f"{i:012d}.jpg"} for i in (9, 25, 30)]
    captions = [(25, "A giraffe.\n"), (9, "A  cup on a table."), (30, " "), (9, "Red cup")]
    (annotations / "captions_train2017.json").write_text(
        json.dumps(
            {
                "images": images,
                "annotations": [
                    {"id": n, "image_id": i, "caption": text}
                    for n, (i, text) in enumerate(captions)
                ],
            }
        )
    )
    rgb = np.zeros((3, 5, 3), np.uint8)
    rgb[:, :2, 0] = 7
    Image.fromarray(rgb).save(annotations / "panoptic_train2017/000000000009.png")
    segment = {"id": 7, "category_id": 1, "area": 6, "iscrowd": 0}
    (annotations / "panoptic_train2017.json").write_text(
        json.dumps(
            {
                "images": images,
                "categories": [{"id": 1, "name": "cup", "isthing": 1}],
                "annotations": [
                    {"image_id": 9, "file_name": "000000000009.png", "segments_info": [segment]}
                ],
            }
        )
    )
    vqa = root / "vqa"
    vqa.mkdir()
    (vqa / QUESTIONS).write_text(
        json.dumps(
            {
                "data_type": "mscoco",
                "data_subtype": "train2014",
                "questions": [
                    {"question_id": 9000, "image_id": 9, "question": "What colour is the cup?"},
                    {"question_id": 25000, "image_id": 25, "question": "How  many?"},
                    {"question_id": 9001, "image_id": 9, "question": "Is it full?"},
                ],
            }
        )
    )
    (vqa / ANNOTATIONS).write_text(
        json.dumps(
            {
                "annotations": [
                    answers_to(25000, 25, ("1",) * 10),
                    answers_to(9000, 9, ANSWERS),
                    answers_to(9001, 9, ("yes", "no") * 5),
                ]
            }
        )
    )
    return root


def test_captions_are_read_and_nothing_is_labelled(coco: Path) -> None:
    dataset: PanopticDataset = open_dataset(coco / "annotations/captions_train2017.json")
    assert (dataset.vocabulary, dataset.stuff) == ((), frozenset())
    first, second = dataset.items
    assert first.image == coco / "train2017/000000000009.jpg"
    assert first.captions == ("A cup on a table.", "Red cup")
    assert second.captions == ("A giraffe.",)
    assert (first.segments, first.phrases, first.questions) == ((), (), ())
    assert first.load_image().shape == (3, 5, 3)
    np.testing.assert_array_equal(first.load_panoptic(), np.zeros((3, 5), np.uint8))


def test_captions_of_other_images_than_cocos_are_found_by_their_names_alone(coco: Path) -> None:
    source = coco / "annotations/captions_train2017.json"
    source.rename(coco / "annotations/captions_kitchen.json")
    save(coco / "images/kitchen", "000000000009.jpg")
    with pytest.raises(DatasetError, match="image 1: there is no file of the image 25"):
        open_dataset(coco / "annotations/captions_kitchen.json")
    save(coco / "images/kitchen", "000000000025.jpg")
    found = open_dataset(coco / "annotations/captions_kitchen.json").items
    assert {item.image.parent for item in found} == {coco / "images/kitchen"}


def test_questions_keep_all_answers_in_order(coco: Path) -> None:
    dataset = open_dataset(coco / "vqa" / QUESTIONS)
    assert (dataset.vocabulary, dataset.stuff) == ((), frozenset())
    first, second = dataset.items
    assert first.image == coco / "train2017/000000000009.jpg"
    assert first.questions == (
        AnsweredQuestion("What colour is the cup?", ANSWERS),
        AnsweredQuestion("Is it full?", ("yes", "no") * 5),
    )
    assert second.questions == (AnsweredQuestion("How many?", ("1",) * 10),)
    assert first.captions == ()


def test_images_of_either_year_are_found_and_those_of_the_split_first(coco: Path) -> None:
    save(coco / "train2014", "COCO_train2014_000000000025.jpg")
    first, second = open_dataset(coco / "vqa" / QUESTIONS).items
    assert first.image == coco / "train2017/000000000009.jpg"
    assert second.image == coco / "train2014/COCO_train2014_000000000025.jpg"


def test_multiple_choice_and_version_1_are_read(coco: Path) -> None:
    vqa = coco / "vqa"
    (vqa / QUESTIONS).rename(vqa / "MultipleChoice_mscoco_train2014_questions.json")
    (coco / "Annotations").mkdir()
    (vqa / ANNOTATIONS).rename(coco / "Annotations/mscoco_train2014_annotations.json")
    path = vqa / "MultipleChoice_mscoco_train2014_questions.json"
    edit(path, lambda d: [q.update(multiple_choices=["1", "red", "yes"]) for q in d["questions"]])
    first = open_dataset(path).items[0]
    assert [question.choices for question in first.questions] == [("1", "red", "yes")] * 2


def _question(key: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda d: d["questions"][0].__setitem__(key, value)


def _answer(key: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda d: d["annotations"][1].__setitem__(key, value)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (QUESTIONS, lambda d: d.pop("data_subtype"), "'data_subtype' is missing"),
        (QUESTIONS, lambda d: d.update(data_subtype="../x"), "images of .* were not found"),
        (QUESTIONS, lambda d: d["questions"].append(d["questions"][0]), "question_id 9000 twice"),
        (QUESTIONS, lambda d: d["questions"].pop(1), "annotation 0: .* 25000, which no question"),
        (QUESTIONS, _question("question_id", 1), "annotation 1: .* 9000, which no question has"),
        (QUESTIONS, _question("image_id", 25), "question 0: .*its answers are of another image"),
        (QUESTIONS, _question("image_id", None), "question 0: 'image_id' is null"),
        (QUESTIONS, _question("question", ""), "question 0: 'question' is ''"),
        (QUESTIONS, _question("multiple_choices", [1]), "'multiple_choices' contains 1"),
        (ANNOTATIONS, lambda d: d.pop("annotations"), "'annotations' is missing"),
        (ANNOTATIONS, lambda d: d["annotations"].pop(1), "question 0: .* has no answers"),
        (ANNOTATIONS, _answer("answers", []), "annotation 1: 'answers' is empty"),
        (ANNOTATIONS, _answer("answers", [{}]), "annotation 1, answer 0: the key 'answer'"),
        (ANNOTATIONS, _answer("answers", [{"answer": 2}]), "answer 0: 'answer' is 2"),
        (ANNOTATIONS, _answer("answers", {}), "annotation 1: 'answers' is dict. Expected a list"),
    ],
)
def test_a_wrong_field_of_vqa_is_refused(
    coco: Path, name: str, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit(coco / "vqa" / name, change)
    with pytest.raises(DatasetError, match=message) as error:
        open_dataset(coco / "vqa" / QUESTIONS)
    assert str(coco / "vqa") in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("images"), "'images' is missing"),
        (lambda d: d["images"][0].pop("id"), "image 0: the key 'id' is missing"),
        (lambda d: d["images"][0].pop("file_name"), "image 0: the key 'file_name' is missing"),
        (lambda d: d["images"][0].update(id=8, file_name="../x.jpg"), "'image_id' is 9, which no"),
        (lambda d: d["images"].append({"id": 9}), "'images' has the id 9 twice"),
        (lambda d: d["annotations"][1].update(caption=3), "annotation 1: 'caption' is 3"),
        (lambda d: d["annotations"][1].update(caption="\ud800"), "'caption' is"),
        (lambda d: d["annotations"][1].update(image_id=2), "annotation 1: 'image_id' is 2"),
        (lambda d: d["annotations"].clear(), "'annotations' is not a list of at least one"),
        (lambda d: [a.update(caption="") for a in d["annotations"]], "no image has a caption"),
    ],
)
def test_a_wrong_field_of_captions_is_refused(
    coco: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = coco / "annotations/captions_train2017.json"
    edit(path, change)
    with pytest.raises(DatasetError, match=message) as error:
        open_dataset(path)
    assert str(path) in str(error.value)


def test_a_name_with_a_path_in_it_is_no_file_of_the_folder(coco: Path) -> None:
    path = coco / "annotations/captions_train2017.json"
    save(coco, "x.jpg")
    edit(
        path,
        lambda d: (
            d["images"][0].update(id=8, file_name="../x.jpg"),
            d["annotations"][1].update(image_id=8),
            d["annotations"].pop(3),
        ),
    )
    with pytest.raises(DatasetError, match="image 0: there is no file of the image 8"):
        open_dataset(path)


def test_labels_captions_and_questions_of_the_same_images_are_joined(coco: Path) -> None:
    annotations = coco / "annotations"
    names = ("captions_train2017.json", "panoptic_train2017.json", f"../vqa/{QUESTIONS}")
    dataset = open_dataset(Path(",".join(str(annotations / name) for name in names)))
    assert dataset.vocabulary == ("cup",)
    first, second = dataset.items
    assert first.segments == (Segment(7, "cup", True, 6),)
    assert first.captions == ("A cup on a table.", "Red cup")
    assert [question.text for question in first.questions] == [
        "What colour is the cup?",
        "Is it full?",
    ]
    assert np.count_nonzero(first.load_panoptic()) == 6
    assert first.load_image().shape == (3, 5, 3)
    assert second.segments == ()
    assert (second.captions, len(second.questions)) == (("A giraffe.",), 1)
    assert not second.load_panoptic().any()


def test_joining_keeps_what_a_labelled_item_says_itself(coco: Path, tmp_path: Path) -> None:
    image = np.zeros((3, 5, 3), np.uint8)
    with LabelledFolderWriter(tmp_path / "a,b", ["cup"]) as writer:
        phrases = [Phrase("the cup", (1,))]
        writer.add(image, np.ones((3, 5), np.uint8), {1: "cup"}, phrases=phrases, captions=["one"])
    folder = open_dataset(tmp_path / "a,b")  # an existing path is one path
    assert isinstance(folder, LabelledFolder)
    joined = join_by_image([folder, open_dataset(coco / "vqa" / QUESTIONS)])
    assert [item.captions for item in joined.items] == [("one",), (), ()]
    assert joined.items[0].phrases == (Phrase("the cup", (1,)),)
    assert len(joined) == 3
    with pytest.raises(DatasetError, match="2 of the data sets to join have labels"):
        join_by_image([folder, folder])


@pytest.mark.parametrize("ending", ["", ".json", ".json#stored", "#val", ".json,b.json", ".p"])
@pytest.mark.parametrize("name", ["n" * 300, "nul\0", "esc\x1b[31m", "\ud800", "deep/" * 3000])
def test_a_name_that_no_file_can_have_is_no_data_set(
    tmp_path: Path, name: str, ending: str
) -> None:
    with pytest.raises(DatasetError, match="There is no data set at") as caught:
        open_dataset(tmp_path / f"{name}{ending}")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600


def test_each_kind_is_told_by_what_the_file_holds(coco: Path) -> None:
    annotations = coco / "annotations"
    assert isinstance(open_dataset(annotations / "panoptic_train2017.json"), CocoPanoptic)
    with pytest.raises(
        DatasetError, match="no kind that training reads.*Fix: name the file of VQA"
    ):
        open_dataset(coco / "vqa" / ANNOTATIONS)
    instances = annotations / "instances_train2017.json"
    instances.write_text(json.dumps({"annotations": [{"segmentation": [], "image_id": 9}]}))
    with pytest.raises(DatasetError, match="annotation 0: it is of no kind that training reads"):
        open_dataset(instances)
    for nothing in ("none", "none.json", "none.json,train2017", "train2017/000000000009.jpg"):
        with pytest.raises(DatasetError, match="There is no data set at .* Expected a labelled"):
            open_dataset(coco / nothing)
    instances.write_text("[" * 100_000)
    with pytest.raises(DatasetError, match="is not valid JSON"):
        open_dataset(instances)
    instances.write_text("3")
    with pytest.raises(DatasetError, match=r"instances_train2017\.json is 3"):
        open_dataset(instances)
    for path in (annotations / "captions_train2017.json", annotations):
        with pytest.raises(DatasetError, match="no split 'val'. Expected a split of RefCOCO refs"):
            open_dataset(path.with_name(f"{path.name}#val"))


def test_questions_whose_answers_are_not_there_are_refused(coco: Path) -> None:
    path = coco / "vqa" / QUESTIONS
    (coco / "vqa" / ANNOTATIONS).unlink()
    with pytest.raises(DatasetError, match=f"has no answers.*Fix: put {ANNOTATIONS} beside it"):
        open_dataset(path)
    path.rename(path.with_name("mine.json"))
    with pytest.raises(DatasetError, match="its name does not say where their answers are"):
        open_dataset(path.with_name("mine.json"))


def test_examples_are_made_of_images_without_labels(coco: Path) -> None:
    pytest.importorskip("torch", reason="needs torch")
    from xdecoder_rt.training.dataset import TrainingSet, collate
    from xdecoder_rt.training.sampler import SampleKey

    source = open_dataset(coco / "annotations/captions_train2017.json")
    examples = TrainingSet([source], size=32, points=8, seed=0)
    batch = collate([examples[SampleKey(0, item, item)] for item in range(2)])
    assert batch.labels == [(), ()]
    assert batch.membership.shape[:2] == (2, 0)


def test_items_travel_to_the_processes_that_load_data(coco: Path) -> None:
    for path in (coco / "annotations/captions_train2017.json", coco / "vqa" / QUESTIONS):
        dataset = open_dataset(path)
        assert pickle.loads(pickle.dumps(dataset.items)) == dataset.items
