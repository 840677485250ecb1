"""The labelled folder: what is written is read back, and nothing that contradicts it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from xdecoder_rt.datasets.labelled_folder import (
    ANNOTATIONS,
    AnsweredQuestion,
    Item,
    LabelledFolder,
    LabelledFolderWriter,
    Phrase,
    Segment,
)
from xdecoder_rt.errors import ArgumentError, DatasetError
from xdecoder_rt.image import load_image

VOCABULARY = ("mug", "table", "robot arm")
MAP = np.array([[0, 1, 1, 3], [0, 1, 2, 2], [2, 2, 2, 2]], dtype=np.uint8)
LABELS = {1: "mug", 2: "table", 3: "mug"}
IMAGE = np.arange(MAP.size * 3, dtype=np.uint8).reshape(*MAP.shape, 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of one image with every kind of text."""
    with LabelledFolderWriter(tmp_path / "scenes", VOCABULARY, ["table"]) as writer:
        writer.add(
            IMAGE,
            MAP,
            LABELS,
            phrases=[Phrase("both mugs", (1, 3))],
            captions=["two mugs on a table"],
            questions=[
                AnsweredQuestion("how many mugs?", ("2", "two"), ("1", "2")),
                AnsweredQuestion("what is under the mugs?", ("a table",)),
            ],
        )
    return tmp_path / "scenes"


def test_what_is_written_is_read_back(folder: Path) -> None:
    read = LabelledFolder.open(folder)
    assert read.vocabulary == VOCABULARY
    assert read.stuff == {"table"}
    (item,) = read.items
    assert item.segments == (
        Segment(1, "mug", True, 3),
        Segment(2, "table", False, 6),
        Segment(3, "mug", True, 1),
    )
    assert item.phrases == (Phrase("both mugs", (1, 3)),)
    assert item.captions == ("two mugs on a table",)
    assert item.questions[0] == AnsweredQuestion("how many mugs?", ("2", "two"), ("1", "2"))
    assert item.questions[1].choices is None
    np.testing.assert_array_equal(item.load_image(), IMAGE)
    np.testing.assert_array_equal(item.load_panoptic(), MAP)
    assert item.load_panoptic().dtype == np.uint8


@settings(max_examples=25, deadline=None)
@given(
    ids=hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.integers(0, 255))
)
def test_any_map_of_8_bit_ids_round_trips(
    tmp_path_factory: pytest.TempPathFactory, ids: np.ndarray
) -> None:
    root = tmp_path_factory.mktemp("any") / "new"
    labels = {int(i): VOCABULARY[int(i) % 3] for i in np.unique(ids) if i}
    with LabelledFolderWriter(root, VOCABULARY, ["table"]) as writer:
        written = writer.add(np.zeros((*ids.shape, 3), np.uint8), ids, labels)
    (item,) = LabelledFolder.open(root).items
    assert item == written
    np.testing.assert_array_equal(item.load_panoptic(), ids)
    assert sum(segment.area for segment in item.segments) == np.count_nonzero(ids)


def test_texts_may_be_absent_and_other_keys_are_ignored(folder: Path) -> None:
    def edit(document: dict[str, Any]) -> None:
        for key in ("phrases", "captions", "questions"):
            del document["items"][0][key]
        document["licence"] = document["items"][0]["camera"] = {"anything": None}

    _edit(folder, edit)
    (item,) = LabelledFolder.open(folder).items
    assert (item.phrases, item.captions, item.questions) == ((), (), ())


def test_images_of_other_kinds_become_rgb(folder: Path) -> None:
    grey = np.full(MAP.shape, 7, np.uint8)
    Image.fromarray(grey).save(_image(folder))
    image = LabelledFolder.open(folder).items[0].load_image()
    assert image.shape == (*MAP.shape, 3)
    assert (image == 7).all()


