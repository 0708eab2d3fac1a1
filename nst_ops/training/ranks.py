"""The few things workers that train together must agree on; alone, there is nothing to agree on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """This worker's place among ``world`` workers."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this worker is the one that reads, writes and reports."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all workers; the same on each. NaN anywhere is NaN everywhere."""
        if self.world > 1:
            dist.all_reduce(values)
            values = values / self.world
        return values

    def share(self, value: Any) -> Any:
        """What the first worker has; other workers' values do not matter. Waits for all."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, device=_device())
        return box[0]


def _device() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
