"""Memory of this process on a CPU: what it frees it keeps, for the next map of the same size.

The C library gives blocks of more than 32 MiB back to the system at once, and the system clears each page of the next
one: a fifth of the time of a network at 1080p. Only glibc can be told otherwise; elsewhere nothing changes.
"""

from __future__ import annotations

import ctypes

_LARGEST_BLOCK, _KEPT_AT_END = 1 << 29, 1 << 30  # bytes: the blocks that are kept, and what may be free at the end
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of malloc.h


class _MallInfo(ctypes.Structure):
    """The ``struct mallinfo2`` of glibc 2.33 and newer, all of bytes or counts."""

    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks")),
        *((name, ctypes.c_size_t) for name in ("uordblks", "fordblks", "keepcost")),
    ]


def keep_freed_memory() -> None:
    """Let this process keep blocks of up to 512 MiB that it frees; for processes whose network runs on the CPU."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_AT_END)
        # Threads share what is kept: each with an arena of its own would keep as much again, and no large block at all.
        mallopt(_M_ARENA_MAX, 1)


def kept_bytes() -> int:
    """Return the bytes that this process has freed and kept: to the system they are in use, and yet they can be had."""
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is None:
        return 0
    mallinfo2.restype = _MallInfo
    return int(mallinfo2().fordblks)
