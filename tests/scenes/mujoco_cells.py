"""Cells of another renderer: labels agree with what is rendered, and training cannot have them.

Run by test_scenes_mujoco.py.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from xdecoder_rt.datasets.labelled_folder import LabelledFolder
from xdecoder_rt.errors import ArgumentError, BackendError
from xdecoder_rt.scenes import generate
from xdecoder_rt.scenes.__main__ import main
from xdecoder_rt.scenes.cell import Arrangement
from xdecoder_rt.scenes.meshes.shapes import box, sphere
from xdecoder_rt.scenes.simulator import Camera, Light

if find_spec("mujoco") is None:
    pytest.skip("the package mujoco is not installed", allow_module_level=True)

from xdecoder_rt.scenes.mujoco_cell import MujocoStudio, mujoco_studio
from xdecoder_rt.scenes.mujoco_world import MujocoWorld

ABOVE = Light((0.2, -0.3, 1.0), (1.0, 1.0, 1.0), 0.6, 0.4, 0.0, False)
VIEW = Camera((0.0, -1.2, 1.5), (0.0, 0.0, 0.7), 50.0)
PLAN = Arrangement(("cube", "bottle"), (), False, (1.2, 0.8), 0.7, VIEW, ABOVE)


@pytest.fixture(scope="module")
def world() -> MujocoWorld:
    try:
        return MujocoWorld()
    except BackendError as error:
        pytest.skip(f"MuJoCo renders nothing here: {error}")


def test_each_pixel_belongs_to_the_body_that_is_nearest(world: MujocoWorld) -> None:
    still = np.eye(3)
    world.clear()
    world.add_parts([box((4, 4, 0.02), (0.2, 0.2, 0.9))], 7, (0, 0, -0.01), still)
    world.add_parts([sphere(0.3, (0.9, 0.1, 0.1))], 9, (0, 0, 0.3), still)
    camera = Camera((0.0, -2.0, 1.0), (0.0, 0.0, 0.3), 40.0)
    picture, things = world.render(camera, ABOVE, 60, 80)
    assert picture.shape == (60, 80, 3)
    assert things.shape == (60, 80)
    assert things[30, 40] == 9
    assert things[55, 5] == 7
    assert set(np.unique(things)) <= {-1, 7, 9}
    assert picture[30, 40, 0] > picture[30, 40, 2]
    assert picture[55, 5, 2] > picture[55, 5, 0]
    world.clear()
    assert (world.render(camera, ABOVE, 60, 80)[1] == -1).all()


def test_a_picture_is_wrapped_around_a_part(world: MujocoWorld) -> None:
    halves = np.zeros((32, 32, 3), np.uint8)
    halves[:, :16, 0], halves[:, 16:, 1] = 255, 255
    world.clear()
    world.add_parts([box((1, 1, 1), (1, 1, 1), (0, 0, 0), halves)], 1, (0, 0, 0), np.eye(3))
    picture, things = world.render(Camera((0, -3, 0), (0, 0, 0), 30.0), ABOVE, 60, 60)
    shown = picture[things == 1].astype(int)
    red, green = shown[:, 0] > shown[:, 1] + 30, shown[:, 1] > shown[:, 0] + 30
    assert 0.3 < red.mean() < 0.7
    assert 0.3 < green.mean() < 0.7


def test_an_arrangement_shows_what_it_names(world: MujocoWorld) -> None:
    studio = MujocoStudio(["cube", "bottle", "table", "robot arm", "gripper"], supersampling=1.0)
    scene = studio.arranged(np.random.default_rng(1), PLAN, 120, 160)
    assert {"cube", "bottle", "table", "floor"} <= set(scene.labels.values())
    assert set(np.unique(scene.ids)) - {0} == set(scene.labels)
    found = 0
    plan = replace(PLAN, arm=True, camera=Camera((0.0, -2.4, 2.2), (0.0, 0.0, 0.8), 60.0))
    for seed in range(2):
        scene = studio.arranged(np.random.default_rng(seed), plan, 180, 240)
        counts = np.bincount(scene.ids.ravel())
        area = {label: counts[i] for i, label in scene.labels.items()}
        if {"robot arm", "gripper"} <= area.keys():
            found += 1
            assert area["robot arm"] > area["gripper"]
    assert found


def test_a_folder_is_written_and_repeats(world: MujocoWorld, tmp_path: Path) -> None:
    pictures = []
    for name in ("a", "b"):
        folder = generate(
            "mujoco", tmp_path / name, 1, split="val", size=(96, 128), workers=1, progress=False
        )
        (item,) = LabelledFolder.open(folder.root, verify=True).items
        pictures.append((item.load_image(), item.load_panoptic(), item.phrases))
        assert item.captions
    assert np.array_equal(pictures[0][1], pictures[1][1])
    assert np.array_equal(pictures[0][0], pictures[1][0])
    assert pictures[0][2] == pictures[1][2]


def test_the_splits_share_no_name_of_a_thing(world: MujocoWorld) -> None:
    val, novel = (set(mujoco_studio(split).vocabulary) for split in ("val", "novel"))
    assert val & novel == {"wall", "floor"}
    assert {"robot arm", "gripper", "table"} <= val


def test_training_cannot_have_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ArgumentError, match="kept from training"):
        generate("mujoco", tmp_path / "out", 1, split="train")
    assert main(["mujoco", str(tmp_path / "out"), "--count", "1", "--quiet"]) == 1
    assert "kept from training" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
