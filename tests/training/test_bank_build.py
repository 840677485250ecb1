"""Making a bank: training names alone, and the command."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cv2", reason="banks need opencv-python-headless")
pytest.importorskip("resvg_py", reason="the package resvg_py is not installed")

from xdecoder_rt.datasets.labelled_folder import LabelledFolderWriter
from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.scenes.__main__ import main
from xdecoder_rt.scenes.bank.build import BankPlan
from xdecoder_rt.scenes.bank.composed import ComposedScenes
from xdecoder_rt.scenes.bank.renders import renderings
from xdecoder_rt.scenes.bank.store import BANK_INDEX, Bank
from xdecoder_rt.scenes.clipart import training_drawings
from xdecoder_rt.scenes.lexicons.furniture import furniture_lexicon
from xdecoder_rt.scenes.photographs.grounds import grounds_of
from xdecoder_rt.scenes.photographs.stamps import stamps_of
from xdecoder_rt.scenes.splits import novel_names
from xdecoder_rt.scenes.sprites import SpriteCache, lexicon


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few drawings (those of held-out names among them), two rooms, a photograph."""
    root = tmp_path_factory.mktemp("material")
    chosen = [*lexicon()[::40], *[d for d in lexicon() if d.name in novel_names()][:5]]
    for number, drawing in enumerate(chosen):
        path = root / "svg" / drawing.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            '<svg xmlns="http://www.w3.org/2000/svg" width="90pt" height="90pt" '
            f'viewBox="0 0 90 90"><circle cx="45" cy="45" r="{20 + number % 20}" fill="red"/></svg>'
        )
    with LabelledFolderWriter(root / "rooms", ["spanner", "floor"], ["floor"]) as writer:
        for _ in range(2):
            ids = np.ones((60, 90), np.uint8)
            ids[20:40, 30:60] = 2
            image = np.full((60, 90, 3), 90, np.uint8)
            writer.add(image, ids, {1: "floor", 2: "spanner"})
    (root / "photographs").mkdir()
    Image.new("RGB", (120, 90), (20, 40, 60)).save(root / "photographs" / "plain.png")
    return root


def arguments(material: Path, out: Path) -> list[str]:
    return [
        "bank", str(out), "--views", "0", "--backdrops", "2", "--scene-side", "96", "--side", "48",
        "--scenes", str(material / "rooms"), "--photographs", str(material / "photographs"),
        "--clipart-dir", str(material / "svg"), "--cache-dir", str(material / "cache"), "--quiet",
    ]  # fmt: skip


def test_the_command_makes_a_bank_of_training_names(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(material, tmp_path / "bank")) == 0
    said = capsys.readouterr().out
    bank = Bank(tmp_path / "bank")
    sprites = SpriteCache(material / "svg", material / "cache")
    assert f"{len(bank.cut_outs)} cut-outs" in said
    assert "4 scenes, 1 photographs" in said
    assert set(bank.by_name) == {drawing.name for drawing in training_drawings(sprites)}
    assert not set(bank.by_name) & novel_names()
    assert any(drawing.name in novel_names() for drawing in sprites.drawings)
    for cut_out in bank.cut_outs:
        pixels = bank.pixels(cut_out.picture, 4)
        assert max(pixels.shape[:2]) == 48
        assert pixels[..., 3].any()
    rooms = [scene for scene in bank.scenes if "wrench" in scene.labels.values()]
    assert len(rooms) == 2  # by its canonical name
    assert bank.scene(rooms[0])[0].shape == (64, 96, 3)
    for number in range(10):
        item = ComposedScenes(tmp_path / "bank").items[number]
        assert not {segment.label for segment in item.segments} & novel_names()


def test_a_folder_without_pictures_is_named_and_nothing_is_left(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    given = arguments(material, tmp_path / "bank")
    given[given.index("--photographs") + 1] = str(tmp_path / "empty")
    assert main(given) == 1
    assert "has no pictures" in capsys.readouterr().err
    assert not (tmp_path / "bank" / BANK_INDEX).exists()


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (["--no-drawings", "--views", "0", "--backdrops", "1"], "would have no cut-outs"),
        (["--no-drawings", "--views", "1", "--backdrops", "0"], "nothing that its cut-outs can"),
    ],
)
def test_a_bank_that_nothing_could_be_composed_of_is_refused_before_it_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], parts: list[str], said: str
) -> None:
    assert main(["bank", str(tmp_path / "bank"), *parts, "--quiet"]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "bank").exists()


def test_a_photograph_that_cannot_be_read_is_named(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photographs").mkdir()
    noise, depths = io.BytesIO(), io.BytesIO()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (200, 200, 3), np.uint8)).save(noise, "PNG")
    Image.fromarray(np.full((90, 120), 0.5, np.float32)).save(depths, "TIFF")
    start, _, rest = noise.getvalue().rpartition(b"IDAT")  # in its second block of data
    for broken in (b"no picture", start + b"\xff\xfe\xfd\xfc" + rest, depths.getvalue()):
        (tmp_path / "photographs" / "broken.png").write_bytes(broken)
        given = arguments(material, tmp_path / "bank")
        given[given.index("--photographs") + 1] = str(tmp_path / "photographs")
        assert main(given) == 1
        assert "broken.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong", [{"views": -1}, {"side": 8}, {"scene_side": 600}, {"quality": 0}, {"backdrops": -1}]
)
def test_plans_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        BankPlan(**wrong)  # type: ignore[arg-type]


