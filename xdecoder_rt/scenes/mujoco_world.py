"""MuJoCo as a picture maker: another renderer than training's, for held-out scenes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdecoder_rt.errors import BackendError, require
from xdecoder_rt.scenes.meshes.shapes import Floats64, Part
from xdecoder_rt.scenes.simulator import Camera, Light, merged

__all__ = ["MujocoWorld"]

_LARGEST = 4096
_LAMP = 7.0  # metres to the lamp
_SHADOW_MAP = 2048


class MujocoWorld:
    """A MuJoCo scene without physics: still meshes that know which thing they belong to.

    It renders through OpenGL; ``MUJOCO_GL`` says by what, and is ``osmesa`` where it is not set,
    so that no screen and no GPU is needed. OSMesa brings another LLVM than Triton: a process that
    loads both may crash.

    Raises:
        MissingExtraError: mujoco is not installed.
        BackendError: OpenGL cannot be loaded.
    """

    def __init__(self) -> None:
        platform = os.environ.setdefault("MUJOCO_GL", "osmesa")
        try:
            self._mujoco: Any = require("mujoco", "scenes")
            context: Any = require("mujoco.gl_context", "scenes").GLContext
        except (AttributeError, RuntimeError) as error:  # as PyOpenGL fails without the library
            raise BackendError(
                f"MuJoCo cannot load OpenGL ({error})",
                expected=f"the library that MUJOCO_GL={platform} names",
                fix="sudo apt-get install libosmesa6",
            ) from error
        if platform not in context.__module__:
            raise BackendError(
                f"MuJoCo was imported before MUJOCO_GL={platform} was set",
                fix="set it before anything imports mujoco",
            )
        self.clear()

    def clear(self) -> None:
        """Remove everything."""
        self._spec: Any = self._mujoco.MjSpec()
        self._thing_of_geom: list[int] = []
        self._materials = 0

    def add_parts(
        self,
        parts: Sequence[Part],
        thing: int,
        position: Sequence[float],
        rotation: Floats64,
        shine: float = 0.2,
    ) -> None:
        """Place made parts, rotated by a 3 x 3 matrix and then moved.

        Args:
            parts: What they are.
            thing: Number of the thing they belong to; 0 for none.
            position: Where, metres.
            rotation: How they are turned.
            shine: How much of a lamp their surface mirrors, 0..1.
        """
        enums = self._mujoco
        for part in merged(parts):
            number = len(self._thing_of_geom)
            mesh = self._spec.add_mesh(name=f"mesh{number}")
            mesh.uservert = (part.vertices @ rotation.T + np.asarray(position)).ravel()
            mesh.usernormal = (part.normals @ rotation.T).ravel()
            mesh.userface = part.faces.astype(np.int32).ravel()
            mesh.inertia = enums.mjtMeshInertia.mjMESH_INERTIA_SHELL
            material = self._spec.add_material(
                name=f"material{number}",
                rgba=[*part.colour, 1.0],
                specular=shine,
                shininess=0.2 + 0.6 * shine,
            )
            if part.picture is not None:
                mesh.usertexcoord = part.uv.astype(np.float32).ravel()
                self._wrap(material, part.picture, number)
                material.rgba = [1.0, 1.0, 1.0, 1.0]
            self._spec.worldbody.add_geom(
                type=enums.mjtGeom.mjGEOM_MESH,
                meshname=mesh.name,
                material=material.name,
                contype=0,
                conaffinity=0,
            )
            self._thing_of_geom.append(thing)

    def _wrap(self, material: Any, picture: NDArray[np.uint8], number: int) -> None:
        texture = self._spec.add_texture(
            name=f"texture{number}",
            type=self._mujoco.mjtTexture.mjTEXTURE_2D,
            width=picture.shape[1],
            height=picture.shape[0],
            nchannel=3,
        )
        texture.data = picture.tobytes()
        material.textures[self._mujoco.mjtTextureRole.mjTEXROLE_RGB] = texture.name

    def render(
        self, camera: Camera, light: Light, height: int, width: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Take the picture.

        Returns:
            uint8 RGB [height, width, 3], and int64 [height, width]: the number of the thing at
            each pixel, 0 for what was given to none, -1 where there is nothing.
        """
        spec, enums = self._spec, self._mujoco
        spec.visual.global_.offwidth = spec.visual.global_.offheight = _LARGEST
        spec.visual.quality.shadowsize = _SHADOW_MAP
        spec.visual.map.znear, spec.visual.map.zfar = 0.02, 40.0
        spec.stat.extent, spec.stat.center = 1.0, [0.0, 0.0, 0.0]
        spec.visual.headlight.ambient = [light.ambient * c for c in light.colour]
        spec.visual.headlight.diffuse = [0.25 * light.diffuse] * 3
        spec.visual.headlight.specular = [0.0] * 3
        towards = np.asarray(light.direction) / np.linalg.norm(light.direction)
        spec.worldbody.add_light(
            pos=_LAMP * towards,
            dir=-towards,
            type=enums.mjtLightType.mjLIGHT_DIRECTIONAL,
            castshadow=light.shadow,
            ambient=[0.0] * 3,
            diffuse=[light.diffuse * c for c in light.colour],
            specular=[light.specular] * 3,
        )
        view = spec.worldbody.add_camera(
            name="view", pos=camera.eye, fovy=camera.field_of_view, quat=_looking(camera)
        )
        model = spec.compile()
        data = enums.MjData(model)
        enums.mj_forward(model, data)
        renderer = enums.Renderer(model, height, width)
        try:
            renderer.update_scene(data, camera=view.name)
            picture = renderer.render().copy()
            renderer.enable_segmentation_rendering()
            renderer.update_scene(data, camera=view.name)
            segmentation = renderer.render().copy()
        finally:
            renderer.close()
        number = segmentation[..., 0].astype(np.int64)
        is_geom = segmentation[..., 1] == int(enums.mjtObj.mjOBJ_GEOM)
        table = np.asarray([*self._thing_of_geom, -1], np.int64)
        return picture, table[np.where(is_geom, number, -1)]


def _looking(camera: Camera) -> Floats64:
    """Quaternion (w, x, y, z) of a camera that looks along its -z with +y up."""
    back = np.asarray(camera.eye, float) - np.asarray(camera.target)
    back /= np.linalg.norm(back)
    right = np.cross((0.0, 0.0, 1.0), back)
    right /= np.linalg.norm(right)
    up = np.cross(back, right)
    matrix = np.stack([right, up, back], axis=1)
    quaternion = np.zeros(4)
    mujoco: Any = require("mujoco", "scenes")
    mujoco.mju_mat2Quat(quaternion, matrix.ravel())
    return quaternion
