"""What a run tells while it works."""

from __future__ import annotations

__all__ = ["Progress"]


class Progress:
    """Takes what happens during a run; this one says nothing."""

    def step(self, text: str) -> None:
        """Begin a step."""

    def embedded(self, done: int, total: int) -> None:
        """Count sentences of words that are embedded."""

    def labelled(self, done: int, total: int, seconds: float) -> None:
        """Count pictures that are labelled, in so many seconds."""

    def failed(self, error: str) -> None:
        """Take note of a picture that is left out."""
