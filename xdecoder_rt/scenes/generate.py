"""Writing labelled folders of generated scenes, with several processes."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, cast

import numpy as np

from xdecoder_rt.cores import usable_cores
from xdecoder_rt.datasets.labelled_folder import LabelledFolder, LabelledFolderWriter
from xdecoder_rt.errors import ArgumentError, DatasetError, require
from xdecoder_rt.scenes.describe import describe_folder
from xdecoder_rt.scenes.scene import Scene, scene_generator
from xdecoder_rt.scenes.splits import SPLITS, Split

__all__ = ["DOMAINS", "SPLITS", "Domain", "generate"]

Domain = Literal["clipart", "workcell", "mujoco", "photographs"]
DOMAINS: tuple[Domain, ...] = ("clipart", "workcell", "mujoco", "photographs")

_SCENES_A_TASK = 4
_SCENES_A_PROCESS = 80  # the simulator gives little memory back: about 5 MB a scene are lost
_ATTEMPTS = 8  # scenes without any labelled thing are drawn again, this often


class Studio(Protocol):
    """Draws the scenes of one domain and split.

    Attributes:
        vocabulary: Every label its scenes may have.
        stuff: Those that are stuff.
    """

    vocabulary: tuple[str, ...]
    stuff: frozenset[str]

    def draw(self, rng: np.random.Generator, size: tuple[int, int] | None = None) -> Scene:
        """Draw one scene, (height, width) or a usual size."""


@dataclass(frozen=True)
class _Order:
    """The settings of a worker process, enough to draw any scene of the folder."""

    domain: Domain
    split: Split
    seed: int
    size: tuple[int, int] | None
    clipart_dir: Path | None
    cache_dir: Path
    stamps_dir: Path | None
    grounds_dir: Path | None
    names: tuple[str, ...]

    def studio(self) -> Studio:
        if self.domain == "clipart":
            from xdecoder_rt.scenes.clipart import clipart_studio

            return clipart_studio(self.split, self.clipart_dir, self.cache_dir, self.names)
        if self.domain == "mujoco":
            from xdecoder_rt.scenes.mujoco_cell import mujoco_studio

            return mujoco_studio(self.split)
        if self.domain == "photographs":
            from xdecoder_rt.scenes.photographs.studio import photograph_studio

            return photograph_studio(self.split, self.stamps_dir, self.grounds_dir)
        from xdecoder_rt.scenes.workcell import workcell_studio

        return workcell_studio(self.split)


class _Worker:
    """Draws scenes by number; made once in each process."""

    current: _Worker | None = None

    def __init__(self, order: _Order) -> None:
        self.order = order
        self.studio = order.studio()

    def draw(self, index: int) -> Scene:
        order, stuff = self.order, self.studio.stuff
        rng = scene_generator(order.domain, order.split, order.seed, index)
        for _ in range(_ATTEMPTS):
            scene = self.studio.draw(rng, order.size)
            if any(label not in stuff for label in scene.labels.values()):
                break
        return scene


def _start(order: _Order) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the pool's process, which ends it
    _Worker.current = _Worker(order)


def _draw(index: int) -> Scene:
    return cast(_Worker, _Worker.current).draw(index)


def generate(
    domain: str,
    out: str | Path,
    count: int,
    *,
    split: str = "train",
    seed: int = 0,
    size: tuple[int, int] | None = None,
    workers: int | None = None,
    clipart_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    stamps_dir: str | Path | None = None,
    grounds_dir: str | Path | None = None,
    names: Sequence[str] = (),
    progress: bool = True,
) -> LabelledFolder:
    """Draw labelled scenes into a new labelled folder.

    Scene i of a seed is the same whatever the number of processes. The folder appears whole, when
    the last scene is drawn; until then its files are in `.NAME.partial` beside it. What an
    interrupted run left there is removed by the next run for the same folder.

    Args:
        domain: "clipart" (drawings over textures), "workcell" (rendered robot scenes), "mujoco"
            (such scenes of another renderer and other robots, to measure with only) or
            "photographs" (things cut out of photographs on photographed grounds).
        out: The folder; new, or empty.
        count: How many scenes.
        split: "train"; "val", the names of training with unseen drawings and arrangements; or
            "novel", things whose names training never uses.
        seed: Another seed gives other scenes.
        size: (height, width) of every scene; None varies it, at most 448 pixels a side.
        workers: Processes; None takes one for each core that this process may use.
        clipart_dir: Folder of the `openclipart-svg` drawings; None takes where Debian puts them.
        cache_dir: Where rendered drawings are kept; None takes `xdecoder_rt/sprites` in the
            user's cache folder.
        stamps_dir: Folder of Tux Paint's stamps; None takes where Debian puts them.
        grounds_dir: The `share` folder of the packages with grounds; None takes `/usr/share`.
        names: Draw things of these names alone; "clipart" only.
        progress: Show a progress bar on standard error.

    Returns:
        The folder, opened.

    Raises:
        ArgumentError: an argument is outside its range.
        DatasetError: the folder cannot be written or has been written, or what it is made of is
            not there.
        MissingExtraError: pybullet, mujoco or resvg_py is not installed.
        BackendError: MuJoCo finds no OpenGL.
    """
    if domain not in DOMAINS:
        raise ArgumentError(f"unknown domain {domain!r}", expected=" or ".join(DOMAINS))
    if split not in SPLITS:
        raise ArgumentError(f"unknown split {split!r}", expected=", ".join(SPLITS))
    if domain == "mujoco" and split == "train":
        raise ArgumentError(
            "the domain mujoco is kept from training",
            expected="the split val or novel",
            fix="train on the domain workcell",
        )
    if names and domain != "clipart":
        raise ArgumentError(
            f"names are chosen for the domain {domain!r}", expected="the domain clipart"
        )
    if count < 1:
        raise ArgumentError(f"count is {count}", expected="at least 1 scene")
    if size is not None and not all(64 <= side <= 4096 for side in size):
        raise ArgumentError(
            f"size is {size[1]}x{size[0]}", expected="width and height from 64 to 4096 pixels"
        )
    processes = min(workers if workers is not None else usable_cores(), count)
    if processes < 1:
        raise ArgumentError(f"workers is {workers}", expected="at least 1 process")
    order = _Order(
        domain,
        split,
        seed,
        size,
        None if clipart_dir is None else Path(clipart_dir),
        default_cache() if cache_dir is None else Path(cache_dir),
        None if stamps_dir is None else Path(stamps_dir),
        None if grounds_dir is None else Path(grounds_dir),
        tuple(names),
    )
    worker = _Worker(order)  # fails here, not in a child, when something is missing
    studio = worker.studio
    folder = Path(out)
    if os.path.exists(folder) and not (os.path.isdir(folder) and not any(folder.iterdir())):
        raise DatasetError(
            f"{folder} exists and is not an empty folder",
            fix="choose another folder or remove this one",
        )
    partial = folder.resolve().with_name(f".{folder.resolve().name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    scenes = _with_progress(
        _draw_all(worker, count, processes), count, f"{domain} {split}", progress
    )
    with LabelledFolderWriter(
        partial, studio.vocabulary, studio.stuff, image_format="jpeg"
    ) as writer:
        for scene in scenes:
            writer.add(scene.image, scene.ids, scene.labels)
    # The texts are written from the stored pictures, so that `describe` can write them again.
    try:
        describe_folder(partial, seed=seed, workers=processes, progress=progress)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    try:
        os.replace(partial, folder)
    except OSError as error:
        raise DatasetError(
            f"{folder} cannot be written: {error.strerror or error}",
            fix=f"the finished scenes are in {partial}; move them by hand",
        ) from error
    return LabelledFolder.open(out, verify=False)


def _draw_all(worker: _Worker, count: int, processes: int) -> Iterator[Scene]:
    if processes == 1 and count <= _SCENES_A_PROCESS:
        yield from map(worker.draw, range(count))
        return
    context = multiprocessing.get_context("spawn")
    tasks = _SCENES_A_PROCESS // _SCENES_A_TASK
    with context.Pool(processes, _start, (worker.order,), maxtasksperchild=tasks) as pool:
        yield from pool.imap(_draw, range(count), chunksize=_SCENES_A_TASK)


def _with_progress(
    scenes: Iterator[Scene], count: int, title: str, progress: bool
) -> Iterator[Scene]:
    if not progress:
        return scenes
    tqdm = require("tqdm", "scenes")
    return cast("Iterator[Scene]", iter(tqdm.tqdm(scenes, total=count, desc=title, unit="scene")))


def default_cache() -> Path:
    """Return where rendered drawings are kept unless told otherwise."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "xdecoder_rt" / "sprites"
