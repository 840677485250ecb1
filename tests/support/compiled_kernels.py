"""Kernels compiled ahead of time: what ships, and some for Jetsons."""

from __future__ import annotations

import shutil
import tempfile
from importlib import import_module
from pathlib import Path

# A process of its own imports the compiler, and this the kernels, by the names that they have in
# their forms: they are imported here for the digest to follow them.
from xdecoder_rt.kernels import aot, catalog, compiling  # noqa: F401
from xdecoder_rt.kernels.frame_resize import triton as frame_resize  # noqa: F401
from xdecoder_rt.kernels.level_features import triton as level_features  # noqa: F401
from xdecoder_rt.kernels.masked_attention import triton as masked_attention  # noqa: F401
from xdecoder_rt.kernels.panoptic_map import triton as panoptic_map  # noqa: F401
from xdecoder_rt.kernels.targets import TARGETS, target


def describe_shipped(folder: Path) -> None:
    """Compile every form for every target; write ``kernels.json`` alone, which describes them."""
    for goal in TARGETS:
        for spec in catalog.shipped(goal):
            import_module(spec.module)  # what the digest does not follow is an error
    with tempfile.TemporaryDirectory() as work:
        aot.compile_kernels(Path(work, "compiled"), jobs=2)
        shutil.copy(Path(work, "compiled", "kernels.json"), folder)


def compile_for_orin(folder: Path) -> None:
    """Compile masked attention in fp16 for Orin, and for a target that Triton may lack."""
    only = "^(attend|open_bits|combine)_fp16|^pack"
    aot.compile_kernels(folder, [target(87), target(101)], only=only, jobs=2)
