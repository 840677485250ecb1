"""Words that travel: in a plan, and in a file from one machine's cache to another's."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdecoder_rt import Engine, Plan, Vocabulary, Word
from xdecoder_rt.cli import main
from xdecoder_rt.errors import PlanError, VocabularyError
from xdecoder_rt.plan.file import write_plan
from xdecoder_rt.plan.manifest import Manifest
from xdecoder_rt.words.cache import TextCache
from xdecoder_rt.words.carried import carry
from xdecoder_rt.words.embedding_file import EmbeddingFile

WORDS = Vocabulary.parse(
    ["mug", ["sofa", "couch"], Word("floor", stuff=True), Word("hand", negative=True)], other="else"
)


@pytest.fixture(scope="module")
def carrying(tiny_plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny plan with a vocabulary in it."""
    path = tmp_path_factory.mktemp("carrying") / "robot.plan"
    with Engine(tiny_plan, cache_dir=path.parent / "cache") as engine:
        table = engine.class_table(WORDS)
    carry(tiny_plan, path, "kitchen", WORDS, table)
    return path


def offline(engine: Engine) -> Engine:
    """An engine that fails where it would run the text graph."""

    def refuse(_: Any) -> Any:
        raise AssertionError("the text graph was run")

    engine._runtime.text_graph._graph = refuse
    return engine


# --- in a plan ------------------------------------------------------------------------------------


def test_a_carried_vocabulary_needs_no_text_graph(
    carrying: Path, tiny_plan: Path, tmp_path: Path
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    with Engine(tiny_plan, cache_dir=tmp_path / "one") as engine:
        expected = engine.segment(image, WORDS, task="semantic")
    with offline(Engine(carrying, cache_dir=tmp_path / "two")) as engine:
        words = engine.vocabularies["kitchen"]
        assert words == WORDS, "with rules and ids"
        found = engine.segment(image, words, task="semantic")
        engine.segment(image, ["couch", "mug"])
        assert engine.text_cache.stats.plan_hits == 6 + 3, "and the void class"
        assert engine.text_cache.stats.misses == 0
    np.testing.assert_array_equal(found.segmentation, expected.segmentation)
    assert found.segments_info == expected.segments_info


def test_the_plan_is_whole_and_says_what_it_carries(
    carrying: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(carrying)]) == 0
    assert "kitchen: 5 words embedded" in capsys.readouterr().out


def test_a_vocabulary_of_the_same_name_is_replaced(carrying: Path, tmp_path: Path) -> None:
    path = tmp_path / "robot.plan"
    with Engine(carrying, cache_dir=tmp_path) as engine:
        for name, words in (("kitchen", ["cup"]), ("lab", ["arm"])):
            parsed = Vocabulary.parse(words)
            carry(
                path if path.exists() else carrying, path, name, parsed, engine.class_table(words)
            )
    with Engine(path, cache_dir=tmp_path) as engine:
        labels = {name: words.labels for name, words in engine.vocabularies.items()}
    assert labels == {"kitchen": ("cup",), "lab": ("arm",)}


