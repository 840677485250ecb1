"""The fixture of the original network, its packed weights unpacked once."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from xdecoder_rt.parity.fixture import Fixture

FOLDER = Path(__file__).parents[1] / "data" / "focal_tiny_a"


@cache
def fixture() -> Fixture:
    """Return the fixture; it stays open, and with it the file of its weights there."""
    return Fixture.open(FOLDER)


def weights() -> Path:
    """Return the weights, under the original's names."""
    return fixture().weights
