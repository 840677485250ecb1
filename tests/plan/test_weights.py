"""A plan holds its weights once, in members that no runtime looks for on a disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from old_plan import SIZES, TEXT_SIZE, version_1_bytes

from xdecoder_rt import Engine
from xdecoder_rt.errors import PlanError
from xdecoder_rt.export.repack import portable_members, repack_portable
from xdecoder_rt.plan.archive import ArchiveWriter
from xdecoder_rt.plan.contents import graph_size
from xdecoder_rt.plan.external import LEAST_BYTES, Place, Skeleton, check_places, read_skeleton
from xdecoder_rt.plan.file import Plan, write_plan
from xdecoder_rt.plan.graph_check import check_graph
from xdecoder_rt.plan.manifest import Manifest, MemberInfo
from xdecoder_rt.plan.sharing import share_weights
from xdecoder_rt.words.carried import carry
from xdecoder_rt.words.vocabulary import Vocabulary

onnx = pytest.importorskip("onnx", reason="graphs are changed with the package onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

SAMPLE = Path(__file__).parents[1] / "data" / "manifest.json"
MANIFEST = Manifest.from_json(SAMPLE.read_bytes())
WIDTH = MANIFEST.text.width
IMAGE = np.random.default_rng(0).integers(0, 256, (32, 60, 3), np.uint8)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan of format version 1."""
    path = tmp_path_factory.mktemp("old") / "version_1.plan"
    path.write_bytes(version_1_bytes())
    return path


@pytest.fixture(scope="module")
def new(old: Path) -> Path:
    """The same plan, written anew."""
    repack_portable(old, old.with_name("new.plan"))
    return old.with_name("new.plan")


def names_of_weights(plan: Plan) -> list[str]:
    return [name for name in plan.names if name.startswith("weights/")]


def apart(plan: Plan, member: str) -> Skeleton:
    return read_skeleton(plan.read(member))


# --- version 1 ------------------------------------------------------------------------------------


def test_a_plan_of_version_1_opens_and_is_written_anew_as_version_2(old: Path, new: Path) -> None:
    with Plan.open(old, verify=True) as before, Plan.open(new, verify=True) as after:
        assert (before.manifest.format_version, after.manifest.format_version) == (1, 2)
        assert names_of_weights(before) == [] and before.manifest.weights == {}
        assert before.manifest.graphs == after.manifest.graphs
        for member in before.manifest.graphs.members():
            assert before.graph(member) == before.read(member) == after.graph(member)
        digest = before.manifest.text_graph_sha256
        assert after.manifest.text_graph_sha256 == digest == after.manifest.text.origin_sha256


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_both_versions_answer_alike(old: Path, new: Path, backend: str, tmp_path: Path) -> None:
    pytest.importorskip(backend)
    answers = []
    for path in (old, new):
        with Engine(path, backend, threads=1, cache_dir=tmp_path / path.name) as engine:
            found = engine.segment(IMAGE, ["mug", "hand"], overlap_threshold=0)
            answers.append((found.segmentation, engine.caption(IMAGE, max_tokens=3).text))
    np.testing.assert_array_equal(answers[0][0], answers[1][0])
    assert answers[0][1] == answers[1][1]


def test_words_of_a_plan_of_version_1_are_known_after_it_is_written_anew(
    old: Path, new: Path, tmp_path: Path
) -> None:
    with Engine(old, threads=1, cache_dir=tmp_path) as engine:
        engine.warm(["mug"])
    with Engine(new, threads=1, cache_dir=tmp_path) as engine:
        table = engine.class_table(Vocabulary.parse(["mug"]))
        assert engine.text_cache.stats.misses == 0
    manifest = carry(old, tmp_path / "words.plan", "words", Vocabulary.parse(["mug"]), table)
    assert manifest.format_version == 2 and manifest.weights
    with Engine(tmp_path / "words.plan", threads=1, cache_dir=tmp_path) as engine:
        assert list(engine.vocabularies) == ["words"]


# --- once -----------------------------------------------------------------------------------------


