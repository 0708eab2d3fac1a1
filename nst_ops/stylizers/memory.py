"""Memory of a device: how many frames fit, what is done where they did not, and the error for one that does not."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import psutil
import torch
from torch import Tensor

from nst_ops.models.host_memory import kept_bytes

T = TypeVar("T")

MAX_ELEMENTS = 2**31 - 1
"""Elements of a map on a GPU at most: kernels of torch and cuDNN count them in 32 bits."""

_ALLOCATION_FAILED = ("can't allocate memory", "ALLOC_FAILED", "CUDA error: out of memory")
"""What else than ``torch.OutOfMemoryError`` says so: torch on a CPU, cuBLAS and cuDNN, the driver."""

_HALF, _TOO_LITTLE = 0.5, 0.75  # of what was not enough: for fewer frames; for a frame in smaller tiles

_usable: dict[torch.device, float] = {}
"""Share of a device's free memory that this process counts on, where it ran out of memory before that was full."""
_held: dict[torch.device, int] = {}
"""Bytes of what torch keeps on a GPU that only recorded graphs can use."""

_ALL = sys.maxsize  # bytes: all that there are


class Room:
    """Memory of a device, which frames in flight in this process share."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.held_bytes = 0  # by frames in flight, allocated by now or not yet
        self.num_entered = 0


_rooms: defaultdict[torch.device, Room] = defaultdict(Room)


@dataclass
class Hold:
    """The part of a device's memory that is held for a call of a network."""

    device: torch.device
    room: Room
    number: int  # of this call among those of the process
    is_shared: bool  # whether others were in flight when it began

    @property
    def was_alone(self) -> bool:
        """Whether nothing else of this process has been in flight since it began."""
        return not self.is_shared and self.room.num_entered == self.number


@contextlib.contextmanager
def holding(num_bytes: int, device: torch.device, alone: bool = False) -> Iterator[Hold]:
    """Hold memory of the device for a call of a network.

    Waits while frames in other threads hold what is needed, or, to be ``alone``, anything. So memory is short in here
    only where it would be without them.
    """
    room = _rooms[device]
    with room.changed:
        # What they hold may be allocated by now, or not yet: as if it were still to be taken from what is free.
        while room.held_bytes and (alone or free_bytes(device) - room.held_bytes < num_bytes):
            room.changed.wait()
        is_shared, held = room.held_bytes > 0, _ALL if alone else num_bytes
        room.held_bytes += held
        room.num_entered += 1
        hold = Hold(device, room, room.num_entered, is_shared)
    try:
        yield hold
    finally:
        with room.changed:
            room.held_bytes -= held
            room.changed.notify_all()


def stylize_in_parts(
    stylize: Callable[[slice], Any],
    count: int,
    size: tuple[int, int],
    bytes_per_frame: int,
    elements_per_frame: int,
    device: torch.device,
    at_most: int = sys.maxsize,
) -> Any:
    """Stylize ``count`` frames of a height and a width, as many at once as the device holds, and ``at_most``.

    ``stylize`` takes those of a slice, and gives an array or a tensor. Raises MemoryError where the device does not
    hold one.
    """
    parts: list[Any] = []
    first, alone = 0, False
    while first < count:
        with holding(min(at_most, count - first) * bytes_per_frame, device, alone) as hold:
            fits = min(at_most, frames_that_fit(*size, bytes_per_frame, device, elements_per_frame))
            some = slice(first, min(first + fits, count))
            part = attempt(partial(stylize, some), some.stop - first, bytes_per_frame, hold)
        alone = part is None
        if part is not None:
            parts.append(part)
            first = some.stop
    return concatenated(parts)


def concatenated(parts: Sequence[Any]) -> Any:
    """Return arrays, or tensors, as one."""
    return torch.cat(list(parts)) if isinstance(parts[0], Tensor) else np.concatenate(parts)


def attempt(run: Callable[[], T], count: int, bytes_per_frame: int, hold: Hold) -> T | None:
    """Return what ``run`` makes of ``count`` frames; or None after it ran out of the memory that it was promised.

    To be tried again alone. Where it was alone, less is counted on from then on: half as many frames would be taken to
    fit, and one alone no longer would.
    """
    device = hold.device
    try:
        return run()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    if device.type == "cuda":  # out of the handler, whose traceback has kept all maps alive
        torch.cuda.empty_cache()
    if hold.was_alone:
        # What was promised may have gone to another process on the card, to fragments, or to a kernel's workspace.
        promised, less = count * bytes_per_frame / free_bytes(device), _HALF if count > 1 else _TOO_LITTLE
        _usable[device] = _usable.get(device, 1.0) * less * min(1.0, promised)
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that an allocation failed, on whichever device."""
    known = isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in _ALLOCATION_FAILED)
    return isinstance(error, RuntimeError) and known


def frames_that_fit(
    height: int, width: int, bytes_per_frame: int, device: torch.device, elements_per_frame: int = 1
) -> int:
    """Return how many frames the device holds at once; MemoryError if not even one.

    They take ``bytes_per_frame`` of its free memory, and on a GPU their largest map has ``elements_per_frame``.
    """
    free = free_bytes(device)
    fits = min(free // bytes_per_frame, max_elements(device) // elements_per_frame)
    if not fits:
        raise too_large(height, width, bytes_per_frame, free)
    return fits


def max_elements(device: torch.device) -> int:
    """Return how many elements a map may have on a device."""
    return MAX_ELEMENTS if device.type == "cuda" else sys.maxsize


def free_bytes(device: torch.device) -> int:
    """Return the memory of the device that is free, or kept by this process for what comes next."""
    if device.type == "cuda":
        # Of what this process has reserved, the part that it does not use.
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device) - _held.get(device, 0)
        free = int(torch.cuda.mem_get_info(device)[0]) + unused
    else:
        free = int(psutil.virtual_memory().available) + kept_bytes()
    return int(free * _usable.get(device, 1.0))


def hold(device: torch.device, num_bytes: int) -> None:
    """Count bytes that torch keeps on a GPU as taken; negative ones are free again."""
    _held[device] = _held.get(device, 0) + num_bytes


def too_large(height: int, width: int, needed_bytes: int, free: int) -> MemoryError:
    """Make the error for a frame that does not fit, with its remedy."""
    return MemoryError(
        f"{width}x{height} pixels need about {needed_bytes / 2**30:.1f} GiB, {free / 2**30:.1f} free: "
        "run again with --retry-failed where more is free, or into another output with a smaller --resize.max_side"
    )
