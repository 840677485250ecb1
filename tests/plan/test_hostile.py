"""Every attack on the plan reader that we could think of gets a `PlanError`, and nothing else."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import struct
import subprocess
import sys
import time
import warnings
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdecoder_rt.errors import PlanError, PlanVersionError
from xdecoder_rt.plan.file import Plan, write_plan
from xdecoder_rt.plan.manifest import MANIFEST_LIMIT, Manifest

SAMPLE = Path(__file__).parents[1] / "data" / "manifest.json"
DOCUMENT = json.loads(SAMPLE.read_text())


def filling(name: str) -> bytes:
    """What stands in a member of a plan here; the digest of weights is in their name."""
    return bytes(3000) if name.startswith("weights/") else name.encode() * 3


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> bytes:
    """A sound plan of a few kilobytes."""
    path = tmp_path_factory.mktemp("good") / "model.plan"
    manifest = Manifest.from_json(SAMPLE.read_bytes())
    write_plan(path, manifest, {name: filling(name) for name in manifest.members})
    return path.read_bytes()


@pytest.fixture
def refused(tmp_path):
    """Opens bytes as a plan, checks that this is refused in one line, and gives that line."""

    def check(data: bytes, name: str = "model.plan") -> str:
        path = tmp_path / name
        path.write_bytes(data)
        return refusal(path)

    return check


def refusal(path: Path) -> str:
    with pytest.raises(PlanError) as caught:
        Plan.open(path, verify=True)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 1000 and message.isprintable()
    assert path.name in message
    return message


def contents(data: bytes, path: Path) -> tuple[Manifest, dict[str, bytes]]:
    path.write_bytes(data)
    with Plan.open(path, verify=True) as plan:
        return plan.manifest, {name: plan.read(name) for name in plan.names}


# --- files that are something else, each with its own sentence ------------------------------------


def test_a_missing_file(tmp_path):
    assert "There is no file" in refusal(tmp_path / "none.plan")


def test_a_directory(tmp_path):
    assert "is a directory" in refusal(tmp_path)


def test_a_named_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.plan")
    assert "special file" in refusal(tmp_path / "pipe.plan")


def test_a_path_with_nul():
    with pytest.raises(PlanError, match="cannot be opened"):
        Plan.open("model\0.plan")


@pytest.mark.parametrize(
    ("data", "name", "sentence"),
    [
        (b"", "model.plan", "is empty"),
        (b"\0" * 1000, "model.plan", "not a plan"),
        (b"hello, this is text\n" * 50, "model.plan", "not a plan"),
        (b"ftrt" + bytes(2000), "model.plan", "bare TensorRT engine"),
        (bytes(2000), "model.engine", "bare TensorRT engine"),
        (b"\x08\x08\x12\x07pytorch" + bytes(500), "model.plan", "ONNX graph"),
        (b"\x08\x0a:\x10" + bytes(500), "model.plan", "ONNX graph"),
        (b"anything else", "model.onnx", "ONNX graph"),
        (struct.pack("<Q", 40) + b'{"a":1}' + bytes(60), "model.plan", "safetensors checkpoint"),
        (b"PK\x03\x04", "model.plan", "too few"),
        (b"PK\x03\x04" + bytes(200), "model.plan", "does not end like one"),
    ],
)
def test_other_files(refused, data, name, sentence):
    assert sentence in refused(data, name)


def test_a_pytorch_checkpoint(tmp_path):
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("model/version", b"3\n")
    assert "PyTorch checkpoint" in refusal(path)


def test_a_zip_that_is_no_plan(tmp_path):
    path = tmp_path / "other.plan"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", b"hello")
    assert "has no manifest.json" in refusal(path)


# --- damage ---------------------------------------------------------------------------------------


def test_something_appended(refused, good):
    assert "appended" in refused(good + b"\0")


def test_something_prepended(refused, good):
    assert "prepended" in refused(b"PK\x03\x04" + good)


def test_every_truncation(refused, good):
    for size in [*range(0, 200), *range(200, len(good), 37), len(good) - 1]:
        refused(good[:size])


@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_a_flipped_bit_is_detected_or_changes_nothing(data, good, tmp_path_factory):
    position = data.draw(st.integers(0, len(good) - 1))
    flipped = bytearray(good)
    flipped[position] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path_factory.getbasetemp() / "flipped.plan"
    wanted = contents(good, path)
    with contextlib.suppress(PlanError):
        assert contents(bytes(flipped), path) == wanted


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_structure_is_refused_or_harmless(data, good, tmp_path_factory):
    """Fields of the archive's records overwritten by the values that break parsers."""
    directory_offset = struct.unpack_from("<I", good, len(good) - 6)[0]
    places = st.one_of(st.integers(0, 29), st.integers(directory_offset, len(good) - 1))
    damaged = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(places)
        values = [b"\xff\xff\xff\xff", bytes(4), b"\xff\xff", b"\0\0", b"\xff\xff\xff\x7f", b"\1"]
        value = data.draw(st.sampled_from(values))
        damaged[place : place + len(value)] = value
    path = tmp_path_factory.getbasetemp() / "damaged.plan"
    wanted = contents(good, path)
    with contextlib.suppress(PlanError):
        assert contents(bytes(damaged[: len(good)]), path) == wanted


