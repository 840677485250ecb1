"""VQA's files: questions, and the answers of ten people to each (https://visualqa.org/download).

Versions 1 and 2, open and multiple choice, have the same format. Answers are kept as people gave
them, all ten in order, because the accuracy of an answer depends on how many gave it
(https://visualqa.org/evaluation).
"""

from __future__ import annotations

import re
from pathlib import Path

from xdecoder_rt.datasets.coco_images import CocoImages
from xdecoder_rt.datasets.documents import Document
from xdecoder_rt.datasets.items import Question, repeated
from xdecoder_rt.datasets.text_items import ItemSet, TextItem
from xdecoder_rt.errors import DatasetError

_QUESTIONS_NAME = re.compile(
    r"(?P<version>(?:v2_)?)(?:OpenEnded|MultipleChoice)_(?P<split>.+)_questions"
)


def find_answers(questions: Path) -> Path:
    """The file of the answers to a file of questions, as VQA names them.

    For ``v2_OpenEnded_mscoco_train2014_questions.json`` it is
    ``v2_mscoco_train2014_annotations.json``, in the same folder or, as VQA's own tools lay it
    out, in ``Annotations/`` beside it.

    Raises:
        DatasetError: if the name is not of this form or there is no such file.
    """
    match = _QUESTIONS_NAME.fullmatch(questions.stem)
    if match is None:
        raise DatasetError(
            f"{questions} holds questions, and its name does not say where their answers are",
            expected="a name like v2_OpenEnded_mscoco_train2014_questions.json",
        )
    name = f"{match['version']}mscoco_{match['split'].removeprefix('mscoco_')}_annotations.json"
    places = [questions.parent / name, questions.absolute().parent.parent / "Annotations" / name]
    for path in places:
        if path.is_file():
            return path
    raise DatasetError(
        f"{questions} has no answers: there is no {places[0]}", fix=f"put {name} beside it"
    )


def read_vqa(questions: Document, answers: Document, images: CocoImages) -> ItemSet:
    """The images that are asked about, in the order of their first questions.

    Args:
        questions: The content of a file of questions.
        answers: The content of the file of their answers.
        images: Where the images are.

    Raises:
        DatasetError: if a field is missing or wrong, a question has no answers or an answer no
            question, or an image is missing; it names the place.
    """
    annotations = _by_question(answers, "annotations", "annotation")
    asked = _by_question(questions, "questions", "question")
    for id_, annotation in annotations.items():
        if id_ not in asked:
            raise annotation.error(f"'question_id' is {id_}, which no question has")
    by_image: dict[int, list[Question]] = {}
    paths: dict[int, Path] = {}
    known: dict[str, str] = {}  # one object for each distinct answer: there are millions of them
    for id_, record in asked.items():
        image_id = record.integer("image_id")
        if id_ not in annotations:
            raise record.error(f"'question_id' is {id_}, to which {answers.where} has no answers")
        if annotations[id_].integer("image_id") != image_id:
            raise record.error(f"'image_id' is {image_id}, and its answers are of another image")
        if image_id not in paths:
            paths[image_id] = images.find(record, image_id)
        texts = [a.words("answer") for a in annotations[id_].documents("answers", "answer")]
        if not texts:
            raise annotations[id_].error("'answers' is empty", expected="at least one answer")
        choices = None
        if not record.is_null("multiple_choices"):
            choices = record.texts("multiple_choices")
        by_image.setdefault(image_id, []).append(
            Question(
                " ".join(record.text("question").split()),
                tuple(known.setdefault(text, text) for text in texts),
                choices,
            )
        )
    if not by_image:
        raise questions.error("'questions' is empty", expected="at least one question")
    return ItemSet(
        tuple(TextItem(paths[i], questions=tuple(texts)) for i, texts in by_image.items())
    )


def _by_question(document: Document, key: str, name: str) -> dict[int, Document]:
    records = document.documents(key, name)
    ids = [record.integer("question_id") for record in records]
    if (twice := repeated(ids)) is not None:
        raise document.error(f"{key!r} has the question_id {twice} twice", expected="distinct ids")
    return dict(zip(ids, records, strict=True))
