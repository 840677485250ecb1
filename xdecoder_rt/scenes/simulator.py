"""PyBullet as a picture maker: bodies that know which thing they belong to, and a camera."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xdecoder_rt.errors import require
from xdecoder_rt.scenes.meshes.shapes import Floats64, Part

__all__ = ["Camera", "Joint", "Light", "Simulator", "merged"]

_NOTHING = -1
_NEAR, _FAR = 0.02, 20.0  # metres


@dataclass(frozen=True)
class Camera:
    """Where the camera is and what it looks at, metres; its vertical field of view, degrees."""

    eye: tuple[float, float, float]
    target: tuple[float, float, float]
    field_of_view: float


@dataclass(frozen=True)
class Light:
    """A distant light: direction towards it, colour, and how surfaces answer, 0..1."""

    direction: tuple[float, float, float]
    colour: tuple[float, float, float]
    ambient: float
    diffuse: float
    specular: float
    shadow: bool


@dataclass(frozen=True)
class Joint:
    """A movable joint of a body and its limits, radians or metres."""

    number: int
    low: float
    high: float


class Simulator:
    """A PyBullet world without a window. One world a process; `clear` empties it.

    Every body or link is given to a thing by its number; number 0 is "no thing".

    Raises:
        MissingExtraError: pybullet is not installed.
    """

    def __init__(self) -> None:
        with _silence():
            self._bullet: Any = require("pybullet", "scenes")
            data: Any = require("pybullet_data", "scenes")
            self._client = self._bullet.connect(self._bullet.DIRECT)
            self._bullet.setAdditionalSearchPath(data.getDataPath(), physicsClientId=self._client)
        self._folder = Path(tempfile.mkdtemp(prefix="xdecoder_rt-scenes-"))
        self._pictures = 0
        self._owner: dict[tuple[int, int], int] = {}

    def close(self) -> None:
        """Disconnect and remove temporary files."""
        if self._client >= 0:
            self._bullet.disconnect(physicsClientId=self._client)
            self._client = -1
        shutil.rmtree(self._folder, ignore_errors=True)

    def __del__(self) -> None:
        """Leave no temporary files behind."""
        if hasattr(self, "_folder"):
            shutil.rmtree(self._folder, ignore_errors=True)

    def clear(self) -> None:
        """Remove every body and picture."""
        with _silence():
            self._bullet.resetSimulation(physicsClientId=self._client)
        for path in self._folder.iterdir():
            path.unlink()
        self._owner.clear()

    def add_parts(
        self, parts: Sequence[Part], thing: int, position: Sequence[float], rotation: Floats64
    ) -> None:
        """Place made parts, rotated by a 3 x 3 matrix and then moved."""
        for part in merged(parts):
            vertices = part.vertices @ rotation.T + np.asarray(position, float)
            normals = part.normals @ rotation.T
            shape = self._bullet.createVisualShape(
                self._bullet.GEOM_MESH,
                vertices=vertices.tolist(),
                normals=normals.tolist(),
                uvs=part.uv.tolist(),
                indices=part.faces.reshape(-1).tolist(),
                rgbaColor=(*part.colour, 1.0),
                specularColor=(0.2, 0.2, 0.2),
                physicsClientId=self._client,
            )
            body = self._bullet.createMultiBody(0, -1, shape, physicsClientId=self._client)
            self._owner[body, -1] = thing
            if part.picture is not None:
                self._wrap(body, part.picture)

    def _wrap(self, body: int, picture: NDArray[np.uint8]) -> None:
        path = self._folder / f"{self._pictures}.bmp"
        self._pictures += 1
        Image.fromarray(picture).save(path)
        texture = self._bullet.loadTexture(str(path), physicsClientId=self._client)
        self._bullet.changeVisualShape(
            body, -1, textureUniqueId=texture, rgbaColor=(1, 1, 1, 1), physicsClientId=self._client
        )

    def load(self, model: str, scale: float = 1.0) -> int:
        """Load one of PyBullet's models (URDF, or the first body of an SDF); returns its body."""
        with _silence():
            if model.endswith(".sdf"):
                body = self._bullet.loadSDF(
                    model, globalScaling=scale, physicsClientId=self._client
                )[0]
            else:
                body = self._bullet.loadURDF(
                    model, globalScaling=scale, useFixedBase=True, physicsClientId=self._client
                )
        return int(body)

    def give(self, body: int, thing: int, links: Sequence[int] | None = None) -> None:
        """Say which thing a loaded body, or some of its links, belongs to."""
        for link in range(-1, self.link_count(body)) if links is None else links:
            self._owner[body, link] = thing

    def link_count(self, body: int) -> int:
        """Links beside the base."""
        return int(self._bullet.getNumJoints(body, physicsClientId=self._client))

    def links_named(self, body: int, words: Sequence[str]) -> list[int]:
        """Return the links whose name contains one of the words."""
        links = []
        for link in range(self.link_count(body)):
            info = self._bullet.getJointInfo(body, link, physicsClientId=self._client)
            if any(word in info[12].decode() for word in words):
                links.append(link)
        return links

    def joints(self, body: int) -> list[Joint]:
        """Return the movable joints, from the base up; limits of +-pi where the model has none."""
        joints = []
        for joint in range(self.link_count(body)):
            info = self._bullet.getJointInfo(body, joint, physicsClientId=self._client)
            if info[2] not in (self._bullet.JOINT_REVOLUTE, self._bullet.JOINT_PRISMATIC):
                continue
            low, high = float(info[8]), float(info[9])
            limits = (low, high) if low < high else (-np.pi, np.pi)
            joints.append(Joint(joint, *limits))
        return joints

    def set_joint(self, body: int, joint: Joint, value: float) -> None:
        """Put a joint at the value, radians or metres, that is nearest within its limits."""
        within = min(max(value, joint.low), joint.high)
        self._bullet.resetJointState(body, joint.number, within, physicsClientId=self._client)

    def place(self, body: int, position: Sequence[float], angles: Sequence[float]) -> None:
        """Put a body's base somewhere, with roll, pitch and yaw."""
        self._bullet.resetBasePositionAndOrientation(
            body,
            list(position),
            self._bullet.getQuaternionFromEuler(list(angles)),
            physicsClientId=self._client,
        )

    def shift(self, body: int, by: Sequence[float]) -> None:
        """Move a body without turning it."""
        position, turn = self._bullet.getBasePositionAndOrientation(
            body, physicsClientId=self._client
        )
        self._bullet.resetBasePositionAndOrientation(
            body,
            [float(p + b) for p, b in zip(position, by, strict=True)],
            turn,
            physicsClientId=self._client,
        )

    def remove(self, body: int) -> None:
        """Take a body out of the world."""
        self._bullet.removeBody(body, physicsClientId=self._client)

    def bounds(self, body: int) -> tuple[Floats64, Floats64]:
        """Lowest and highest corner of a loaded body."""
        boxes = np.asarray(
            [
                self._bullet.getAABB(body, link, physicsClientId=self._client)
                for link in range(-1, self.link_count(body))
            ]
        )
        return boxes[:, 0].min(0), boxes[:, 1].max(0)

    def link_heights(self, body: int) -> Floats64:
        """Return height of every link's centre."""
        states = [
            self._bullet.getLinkState(
                body, link, computeForwardKinematics=True, physicsClientId=self._client
            )
            for link in range(self.link_count(body))
        ]
        return np.asarray([state[0][2] for state in states])

    def paint(self, body: int, link: int, colour: Sequence[float]) -> None:
        """Give a link one colour."""
        self._bullet.changeVisualShape(
            body, link, rgbaColor=(*colour, 1.0), physicsClientId=self._client
        )

    def render(
        self, camera: Camera, light: Light, height: int, width: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Take the picture: RGB and things, as `look` gives them."""
        picture, things, _ = self._shot(camera, light, height, width)
        return picture, things

    def look(
        self, camera: Camera, light: Light, height: int, width: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float32]]:
        """Take the picture and its depth.

        Returns:
            uint8 RGB [height, width, 3], and int64 [height, width]: the number of the thing at
            each pixel, 0 for bodies given to none, -1 where there is no body; and float32
            [height, width]: metres along the optical axis, NaN where there is no body.
        """
        picture, things, depths = self._shot(camera, light, height, width)
        share = np.asarray(depths, dtype=np.float64).reshape(height, width)
        metres = _FAR * _NEAR / (_FAR - (_FAR - _NEAR) * share)
        metres[things == _NOTHING] = np.nan
        return picture, things, metres.astype(np.float32)

    def _shot(
        self, camera: Camera, light: Light, height: int, width: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64], Any]:
        """Take the picture: RGB, things, and depth as the renderer has it."""
        bullet = self._bullet
        view = bullet.computeViewMatrix(camera.eye, camera.target, (0, 0, 1))
        projection = bullet.computeProjectionMatrixFOV(
            camera.field_of_view, width / height, _NEAR, _FAR
        )
        _, _, colours, depths, codes = bullet.getCameraImage(
            width,
            height,
            view,
            projection,
            lightDirection=light.direction,
            lightColor=light.colour,
            lightDistance=6.0,
            shadow=int(light.shadow),
            lightAmbientCoeff=light.ambient,
            lightDiffuseCoeff=light.diffuse,
            lightSpecularCoeff=light.specular,
            renderer=bullet.ER_TINY_RENDERER,
            flags=bullet.ER_SEGMENTATION_MASK_OBJECT_AND_LINKINDEX,
            physicsClientId=self._client,
        )
        picture = np.asarray(colours, dtype=np.uint8).reshape(height, width, 4)[..., :3]
        code = np.asarray(codes, dtype=np.int64).reshape(height, width)
        things = np.full(code.shape, _NOTHING, np.int64)
        for value in np.unique(code):
            if value >= 0:
                key = (int(value) & 0xFFFFFF, (int(value) >> 24) - 1)
                things[code == value] = self._owner.get(key, 0)
        return np.ascontiguousarray(picture), things, depths


def merged(parts: Sequence[Part]) -> Iterator[Part]:
    """Parts of one colour or one picture as one part: fewer bodies render faster."""
    groups: dict[object, list[Part]] = {}
    for part in parts:
        key = part.colour if part.picture is None else id(part.picture)
        groups.setdefault(key, []).append(part)
    for group in groups.values():
        starts = np.cumsum([0, *(len(part.vertices) for part in group[:-1])])
        yield Part(
            np.concatenate([part.vertices for part in group]),
            np.concatenate([part.normals for part in group]),
            np.concatenate([part.uv for part in group]),
            np.concatenate([part.faces + start for part, start in zip(group, starts, strict=True)]),
            group[0].colour,
            group[0].picture,
        )


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what PyBullet's C code prints about its models off the terminal."""
    saved = [os.dup(1), os.dup(2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        for descriptor in (*saved, nowhere):
            os.close(descriptor)
