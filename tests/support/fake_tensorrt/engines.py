"""Engine files of the fake TensorRT: an ONNX model, its inputs' ranges, and what it is for."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

MAGIC = b"ftrt"

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Header:
    """What stands before the model.

    Attributes:
        version: of the library that "built" it.
        capability: what it runs on, "8.7".
        profiles: for each, the smallest and the largest shape of every input.
        size: bytes of the model.
        plugins: namespace, name and numbers of each plugin in it.
        allocates: whether it allocates memory as it runs, as TensorRT-RTX's engines may unless
            they were built with REQUIRE_USER_ALLOCATION.
    """

    version: str
    capability: str
    profiles: list[dict[str, list[list[int]]]]
    size: int
    plugins: list[tuple[str, str, dict[str, int]]]
    allocates: bool = False


def engine(
    model: bytes,
    ranges: Sequence[Mapping[str, tuple[Sequence[int], Sequence[int]]]],
    version: str = "10.3.0",
    capability: str = "8.7",
    plugins: Sequence[tuple[str, str, dict[str, int]]] = (),
    allocates: bool = False,
) -> bytes:
    """An engine file.

    Args:
        model: serialized ONNX.
        ranges: of each profile, the smallest and the largest shape by input.
        version: of the library that builds it.
        capability: of the device that it is for.
        plugins: namespace, name and numbers of each that the engine holds; the model need not
            have them.
        allocates: whether it allocates memory as it runs.
    """
    profiles = [
        {name: [list(least), list(most)] for name, (least, most) in profile.items()}
        for profile in ranges
    ]
    header = json.dumps(
        asdict(Header(version, capability, profiles, len(model), list(plugins), allocates))
    ).encode()
    return MAGIC + struct.pack("<I", len(header)) + header + model


def read_engine(data: bytes) -> tuple[Header, bytes]:
    """An engine file's parts.

    Raises:
        ValueError: it is none, or not whole.
    """
    if data[:4] != MAGIC or len(data) < 8:
        raise ValueError("Magic tag does not match")
    (size,) = struct.unpack_from("<I", data, 4)
    try:
        header = Header(**json.loads(data[8 : 8 + size]))
    except (ValueError, TypeError) as error:
        raise ValueError("Serialization assertion headerIsWhole failed") from error
    model = data[8 + size :]
    if len(model) != header.size:
        raise ValueError("Serialization assertion sizeRead == static_cast<uint64_t>(size) failed")
    return header, model


def ranges(
    model: bytes, least: Mapping[str, int], most: Mapping[str, int]
) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """A profile's ranges from those of the model's symbolic dimensions.

    Args:
        model: serialized ONNX.
        least: the smallest value of each dimension, by name; that of one which is a sum, and has
            a name of the exporter's making, is under "sum".
        most: the largest.
    """
    import onnx

    def size(dim: Any, values: Mapping[str, int]) -> int:
        return values.get(dim.dim_param, values.get("sum", 0)) if dim.dim_param else dim.dim_value

    shapes = {}
    for port in onnx.load_from_string(model).graph.input:
        dims = port.type.tensor_type.shape.dim
        shapes[port.name] = (
            tuple(size(dim, least) for dim in dims),
            tuple(size(dim, most) for dim in dims),
        )
    return shapes


def tensorrt_plan(
    source: Any,
    target: Any,
    *,
    backend: str = "tensorrt",
    version: str = "10.3.0",
    capability: str = "8.7",
    change: Callable[[str, bytes], bytes] = lambda name, data: data,
    more: Mapping[str, bytes] | None = None,
    plugins: Sequence[tuple[str, str, dict[str, int]]] = (),
    allocates: bool = False,
) -> Any:
    """A TensorRT plan of a portable plan's graphs.

    Args:
        source: the portable plan's path.
        target: where to write.
        backend: of the new plan.
        version: of the library that "builds" it.
        capability: of the device that it is for.
        change: made to every engine, given its member's name.
        more: members besides.
        plugins: of the decode engines; the manifest names them.
        allocates: whether engines allocate memory as they run.

    Returns:
        `target`.
    """
    from dataclasses import replace

    from xdecoder_rt.plan.file import Plan, write_plan
    from xdecoder_rt.plan.manifest import size_key
    from xdecoder_rt.rows import frame_feeds

    with Plan.open(source) as plan:
        manifest = plan.manifest
        queries = manifest.decoder.num_queries
        members, frame = dict(more or {}), dict[str, str]()
        for name in plan.names:
            if name.startswith("weights/"):
                continue
            data = plan.graph(name) if name.endswith(".onnx") else plan.read(name)
            if name.endswith(".onnx"):
                profiles = [ranges(data, *dims) for dims in _dimensions(name, queries)]
                engine_plugins = plugins if name.startswith("decode") else ()
                facts = (version, capability, engine_plugins, allocates)
                data = change(name, engine(data, profiles, *facts))
                name = name.replace(".onnx", ".engine")
            members[name] = data
        for size in manifest.input.all_sizes:
            portable = plan.graph(manifest.graphs.decode[size_key(size)])
            data = _frame(portable, frame_feeds(manifest.decoder, manifest.text.proj_dim, size))
            name = f"frame_{size_key(size)}.engine"
            facts = (version, capability, plugins, allocates)
            members[name] = change(name, engine(data, [ranges(data, {}, {})], *facts))
            frame[size_key(size)] = name

    def renamed(group: Mapping[str, str]) -> dict[str, str]:
        return {key: name.replace(".onnx", ".engine") for key, name in group.items()}

    graphs = manifest.graphs
    token = graphs.token.replace(".onnx", ".engine") if graphs.token else None
    changed = replace(
        manifest,
        backend=backend,
        backend_version=version,
        targets=(capability,),
        plugins=tuple(f"{namespace}::{plugin}" for namespace, plugin, _ in plugins),
        weights={},
        text=replace(manifest.text, graph_sha256=None),
        graphs=replace(
            graphs,
            vision=renamed(graphs.vision),
            decode=renamed(graphs.decode),
            mask=renamed(graphs.mask),
            text=graphs.text.replace(".onnx", ".engine"),
            token=token,
            frame=frame,
        ),
    )
    write_plan(target, changed, members)
    return target


def _frame(decode: bytes, feeds: Mapping[str, Any]) -> bytes:
    """The decode graph with what it takes of the latents in it, as a build makes it."""
    import onnx

    from xdecoder_rt.export.tensorrt.graph import fix_inputs, fix_shapes

    model = onnx.load_from_string(decode)
    fix_inputs(model, feeds)
    fix_shapes(
        model,
        {
            port.name: [dim.dim_value or 1 for dim in port.type.tensor_type.shape.dim]
            for port in model.graph.input
        },
    )
    serialized: bytes = model.SerializeToString()
    return serialized


def _dimensions(name: str, queries: int) -> list[tuple[dict[str, int], dict[str, int]]]:
    """The ranges that plans are built with, a pair a profile."""
    if name.startswith("vision"):
        return [({"batch": 1}, {"batch": 1})]
    if name.startswith("decode"):
        least = {"batch": 1, "rows": 1, "past": 0, "sum": 1, "regions": 1}
        most = {"batch": 1, "rows": 256, "past": 320, "sum": 576, "regions": 8}
        return [(least, most)]
    if name.startswith("mask"):
        return [({"batch": 1, "kept": 1}, {"batch": 1, "kept": 2 * queries})]
    if name.startswith("text"):
        least = {"texts": 1, "length": 1, "past": 0, "sum": 1}
        return [(least, {"texts": 64, "length": 128, "past": 77, "sum": 205})]
    return [({"captions": 1}, {"captions": 16})]
