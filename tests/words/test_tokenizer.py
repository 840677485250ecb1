"""The tokenizer gives the ids that the original gives, for any text, and is cheap and safe."""

from __future__ import annotations

import importlib.util
import json
import sys
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdecoder_rt.errors import ArgumentError, PlanError, VocabularyError
from xdecoder_rt.words import tokenizer as tokenizer_module
from xdecoder_rt.words.templates import (
    COMPACT_TEMPLATES,
    PUBLISHED_TEMPLATES,
    clean_class_name,
    prompts,
    sampled_prompts,
    sampled_template_indices,
)
from xdecoder_rt.words.tokenizer import ClipTokenizer

FIXTURE = Path(__file__).parents[1] / "data" / "focal_tiny_a"


@pytest.fixture(scope="module")
def tokenizer() -> ClipTokenizer:
    return ClipTokenizer.default()


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    with np.load(FIXTURE / "expected.npz", allow_pickle=False) as arrays:
        wanted = ("token_ids", "template_index", "attention_mask")
        return {name: arrays[name] for name in arrays.files if name.endswith(wanted)}


@pytest.fixture(scope="module")
def case() -> dict:
    return json.loads((FIXTURE / "config.json").read_text())["case"]


# --- the original's token ids ---------------------------------------------------------------------


def test_raw_names(tokenizer, expected, case):
    ids = tokenizer([*case["class_names"], case["background_name_appended_last"]])
    assert ids.dtype == np.int64
    np.testing.assert_array_equal(ids, expected["text.plain_token_ids"])


def test_every_published_template_of_every_class(tokenizer, expected, case):
    ids = [tokenizer(prompts(name, PUBLISHED_TEMPLATES)) for name in case["class_names"]]
    np.testing.assert_array_equal(ids, expected["text.template_token_ids"])


def test_phrases_and_their_lengths(tokenizer, expected, case):
    ids = tokenizer(case["phrases"])
    np.testing.assert_array_equal(ids, expected["grounding.token_ids"])
    lengths = expected["grounding.attention_mask"].sum(axis=1)
    np.testing.assert_array_equal(tokenizer.lengths(ids), lengths)


def test_captions(tokenizer, expected, case):
    captions = case["retrieval_captions_img0"] + case["retrieval_captions_img1"]
    np.testing.assert_array_equal(tokenizer(captions), expected["retrieval.token_ids"])


def test_decoding_the_fixtures_captions(tokenizer, expected, case):
    for name, text in case["caption_text"].items():
        assert tokenizer.decode(expected[f"{name}.token_ids"]).split(".")[0] == text


# --- templates ------------------------------------------------------------------------------------


def test_there_are_81_different_published_templates_each_a_sentence():
    assert len(set(PUBLISHED_TEMPLATES)) == len(PUBLISHED_TEMPLATES) == 81
    assert all(template.count("{}") == 1 for template in PUBLISHED_TEMPLATES + COMPACT_TEMPLATES)
    assert all(template.endswith(".") for template in PUBLISHED_TEMPLATES)


def test_the_sampled_mode_draws_what_the_original_drew(expected, case):
    names = [*case["class_names"], case["background_name_appended_last"]]
    seed = case["sampled_template_numpy_seed"]
    drawn = sampled_template_indices(len(names), np.random.RandomState(seed))
    assert drawn == expected["text.sampled_template_index"].tolist()
    sentences = sampled_prompts(names, np.random.RandomState(seed))
    assert sentences[4] == PUBLISHED_TEMPLATES[drawn[4]].format("sky")


def test_the_sampled_mode_drops_commas_and_turns_plus_into_a_space():
    assert sampled_prompts(["salt, pepper+oil"], np.random.RandomState(0), ["the {}"]) == [
        "the salt pepper oil"
    ]


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [("sky-other-merged", "sky"), ("door-stuff", "door"), ("wall-brick", "wall-brick"), ("", "")],
)
def test_annotation_suffixes_are_cut(name, cleaned):
    assert clean_class_name(name) == cleaned


