"""Rendered drawings are believed only where this user alone can have kept them, and as sprites."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xdecoder_rt.scenes.sprites import SpriteCache, lexicon

pytest.importorskip("resvg_py", reason="rendering drawings needs resvg_py")

DRAWING = lexicon()[0]
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10">'
    '<rect x="1" y="1" width="8" height="8" fill="red"/></svg>'
)


@pytest.fixture
def clipart(tmp_path: Path) -> Path:
    path = tmp_path / "svg" / DRAWING.path
    path.parent.mkdir(parents=True)
    path.write_text(SVG)
    return tmp_path / "svg"


def kept(clipart: Path, cache: Path) -> Path:
    """Render the drawing and return the file that keeps it."""
    assert SpriteCache(clipart, cache).load(DRAWING) is not None
    (path,) = cache.glob("*.png")
    return path


def is_red(sprite: np.ndarray | None) -> bool:
    return sprite is not None and sprite[160, 160].tolist() == [255, 0, 0, 255]


def test_what_is_kept_is_private(clipart: Path, tmp_path: Path) -> None:
    old = os.umask(0o002)
    try:
        path = kept(clipart, tmp_path / "cache")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    Image.new("RGBA", (320, 320), (0, 255, 0, 255)).save(path)
    assert not is_red(SpriteCache(clipart, tmp_path / "cache").load(DRAWING))  # it is read


def green(side: int) -> Image.Image:
    return Image.new("RGBA", (side, side), (0, 255, 0, 255))


def bomb(path: Path) -> None:
    """A PNG that says that it has 20,000 x 20,000 pixels."""
    data = bytearray(path.read_bytes())
    data[16:24] = (20_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        bomb,
        lambda path: path.write_bytes(path.read_bytes()[:200]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"GIF89a"),
        lambda path: green(64).save(path),
        lambda path: green(640).save(path),
        lambda path: green(320).convert("RGB").save(path),
        lambda path: (path.unlink(), os.mkfifo(path)),
        lambda path: (path.rename(f"{path}.x"), path.symlink_to(f"{path}.x")),
        lambda path: (green(320).save(path), path.chmod(0o622)),
        lambda path: (green(320).save(path), os.link(path, f"{path}.x")),
    ],
    ids=["bomb", "cut", "empty", "not a png", "small", "large", "no alpha", "pipe", "link",
         "others may write", "second name"],
)  # fmt: skip
def test_what_cannot_be_a_sprite_of_this_user_s_is_rendered_again(
    damage: object, clipart: Path, tmp_path: Path
) -> None:
    path = kept(clipart, tmp_path / "cache")
    damage(path)  # type: ignore[operator]
    cache = SpriteCache(clipart, tmp_path / "cache")
    assert is_red(cache.load(DRAWING))
    assert path.is_file() and not path.is_symlink()
    with Image.open(path) as image:
        assert image.size == (320, 320)
    assert is_red(cache.load(DRAWING))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda cache: cache.write_text(""),
        lambda cache: (cache.mkdir(), cache.chmod(0o777)),
        lambda cache: ((cache.parent / "x").mkdir(), cache.symlink_to(cache.parent / "x")),
    ],
    ids=["a file", "others may write", "a link"],
)
def test_a_folder_that_others_may_have_written_is_not_used(
    spoil: object, clipart: Path, tmp_path: Path
) -> None:
    spoil(tmp_path / "cache")  # type: ignore[operator]
    with pytest.warns(RuntimeWarning, match="cannot be kept in .*cache"):
        cache = SpriteCache(clipart, tmp_path / "cache")
    assert is_red(cache.load(DRAWING))
    assert not list(tmp_path.glob("**/*.png"))


def test_what_a_killed_writer_left_is_removed_in_time(clipart: Path, tmp_path: Path) -> None:
    path = kept(clipart, tmp_path / "cache")
    old, new = path.with_name(f".{path.name}.1234"), path.with_name(f".{path.name}.ab.tmp")
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (0, 0))
    SpriteCache(clipart, tmp_path / "cache")
    assert not old.exists()
    assert new.exists()


def test_a_drawing_of_extreme_proportions_is_left_out(clipart: Path, tmp_path: Path) -> None:
    (clipart / DRAWING.path).write_text(SVG.replace("0 0 10 10", "0 0 1 100000"))
    assert SpriteCache(clipart, tmp_path / "cache").load(DRAWING) is None
