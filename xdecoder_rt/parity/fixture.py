"""Fixture folders: weights, inputs and expected arrays of one network, with its settings."""

from __future__ import annotations

import lzma
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from xdecoder_rt.backends.base import Array
from xdecoder_rt.errors import DatasetError, quoted
from xdecoder_rt.json_reader import Rule, parse_json, read_object
from xdecoder_rt.parity.settings import Settings, size_divisor
from xdecoder_rt.pixels.letterbox import Letterbox

RESIZE_INPUT = "resize_src"
BLOCKED_PIXELS = ".caption_region.blocked_mask"
WEIGHTS = "weights.safetensors"
PACKED = f"{WEIGHTS}.xz"
FILES = ("config.json", "inputs.npz", "expected.npz", WEIGHTS)
_FIXTURE = f"a folder with {', '.join(FILES)}, the last one packed by xz or not"
_WEIGHTS_LIMIT = 4 << 30
_BLOCK = 1 << 20
_MAX_SIDE = 1 << 14
_CONFIG_LIMIT = 16 << 20
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

    object_mask: Annotated[float, Rule(key="object_mask_threshold")]
    overlap: Annotated[float, Rule(key="overlap_threshold")]


_T = TypeVar("_T")
TextList: TypeAlias = Annotated[tuple[str, ...], Rule(least=1)]
ImageSide: TypeAlias = Annotated[int, Rule(low=1, high=_MAX_SIDE)]


@dataclass(frozen=True)
class _ImageEntry:
    """An image that the case names; sizes that it leaves out are the picture's own."""

    name: str
    height: ImageSide | None = None
    width: ImageSide | None = None
    output_height: ImageSide | None = None
    output_width: ImageSide | None = None


@dataclass(frozen=True)
class _Case:
    """The questions to the original, as ``config.json`` states it."""

    class_names: tuple[str, ...] | None = None
    background: Annotated[str, Rule(key="background_name_appended_last")] = "background"
    phrases: TextList | None = None
    things: Annotated[int | None, Rule(key="num_thing_classes_first")] = None
    template_seed: Annotated[
        Annotated[int, Rule(low=0, high=(1 << 32) - 1)] | None,
        Rule(key="sampled_template_numpy_seed"),
    ] = None
    resize_shorter_side: ImageSide | None = None
    thresholds: Annotated[tuple[Thresholds, ...] | None, Rule(key="panoptic_threshold_sets")] = None
    images: Annotated[tuple[_ImageEntry, ...], Rule(least=1)] | None = None


@dataclass(frozen=True)
class _Hyperparameter:
    """One setting of the original: its name there, and its value, checked by who takes it."""

    yaml_key: str
    value: Annotated[Any, Rule(unread=True)] = None


