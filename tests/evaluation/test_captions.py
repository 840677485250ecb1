"""CIDEr and BLEU-4 by hand and against their definitions; which words a caption has."""

from __future__ import annotations

import math
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdecoder_rt.errors import ArgumentError, MissingExtraError
from xdecoder_rt.evaluation.captions import caption_scores, caption_words, require_scorers


@pytest.fixture(scope="module")
def scorers() -> None:
    pytest.importorskip("pycocoevalcap.cider.cider", reason="captions need the extra eval")


def ngrams(text: str, n: int) -> Counter[tuple[str, ...]]:
    tokens = text.split()
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def plain_bleu4(predictions: list[str], references: list[list[str]]) -> float:
    """Papineni et al. 2002 over a corpus, with the length nearest to each prediction."""
    log = 0.0
    for n in range(1, 5):
        matched = said = 0
        for prediction, own in zip(predictions, references, strict=True):
            allowed: Counter[tuple[str, ...]] = Counter()
            for reference in own:
                allowed |= ngrams(reference, n)
            matched += (ngrams(prediction, n) & allowed).total()
            said += ngrams(prediction, n).total()
        if not matched:
            return 0.0
        log += math.log(matched / said) / 4
    length = sum(len(p.split()) for p in predictions)
    nearest = sum(
        min((abs(len(r.split()) - len(p.split())), len(r.split())) for r in own)[1]
        for p, own in zip(predictions, references, strict=True)
    )
    return 100 * math.exp(log + min(0, 1 - nearest / length))


def plain_cider(predictions: list[str], references: list[list[str]]) -> float:
    """CIDEr-D (Vedantam et al. 2015, section 5), lengths counted in bigrams as its authors do."""

    def weight(gram: tuple[str, ...]) -> float:
        images = sum(any(ngrams(r, len(gram))[gram] for r in own) for own in references)
        return math.log(len(references) / max(1, images))

    total = 0.0
    for prediction, own in zip(predictions, references, strict=True):
        for reference in own:
            lengths = [ngrams(text, 2).total() for text in (prediction, reference)]
            penalty = math.exp(-((lengths[0] - lengths[1]) ** 2) / (2 * 6**2))
            for n in range(1, 5):
                p = {g: c * weight(g) for g, c in ngrams(prediction, n).items()}
                r = {g: c * weight(g) for g, c in ngrams(reference, n).items()}
                norm = math.hypot(*p.values()) * math.hypot(*r.values())
                if norm:
                    product = sum(min(value, r.get(g, 0)) * r.get(g, 0) for g, value in p.items())
                    total += 10 * penalty * product / norm / 4 / len(own)
    return 100 * total / len(predictions)


# Six words are few enough for n-grams of four to match.
vocabulary = st.sampled_from(["a", "red", "cube", "left", "of", "bin"])
sentences = st.lists(vocabulary, max_size=8).map(" ".join)
references = st.lists(sentences.filter(bool), min_size=1, max_size=3)


@pytest.mark.usefixtures("scorers")
@settings(deadline=None, max_examples=50)
@given(items=st.lists(st.tuples(sentences, references), min_size=2, max_size=4))
def test_it_is_the_definition(items: list[tuple[str, list[str]]]) -> None:
    predictions, references = [p for p, _ in items], [r for _, r in items]
    scores = caption_scores(predictions, references)
    assert scores.cider == pytest.approx(plain_cider(predictions, references), abs=1e-6)
    # The package adds 1e-15 to counts of none.
    assert scores.bleu4 == pytest.approx(plain_bleu4(predictions, references), rel=1e-6, abs=0.1)
    assert scores.images == len(items)


@pytest.mark.usefixtures("scorers")
def test_bleu4_by_hand() -> None:
    # Of 5, 4, 3 and 2 n-grams match 4, 3, 2 and 1; the lengths are equal.
    scores = caption_scores(["the red cube stands here"], [["The red cube stands there."]])
    assert scores.bleu4 == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    # All of 4, 3, 2 and 1 n-grams match, one word of five is missing: exp(1 - 5/4).
    scores = caption_scores(["the red cube stands"], [["the red cube stands there"]])
    assert scores.bleu4 == pytest.approx(100 * math.exp(-1 / 4))


@pytest.mark.usefixtures("scorers")
def test_cider_by_hand() -> None:
    references = [["red cube on floor"], ["blue ball by wall"]]
    perfect = caption_scores(["Red cube on floor.", "blue ball, by wall"], references)
    assert (perfect.cider, perfect.bleu4) == pytest.approx((1000, 100))
    # Every n-gram weighs log 2. Two of four words match: cosine 1/sqrt(2); one of three pairs:
    # 1/sqrt(3); nothing longer. One pair instead of three: exp(-2**2 / 72).
    half = (2**-0.5 + 3**-0.5) / 4 * math.exp(-4 / 72)
    assert caption_scores(["red cube", "blue ball by wall"], references).cider == pytest.approx(
        1000 * (half + 1) / 2
    )


@pytest.mark.usefixtures("scorers")
def test_the_best_of_several_references_counts_for_bleu_and_their_mean_for_cider() -> None:
    references = [["red cube on floor", "mug in the bin"], ["blue ball by wall"]]
    scores = caption_scores(["red cube on floor", "blue ball by wall"], references)
    assert scores.bleu4 == pytest.approx(100)
    assert scores.cider == pytest.approx(1000 * (0.5 + 1) / 2)


@pytest.mark.usefixtures("scorers")
def test_captions_too_short_for_bleu4_score_0() -> None:
    assert caption_scores(["a red mug", "a bin"], [["a red mug"], ["a bin"]]).bleu4 == 0


@pytest.mark.usefixtures("scorers")
def test_empty_captions() -> None:
    scores = caption_scores(["", "?!"], [["a mug"], ["a bin"]])
    assert (scores.cider, scores.bleu4) == (0, 0)


@pytest.mark.usefixtures("scorers")
def test_cider_is_not_defined_for_one_image() -> None:
    assert caption_scores(["a mug on a table"], [["a mug on a table"]]).cider is None


@pytest.mark.usefixtures("scorers")
def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    caption_scores(["a mug", "a bin"], [["a mug"], ["a bin"]])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A red Cube, left of the bin.", "a red cube left of the bin"),
        ("isn't it a T-shirt?", "isn't it a t shirt"),
        ("it\N{RIGHT SINGLE QUOTATION MARK}s 'quoted'", "it's quoted"),
        ("snake_case 12 caf\N{LATIN SMALL LETTER E WITH ACUTE}", "snake case 12 café"),
        (" \n", ""),
    ],
)
def test_words(caption: str, expected: str) -> None:
    assert caption_words(caption) == expected.split()


@pytest.mark.usefixtures("scorers")
@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        (["a"], [["a"], ["b"]], "There are 1 captions and references of 2 images"),
        (["a", "b"], [["a"], []], "references of 1 images"),
        ([], [], "no reference caption with a word"),
        (["a"], [["..."]], "no reference caption with a word"),
    ],
)
def test_bad_arguments_are_refused(
    predictions: list[str], references: list[list[str]], message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        caption_scores(predictions, references)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocoevalcap.bleu.bleu", None)
    for call in (require_scorers, lambda: caption_scores(["a"], [["a"]])):
        with pytest.raises(MissingExtraError, match=r'pip install "xdecoder_rt\[eval\]"'):
            call()