def test_what_graphs_of_several_sizes_have_in_common_is_there_once(old: Path, new: Path) -> None:
    with Plan.open(new) as plan:
        graphs = plan.manifest.graphs
        tensors: dict[bytes, int] = {}
        for member in graphs.members():
            data = plan.graph(member)
            for tensor in read_skeleton(data).tensors:
                assert not isinstance(tensor.data, Place)
                content = data[slice(*tensor.data)]
                tensors[hashlib.sha256(content).digest()] = len(content)
        weights = sum(plan.manifest.members[name].size for name in names_of_weights(plan))
        # Beside what one graph has twice, and what stands between tensors.
        assert sum(tensors.values()) <= weights < 1.1 * sum(tensors.values())
        assert len(names_of_weights(plan)) <= 12
        shared = set.intersection(
            *(set(plan.manifest.weights[member]) for member in graphs.vision.values())
        )
        assert shared and len(graphs.vision) == len(SIZES) + 1
        sizes = {m: graph_size(plan.manifest, m) for m in graphs.members()}
        whole = {m: len(plan.graph(m)) for m in graphs.members()}
        assert all(0.95 * whole[m] <= size < 1.3 * whole[m] + 2_000 for m, size in sizes.items())
    assert new.stat().st_size < 0.8 * old.stat().st_size


def test_every_tensor_begins_at_a_multiple_of_64_bytes_and_small_ones_stay(new: Path) -> None:
    with Plan.open(new) as plan:
        for member in plan.manifest.graphs.members():
            for tensor in apart(plan, member).tensors:
                assert isinstance(tensor.data, Place)
                assert tensor.data.offset % 64 == 0 and tensor.data.length >= LEAST_BYTES


def test_a_smaller_plan_drops_the_weights_of_the_sizes_that_it_drops(
    new: Path, tmp_path: Path
) -> None:
    manifest = repack_portable(new, tmp_path / "small.plan", [SIZES[0]])
    assert manifest.input.all_sizes == (SIZES[0], TEXT_SIZE)
    with Plan.open(tmp_path / "small.plan", verify=True) as small, Plan.open(new) as plan:
        assert set(names_of_weights(small)) < set(names_of_weights(plan))
        for member in small.manifest.graphs.members():
            assert small.graph(member) == plan.graph(member)


def test_the_same_plan_comes_out_of_whole_graphs_and_of_files(new: Path, tmp_path: Path) -> None:
    members, manifest = portable_members(new)
    files: dict[str, Path] = {}
    for name, data in members.items():
        files[name] = tmp_path / name.replace("/", "-")
        files[name].write_bytes(data)
    for number, sources in enumerate((members, files)):
        write_plan(tmp_path / f"{number}.plan", *share_weights(manifest, sources))
        assert (tmp_path / f"{number}.plan").read_bytes() == new.read_bytes()


def test_a_graph_may_have_a_large_tensor_in_it_all_the_same(new: Path, tmp_path: Path) -> None:
    with Plan.open(new) as plan:
        member = plan.manifest.graphs.vision["32x32"]
        skeleton = apart(plan, member)
        inside = numpy_helper.from_array(np.arange(999, dtype=np.float32), "inside")
        data = b"\x2a" + _varint(inside.ByteSize()) + inside.SerializeToString()
        added = dataclasses.replace(skeleton, graph=(data, *skeleton.graph))
        members = {name: partial(plan.chunks, name) for name in plan.names}
        places = [t.data for t in skeleton.tensors if isinstance(t.data, Place)]
        members[member] = lambda: [added.apart(places)]
        write_plan(tmp_path / "inside.plan", plan.manifest, members)
        before = onnx.load_from_string(plan.graph(member)).graph.initializer
    with Plan.open(tmp_path / "inside.plan") as plan:
        after = onnx.load_from_string(plan.graph(member)).graph.initializer
    assert list(after)[1:] == list(before) and after[0] == inside


# --- memory ---------------------------------------------------------------------------------------


def large_model(megabytes: int, count: int = 8) -> bytes:
    """A model of nothing but large initializers."""
    each = (megabytes << 20) // count
    rng = np.random.default_rng(0)
    tensors = b""
    for number in range(count):
        inner = b"\x08" + _varint(each) + b"\x10\x02" + b"\x42\x01" + bytes([97 + number])
        inner += b"\x4a" + _varint(each) + rng.bytes(each)
        tensors += b"\x2a" + _varint(len(inner)) + inner
    return b"\x08\x0a\x3a" + _varint(len(tensors)) + tensors + b"\x42\x02\x10\x12"


