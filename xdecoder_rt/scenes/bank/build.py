"""Makes a bank: drawings, renderings, stamps and furniture as cut-outs, scenes, photographs."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xdecoder_rt.datasets.image_files import read_rgb
from xdecoder_rt.datasets.labelled_folder import LabelledFolder
from xdecoder_rt.errors import ArgumentError, DatasetError, quoted, require
from xdecoder_rt.scenes.backdrop import BACKDROP_STUFF, backdrop
from xdecoder_rt.scenes.bank.renders import THINGS, furniture_views, renderings
from xdecoder_rt.scenes.bank.store import Bank, BankWriter
from xdecoder_rt.scenes.clipart import training_drawings
from xdecoder_rt.scenes.interiors.library import FurnitureLibrary
from xdecoder_rt.scenes.lexicons.furniture import Furniture
from xdecoder_rt.scenes.lexicons.stamps import Stamp
from xdecoder_rt.scenes.names import canonical
from xdecoder_rt.scenes.photographs.grounds import Grounds, part_of
from xdecoder_rt.scenes.photographs.stamps import Stamps, stamps_of
from xdecoder_rt.scenes.scene import scene_generator
from xdecoder_rt.scenes.splits import novel_names
from xdecoder_rt.scenes.sprites import DEFAULT_CLIPART_DIR, SpriteCache

__all__ = ["BankPlan", "build_bank"]

_PICTURES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class BankPlan:
    """The contents of a bank to be built.

    Attributes:
        views: renderings of each name.
        drawings: whether Open Clip Art's drawings go in.
        backdrops: scenes of stuff alone.
        scenes: labelled folders whose images go in as whole scenes.
        photographs: folders of pictures that show nothing of the vocabulary.
        banks: banks whose pictures go in as they are.
        stamps_dir: Tux Paint's stamps, those of training; None for none.
        grounds_dir: the `share` folder of packages with photographed grounds; None for none.
        ground_parts: parts of each ground.
        furniture_dir: Sweet Home 3D's furniture libraries; None for none.
        furniture_views: renderings of each model.
        side: longest side of a cut-out, pixels.
        scene_side: longest side of a scene or photograph, pixels.
        quality: of WebP, 1 to 100.
        seed: decides renderings and backdrops.
        clipart_dir: Open Clip Art's SVG files.
    """

    views: int = 20
    drawings: bool = True
    backdrops: int = 300
    scenes: tuple[Path, ...] = ()
    photographs: tuple[Path, ...] = ()
    banks: tuple[Path, ...] = ()
    stamps_dir: Path | None = None
    grounds_dir: Path | None = None
    ground_parts: int = 4
    furniture_dir: Path | None = None
    furniture_views: int = 3
    side: int = 160
    scene_side: int = 416
    quality: int = 80
    seed: int = 0
    clipart_dir: Path = DEFAULT_CLIPART_DIR

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn.

        Raises:
            ArgumentError: naming the first wrong number.
        """
        for name, low, high in (
            ("views", 0, 10_000),
            ("backdrops", 0, 100_000),
            ("ground_parts", 1, 1000),
            ("furniture_views", 1, 1000),
            ("side", 32, 1024),
            ("scene_side", 64, 512),
            ("quality", 1, 100),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ArgumentError(f"{name} is {value}", expected=f"{low} to {high}")


def build_bank(plan: BankPlan, output: Path, cache_dir: Path, progress: bool = True) -> str:
    """Make a bank of training names; held-out names and drawings stay out.

    Args:
        plan: what goes in.
        output: folder of the bank.
        cache_dir: where rendered drawings are kept.
        progress: whether to show progress bars.

    Returns:
        What is in it, for people.

    Raises:
        DatasetError: the drawings or a folder cannot be read, there would be no cut-outs or
            nothing below them, a label is stuff in one part of the bank and a thing in another, or
            the bank cannot be written.
        MissingExtraError: a package of the extra "scenes" is missing.
    """
    folders = [LabelledFolder.open(folder, verify=False) for folder in plan.scenes]
    names = [name for name in THINGS if name not in novel_names()] if plan.views else []
    sprites = SpriteCache(plan.clipart_dir, cache_dir) if plan.drawings else None
    drawings = training_drawings(sprites) if sprites else []
    stamps = Stamps(plan.stamps_dir) if plan.stamps_dir else None
    chosen = [s for s in stamps_of("train") if s in stamps.stamps] if stamps else []
    grounds = Grounds(plan.grounds_dir, "train") if plan.grounds_dir else None
    library = FurnitureLibrary(plan.furniture_dir) if plan.furniture_dir else None
    models = [m for m in library.models if m.name not in novel_names()] if library else []
    banks = [Bank(folder) for folder in plan.banks]
    if not (names or drawings or chosen or models or banks):
        raise DatasetError(
            "The bank would have no cut-outs",
            expected="drawings, --views, --stamps-dir, --furniture-dir or --banks",
        )
    if not (plan.backdrops or grounds or folders or plan.photographs or banks):
        raise DatasetError(
            "The bank would have nothing that its cut-outs can lie on",
            expected="--backdrops, --scenes, --photographs, --grounds-dir or --banks",
            fix="a single backdrop is enough for a bank that goes into another: --backdrops 1",
        )
    things = {*names, *(drawing.name for drawing in drawings)}
    things |= {*(stamp.name for stamp in chosen), *(model.name for model in models)}
    shown = {r.label for g in grounds.grounds for r in g.regions} if grounds else set()
    writer = BankWriter(_stuff(folders, banks, things, shown))
    steps: list[tuple[str, int, Iterator[None]]] = []
    for bank in banks:
        total = len(bank.cut_outs) + len(bank.scenes) + len(bank.photographs)
        steps.append((bank.folder.name, total, writer.bank(bank)))
    if sprites:
        steps.append(("drawings", len(drawings), _add_drawings(plan, sprites, drawings, writer)))
    steps.append(("renderings", len(names), _rendered(plan, names, writer)))
    if stamps:
        steps.append(("stamps", len(chosen), _add_stamps(plan, stamps, chosen, writer)))
    if library:
        steps.append(("furniture", len(models), _add_furniture(plan, library, models, writer)))
    steps.append(("backdrops", plan.backdrops, _backdrops(plan, writer)))
    if grounds:
        steps.append(("grounds", len(grounds.grounds), _add_grounds(plan, grounds, writer)))
    for labelled in folders:
        steps.append((labelled.root.name, len(labelled.items), _scenes(plan, labelled, writer)))
    for folder in plan.photographs:
        files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _PICTURES)
        if not files:
            raise DatasetError(f"{folder} has no pictures", expected=", ".join(_PICTURES))
        steps.append((folder.name, len(files), _photographs(plan, files, writer)))
    bar: Callable[..., Any] = require("tqdm", "scenes").tqdm
    for name, total, step in steps:
        for _ in bar(step, total=total, desc=name, disable=not progress):
            pass
    writer.write(output)
    return writer.summary()