@given(noise=st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_noise_after_a_plans_first_bytes(noise, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "noise.plan"
    path.write_bytes(b"PK\x03\x04" + noise)
    refusal(path)


# --- archives made by an attacker -----------------------------------------------------------------


def packed(
    path: Path,
    document: object = None,
    extra: dict[str, bytes] | None = None,
    without: str = "",
    prepare=lambda info: info,
) -> Path:
    """A plan written by the standard library's zipfile, with one thing changed."""
    document = copy.deepcopy(DOCUMENT if document is None else document)
    data = {name: filling(name) for name in DOCUMENT["members"]}
    if isinstance(document, dict) and isinstance(document.get("members"), dict):
        for name, info in document["members"].items():
            if isinstance(info, dict) and name in data and name in DOCUMENT["members"]:
                original = DOCUMENT["members"][name]
                if info == original:
                    digest = hashlib.sha256(data[name]).hexdigest()
                    info.update(sha256=digest, size=len(data[name]))
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # zipfile warns of duplicate names
        for name, content in [("manifest.json", text), *data.items(), *(extra or {}).items()]:
            if name != without:
                info = prepare(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)))
                archive.writestr(info, content)
    return path


def test_the_packing_itself_is_sound(tmp_path):
    with Plan.open(packed(tmp_path / "good.plan"), verify=True) as plan:
        assert plan.manifest.model.name == "starter"


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "a/../../evil",
        "/etc/passwd",
        "C:/evil",
        "C:evil",
        "a\\..\\evil",
        "..",
        ".",
        "a//b",
        "./a",
        " a",
        "a\nb",
        "\u202egnp.exe",
        "\x1b[2Jred",
        "x" * 300,
        "é",
        "nul\x01",
    ],
)
def test_member_names_that_point_elsewhere(tmp_path, name):
    path = packed(tmp_path / "bad.plan", extra={name: b"evil"})
    assert "is not allowed" in refusal(path)
    document = copy.deepcopy(DOCUMENT)
    document["members"][name] = {"sha256": "0" * 64, "size": 4}
    assert "is not allowed" in refusal(packed(tmp_path / "bad.plan", document))


def test_a_directory_member(tmp_path):
    assert "is a directory" in refusal(packed(tmp_path / "bad.plan", extra={"folder/": b""}))


def test_a_symbolic_link(tmp_path):
    def as_link(info):
        if info.filename == "text.onnx":
            info.create_system, info.external_attr = 3, 0o120777 << 16
        return info

    assert "link or a device" in refusal(packed(tmp_path / "bad.plan", prepare=as_link))


def test_a_compressed_member(tmp_path):
    def compressed(info):
        if info.filename == "text.onnx":
            info.compress_type = zipfile.ZIP_DEFLATED
        return info

    assert "is compressed" in refusal(packed(tmp_path / "bad.plan", prepare=compressed))


def test_a_zip_bomb_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "bomb.plan"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("manifest.json", bytes(1 << 28))
    assert path.stat().st_size < 1 << 20
    started = time.perf_counter()
    assert "is compressed" in refusal(path)
    assert time.perf_counter() - started < 1


def test_an_encrypted_member(good, refused):
    assert "is encrypted" in refused(_patched(good, "text.onnx", local={6: 1}, central={8: 1}))


def test_unknown_zip_features(good, refused):
    data = _patched(good, "text.onnx", local={6: 8}, central={8: 8})
    assert "feature flags" in refused(data)


def _patched(
    good: bytes, name: str, *, local: dict[int, int] | None = None, central: dict[int, int]
) -> bytes:
    """`good` with bytes changed at offsets inside the two headers of the member `name`."""
    data = bytearray(good)
    record = data.rindex(name.encode()) - 46
    assert data[record : record + 4] == b"PK\x01\x02"
    header = struct.unpack_from("<I", data, record + 42)[0]
    for offset, value in (local or {}).items():
        data[header + offset] = value
    for offset, value in central.items():
        data[record + offset] = value
    return bytes(data)


@pytest.mark.parametrize("offset", [20, 21, 22, 23, 24, 25, 26, 27])
def test_declared_sizes_that_are_not_true(good, refused, offset):
    both = _patched(good, "text.onnx", local={offset - 2: 0x7F}, central={offset: 0x7F})
    refused(both)
    refused(_patched(good, "text.onnx", central={offset: 0x7F}))


def test_both_sizes_larger_than_the_file(good, refused):
    huge = {20: 0xF0, 21: 0xFF, 22: 0xFF, 23: 0x7F, 24: 0xF0, 25: 0xFF, 26: 0xFF, 27: 0x7F}
    local = {offset - 2: value for offset, value in huge.items()}
    assert "more than the file holds" in refused(
        _patched(good, "text.onnx", local=local, central=huge)
    )


def test_overlapping_members(good, refused):
    data = bytearray(good)
    records = [data.rindex(name) - 46 for name in (b"tokenizer.json", b"text.onnx")]
    first, second = (data[record + 42 : record + 46] for record in records)
    assert first != second
    data[records[0] + 42 : records[0] + 46] = second
    message = refused(bytes(data))
    assert "overlaps" in message or "contradict" in message


def test_a_gap_between_members(good, refused, tmp_path):
    path = tmp_path / "gap.plan"
    packed(path)
    data = bytearray(path.read_bytes())
    directory = struct.unpack_from("<I", data, len(data) - 6)[0]
    data[directory:directory] = b"hidden payload"
    struct.pack_into("<I", data, len(data) - 6, directory + 14)
    assert "leaves a gap" in refused(bytes(data))


def test_a_member_listed_twice(tmp_path):
    assert "listed twice" in refusal(packed(tmp_path / "bad.plan", extra={"text.onnx": b"other"}))


def test_two_manifests(tmp_path):
    path = packed(tmp_path / "bad.plan", extra={"manifest.json": b"{}"})
    assert "listed twice" in refusal(path)


def test_a_member_that_the_manifest_does_not_list(tmp_path):
    path = packed(tmp_path / "bad.plan", extra={"more.bin": b"?"})
    assert "'more.bin' is not listed" in refusal(path)


def test_a_member_that_is_listed_and_absent(tmp_path):
    path = packed(tmp_path / "bad.plan", without="text.onnx")
    assert "'text.onnx' is listed in the manifest and absent" in refusal(path)


