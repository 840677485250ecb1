"""VQA's files: questions, and the answers of ten people to each (https://visualqa.org/download).

Versions 1 and 2, open and multiple choice, have the same format. Answers are kept as people gave
them, all ten in order, because the accuracy of an answer depends on how many gave it
(https://visualqa.org/evaluation).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from xdecoder_rt.datasets.coco_images import CocoImages
from xdecoder_rt.datasets.documents import Document, LongText, NonEmptyText, squeezed
from xdecoder_rt.datasets.items import AnsweredQuestion
from xdecoder_rt.datasets.text_items import ItemSet, TextItem
from xdecoder_rt.errors import DatasetError

_QUESTIONS_NAME = re.compile(
    r"(?P<version>(?:v2_)?)(?:OpenEnded|MultipleChoice)_(?P<split>.+)_questions"
)


@dataclass(frozen=True)
class _Question:
    question: NonEmptyText
    image_id: int
    multiple_choices: tuple[NonEmptyText, ...] | None = None


@dataclass(frozen=True)
class _Answer:
    answer: LongText


def find_answers(questions: Path) -> Path:
    """Find the file of the answers to a file of questions, as VQA names them.

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
        if os.path.isfile(path):
            return path
    raise DatasetError(
        f"{questions} has no answers: there is no {places[0]}", fix=f"put {name} beside it"
    )


def read_vqa(questions: Document, answers: Document, images: CocoImages) -> ItemSet:
    """Read the images that are asked about, in the order of their first questions.

    Args:
        questions: The content of a file of questions.
        answers: The content of the file of their answers.
        images: Where the images are.

    Raises:
        DatasetError: if a field is missing or wrong, a question has no answers or an answer no
            question, or an image is missing; it names the place.
    """
    annotations = answers.by_id("annotations", "annotation", "question_id")
    records = questions.by_id("questions", "question", "question_id")
    for id_, annotation in annotations.items():
        if id_ not in records:
            raise annotation.error(f"'question_id' is {id_}, which no question has")
    by_image: dict[int, list[AnsweredQuestion]] = {}
    paths: dict[int, Path] = {}
    # One object for each distinct answer: there are millions of them.
    distinct_texts: dict[str, str] = {}
    for id_, record in records.items():
        question = record.read(_Question)
        if id_ not in annotations:
            raise record.error(f"'question_id' is {id_}, to which {answers.where} has no answers")
        annotation, image_id = annotations[id_], question.image_id
        if annotation.integer("image_id") != image_id:
            raise record.error(f"'image_id' is {image_id}, and its answers are of another image")
        if image_id not in paths:
            paths[image_id] = images.find(record, image_id)
        answer_records = annotation.documents("answers", "answer")
        texts = [squeezed(answer.read(_Answer).answer) for answer in answer_records]
        if not texts:
            raise annotation.error("'answers' is empty", expected="at least one answer")
        by_image.setdefault(image_id, []).append(
            AnsweredQuestion(
                squeezed(question.question),
                tuple(distinct_texts.setdefault(text, text) for text in texts),
                question.multiple_choices,
            )
        )
    if not by_image:
        raise questions.error("'questions' is empty", expected="at least one question")
    return ItemSet(
        tuple(TextItem(paths[i], questions=tuple(texts)) for i, texts in by_image.items())
    )
