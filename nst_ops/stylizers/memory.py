"""Memory of a device: how many frames fit, and the error for one that does not."""

from __future__ import annotations

import psutil
import torch


def frames_that_fit(height: int, width: int, bytes_per_frame: int, device: torch.device) -> int:
    """Return how many frames the free memory of the device holds at once; MemoryError if not even one."""
    free = free_bytes(device)
    if bytes_per_frame > free:
        raise too_large(height, width, bytes_per_frame, free)
    return free // bytes_per_frame


def free_bytes(device: torch.device) -> int:
    """Return the memory of the device that is free, or held by torch for what comes next."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))
    return int(psutil.virtual_memory().available)


def too_large(height: int, width: int, needed_bytes: int, free: int) -> MemoryError:
    """Make the error for a frame that does not fit, with its remedy."""
    return MemoryError(
        f"{width}x{height} pixels need about {needed_bytes / 2**30:.1f} GiB, {free / 2**30:.1f} free: "
        "set resize.max_side to a smaller size"
    )
