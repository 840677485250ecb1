"""A model repository for Triton Inference Server around a plan.

Written by its documentation and loaded by a stand-in of ours; no Triton has run it yet.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from importlib.resources import files
from pathlib import Path

from xdecoder_rt.atomic import atomic_writer, make_folder
from xdecoder_rt.errors import ArgumentError, quoted
from xdecoder_rt.plan.file import Plan

__all__ = ["write_repository"]

_VERSION = "1"
_CONFIG = """\
name: {name}
backend: "python"
max_batch_size: 0
input [
  {{ name: "IMAGE" data_type: TYPE_UINT8 dims: [ -1 ] }},
  {{ name: "REQUEST" data_type: TYPE_STRING dims: [ 1 ] }}
]
output [
  {{ name: "ANSWER" data_type: TYPE_STRING dims: [ 1 ] }}
]
instance_group [ {{ count: {instances} kind: {kind} }} ]
parameters {{ key: "plan" value {{ string_value: {plan} }} }}
parameters {{ key: "backend" value {{ string_value: {backend} }} }}
parameters {{ key: "threads" value {{ string_value: {threads} }} }}
"""


def write_repository(
    plan: Path,
    root: Path,
    name: str = "xdecoder",
    instances: int = 1,
    backend: str | None = None,
    threads: int | None = None,
) -> Path:
    """Write ``root/NAME/`` with ``config.pbtxt``, ``1/model.py`` and the plan.

    Requests are not gathered into batches: an image and a request of JSON, as of ``/v1/run``, give
    an answer of JSON.

    Args:
        plan: the plan, which is copied.
        root: the repository; made if need be.
        name: the model's.
        instances: engines that Triton opens.
        backend: see :class:`xdecoder_rt.Engine`.
        threads: of one call.

    Returns:
        The model's folder.

    Raises:
        PlanError: it is no plan.
        ArgumentError: the name is not one, the model is there already, or it cannot be written.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise ArgumentError(
            f"The model's name is {quoted(name)}", expected="letters, digits, '_' and '-'"
        )
    with Plan.open(plan) as opened:
        is_portable = opened.manifest.backend == "portable"
    folder = root / name
    if os.path.exists(folder):
        raise ArgumentError(
            f"{quoted(str(folder), 200)} exists", fix="remove it, or give another --name"
        )
    unfinished = root / f".{name}.new"
    config = _CONFIG.format(
        name=json.dumps(name),
        instances=instances,
        kind="KIND_CPU" if is_portable else "KIND_GPU",
        plan=json.dumps("model.plan"),
        backend=json.dumps(backend or ""),
        threads=json.dumps("" if threads is None else str(threads)),
    )
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        make_folder(unfinished / _VERSION)
        (unfinished / "config.pbtxt").write_text(config)
        source = files("xdecoder_rt.serving").joinpath("triton_model.py")
        (unfinished / _VERSION / "model.py").write_bytes(source.read_bytes())
        with atomic_writer(unfinished / _VERSION / "model.plan") as target, plan.open("rb") as file:
            shutil.copyfileobj(file, target)
        os.replace(unfinished, folder)
    except OSError as error:
        raise ArgumentError(
            f"{quoted(str(folder), 200)} cannot be written: {error.strerror or error}",
            fix="choose another folder",
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder
