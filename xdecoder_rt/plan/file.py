"""The ``.plan`` file: everything a device needs, in one archive.

A plan is a ZIP archive with stored members (`xdecoder_rt.plan.archive`): ``manifest.json`` and the
members that it lists, no more and no fewer. Opening a plan checks the archive's structure and the
manifest; the digest of a member is checked whenever it is read, so that opening costs the same for
any size. Digests prove that a file is whole, not who made it.

Nothing is mapped into memory. A file that somebody cuts off or writes over while it is open would
end the process by a signal, or change what was checked before: what is given out is a copy, and the
digest is the copy's.
"""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BufferedReader, BytesIO
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, TypeAlias, TypeVar

from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.errors import BuildError, PlanError, quoted
from xdecoder_rt.plan.archive import ArchiveWriter, Member, check_member_name, read_directory
from xdecoder_rt.plan.contents import graph_members
from xdecoder_rt.plan.external import Place, Tensor, read_skeleton
from xdecoder_rt.plan.graph_check import check_graph
from xdecoder_rt.plan.manifest import (
    FIRST_VERSION,
    FORMAT_VERSION,
    MANIFEST_LIMIT,
    MANIFEST_NAME,
    Manifest,
    MemberInfo,
    size_key,
)

__all__ = ["Plan", "Source", "source_chunks", "write_plan"]

_CHUNK = 1 << 20
_FETCH = "fetch or build the plan again"
# The field after ir_version in an ONNX ModelProto: producer, domain, graph or opset_import.
_ONNX_SECOND_FIELD = (b"\x12", b"\x1a", b"\x22", b"\x3a", b"\x42")
Result = TypeVar("Result")
Source: TypeAlias = (
    "bytes | bytearray | memoryview | Path | Callable[[], Iterable[bytes | memoryview]]"
)


