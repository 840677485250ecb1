"""The graphs of a plan as a list: which member is which graph, how large and exact it is."""

from __future__ import annotations

from typing import Any

from xdecoder_rt.plan.manifest import Graphs, Manifest

__all__ = ["graph_members", "graph_size", "member_errors"]


def graph_members(graphs: Graphs) -> list[tuple[str, str, str]]:
    """Return (graph, what it is for, member) of each graph of a plan."""
    groups = {
        "vision": graphs.vision,
        "frame": graphs.frame,
        "decode": graphs.decode,
        "mask": graphs.mask,
        "text": {"any": graphs.text},
        "token": {"any": graphs.token} if graphs.token is not None else {},
    }
    return [(name, key, member) for name, group in groups.items() for key, member in group.items()]


def graph_size(manifest: Manifest, member: str) -> int:
    """Return the bytes of a graph and of the weights that it shares with others or has alone."""
    names = (member, *manifest.weights.get(member, ()))
    return sum(manifest.members[name].size for name in names)


def member_errors(manifest: Manifest) -> dict[str, float]:
    """Return each graph's relative RMS error against PyTorch, measured when the plan was built."""
    measured: Any = manifest.accuracy.get("relative_rms_error_against_pytorch")
    if not isinstance(measured, dict):
        return {}
    return {
        str(name): float(value)
        for name, value in measured.items()
        if isinstance(value, int | float)
    }
