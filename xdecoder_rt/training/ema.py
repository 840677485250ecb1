"""Exponential moving average of a model's weights."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


class WeightAverage(Generic[M]):
    """Keeps a copy of a model that follows its weights slowly.

    The first steps count more (``decay <= (1 + n) / (10 + n)``), so that a short run is not held
    back by its random start. Floating buffers (batch statistics) are averaged too, others copied.

    Args:
        model: what to follow.
        decay: share of the average that a step keeps, 0 to 1.
    """

    def __init__(self, model: M, decay: float) -> None:
        self.model: M = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards a model.

        Args:
            model: the model after a step.
            step: number of steps taken, from 1.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        averages, values = [], []
        current = model.state_dict()
        for name, average in self.model.state_dict().items():
            if average.is_floating_point():
                averages.append(average)
                values.append(current[name])
            else:
                average.copy_(current[name])
        torch._foreach_lerp_(averages, values, 1 - decay)
