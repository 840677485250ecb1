"""Words by example: marked in images, compared as texts are, saved, carried, refused elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from xdecoder_rt import Engine, Vocabulary, Word
from xdecoder_rt.cli import main
from xdecoder_rt.errors import ArgumentError, ImageError, VocabularyError
from xdecoder_rt.questions.example import _overlaps
from xdecoder_rt.words.carried import carry
from xdecoder_rt.words.encoder import unit
from xdecoder_rt.words.example import Example

SIZE = (64, 64)
MODEL = "0" * 64


def frame(seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def engine(tiny_plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    cache = tmp_path_factory.mktemp("cache")
    with Engine(tiny_plan, backend="onnxruntime", threads=1, cache_dir=cache) as engine:
        yield engine


def outlines(engine: Engine, image: npt.NDArray[np.uint8]) -> tuple[np.ndarray, np.ndarray]:
    """Return the class embeddings of the queries and their masks in the image's pixels."""
    state = engine.decode(image)
    assert state.latents is not None
    decoder = engine.manifest.decoder
    count = decoder.num_queries - (not decoder.class_token_is_mask)
    masks = engine._runtime.masks(state, state.latents.mask_embedding[:count]) > 0
    stride = SIZE[0] // masks.shape[1]
    return state.latents.class_embedding[:count], masks.repeat(stride, 1).repeat(stride, 2)


def clear_query(masks: np.ndarray) -> int:
    """Return a query whose mask is no other query's."""
    alike = _overlaps(masks, masks[0], False)
    for query, mask in enumerate(masks):
        alike = _overlaps(masks, mask, False)
        if 0.05 < mask.mean() < 0.9 and (alike == 1).sum() == 1:
            return query
    pytest.fail("the tiny model outlines nothing of its own")


def marked(engine: Engine, seed: int = 0, name: str = "gizmo") -> Word:
    image = frame(seed)
    _, masks = outlines(engine, image)
    return engine.example(image, masks[clear_query(masks)], name)


# --- making one -----------------------------------------------------------------------------------


def test_an_example_is_what_the_query_on_the_mark_says(engine: Engine) -> None:
    image = frame()
    classes, masks = outlines(engine, image)
    query = clear_query(masks)
    word = engine.example(image, masks[query], "gizmo")
    assert word.example is not None
    assert (word.name, word.example.marks) == ("gizmo", 1)
    assert word.example.model == engine.manifest.model.weights_sha256
    np.testing.assert_allclose(word.example.row(), unit(classes[query]), atol=1e-6)


def test_several_marks_are_averaged_each_as_unit_vector(engine: Engine) -> None:
    rows, images, regions = [], [], []
    for seed in range(3):
        image = frame(seed)
        classes, masks = outlines(engine, image)
        query = clear_query(masks)
        rows.append(unit(classes[query]))
        images.append(image)
        regions.append(masks[query])
    word = engine.example(images, regions, "gizmo")
    assert word.example is not None and word.example.marks == 3
    np.testing.assert_allclose(word.example.row(), unit(np.mean(rows, axis=0)), atol=1e-6)


def test_an_encoded_image_can_be_marked_twice(engine: Engine) -> None:
    state = engine.encode(frame())
    _, masks = outlines(engine, frame())
    mask = masks[clear_query(masks)]
    word = engine.example([state, state], [mask, mask], "gizmo")
    once = engine.example(state, mask, "gizmo")
    assert word.example is not None and once.example is not None
    np.testing.assert_allclose(word.example.row(), once.example.row(), atol=1e-6)


def test_a_box_finds_the_mask_that_fills_little_of_it() -> None:
    thin = np.eye(16, dtype=bool)
    round_, elsewhere = np.zeros((2, 16, 16), bool)
    round_[2:10, 2:10] = True
    elsewhere[0, 15] = True
    box = np.zeros((16, 16), bool)
    box[:, :] = True
    masks = np.stack([thin, round_, elsewhere])
    assert _overlaps(masks, box, True).tolist()[0] == 1.0
    assert _overlaps(masks, box, False).argmax() == 1
    box[:], box[2:10, 2:10] = False, True
    assert _overlaps(masks, box, True).argmax() == 1