def test_a_palette_png_holds_its_indices(folder: Path) -> None:
    palette = Image.fromarray(MAP)
    palette.putpalette(bytes(range(256)) * 3)
    palette.save(_panoptic(folder))
    np.testing.assert_array_equal(LabelledFolder.open(folder).items[0].load_panoptic(), MAP)


def _edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / ANNOTATIONS
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def _image(folder: Path) -> Path:
    return folder / "images" / "000000.png"


def _panoptic(folder: Path) -> Path:
    return folder / "panoptic" / "000000.png"


def _set(key: str, value: object, *path: str | int) -> Callable[[dict[str, Any]], None]:
    """A change that sets the key of the object at a path."""

    def change(document: Any) -> None:
        for step in path:
            document = document[step]
        document[key] = value

    return change


ITEM = ("items", 0)
SEGMENT = (*ITEM, "segments", 0)
PHRASE = (*ITEM, "phrases", 0)
QUESTION = (*ITEM, "questions", 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("vocabulary"), "'vocabulary' is missing"),
        (_set("vocabulary", []), "'vocabulary' is empty"),
        (_set("vocabulary", "mug"), "'vocabulary' is 'mug'. Expected a list"),
        (_set("vocabulary", ["mug", "table", "mug"]), "'vocabulary' has 'mug' twice"),
        (_set("vocabulary", ["mug", "table", " "]), "non-empty strings"),
        (_set("vocabulary", ["mug", "table", 3]), "non-empty strings"),
        (_set("vocabulary", ["mug", "table", "\ud83e"]), "non-empty strings"),
        (_set("stuff", ["table", "floor"]), "'stuff' has 'floor', which is not in 'vocabulary'"),
        (_set("stuff", ["table", "table"]), "'stuff' has 'table' twice"),
        (lambda d: d.pop("stuff"), "'stuff' is missing"),
        (_set("items", []), "'items' is empty"),
        (_set("items", [[]]), "item 0 is a list"),
        (lambda d: d["items"][0].pop("panoptic"), "item 0: the key 'panoptic' is missing"),
        (_set("image", "/etc/hostname", *ITEM), "outside the folder"),
        (_set("image", "../scenes/images/000000.png", *ITEM), "outside the folder"),
        (_set("image", "images\\..\\..\\x.png", *ITEM), "outside the folder"),
        (_set("panoptic", "C:\\x.png", *ITEM), "outside the folder"),
        (_set("image", "images/none.png", *ITEM), "item 0: 'image' names .* does not exist"),
        (_set("image", "images/\0.png", *ITEM), "does not exist"),
        (_set("image", "x" * 100_000, *ITEM), "does not exist"),
        (_set("panoptic", "images", *ITEM), "does not exist"),
        (_set("segments", {}, *ITEM), "'segments' is an object. Expected a list"),
        (_set("id", 2, *SEGMENT), "two segments have the id 2"),
        (_set("id", 0, *SEGMENT), "segment 0: 'id' is 0. Expected 1 to 255"),
        (_set("id", 256, *SEGMENT), "'id' is 256"),
        (_set("id", True, *SEGMENT), "'id' is True. Expected an integer"),
        (_set("id", 1.0, *SEGMENT), "'id' is 1.0. Expected an integer"),
        (_set("label", "cup", *SEGMENT), "item 0, segment 0: the label 'cup' is not in"),
        (_set("label", "x" * 10**6, *SEGMENT), "x….* is not in 'vocabulary'"),
        (_set("isthing", False, *SEGMENT), "'isthing' is false, and 'mug' is a thing"),
        (_set("label", "table", *SEGMENT), "'isthing' is true, and 'table' is stuff"),
        (_set("isthing", "yes", *SEGMENT), "'isthing' is 'yes'. Expected true or false"),
        (_set("area", 4, *SEGMENT), "000000.png: segment 1 has 3 pixels .* area 4"),
        (_set("area", None, *SEGMENT), "'area' is null"),
        (_set("id", 9, *ITEM, "segments", 1), r"does not list as segments: \[2\]"),
        (lambda d: d["items"][0]["segments"].pop(1), r"does not list as segments: \[2\]"),
        (
            lambda d: d["items"][0]["segments"].append(
                {"id": 8, "label": "mug", "isthing": True, "area": 0}
            ),
            r"no pixel of the segments listed: \[8\]",
        ),
        (_set("ids", [1, 7], *PHRASE), r"phrase 0: 'ids' names segments .*: \[7\]"),
        (_set("ids", [], *PHRASE), "'ids' is empty"),
        (_set("ids", [1, 1], *PHRASE), "'ids' has 1 twice"),
        (_set("ids", ["1"], *PHRASE), "'ids' contains '1'. Expected a list of integers"),
        (_set("text", "", *PHRASE), "phrase 0: 'text' is ''"),
        (_set("captions", "a mug", *ITEM), "'captions' is 'a mug'. Expected a list"),
        (_set("answers", [], *QUESTION), "question 0: 'answers' is empty"),
        (_set("choices", [], *QUESTION), "question 0: 'choices' is empty"),
        (_set("choices", ["a", "a"], *QUESTION), "question 0: 'choices' has 'a' twice"),
    ],
)
def test_a_wrong_annotation_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    _edit(folder, change)
    with pytest.raises(DatasetError, match=message) as error:
        LabelledFolder.open(folder)
    assert str(folder) in str(error.value)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not valid JSON"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "is a list. Expected a JSON object"),
        (b"", "not valid JSON"),
    ],
)
def test_a_broken_annotation_file_is_refused(folder: Path, content: bytes, message: str) -> None:
    (folder / ANNOTATIONS).write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        LabelledFolder.open(folder)


