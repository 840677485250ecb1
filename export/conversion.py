"""Results of conversions, and how their outputs are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xdecoder_rt.calibration.report import SearchReport
from xdecoder_rt.calibration.sets import CalibrationSet
from xdecoder_rt.image import RgbImage
from xdecoder_rt.plan.manifest import Manifest
from xdecoder_rt.streams.synthetic import image as synthetic_image

LEAST_COSINE = 0.999
PROBES = 4


@dataclass
class Converted:
    """Graphs in another precision, and the facts about them.

    Attributes:
        graphs: serialized, by member; members that stay are absent.
        calibration: for the manifest.
        accuracy: for the manifest.
        complaints: why they should not be used.
        report: of the search.
    """

    graphs: dict[str, bytes]
    calibration: dict[str, Any] | None = None
    accuracy: dict[str, Any] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    report: SearchReport | None = None


def probe_images(
    images: CalibrationSet | None, manifest: Manifest, count: int = PROBES
) -> list[RgbImage]:
    """Return a few images to compare outputs on; drawn ones where no set is given."""
    if images is not None:
        return list(images.read(images.chosen(count, part=1)))
    return [synthetic_image(manifest.input.sizes[0], seed) for seed in range(count)]


def complain_of_cosines(cosines: Mapping[str, float], complaints: list[str]) -> None:
    """Add a complaint where an output strays."""
    worst = min(cosines, key=lambda name: cosines[name])
    if not cosines[worst] >= LEAST_COSINE:
        complaints.append(f"{worst} has a cosine of {cosines[worst]:.5f} with fp32's")
