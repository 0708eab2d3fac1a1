"""Copies between host and device: through pinned memory, on streams of their own, beside what the device computes.

A copy from pageable memory is made by the driver in two steps, holds up the thread that asks for it, and waits for all
that the device was told before.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Download:
    """A copy on its way to the host."""

    host: Tensor
    arrived: torch.cuda.Event | None  # None where nothing had to be copied

    def result(self) -> Array:
        """Wait for the copy, without keeping a core busy; return the array, which is the caller's own."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.host.numpy()


class HostCopies:
    """Copies of arrays to a device and back; a CPU shares the memory instead. Any number of threads may use it.

    Pinned memory is torch's own: a buffer is used again as soon as its copy has arrived and nobody holds it.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            self._up, self._down = torch.cuda.Stream(device), torch.cuda.Stream(device)

    def up(self, array: Array) -> Tensor:
        """Return a tensor on the device, of the shape and type of ``array``, which may change afterwards.

        On a GPU this returns before the copy has arrived: the current stream waits for it. On a CPU the tensor shares
        the memory of a contiguous, writable array.
        """
        host = torch.from_numpy(np.require(array, requirements=("C", "W")))
        if self.device.type != "cuda":
            return host.to(self.device)
        pinned = torch.empty(host.shape, dtype=host.dtype, pin_memory=True).copy_(host)
        current = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._up):
            x = pinned.to(self.device, non_blocking=True)
        current.wait_stream(self._up)
        x.record_stream(current)  # allocated on another stream, its memory must outlast what this one does with it
        return x

    def down(self, x: Tensor) -> Download:
        """Start the copy of a tensor to the host, after what the current stream does to it up to now."""
        x = x.contiguous()
        if self.device.type != "cuda":
            return Download(x.cpu(), None)
        self._down.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._down):
            host = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
            host.copy_(x, non_blocking=True)
            arrived = torch.cuda.Event(blocking=True)
            arrived.record()
        x.record_stream(self._down)
        return Download(host, arrived)


@functools.cache
def host_copies(device: torch.device) -> HostCopies:
    """Return the copies to and from a device, one pair of streams for all of the process."""
    return HostCopies(device)