@pytest.mark.parametrize("name", ["", "a b", "../x", "-", "x" * 61])
def test_names_that_cannot_be(carrying: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(VocabularyError, match="cannot be a vocabulary's"):
        carry(carrying, tmp_path / "x.plan", name, WORDS, np.zeros((6, 16), np.float32))


@pytest.mark.parametrize(
    ("member", "data", "message"),
    [
        ("vocabularies/kitchen.f32", b"\0" * 8, "have 8 bytes"),
        ("vocabularies/kitchen.json", b'["mug"]', "has 1 texts"),
        ("vocabularies/kitchen.json", b'["mug", "mug"]', "twice"),
        ("vocabularies/kitchen.json", b"\xff", "unusable"),
    ],
)
def test_a_plan_with_an_unusable_vocabulary(
    carrying: Path, tmp_path: Path, member: str, data: bytes, message: str
) -> None:
    with Plan.open(carrying) as plan:
        members = {name: plan.read(name) for name in plan.names} | {member: data}
        write_plan(tmp_path / "bad.plan", plan.manifest, members)
    with (
        Engine(tmp_path / "bad.plan", cache_dir=tmp_path) as engine,
        pytest.raises(PlanError, match=message),
    ):
        engine.warm(["mug"])


def test_a_carried_vocabulary_is_asked_for_by_name(
    carrying: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from PIL import Image

    monkeypatch.setenv("XDECODER_RT_CACHE", str(tmp_path))
    Image.new("RGB", (40, 30)).save(tmp_path / "photo.png")
    asked = ["segment", str(tmp_path / "photo.png"), "--plan", str(carrying), "--json"]
    assert main([*asked, "--vocabulary", "kitchen", "--words", "spoon"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["vocabulary"][1] == "mug" or document["vocabulary"][0] == "spoon"
    assert document["stuff"] == ["floor"]
    assert main([*asked, "--vocabulary", "garage"]) == 1
    assert "no vocabulary 'garage'. Expected kitchen" in capsys.readouterr().err


# --- from machine to machine ----------------------------------------------------------------------


@pytest.fixture
def vocab(tiny_plan: Path, tmp_path: Path, capsys: Any) -> Callable[..., Any]:
    """Runs ``vocab`` on a machine, which is a folder of caches; gives its JSON, or its error."""

    def run(machine: str, action: str, *arguments: object, plan: Path = tiny_plan) -> Any:
        options = ["--plan", plan, "--cache-dir", tmp_path / machine, "--json"]
        code = main(["vocab", action, *map(str, (*arguments, *options))])
        out, err = capsys.readouterr()
        return json.loads(out) if code == 0 else err

    return run


def test_words_go_from_a_workstation_to_a_robot(
    vocab: Any, tiny_plan: Path, tmp_path: Path
) -> None:
    file = tmp_path / "kitchen.words"
    assert vocab("workstation", "embed", "--words", "mug", "sofa|couch")["embedded"] == 4
    assert vocab("workstation", "embed", "--words", "mug", "cup")["embedded"] == 1
    assert vocab("workstation", "export", file, "--words", "mug", "cup")["embeddings"] == 3
    assert vocab("robot", "import", file)["new"] == 3
    assert vocab("robot", "import", file)["known"] == 3
    listed = vocab("robot", "list")
    assert sorted(one["text"] for one in listed["texts"]) == ["background", "cup", "mug"]
    assert {one["kind"] for one in listed["texts"]} == {"class"}
    with (
        Engine(tiny_plan, cache_dir=tmp_path / "workstation") as one,
        offline(Engine(tiny_plan, cache_dir=tmp_path / "robot")) as other,
    ):
        words = ["cup", "mug"]
        np.testing.assert_array_equal(one.class_table(words), other.class_table(words))
        assert other.text_cache.stats.disk_hits == 3


def test_all_that_a_cache_has_is_exported_where_no_words_are_named(
    vocab: Any, tmp_path: Path
) -> None:
    assert "has no words of this plan" in vocab("workstation", "export", tmp_path / "all.words")
    vocab("workstation", "embed", "--words", "mug", "cup")
    assert vocab("workstation", "export", tmp_path / "all.words")["embeddings"] == 3


def test_an_export_replaces_embeddings_and_nothing_else(
    vocab: Any, tiny_plan: Path, tmp_path: Path
) -> None:
    plan = tmp_path / "robot.plan"
    plan.write_bytes(tiny_plan.read_bytes())
    assert "is no file of embeddings" in vocab("workstation", "export", plan, "--words", "mug")
    assert plan.read_bytes() == tiny_plan.read_bytes()
    for words in (["mug"], ["mug", "cup"]):
        found = vocab("workstation", "export", tmp_path / "all.words", "--words", *words)
        assert found["embeddings"] == len(words) + 1


def test_words_are_written_into_a_plan(vocab: Any, tiny_plan: Path, tmp_path: Path) -> None:
    (tmp_path / "lab.txt").write_text("arm\nbin [threshold 0.3]\n")
    path = tmp_path / "robot.plan"
    done = vocab("workstation", "embed", "--words-file", tmp_path / "lab.txt", "--into", path)
    assert (done["name"], done["into"]) == ("lab", str(path))
    # The plan itself may be written anew.
    vocab("robot", "embed", "--words", "leg", "--into", path, "--name", "more", plan=path)
    listed = vocab("robot", "list", plan=path)["vocabularies"]
    assert listed["lab"][0] == "arm" and listed["lab"][1]["threshold"] == 0.3
    assert listed["more"] == ["leg"]


def test_embeddings_of_another_text_graph_are_refused(
    vocab: Any, altered: Callable[[Callable[[Manifest], Manifest]], Path], tmp_path: Path
) -> None:
    file = tmp_path / "kitchen.words"
    vocab("workstation", "export", file, "--words", "mug")
    found = EmbeddingFile.read(file)
    replace(found, text_graph="0" * 64).write(tmp_path / "other.words")
    assert "made by the text graph 0000" in vocab("robot", "import", tmp_path / "other.words")
    for count in (7, 32):  # embeddings have 16 values
        wrong = {"class\0mug": np.ones(count, np.float32)}
        replace(found, vectors=wrong).write(tmp_path / "wrong.words")
        assert "another length" in vocab("robot", "import", tmp_path / "wrong.words")

    def other_templates(manifest: Manifest) -> Manifest:
        return replace(manifest, text=replace(manifest.text, templates=("one {}",)))

    assert "other templates" in vocab("robot", "import", file, plan=altered(other_templates))

    def made_from(manifest: Manifest) -> Manifest:
        return replace(manifest, text=replace(manifest.text, origin_sha256="0" * 64))

    descendant = altered(made_from)
    assert vocab("robot", "import", tmp_path / "other.words", plan=descendant)["new"] == 2


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_files_are_refused(data: st.DataObject, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.getbasetemp()
    vectors = {"class\0mug": np.arange(4, dtype=np.float32), "text\0é": np.ones(2, np.float32)}
    EmbeddingFile("a" * 64, "b" * 64, vectors).write(folder / "good.words")
    raw = bytearray((folder / "good.words").read_bytes())
    place = data.draw(st.integers(0, len(raw) - 1))
    if data.draw(st.booleans()):
        raw[place] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del raw[place:]
    (folder / "bad.words").write_bytes(raw)
    with pytest.raises(VocabularyError, match="file of embeddings"):
        EmbeddingFile.read(folder / "bad.words")


VECTORS = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=9),
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=5),
    max_size=5,
)


@given(VECTORS)
@settings(deadline=None)
def test_files_are_read_as_written(tmp_path_factory: Any, entries: dict[str, list[float]]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.words"
    vectors = {text: np.array(values, np.float32) for text, values in entries.items()}
    EmbeddingFile("a", "b", vectors).write(path)
    found = EmbeddingFile.read(path)
    assert (found.text_graph, found.templates) == ("a", "b")
    assert found.vectors.keys() == vectors.keys()
    for text, vector in vectors.items():
        np.testing.assert_array_equal(found.vectors[text], vector)


@pytest.mark.parametrize(
    "header",
    [
        {"texts": ["a"], "lengths": [1]},
        {"text_graph": "a", "templates": "b", "texts": "a", "lengths": [1]},
        {"text_graph": "a", "templates": "b", "texts": ["a"], "lengths": [2]},
        {"text_graph": "a", "templates": "b", "texts": ["a"], "lengths": [-1]},
        {"text_graph": "a", "templates": "b", "texts": ["a", "a"], "lengths": [1, 0]},
        {"text_graph": "a", "templates": "b", "texts": [["a"]], "lengths": [1]},
    ],
)
def test_headers_that_lie(tmp_path: Path, header: dict[str, Any]) -> None:
    import hashlib

    from xdecoder_rt.words.embedding_file import MAGIC

    text = json.dumps(header).encode()
    body = MAGIC + len(text).to_bytes(8, "little") + text + b"\0\0\0\0"
    path = tmp_path / "lie.words"
    path.write_bytes(body + hashlib.sha256(body).digest())
    with pytest.raises(VocabularyError):
        EmbeddingFile.read(path)


# --- the counts that a cache keeps ----------------------------------------------------------------


def test_counts_add_up_over_engines(tiny_plan: Path, tmp_path: Path) -> None:
    for _ in range(2):
        with Engine(tiny_plan, cache_dir=tmp_path) as engine:
            engine.warm(["mug", "cup"])
            engine.warm(["mug", "cup"])
            assert engine.text_cache.stats.tables == 1
    counts = TextCache(tmp_path, namespace="any").summary().counts
    assert (counts["misses"], counts["disk_hits"], counts["tables"]) == (3, 3, 2)
