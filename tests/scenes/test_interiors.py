"""Models of furniture: named, read from a library that a stranger may have written, rendered."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xdecoder_rt.errors import DatasetError
from xdecoder_rt.scenes.interiors.library import FurnitureLibrary
from xdecoder_rt.scenes.interiors.wavefront import read_model
from xdecoder_rt.scenes.lexicons.furniture import furniture_lexicon
from xdecoder_rt.scenes.names import canonical

MODEL = next(model for model in furniture_lexicon() if model.name == "chair")
QUAD = """\
mtllib box.mtl
v 0 0 0
v 2 0 0
v 2 4 0
v 0 4 0
vt 0 0
vt 1 0
vt 1 1
vt -1.5 3
vn 0 0 1
usemtl wood
f 1/1/1 2/2/1 3/3/1 4/4/1
usemtl glass
f 1//1 2//1 3//1
usemtl plain
f -4 -3 -2
"""
MATERIALS = """\
newmtl wood
Kd 0.2 0.4 0.6
map_Kd wood.png
newmtl glass
d 0.1
newmtl plain
Kd 2 0 0
"""


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (600, 300), (10, 120, 30)).save(out, format="PNG")
    return out.getvalue()


def files(model: str = QUAD) -> dict[str, bytes]:
    """Return what a library has of the model, by its path."""
    return {
        "made/box/box.obj": model.encode(),
        "made/box/box.mtl": MATERIALS.encode(),
        "made/box/wood.png": picture(),
    }


def library(folder: Path, members: dict[str, bytes], rotation: str = "") -> Path:
    catalogue = (
        f"id#7={MODEL.identity}\nname#7=Chair\nmodel#7=/made/box/box.obj\nicon#7=/made/box.png\n"
        f"id#8=Nobody's#thing\nmodel#8=/made/other.obj\n{rotation}"
    )
    path = folder / "made.sh3f"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("PluginFurnitureCatalog.properties", catalogue)
        for name, data in members.items():
            archive.writestr(name, data)
    return folder


def test_a_face_may_come_before_what_it_names() -> None:
    late = "f 1/1 2/1 3/2\nv 0 0 0\nv 2 0 0\nv 2 4 0\nvt 0 0\nvt 1 1\n"
    (part,) = read_model("late.obj", {"late.obj": late.encode()}.__getitem__)
    assert np.allclose(part.vertices, [[0, 0, 0], [2, 0, 0], [2, 0, 4]])


def test_the_lexicon_names_models_with_canonical_lower_case_noun_phrases() -> None:
    models = furniture_lexicon()
    assert len(models) == len(set(models)) > 700
    for model in models:
        assert model.name == canonical(model.name) == model.name.strip().lower()
        assert "#" in model.identity
    people = [m.identity for m in models if m.name in ("man", "woman", "boy", "girl")]
    assert {m.identity for m in models if m.name == "person"} == set(people)


def test_a_model_is_parts_by_material_with_z_up_and_no_glass(tmp_path: Path) -> None:
    shelf = FurnitureLibrary(library(tmp_path, files()))
    assert [model for model in shelf.models if model.name == "chair"] == [MODEL]
    wood, plain = shelf.load(MODEL)
    assert wood.faces.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert wood.vertices[2].tolist() == [2, 0, 4]  # two to the right, four up
    assert np.allclose(wood.normals, [0, -1, 0])
    assert wood.picture is not None
    assert max(wood.picture.shape[:2]) <= 256
    assert wood.uv.min() >= 0
    assert plain.colour == (1, 0, 0)
    assert plain.picture is None
    assert np.allclose(plain.normals, [0, -1, 0])  # from its corners


def test_a_model_that_is_all_of_glass_is_shown_as_if_it_were_not(tmp_path: Path) -> None:
    glass = QUAD.replace("usemtl wood", "usemtl glass").replace("usemtl plain", "usemtl glass")
    (part,) = FurnitureLibrary(library(tmp_path, files(glass))).load(MODEL)
    assert len(part.faces) == 4


def test_a_rotation_of_the_catalogue_turns_the_model(tmp_path: Path) -> None:
    given = "modelRotation#7=0 0 1 0 1 0 -1 0 0\n"  # a quarter turn about what is up
    (wood, _) = FurnitureLibrary(library(tmp_path, files(), given)).load(MODEL)
    assert np.allclose(wood.vertices[2], [0, 2, 4])


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("", "nothing that can be seen"),
        ("v 0 0 0\nf 1 2 3\n", "names point 3 of 1"),
        ("v 0 0 0\nv 1 0 0\nv 1 1 0\nvt 0 0\nf 1/1 2/1 3/2\n", "texture coordinate 2 of 1"),
        ("v 0 0 0\nf 1 1 -2\n", "names what is not there"),
        ("v 0 0 0\nf 0 1 1\n", "names what is not there"),
        ("v 0 0 nan\nf 1 1 1\n", "no finite number"),
        ("v 0 0 x\nf 1 1 1\n", "is no model"),
        ("v 0 0 0\nf a b c\n", "is no model"),
        ("v 0 0 0\nvt 0 0\nf /1 /1 /1\n", "has no point"),
    ],
)
def test_what_is_no_model_is_told_in_one_line(tmp_path: Path, model: str, said: str) -> None:
    shelf = FurnitureLibrary(library(tmp_path, files(model)))
    with pytest.raises(DatasetError, match=said) as caught:
        shelf.load(MODEL)
    assert "\n" not in str(caught.value)


def test_a_library_that_lacks_a_model_or_is_damaged_is_named(tmp_path: Path) -> None:
    shelf = FurnitureLibrary(library(tmp_path, {}))
    with pytest.raises(DatasetError, match=r"has no 'made/box/box.obj'"):
        shelf.load(MODEL)
    path = tmp_path / "made.sh3f"
    library(tmp_path, files("v 0 0 0\n" * 5000))
    data = bytearray(path.read_bytes())
    at = data.index(b"made/box/box.obj") + 40
    data[at : at + 30] = bytes(30)
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"cannot be read|nothing that can be seen"):
        FurnitureLibrary(tmp_path).load(MODEL)
    path.write_bytes(b"no archive")
    with pytest.raises(DatasetError, match=r"is no library"):
        FurnitureLibrary(tmp_path)
    path.unlink()
    with pytest.raises(DatasetError, match=r"sweethome3d-furniture"):
        FurnitureLibrary(tmp_path)


def test_textures_that_are_missing_or_no_pictures_leave_the_colour() -> None:
    members = files()
    for data in (None, b"no picture"):
        if data is None:
            del members["made/box/wood.png"]
        else:
            members["made/box/wood.png"] = data
        wood = read_model("made/box/box.obj", members.__getitem__)[0]
        assert wood.picture is None
        assert wood.colour == (0.2, 0.4, 0.6)


def test_views_of_a_model_are_cut_out_along_it(tmp_path: Path) -> None:
    pytest.importorskip("pybullet", reason="rendering needs pybullet")
    from xdecoder_rt.scenes.bank.renders import furniture_views

    shelf = FurnitureLibrary(library(tmp_path, files()))
    views = list(furniture_views(shelf, MODEL, 3, 48, np.random.default_rng(3)))
    assert views
    for view in views:
        assert view.shape[2] == 4
        assert max(view.shape[:2]) == 48
        assert view[..., 3].max() == 255
