"""The progress of a run, and the learning rate that follows from it.

The schedule is a function of progress from 0 to 1, and warm-up takes at most a tenth of it, however
short the run turns out: under a time budget the number of steps follows from the machine, and a
warm-up that never ends would be all there is. Counting steps, progress is the share of steps
done. Under a time budget the number of steps is not known: after each step the rest of the
schedule is divided by the number of steps that still fit, so the rate reaches its end with the
last step that does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_SPEED_DECAY = 0.97
_POLY_POWER = 0.9
WARMUP_SHARE = 0.1
"""Most of a run that warm-up takes, but for its first few steps."""
# Steps. A first step that is slow by itself uses up much of the time, and is no reason for AdamW,
# which knows no second moments yet, to begin at the full rate.
_LEAST_WARMUP = 5


@dataclass
class TrainingProgress:
    """Position of a run in its schedule; its fields are saved and restored.

    Attributes:
        step: steps done.
        fraction: progress at which the next step's rate is read, 0 to 1.
        seconds: time used, interruptions not counted.
        step_seconds: running mean of the time from one step's end to the next's, validation and
            saving included; 0 before the first.
    """

    step: int = 0
    fraction: float = 0.0
    seconds: float = 0.0
    step_seconds: float = 0.0

    def advance_to_step_limit(self, seconds: float, steps: int) -> None:
        """Count a step of a run of `steps` steps."""
        self._count(seconds)
        self.fraction = min(1.0, self.step / steps)

    def advance_to_time_limit(self, seconds: float, budget: float, reserve: float = 0.0) -> None:
        """Count a step of a run that may take `budget` seconds.

        Args:
            seconds: time the step took.
            budget: time of the whole run.
            reserve: time to leave at the end, for the last validation and saving.
        """
        self._count(seconds)
        self.fraction += (1 - self.fraction) / (self.steps_left(budget - reserve) + 1)

    def steps_left(self, budget: float) -> int:
        """Steps that still fit into a budget at the speed measured."""
        return max(0, int((budget - self.seconds) / max(self.step_seconds, 1e-9)))

    @property
    def finished(self) -> bool:
        """Whether the schedule has ended."""
        return self.fraction >= 1.0 - 1e-9

    def _count(self, seconds: float) -> None:
        self.step += 1
        self.seconds += seconds
        # The weight of the first steps makes the running mean a plain mean at first.
        keep = min(_SPEED_DECAY, 1 - 1 / self.step)
        self.step_seconds = keep * self.step_seconds + (1 - keep) * seconds


def rate_factor(progress: TrainingProgress, warmup_steps: int, schedule: str) -> float:
    """Return the factor of the peak learning rate in the next step.

    Args:
        progress: where the run is.
        warmup_steps: steps of linear warm-up, which ends sooner where a tenth of the run is less.
        schedule: ``cosine`` or ``poly``.
    """
    shortened = min(progress.fraction / WARMUP_SHARE, (progress.step + 1) / (_LEAST_WARMUP + 1))
    warm = min(1.0, max((progress.step + 1) / (warmup_steps + 1), shortened))
    remaining = max(0.0, 1 - progress.fraction)
    decay = (
        0.5 * (1 + math.cos(math.pi * (1 - remaining)))
        if schedule == "cosine"
        else remaining**_POLY_POWER
    )
    return warm * decay