def test_neither_names_nor_templates_are_format_strings():
    assert prompts("{0.__class__}", ["a {}"]) == ["a {0.__class__}"]
    for template in ("no place", "{} and {}", "{0}"):
        with pytest.raises(ArgumentError, match="exactly one"):
            prompts("dog", [template])


# --- against two other implementations ------------------------------------------------------------


@lru_cache(maxsize=1)
def plain_vocabulary() -> tuple[dict[str, int], dict[tuple[str, str], int], list[str]]:
    letters = tokenizer_module._byte_letters()
    merges = [tuple(merge.split(" ")) for merge in tokenizer_module._packaged_merges()]
    pieces = [*letters.values(), *(f"{letter}</w>" for letter in letters.values())]
    pieces += ["".join(merge) for merge in merges]
    ids = {piece: index for index, piece in enumerate(pieces)}
    ranks = {merge: rank for rank, merge in enumerate(merges)}
    return ids, ranks, [letters[byte] for byte in range(256)]


def plain_words(text: str) -> list[str]:
    """CLIP's regular expression, spelled out: contractions, letters, single digits, the rest."""
    words: list[str] = []
    kind_before = ""
    position = 0
    while position < len(text):
        contraction = next(
            (
                c
                for c in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
                if text.startswith(c, position)
            ),
            None,
        )
        category = unicodedata.category(text[position])[0]
        kind = {"L": "L", "N": "N"}.get(category, "" if text[position].isspace() else "other")
        # A contraction is only looked for where a new match begins.
        if contraction and kind_before != "other":
            words.append(contraction)
            position += len(contraction)
            kind_before = ""
            continue
        if kind in ("L", "other") and kind == kind_before:
            words[-1] += text[position]
        elif kind:
            words.append(text[position])
        kind_before = kind
        position += 1
    return words


def plain_bpe(text: str) -> list[int]:
    """Byte-pair encoding as in the textbook: merge the best pair until none is left."""
    ids, ranks, letters = plain_vocabulary()
    tokens: list[int] = []
    for word in plain_words(" ".join(unicodedata.normalize("NFC", text).split()).lower()):
        pieces = [letters[byte] for byte in word.encode("utf-8")]
        pieces[-1] += "</w>"
        while True:
            pairs = [ranks.get(pair, len(ranks)) for pair in zip(pieces, pieces[1:], strict=False)]
            if not pairs or min(pairs) == len(ranks):
                break
            best = pairs.index(min(pairs))
            pieces[best : best + 2] = [pieces[best] + pieces[best + 1]]
        tokens += [ids[piece] for piece in pieces]
    return tokens


TEXTS = st.one_of(
    st.text(
        # Letters that Unicode has had for long: the tables of regex engines differ in new ones.
        alphabet=st.characters(max_codepoint=0x2FFF, categories=("L", "N", "P", "S", "Z")),
        max_size=60,
    ),
    st.text(alphabet="abcdest' 019-.,!?ΣéÉ😀☕中", max_size=60),
    st.lists(
        st.sampled_from(
            ["mug", "don't", "I'll", "U.S.A.", "3D", "x86", "'ſ", "ẞ", "''s", "½", "İ"]
        ),
        max_size=12,
    ).map(" ".join),
)


def is_assigned_in_old_unicode(text: str) -> bool:
    return all(unicodedata.ucd_3_2_0.category(char) != "Cn" for char in text.lower())


@lru_cache(maxsize=1)
def long_tokenizer() -> ClipTokenizer:
    return ClipTokenizer.default(context_length=256)