def test_a_folder_without_annotations_is_refused(folder: Path) -> None:
    (folder / ANNOTATIONS).unlink()
    with pytest.raises(DatasetError, match=r"annotations\.json' does not exist"):
        LabelledFolder.open(folder)
    with pytest.raises(DatasetError, match="none' is not a folder"):
        LabelledFolder.open(folder / "none")


@pytest.mark.parametrize("name", ["a\x1b[31m", "nul\0", "\ud800", "x" * 300, "y/" * 3000])
def test_a_folder_of_any_name_is_refused_in_one_printable_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match="is not a folder") as caught:
        LabelledFolder.open(tmp_path / name)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


def _save_map(pixels: np.ndarray, **options: Any) -> Callable[[Path], None]:
    return lambda folder: Image.fromarray(pixels).save(_panoptic(folder), **options)


def _truncate(path: Callable[[Path], Path]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        data = path(folder).read_bytes()
        path(folder).write_bytes(data[: len(data) // 2])

    return spoil


def _flip_every_late_bit(folder: Path) -> None:
    data = _panoptic(folder).read_bytes()
    _panoptic(folder).write_bytes(data[:40] + bytes(255 - byte for byte in data[40:]))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_save_map(np.stack([MAP] * 3, axis=-1)), "colour type 2.*Expected one channel of 8 bits"),
        (_save_map(MAP.astype(np.uint16)), "PNG of 16 bits"),
        (_save_map(MAP > 0), "PNG of 1 bits"),
        (_save_map(MAP, format="JPEG"), "not a PNG file"),
        (_save_map(MAP[:, :3].copy()), r"\(3, 3\) and its image .* \(3, 4\).*the same size"),
        (_save_map(np.where(MAP == 3, 4, MAP).astype(np.uint8)), r"list as segments: \[4\]"),
        (_save_map(np.where(MAP == 3, 1, MAP).astype(np.uint8)), r"no pixel .*: \[3\]"),
        (_save_map(np.where(MAP == 0, 1, MAP).astype(np.uint8)), "segment 1 has 5 pixels"),
        (_truncate(_panoptic), "cannot be decoded|not a PNG"),
        (_flip_every_late_bit, "cannot be decoded"),
        (lambda folder: _panoptic(folder).write_bytes(b""), "not a PNG file"),
        (_truncate(_image), r"000000\.png' cannot be decoded"),
        (lambda folder: _image(folder).write_bytes(b"no image"), "not an image of a known"),
        (
            lambda folder: Image.fromarray(MAP.astype(np.uint16)).save(_image(folder)),
            "16 bits a channel, of which it uses 2",
        ),
    ],
)
def test_wrong_pixels_are_refused_now_or_when_loaded(
    folder: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(folder)
    with pytest.raises(DatasetError, match=message):
        LabelledFolder.open(folder)
    (item,) = LabelledFolder.open(folder, verify=False).items
    with pytest.raises(DatasetError, match=message):
        item.load_panoptic()
        item.load_image()


def test_a_folder_appears_only_when_it_is_closed(tmp_path: Path) -> None:
    writer = LabelledFolderWriter(tmp_path, VOCABULARY)
    writer.add(IMAGE, MAP, LABELS)
    assert not (tmp_path / ANNOTATIONS).exists()
    writer.close()
    writer.close()
    assert len(LabelledFolder.open(tmp_path)) == len(writer) == 1
    with pytest.raises(DatasetError, match="closed"):
        writer.add(IMAGE, MAP, LABELS)


def test_after_an_exception_nothing_is_left(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        LabelledFolderWriter(tmp_path / "a" / "b", VOCABULARY) as writer,
    ):
        writer.add(IMAGE, MAP, LABELS)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_not_written(tmp_path: Path) -> None:
    with (
        pytest.raises(DatasetError, match="no image was added"),
        LabelledFolderWriter(tmp_path / "new", VOCABULARY),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    for path in (folder, folder / ANNOTATIONS):
        with pytest.raises(DatasetError, match="not an empty folder"):
            LabelledFolderWriter(path, VOCABULARY)
    assert sorted(folder.rglob("*")) == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="file/new' cannot be written"):
        LabelledFolderWriter(tmp_path / "file" / "new", VOCABULARY)


def test_a_jpeg_is_stored_when_asked_and_files_are_copied_as_they_are(tmp_path: Path) -> None:
    with LabelledFolderWriter(tmp_path / "a", VOCABULARY, image_format="jpeg") as writer:
        first = writer.add(IMAGE, MAP, LABELS)
    assert first.image.suffix == ".jpg"
    with LabelledFolderWriter(tmp_path / "b", VOCABULARY) as writer:
        second = writer.add(first.image, MAP, LABELS)
    assert second.image.read_bytes() == first.image.read_bytes()
    LabelledFolder.open(tmp_path / "b")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"panoptic": MAP[:2]}, "the same size"),
        ({"panoptic": MAP.astype(np.float32)}, "integer ids"),
        ({"panoptic": MAP[None]}, "height x width integer ids"),
        ({"panoptic": MAP.astype(np.int32) * 100}, "ids from 0 to 300"),
        ({"panoptic": MAP.astype(np.int32) - 1}, "ids from -1 to 2"),
        ({"image": IMAGE[..., 0]}, "height x width x 3 uint8"),
        ({"image": IMAGE.astype(np.float32)}, "height x width x 3 uint8"),
        ({"image": Path("none.png")}, "does not exist"),
        ({"segments": {1: "mug", 2: "table"}}, r"does not list as segments: \[3\]"),
        ({"segments": {**LABELS, 4: "mug"}}, r"no pixel of the segments listed: \[4\]"),
        ({"segments": {**LABELS, 3: "cup"}}, "'cup' is not in 'vocabulary'"),
        ({"phrases": [Phrase("all", (1, 9))]}, r"does not have: \[9\]"),
        ({"captions": [""]}, "non-empty strings"),
        ({"questions": [AnsweredQuestion("what?", ())]}, "'answers' is empty"),
    ],
)
def test_the_writer_refuses_what_the_reader_would(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    writer = LabelledFolderWriter(tmp_path, VOCABULARY)
    good = {"image": IMAGE, "panoptic": MAP, "segments": LABELS}
    with pytest.raises(DatasetError, match=message):
        writer.add(**(good | arguments))
    writer.add(**good)
    writer.close()
    assert len(LabelledFolder.open(tmp_path)) == 1


def test_reading_a_folder_imports_no_framework() -> None:
    code = (
        "import sys, xdecoder_rt.datasets.labelled_folder;"
        "print({'torch', 'onnxruntime', 'scipy', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def _tag(folder: Path, orientation: int, stored: np.ndarray = IMAGE) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(_image(folder), exif=exif)


def test_an_image_is_upright_as_the_engine_reads_it(folder: Path) -> None:
    _tag(folder, 3)
    (item,) = LabelledFolder.open(folder).items
    np.testing.assert_array_equal(item.load_image(), IMAGE[::-1, ::-1])
    np.testing.assert_array_equal(item.load_image(), load_image(item.image))
    np.testing.assert_array_equal(item.load_panoptic(), MAP)


def test_a_map_of_the_stored_size_is_refused_and_the_tag_named(folder: Path) -> None:
    _tag(folder, 6)
    with pytest.raises(DatasetError, match=r"\(3, 4\).*\(4, 3\).*EXIF orientation 6.*\"stored\""):
        LabelledFolder.open(folder)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_folder_of_maps_on_stored_pixels_says_so_and_they_are_turned_with_the_images(
    folder: Path, orientation: int
) -> None:
    # A picture that shows its own labels: wherever it is turned, they must lie on it.
    _tag(folder, orientation, np.repeat(MAP[:, :, None], 3, 2))
    _edit(folder, lambda document: document.update(orientation="stored"))
    (item,) = LabelledFolder.open(folder).items
    image, ids = item.load_image(), item.load_panoptic()
    assert image.shape[:2] == ((4, 3) if orientation >= 5 else (3, 4))
    np.testing.assert_array_equal(ids, image[:, :, 0])


def test_another_orientation_of_a_folder_is_refused(folder: Path) -> None:
    _edit(folder, lambda document: document.update(orientation="sideways"))
    with pytest.raises(DatasetError, match="'orientation' is 'sideways'"):
        LabelledFolder.open(folder)


@pytest.mark.parametrize("orientation", [3, 6])
def test_the_writer_stores_a_turned_image_upright_and_without_the_tag(
    folder: Path, tmp_path: Path, orientation: int
) -> None:
    _tag(folder, orientation, np.repeat(MAP[:, :, None], 3, 2))
    upright = load_image(_image(folder))
    with LabelledFolderWriter(tmp_path / "new", VOCABULARY, ["table"]) as writer:
        item = writer.add(_image(folder), upright[:, :, 0], LABELS)
    with Image.open(item.image) as image:
        assert 0x0112 not in image.getexif()
        np.testing.assert_array_equal(np.asarray(image), upright)
    (read,) = LabelledFolder.open(tmp_path / "new").items
    np.testing.assert_array_equal(read.load_panoptic(), upright[:, :, 0])


def test_an_image_that_is_a_document_in_disguise_reaches_no_decoder(folder: Path) -> None:
    _image(folder).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 3\nshowpage\n")
    with pytest.raises(DatasetError, match="is a PostScript file"):
        LabelledFolder.open(folder)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("file", ["image", "map"])
def test_a_pipe_in_a_folder_is_refused_at_once(folder: Path, file: str) -> None:
    path = _image(folder) if file == "image" else _panoptic(folder)
    path.unlink()
    os.mkfifo(path)
    item = Item(_image(folder), _panoptic(folder), ())
    with pytest.raises(DatasetError, match="named pipe"):
        item.load_panoptic()


def test_a_folder_declares_that_unlabelled_means_nothing(folder: Path, tmp_path: Path) -> None:
    assert "unlabelled" not in (folder / ANNOTATIONS).read_text()
    with LabelledFolderWriter(tmp_path / "x", VOCABULARY, unlabelled="nothing") as writer:
        item = writer.add(IMAGE, MAP, LABELS)
    (read,) = LabelledFolder.open(tmp_path / "x").items
    assert item == read
    np.testing.assert_array_equal(read.load_panoptic(), np.where(MAP == 0, -1, MAP.astype(int)))
    (unknown,) = LabelledFolder.open(folder).items
    assert unknown.load_panoptic().dtype == np.uint8


def test_a_declaration_of_something_else_is_refused(folder: Path, tmp_path: Path) -> None:
    document = json.loads((folder / ANNOTATIONS).read_text())
    document["unlabelled"] = "void"
    (folder / ANNOTATIONS).write_text(json.dumps(document))
    with pytest.raises(DatasetError, match="'unlabelled' is 'void'. Expected one of 'unknown'"):
        LabelledFolder.open(folder)
    with pytest.raises(ArgumentError, match="'unlabelled' is 'void'"):
        LabelledFolderWriter(tmp_path / "x", VOCABULARY, unlabelled="void")  # type: ignore[arg-type]


def chunk(kind: bytes, data: bytes, length: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + data).to_bytes(4, "big")
    return (len(data) if length is None else length).to_bytes(4, "big") + kind + data + checksum


def with_chunk(path: Path, before_end: bool, *chunks: bytes) -> None:
    """Put chunks into a PNG, after its header or before its end."""
    Image.fromarray(IMAGE).save(path)
    data = path.read_bytes()
    place = len(data) - 12 if before_end else 33
    path.write_bytes(data[:place] + b"".join(chunks) + data[place:])


TURN = b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3"


@pytest.mark.parametrize("before_end", [False, True])
@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"garbage",
        b"MM",
        b"II*\0\xff\xff\xff\xff",
        TURN,
        TURN + b"\xff\xff\xff\xff\0\3\0\0\0\0\0\0",
        TURN + b"\0\0\0\1\0\x63\0\0\0\0\0\0",
        TURN[:4] + b"\0\0\0\0" + TURN[8:] + b"\0\0\0\1\0\3\0\0\0\0\0\0",
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_image_with_a_broken_exif_chunk_is_read_and_written_as_it_is_stored(
    tmp_path: Path, exif: bytes, before_end: bool
) -> None:
    path = tmp_path / "image.png"
    with_chunk(path, before_end, chunk(b"eXIf", exif))
    with LabelledFolderWriter(tmp_path / "out", VOCABULARY) as writer:
        writer.add(path, MAP, LABELS)
    (item,) = LabelledFolder.open(tmp_path / "out").items
    np.testing.assert_array_equal(item.load_image(), IMAGE)
    np.testing.assert_array_equal(load_image(path), IMAGE)


@pytest.mark.parametrize(
    ("before_end", "broken"),
    [
        (False, chunk(b"eXIf", TURN)[:-4] + bytes(4)),
        (False, chunk(b"eXIf", b"", 1 << 31)),
        (True, chunk(b"eXIf", TURN, 1 << 20)),
    ],
    ids=["checksum", "length", "length at the end"],
)
def test_a_png_whose_chunks_are_broken_is_not_written_into_a_folder(
    tmp_path: Path, before_end: bool, broken: bytes
) -> None:
    path = tmp_path / "image.png"
    with_chunk(path, before_end, broken)
    with (
        pytest.raises(DatasetError, match=r"image\.png' cannot be decoded"),
        LabelledFolderWriter(tmp_path / "out", VOCABULARY) as writer,
    ):
        writer.add(path, MAP, LABELS)
    assert not (tmp_path / "out").exists()