def _stuff(
    folders: Sequence[LabelledFolder], banks: Sequence[Bank], things: set[str], shown: set[str]
) -> frozenset[str]:
    """Return the canonical labels that are stuff: of backdrops, grounds, folders and banks.

    Args:
        folders: whose images go in as whole scenes.
        banks: whose pictures go in.
        things: names of the cut-outs.
        shown: labels of the photographed grounds.

    Raises:
        DatasetError: one of them is a thing elsewhere in the bank.
    """
    stuff, things = {*BACKDROP_STUFF, *shown}, set(things)
    for bank in banks:
        stuff.update(bank.stuff)
        labels = {label for scene in bank.scenes for label in scene.labels.values()}
        things.update({*bank.by_name, *labels} - bank.stuff)
    for folder in folders:
        stuff.update(map(canonical, folder.stuff))
        things.update(canonical(label) for label in folder.vocabulary if label not in folder.stuff)
    if shared := sorted(stuff & things):
        raise DatasetError(
            f"Of the bank's labels, {quoted(shared)} would be stuff in one picture and things in "
            "another",
            expected="labels that are stuff everywhere, or things everywhere",
            fix="change 'stuff' in a folder's annotations.json, or rename the label there",
        )
    return frozenset(stuff)


def _add_drawings(
    plan: BankPlan, sprites: SpriteCache, drawings: Sequence[Any], writer: BankWriter
) -> Iterator[None]:
    for drawing in drawings:
        pixels = sprites.load(drawing)
        if pixels is not None:
            writer.cut_out(drawing.name, True, _webp(_fitted(pixels, plan.side), plan.quality))
        yield


