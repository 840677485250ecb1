"""Times the post-processing alone, on masks drawn like a model's: soft-edged, mostly disjoint.

python benchmarks/postprocess.py [--threads 1 2] [--repeats 50]

Median and least wall-clock milliseconds of each output, for mask logits of 128 x 128 (a 512 x 512
input) and two sizes of the source image.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from xdecoder_rt.masks import postprocess
from xdecoder_rt.pixels.letterbox import Letterbox

SIDE = 128
PLACES = {
    "512 x 512": Letterbox((512, 512), (512, 512), (512, 512)),
    "720 x 1280": Letterbox((720, 1280), (512, 512), (288, 512)),
}


def disjoint_masks(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return mask logits of a scene cut into `count` regions, with noise."""
    centres = rng.uniform(0, SIDE, (count, 2))
    y, x = np.mgrid[:SIDE, :SIDE]
    distances = np.hypot(y - centres[:, :1, None], x - centres[:, 1:, None])
    nearest, second = np.sort(distances, axis=0)[:2]
    neighbour = np.where(distances == nearest, second, nearest)
    logits = np.clip(0.8 * (neighbour - distances), -9, 9)
    return (logits + rng.normal(0, 0.2, logits.shape)).astype(np.float32)


def measure(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return median and least milliseconds of one call."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times), min(times)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=50)
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    masks = disjoint_masks(20, rng)
    scores = rng.uniform(0.8, 1, 20).astype(np.float32)
    labels = np.arange(20)
    queries = np.concatenate([masks, masks[::-1], rng.normal(-5, 1, (61, SIDE, SIDE))])
    queries = queries.astype(np.float32)
    class_logits = rng.normal(0, 1, (101, 134))
    class_logits[np.arange(101), np.r_[labels, labels[::-1], np.full(61, 133)]] += 8

    print(f"{'output':<38}{'image':<14}{'threads':>8}{'median ms':>12}{'least ms':>10}")
    instances = postprocess.top_instances(class_logits, 100)
    instance_masks = queries[instances.unique_queries]
    cases: dict[str, Callable[[Letterbox, int], object]] = {
        "panoptic, 20 kept masks": lambda place, threads: postprocess.panoptic(
            scores, labels, masks, place, np.ones(20, dtype=bool), 0.8, threads=threads
        ),
        "semantic, 101 queries, 133 classes": lambda place, threads: postprocess.semantic(
            class_logits, queries, place, threads=threads
        ),
        f"instance, {len(instance_masks)} masks, 100 results": lambda place, threads: (
            postprocess.instance(instances, instance_masks, place, threads=threads)
        ),
        "binary masks, 3 phrases": lambda place, threads: postprocess.binary_masks(
            masks[:3], place, threads=threads
        ),
    }
    for size, place in PLACES.items():
        for threads in options.threads:
            for name, call in cases.items():
                median, fastest = measure(partial(call, place, threads), options.repeats)
                print(f"{name:<38}{size:<14}{threads:>8}{median:>12.2f}{fastest:>10.2f}")


if __name__ == "__main__":
    main()
