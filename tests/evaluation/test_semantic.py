"""Mean IoU against its definition, class by class."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.evaluation.semantic import SemanticIoU, class_map

VOCABULARY = ("mug", "table", "robot arm", "wall")


@st.composite
def pair(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=6))
    maps = hnp.arrays(np.int32, shape, elements=st.integers(-1, len(VOCABULARY) - 1))
    return draw(maps), draw(maps)


@given(st.lists(pair(), min_size=1, max_size=3))
def test_it_is_the_definition(images: list[tuple[np.ndarray, np.ndarray]]) -> None:
    truth = np.concatenate([truth.ravel() for truth, _ in images])
    prediction = np.concatenate([prediction.ravel() for _, prediction in images])
    truth, prediction = truth[truth >= 0], prediction[truth >= 0]
    expected = {}
    for i, label in enumerate(VOCABULARY):
        union = ((truth == i) | (prediction == i)).sum()
        if union:
            expected[label] = 100 * ((truth == i) & (prediction == i)).sum() / union

    parts = []
    for image in images:
        parts.append(SemanticIoU(VOCABULARY))
        parts[-1].update(*image)
    for other in parts[1:]:
        parts[0].merge(other)
    if not expected:
        with pytest.raises(ArgumentError, match="no labelled pixel"):
            parts[0].compute()
        return
    scores = parts[0].compute()
    assert scores.per_class == pytest.approx(expected)
    assert list(scores.per_class) == list(expected)
    assert scores.miou == pytest.approx(np.mean(list(expected.values())))


def test_a_large_vocabulary_takes_little_memory() -> None:
    vocabulary = [f"class {i}" for i in range(100_000)]
    metric = SemanticIoU(vocabulary)
    metric.update(np.array([[99_999, 5]]), np.array([[99_999, 6]]))
    assert metric.compute().per_class == {"class 5": 0, "class 6": 0, "class 99999": 100}


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        ([[0, 4]], [[0, 0]], "true map has indices from 0 to 4"),
        ([[0, 0]], [[-2, 0]], "predicted map has indices from -2 to 0"),
        ([[0, 0]], [[0], [0]], r"\(1, 2\) and the predicted one \(2, 1\)"),
    ],
)
def test_wrong_maps_are_refused(
    truth: list[list[int]], prediction: list[list[int]], message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        SemanticIoU(VOCABULARY).update(np.array(truth), np.array(prediction))


def test_other_classes_do_not_merge() -> None:
    with pytest.raises(ArgumentError, match="same classes"):
        SemanticIoU(VOCABULARY).merge(SemanticIoU(VOCABULARY[:2]))


def test_class_map() -> None:
    ids = np.array([[0, 7], [16_000_000, 7]])
    assert class_map(ids, {16_000_000: 0, 7: 2}).tolist() == [[-1, 2], [0, 2]]
    assert class_map(np.zeros((1, 2), np.uint8), {}).tolist() == [[-1, -1]]


def test_every_class_on_pixels_of_nothing_is_wrong() -> None:
    scores = SemanticIoU(VOCABULARY)
    ids = np.array([[5, 5, -1, -1, 0, 0]])
    truth = class_map(ids, {5: 1})
    assert truth.tolist() == [[1, 1, -2, -2, -1, -1]]
    scores.update(truth, np.array([[1, 1, 1, -1, 0, 3]]))
    assert scores.compute().per_class == {"table": pytest.approx(100 * 2 / 3)}
