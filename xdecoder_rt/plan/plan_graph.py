"""A graph of an open plan, as backends take it: its bytes, or only what tells it from others."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from xdecoder_rt.plan.file import Plan

__all__ = ["PlanGraph"]


@dataclass(frozen=True)
class PlanGraph:
    """A graph of an open plan.

    Attributes:
        plan: the plan.
        name: of the graph's member.
    """

    plan: Plan
    name: str

    def __call__(self) -> bytes:
        """Return the graph with its weights in it, walked: `Plan.graph`."""
        return self.plan.graph(self.name)

    def digest(self) -> str:
        """Return one SHA-256 for the graph and its weights, whose bytes are read and checked now.

        Nothing is walked or put together, and no more than a part of a member is in memory.

        Raises:
            PlanError: a member is damaged or cannot be read, or the plan is closed.
        """
        digest = hashlib.sha256()
        for member in (self.name, *self.plan.manifest.weights.get(self.name, ())):
            for _ in self.plan.chunks(member):
                pass
            digest.update(f"{member} {self.plan.manifest.members[member].sha256}\n".encode())
        return digest.hexdigest()