@given(text=TEXTS.filter(is_assigned_in_old_unicode).filter(lambda text: "ſ" not in text))
@settings(max_examples=300, deadline=None)
def test_equals_textbook_byte_pair_encoding(text):
    ids = long_tokenizer()([text])[0]
    length = int(long_tokenizer().lengths(ids[None])[0])
    assert ids[1 : length - 1].tolist() == plain_bpe(text)[: len(ids) - 2]


def _open_clip_tokenizer() -> ModuleType:
    """open_clip's tokenizer.py on its own: the package itself needs torchvision."""
    package = importlib.util.find_spec("open_clip")
    if package is None or not package.submodule_search_locations:
        pytest.skip("open_clip_torch is not installed")
    path = Path(package.submodule_search_locations[0]) / "tokenizer.py"
    spec = importlib.util.spec_from_file_location("open_clip_tokenizer", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        pytest.skip(f"open_clip's tokenizer needs a package that is not installed: {error.name}")
    return module


@lru_cache(maxsize=1)
def open_clip_encode() -> Callable[[str], list[int]]:
    module = _open_clip_tokenizer()
    # ftfy and HTML unescaping are the two steps that this package leaves out by design.
    module.basic_clean = lambda text: unicodedata.normalize("NFC", text)
    return module.SimpleTokenizer().encode


@given(text=TEXTS.filter(is_assigned_in_old_unicode))
@settings(max_examples=300, deadline=None)
def test_equals_open_clips_tokenizer(text):
    encode = open_clip_encode()
    ids = long_tokenizer()([text])[0]
    length = int(long_tokenizer().lengths(ids[None])[0])
    assert ids[1 : length - 1].tolist() == encode(text)[: len(ids) - 2]


# --- shape of the output --------------------------------------------------------------------------


def test_padding_is_the_end_token_and_truncation_keeps_it(tokenizer):
    ids = tokenizer(["", "dog " * 200, "dog " * 75])
    assert ids.shape == (3, 77)
    assert ids[0].tolist() == [49406] + [49407] * 76
    assert ids[1, 0] == 49406 and ids[1, -1] == 49407 and ids[1, -2] != 49407
    assert tokenizer.lengths(ids).tolist() == [2, 77, 77]


def test_no_texts_give_no_rows(tokenizer):
    assert tokenizer([]).shape == (0, 77)
    assert tokenizer.lengths(tokenizer([])).shape == (0,)


def test_other_context_lengths():
    short = ClipTokenizer.default(context_length=5)
    assert short(["a dog on a mat"]).shape == (1, 5)
    with pytest.raises(ArgumentError, match="context length"):
        ClipTokenizer.default(context_length=2)


def test_a_special_tokens_spelling_is_ordinary_text(tokenizer):
    ids = tokenizer(["a <|endoftext|> dog", "<|startoftext|>"])
    assert (tokenizer.lengths(ids) > 6).all()
    assert (ids[:, 1:] != tokenizer.start_token).all()


def test_odd_but_valid_texts(tokenizer):
    ids = tokenizer(["\x00", "😀", "\u202e", "a\tb\nc", "a b c", "é", "e\u0301"])
    assert (tokenizer.lengths(ids) > 2).all()
    np.testing.assert_array_equal(ids[3], ids[4])
    np.testing.assert_array_equal(ids[5], ids[6])


def test_a_megabyte_long_text(tokenizer):
    ids = tokenizer(["word " * 200_000, "x" * 1_000_000])
    np.testing.assert_array_equal(ids[0], tokenizer(["word " * 80])[0])
    assert tokenizer.lengths(ids).tolist() == [77, 77]


@pytest.mark.parametrize("texts", ["dog", [3], [None], [b"dog"], ["\ud800"]])
def test_what_is_not_text_is_refused(tokenizer, texts):
    with pytest.raises(VocabularyError):
        tokenizer(texts)


# --- decoding -------------------------------------------------------------------------------------


@given(st.lists(st.text(alphabet="abcdefgh xyz😀é", max_size=12), max_size=4).map(" ".join))
@settings(max_examples=100, deadline=None)
def test_decoding_gives_back_words(text):
    tokenizer = long_tokenizer()
    wanted = " ".join(text.split())
    decoded = tokenizer.decode(tokenizer([text])[0])
    assert decoded.replace(" ", "") == wanted.replace(" ", "")


def test_decoding_closes_up_punctuation(tokenizer):
    sentence = "the man's dog isn't here, is it?"
    assert tokenizer.decode(tokenizer([sentence])[0]) == sentence


def test_decoding_stops_at_the_end_token_and_survives_broken_utf8(tokenizer):
    dog = tokenizer(["dog"])[0, 1]
    assert tokenizer.decode([49406, dog, 49407, dog]) == "dog"
    lone_byte = 187  # 0xFF, never valid UTF-8
    assert tokenizer.decode([lone_byte]) == "\ufffd"
    for token in (-1, 49408, 10**12):
        with pytest.raises(ArgumentError, match="unknown"):
            tokenizer.decode([token])


# --- the file in a plan ---------------------------------------------------------------------------


def test_json_round_trip_and_the_package_that_defines_the_format(tokenizer):
    data = tokenizer.to_json()
    texts = ["a small brown dog", "don't! 42 😀", "sky-other-merged"]
    again = ClipTokenizer.from_json(data)
    np.testing.assert_array_equal(again(texts), tokenizer(texts))
    assert again.to_json() == data == tokenizer.to_json()
    assert (again.vocab_size, again.start_token, again.end_token) == (49408, 49406, 49407)

    from tokenizers import Tokenizer

    other = Tokenizer.from_str(data.decode())
    for text in texts:
        wanted = tokenizer([text])[0]
        ids = other.encode(text, add_special_tokens=False).ids
        assert ids == wanted[1 : 1 + len(ids)].tolist()


def test_json_with_merges_as_single_strings(tokenizer):
    document = json.loads(tokenizer.to_json())
    document["model"]["merges"] = [
        pair if isinstance(pair, str) else " ".join(pair) for pair in document["model"]["merges"]
    ]
    again = ClipTokenizer.from_json(json.dumps(document))
    np.testing.assert_array_equal(again(["a red mug"]), tokenizer(["a red mug"]))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"null",
        b'{"model": []}',
        b'{"model": {"type": "WordPiece", "merges": []}}',
        b'{"model": {"type": "BPE", "merges": {}}}',
        b'{"model": {"type": "BPE", "merges": [3]}}',
        b'{"model": {"type": "BPE", "merges": ["one"]}}',
        b'{"model": {"type": "BPE", "merges": ["a b c"]}}',
        b'{"model": {"type": "BPE", "merges": [["a", ""]]}}',
        b'{"model": {"type": "BPE", "merges": ["a b", "a b"]}}',
        b'{"model": {"type": "BPE", "merges": ["unknown pieces"]}}',
        b"[" * 100_000,
        b'{"model": {"type": "BPE", "merges": [' + b'"a b",' * 200_000 + b'"a b"]}}',
        b" " * (17 << 20),
    ],
    ids=lambda data: repr(data[:50]),
)
def test_a_bad_tokenizer_file_is_refused(data):
    with pytest.raises(PlanError):
        ClipTokenizer.from_json(data)


# --- use ------------------------------------------------------------------------------------------


def test_many_threads_share_one_tokenizer(tokenizer):
    texts = [f"object {index} on the table" for index in range(200)]
    wanted = tokenizer(texts)
    with ThreadPoolExecutor(8) as pool:
        for ids in pool.map(lambda _: tokenizer(texts), range(32)):
            np.testing.assert_array_equal(ids, wanted)


def test_the_tokenizer_module_needs_no_heavy_package():
    import subprocess

    code = (
        "import sys, xdecoder_rt.words.tokenizer\n"
        "bad = {'torch', 'onnx', 'scipy', 'matplotlib', 'transformers'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