class Plan:
    """An open plan: its manifest, and its members.

    Open one with `Plan.open`; it is a context manager. Methods may be called from many threads.
    Replacing the file meanwhile, as `write_plan` does, changes nothing for an open plan; where it
    is written over or cut off in place, members that are read from then on are refused.

    Attributes:
        path: where the file is.
        manifest: what it says about itself.

    Example:
        >>> with Plan.open("model.plan") as plan:
        ...     plan.manifest.backend, plan.manifest.precision
        ('portable', 'fp32')
    """

    def __init__(
        self, path: Path, file: BufferedReader, manifest: Manifest, members: dict[str, Member]
    ) -> None:
        self.path = path
        self.manifest = manifest
        self._file: BufferedReader | None = file
        self._members = members
        self._walked: set[str] = set()
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, verify: bool = False) -> Plan:
        """Open and checks a plan.

        Args:
            path: the file.
            verify: also check the digest of every member now, instead of before its first use.

        Returns:
            The open plan.

        Raises:
            PlanVersionError: it was written in a format version that this release does not read.
            PlanError: there is no such file, or it is not a sound plan; the message says in what.

        Example:
            >>> with Plan.open("model.plan", verify=True) as plan:
            ...     "segment" in plan.manifest.tasks
            True
        """
        location = Path(path)
        file = _open_file(location)
        try:
            size = os.fstat(file.fileno()).st_size
            _refuse_other_formats(location, file, size)
            members = read_directory(file, size)
            manifest = _read_manifest(file, members)
            _check_members(manifest, members)
            plan = cls(location, file, manifest, members)
        except PlanError as error:
            file.close()
            raise type(error)(
                f"{quoted(str(location), 200)}: {error.what}",
                expected=error.expected,
                fix=error.fix,
            ) from error
        except BaseException:
            file.close()
            raise
        if verify:
            try:
                plan.verify()
            except BaseException:
                plan.close()
                raise
        return plan

    @property
    def names(self) -> tuple[str, ...]:
        """The members, the manifest excluded, in the order of the archive."""
        return tuple(name for name in self._members if name != MANIFEST_NAME)

    def read(self, name: str) -> bytes:
        """Return a member's bytes, whose digest has been checked.

        Args:
            name: a name in `names`.

        Raises:
            PlanError: there is no such member, its digest is wrong, the file cannot be read, or the
                plan is closed.

        Example:
            >>> with Plan.open("model.plan") as plan:
            ...     len(plan.read(plan.names[0])) > 0
            True
        """
        size = self._member(name).size
        data = self._read(name, 0, size)
        self._check_digest(name, hashlib.sha256(data).hexdigest())
        return data

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield a member's bytes in parts, so that no more than one is in memory.

        The digest is checked after the last part: until then the parts are not to be relied on.

        Args:
            name: a name in `names`.

        Raises:
            PlanError: as for `read`.

        Example:
            >>> with Plan.open("model.plan") as plan:
            ...     name = plan.names[0]
            ...     b"".join(plan.chunks(name)) == plan.read(name)
            True
        """
        size, digest = self._member(name).size, hashlib.sha256()
        for start in range(0, size, _CHUNK):
            chunk = self._read(name, start, min(_CHUNK, size - start))
            digest.update(chunk)
            yield chunk
        self._check_digest(name, digest.hexdigest())

    def graph(self, name: str) -> bytes:
        """Return a graph's bytes with its weights in them, fit to be given to a runtime.

        A portable graph is walked once, before its first use, and refused where it has what no
        plan needs (`xdecoder_rt.plan.graph_check`). What TensorRT reads is not: an engine is code.

        Args:
            name: a member that the manifest has as a graph.

        Raises:
            PlanError: as for `read`, of the graph or of its weights, or the graph is refused.

        Example:
            >>> with Plan.open("model.plan") as plan:
            ...     type(plan.graph(plan.manifest.graphs.text))
            <class 'bytes'>
        """
        data = self._walked_graph(name)
        text = self.manifest.text.graph_sha256 if name == self.manifest.graphs.text else None
        if self.manifest.backend == "portable" and name in self.manifest.weights:
            data = self._joined(data, self.manifest.weights[name])
        if text not in (None, hashlib.sha256(data).hexdigest()):
            raise PlanError(
                f"{quoted(str(self.path), 200)}: the text graph {name!r} is damaged: its SHA-256 "
                "with its weights is not the one in the manifest",
                fix=_FETCH,
            )
        return data

    def walk(self, name: str) -> None:
        """Refuse a portable graph that `graph` would refuse, without reading its weights.

        Raises:
            PlanError: as for `graph`.

        Example:
            >>> with Plan.open("model.plan") as plan:
            ...     plan.walk(plan.manifest.graphs.text)
        """
        self._walked_graph(name)

    def _walked_graph(self, name: str) -> bytes:
        data = self.read(name)
        if self.manifest.backend != "portable" or name in self._walked:
            return data
        sizes = {size_key(size): size for size in self.manifest.input.all_sizes}
        uses = [use for use in graph_members(self.manifest.graphs) if use[2] == name]
        if not uses:
            raise PlanError(f"{quoted(str(self.path), 200)}: {quoted(name)} is no graph")
        weights = None
        if self.manifest.format_version > FIRST_VERSION:
            members = self.manifest.weights.get(name, ())
            weights = {member: self._members[member].size for member in members}
        for graph, key, _ in uses:
            try:
                check_graph(self.manifest, graph, sizes.get(key), data, weights)
            except PlanError as error:
                raise PlanError(
                    f"{quoted(str(self.path), 200)}: the {graph} graph {quoted(name)} is refused: "
                    f"{error.what}",
                    expected=error.expected,
                    fix=error.fix or "build the plan again: xdecoder-rt build",
                ) from error
        # What is read again has the digest of what was walked.
        self._walked.add(name)
        return data

    def _joined(self, data: bytes, members: Sequence[str]) -> bytes:
        """Return a graph with its weights in it, each read into its place: there is one copy."""
        parts = read_skeleton(data).joined()
        sizes = [part.length if isinstance(part, Tensor) else len(part) for part in parts]
        whole = BytesIO(bytes(sum(sizes)))  # which it takes over, and gives back, as it is
        places: list[tuple[Place, int]] = []
        with whole.getbuffer() as view:
            position = 0
            for part, size in zip(parts, sizes, strict=True):
                if isinstance(part, bytes):
                    view[position : position + size] = part
                elif isinstance(part.data, Place):
                    places.append((part.data, position))
                else:  # a large initializer that is in the graph all the same
                    view[position : position + size] = data[slice(*part.data)]
                position += size
            for member in members:
                digest, end = hashlib.sha256(), 0
                of_member = [each for each in places if each[0].member == member]
                for place, target in sorted(of_member, key=lambda each: each[0].offset):
                    if place.offset > end:
                        digest.update(self._read(member, end, place.offset - end))
                    with view[target : target + place.length] as hole:
                        self._read_into(member, place.offset, hole)
                        digest.update(hole)
                    end = place.offset + place.length
                self._check_digest(member, digest.hexdigest())
        return whole.getvalue()

    def verify(self) -> None:
        """Check the digest of every member.

        Raises:
            PlanError: one of them is wrong; the message names the member.

        Example:
            >>> with Plan.open("model.plan") as plan:
            ...     plan.verify()
        """
        for name in self.names:
            for _ in self.chunks(name):
                pass

    def close(self) -> None:
        """Close the file. May be called twice.

        Example:
            >>> plan = Plan.open("model.plan")
            >>> plan.close()
        """
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def __enter__(self) -> Plan:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Plan({str(self.path)!r}, {self.manifest.model.name!r}, {self.manifest.backend})"

    def _member(self, name: str) -> Member:
        if name not in self.manifest.members:
            raise PlanError(
                f"{quoted(str(self.path), 200)} has no member {quoted(name)}",
                fix="xdecoder-rt info lists the members of a plan",
            )
        return self._members[name]

    def _read(self, name: str, start: int, size: int) -> bytes:
        """Read a part of a member from the file as it is now."""
        # One allocation, filled by the file itself.
        data = self._at(name, start, lambda file: file.read(size))
        self._check_end(name, len(data), size)
        return data

    def _read_into(self, name: str, start: int, target: memoryview) -> None:
        """Read a part of a member into memory that is there already."""
        # A buffered file fills it in one call, or ends.
        count = self._at(name, start, lambda file: file.readinto(target))
        self._check_end(name, count, len(target))

    def _at(self, name: str, start: int, read: Callable[[BufferedReader], Result]) -> Result:
        member = self._members[name]
        with self._lock:
            if self._file is None:
                raise PlanError(f"{quoted(str(self.path), 200)} is closed", fix="open it again")
            try:
                self._file.seek(member.offset + start)
                return read(self._file)
            except OSError as error:
                raise PlanError(
                    f"{quoted(str(self.path), 200)}: the member {name!r} cannot be read: "
                    f"{error.strerror or error}"
                ) from error

    def _check_end(self, name: str, count: int, size: int) -> None:
        if count != size:
            raise PlanError(
                f"{quoted(str(self.path), 200)} ends inside the member {name!r}: the file was cut "
                "off after it was opened",
                fix=_FETCH,
            )

    def _check_digest(self, name: str, digest: str) -> None:
        if digest != self.manifest.members[name].sha256:
            raise PlanError(
                f"{quoted(str(self.path), 200)}: the member {name!r} is damaged: its SHA-256 is "
                "not the one in the manifest",
                fix=_FETCH,
            )


def _open_file(path: Path) -> BufferedReader:
    name = quoted(str(path), 200)
    try:
        # O_NONBLOCK: a named pipe would otherwise block here for ever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError as error:
        raise PlanError(
            f"There is no file {name}", fix="build one: xdecoder-rt build -o model.plan"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise PlanError(f"The plan {name} cannot be opened: {reason}") from error
    if os.path.isfile(descriptor):
        return os.fdopen(descriptor, "rb")
    is_directory = os.path.isdir(descriptor)
    os.close(descriptor)
    raise PlanError(
        f"{name} is a {'directory' if is_directory else 'special file'}, not a plan",
        expected="one .plan file",
    )


def _refuse_other_formats(path: Path, file: BinaryIO, size: int) -> None:
    """Refuse a file that is not a plan and say what it is, where its first bytes tell."""
    if size == 0:
        raise PlanError(
            "The file is empty", fix="fetch or build it again; perhaps a copy was interrupted"
        )
    head = file.read(16)
    suffix = path.suffix.lower()
    if head[:4] == b"PK\x03\x04":
        return
    if head[:4] == b"ftrt" or suffix in (".engine", ".trt"):
        raise PlanError(
            "The file is a bare TensorRT engine, without the manifest and graphs of a plan",
            fix="build a plan on this device: xdecoder-rt build",
        )
    if suffix == ".onnx" or (head[:1] == b"\x08" and head[2:3] in _ONNX_SECOND_FIELD):
        raise PlanError(
            "The file is a single ONNX graph; a plan holds several and a manifest",
            fix="build a plan from the checkpoint: xdecoder-rt build --checkpoint FILE",
        )
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size:
        raise PlanError(
            "The file is a safetensors checkpoint, not a plan",
            fix="build a plan from it: xdecoder-rt build --checkpoint FILE",
        )
    raise PlanError(
        f"The file is not a plan: it begins with {quoted(head[:8])}",
        expected="a ZIP archive written by xdecoder-rt build",
    )


def _read_manifest(file: BinaryIO, members: dict[str, Member]) -> Manifest:
    member = members.get(MANIFEST_NAME)
    if member is None:
        raise PlanError(
            f"The archive has no {MANIFEST_NAME}", expected="a plan written by xdecoder-rt build"
        )
    if member.size > MANIFEST_LIMIT:
        raise PlanError(
            f"{MANIFEST_NAME} has {member.size:,} bytes", expected=f"at most {MANIFEST_LIMIT:,}"
        )
    file.seek(member.offset)
    data = file.read(member.size)
    # The one member without a SHA-256: nothing in the file could hold it but itself.
    if zlib.crc32(data) != member.crc32:
        raise PlanError(
            f"{MANIFEST_NAME} is damaged: its CRC-32 differs",
            fix="fetch or build the plan again",
        )
    return Manifest.from_json(data)


def _check_members(manifest: Manifest, members: dict[str, Member]) -> None:
    """Check that manifest and archive name the same members, of the same sizes."""
    for name, info in manifest.members.items():
        if name not in members:
            raise PlanError(f"The member {name!r} is listed in the manifest and absent")
        if members[name].size != info.size:
            raise PlanError(
                f"The member {name!r} has {members[name].size:,} bytes",
                expected=f"the {info.size:,} bytes that the manifest lists",
            )
    for name in members:
        if name not in manifest.members and name != MANIFEST_NAME:
            raise PlanError(f"The member {name!r} is not listed in the manifest")


@dataclass(frozen=True)
class _SummedMember:
    """A member's source, and what one pass over its bytes found."""

    source: Source
    info: MemberInfo
    crc32: int


