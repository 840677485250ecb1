"""The names of a step: all that are on the images, others from where the images come from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xdecoder_rt.models import compact_config
from xdecoder_rt.models.config import MAX_DISTRACTORS, DistractorConfig
from xdecoder_rt.training.vocabulary import (
    VocabularySampler,
    trained_distractors,
    trimmed_tokens,
)
from xdecoder_rt.words.templates import COMPACT_TEMPLATES
from xdecoder_rt.words.tokenizer import ClipTokenizer

SOURCES = ([f"cup {i}" for i in range(30)], [f"robot {i}" for i in range(6)] + ["cup 0"])
LABELS = st.lists(st.lists(st.sampled_from(SOURCES[0] + SOURCES[1]), max_size=6), min_size=1)


@settings(max_examples=100, deadline=None)
@given(LABELS, st.integers(1, 60), st.integers(0, 2**31), st.data())
def test_all_names_on_the_images_are_asked_for_and_none_twice(
    labels: list[list[str]], size: int, step: int, data: st.DataObject
) -> None:
    sources = data.draw(st.lists(st.integers(0, 1), min_size=len(labels), max_size=len(labels)))
    drawn = VocabularySampler(SOURCES, size, 0, COMPACT_TEMPLATES).sample(labels, sources, step)
    present = {name for image in labels for name in image}
    assert len(set(drawn.names)) == len(drawn.names)
    assert present == set(drawn.names[: len(present)])
    possible = present | {name for source in sources for name in SOURCES[source]}
    assert len(drawn.names) == max(len(present), min(size, len(possible)))
    assert set(drawn.names) <= possible
    assert len(drawn.sentences) == len(drawn.names) + 1
    for name, sentence in zip([*drawn.names, "background"], drawn.sentences, strict=True):
        assert sentence in [template.format(name) for template in COMPACT_TEMPLATES]


def test_others_come_from_the_sources_in_proportion() -> None:
    sampler = VocabularySampler(
        (SOURCES[0], [f"robot {i}" for i in range(30)]), 20, 0, COMPACT_TEMPLATES
    )
    names = sampler.sample([[]] * 4, [0, 0, 0, 1], 0).names
    assert sum(name.startswith("cup") for name in names) == 15


def test_a_step_draws_the_same_again_and_others_differ() -> None:
    sampler = VocabularySampler(SOURCES, 12, 0, COMPACT_TEMPLATES)
    draw = sampler.sample([["cup 3"]], [0], 7)
    assert sampler.sample([["cup 3"]], [0], 7) == draw
    assert sampler.sample([["cup 3"]], [0], 8) != draw


def test_targets_find_their_names() -> None:
    drawn = VocabularySampler(SOURCES, 12, 0, COMPACT_TEMPLATES).sample(
        [["cup 3", "cup 3"], [], ["cup 1"]], [0] * 3, 0
    )
    indices = drawn.indices([["cup 3", "cup 3"], [], ["cup 1"]], 3)
    assert indices.tolist() == [[0, 0, -1], [-1, -1, -1], [1, -1, -1]]


def test_tokens_are_cut_after_the_last_end_token_only() -> None:
    tokenizer = ClipTokenizer.default(20)
    sentences = ["cup", "a photo of a robot arm", "x " * 40]
    for chosen in (sentences[:2], sentences):
        ids, full = trimmed_tokens(tokenizer, chosen), tokenizer(chosen)
        width = int(tokenizer.lengths(full).max())
        assert ids.dtype == torch.int64
        assert np.array_equal(ids.numpy(), full[:, :width])


def test_all_that_is_told_apart_competes_later_and_void_does_not() -> None:
    config = compact_config()
    found = trained_distractors(config, [["mug", "background"], ["cup", "mug"]], ("segment",))
    assert found is not None and found.words == ("mug", "cup")


@pytest.mark.parametrize(
    ("family", "names", "tasks"),
    [
        ("published", ["mug"], ("segment",)),
        ("compact", ["mug"], ("caption",)),
        ("compact", ["background"], ("segment",)),
    ],
)
def test_what_was_not_told_apart_changes_no_distractors(
    family: str, names: list[str], tasks: tuple[str, ...]
) -> None:
    before = DistractorConfig(("horse",))
    config = replace(compact_config(), family=family, distractors=before)
    assert trained_distractors(config, [names], tasks) is before


def test_of_too_many_names_some_are_taken_evenly() -> None:
    names = [f"word {number}" for number in range(3 * MAX_DISTRACTORS)]
    found = trained_distractors(compact_config(), [names], ("segment",))
    assert found is not None
    assert len(set(found.words)) == MAX_DISTRACTORS
    assert found.words[:2] == ("word 0", "word 3")
