"""Things cut out of photographs, photographed grounds, and scenes of both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xdecoder_rt.datasets.labelled_folder import LabelledFolder
from xdecoder_rt.errors import DatasetError
from xdecoder_rt.scenes.__main__ import main
from xdecoder_rt.scenes.backdrop import BACKDROP_STUFF
from xdecoder_rt.scenes.catalogue import WORKCELL_NAMES
from xdecoder_rt.scenes.clipart import drawn_names
from xdecoder_rt.scenes.lexicons.furniture import furniture_lexicon
from xdecoder_rt.scenes.lexicons.stamps import stamp_lexicon
from xdecoder_rt.scenes.names import canonical, held_out, synonyms
from xdecoder_rt.scenes.photographs.grounds import (
    GROUND_STUFF,
    Ground,
    Grounds,
    Region,
    grounds_of,
    part_of,
)
from xdecoder_rt.scenes.photographs.stamps import Stamps, stamps_of, usual_size
from xdecoder_rt.scenes.room import ROOM_STUFF
from xdecoder_rt.scenes.splits import novel_names
from xdecoder_rt.scenes.sprites import lexicon

pytest.importorskip("cv2", reason="shadows need opencv-python-headless")


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder like `/usr/share` with made-up grounds and some made-up stamps."""
    root = tmp_path_factory.mktemp("share")
    for split in ("train", "val"):
        for number, ground in enumerate(grounds_of(split)):
            pixels = np.full((90, 120, 4), (40, 90, 20 * (number % 10), 255), np.uint8)
            if any(region.clear for region in ground.regions):
                pixels[:30, :, 3] = 0
            picture = Image.fromarray(pixels)
            path = root / ground.path
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.convert("RGB" if path.suffix == ".jpg" else "RGBA").save(path)
    for number, stamp in enumerate((*stamps_of("val"), *stamps_of("novel"))):
        pixels = np.zeros((70, 60, 4), np.uint8)
        pixels[10:60, 5:50] = (200, 10 * (number % 20), 90, 255)
        path = root / "tuxpaint/stamps" / stamp.path
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root


def test_the_lexicon_names_each_stamp_once_with_a_canonical_lower_case_noun_phrase() -> None:
    paths = [stamp.path for stamp in stamp_lexicon()]
    assert len(paths) == len(set(paths)) > 300
    for stamp in stamp_lexicon():
        assert stamp.name == canonical(stamp.name) == stamp.name.strip().lower()
        assert stamp.path.endswith(".png")
        assert not stamp.path.startswith(("symbols/", "cartoon/"))
        assert 0.01 < usual_size(stamp) < 20


def test_no_thing_of_a_photograph_or_a_home_is_called_like_a_stuff() -> None:
    names = {stamp.name for stamp in stamp_lexicon()} | {f.name for f in furniture_lexicon()}
    forms = {form for name in names for form in synonyms(name)}
    first = {d.name for d in lexicon()} | set(WORKCELL_NAMES)
    stuff = BACKDROP_STUFF | ROOM_STUFF | GROUND_STUFF
    assert not forms & stuff
    assert not {form for name in first for form in synonyms(name)} & GROUND_STUFF


def test_names_that_came_later_move_none_of_the_first_in_or_out_of_training() -> None:
    first = {canonical(d.name) for d in lexicon()} | set(WORKCELL_NAMES)
    assert novel_names() & first == held_out(first)
    later = {s.name for s in stamp_lexicon()} | {f.name for f in furniture_lexicon()}
    assert 10 < len((novel_names() - first) & later) < 0.2 * len(later)


def test_the_splits_share_no_stamp_and_val_asks_for_names_that_training_knows() -> None:
    train, val, novel = (set(stamps_of(split)) for split in ("train", "val", "novel"))
    assert train | val | novel == set(stamp_lexicon())
    assert len(train) + len(val) + len(novel) == len(stamp_lexicon())
    assert {stamp.name for stamp in novel} <= novel_names()
    assert not {stamp.name for stamp in train | val} & novel_names()
    known = {stamp.name for stamp in train} | drawn_names() | set(WORKCELL_NAMES)
    known |= {model.name for model in furniture_lexicon()}
    assert {stamp.name for stamp in val} <= known
    assert len(val) > 60
    assert len(novel) > 15
    assert len(train) > 200