@pytest.mark.parametrize(
    ("images", "regions", "message"),
    [
        ([], [], "no images"),
        ([frame()], [], "0 images and 1"),
        ([frame(), frame()], [(0, 0, 9, 9)], "1 images and 2"),
        (frame(), (0, 0), r"region is \(0, 0\)"),
        (frame(), np.zeros(SIZE, bool), "empty"),
        (frame(), np.ones((8, 8), bool), "8x8"),
        (frame(), np.eye(64, dtype=bool) & (np.arange(64) % 32 == 31), "outlines nothing"),
    ],
)
def test_marks_that_show_nothing_are_refused(
    engine: Engine, images: object, regions: object, message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        engine.example(images, regions, "gizmo")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", " ", "a\0b", "x" * 2000, 3, None])
def test_a_name_that_no_word_may_have_is_refused(engine: Engine, name: object) -> None:
    with pytest.raises(VocabularyError):
        engine.example(frame(), (0, 0, 64, 64), name)  # type: ignore[arg-type]


# --- among words ----------------------------------------------------------------------------------


def test_an_example_stands_where_its_names_text_would(engine: Engine) -> None:
    word = marked(engine)
    assert word.example is not None
    table = engine.class_table(["mug", word, "table"])
    plain = engine.class_table(["mug", "gizmo", "table"])
    np.testing.assert_array_equal(table[1], word.example.row())
    np.testing.assert_array_equal(table[[0, 2, 3]], plain[[0, 2, 3]])
    assert not np.allclose(plain[1], table[1])
    assert engine.class_table(["mug", word, "table"]) is table


def test_synonyms_of_an_example_are_texts(engine: Engine) -> None:
    word = replace(marked(engine), synonyms=("mug",))
    table = engine.class_table([word])
    np.testing.assert_array_equal(table[1], engine.class_table(["mug"])[0])


def test_the_name_of_an_example_is_not_embedded(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    word = marked(engine, name="a name that nobody has embedded")
    engine.class_table(["mug"])

    def refuse(_: object) -> object:
        raise AssertionError("the text graph was run")

    monkeypatch.setattr(engine._runtime.text_graph, "_graph", refuse)
    engine.segment(frame(), ["mug", word])


def test_the_query_that_was_marked_is_given_the_examples_name(engine: Engine) -> None:
    image = frame()
    _, masks = outlines(engine, image)
    mask = masks[clear_query(masks)]
    word = engine.example(image, mask, "gizmo")
    found = engine.segment(image, [word, "mug"], task="instance", min_score=0.0)
    gizmos = [i for i, info in enumerate(found.segments_info) if info["label"] == "gizmo"]
    assert gizmos and found.masks is not None
    best = found.masks[gizmos[0]]  # the best come first
    assert (best & mask).sum() / (best | mask).sum() > 0.7


def test_an_example_of_another_model_is_refused_by_name(engine: Engine) -> None:
    word = marked(engine)
    assert word.example is not None
    foreign = replace(word, example=replace(word.example, model=MODEL))
    for ask in (engine.segment, lambda image, words: engine.class_table(words)):
        with pytest.raises(VocabularyError, match="'gizmo' was made with another model"):
            ask(frame(), [foreign])
    short = Example(word.example.model, np.eye(1, 4, dtype="<f4").tobytes())
    with pytest.raises(VocabularyError, match="another model"):
        engine.segment(frame(), [replace(word, example=short)])


@pytest.mark.parametrize("example", ["text", 3, b"bytes"])
def test_what_is_no_example_is_refused(engine: Engine, example: object) -> None:
    with pytest.raises(VocabularyError, match="The example of Vocabulary entry 0"):
        engine.segment(frame(), [Word("gizmo", example=example)])  # type: ignore[arg-type]


def test_another_class_and_the_void_class_have_no_example(engine: Engine) -> None:
    word = marked(engine)
    with pytest.raises(VocabularyError, match="other class"):
        Vocabulary.parse(["mug"], other=word)
    void = replace(word, name="background", synonyms=("mug",))
    left = Vocabulary.parse([void, "table"]).without_void("background")
    assert left.words[0].name == "mug" and left.words[0].example is None


# --- in files and plans ---------------------------------------------------------------------------


@given(
    st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=40), st.integers(1, 9), st.booleans()
)
def test_an_example_comes_back_from_json_as_it_was(
    values: list[float], marks: int, has_region: bool
) -> None:
    row = unit(np.array([*values, 1.5], np.float32)).astype("<f4").tobytes()
    example = Example(MODEL, row, row if has_region else b"", marks)
    words = Vocabulary.parse([Word("gizmo", ("thing",), example=example), "mug"])
    from xdecoder_rt.words.files import words_from_json, words_to_json

    data = words_to_json(words.words, None, words.next_id)
    assert Vocabulary.from_list(words_from_json(data)) == words


def test_a_file_of_text_has_no_place_for_an_example(engine: Engine, tmp_path: Path) -> None:
    words = Vocabulary.parse([marked(engine)])
    with pytest.raises(VocabularyError, match=r"\.json"):
        words.save(tmp_path / "mine.txt")
    words.save(tmp_path / "mine.json")
    assert Vocabulary.load(tmp_path / "mine.json") == words


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "abc"}, "model"),
        ({"model": MODEL.upper().replace("0", "A")}, "model"),
        ({"marks": 0}, "marks"),
        ({"marks": True}, "marks"),
        ({"class_embedding": "!!"}, "Base64"),
        ({"class_embedding": ""}, "unit length"),
        ({"class_embedding": "AAAA"}, "unit length"),
        ({"class_embedding": "AACAfw=="}, "unit length"),  # infinite
        ({"region_embedding": "AACAPw=="}, "two widths"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_file_with_an_example_that_is_none_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    fields = Example(MODEL, np.eye(1, 2, dtype="<f4").tobytes()).to_json()
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([{"name": "gizmo", "example": {**fields, **change}}]))
    with pytest.raises(VocabularyError, match=message):
        Vocabulary.load(path)


