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
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xdecoder_rt.engine import Engine as Engine
    from xdecoder_rt.errors import ArgumentError as ArgumentError
    from xdecoder_rt.errors import BackendError as BackendError
    from xdecoder_rt.errors import BuildError as BuildError
    from xdecoder_rt.errors import CheckpointError as CheckpointError
    from xdecoder_rt.errors import DatasetError as DatasetError
    from xdecoder_rt.errors import ImageError as ImageError
    from xdecoder_rt.errors import MissingExtraError as MissingExtraError
    from xdecoder_rt.errors import PlanError as PlanError
    from xdecoder_rt.errors import PlanVersionError as PlanVersionError
    from xdecoder_rt.errors import VocabularyError as VocabularyError
    from xdecoder_rt.errors import XDecoderError as XDecoderError
    from xdecoder_rt.plan import Plan as Plan
    from xdecoder_rt.results import Answer as Answer
    from xdecoder_rt.results import Caption as Caption
    from xdecoder_rt.results import Finding as Finding
    from xdecoder_rt.results import Output as Output
    from xdecoder_rt.results import Ranking as Ranking
    from xdecoder_rt.results import Reference as Reference
    from xdecoder_rt.results import Segmentation as Segmentation
    from xdecoder_rt.vocabulary import Vocabulary as Vocabulary
    from xdecoder_rt.vocabulary import Word as Word

__version__ = "0.1.0"

_MODULE_OF = {
    "Engine": "engine",
    "Plan": "plan",
    "Answer": "results",
    "Caption": "results",
    "Finding": "results",
    "Output": "results",
    "Ranking": "results",
    "Reference": "results",
    "Segmentation": "results",
    "Vocabulary": "vocabulary",
    "Word": "vocabulary",
    "ArgumentError": "errors",
    "BackendError": "errors",
    "BuildError": "errors",
    "CheckpointError": "errors",
    "DatasetError": "errors",
    "ImageError": "errors",
    "MissingExtraError": "errors",
    "PlanError": "errors",
    "PlanVersionError": "errors",
    "VocabularyError": "errors",
    "XDecoderError": "errors",
}

__all__ = ["__version__", *_MODULE_OF]


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


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
