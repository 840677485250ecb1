"""What was observed is kept where this user alone writes, and believed if it can have been seen."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="calibration needs onnx")

from xdecoder_rt.calibration.observe import _load_histograms, _save_histograms
from xdecoder_rt.calibration.ranges import Histogram


def observed() -> dict[str, dict[str, Histogram]]:
    histogram = Histogram()
    histogram.add(np.linspace(-1, 3, 1000, dtype=np.float32))
    return {"decode": {"layer/0": histogram}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "cache" / "calibration_x.npz"
    _save_histograms(path, observed())
    return path


def test_it_is_read_back(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    read = _load_histograms(path)
    assert read is not None
    histogram, expected = (h["decode"]["layer/0"] for h in (read, observed()))
    np.testing.assert_array_equal(histogram.counts, expected.counts)
    assert (histogram.limit, histogram.low, histogram.high) == (4.0, -1.0, 3.0)


def test_a_damaged_file_is_observed_again(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:length])
        assert _load_histograms(path) is None
    for place in range(0, len(whole), max(1, len(whole) // 200)):
        flipped = bytearray(whole)
        flipped[place] ^= 0xFF
        path.write_bytes(flipped)
        read = _load_histograms(path)
        assert read is None or all(h.is_possible for m in read.values() for h in m.values())


@pytest.mark.parametrize(
    ("counts", "facts"),
    [
        (np.ones(4095, np.int64), [4, -1, 3]),
        (np.ones(4096, np.float64), [4, -1, 3]),
        (-np.ones(4096, np.int64), [4, -1, 3]),
        (np.ones(4096, np.int64), [4, -1, np.nan]),
        (np.ones(4096, np.int64), [np.inf, -1, 3]),
        (np.ones(4096, np.int64), [4, -1, 5]),
        (np.ones(4096, np.int64), [4, 1, 3]),
        (np.ones(4096, np.int64), [4, -1]),
        (np.ones(4096, np.int64), [4, -1, 3, 3]),
    ],
)
def test_what_no_counting_leads_to_is_observed_again(
    path: Path, counts: np.ndarray, facts: list[float]
) -> None:
    np.savez(path, **{"m/t/counts": counts, "m/t/facts": np.array(facts)})
    assert _load_histograms(path) is None


def test_a_pickle_in_it_is_not_loaded(path: Path) -> None:
    np.savez(path, **{"m/t/counts": np.array([{}], dtype=object), "m/t/facts": np.zeros(3)})
    assert _load_histograms(path) is None


def test_what_others_may_have_written_is_not_believed(path: Path) -> None:
    path.chmod(0o666)
    assert _load_histograms(path) is None
    path.chmod(0o600)
    assert _load_histograms(path) is not None
    path.parent.chmod(0o777)
    assert _load_histograms(path) is None
    with pytest.warns(RuntimeWarning, match="observed again by the next build"):
        _save_histograms(path, observed())
    path.parent.chmod(0o700)
    other = path.rename(path.parent.parent / "other.npz")
    path.symlink_to(other)
    assert _load_histograms(path) is None
    before = other.read_bytes()
    _save_histograms(path, {"m": {"t": Histogram()}})
    assert other.read_bytes() == before
    assert not path.is_symlink()
    path.unlink()
    os.mkfifo(path)
    assert _load_histograms(path) is None
    assert zipfile.is_zipfile(other)