def _varint(value: int) -> bytes:
    written = b""
    while value > 127:
        written, value = written + bytes([value & 127 | 128]), value >> 7
    return written + bytes([value])


@pytest.fixture(scope="module")
def large(old: Path) -> Path:
    """A plan whose text graph is 16 MiB of weights, and no graph that could be walked."""
    members, manifest = portable_members(old)
    members[manifest.graphs.text] = large_model(16)
    path = old.with_name("large.plan")
    write_plan(path, *share_weights(manifest, members))
    return path


def peak(deed: Callable[[], object]) -> int:
    """Return the most bytes that a deed held at a time."""
    tracemalloc.start()
    try:
        deed()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_graph_is_joined_with_its_weights_in_one_copy(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xdecoder_rt.plan.file.check_graph", lambda *_: None)
    with Plan.open(large) as plan:
        member = plan.manifest.graphs.text
        assert plan.graph(member) == large_model(16)
        assert peak(lambda: plan.graph(member)) < 18 << 20


def test_weights_of_files_are_never_held(large: Path, tmp_path: Path) -> None:
    with Plan.open(large) as plan:
        copies = {name: partial(plan.chunks, name) for name in plan.names}
        held = peak(lambda: write_plan(tmp_path / "copy.plan", plan.manifest, copies))
    assert held < 5 << 20
    assert (tmp_path / "copy.plan").read_bytes() == large.read_bytes()


def test_one_graph_at_a_time_is_in_memory_while_weights_are_shared(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xdecoder_rt.plan.file.check_graph", lambda *_: None)
    with Plan.open(large) as plan:
        manifest = plan.manifest
        sources: dict[str, Any] = {}
        for name in plan.names:
            if not name.startswith("weights/"):
                is_graph = name in manifest.graphs.members()
                data = plan.graph(name) if is_graph else plan.read(name)
                sources[name] = tmp_path / name.replace("/", "-")
                sources[name].write_bytes(data)
    for member in manifest.graphs.vision.values():
        sources[member] = sources[manifest.graphs.text]

    def share() -> None:
        write_plan(tmp_path / "shared.plan", *share_weights(manifest, sources))

    # Three graphs of 16 MiB.
    assert peak(share) < 24 << 20
    assert (tmp_path / "shared.plan").stat().st_size < 18 << 20


# --- tensors that are alike -----------------------------------------------------------------------


def model_of(tensors: Sequence[bytes]) -> bytes:
    """A model of uint8 initializers."""
    written = b""
    for number, data in enumerate(tensors):
        name = b"w%d" % number
        inner = b"\x08" + _varint(len(data)) + b"\x10\x02"
        inner += b"\x42" + _varint(len(name)) + name + b"\x4a" + _varint(len(data)) + data
        written += b"\x2a" + _varint(len(inner)) + inner
    return b"\x08\x0a\x3a" + _varint(len(written)) + written


def shared(first: Sequence[bytes], second: Sequence[bytes]) -> tuple[Manifest, dict[str, bytes]]:
    """Share the weights of two graphs; the others have none."""
    vision = MANIFEST.graphs.vision["512x512"]
    models = dict.fromkeys(MANIFEST.graphs.members(), model_of([]))
    models |= {vision: model_of(first), MANIFEST.graphs.text: model_of(second)}
    manifest, members = share_weights(MANIFEST, models)
    parts = {name: source() if callable(source) else [source] for name, source in members.items()}
    return manifest, {name: b"".join(chunks) for name, chunks in parts.items()}  # type: ignore[arg-type]


CONTENTS = ("0" * 1024, "0" * 2048, "0" * 3072, "a" * 1024, "b" * 1500, "c")
TENSORS = st.lists(st.sampled_from(range(len(CONTENTS))), max_size=6)


@settings(max_examples=200, deadline=None)
@given(TENSORS, TENSORS)
def test_whatever_two_graphs_have_in_common_they_get_back(ones: list[int], twos: list[int]) -> None:
    first, second = ([CONTENTS[number].encode() for number in each] for each in (ones, twos))
    manifest, members = shared(first, second)
    for member, tensors in (("vision-512x512.onnx", first), ("text.onnx", second)):
        whole = b""
        places = []
        for part in read_skeleton(members[member]).joined():
            if isinstance(part, bytes):
                whole += part
                continue
            place = part.data
            assert isinstance(place, Place)
            places.append(place)
            whole += members[place.member][place.offset : place.offset + place.length]
        assert whole == model_of(tensors)
        sizes = {name: len(members[name]) for name in manifest.weights.get(member, ())}
        check_places({str(number): place for number, place in enumerate(places)}, sizes)
    distinct = {tensor for tensor in (*first, *second) if len(tensor) >= LEAST_BYTES}
    most = {t: max(first.count(t), second.count(t)) for t in distinct}
    total = sum(len(data) for name, data in members.items() if name.startswith("weights/"))
    assert total <= sum(count * (-(-len(t) // 64) * 64) for t, count in most.items())


# --- graphs that refer to what they should not ----------------------------------------------------

Change = Callable[[Any], object]
FIRST, SECOND = (np.full((WIDTH, 32), n, np.float32) for n in (1, 2))
SIZE = FIRST.nbytes
MEMBER = f"weights/{hashlib.sha256(FIRST.tobytes() + SECOND.tobytes()).hexdigest()}.bin"
SIZES_OF_WEIGHTS = {MEMBER: 2 * SIZE}


def whole_graph() -> Any:
    """A token graph of two products, whose weights are alike in size."""
    return helper.make_model(
        helper.make_graph(
            [
                helper.make_node("MatMul", ["caption_embedding", "w"], ["a"]),
                helper.make_node("MatMul", ["caption_embedding", "v"], ["b"]),
                helper.make_node("Add", ["a", "b"], ["token_logits"]),
            ],
            "token",
            [helper.make_tensor_value_info("caption_embedding", 1, ["captions", WIDTH])],
            [helper.make_tensor_value_info("token_logits", 1, ["captions", 32])],
            [numpy_helper.from_array(FIRST, "w"), numpy_helper.from_array(SECOND, "v")],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )


def graph_apart() -> Any:
    """The graph with its weights in a member."""
    places = [Place(MEMBER, 0, SIZE), Place(MEMBER, SIZE, SIZE)]
    return onnx.load_from_string(read_skeleton(whole_graph().SerializeToString()).apart(places))


def walk(model: Any, weights: dict[str, int] | None = None) -> None:
    check_graph(MANIFEST, "token", None, model.SerializeToString(), weights or SIZES_OF_WEIGHTS)


def refusal(model: Any, weights: dict[str, int] | None = None) -> str:
    with pytest.raises(PlanError) as caught:
        walk(model, weights)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500 and message.isprintable()
    return message


def entry(key: str, value: str | None, number: int = 0) -> Change:
    """Have another value, or none, under a key of a tensor's external data."""

    def change(model: Any) -> None:
        pairs = model.graph.initializer[number].external_data
        kept = [(pair.key, pair.value) for pair in pairs if pair.key != key]
        del pairs[:]
        for name, text in kept if value is None else [*kept, (key, value)]:
            pairs.add(key=name, value=text)

    return change


def added(key: str, value: str) -> Change:
    return lambda model: model.graph.initializer[0].external_data.add(key=key, value=value)


def test_a_graph_whose_weights_are_in_a_listed_member_passes() -> None:
    model = graph_apart()
    assert [t.data_location for t in model.graph.initializer] == [TensorProto.EXTERNAL] * 2
    walk(model)


def test_another_order_of_its_entries_is_another_spelling_of_the_same() -> None:
    model = graph_apart()
    for tensor in model.graph.initializer:
        tensor.external_data.reverse()
    walk(model)
    skeleton = read_skeleton(model.SerializeToString())
    assert [t.data for t in skeleton.tensors] == [Place(MEMBER, 0, SIZE), Place(MEMBER, SIZE, SIZE)]


@pytest.mark.parametrize(
    "location",
    [
        "",
        "weights.bin",
        "../" + MEMBER,
        "./" + MEMBER,
        "/" + MEMBER,
        MEMBER + "/",
        MEMBER + "\0",
        MEMBER + "\n",
        MEMBER.upper(),
        MEMBER.replace("/", "\\"),
        MEMBER.replace(".bin", "-0.bin"),
        MEMBER.replace("weights/", "weights/../weights/"),
        "file:///etc/passwd",
        "*/_ORT_MEM_ADDR_/*",
        "weights/" + "é" * 64 + ".bin",
        "x" * 5_000,
    ],
)
def test_a_location_of_another_form_is_refused(location: str) -> None:
    model = graph_apart()
    entry("location", location)(model)
    assert "is kept in another file" in refusal(model)


@pytest.mark.parametrize(
    "change",
    [
        entry("offset", None),
        entry("length", None),
        entry("location", None),
        added("checksum", "0" * 40),
        added("basepath", "/etc"),
        added("", ""),
        added("offset", "0"),
        added("location", MEMBER),
        *(entry("offset", text) for text in ("-64", "+0", " 0", "0x0", "00", "1e3", "٠", "")),
        *(entry("length", text) for text in ("-1", str(10**30), "1_6", "16384.0", "nan")),
    ],
)
def test_entries_that_no_plan_has_are_refused(change: Change) -> None:
    model = graph_apart()
    change(model)
    assert "is kept in another file" in refusal(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (entry("offset", str(SIZE), 0), f"{SIZE:,} bytes from byte {SIZE:,}"),
        (entry("offset", "0", 1), f"{SIZE:,} bytes from byte 0"),
        (entry("offset", str(SIZE - 64), 1), f"{SIZE:,} bytes from byte"),
        (entry("offset", str(SIZE + 64), 1), f"{SIZE:,} bytes from byte"),
        (entry("offset", str(10**15), 1), f"{SIZE:,} bytes from byte"),
        (entry("length", str(SIZE - 4), 0), f"{SIZE - 4:,} bytes elsewhere"),
        (entry("length", str(10**15), 0), f"{10**15:,} bytes elsewhere"),
        (entry("length", "0", 0), "0 bytes elsewhere"),
    ],
)
def test_a_tensor_that_is_not_where_it_should_be_is_refused(change: Change, message: str) -> None:
    model = graph_apart()
    change(model)
    assert message in refusal(model)


def dimensions(*sizes: int) -> Change:
    def change(model: Any) -> None:
        model.graph.initializer[0].dims[:] = sizes

    return change


def also_inside(model: Any) -> None:
    model.graph.initializer[0].raw_data = FIRST.tobytes()


def another_type(model: Any) -> None:
    model.graph.initializer[0].data_type = TensorProto.FLOAT16


@pytest.mark.parametrize(
    "change",
    [dimensions(WIDTH, 33), dimensions(1 << 30, 1 << 30), dimensions(), another_type, also_inside],
)
def test_a_length_that_is_not_that_of_the_dimensions_is_refused(change: Change) -> None:
    model = graph_apart()
    change(model)
    assert "bytes elsewhere" in refusal(model)


def test_the_flag_and_the_place_go_together() -> None:
    for change in (
        lambda t: t.ClearField("external_data"),
        lambda t: t.ClearField("data_location"),
    ):
        model = graph_apart()
        change(model.graph.initializer[0])
        assert "is kept in another file" in refusal(model)


def test_small_tensors_stay_in_their_graph() -> None:
    model = graph_apart()
    model.graph.initializer[0].dims[:] = [WIDTH, 1]
    entry("length", str(4 * WIDTH))(model)
    assert "at least 1,024" in refusal(model)


def test_a_graph_refers_to_the_members_that_the_manifest_lists_for_it_and_to_all_of_them() -> None:
    another = f"weights/{'0' * 64}.bin"
    assert "under weights of this graph" in refusal(graph_apart(), {another: 2 * SIZE})
    assert f"uses 0 bytes of {another}" in refusal(
        graph_apart(), {**SIZES_OF_WEIGHTS, another: 4096}
    )
    for size in (2 * SIZE + 1, 2 * SIZE + 64, 1 << 40):
        assert f"uses {2 * SIZE:,} bytes" in refusal(graph_apart(), {MEMBER: size})
    assert "which has 100" in refusal(graph_apart(), {MEMBER: 100})
    data = graph_apart().SerializeToString()
    with pytest.raises(PlanError, match="under weights of this graph"):
        check_graph(MANIFEST, "token", None, data, {})
    with pytest.raises(PlanError, match="is kept in another file"):
        check_graph(MANIFEST, "token", None, data)
    assert f"uses 0 bytes of {MEMBER}" in refusal(whole_graph())


def test_a_member_is_used_once_however_many_constants_name_it() -> None:
    model = graph_apart()
    for number in range(100):
        model.graph.initializer.add().CopyFrom(model.graph.initializer[0])
        model.graph.initializer[-1].name = f"copy{number}"
    assert "tensors stand one after another" in refusal(model)


@pytest.mark.parametrize("kind", ["Constant", "ConstantOfShape"])
def test_an_attribute_is_never_elsewhere(kind: str) -> None:
    model = graph_apart()
    node = helper.make_node(kind, ["w"][: kind != "Constant"], ["unused"])
    tensor = TensorProto()
    tensor.CopyFrom(model.graph.initializer[0])
    node.attribute.append(onnx.AttributeProto(name="value", type=4, t=tensor))
    model.graph.node.append(node)
    assert "is kept in another file" in refusal(model)


def test_costs_are_those_of_the_dimensions(monkeypatch: pytest.MonkeyPatch) -> None:
    works = []
    from xdecoder_rt.plan import graph_check

    plain = graph_check.infer_shapes
    monkeypatch.setattr(
        graph_check, "infer_shapes", lambda *given: works.append(plain(*given)) or works[-1]
    )
    check_graph(MANIFEST, "token", None, whole_graph().SerializeToString())
    walk(graph_apart())
    half = len(works) // 2
    assert works[:half] == works[half:] and works[0].products == 2 * 3 * WIDTH * 32


# --- plans that say of weights what is not so -----------------------------------------------------


def written(path: Path, plan: Plan, manifest: Manifest, change: dict[str, bytes]) -> Path:
    """Write a plan without any of the writer's checks."""
    members = {name: plan.read(name) for name in plan.names} | change
    members = {name: data for name, data in members.items() if name in manifest.members}
    infos = {n: MemberInfo(hashlib.sha256(d).hexdigest(), len(d)) for n, d in members.items()}
    text = dataclasses.replace(manifest, members=infos).to_json()
    with path.open("wb") as file:
        archive = ArchiveWriter(file)
        for name, data in {"manifest.json": text, **members}.items():
            archive.add(name, [data], len(data), zlib.crc32(data))
        archive.close()
    return path


def test_a_manifest_of_version_1_has_no_weights_elsewhere(new: Path, tmp_path: Path) -> None:
    with Plan.open(new) as plan:
        old_version = dataclasses.replace(plan.manifest, format_version=1)
        path = written(tmp_path / "listed.plan", plan, old_version, {})
        with pytest.raises(PlanError, match="weights is there in format version 1"):
            Plan.open(path)
        unlisted = dataclasses.replace(old_version, weights={})
        path = written(tmp_path / "unlisted.plan", plan, unlisted, {})
        with Plan.open(path) as bad:
            for member in (bad.manifest.graphs.text, *bad.manifest.graphs.vision.values()):
                with pytest.raises(PlanError, match="is kept in another file"):
                    bad.graph(member)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_damaged_weights_are_refused_wherever_they_are_read(
    new: Path, tmp_path: Path, backend: str
) -> None:
    pytest.importorskip(backend)
    from xdecoder_rt.plan.archive import read_directory

    data = bytearray(new.read_bytes())
    with new.open("rb") as file, Plan.open(new) as plan:
        directory = read_directory(file, len(data))
        decode = plan.manifest.graphs.decode["32x32"]
        name = plan.manifest.weights[decode][-1]
    for place in (0, directory[name].size // 2, directory[name].size - 1):
        flipped = bytearray(data)
        flipped[directory[name].offset + place] ^= 1
        path = tmp_path / "damaged.plan"
        path.write_bytes(flipped)
        with pytest.raises(PlanError, match=f"'{name}' is damaged"):
            Plan.open(path, verify=True)
        with Plan.open(path) as bad:
            bad.walk(decode)
            for _ in range(2):
                with pytest.raises(PlanError, match=f"'{name}' is damaged"):
                    bad.graph(decode)
    with (
        Engine(path, backend, threads=1, cache_dir=tmp_path) as engine,
        pytest.raises(PlanError, match="is damaged"),
    ):
        engine.segment(np.zeros((32, 32, 3), np.uint8), ["mug"])


def test_a_file_that_ends_inside_weights_after_it_was_opened(new: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.plan"
    path.write_bytes(new.read_bytes())
    with Plan.open(path) as plan:
        member = plan.manifest.graphs.text
        plan.walk(member)
        name = plan.manifest.weights[member][0]
        plan.read(member)
        with path.open("r+b") as file:
            file.truncate(plan._members[name].offset + 100)
        with pytest.raises(PlanError, match="cut off after it was opened"):
            plan.graph(member)


def test_another_text_graph_is_not_taken_for_the_one_that_embeddings_are_known_by(
    new: Path, tmp_path: Path
) -> None:
    with Plan.open(new) as plan:
        text = dataclasses.replace(plan.manifest.text, graph_sha256="0" * 64)
        manifest = dataclasses.replace(plan.manifest, text=text)
        path = written(tmp_path / "other.plan", plan, manifest, {})
        with Plan.open(path) as bad, pytest.raises(PlanError, match="text graph .* is damaged"):
            bad.graph(bad.manifest.graphs.text)
        nameless = dataclasses.replace(text, graph_sha256=None)
        manifest = dataclasses.replace(plan.manifest, text=nameless)
        with pytest.raises(PlanError, match=r"text\.graph_sha256 is missing"):
            Plan.open(written(tmp_path / "nameless.plan", plan, manifest, {}))


GRAPH, NAME = next(iter(MANIFEST.weights)), next(iter(MANIFEST.weights.values()))[0]
OTHER = f"weights/{'0' * 64}.bin"


@pytest.mark.parametrize(
    ("weights", "listed", "message"),
    [
        ({}, {}, "has no graph that uses"),
        ({GRAPH: []}, {}, "has no graph that uses"),
        ({GRAPH: [NAME, NAME]}, {}, "twice"),
        ({GRAPH: [NAME], "tokenizer.json": [NAME]}, {}, "members that hold graphs"),
        ({GRAPH: [NAME], "no.onnx": [NAME]}, {}, "members that hold graphs"),
        ({GRAPH: [NAME, OTHER]}, {}, "does not list"),
        ({GRAPH: [NAME, OTHER]}, {OTHER: "1" * 64}, "<SHA-256 of the member>"),
        ({GRAPH: [NAME]}, {OTHER: "0" * 64}, "has no graph that uses"),
        ({GRAPH: [NAME, "tokenizer.json"]}, {}, "<SHA-256 of the member>"),
        ({GRAPH: [NAME, "../evil"]}, {}, "does not list"),
        ({GRAPH: [NAME, 7]}, {}, "weights"),
        ({GRAPH: NAME}, {}, "weights"),
        ([NAME], {}, "weights"),
    ],
)
def test_what_a_manifest_says_of_weights_must_fit(
    weights: object, listed: dict[str, str], message: str
) -> None:
    document = json.loads(SAMPLE.read_text())
    document["weights"] = weights
    for name, digest in listed.items():
        document["members"][name] = {"sha256": digest, "size": 4096}
    with pytest.raises(PlanError, match=message):
        Manifest.from_json(json.dumps(document).encode())


def test_members_of_the_same_bytes_have_names_of_their_own() -> None:
    document = json.loads(SAMPLE.read_text())
    second = NAME.replace(".bin", "-2.bin")
    document["weights"][GRAPH].append(second)
    document["members"][second] = document["members"][NAME]
    assert Manifest.from_json(json.dumps(document).encode()).weights[GRAPH] == (NAME, second)


def test_a_plan_of_the_next_version_is_told_as_that(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="format version 3. Expected version 1 or 2"):
        Manifest.from_json(b'{"format_version": 3}')
