"""X-Decoder on edge devices: one plan file, one engine, open-vocabulary segmentation.

    import xdecoder_rt

    with xdecoder_rt.Engine("model.plan") as engine:
        result = engine.segment(image, ["mug", "table", "robot arm"])
    result.draw(image).save("mug.png")

Names are imported when they are first used, so that ``import xdecoder_rt`` costs next to nothing.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_file_location
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xdecoder_rt.engine import Engine as Engine
    from xdecoder_rt.errors import XDecoderError as XDecoderError
    from xdecoder_rt.plan.file import Plan as Plan
    from xdecoder_rt.tracking.tracker import Tracker as Tracker
    from xdecoder_rt.words.vocabulary import Vocabulary as Vocabulary
    from xdecoder_rt.words.word import Word as Word

# Nothing that this package runs reports on its user. ONNX Runtime reads this once, when it is first
# imported, and would otherwise write a device id into the home and send events.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = "0.2.0"
__all__ = ["Engine", "Plan", "Tracker", "Vocabulary", "Word", "XDecoderError", "__version__"]

_MODULE_OF = {
    "Engine": "engine",
    "Plan": "plan.file",
    "Tracker": "tracking.tracker",
    "Vocabulary": "words.vocabulary",
    "Word": "words.word",
    "XDecoderError": "errors",
}

# Kept for one version: names that were offered here, and packages that ``python -m`` ran.
_MOVED_NAMES = {
    **dict.fromkeys(
        ("Answer", "Caption", "Finding", "Output", "Ranking", "Reference", "Segmentation"),
        "results",
    ),
    **dict.fromkeys(
        (
            "ArgumentError",
            "BackendError",
            "BuildError",
            "CheckpointError",
            "DatasetError",
            "ImageError",
            "MissingExtraError",
            "PlanError",
            "PlanVersionError",
            "VocabularyError",
        ),
        "errors",
    ),
}
_WARNED: dict[Any, Any] = {}
_MOVED_COMMANDS = {
    "xdecoder_rt.models.parity": "parity",
    "xdecoder_rt.training.scenes": "scenes",
    "xdecoder_rt.training.scenes sheet": "training.sheet",
}


def _installed(path: list[str]) -> list[str]:
    """Where the installed package is, for a checkout whose own folder was found first.

    ``python -m xdecoder_rt.…`` inside a checkout finds the checkout's folder, which has neither
    the compiled parts nor the folders that are installed beside its modules.
    """
    if len(path) > 1 or os.path.isdir(os.path.join(path[0], "kernels")):
        return path
    for entry in sys.path:
        folder = os.path.join(entry or os.getcwd(), __name__)
        if os.path.isdir(os.path.join(folder, "kernels")):
            return [folder]
    raise ImportError("xdecoder_rt is not installed: run 'pip install .' in its checkout")


__path__ = _installed(list(__path__))


class _MovedCommands:
    """Finds the commands of `_MOVED_COMMANDS` where they are now."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        room = _MOVED_COMMANDS.get(name)
        if room is None:
            return None
        command = name
        # "-m" stands for the command while it is sought, with its arguments after it.
        with_argument = f"{name} {sys.argv[1]}" if sys.argv[0] == "-m" and sys.argv[1:] else ""
        if with_argument in _MOVED_COMMANDS:
            command, room = with_argument, _MOVED_COMMANDS[with_argument]
            del sys.argv[1]
        text = _moved(f"python -m {command}", f"python -m {__name__}.{room}")
        # Told of the command itself: warnings of other modules are not shown by default.
        warnings.warn_explicit(text, DeprecationWarning, name, 1, "__main__", _WARNED)
        found = find_spec(f"{__name__}.{room}")
        assert found is not None and found.origin is not None
        return spec_from_file_location(
            name, found.origin, submodule_search_locations=found.submodule_search_locations
        )


# First: an updated checkout may still have empty folders of the old names.
sys.meta_path.insert(0, _MovedCommands)


def _moved(old: str, new: str) -> str:
    return f"{old} is now {new}; the old name goes with the next version"


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        module = _MOVED_NAMES.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        text = _moved(f"{__name__}.{name}", f"{__name__}.{module}.{name}")
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return getattr(import_module(f"{__name__}.{module}"), name)
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
