"""``benchmarks/studies/photographs.py``: its list, its packages, its figures."""

from __future__ import annotations

import hashlib
import json
import struct
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parents[2] / "benchmarks" / "studies"))

import photographs
from qt_resources import resources

DOCUMENT = json.loads(photographs.POINTS.read_bytes())


def resource_file(files: dict[str, bytes], version: int = 3) -> bytes:
    """Return a resource file with these files in a folder, `made`, every other one packed."""
    names, places = bytearray(), []
    for name in ("made", *files):
        places.append(len(names))
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    content, entries = bytearray(), [struct.pack(">IHII", 0, 2, 1, 1)]
    entries.append(struct.pack(">IHII", places[0], 2, len(files), 2))
    for number, data in enumerate(files.values()):
        packed = number % 2
        member = struct.pack(">I", len(data)) + zlib.compress(data) if packed else data
        entries.append(struct.pack(">IHHHI", places[number + 1], packed, 0, 0, len(content)))
        content += struct.pack(">I", len(member)) + member
    times = bytes(8) if version >= 2 else b""
    tree = b"".join(entry + times for entry in entries)
    head = 24 if version >= 3 else 20
    places_of = (head, head + len(tree), head + len(tree) + len(content))
    start = struct.pack(">4s4I", b"qres", version, *places_of) + bytes(head - 20)
    return start + tree + bytes(content) + bytes(names)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_resource_file_gives_its_files_packed_or_not(version: int) -> None:
    files = {"one.webp": b"first", "two.webp": b"second" * 99, "three": b""}
    found = dict(resources(resource_file(files, version)))
    assert found == {f"/made/{name}": data for name, data in files.items()}


def test_a_damaged_resource_file_is_a_value_error() -> None:
    whole = resource_file({"one": b"first", "two": b"second" * 99})
    for data in (b"", b"qres", b"PK\3\4" + bytes(60), whole[:50], whole[:-20]):
        with pytest.raises(ValueError, match="Qt resource file"):
            dict(resources(data))
    circle = bytearray(whole)
    circle[24 + 22 + 6 : 24 + 22 + 14] = struct.pack(">II", 1, 0)  # the folder holds the root
    with pytest.raises(ValueError, match="too many entries"):
        dict(resources(bytes(circle)))


def test_every_point_lies_in_its_picture_and_asks_for_words_of_the_vocabulary() -> None:
    vocabulary, stuff = DOCUMENT["vocabulary"], set(DOCUMENT["stuff"])
    assert len(vocabulary) == len(set(vocabulary)) >= 60
    assert stuff < set(vocabulary)
    entries = DOCUMENT["photographs"]
    assert len(entries) >= 30
    assert len({entry["sha256"] for entry in entries}) == len(entries)
    for entry in entries:
        assert 3 <= len(entry["points"]) <= 10
        assert entry["caption"]
        for point in entry["points"]:
            assert all(0 <= c < 1 for c in point["at"])
            assert set(point["words"]) <= set(vocabulary)
            assert point["stuff"] == (point["words"][0] in stuff)
        for phrase in entry["phrases"]:
            left, top, right, bottom = phrase["box"]
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1


def test_five_words_are_those_of_the_points_and_others_that_are_right_nowhere() -> None:
    for entry in DOCUMENT["photographs"]:
        words = photographs.five_words(entry, DOCUMENT["vocabulary"])
        assert len(words) == len(set(words)) == 5
        own = {point["words"][0] for point in entry["points"]}
        right = {word for point in entry["points"] for word in point["words"]}
        assert own <= set(words)
        assert not (set(words) - own) & right