def test_renderings_are_cut_outs_of_one_thing_each() -> None:
    pytest.importorskip("pybullet", reason="the package pybullet is not installed")
    rng = np.random.default_rng(0)
    for name in ("cube", "robot arm"):
        for pixels in renderings(name, 2, 48, rng):
            assert pixels.dtype == np.uint8
            assert pixels.shape[2] == 4
            assert max(pixels.shape[:2]) == 48
            assert (pixels[..., 3] > 127).mean() > 0.02


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bank", "--help"])
    assert "--photographs" in capsys.readouterr().out


def room(folder: Path, ground: str, stuff: Sequence[str]) -> Path:
    """A folder of one picture: a cup on a ground."""
    with LabelledFolderWriter(folder, ["cup", ground], stuff) as writer:
        ids = np.full((60, 90), 2, np.uint8)
        ids[20:40, 30:60] = 1
        writer.add(np.full((60, 90, 3), 90, np.uint8), ids, {1: "cup", 2: ground})
    return folder


def test_what_is_stuff_in_a_folder_is_stuff_in_its_bank_and_called_by_one_name(
    material: Path, tmp_path: Path
) -> None:
    given = arguments(material, tmp_path / "bank")
    ground = ["block of flats"]  # another word for an apartment building
    given[given.index("--scenes") + 1] = str(room(tmp_path / "scenes", *ground, ground))
    assert main(given) == 0
    scenes = ComposedScenes(tmp_path / "bank")
    assert "apartment building" in scenes.stuff
    grounds = [
        segment
        for number in range(40)
        for segment in scenes.items[number].segments
        if segment.label in ("apartment building", "block of flats")
    ]
    assert grounds
    assert not any(segment.isthing for segment in grounds)
    assert {segment.label for segment in grounds} == {"apartment building"}


def test_a_label_that_is_stuff_here_and_a_thing_there_is_named(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments(material, tmp_path / "bank")
    given[given.index("--scenes") + 1] = str(room(tmp_path / "scenes", "floor", []))
    assert main(given) == 1
    assert "['floor'] would be stuff in one" in capsys.readouterr().err
    assert not (tmp_path / "bank" / BANK_INDEX).exists()


def photographic(root: Path) -> list[str]:
    """Make stamps, grounds and a furniture library under a folder; the options that add them."""
    stamps = [*stamps_of("train")[:3], stamps_of("val")[0], stamps_of("novel")[0]]
    for stamp in stamps:
        pixels = np.zeros((40, 30, 4), np.uint8)
        pixels[5:35, 5:25] = (90, 160, 20, 255)
        (root / "stamps" / stamp.path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / "stamps" / stamp.path)
    for ground in grounds_of("train")[:2]:
        (root / "share" / ground.path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (120, 90), (40, 160, 90)).save(root / "share" / ground.path)
    novel = next(m for m in furniture_lexicon() if m.name in novel_names())
    chair = next(m for m in furniture_lexicon() if m.name == "chair")
    catalogue = "".join(
        f"id#{number}={model.identity}\nmodel#{number}=/box.obj\n"
        for number, model in enumerate((novel, chair), start=1)
    )
    (root / "libraries").mkdir()
    with zipfile.ZipFile(root / "libraries" / "made.sh3f", "w") as archive:
        archive.writestr("PluginFurnitureCatalog.properties", catalogue)
        archive.writestr("box.obj", "v 0 0 0\nv 2 0 0\nv 2 4 0\nv 0 4 0\nf 1 2 3 4\n")
    return [
        "--stamps-dir", str(root / "stamps"), "--grounds-dir", str(root / "share"),
        "--furniture-dir", str(root / "libraries"), "--furniture-views", "2", "--ground-parts", "3",
    ]  # fmt: skip


def test_photographed_things_and_furniture_go_in_beside_another_bank(
    material: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pybullet", reason="rendering needs pybullet")
    assert main(arguments(material, tmp_path / "bank")) == 0
    added = [
        "bank", str(tmp_path / "larger"), "--banks", str(tmp_path / "bank"), "--no-drawings",
        "--views", "0", "--backdrops", "0", "--side", "48", "--scene-side", "96", "--quiet",
    ]  # fmt: skip
    assert main([*added, *photographic(tmp_path)]) == 0
    first, larger = Bank(tmp_path / "bank"), Bank(tmp_path / "larger")
    names = {stamp.name for stamp in stamps_of("train")[:3]}
    assert set(larger.by_name) == {*first.by_name, *names, "chair"}
    assert not set(larger.by_name) & novel_names()
    for kind in ("cut_outs", "scenes"):
        for one, other in zip(getattr(first, kind), getattr(larger, kind), strict=False):
            assert first.file(one.picture) == larger.file(other.picture)
    assert len(larger.scenes) == len(first.scenes) + 2 * 3
    assert len(larger.photographs) == len(first.photographs)
    stamps = [cut_out for cut_out in larger.cut_outs if cut_out.name in names]
    shapes = [larger.pixels(cut_out.picture, 4).shape for cut_out in stamps[-3:]]
    assert shapes == [(30, 20, 4)] * 3  # small stamps are not enlarged
    shown = {region.label for ground in grounds_of("train")[:2] for region in ground.regions}
    assert shown <= larger.stuff
    for number in range(10):
        item = ComposedScenes(tmp_path / "larger").items[number]
        assert not {segment.label for segment in item.segments} & novel_names()