@dataclass(frozen=True)
class _Config:
    hyperparameters: Mapping[str, _Hyperparameter]
    case: Mapping[str, Any] = field(default_factory=dict)


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
    _case: _Case
    _captions: Mapping[str, tuple[str, ...]]

    @classmethod
    def open(cls, folder: Path) -> Fixture:
        """Read a fixture folder.

        Raises:
            DatasetError: it is not one: a file is missing, broken or contradicts another.
        """
        missing = [name for name in FILES if not os.path.isfile(folder / name)]
        if os.path.isfile(folder / PACKED):
            missing = [name for name in missing if name != WEIGHTS]
        if missing:
            raise DatasetError(f"{folder} has no {', '.join(missing)}", expected=_FIXTURE)
        path = folder / "config.json"
        config = _read_config(path)
        settings = Settings(
            {entry.yaml_key: entry.value for entry in config.hyperparameters.values()}
        )
        case = read_object(config.case, _Case, f"{path}, case", DatasetError)
        captions = {k: v for k, v in config.case.items() if k.startswith(_CAPTIONS)}
        inputs = _read_arrays(folder / "inputs.npz")
        return cls(
            folder=folder,
            settings=settings,
            images=_read_images(folder, inputs, case, size_divisor(settings)),
            resize_source=_pixels(inputs[RESIZE_INPUT]) if RESIZE_INPUT in inputs else None,
            expected=_read_arrays(folder / "expected.npz"),
            _case=case,
            _captions=read_object(captions, dict[str, TextList], f"{path}, case", DatasetError),
        )

    @cached_property
    def weights(self) -> Path:
        """The weights, under the original's names; packed ones are unpacked as long as this lives.

        Raises:
            DatasetError: what is packed is damaged, or larger than weights are.
        """
        if os.path.isfile(self.folder / WEIGHTS):
            return self.folder / WEIGHTS
        path = Path(self._unpacked.name, WEIGHTS)
        left = _WEIGHTS_LIMIT
        try:
            with lzma.open(self.folder / PACKED) as packed, path.open("wb") as file:
                while left > 0 and (block := packed.read(_BLOCK)):
                    file.write(block)
                    left -= len(block)
        except (lzma.LZMAError, EOFError) as error:
            raise DatasetError(f"{self.folder / PACKED} is damaged: {error}") from error
        if left <= 0:
            raise DatasetError(
                f"{self.folder / PACKED} unpacks to more than {_WEIGHTS_LIMIT:,} bytes"
            )
        return path

    @cached_property
    def _unpacked(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="xdecoder-rt-parity-")

    def class_names(self) -> list[str]:
        """Return the vocabulary, without the background.

        Raises:
            DatasetError: the fixture has none.
        """
        return list(self._stated("class_names", self._case.class_names))

    def background(self) -> str:
        """Return the name that is appended to the vocabulary and stands for no class."""
        return self._case.background

    def phrases(self) -> list[str]:
        """Return the phrases of grounding, asked together.

        Raises:
            DatasetError: the fixture has none.
        """
        return list(self._stated("phrases", self._case.phrases))

    def captioned_images(self) -> list[FixtureImage]:
        """Return the images that have captions to be retrieved by, in order."""
        return [image for image in self.images.values() if _CAPTIONS + image.name in self._captions]

    def captions(self, image: FixtureImage) -> list[str]:
        """Return the captions that an image is to be retrieved by.

        Raises:
            DatasetError: the fixture has none.
        """
        key = _CAPTIONS + image.name
        return list(self._stated(key, self._captions.get(key)))

    def is_thing(self) -> npt.NDArray[np.bool_]:
        """Return a flag a class name; the fixture's things come first."""
        classes = len(self.class_names())
        things = classes if self._case.things is None else self._case.things
        if not 0 <= things <= classes:
            raise DatasetError(
                f"{self.folder / 'config.json'} has {things} things in num_thing_classes_first",
                expected=f"an integer from 0 to {classes}",
            )
        return np.arange(classes) < things

    def template_seed(self) -> int:
        """Seed of NumPy's legacy generator for the sampled templates."""
        return self._stated("sampled_template_numpy_seed", self._case.template_seed)

    def resize_shorter_side(self) -> int:
        """Return the shorter side of the resize case's output."""
        return self._stated("resize_shorter_side", self._case.resize_shorter_side)

    def thresholds(self, index: int, default: Thresholds) -> Thresholds:
        """Return the numbered setting of panoptic output.

        Args:
            index: which one.
            default: the network's own, number 0 of a fixture that states none.

        Raises:
            DatasetError: there are fewer settings.
        """
        if self._case.thresholds is None and index == 0:
            return default
        sets = self._stated("panoptic_threshold_sets", self._case.thresholds)
        if index >= len(sets):
            raise DatasetError(
                f"{self.folder / 'config.json'} has {len(sets)} panoptic_threshold_sets",
                expected=f"at least {index + 1}",
            )
        return sets[index]

    def _stated(self, key: str, value: _T | None) -> _T:
        """Return a value of the case, and refuse a case without it."""
        if value is None:
            raise DatasetError(f"{self.folder / 'config.json'} has no case.{key}")
        return value


def _broken(path: Path, reason: object) -> DatasetError:
    return DatasetError(f"{path} cannot be read ({reason})", expected=_FIXTURE)


def _read_config(path: Path) -> _Config:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _broken(path, error) from error
    document = parse_json(data, str(path), _CONFIG_LIMIT, DatasetError)
    return read_object(document, _Config, str(path), DatasetError)


def _read_arrays(path: Path) -> dict[str, Array]:
    """Return every array of an ``.npz``; nothing is unpickled."""
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
    folder: Path, inputs: Mapping[str, Array], case: _Case, divisor: int
) -> dict[str, FixtureImage]:
    """Return the images that the case names, or every picture of the inputs."""
    entries = case.images
    if entries is None:
        entries = tuple(
            _ImageEntry(name)
            for name, array in inputs.items()
            if name != RESIZE_INPUT and _is_picture(array)
        )
    if not entries:
        raise DatasetError(f"{folder} has no images", expected="uint8 HxWx3 arrays in inputs.npz")
    images = {}
    for entry in entries:
        name = entry.name
        if name not in inputs or not _is_picture(inputs[name]):
            raise DatasetError(
                f"inputs.npz has no image {quoted(name)}, which config.json names",
                expected="a uint8 array of HxWx3",
            )
        blocked = inputs.get(name + BLOCKED_PIXELS)
        images[name] = _image(entry, _pixels(inputs[name]), divisor, blocked)
    return images


def _image(
    entry: _ImageEntry, pixels: npt.NDArray[np.uint8], divisor: int, blocked: Array | None
) -> FixtureImage:
    name = entry.name
    height, width = pixels.shape[:2]
    stated = (entry.height or height, entry.width or width)
    if stated != (height, width):
        raise DatasetError(
            f"The image {quoted(name)} is {height}x{width}",
            expected=f"{stated} as config.json says",
        )
    output = (entry.output_height or height, entry.output_width or width)
    padded = (_round_up(height, divisor), _round_up(width, divisor))
    if padded[0] % 32 or padded[1] % 32:
        raise DatasetError(
            f"The image {quoted(name)} is {padded[0]}x{padded[1]} when it is padded",
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
    """Return the pixels that the original does not block."""
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
    """Return an expected array's image, and the array's name within it.

    Arrays are named ``image.array``; a fixture of one image may leave the image out.
    """
    names: Sequence[str] = sorted(images, key=len, reverse=True)
    for name in names:
        if array.startswith(name + "."):
            return images[name], array[len(name) + 1 :]
    return (images[names[0]], array) if len(names) == 1 else None