def test_overlap_is_the_intersection_over_the_union() -> None:
    assert photographs.overlap((0, 0, 2, 2), (0, 0, 2, 2)) == 1
    assert photographs.overlap((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert photographs.overlap((0, 0, 1, 1), (2, 2, 3, 3)) == 0
    assert photographs.overlap((0, 0, 0, 0), (0, 0, 0, 0)) == 0


class Seeing:
    """Names the left half "horse", and the right half by what the task allows."""

    def encode(self, image: Any) -> Any:
        return image

    def segment(self, image: Any, words: list[str], *, task: str, stuff: list[str]) -> Any:
        assert set(stuff) <= set(words)
        ids = np.zeros(image.shape[:2], np.int32)
        ids[:, : ids.shape[1] // 2] = 3
        infos = [{"id": 3, "label_id": 3, "label": "horse"}]
        return SimpleNamespace(task=task, segmentation=ids, segments_info=infos)

    def refer(self, image: Any, phrases: list[str]) -> list[Any]:
        height, width = image.shape[:2]
        return [SimpleNamespace(box=np.array([0, 0, width / 2, height])) for _ in phrases]

    def embed_image(self, image: Any) -> Any:
        return np.eye(2, dtype=np.float32)[int(image[0, 0, 0] > 99)]

    def embed_text(self, texts: list[str]) -> Any:
        return np.array([[0.9, 0.1], [0.8, 0.2]], np.float32)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A share folder with two photographs, one in a resource file, and the list of them."""
    share = tmp_path / "share"
    share.mkdir()
    first, second = (Image.new("RGB", (8, 6), (level,) * 3) for level in (10, 200))
    first.save(share / "first.png")
    second.save(tmp_path / "second.png")
    packed = (tmp_path / "second.png").read_bytes()
    (share / "made.rcc").write_bytes(resource_file({"second.png": packed}))
    points = [
        {"at": [0.1, 0.5], "words": ["horse"], "stuff": False},
        {"at": [0.9, 0.5], "words": ["sky"], "stuff": True},
    ]
    phrases = [{"text": "the horse", "box": [0, 0, 0.5, 1]}, {"text": "it", "box": [0.6, 0, 1, 1]}]
    entries = [
        {"package": "a", "file": "first.png", "data": (share / "first.png").read_bytes()},
        {"package": "b", "file": "made.rcc", "resource": "/made/second.png", "data": packed},
    ]
    for entry in entries:
        entry["sha256"] = hashlib.sha256(entry.pop("data")).hexdigest()  # type: ignore[arg-type]
        entry.update(points=points, phrases=phrases, caption="a horse")  # type: ignore[call-overload]
    document = {"vocabulary": list("abcde") + ["horse", "sky"], "stuff": ["sky"]}
    path = tmp_path / "points.json"
    path.write_text(json.dumps({**document, "photographs": entries}))
    monkeypatch.setattr(photographs, "POINTS", path)
    return share


def test_figures_are_shares_of_points_phrases_and_captions(made: Path, tmp_path: Path) -> None:
    photographs.collect(tmp_path / "pictures", made)
    figures = photographs.measure(Seeing(), tmp_path / "pictures")  # type: ignore[arg-type]
    assert figures["points"] == 4
    for task in ("panoptic", "semantic"):
        for words in ("all_words", "five_words"):
            assert figures[f"{task}_{words}"] == {
                "named_things": 100, "named_stuff": 0, "named": 50, "unlabelled": 50,
            }  # fmt: skip
    assert figures["phrases"] == 50
    assert figures["image_r1"] == 50  # the second caption ranks the first picture first
    assert figures["image_r5"] == 100


def test_every_share_has_its_interval_and_every_package_its_shares(
    made: Path, tmp_path: Path
) -> None:
    photographs.collect(tmp_path / "pictures", made)
    figures = photographs.measure(Seeing(), tmp_path / "pictures")  # type: ignore[arg-type]
    semantic = figures["intervals"]["semantic_all_words"]
    assert semantic["named_things"] == photographs.interval(100, 2)
    assert semantic["named"] == photographs.interval(50, 4)
    assert figures["intervals"]["phrases"] == photographs.interval(50, 4)
    assert figures["intervals"]["image_r5"] == photographs.interval(100, 2)
    assert set(figures["sources"]) == {"a", "b"}
    for source in figures["sources"].values():
        assert source["points"] == 2
        assert source["panoptic_five_words"]["named_stuff"] == 0


def test_an_interval_is_that_of_wilson() -> None:
    assert photographs.interval(50, 10) == pytest.approx([23.659, 76.341], abs=1e-3)
    assert photographs.interval(0, 10) == pytest.approx([0, 27.753], abs=1e-3)
    assert photographs.interval(100, 10) == pytest.approx([72.247, 100], abs=1e-3)


def test_another_picture_than_the_marked_one_is_refused(made: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 6), (77, 0, 0)).save(made / "first.png")
    with pytest.raises(ValueError, match="another picture"):
        photographs.collect(tmp_path / "pictures", made)
    (made / "first.png").unlink()
    with pytest.raises(ValueError, match="apt-get install a"):
        photographs.collect(tmp_path / "pictures", made)