def test_a_member_of_another_size_than_listed(tmp_path):
    document = copy.deepcopy(DOCUMENT)
    document["members"]["text.onnx"] = {"sha256": "0" * 64, "size": 1 << 50}
    assert "that the manifest lists" in refusal(packed(tmp_path / "bad.plan", document))


def test_a_member_with_another_digest(tmp_path):
    document = copy.deepcopy(DOCUMENT)
    document["members"]["text.onnx"] = {"sha256": "0" * 64, "size": 27}
    assert "'text.onnx' is damaged" in refusal(packed(tmp_path / "bad.plan", document))


def test_too_many_members(refused):
    count = 70_000
    record = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", *(0,) * 9, 0, 0, 0, 0, 0, 0, 0)
    directory = record * count
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 65534, 65534, len(directory), 4, 0)
    started = time.perf_counter()
    assert "at most" in refused(b"PK\x03\x04" + directory + end)
    assert time.perf_counter() - started < 1


def test_an_archive_with_a_comment(tmp_path):
    path = packed(tmp_path / "bad.plan")
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"hello"
    refusal(path)


@pytest.mark.parametrize("offset", [0, 4, 8, 12])
def test_a_broken_zip64_record(good, refused, offset):
    data = bytearray(good)
    data[-12 + offset // 2 : -12 + offset // 2 + 4] = b"\xff" * 4
    refused(bytes(data))
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, 0xFFFFFFFFFFFFFFF0, 1)
    refused(bytes(data[:-22]) + locator + bytes(data[-22:]))


# --- hostile manifests ----------------------------------------------------------------------------


def altered(*path: str | int, value: object) -> dict:
    document = copy.deepcopy(DOCUMENT)
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    if value is ABSENT:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return document


ABSENT = object()
WRONG_VALUES = [ABSENT, None, True, -1, 1 << 70, 0.5, 1e300, "", "x" * 9999, [], [[]], {}, {"a": 1}]


def paths(value: object, prefix: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [prefix] if prefix else []
    items = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list) and value:
        items = [(0, value[0])]
    for key, inner in items:
        found += paths(inner, (*prefix, key))
    return found


@pytest.mark.parametrize("path", paths(DOCUMENT), ids=lambda path: ".".join(map(str, path)))
def test_every_value_of_the_manifest_is_checked(path):
    """A wrong value is refused, or is a legal one; it never causes another exception."""
    refused_ones = 0
    for value in WRONG_VALUES:
        document = altered(*path, value=value)
        try:
            Manifest.from_json(json.dumps(document).encode())
        except PlanError as error:
            refused_ones += 1
            assert (
                "manifest.json" in str(error)
                or "member name" in str(error)
                or "version" in str(error)
            )
    free_form = path[0] in ("accuracy", "build", "calibration")
    assert refused_ones >= (1 if free_form and len(path) > 1 else 6)


@pytest.mark.parametrize("version", [0, 3, 99])
def test_another_format_version(tmp_path, version):
    path = packed(tmp_path / "new.plan", {"format_version": version, "shape": "unknown"})
    with pytest.raises(PlanVersionError, match=f"format version {version}"):
        Plan.open(path)


@pytest.mark.parametrize("version", [None, "1", 1.0, True, -1, [], 10**30])
def test_a_format_version_that_is_no_version(tmp_path, version):
    path = packed(tmp_path / "bad.plan", altered("format_version", value=version))
    assert "format_version" in refusal(path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", "not valid JSON"),
        (b"null", "holds a NoneType"),
        (b"[]", "holds a list"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b'{"format_version": 1', "not valid JSON"),
        (b'{"format_version": 1, "format_version": 1}', "stands twice"),
        (b'{"format_version": NaN}', "not a JSON number"),
        (b'{"format_version": -Infinity}', "not a JSON number"),
        (b'{"format_version": ' + b"9" * 10_000 + b"}", "manifest.json"),
        (b"[" * 200_000, "manifest.json"),
        (b'{"a":' * 100_000, "manifest.json"),
        (b'{"format_version": 1}' + b" " * MANIFEST_LIMIT, "at most"),
        (b'{"\x1b[31mformat\\u0000": 1}', "manifest.json"),
        (b'{"format_version": 1}', "backend"),
    ],
    ids=lambda value: repr(value[:30]),
)
def test_hostile_json(tmp_path, text, sentence):
    assert sentence in refusal(packed(tmp_path / "bad.plan", text))


