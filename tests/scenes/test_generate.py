"""Generated labelled folders: true to the format, repeatable, and with the splits kept apart."""

from __future__ import annotations

import hashlib
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xdecoder_rt.datasets.labelled_folder import ANNOTATIONS, LabelledFolder
from xdecoder_rt.errors import ArgumentError, DatasetError, MissingExtraError
from xdecoder_rt.scenes import generate
from xdecoder_rt.scenes.__main__ import main
from xdecoder_rt.scenes.names import canonical
from xdecoder_rt.scenes.splits import novel_names
from xdecoder_rt.scenes.sprites import Drawing, SpriteCache, lexicon

pytest.importorskip("resvg_py", reason="the package resvg_py is not installed")

SHAPES = (
    '<circle cx="50" cy="50" r="45" fill="{}"/>',
    '<rect x="10" y="20" width="80" height="60" fill="{}"/>',
    '<path d="M50 5 L95 95 L5 95 Z" fill="{}"/>',
    '<circle cx="50" cy="50" r="40" fill="none" stroke="{}" stroke-width="6"/>',
)
SIZE = (96, 128)


def draw_svg(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = SHAPES[number % len(SHAPES)].format(f"hsl({number * 37 % 360},70%,50%)")
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="100pt" height="100pt" '
        f'viewBox="0 0 100 100">{shape}</svg>'
    )


