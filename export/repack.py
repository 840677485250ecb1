"""A smaller plan out of an existing portable one; needs neither PyTorch nor ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from xdecoder_rt.errors import BuildError
from xdecoder_rt.plan.external import WEIGHTS
from xdecoder_rt.plan.file import Plan, write_plan
from xdecoder_rt.plan.manifest import Manifest, size_key
from xdecoder_rt.plan.sharing import in_current_form


def repack_portable(
    source: Path, output: Path, sizes: Sequence[tuple[int, int]] | None = None
) -> Manifest:
    """Write a portable plan anew, with all or some of its input sizes.

    Every member's digest is verified on the way.

    Args:
        source: a portable plan.
        output: the plan to write.
        sizes: the input sizes to keep; None keeps all. That for texts is kept.

    Raises:
        PlanError: the source is not a sound plan.
        BuildError: it is not portable, or lacks a size that was asked for.
    """
    with Plan.open(source) as plan:
        manifest, kept = _kept_members(plan, sizes)
        for name in manifest.graphs.members():
            plan.walk(name)  # read again when it is written
        members = {name: partial(plan.chunks, name) for name in kept}
        return write_plan(output, *in_current_form(manifest, members))


def portable_members(
    source: Path, sizes: Sequence[tuple[int, int]] | None = None
) -> tuple[dict[str, bytes], Manifest]:
    """Return the members of a portable plan that some of its input sizes need, and a manifest.

    Graphs have their weights in them.

    Args:
        source: a portable plan; its file may be replaced while the members are in use.
        sizes: the input sizes to keep; None keeps all.

    Raises:
        PlanError: the source is not a sound plan.
        BuildError: it is not portable, or lacks a size that was asked for.
    """
    with Plan.open(source) as plan:
        manifest, kept = _kept_members(plan, sizes)
        graphs = manifest.graphs.members()
        others = [name for name in kept if name not in graphs and not name.startswith(WEIGHTS)]
        members = {name: plan.graph(name) for name in graphs}
        return {**members, **{name: plan.read(name) for name in others}}, manifest


def _kept_members(
    plan: Plan, sizes: Sequence[tuple[int, int]] | None
) -> tuple[Manifest, list[str]]:
    """Return a manifest with some of a plan's input sizes, and the members that it needs."""
    manifest = plan.manifest
    if manifest.backend != "portable":
        raise BuildError(
            f"{plan.path} is a {manifest.backend} plan",
            expected="a portable plan, from which others can be built",
        )
    kept_sizes = tuple(manifest.input.sizes if sizes is None else sizes)
    absent = [size_key(size) for size in kept_sizes if size not in manifest.input.sizes]
    if absent or not kept_sizes:
        available = ", ".join(size_key(size) for size in manifest.input.sizes)
        raise BuildError(
            f"{plan.path} has no graphs for {', '.join(absent) or 'no size at all'}",
            expected=f"some of its own sizes: {available}",
            fix="Build from the checkpoint to add a size",
        )
    inputs = replace(manifest.input, sizes=kept_sizes)
    keys = {size_key(size) for size in inputs.all_sizes}
    graphs = manifest.graphs

    def with_kept_sizes(members: Mapping[str, str]) -> dict[str, str]:
        return {key: member for key, member in members.items() if key in keys}

    slimmer = replace(
        graphs,
        vision=with_kept_sizes(graphs.vision),
        decode=with_kept_sizes(graphs.decode),
        mask=with_kept_sizes(graphs.mask),
    )
    kept_graphs = set(slimmer.members())
    weights = {name: used for name, used in manifest.weights.items() if name in kept_graphs}
    every_weight = {name for used in manifest.weights.values() for name in used}
    dropped = set(graphs.members()) - kept_graphs
    dropped |= every_weight.difference(*weights.values())
    updated = replace(manifest, graphs=slimmer, input=inputs, weights=weights)
    return updated, [name for name in plan.names if name not in dropped]
