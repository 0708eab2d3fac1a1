"""Where a video is read from: a local path, or a remote file of which only ranges are fetched."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

_FIRST_BYTES = 2**16
_MOST_BYTES = 2**22
"""Bytes of a request: the first one somewhere in a file, and after enough of them one after the other."""
_BLOCKS_KEPT = 4
"""Header, sound and picture may lie far from each other."""


class MediaFile(Protocol):
    """A file on remote storage, as far as readers of videos need to know it."""

    @property
    def name(self) -> str:
        """Base name, which tells the format of a raw stream."""

    @property
    def num_bytes(self) -> int:
        """Size of the file."""

    @property
    def read_range(self) -> Callable[[int, int], bytes]:
        """Gives the bytes from a start to before an end, in one request."""


MediaSource = str | MediaFile
"""A local path, or a remote file."""


def size_of(source: MediaSource) -> int:
    """Size in bytes."""
    return os.path.getsize(source) if isinstance(source, str) else source.num_bytes


class RangeInput:
    """A source as libavformat reads it through Python, in blocks that grow by half while it reads on.

    So a header costs little, and a long stretch few requests and little more than its own bytes.
    libavformat goes on reading after an error: PyAV raises the first one as it is, and from there on the
    file is at its end.
    """

    def __init__(self, source: MediaSource) -> None:
        self.name = source if isinstance(source, str) else source.name
        self.num_bytes = size_of(source)
        self._read_range = partial(_read_local, source) if isinstance(source, str) else source.read_range
        self._blocks: deque[tuple[int, bytes]] = deque(maxlen=_BLOCKS_KEPT)
        self._position = 0
        self._has_failed = False

    def read(self, num_bytes: int) -> bytes:
        """So many bytes, fewer only at the end."""
        pieces = []
        while num_bytes > 0 and self._position < self.num_bytes and not self._has_failed:
            piece = self._piece(self._position, num_bytes)
            self._position += len(piece)
            num_bytes -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """The new position."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.num_bytes}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def _piece(self, start: int, num_bytes: int) -> bytes:
        """Some of the bytes from a position on, at least one."""
        for first, data in self._blocks:
            if first <= start < first + len(data):
                return data[start - first : start - first + num_bytes]
        return self._fetch(start)[:num_bytes]

    def _fetch(self, start: int) -> bytes:
        """The block from a position on, longer than one that ends there or a little before."""
        gaps = [(start - first - len(data), len(data)) for first, data in self._blocks]
        before = max((length for gap, length in gaps if 0 <= gap < _FIRST_BYTES), default=0)
        end = min(start + min(max(_FIRST_BYTES, before * 3 // 2), _MOST_BYTES), self.num_bytes)
        try:
            data = self._read_range(start, end)
            if len(data) != end - start:
                raise OSError(f"{self.name} has become shorter while it was read")
        except Exception:
            self._has_failed = True
            raise
        self._blocks.append((start, data))
        return data


def _read_local(path: str, start: int, end: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(start)
        return file.read(end - start)
