"""Rendered robot scenes: labels agree with what is rendered, and scenes repeat."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from xdecoder_rt.datasets.labelled_folder import LabelledFolder
from xdecoder_rt.scenes import generate
from xdecoder_rt.scenes.catalogue import WORKCELL_NAMES
from xdecoder_rt.scenes.meshes.paint import NAMED_COLOURS
from xdecoder_rt.scenes.meshes.shapes import box, sphere
from xdecoder_rt.scenes.scene import scene_generator
from xdecoder_rt.scenes.simulator import Camera, Light, Simulator
from xdecoder_rt.scenes.splits import novel_names
from xdecoder_rt.scenes.workcell import Arrangement, WorkcellStudio, workcell_studio

pytest.importorskip("pybullet", reason="the package pybullet is not installed")

ABOVE = Light((0.2, -0.3, 1.0), (1.0, 1.0, 1.0), 0.6, 0.4, 0.0, False)
VIEW = Camera((0.0, -1.2, 1.5), (0.0, 0.0, 0.7), 50.0)
PLAN = Arrangement(("cube", "bottle"), (), False, (1.2, 0.8), 0.7, VIEW, ABOVE)


@pytest.fixture(scope="module")
def studio() -> WorkcellStudio:
    return WorkcellStudio(WORKCELL_NAMES)


def test_each_pixel_belongs_to_the_body_that_is_nearest() -> None:
    world = Simulator()
    still = np.eye(3)
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
    world.clear()
    assert (world.render(camera, ABOVE, 60, 80)[1] == -1).all()
    world.close()


def test_an_arrangement_shows_what_it_names(studio: WorkcellStudio) -> None:
    scene = studio.arranged(np.random.default_rng(1), PLAN, 120, 160)
    assert {"cube", "bottle", "table", "floor"} <= set(scene.labels.values())
    assert set(np.unique(scene.ids)) - {0} == set(scene.labels)
    for identity, word in scene.colours.items():
        assert scene.labels[identity] == "cube"
        assert word in NAMED_COLOURS


def test_arm_and_gripper_are_told_apart(studio: WorkcellStudio) -> None:
    plan = replace(PLAN, objects=(), arm=True, camera=Camera((0, -2.2, 1.9), (0, 0, 1.0), 55.0))
    seen = [
        set(studio.arranged(np.random.default_rng(seed), plan, 120, 160).labels.values())
        for seed in range(4)
    ]
    assert all("robot arm" in labels for labels in seen)
    assert any("gripper" in labels for labels in seen)


def test_a_scene_depends_on_its_generator_alone(studio: WorkcellStudio) -> None:
    first = studio.draw(scene_generator("workcell", "val", 0, 3), (96, 128))
    studio.draw(scene_generator("workcell", "val", 0, 4), (96, 128))
    again = studio.draw(scene_generator("workcell", "val", 0, 3), (96, 128))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.ids, again.ids)
    assert first.labels == again.labels


def test_supersampling_changes_the_picture_and_not_the_labels() -> None:
    smooth = WorkcellStudio(WORKCELL_NAMES, supersampling=2.0)
    plain = WorkcellStudio(WORKCELL_NAMES)
    rng = np.random.default_rng
    first, second = (s.arranged(rng(5), PLAN, 96, 128) for s in (plain, smooth))
    assert first.labels == second.labels
    assert (first.ids == second.ids).mean() > 0.97
    assert not np.array_equal(first.image, second.image)


def test_splits_share_no_name_but_the_stuff() -> None:
    train, novel = workcell_studio("train"), workcell_studio("novel")
    assert set(train.vocabulary) & set(novel.vocabulary) == train.stuff == novel.stuff
    assert set(novel.vocabulary) - novel.stuff <= novel_names()


def test_a_generated_folder_passes_the_strict_reader(tmp_path: Path) -> None:
    generate("workcell", tmp_path / "out", 2, size=(96, 128), workers=1, progress=False)
    folder = LabelledFolder.open(tmp_path / "out", verify=True)
    assert len(folder) == 2
    assert folder.stuff == {"wall", "floor"}


@pytest.mark.slow
def test_scenes_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    for workers in (1, 2):
        generate(
            "workcell", tmp_path / str(workers), 6, size=(96, 128), workers=workers, progress=False
        )
    first, second = (
        sorted((tmp_path / w).rglob("*.jpg")) + sorted((tmp_path / w).rglob("*.png"))
        for w in ("1", "2")
    )
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
