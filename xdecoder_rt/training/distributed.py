"""One process or many: what `torchrun` says, and the few collectives that training needs."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist


@dataclass(frozen=True)
class World:
    """The processes of a run.

    Attributes:
        rank: number of this process.
        size: number of processes.
        local_rank: number of this process on its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @classmethod
    def from_environment(cls) -> World:
        """Read what ``torchrun`` has put into the environment; one process without it."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        rank, size, local_rank = (
            int(os.environ.get(name, default)) for name, default in zip(names, "010", strict=True)
        )
        return cls(rank, size, local_rank)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """Return this process's device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cuda":
            name = f"cuda:{self.local_rank}"
        return torch.device(name)

    def join(self, device: torch.device) -> None:
        """Meet the other processes, where there are any."""
        if self.size > 1:
            if device.type == "cuda":
                torch.cuda.set_device(device)
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")

    def leave(self) -> None:
        """Part from the other processes."""
        if dist.is_initialized():
            dist.destroy_process_group()


def mean_over_processes(value: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes; itself where there is one."""
    if dist.is_initialized():
        dist.all_reduce(value)
        value = value / dist.get_world_size()
    return value


def from_all_processes(value: Tensor) -> Tensor:
    """Equally shaped tensors of all processes, joined along the first axis.

    With a gradient for the process's own: every process takes the same loss of all of them and
    gradients are averaged afterwards, so each counts once for every process.
    """
    if not dist.is_initialized():
        return value
    local_value, size = value.detach().contiguous(), dist.get_world_size()
    parts = [torch.empty_like(local_value) for _ in range(size)]
    dist.all_gather(parts, local_value)
    if value.requires_grad:
        # The value is exactly the same; its gradient is multiplied.
        parts[dist.get_rank()] = local_value + size * (value - local_value)
    return torch.cat(parts)


def any_process(flag: bool, device: torch.device) -> bool:
    """Return whether the flag is set in any process."""
    if not dist.is_initialized():
        return flag
    value = torch.tensor(float(flag), device=device)
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return bool(value.item())


def from_main_process(value: float, device: torch.device) -> float:
    """Return the main process's value, in all."""
    if not dist.is_initialized():
        return value
    tensor = torch.tensor(value, dtype=torch.float64, device=device)
    dist.broadcast(tensor, 0)
    return float(tensor.item())
