"""Fixture folders: weights, inputs and expected arrays of one network, with its settings."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xdecoder_rt.errors import DatasetError, shown
from xdecoder_rt.image import Letterbox
from xdecoder_rt.parity.settings import Settings, size_divisor

Array = npt.NDArray[Any]

RESIZE_INPUT = "resize_src"
BLOCKED_PIXELS = ".caption_region.blocked_mask"
FILES = ("config.json", "inputs.npz", "expected.npz", "weights.safetensors")
_FIXTURE = "a folder with " + ", ".join(FILES)
_MAX_SIDE = 1 << 14
_CAPTIONS = "retrieval_captions_"


@dataclass(frozen=True)
class FixtureImage:
    """One input image.

    Attributes:
        name: prefix of its arrays.
        frame: uint8 ``[H, W, 3]``, RGB, zero beyond the valid area.
        letterbox: sizes of the output, the padded input and the valid area.
        region: bool ``[h, w]`` of the valid area, what the caption of a region is about; None
            where there is no such case.
    """

    name: str
    frame: npt.NDArray[np.uint8]
    letterbox: Letterbox
    region: npt.NDArray[np.bool_] | None


@dataclass(frozen=True)
class Thresholds:
    """One setting of panoptic output."""

    object_mask: float
    overlap: float


@dataclass(frozen=True)
class Fixture:
    """A fixture folder, read and checked.

    Attributes:
        folder: where it lies.
        settings: the network's hyper-parameters.
        images: by name.
        resize_source: the input of the resize case, uint8 ``[H, W, 3]``, if there is one.
        expected: what the original computed, by name, in the file's order.
    """

    folder: Path
    settings: Settings
    images: Mapping[str, FixtureImage]
    resize_source: npt.NDArray[np.uint8] | None
    expected: Mapping[str, Array]
    _case: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Fixture:
        """Read a fixture folder.

        Raises:
            DatasetError: it is not one: a file is missing, broken or contradicts another.
        """
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise DatasetError(f"{folder} has no {', '.join(missing)}", expected=_FIXTURE)
        config = _read_json(folder / "config.json")
        settings = _read_settings(config)
        case = config.get("case", {})
        if not isinstance(case, dict):
            raise _broken(folder / "config.json", "'case' is not an object")
        inputs = _read_arrays(folder / "inputs.npz")
        return cls(
            folder=folder,
            settings=settings,
            images=_read_images(folder, inputs, case, size_divisor(settings)),
            resize_source=_pixels(inputs[RESIZE_INPUT]) if RESIZE_INPUT in inputs else None,
            expected=_read_arrays(folder / "expected.npz"),
            _case=case,
        )

    @property
    def weights(self) -> Path:
        """The weights, under the original's names."""
        return self.folder / "weights.safetensors"

    def class_names(self) -> list[str]:
        """The vocabulary, without the background.

        Raises:
            DatasetError: the fixture has none.
        """
        names = self._case.get("class_names")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise self._lacks("class_names", "a list of names")
        return list(names)

    def background(self) -> str:
        """The name that is appended to the vocabulary and stands for no class."""
        name = self._case.get("background_name_appended_last", "background")
        if not isinstance(name, str):
            raise self._lacks("background_name_appended_last", "a name")
        return name

    def phrases(self) -> list[str]:
        """The phrases of grounding, asked together.

        Raises:
            DatasetError: the fixture has none.
        """
        return self._texts("phrases")

    def captioned_images(self) -> list[FixtureImage]:
        """The images that have captions to be retrieved by, in order."""
        return [image for image in self.images.values() if _CAPTIONS + image.name in self._case]

    def captions(self, image: FixtureImage) -> list[str]:
        """The captions that an image is to be retrieved by.

        Raises:
            DatasetError: the fixture has none.
        """
        return self._texts(_CAPTIONS + image.name)

    def _texts(self, key: str) -> list[str]:
        texts = self._case.get(key)
        if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
            raise self._lacks(key, "a list of texts")
        return list(texts)

    def is_thing(self) -> npt.NDArray[np.bool_]:
        """One flag a class name; the fixture's things come first."""
        classes = len(self.class_names())
        things = self._case.get("num_thing_classes_first", classes)
        if type(things) is not int or not 0 <= things <= classes:
            raise self._lacks("num_thing_classes_first", f"an integer from 0 to {classes}")
        return np.arange(classes) < things

    def template_seed(self) -> int:
        """Seed of NumPy's legacy generator for the sampled templates."""
        seed = self._case.get("sampled_template_numpy_seed")
        if type(seed) is not int or not 0 <= seed < 1 << 32:
            raise self._lacks("sampled_template_numpy_seed", "an integer from 0 to 2**32 - 1")
        return seed

    def resize_shorter_side(self) -> int:
        """The shorter side of the resize case's output."""
        short = self._case.get("resize_shorter_side")
        if type(short) is not int or not 1 <= short <= _MAX_SIDE:
            raise self._lacks("resize_shorter_side", f"an integer from 1 to {_MAX_SIDE}")
        return short

    def thresholds(self, index: int, default: Thresholds) -> Thresholds:
        """The numbered setting of panoptic output.

        Args:
            index: which one.
            default: the network's own, number 0 of a fixture that states none.

        Raises:
            DatasetError: there are fewer settings.
        """
        sets = self._case.get("panoptic_threshold_sets")
        if sets is None and index == 0:
            return default
        if not isinstance(sets, list) or index >= len(sets) or not isinstance(sets[index], dict):
            raise self._lacks("panoptic_threshold_sets", f"at least {index + 1} sets")
        values = [sets[index].get(f"{kind}_threshold") for kind in ("object_mask", "overlap")]
        if not all(type(value) in (int, float) for value in values):
            raise self._lacks("panoptic_threshold_sets", "two thresholds in every set")
        return Thresholds(float(values[0]), float(values[1]))

    def _lacks(self, key: str, expected: str) -> DatasetError:
        return DatasetError(
            f"{self.folder / 'config.json'} has no usable case.{key}", expected=expected
        )


