"""A remote file that is read by ranges, or downloaded in several streams."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import BinaryIO

from typing_extensions import Buffer

_DOWNLOAD_BLOCK_BYTES = 16 * 2**20
_DOWNLOAD_STREAMS = 4
"""One stream of S3 carries some 50 to 90 MB/s."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a remote folder, not downloaded."""

    name: str
    """Base name, which tells the format."""
    num_bytes: int
    read_range: Callable[[int, int], bytes] = field(repr=False)
    """The bytes from a start to before an end, in one request."""

    def open(self, block_bytes: int = 2**20) -> BinaryIO:
        """The file for reading and seeking; nothing is requested before the first read.

        Args:
            block_bytes: bytes of a request at least: large to read on and on, small to read here and there.
        """
        return io.BufferedReader(_RangeReader(self), block_bytes)

    def download(self, path: str) -> None:
        """Write the whole file to a local path."""

        def fetch(start: int) -> None:
            end = min(start + _DOWNLOAD_BLOCK_BYTES, self.num_bytes)
            os.pwrite(file.fileno(), self.read_range(start, end), start)

        with open(path, "wb") as file, ThreadPoolExecutor(_DOWNLOAD_STREAMS) as streams:
            for _ in streams.map(fetch, range(0, self.num_bytes, _DOWNLOAD_BLOCK_BYTES)):
                pass


class _RangeReader(io.RawIOBase):
    """Turns reads into range requests; ``io.BufferedReader`` turns small reads into blocks."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._file.num_bytes}[whence]
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer).cast("B")
        end = min(self._position + len(view), self._file.num_bytes)
        if self._position >= end:
            return 0
        data = self._file.read_range(self._position, end)
        if len(data) != end - self._position:
            raise OSError(f"{self._file.name} has become shorter while it was read")
        view[: len(data)] = data
        self._position = end
        return len(data)