def write_plan(
    path: str | os.PathLike[str], manifest: Manifest, members: Mapping[str, Source]
) -> Manifest:
    """Write a plan, whole or not at all.

    The bytes go to a temporary file in the same directory, which replaces `path` at the end; if
    anything fails, a full disk included, nothing is left behind and an older plan stays. The same
    arguments give the same bytes. Large weights are given as members already
    (:func:`xdecoder_rt.plan.sharing.share_weights`).

    Args:
        path: the file to write.
        manifest: what the plan says about itself; its `members` and its version are replaced.
        members: the members by name: bytes, the file that holds them, or what yields them in parts
            (`Plan.chunks`), the same every time.

    Returns:
        The manifest as written, with sizes and digests of the members.

    Raises:
        PlanError: a member's name is not allowed, or the manifest contradicts the members.
        BuildError: the file cannot be written (directory missing, disk full), or a member's file
            cannot be read.
    """
    if MANIFEST_NAME in members:
        raise PlanError(f"{MANIFEST_NAME} is among the members", expected="it as the manifest")
    try:
        summed_members = {
            check_member_name(name): _summed_member(source) for name, source in members.items()
        }
        written = replace(
            manifest,
            members={name: member.info for name, member in summed_members.items()},
            format_version=FORMAT_VERSION,
        )
        data = written.to_json()
        Manifest.from_json(data)  # what is written can be read
        with atomic_writer(path) as file:
            archive = ArchiveWriter(file)
            archive.add(MANIFEST_NAME, [data], len(data), zlib.crc32(data))
            for name, member in summed_members.items():
                archive.add(name, source_chunks(member.source), member.info.size, member.crc32)
            archive.close()
    except OSError as error:
        raise BuildError(
            f"The plan {quoted(str(path), 200)} could not be written: {error.strerror or error}",
            fix="free some space or choose another place; nothing was left behind",
        ) from error
    return written


def source_chunks(source: Source) -> Iterator[memoryview | bytes]:
    """Yield the bytes of a source in parts."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    elif callable(source):
        yield from source()
    else:
        yield memoryview(source).cast("B")


def _summed_member(source: Source) -> _SummedMember:
    digest, crc32, size = hashlib.sha256(), 0, 0
    for chunk in source_chunks(source):
        digest.update(chunk)
        crc32 = zlib.crc32(chunk, crc32)
        size += len(chunk)
    return _SummedMember(source, MemberInfo(digest.hexdigest(), size), crc32)