def _broken(path: Path, reason: object) -> DatasetError:
    return DatasetError(f"{path} cannot be read ({reason})", expected=_FIXTURE)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _broken(path, error) from error
    if not isinstance(config, dict):
        raise _broken(path, "it is not a JSON object")
    return config


def _read_settings(config: Mapping[str, Any]) -> Settings:
    entries = config.get("hyperparameters")
    if not isinstance(entries, dict):
        raise DatasetError("config.json has no 'hyperparameters'", expected=_FIXTURE)
    values = {}
    for name, entry in entries.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("yaml_key"), str):
            raise DatasetError(
                f"The hyper-parameter {shown(name)} of config.json is unusable",
                expected='{"value": ..., "yaml_key": "MODEL..."}',
            )
        values[entry["yaml_key"]] = entry.get("value")
    return Settings(values)


def _read_arrays(path: Path) -> dict[str, Array]:
    """Every array of an ``.npz``; nothing is unpickled."""
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it is not an archive of arrays")
            with archive:
                return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise _broken(path, error) from error


def _read_images(
    folder: Path, inputs: Mapping[str, Array], case: Mapping[str, Any], divisor: int
) -> dict[str, FixtureImage]:
    """The images that the case names with their output sizes, or every picture of the inputs."""
    entries = case.get("images")
    if entries is None:
        entries = [
            {"name": name}
            for name, array in inputs.items()
            if name != RESIZE_INPUT and _is_picture(array)
        ]
    if not isinstance(entries, list) or not entries:
        raise DatasetError(f"{folder} has no images", expected="uint8 HxWx3 arrays in inputs.npz")
    images = {}
    for entry in entries:
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or name not in inputs or not _is_picture(inputs[name]):
            raise DatasetError(
                f"inputs.npz has no image {shown(name)}, which config.json names",
                expected="a uint8 array of HxWx3",
            )
        blocked = inputs.get(name + BLOCKED_PIXELS)
        images[name] = _image(name, _pixels(inputs[name]), entry, divisor, blocked)
    return images


def _image(
    name: str,
    pixels: npt.NDArray[np.uint8],
    entry: Mapping[str, Any],
    divisor: int,
    blocked: Array | None,
) -> FixtureImage:
    height, width = pixels.shape[:2]
    stated = (entry.get("height", height), entry.get("width", width))
    if stated != (height, width):
        raise DatasetError(
            f"The image {shown(name)} is {height}x{width}", expected=f"{stated} as config.json says"
        )
    output = (entry.get("output_height", height), entry.get("output_width", width))
    if any(type(side) is not int or not 1 <= side <= _MAX_SIDE for side in output):
        raise DatasetError(
            f"The image {shown(name)} has the output size {shown(output)}",
            expected=f"sides from 1 to {_MAX_SIDE}",
        )
    padded = (_round_up(height, divisor), _round_up(width, divisor))
    if padded[0] % 32 or padded[1] % 32:
        raise DatasetError(
            f"The image {shown(name)} is {padded[0]}x{padded[1]} when it is padded",
            expected="multiples of 32, which is what the network halves five times",
        )
    frame = np.zeros((*padded, 3), np.uint8)
    frame[:height, :width] = pixels
    return FixtureImage(
        name,
        frame,
        Letterbox(output, padded, (height, width)),
        None if blocked is None else _region(name, blocked, (height, width)),
    )


def _region(name: str, blocked: Array, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """What the original blocks nothing of."""
    if blocked.dtype != np.bool_ or blocked.shape != size or blocked.all():
        raise DatasetError(
            f"inputs.npz has {name + BLOCKED_PIXELS} of {blocked.dtype} {list(blocked.shape)}",
            expected=f"bool {list(size)} with a pixel that is not blocked",
        )
    region: npt.NDArray[np.bool_] = ~blocked
    return region


def _round_up(length: int, divisor: int) -> int:
    return -(-length // divisor) * divisor


def _is_picture(array: Array) -> bool:
    return array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3 and array.size > 0


def _pixels(array: Array) -> npt.NDArray[np.uint8]:
    if not _is_picture(array):
        raise DatasetError(
            f"inputs.npz has an image of {array.dtype} {list(array.shape)}",
            expected="a uint8 array of HxWx3",
        )
    return array.astype(np.uint8, copy=False)


def find_image(images: Mapping[str, FixtureImage], array: str) -> tuple[FixtureImage, str] | None:
    """The image that an expected array belongs to, and the array's name within it.

    Arrays are named ``image.array``; a fixture of one image may leave the image out.
    """
    names: Sequence[str] = sorted(images, key=len, reverse=True)
    for name in names:
        if array.startswith(name + "."):
            return images[name], array[len(name) + 1 :]
    return (images[names[0]], array) if len(names) == 1 else None