@pytest.fixture(scope="module")
def clipart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip-art folder with every ninth of the named drawings, each a simple shape."""
    root = tmp_path_factory.mktemp("clipart")
    for number, drawing in enumerate(lexicon()):
        if number % 9 == 0:
            draw_svg(root / drawing.path, number)
    return root


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def clipart_folder(
    out: Path, clipart: Path, cache: Path, count: int = 6, **options: object
) -> LabelledFolder:
    return generate(
        "clipart", out, count, size=SIZE, clipart_dir=clipart, cache_dir=cache, progress=False,
        **{"workers": 1, **options},  # type: ignore[arg-type]
    )  # fmt: skip


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def labels_of(folder: LabelledFolder) -> set[str]:
    return {segment.label for item in folder.items for segment in item.segments}


def test_a_generated_folder_passes_the_strict_reader(
    tmp_path: Path, clipart: Path, cache: Path
) -> None:
    clipart_folder(tmp_path / "out", clipart, cache)
    folder = LabelledFolder.open(tmp_path / "out", verify=True)  # areas, ids and sizes are exact
    assert len(folder) == 6
    for item in folder.items:
        assert item.load_image().shape == (*SIZE, 3)
        assert any(segment.isthing for segment in item.segments)
        assert all(segment.area >= 16 for segment in item.segments)
        assert item.captions
    assert any(item.phrases for item in folder.items)


def test_scenes_do_not_depend_on_the_number_of_workers(
    tmp_path: Path, clipart: Path, cache: Path
) -> None:
    clipart_folder(tmp_path / "one", clipart, cache, workers=1)
    clipart_folder(tmp_path / "two", clipart, cache, workers=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_a_shorter_run_is_the_beginning_of_a_longer_one_and_seeds_differ(
    tmp_path: Path, clipart: Path, cache: Path
) -> None:
    for name, count, seed in (("long", 4, 0), ("short", 2, 0), ("other", 2, 1)):
        clipart_folder(tmp_path / name, clipart, cache, count, seed=seed)
    long, short, other = (digests(tmp_path / name) for name in ("long", "short", "other"))
    pictures = [name for name in short if name != ANNOTATIONS]
    assert all(short[name] == long[name] for name in pictures)
    assert all(short[name] != other[name] for name in pictures if name.startswith("images"))


def test_training_never_sees_a_held_out_name_and_novel_sees_nothing_else(
    tmp_path: Path, clipart: Path, cache: Path
) -> None:
    novel = novel_names()
    train = clipart_folder(tmp_path / "train", clipart, cache, 12)
    assert not novel & {canonical(label) for label in train.vocabulary}
    assert labels_of(train) <= set(train.vocabulary)
    unseen = clipart_folder(tmp_path / "novel", clipart, cache, 6, split="novel")
    assert set(unseen.vocabulary) - unseen.stuff <= novel
    for item in unseen.items:
        assert any(segment.isthing for segment in item.segments)


def test_scenes_of_chosen_names_show_nothing_else(
    tmp_path: Path, clipart: Path, cache: Path
) -> None:
    drawn = {drawing.name for drawing in SpriteCache(clipart, cache).drawings}
    chosen = sorted(drawn & novel_names())[:2]
    folder = clipart_folder(tmp_path / "few", clipart, cache, 6, split="novel", names=chosen)
    assert set(folder.vocabulary) - folder.stuff == set(chosen)
    shown = {segment.label for item in folder.items for segment in item.segments if segment.isthing}
    assert shown and shown <= set(chosen)


def test_names_that_a_split_does_not_draw_are_refused(
    tmp_path: Path, clipart: Path, cache: Path
) -> None:
    absent = sorted(novel_names())[0]
    with pytest.raises(ArgumentError, match="no drawing of") as caught:
        clipart_folder(tmp_path / "few", clipart, cache, 2, split="train", names=[absent])
    assert "names among" in str(caught.value.expected)
    with pytest.raises(ArgumentError, match="names are chosen"):
        generate("workcell", tmp_path / "few", 2, names=["mug"])
    assert not (tmp_path / "few").exists()


def test_a_name_of_another_split_comes_with_that_split(
    tmp_path: Path, clipart: Path, cache: Path
) -> None:
    from xdecoder_rt.scenes.clipart import training_drawings

    sprites = SpriteCache(clipart, cache)
    for split, other, names in (
        ("train", "novel", {d.name for d in sprites.drawings} & novel_names()),
        ("novel", "train", {d.name for d in training_drawings(sprites)}),
    ):
        with pytest.raises(ArgumentError, match="no drawing of") as caught:
            clipart_folder(tmp_path / "few", clipart, cache, 2, split=split, names=[min(names)])
        assert caught.value.fix == f"take the split {other!r}, which has one"


def test_val_has_training_names_in_other_drawings(clipart: Path, cache: Path) -> None:
    from xdecoder_rt.scenes.clipart import clipart_studio

    drawn = {}
    for split in ("train", "val"):
        studio = clipart_studio(split, clipart, cache)
        drawn[split] = {d for group in studio._by_name.values() for d in group}
    files = {split: {Path(d.path).name for d in drawn[split]} for split in drawn}
    assert not files["train"] & files["val"]
    assert {d.name for d in drawn["val"]} <= {
        d.name for d in lexicon() if d.name not in novel_names()
    }
    assert len(clipart_studio("val", clipart, cache).vocabulary) <= 150


def test_val_draws_a_fixed_part_of_its_names_or_those_that_were_asked_for(
    clipart: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xdecoder_rt.scenes import clipart as module

    monkeypatch.setattr(module, "_VAL_NAMES", 3)
    studio = module.clipart_studio("val", clipart, cache)
    names = sorted(studio._by_name)
    assert len(names) == 3
    chosen = module.clipart_studio("val", clipart, cache, names[:1])
    assert list(chosen._by_name) == names[:1]


def test_drawings_of_points_and_of_lines_become_solid_sprites(tmp_path: Path) -> None:
    drawing = lexicon()[0]
    draw_svg(tmp_path / "svg" / drawing.path, 3)  # a ring: an outline drawing of a disc
    sprite = SpriteCache(tmp_path / "svg", tmp_path / "cache").load(drawing)
    assert sprite is not None
    assert max(sprite.shape[:2]) == 320
    assert sprite[160, 160].tolist() == [255, 255, 255, 255]
    again = SpriteCache(tmp_path / "svg", tmp_path / "cache").load(drawing)
    assert np.array_equal(sprite, again)


@pytest.mark.parametrize("svg", ["not an svg", '<svg xmlns="http://www.w3.org/2000/svg"/>', ""])
def test_a_drawing_that_cannot_be_rendered_is_left_out(tmp_path: Path, svg: str) -> None:
    drawing = lexicon()[0]
    (tmp_path / drawing.path).parent.mkdir(parents=True)
    (tmp_path / drawing.path).write_text(svg)
    cache = SpriteCache(tmp_path, tmp_path / "cache")
    assert cache.load(drawing) is None
    assert cache.load(drawing) is None  # from the cache
    assert cache.load(Drawing("nowhere.svg", "cat")) is None


def test_a_missing_clipart_folder_says_how_to_get_it(tmp_path: Path, cache: Path) -> None:
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(DatasetError, match="openclipart-svg"):
            clipart_folder(tmp_path / "out", folder, cache)
    assert not (tmp_path / "out").exists()


def test_a_finished_folder_is_not_overwritten_and_an_unfinished_one_is_started_over(
    tmp_path: Path, clipart: Path, cache: Path
) -> None:
    clipart_folder(tmp_path / "out", clipart, cache, 2)
    whole = digests(tmp_path / "out")
    with pytest.raises(DatasetError, match="not an empty folder"):
        clipart_folder(tmp_path / "out", clipart, cache, 2)
    assert digests(tmp_path / "out") == whole
    (tmp_path / "out").rename(tmp_path / ".out.partial")  # as a killed run would leave it
    (tmp_path / ".out.partial" / ANNOTATIONS).unlink()
    (tmp_path / ".out.partial" / "images" / "000001.jpg").write_bytes(b"half a pic")
    clipart_folder(tmp_path / "out", clipart, cache, 2)
    assert digests(tmp_path / "out") == whole
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failing_run_leaves_nothing_behind(
    tmp_path: Path, clipart: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Image.Image.save

    def full_disk(image: Image.Image, file: object, **options: Any) -> None:
        if isinstance(file, str | Path):
            raise OSError(28, "No space left on device")
        save(image, file, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("PIL.Image.Image.save", full_disk)
    with pytest.raises(DatasetError, match="No space left"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the cache cannot be written either
        clipart_folder(tmp_path / "out", clipart, cache, 2)
    assert not list(tmp_path.iterdir())


def test_an_unwritable_cache_is_warned_of_once_and_done_without(tmp_path: Path) -> None:
    for number, drawing in enumerate(lexicon()[:3]):
        draw_svg(tmp_path / "svg" / drawing.path, number)
    (tmp_path / "file").touch()
    with pytest.warns(RuntimeWarning, match="cannot be kept") as caught:
        cache = SpriteCache(tmp_path / "svg", tmp_path / "file" / "cache")
        sprites = [cache.load(drawing) for drawing in cache.drawings]
    assert len(caught) == 1
    assert all(sprite is not None for sprite in sprites)


def test_a_broken_file_in_the_cache_is_healed(tmp_path: Path) -> None:
    drawing = lexicon()[0]
    draw_svg(tmp_path / "svg" / drawing.path, 0)
    cache = SpriteCache(tmp_path / "svg", tmp_path / "cache")
    first = cache.load(drawing)
    (kept,) = (tmp_path / "cache").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    assert np.array_equal(cache.load(drawing), first)
    assert kept.read_bytes() == whole


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"domain": "emoji"}, "clipart or workcell"),
        ({"split": "test"}, "train, val, novel"),
        ({"count": 0}, "at least 1"),
        ({"size": (64, 8)}, "8x64.*width and height from 64 to 4096"),
        ({"workers": -1}, "at least 1 process"),
        ({"workers": 0}, "at least 1 process"),
    ],
)
def test_wrong_arguments_are_named(
    tmp_path: Path, clipart: Path, cache: Path, change: dict[str, object], match: str
) -> None:
    options: dict[str, object] = {"domain": "clipart", "count": 1, "workers": 1, **change}
    with pytest.raises(ArgumentError, match=match):
        generate(out=tmp_path / "out", clipart_dir=clipart, cache_dir=cache, **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("domain", "module"), [("clipart", "resvg_py"), ("workcell", "pybullet")])
def test_a_missing_package_names_the_extra(
    tmp_path: Path, clipart: Path, monkeypatch: pytest.MonkeyPatch, domain: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"xdecoder_rt\[scenes\]"):
        generate(domain, tmp_path / "out", 1, clipart_dir=clipart, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "out").exists()


def test_the_command_generates_and_reports_errors_in_one_line(
    tmp_path: Path, clipart: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["clipart", str(tmp_path / "out"), "--count", "2", "--size", "128x96", "--quiet"]
    folders = ["--clipart-dir", str(clipart), "--cache-dir", str(cache), "--workers", "1"]
    assert main([*arguments, *folders]) == 0
    assert "2 scenes" in capsys.readouterr().out
    assert LabelledFolder.open(tmp_path / "out").items[0].load_image().shape == (96, 128, 3)
    assert main([*arguments, *folders]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1


@pytest.mark.parametrize(
    ("domain", "option"),
    [("workcell", "--clipart-dir"), ("mujoco", "--stamps-dir"), ("clipart", "--grounds-dir"),
     ("photographs", "--cache-dir"), ("photographs", "--names")],
)  # fmt: skip
def test_an_option_that_would_do_nothing_is_not_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], domain: str, option: str
) -> None:
    with pytest.raises(SystemExit):
        main([domain, str(tmp_path / "out"), option, "any"])
    assert option in capsys.readouterr().err


def test_an_interrupted_command_says_so_in_one_word_and_leaves_no_folder(
    tmp_path: Path,
    clipart: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from xdecoder_rt.scenes.clipart import ClipartStudio

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ClipartStudio, "draw", interrupted)
    folders = ["--clipart-dir", str(clipart), "--cache-dir", str(cache)]
    command = ["clipart", str(tmp_path / "out"), "--count", "1", "--quiet", *folders]
    assert main(command) == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert not list(tmp_path.iterdir())
