"""What a folder needs of its file system."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec


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
    """Files below a root, by relative path; ``Folder`` says what each method promises."""

    scratch: str | None
    """Where unfinished files lie; None: in the machine's temporary folder."""

    def __init__(self, fs: fsspec.AbstractFileSystem, root: str) -> None:
        self.fs = fs
        self.root = root

    def path(self, relpath: str) -> str:
        """``relpath`` as the file system knows it."""
        return f"{self.root.rstrip('/')}/{relpath}" if self.root else relpath

    @abstractmethod
    def uri(self, relpath: str) -> str:
        """``relpath`` as a person or another program would open it."""

    @abstractmethod
    def exists(self, relpath: str) -> bool:
        """Whether there is such a file or folder."""

    @abstractmethod
    def is_file(self) -> bool:
        """Whether the root is a file."""

    @abstractmethod
    def file(self, relpath: str) -> FileInfo:
        """One file, as ``files`` lists it."""

    @abstractmethod
    def files(self) -> Iterator[FileInfo]:
        """Every file."""

    @abstractmethod
    def names(self, relpath: str) -> Iterator[str]:
        """Names of the files and folders in one folder; none if there is no such folder."""

    @abstractmethod
    def read(self, relpath: str, start: int | None = None, end: int | None = None) -> bytes:
        """The file, or its bytes from ``start`` to before ``end``."""

    @abstractmethod
    def place(self, temporary: Path, relpath: str) -> None:
        """Give a finished local file or folder its name."""

    @abstractmethod
    def rename(self, source: str, target: str) -> None:
        """Give a finished file of the tree another name."""

    @abstractmethod
    def remove(self, relpath: str) -> None:
        """Delete a file or folder if it is there."""

    def remove_many(self, relpaths: Iterable[str]) -> None:
        """Delete files if they are there."""
        for relpath in relpaths:
            self.remove(relpath)

    @abstractmethod
    def remove_scratch(self) -> None:
        """Drop what killed writers left."""