def test_the_splits_share_no_ground_and_the_held_out_ones_show_several_stuffs() -> None:
    train, val = grounds_of("train"), grounds_of("val")
    assert not {ground.path for ground in train} & {ground.path for ground in val}
    assert grounds_of("novel") == val
    assert len(train) > 40
    assert len({region.label for ground in val for region in ground.regions}) >= 8
    for ground in (*train, *val):
        for region in ground.regions:
            assert all(0 <= c <= 1 for corner in region.outline for c in corner)
            assert len(region.outline) != 1
            assert len(region.outline) != 2


def test_a_stamp_is_cropped_to_what_is_visible(share: Path) -> None:
    stamps = Stamps(share / "tuxpaint/stamps")
    assert stamps.load(stamps.stamps[0]).shape == (50, 45, 4)


def test_a_stamp_without_a_thing_or_pixels_is_told_by_its_file(share: Path, tmp_path: Path) -> None:
    stamps = Stamps(share / "tuxpaint/stamps")
    stamp = stamps.stamps[0]
    path = tmp_path / stamp.path
    path.parent.mkdir(parents=True)
    for content in (b"", b"no picture"):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=r"cannot be read"):
            Stamps(tmp_path).load(stamp)
    Image.new("RGBA", (40, 40)).save(path)
    with pytest.raises(DatasetError, match=r"next to nothing"):
        Stamps(tmp_path).load(stamp)
    Image.new("RGBA", (4000, 4000), "red").save(path)
    with pytest.raises(DatasetError, match=r"4000 x 4000"):
        Stamps(tmp_path).load(stamp)


def test_a_folder_without_stamps_says_which_package_has_them(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        Stamps(tmp_path)
    assert "tuxpaint-stamps-default" in str(caught.value)


def test_a_missing_held_out_ground_is_an_error_that_names_its_package(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        Grounds(tmp_path, "val")
    assert "apt-get install lxqt-themes mate-backgrounds stellarium-data" in str(caught.value)
    assert "tuxpaint-data" in str(caught.value)


def test_training_takes_the_grounds_that_are_there(share: Path, tmp_path: Path) -> None:
    ground = grounds_of("train")[0]
    (tmp_path / ground.path).parent.mkdir(parents=True)
    (tmp_path / ground.path).write_bytes((share / ground.path).read_bytes())
    assert Grounds(tmp_path, "train").grounds == (ground,)


def test_regions_lie_over_earlier_ones_and_what_is_transparent_becomes_sky(tmp_path: Path) -> None:
    pixels = np.full((40, 80, 4), 200, np.uint8)
    pixels[..., 3] = 255
    pixels[:10, :, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "ground.png")
    outline = ((0.0, 0.5), (1.0, 0.5), (1.0, 1.0), (0.0, 1.0))
    regions = (Region("field"), Region("snow", outline), Region("sky", clear=True))
    ground = Ground("ground.png", "a-package", "val", regions)
    grounds = object.__new__(Grounds)
    grounds.root = tmp_path
    scene = grounds.load(ground, np.random.default_rng(1))
    assert scene.labels == {1: "field", 2: "snow", 3: "sky"}
    assert scene.ids[5, 40] == 3
    assert scene.ids[15, 40] == 1
    assert scene.ids[30, 40] == 2
    assert (scene.image[25] == 200).all()
    assert not (scene.image[5] == scene.image[25]).all()
    part = part_of(scene, (20, 40), np.random.default_rng(2))
    assert part.image.shape == (20, 40, 3)
    assert set(part.labels) == set(np.unique(part.ids).tolist())


@pytest.mark.parametrize("split", ["val", "novel"])
def test_scenes_of_held_out_things_are_the_same_on_every_run(
    share: Path, tmp_path: Path, split: str
) -> None:
    for name in ("first", "second"):
        arguments = [
            "photographs", str(tmp_path / name), "--count", "4", "--split", split, "--workers", "1",
            "--size", "160x120", "--stamps-dir", str(share / "tuxpaint/stamps"),
            "--grounds-dir", str(share), "--quiet",
        ]  # fmt: skip
        assert main(arguments) == 0
    first, second = (LabelledFolder.open(tmp_path / name) for name in ("first", "second"))
    things = {stamp.name for stamp in stamps_of(split)}
    assert set(first.vocabulary) == things | set(first.stuff)
    labels = set()
    for one, other in zip(first.items, second.items, strict=True):
        assert (one.load_image() == other.load_image()).all()
        assert (one.load_panoptic() == other.load_panoptic()).all()
        labels |= {segment.label for segment in one.segments}
    assert labels & things