def _rendered(plan: BankPlan, names: Sequence[str], writer: BankWriter) -> Iterator[None]:
    for name in names:
        rng = scene_generator("renderings", name, plan.seed, 0)
        # Many models are loaded from few files; arms have the most ways to look.
        count = plan.views * (5 if name == "robot arm" else 1)
        for pixels in renderings(name, count, plan.side, rng):
            writer.cut_out(name, False, _webp(Image.fromarray(pixels), plan.quality))
        yield


def _add_stamps(
    plan: BankPlan, stamps: Stamps, chosen: Sequence[Stamp], writer: BankWriter
) -> Iterator[None]:
    for stamp in chosen:
        picture = Image.fromarray(stamps.load(stamp))
        # What is smaller than a cut-out's side stays as it is: enlarging adds nothing but bytes.
        side = min(plan.side, max(picture.size))
        writer.cut_out(stamp.name, False, _webp(_fitted(np.asarray(picture), side), plan.quality))
        yield


def _add_furniture(
    plan: BankPlan, library: FurnitureLibrary, models: Sequence[Furniture], writer: BankWriter
) -> Iterator[None]:
    for model in models:
        key = f"{model.identity}/{model.name}"
        rng = scene_generator("furniture", key, plan.seed, 0)
        for pixels in furniture_views(library, model, plan.furniture_views, plan.side, rng):
            writer.cut_out(model.name, False, _webp(Image.fromarray(pixels), plan.quality))
        yield


def _add_grounds(plan: BankPlan, grounds: Grounds, writer: BankWriter) -> Iterator[None]:
    for ground in grounds.grounds:
        rng = scene_generator("grounds", ground.path, plan.seed, 0)
        whole = grounds.load(ground, rng)
        height, width = _size(whole.ids.shape, plan.scene_side)
        for _ in range(plan.ground_parts):
            part = part_of(whole, (height, width), rng)
            picture = _webp(Image.fromarray(part.image), plan.quality - 5)
            writer.scene(part.labels, picture, _png(part.ids))
        yield


def _backdrops(plan: BankPlan, writer: BankWriter) -> Iterator[None]:
    side = plan.scene_side
    for index in range(plan.backdrops):
        scene = backdrop(scene_generator("backdrops", "", plan.seed, index), side, side)
        picture = _webp(Image.fromarray(scene.image), plan.quality - 10)
        writer.scene(scene.labels, picture, _png(scene.ids))
        yield


def _scenes(plan: BankPlan, folder: LabelledFolder, writer: BankWriter) -> Iterator[None]:
    for item in folder.items:
        labels = {segment.id: canonical(segment.label) for segment in item.segments}
        image, ids = Image.fromarray(item.load_image()), _ids(item.load_panoptic())
        size = _size(image.size, plan.scene_side)
        small = Image.fromarray(ids).resize(size, Image.Resampling.NEAREST)
        picture = _webp(image.resize(size, Image.Resampling.LANCZOS), plan.quality - 5)
        writer.scene(labels, picture, _png(np.asarray(small)))
        yield


def _ids(ids: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """Return a map without what it knows to be nothing, which a bank's scenes do not keep."""
    known: NDArray[np.uint8] = np.maximum(ids, 0).astype(np.uint8)
    return known


def _photographs(plan: BankPlan, files: Sequence[Path], writer: BankWriter) -> Iterator[None]:
    for file in files:
        photograph = Image.fromarray(read_rgb(file, draft=2 * plan.scene_side))
        size = _size(photograph.size, round(1.5 * plan.scene_side))
        photograph = photograph.resize(size, Image.Resampling.LANCZOS)
        writer.photograph(_webp(photograph, plan.quality - 10))
        yield


def _fitted(pixels: NDArray[np.uint8], side: int) -> Image.Image:
    picture = Image.fromarray(pixels).convert("RGBa")
    return picture.resize(_size(picture.size, side), Image.Resampling.LANCZOS).convert("RGBA")


def _size(size: tuple[int, ...], longest: int) -> tuple[int, int]:
    scale = longest / max(size)
    return max(2, round(size[0] * scale)), max(2, round(size[1] * scale))


def _webp(picture: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    picture.save(out, format="WEBP", quality=max(1, quality), method=4)
    return out.getvalue()


def _png(ids: NDArray[np.uint8]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(ids).save(out, format="PNG", optimize=True)
    return out.getvalue()
