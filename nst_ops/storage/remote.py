"""A remote file that is read by ranges, or downloaded in several streams."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from typing_extensions import Buffer

from nst_ops.storage.base import FileInfo, Tree

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


class RemoteTree(Tree):
    """A remote folder: files are written on this machine and appear when they are uploaded."""

    scratch = None

    def uri(self, relpath: str) -> str:
        """The path with its scheme."""
        return str(self.fs.unstrip_protocol(self.path(relpath).rstrip("/")))

    def exists(self, relpath: str) -> bool:
        """Whether there is such a file or folder."""
        return self._type(relpath) is not None

    def is_file(self) -> bool:
        """Whether the root is a file."""
        return self._type("") == "file"

    def _type(self, relpath: str) -> str | None:
        """``file``, ``directory``, or None; not by ``fs.exists``, which takes any error for a no."""
        try:
            return str(self.fs.info(self.path(relpath).rstrip("/"))["type"])
        except FileNotFoundError:
            return None

    def file(self, relpath: str) -> FileInfo:
        """One file, as ``files`` lists it."""
        return file_info(relpath, self.fs.info(self.path(relpath)))

    def files(self) -> Iterator[FileInfo]:
        """Every file, folder by folder."""
        if not self.exists(""):
            return
        for folder, _, infos in self.fs.walk(self.root, detail=True, on_error="raise"):
            for name, info in infos.items():
                yield file_info(f"{folder}/{name}".removeprefix(self.root).lstrip("/"), info)

    def names(self, relpath: str) -> Iterator[str]:
        """Names in one folder."""
        try:
            paths = self.fs.ls(self.path(relpath).rstrip("/"), detail=False)
        except FileNotFoundError:
            return
        yield from (path.rstrip("/").rsplit("/", 1)[-1] for path in paths)

    def read(self, relpath: str, start: int | None = None, end: int | None = None) -> bytes:
        """The file, or a part of it."""
        data: bytes = self.fs.cat_file(self.path(relpath), start=start, end=end)
        return data

    def place(self, temporary: Path, relpath: str) -> None:
        """Upload a file, or the files of a folder in the order of their names."""
        if not temporary.is_dir():
            self.upload(temporary, relpath)
            return
        self.remove(relpath)
        for path in sorted(temporary.iterdir()):
            self.upload(path, f"{relpath}/{path.name}")

    def upload(self, path: Path, relpath: str) -> None:
        """Upload a file; it appears whole or not at all."""
        self.fs.put_file(str(path), self.path(relpath))

    def rename(self, source: str, target: str) -> None:
        """Copy the file on the server and delete the old one."""
        self.fs.cp_file(self.path(source), self.path(target))
        self.fs.rm_file(self.path(source))

    def remove(self, relpath: str) -> None:
        """Delete a file or folder if it is there."""
        if self.exists(relpath):
            self.fs.rm(self.path(relpath), recursive=True)

    def remove_scratch(self) -> None:
        """Nothing: unfinished files lie in temporary folders of the machines."""


def file_info(relpath: str, info: dict[str, Any]) -> FileInfo:
    """A file from what its file system says of it."""
    keys = ("ETag", "etag", "LastModified", "last_modified", "mtime", "created")
    version = next((str(info[key]) for key in keys if info.get(key)), "")
    return FileInfo(relpath, int(info.get("size") or 0), version.strip('"'), regular=True)
