"""The protocol of a tree of files, and the errors of a whole storage."""

from __future__ import annotations

import contextlib
import errno
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec


class StorageError(OSError):
    """The storage cannot be used: no file's fault, so it never becomes the failure of a file."""


class StorageFullError(StorageError):
    """The output has no space left, so the run stops."""

    @classmethod
    def of(cls, uri: str) -> StorageFullError:
        """Make the error for a folder, with the remedy."""
        return cls(f"no space left on {uri}: free some and run the same command again, finished files are kept")


class StorageUnavailableError(StorageError):
    """The storage does not answer after all tries, or refuses these credentials: try again later."""


@contextlib.contextmanager
def storage_full_errors(uri: str) -> Iterator[None]:
    """Turn "no space left" and "over quota" within into ``StorageFullError``."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError.of(uri) from error
        raise


@dataclass(frozen=True)
class FileInfo:
    """One file of a listing."""

    relpath: str
    num_bytes: int
    version: str
    """Changes when the content does: the ETag, or the modification time in nanoseconds."""
    regular: bool
    """False for what must not be opened: pipes, sockets, links to nothing, links to folders."""


class Tree(ABC):
    """Files below a root, by relative path. One subclass for each way to reach files."""

    scratch: str | None
    """Folder for unfinished files; None: the temporary folder of this machine."""

    def __init__(self, fs: fsspec.AbstractFileSystem, root: str) -> None:
        self.fs = fs
        self.root = root

    def path(self, relpath: str) -> str:
        """Return ``relpath`` as the file system knows it."""
        return f"{self.root.rstrip('/')}/{relpath}" if self.root else relpath

    @abstractmethod
    def uri(self, relpath: str) -> str:
        """Return ``relpath`` as a person or another program would open it."""

    @abstractmethod
    def kind(self, relpath: str) -> str | None:
        """Return ``file`` or ``directory``; None if there is neither."""

    @abstractmethod
    def file(self, relpath: str) -> FileInfo:
        """Describe one file, as ``files`` lists it."""

    @abstractmethod
    def files(self) -> Iterator[FileInfo]:
        """List every file, in any order; no more than a page of them in memory."""

    @abstractmethod
    def names(self, relpath: str) -> Iterator[str]:
        """List the names in one folder; none if there is no such folder."""

    @abstractmethod
    def read(self, relpath: str, start: int | None = None, end: int | None = None) -> bytes:
        """Read a file, or its bytes from ``start`` to before ``end``."""

    @abstractmethod
    def place(self, temporary: Path, relpath: str) -> None:
        """Give a finished local file or folder its name in the tree."""

    @abstractmethod
    def rename(self, source: str, target: str) -> None:
        """Give a file of the tree another name."""

    @abstractmethod
    def remove(self, relpath: str) -> None:
        """Delete a file or folder if it is there."""

    def remove_many(self, relpaths: Iterable[str]) -> None:
        """Delete files if they are there."""
        for relpath in relpaths:
            self.remove(relpath)

    @abstractmethod
    def remove_scratch(self) -> None:
        """Delete what killed writers left unfinished."""
