"""Large weights of graphs as members of a plan: what several graphs have in common is there once.

Tensors are told apart by their bytes. Those that the same graphs have stand together in one member,
so that a graph reads members which it uses all of, and a plan has few of them however many tensors
there are. Needs no ONNX package.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO

from xdecoder_rt.plan.external import (
    Place,
    Skeleton,
    Tensor,
    padded,
    read_skeleton,
    weights_member,
)
from xdecoder_rt.plan.file import Source, source_chunks
from xdecoder_rt.plan.manifest import FORMAT_VERSION, Manifest

__all__ = ["in_current_form", "share_weights"]


@dataclass
class _SharedTensor:
    """A tensor of one or several graphs.

    Attributes:
        source: of the first graph that has it.
        start: where it begins there.
        length: its bytes.
        graphs: members that have it.
    """

    source: Source
    start: int
    length: int
    graphs: dict[str, None] = field(default_factory=dict)


_Key = tuple[bytes, int]
"""The digest of a tensor's bytes, and how often the graph has had them before."""


def in_current_form(
    manifest: Manifest, members: Mapping[str, Source]
) -> tuple[Manifest, Mapping[str, Source]]:
    """Return a plan's manifest and members as this release writes them.

    Args:
        manifest: of a plan of any version that this release reads.
        members: as they stand in the plan.
    """
    if manifest.format_version == FORMAT_VERSION or manifest.backend != "portable":
        return manifest, members
    return share_weights(manifest, members)


def share_weights(
    manifest: Manifest, members: Mapping[str, Source]
) -> tuple[Manifest, dict[str, Source]]:
    """Move the large initializers of portable graphs into members of their own.

    One graph is in memory at a time; of those that are given in parts or as files, no weights are
    held.

    Args:
        manifest: of the plan to be.
        members: its members; graphs have all their weights.

    Returns:
        The manifest, which says where the weights of each graph are, and the members: graphs
        without them, weights, and the others as they came.
    """
    tensors: dict[_Key, _SharedTensor] = {}
    keys: dict[str, list[_Key]] = {}
    skeletons: dict[str, Skeleton] = {}
    text_digest = None
    for member in dict.fromkeys(manifest.graphs.members()):
        data = _whole(members[member])
        skeleton = skeletons[member] = read_skeleton(data)
        keys[member] = _add(tensors, member, members[member], skeleton, data)
        if member == manifest.graphs.text:
            text_digest = _joined_digest(skeleton, data)
        del data  # before the next is read
    groups: dict[tuple[str, ...], list[_Key]] = {}
    for key, tensor in tensors.items():
        groups.setdefault(tuple(tensor.graphs), []).append(key)
    weights: dict[str, Source] = {}
    places: dict[_Key, Place] = {}
    used: dict[str, list[str]] = {}
    for graphs, group in groups.items():
        content = partial(_chunks, [tensors[key] for key in group])
        name = weights_member(_digest(content()), weights)
        weights[name] = content
        end = 0
        for key in group:
            places[key] = Place(name, padded(end), tensors[key].length)
            end = places[key].offset + places[key].length
        for graph in graphs:
            used.setdefault(graph, []).append(name)
    graph_members: dict[str, Source] = {
        member: skeleton.apart([places[key] for key in keys[member]])
        for member, skeleton in skeletons.items()
    }
    written = replace(
        manifest,
        weights={member: tuple(names) for member, names in used.items()},
        text=replace(manifest.text, graph_sha256=text_digest),
        format_version=FORMAT_VERSION,
    )
    others = {name: source for name, source in members.items() if name not in graph_members}
    return written, {**graph_members, **weights, **others}


def _whole(source: Source) -> bytes | memoryview:
    if isinstance(source, bytes | bytearray | memoryview):
        return memoryview(source).cast("B")
    whole = BytesIO()
    for chunk in source_chunks(source):
        whole.write(chunk)
    return whole.getvalue()


def _add(
    tensors: dict[_Key, _SharedTensor],
    member: str,
    source: Source,
    skeleton: Skeleton,
    data: bytes | memoryview,
) -> list[_Key]:
    """Note the large tensors of a graph, and return their keys in order."""
    seen: Counter[bytes] = Counter()
    keys = []
    for tensor in skeleton.tensors:
        start, stop = _range(tensor)
        digest = hashlib.sha256(memoryview(data)[start:stop]).digest()
        # A graph that has the same bytes twice refers to them twice: each byte is used once.
        key = digest, seen[digest]
        seen[digest] += 1
        shared = tensors.setdefault(key, _SharedTensor(source, start, tensor.length))
        shared.graphs[member] = None
        keys.append(key)
    return keys


def _range(tensor: Tensor) -> tuple[int, int]:
    assert not isinstance(tensor.data, Place)  # graphs are given whole
    return tensor.data


def _joined_digest(skeleton: Skeleton, data: bytes | memoryview) -> str:
    digest = hashlib.sha256()
    for part in skeleton.joined():
        if isinstance(part, Tensor):
            start, stop = _range(part)
            digest.update(memoryview(data)[start:stop])
        else:
            digest.update(part)
    return digest.hexdigest()


def _digest(chunks: Iterator[bytes | memoryview]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(tensors: Sequence[_SharedTensor]) -> Iterator[bytes | memoryview]:
    """Yield tensors that one graph has, each where the format has it begin.

    They come in the order of the graph, so that its source is read once.
    """
    end = 0
    position = 0
    chunks = source_chunks(tensors[0].source)
    chunk: bytes | memoryview = b""
    for tensor in tensors:
        yield bytes(padded(end) - end)
        end = padded(end) + tensor.length
        wanted = tensor.start
        stop = tensor.start + tensor.length
        while wanted < stop:
            while position + len(chunk) <= wanted:
                position += len(chunk)
                chunk = next(chunks)
            part = memoryview(chunk)[wanted - position : stop - position]
            yield part
            wanted += len(part)
