"""Which compiled model is kept for which graph: by digests of all that it was made of.

A compiled model is found without reading its graph, so the key must change with everything that
could change the model: the plan's bytes, the library, our own rewriting of graphs, the processor
and the settings.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from xdecoder_rt.backends.blobs import Blob, ModelBlobs
from xdecoder_rt.cores import usable_cores

__all__ = ["KeptModels", "signature"]

_CPU_INFO = Path("/proc/cpuinfo")


class KeptModels:
    """The compiled models of one graph, each for calls of one form.

    Args:
        directory: folder of all caches.
        library: whose models they are.
        graph: name of the graph.
        made_by: what tells library, processor and settings from others: `signature`.
        digest: gives what tells the graph from others; its errors are those of every method.
    """

    def __init__(
        self, directory: Path, library: str, graph: str, made_by: str, digest: Callable[[], str]
    ) -> None:
        self._blobs = ModelBlobs(directory, library, graph)
        self._made_by = made_by
        self._digest = digest

    @cached_property
    def _beginning(self) -> str:
        whole = hashlib.sha256(f"{self._made_by}\n{self._digest()}".encode())
        return whole.hexdigest()

    def latest(self) -> str | None:
        """Return the form of the model that was used or written last; None if there is none."""
        key = self._blobs.latest(self._beginning)
        return None if key is None else key[len(self._beginning) :]

    def read(self, form: str) -> Blob | None:
        """Return the model of a form, hexadecimal digits; None if there is none."""
        return self._blobs.read(self._beginning + form)

    def write(self, form: str, inputs: Sequence[str], outputs: Sequence[str], model: bytes) -> None:
        """Keep the model of a form."""
        self._blobs.write(self._beginning + form, inputs, outputs, model)

    def note_use(self, form: str) -> None:
        """Make a form the `latest`."""
        self._blobs.note_use(self._beginning + form)


def signature(
    openvino: ModuleType, core: Any, plugin: str, settings: Mapping[str, Any], unquantizes: bool
) -> str:
    """Return a SHA-256 of what OpenVINO compiles with, beside the graph.

    Args:
        openvino: the library.
        core: its core.
        plugin: the device, by the library's name of it.
        settings: of the compilation.
        unquantizes: whether layers are taken out of INT8 before.
    """
    parts = (
        _own_code(),
        str(openvino.__version__),
        str(core.get_property(plugin, "FULL_DEVICE_NAME")),
        _instructions(),
        str(sorted(settings.items())),
        str(usable_cores()),
        str(unquantizes),
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@cache
def _own_code() -> str:
    """Return a digest of the code that rewrites graphs: whatever changes it, compiles again."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\n" + path.read_bytes())
    return digest.hexdigest()


@cache
def _instructions() -> str:
    """Return the instruction sets of this processor, as far as the system tells."""
    try:
        flags = re.search(r"^(flags|Features)\s*:(.*)$", _CPU_INFO.read_text(), re.MULTILINE)
    except OSError:
        return ""
    return "" if flags is None else " ".join(sorted(flags[2].split()))