def test_a_plan_carries_examples_and_knows_their_names_texts_no_better(
    engine: Engine, tiny_plan: Path, tmp_path: Path
) -> None:
    words = Vocabulary.parse(["mug", marked(engine)])
    path = tmp_path / "robot.plan"
    carry(tiny_plan, path, "mine", words, engine.class_table(words))
    with Engine(path, backend="onnxruntime", threads=1, cache_dir=tmp_path / "cache") as robot:
        carried = robot.vocabularies["mine"]
        assert carried == words
        np.testing.assert_array_equal(robot.class_table(carried), engine.class_table(words))
        np.testing.assert_allclose(
            robot.class_table(["gizmo"]), engine.class_table(["gizmo"]), atol=1e-6
        )


# --- where a classifier names regions -------------------------------------------------------------


def test_an_example_has_what_the_classifier_says_of_its_region(
    naming_plan: Path, tmp_path: Path
) -> None:
    with Engine(
        naming_plan, backend="onnxruntime", threads=1, cache_dir=tmp_path / "cache"
    ) as naming:
        word = marked(naming)
        assert word.example is not None and word.example.region_embedding
        text = naming._runtime.text
        words = Vocabulary.parse([word, "mug"])
        table = text.region_table(words)
        np.testing.assert_array_equal(table[0], word.example.row(of_region=True))
        np.testing.assert_array_equal(table[1:], text.class_table(words)[1:])
        assert text.region_table(Vocabulary.parse(["mug"])) is naming.class_table(["mug"])
        naming.segment(frame(), words)


# --- on the command line --------------------------------------------------------------------------


@pytest.fixture
def desk(tiny_plan: Path, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an image, a mask of a thing in it, and a file of words."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDECODER_RT_CACHE", str(tmp_path / "cache"))
    image = frame()
    _, masks = outlines(engine, image)
    Image.fromarray(image).save("a.png")
    Image.fromarray(masks[clear_query(masks)]).save("mask.png")
    Vocabulary.parse([Word("mug", id=7), Word("gizmo", stuff=True, id=3)]).save("words.json")
    return tiny_plan


def example_command(plan: Path, *arguments: str) -> int:
    quickly = ("--backend", "onnxruntime", "--threads", "1")
    return main(["vocab", "example", *arguments, "--plan", str(plan), *quickly])


def test_the_command_makes_a_file_of_words(desk: Path, engine: Engine) -> None:
    assert example_command(desk, "new.json", "--name", "gizmo", "--mark", "a.png", "mask.png") == 0
    (word,) = Vocabulary.load("new.json").words
    assert word.example == marked(engine).example
    assert main(["segment", "a.png", "--plan", str(desk), "--words-file", "new.json"]) == 0


def test_the_command_adds_to_a_file_and_keeps_what_is_said_of_a_word(desk: Path) -> None:
    marks = ("--mark", "a.png", "mask.png", "--mark", "a.png", "mask.png")
    for name in ("Gizmo", "gadget"):
        assert example_command(desk, "words.json", "--name", name, *marks) == 0
    words = {word.name: word for word in Vocabulary.load("words.json").words}
    assert [(w.name, w.id, w.stuff) for w in words.values()] == [
        ("mug", 7, False),
        ("gizmo", 3, True),
        ("gadget", 8, False),
    ]
    assert words["mug"].example is None
    assert words["gizmo"].example == words["gadget"].example
    assert words["gizmo"].example is not None and words["gizmo"].example.marks == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("words.txt", "--name", "x", "--mark", "a.png", "mask.png"), "json"),
        (("words.json", "--name", "x", "--mark", "a.png", "none.png"), "none.png"),
        (("words.json", "--name", "x", "--mark", "none.png", "0,0,64,64"), "none.png"),
        (("words.json", "--name", "x", "--mark", "a.png", "70,0,90,64"), "no pixel"),
        (("words.json", "--name", "", "--mark", "a.png", "mask.png"), "empty"),
    ],
)
def test_the_command_says_what_is_wrong_and_leaves_the_file(
    desk: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    before = Path("words.json").read_bytes()
    assert example_command(desk, *arguments) == 1
    err = capsys.readouterr().err
    assert message in err and len(err.strip().splitlines()) == 1
    assert Path("words.json").read_bytes() == before
    assert not Path("words.txt").exists()


def test_exported_embeddings_are_texts_alone(desk: Path) -> None:
    from xdecoder_rt.words.embedding_file import EmbeddingFile

    assert (
        example_command(desk, "words.json", "--name", "gizmo", "--mark", "a.png", "mask.png") == 0
    )
    words = ("--words-file", "words.json", "--plan", str(desk))
    assert main(["vocab", "export", "out.words", *words]) == 0
    assert {key.partition("\0")[2] for key in EmbeddingFile.read("out.words").vectors} == {
        "mug",
        "background",
    }


def test_an_image_that_cannot_be_read_is_an_error_of_images(engine: Engine) -> None:
    with pytest.raises(ImageError):
        engine.example("nowhere.png", (0, 0, 9, 9), "gizmo")
