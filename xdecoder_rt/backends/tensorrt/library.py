"""TensorRT and TensorRT-RTX as one library: which module it is, and what it says in its log."""

from __future__ import annotations

import ctypes
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from xdecoder_rt.backends.tensorrt.log import listen
from xdecoder_rt.errors import BackendError, MissingExtraError, XDecoderError, require

ENGINE_BACKENDS = ("tensorrt", "tensorrt_rtx")
TITLES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
# TensorRT 10.3 is JetPack 6's; TensorRT-RTX counts from 1.
_OLDEST = {"tensorrt": (10, 3), "tensorrt_rtx": (1, 0)}
# Where JetPack writes its version; TensorRT comes with it there, and not from pip.
_JETPACK = Path("/etc/nv_tegra_release")
_KEPT_SEVERITIES = ("WARNING", "ERROR", "INTERNAL_ERROR")
_MADE_FOR_CUDA = re.compile(r"(?:^|[_.-])cu(\d\d)(?:$|[_.-])")


class Library:
    """The module ``tensorrt`` or ``tensorrt_rtx``, and its log.

    Args:
        backend: ``"tensorrt"`` or ``"tensorrt_rtx"``.

    Attributes:
        backend: as given.
        title: as people write it.
        module: the module.
        version: its version.
        cuda: the CUDA major version that it was made for, or None where nothing says it.

    Raises:
        MissingExtraError: it is not installed.
        BackendError: it is too old.
    """

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.title = TITLES[backend]
        self.module = load_module(backend)
        self.version = str(self.module.__version__)
        if numbers(self.version)[:2] < _OLDEST[backend]:
            oldest = ".".join(map(str, _OLDEST[backend]))
            extra = extra_of(backend)
            raise BackendError(
                f"{self.title} {self.version} is installed",
                expected=f"{oldest} or newer",
                fix="install a newer JetPack"
                if extra == "jetson"
                else f'pip install --upgrade "xdecoder_rt[{extra}]"',
            )
        self.cuda = _cuda_of(backend)
        self._messages: deque[str] = deque(maxlen=8)
        self.logger = listen(self.module, self)
        self._runtime: Any = None

    @property
    def runtime(self) -> Any:
        """Return the library's ``Runtime``, made on first need: it wants a current CUDA context.

        Raises:
            BackendError: it cannot be made.
        """
        if self._runtime is None:
            with starting(BackendError, f"{self.title} {self.version}", self.take_log):
                self._runtime = self.module.Runtime(self.logger)
        return self._runtime

    def hear(self, severity: str, message: str) -> None:
        """Keep warnings and errors for messages; nothing is printed."""
        if severity in _KEPT_SEVERITIES:
            self._messages.append(" ".join(message.split()))

    def note(self, message: str) -> None:
        """Add a message to the log."""
        self._messages.append(message)

    def take_log(self) -> str:
        """Return the errors and warnings logged since the last time, in one line."""
        lines = list(self._messages)
        self._messages.clear()
        return "; ".join(lines) or "it does not say why"

    def close(self) -> None:
        """Release the runtime. Its engines are gone."""
        self._runtime = None


@contextmanager
def starting(
    error: type[XDecoderError], library: str, take_log: Callable[[], str]
) -> Iterator[None]:
    """Say why there is none, around the making of a ``Runtime`` or a ``Builder``.

    Args:
        error: what to raise.
        library: name and version, for people.
        take_log: returns what the library logged.
    """
    try:
        yield
    except TypeError as failure:  # what the bindings make of a null pointer
        raise error(
            f"{library} cannot start ({take_log()})",
            expected="a driver that is as new as the library, and memory on the GPU",
            fix="look at nvidia-smi; close other programs on the GPU, or update the driver",
        ) from failure


def load_module(backend: str) -> ModuleType:
    """Import the library's Python module.

    TensorRT-RTX's wheels leave their libraries where the linker does not look, so these are loaded
    first. Not globally: both libraries export the same names, and TensorRT's would be lost.

    Raises:
        MissingExtraError: it is not installed.
    """
    if backend == "tensorrt_rtx" and backend not in sys.modules:
        libraries = find_spec("tensorrt_rtx_libs")
        for folder in (libraries.submodule_search_locations or ()) if libraries else ():
            for path in sorted(Path(folder).glob("lib*rtx.so*")):
                ctypes.CDLL(str(path))
        if find_spec(backend) is None and find_spec("tensorrt_rtx_bindings") is not None:
            return require("tensorrt_rtx_bindings", extra_of(backend))
    try:
        return require(backend, extra_of(backend))
    except MissingExtraError as error:
        if extra_of(backend) != "jetson":
            raise
        raise MissingExtraError(
            f"TensorRT's Python module is not in this environment ({error.__cause__})",
            expected="the one of JetPack",
            fix="sudo apt-get install python3-libnvinfer, and make the environment with "
            "python3 -m venv --system-site-packages",
        ) from error


def extra_of(backend: str) -> str:
    """Return the extra that installs what a backend needs on this machine."""
    if backend == "tensorrt" and _JETPACK.exists():
        return "jetson"
    # With hyphens: pip before 23.3 does not find an extra that is asked for with underscores.
    return backend.replace("_", "-")


def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version: ``10.3.0.post1`` gives (10, 3, 0)."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, match.group().split("."))) if match else ()


def _cuda_of(backend: str) -> int | None:
    """From the names of the installed wheels: ``tensorrt_cu13``, ``tensorrt-rtx-cu12-libs``."""
    prefix = backend.replace("_", "-") + "-cu"
    for distribution in distributions():
        name = str(distribution.metadata["Name"] or "").lower().replace("_", "-")
        match = _MADE_FOR_CUDA.search(name)
        if name.startswith(prefix) and match:
            return int(match.group(1))
    return None
