r"""Errors of places by depth, on rendered boxes of known size; a picture of boxes in space.

    python benchmarks/depth.py
    python benchmarks/depth.py --plan model.plan --picture docs/images/space.webp

A box of 0.3 x 0.2 x 0.2 m stands before a wall. Its place is asked with true depth, and with depth
as a camera gives it: noise that grows with the square of the distance (1 mm at 1 m), 30 % holes,
whole millimetres, and a mask that is 3 pixels too wide. The errors are those of the median along
the optical axis and of the extent's four sides, the worst. The picture is a frame of a rendered
table, segments of the plan, and boxes by its true depth. Needs the extra scenes.
"""

from __future__ import annotations

import argparse

import numpy as np

from xdecoder_rt import Engine
from xdecoder_rt.drawing.boxes import draw_boxes
from xdecoder_rt.results import Segmentation
from xdecoder_rt.scenes.meshes.shapes import box
from xdecoder_rt.scenes.moving import walk
from xdecoder_rt.scenes.room import ROOM_STUFF
from xdecoder_rt.scenes.simulator import Camera, Light, Simulator
from xdecoder_rt.scenes.workcell import workcell_studio

HEIGHT, WIDTH, ANGLE = 480, 640, 50.0
SIZE, LEFT, DOWN = (0.3, 0.2, 0.2), 0.1, -0.05
LIGHT = Light((0.0, -1.0, 1.0), (1.0, 1.0, 1.0), 0.6, 0.4, 0.0, False)


def look(far: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the mask of a box whose front is `far` metres away, and its true depth."""
    world = Simulator()
    try:
        part = box(SIZE, (0.8, 0.2, 0.1), (0.0, 0.0, 0.0))
        wall = box((8.0, 0.1, 8.0), (0.7, 0.7, 0.7), (0.0, 0.0, 0.0))
        world.add_parts([part], 1, (LEFT, far + SIZE[1] / 2, 1 - DOWN), np.eye(3))
        world.add_parts([wall], 2, (0.0, 3.5, 1.0), np.eye(3))
        camera = Camera((0.0, 0.0, 1.0), (0.0, 1.0, 1.0), ANGLE)
        _, things, depth = world.look(camera, LIGHT, HEIGHT, WIDTH)
    finally:
        world.close()
    return things == 1, depth


def widened(mask: np.ndarray, pixels: int) -> np.ndarray:
    for _ in range(pixels):
        grown = mask.copy()
        grown[1:] |= mask[:-1]
        grown[:-1] |= mask[1:]
        grown[:, 1:] |= mask[:, :-1]
        grown[:, :-1] |= mask[:, 1:]
        mask = grown
    return mask


def as_a_camera(depth: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    noisy = depth + 0.001 * depth**2 * rng.normal(size=depth.shape)
    noisy[rng.random(depth.shape) < 0.3] = 0
    return (1000 * np.nan_to_num(noisy)).round().astype(np.uint16)


def errors(mask: np.ndarray, depth: np.ndarray, far: float) -> tuple[float, float, float]:
    """Return the errors of median and extent in millimetres, and the share that was believed."""
    info = {"id": 1, "label_id": 0, "label": "box", "score": 0.9, "isthing": True}
    info["area"] = int(mask.sum())
    focal = HEIGHT / 2 / np.tan(np.radians(ANGLE / 2))
    intrinsics = (focal, focal, (WIDTH - 1) / 2, (HEIGHT - 1) / 2)
    (place,) = Segmentation(mask.astype(np.int32), [info]).in_space(depth, intrinsics)
    assert place is not None
    sides = [
        place.low[0] - (LEFT - SIZE[0] / 2), place.high[0] - (LEFT + SIZE[0] / 2),
        place.low[1] - (DOWN - SIZE[2] / 2), place.high[1] - (DOWN + SIZE[2] / 2),
    ]  # fmt: skip
    return 1000 * abs(place.median[2] - far), 1000 * max(map(abs, sides)), place.share


def save_picture(plan: str, path: str) -> None:
    """Write a frame with its segments and their boxes in space."""
    studio = workcell_studio("val")
    frame = next(iter(walk(studio, np.random.default_rng(1001), 1)))
    words = sorted(set(frame.labels.values()))
    stuff = [word for word in words if word in (*ROOM_STUFF, "table")]
    with Engine(plan) as engine:
        found = engine.segment(frame.image, words, stuff=stuff)
    places = found.in_space(frame.depth, frame.intrinsics)
    picture = found.draw(frame.image)
    things = zip(places, found.segments_info, strict=True)
    draw_boxes(picture, [p for p, info in things if p and info["isthing"]], frame.intrinsics)
    picture.save(path, quality=70)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", help="for the picture")
    parser.add_argument("--picture", metavar="FILE", help="where to write it")
    arguments = parser.parse_args()
    if arguments.picture:
        if not arguments.plan:
            parser.error("--picture needs --plan")
        save_picture(arguments.plan, arguments.picture)
        return
    print(f"{'far':>5}{'depth':>10}{'median mm':>12}{'extent mm':>12}{'believed':>10}")
    for far in (0.6, 1.0, 2.0):
        mask, depth = look(far)
        for name, seen, metres in (
            ("true", mask, depth), ("a camera's", widened(mask, 3), as_a_camera(depth)),
        ):  # fmt: skip
            middle, extent, share = errors(seen, metres, far)
            print(f"{far:5.1f}{name:>12}{middle:10.1f}{extent:12.1f}{share:10.2f}")


if __name__ == "__main__":
    main()
