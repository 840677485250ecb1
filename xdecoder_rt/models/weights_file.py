"""Files of weights by their content, whatever their name: tensors out, everything else named.

Read are safetensors and what ``torch.save`` writes: a mapping from names to tensors, alone or
inside what a training keeps around it, under names with or without the prefixes of its wrappers.
"""

from __future__ import annotations

import codecs
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from xdecoder_rt.errors import CheckpointError, printable, quoted, require
from xdecoder_rt.files.formats import beginning, describe
from xdecoder_rt.files.regular import open_regular
from xdecoder_rt.models.checkpoint import file_label, read_header, read_tensors
from xdecoder_rt.models.pt_file import LEGACY_START, ZIP_START, open_pt, unreadable
from xdecoder_rt.models.pt_pickle import StoredTensor, UnusualTensor

_Part = TypeVar("_Part")
WRAPPERS = ("model", "state_dict", "module", "model_state_dict", "model_state", "weights")
"""Entries that hold a network's tensors in files of trainings, the likeliest first."""
PREFIXES = ("module.", "model.", "_orig_mod.")
"""What DistributedDataParallel, wrapping modules and torch.compile put before a name."""
_NOT_THE_NETWORK = ("optim", "lr_sched", "sched", "amp", "scaler", "ema", "loss", "random")
_HEAD_SIZE = 4096
# How many times a file's size its tensors may take: few share numbers, but for tied weights.
_MOST_SHARED = 8
_MAX_SAFETENSORS_HEADER = 100_000_000
_EXPECTED = "a .pt file of torch.save, or .safetensors"
_AGAIN = "Download it again, from the address that gives the file itself"
_SIGNATURES = (
    (b"\x89HDF\r\n", "it is an HDF5 file, as Keras writes"),
    (b"GGUF", "it is a GGUF file of llama.cpp"),
    (b"PK\x05\x06", "it is an empty ZIP archive"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd"),
    (b"7z\xbc\xaf\x27\x1c", "it is a 7z archive"),
    (b"Rar!", "it is a RAR archive"),
    (b"ptrt", "it is a TensorRT engine"),
    (b"ftrt", "it is a TensorRT engine"),
)


@dataclass(frozen=True)
class WeightsFile:
    """The tensors of a file, and what was around them.

    Attributes:
        tensors: by name, without prefixes; their numbers are read from the file as they are used.
        form: ``safetensors``, ``zip`` or ``legacy``.
        header: the text in a safetensors file's header.
        wrappers: entries that had to be opened, outermost first.
        prefixes: what was taken from the beginnings of names.
        beside: entries beside the tensors that were left out.
        foreign: classes and functions that the file names and nobody ran.
        unusual: kinds of tensors that are no plain numbers (sparse, quantised), by name.
    """

    tensors: dict[str, Tensor]
    form: str
    header: Mapping[str, str] = field(default_factory=dict)
    wrappers: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    unusual: Mapping[str, str] = field(default_factory=dict)


def header_format(path: Path) -> str:
    """Return the entry ``format`` of a safetensors file's header; empty for any other file.

    Raises:
        CheckpointError: the file begins as safetensors do, and is not whole.
    """
    try:
        with open_regular(path) as file:
            is_safetensors = _is_safetensors(file.read(_HEAD_SIZE))
    except OSError:
        return ""
    return read_header(path).get("format", "") if is_safetensors else ""


def open_weights(path: str | Path, *, allow_foreign: bool = False) -> WeightsFile:
    """Open a file of weights.

    Args:
        path: safetensors, or a file of ``torch.save``; its content tells which.
        allow_foreign: whether objects of foreign classes beside the tensors are left out; they
            are never made.

    Raises:
        CheckpointError: there is no such file, or it is something else, cut or damaged; or it holds
            objects of foreign classes and these are not allowed.
    """
    path = Path(path)
    label = file_label(path)
    try:
        with open_regular(path) as file:
            head = file.read(_HEAD_SIZE)
    except OSError as error:
        raise CheckpointError(
            f"There is no checkpoint at {printable(str(path), 160)}: {error.strerror}",
            expected=_EXPECTED,
        ) from error
    if head.startswith((ZIP_START, LEGACY_START)):
        return _from_pt(path, label, allow_foreign)
    if _is_safetensors(head):
        tensors, header = read_tensors(path)
        names, prefixes = _stripped(tensors, label)
        return WeightsFile(names, "safetensors", header, prefixes=prefixes)
    raise _other_format(head, label)


def save_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors, in their own element types; whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    safetensors = require("safetensors.torch", "export")
    seen: set[int] = set()
    whole = {}
    for name, tensor in tensors.items():
        # Safetensors refuses tensors that share memory.
        shared = tensor.untyped_storage().nbytes() != tensor.nbytes or tensor.data_ptr() in seen
        whole[name] = tensor.clone() if shared else tensor.contiguous()
        seen.add(tensor.data_ptr())
    with tempfile.TemporaryDirectory(prefix=".xdecoder-rt-", dir=path.parent) as folder:
        written = Path(folder) / "tensors"
        safetensors.save_file(whole, written, metadata={"format": "pt"})
        written.replace(path)


def _from_pt(path: Path, label: str, allow_foreign: bool) -> WeightsFile:
    file = open_pt(path, label)
    value, wrappers = _unwrapped(file.value)
    stored = {
        str(name): part
        for name, part in (value.items() if isinstance(value, dict) else ())
        if isinstance(part, StoredTensor | UnusualTensor)
    }
    if file.foreign and not (stored and allow_foreign):
        names = ", ".join(printable(name, 50) for name in file.foreign[:2])
        more = f" and {len(file.foreign) - 2} more" if len(file.foreign) > 2 else ""
        raise unreadable(
            label,
            f"it also holds objects of {names}{more}" if stored else f"it is an object of {names}",
            "tensors and nothing else",
            "xdecoder-rt convert IN.pt OUT.safetensors takes the tensors alone"
            if stored
            else "Where it was made, save model.state_dict() with torch.save",
        )
    if not isinstance(value, dict) or not stored:
        raise CheckpointError(
            f"{label} is not a flat mapping from names to tensors",
            expected="a state_dict, alone or under " + ", ".join(map(repr, WRAPPERS[:3])),
        )
    tensors = {
        name: file.tensor(name, part)
        for name, part in stored.items()
        if isinstance(part, StoredTensor)
    }
    if sum(tensor.nbytes for tensor in tensors.values()) > _MOST_SHARED * file.size:
        raise unreadable(label, "its tensors share their numbers too often")
    stripped, prefixes = _stripped(tensors, label)
    unusual, _ = _stripped(
        {n: part.kind for n, part in stored.items() if isinstance(part, UnusualTensor)}, label
    )
    beside = tuple(str(name) for name in value if str(name) not in stored)
    return WeightsFile(stripped, file.form, {}, wrappers, prefixes, beside, file.foreign, unusual)


def _unwrapped(value: object) -> tuple[object, tuple[str, ...]]:
    """Return the mapping that holds a network's tensors, and the entries that led to it."""
    wrappers: list[str] = []
    while isinstance(value, dict):
        inner = [n for n, part in value.items() if isinstance(n, str) and _holds_tensors(part)]
        entry = next((name for name in WRAPPERS if name in inner), None)
        if entry is None and not any(_is_tensor(part) for part in value.values()):
            networks = [name for name in inner if not name.startswith(_NOT_THE_NETWORK)]
            entry = networks[0] if len(networks) == 1 else None
        if entry is None:
            break
        wrappers.append(entry)
        value = value[entry]
    return value, tuple(wrappers)


def _is_tensor(value: object) -> bool:
    return isinstance(value, StoredTensor | UnusualTensor)


def _holds_tensors(value: object) -> bool:
    return isinstance(value, dict) and any(
        _is_tensor(part) or _holds_tensors(part) for part in value.values()
    )


def _stripped(tensors: Mapping[str, _Part], label: str) -> tuple[dict[str, _Part], tuple[str, ...]]:
    """Take the prefixes from names."""
    names: dict[str, _Part] = {}
    prefixes: dict[str, None] = {}
    for full, tensor in tensors.items():
        name = full
        while name.startswith(PREFIXES):
            prefix = next(prefix for prefix in PREFIXES if name.startswith(prefix))
            prefixes[prefix] = None
            name = name.removeprefix(prefix)
        if name in names:
            raise CheckpointError(
                f"{label} holds two tensors {quoted(name, 100)}",
                expected="one, with or without the prefix " + " or ".join(map(repr, PREFIXES)),
            )
        names[name] = tensor
    return names, tuple(prefixes)


def _is_safetensors(head: bytes) -> bool:
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= _MAX_SAFETENSORS_HEADER


def _other_format(head: bytes, label: str) -> CheckpointError:
    """Return the error of a file that begins as no file of weights does."""
    reason, fix = _format_of(head)
    return unreadable(label, reason, _EXPECTED, fix)


def _format_of(head: bytes) -> tuple[str, str]:
    """Say what a file is by its beginning, and what to do."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not head or not head.strip(b"\0"):
        return ("it is empty" if not head else "it holds zeros alone"), _AGAIN
    if LEGACY_START.startswith(head) or ZIP_START.startswith(head):
        return "it ends after a few bytes", _AGAIN
    if head.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS, not the file that it stands for", "git lfs pull"
    if text.startswith(b"<"):
        return _markup(text), _AGAIN
    if text[:1] in (b"{", b"["):
        return f"it is JSON that begins {beginning(text)}", _AGAIN
    for start, words in _SIGNATURES:
        if head.startswith(start):
            return words, _AGAIN
    if head[257:262] == b"ustar":
        return (
            "it is a tar archive, as PyTorch 0.1 wrote",
            "Open it with PyTorch where you trust it, and save its state_dict again",
        )
    if re.match(rb"\x80[\x02-\x05]", head):
        return (
            "it is a pickle that torch.save did not write",
            "Where it was made, save a state_dict with torch.save",
        )
    if re.match(rb"\x08[\x03-\x20](\x12|\x1a|\x22|:)", head):
        return "it is an ONNX model", "Give the checkpoint that it was exported from"
    words, _ = describe(head)
    if "not an image" not in words:
        return f"it {words}", _AGAIN
    if _is_text(head):
        return f"it is text that begins {beginning(text)}", _AGAIN
    return "it is of no known format", _AGAIN


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)


def _markup(text: bytes) -> str:
    """Say of which kind a document in angle brackets is, and what it says of itself."""
    lower = text.lower()
    is_page = re.match(rb"<(!doctype|html|head|body|script|meta|title|!--)", lower) is not None
    found = re.search(rb"<(title|code|message)[^>]*>\s*([^<]{1,80})", text, re.IGNORECASE)
    saying = f" that says {beginning(found.group(2))}" if found else ""
    return f"it is {'a web page' if is_page else 'an XML answer'}{saying}"