def test_deep_free_form_values(tmp_path):
    deep: object = 1
    for _ in range(40):
        deep = {"a": deep}
    path = packed(tmp_path / "bad.plan", altered("calibration", value=deep))
    assert "calibration" in refusal(path)


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("graphs", "text"), "../../text.onnx", "does not list"),
        (("graphs", "vision"), {"512": "text.onnx"}, "input sizes"),
        (("graphs", "vision"), {"512x480": "text.onnx"}, "one vision graph for each"),
        (("graphs", "mask"), {}, "one mask graph for each"),
        (("graphs", "decode"), {"512x480": "text.onnx"}, "one decode graph for each"),
        (("input", "batch"), [4, 1], "smallest batch"),
        (("input", "sizes"), [[512, 512], [512, 512]], "each input size once"),
        (("input", "std"), [0.0, 1.0, 1.0], "input.std"),
        (("text", "templates"), ["{0.__class__}"], "templates"),
        (("text", "background"), "\ud800", "background"),
        (("text", "heads"), 5, "a divisor"),
        (("decoder", "heads"), 5, "a divisor"),
        (("decoder", "level_strides"), [16, 16], "each once"),
        (("decoder", "level_strides"), [24], "some of 32, 16 and 8"),
        (("graphs", "token"), None, "'token', which the task caption needs"),
        (("targets",), ["sm_87"], "capabilities"),
        (("plugins",), ["xdecoder_rt::MaskBits"], "does not list 'kernels/kernels.json'"),
        (("tasks",), ["rm -rf"], "names such as"),
        (("model", "weights_sha256"), "A" * 64, "lower case"),
        (("vocabularies", 0, "texts"), "nowhere.json", "does not list"),
    ],
)
def test_values_that_contradict_one_another(tmp_path, path, value, sentence):
    assert sentence in refusal(packed(tmp_path / "bad.plan", altered(*path, value=value)))


def test_a_damaged_manifest_member(good, refused):
    place = good.index(b'"starter"') + 1
    data = bytearray(good)
    data[place] ^= 1
    assert "CRC-32" in refused(bytes(data))


def test_a_manifest_member_of_a_gigabyte_is_not_read(tmp_path):
    """The size is checked before a byte of it is read: a sparse file, opened in little memory."""
    path = tmp_path / "huge.plan"
    size = 1 << 30
    name = b"manifest.json"
    local = struct.pack(
        "<4s5H3I2H", b"PK\x03\x04", 20, 0, 0, 0, 0x21, zlib.crc32(b""), size, size, len(name), 0
    )
    central = struct.pack(
        "<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 0, 0, 0x21, zlib.crc32(b""), size, size,
        len(name), 0, 0, 0, 0, 0, 0,
    )  # fmt: skip
    directory_offset = len(local) + len(name) + size
    with path.open("wb") as file:
        file.write(local + name)
        file.seek(directory_offset)
        file.write(central + name)
        fields = (0, 0, 1, 1, len(central) + len(name), directory_offset, 0)
        file.write(struct.pack("<4s4H2IH", b"PK\x05\x06", *fields))
    code = (
        "import resource, sys\n"
        "from xdecoder_rt.plan.file import Plan\n"
        "from xdecoder_rt.errors import PlanError\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))\n"
        "try:\n    Plan.open(sys.argv[1])\nexcept PlanError as error:\n    print(error)\n"
    )
    child = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert "at most" in child.stdout, child.stderr
