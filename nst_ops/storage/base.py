"""The protocol of a tree of files, and the errors of a whole storage."""

# ruff: noqa: D102, what the methods of a tree do is described in ``Folder``, or beside them

from __future__ import annotations

import contextlib
import errno
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import fsspec

from nst_ops.storage.names import NameRules

Links = Literal["inside", "to files", "all"]
"""Symbolic links that a listing follows: to files that lie in the folder itself, to files, or also to folders."""

A_FOLDER = "it is a folder, and a list names files: give it as --input, or its files by a pattern, 'FOLDER/**'"
"""Why an entry of a list cannot be opened."""

Enters: TypeAlias = Callable[[str], bool]
"""Whether a listing enters a folder, by its path, which ends with a slash."""


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
    """One file of a listing, or a folder that was not listed: the path of a folder ends with a slash."""

    relpath: str
    num_bytes: int
    version: str  # changes when the content does: the ETag, or the modification time in nanoseconds
    problem: str = ""  # why it must not be opened: a pipe, a socket, a link that leads nowhere or elsewhere

    @property
    def regular(self) -> bool:
        """Whether it may be opened."""
        return not self.problem


def unlisted(folder: str, error: OSError) -> FileInfo:
    """Describe a folder that cannot be listed, its path with a slash at the end, and what to do about it."""
    remedy = "check the disk, or the mount, that it lies on"
    if isinstance(error, PermissionError):
        remedy = "allow it (chmod u+rx), run as an account that may, or move it elsewhere"
    reason = error.strerror or str(error) or type(error).__name__
    problem = f"the folder '{folder.rstrip('/')}' cannot be listed ({reason}): {remedy}, then run again"
    return FileInfo(folder, 0, "", problem)


class Tree(ABC):
    """Files below a root, by relative path. One subclass for each way to reach files."""

    scratch: str | None  # folder for unfinished files; None: the temporary folder of this machine

    def __init__(self, fs: fsspec.AbstractFileSystem, root: str) -> None:
        self.fs = fs
        self.root = root

    def path(self, relpath: str) -> str:
        return f"{self.root.rstrip('/')}/{relpath}" if self.root else relpath

    def remove_many(self, relpaths: Iterable[str]) -> None:
        for relpath in relpaths:
            self.remove(relpath)

    @abstractmethod
    def name_rules(self) -> NameRules: ...  # what it takes as names of files below the root
    @abstractmethod
    def uri(self, relpath: str) -> str: ...
    @abstractmethod
    def kind(self, relpath: str) -> str | None: ...  # ``file`` or ``directory``; None if there is neither
    @abstractmethod
    def file(self, relpath: str) -> FileInfo: ...
    @abstractmethod
    def files(self, links: Links, enters: Enters | None) -> Iterator[FileInfo]: ...
    @abstractmethod
    def names(self, relpath: str) -> Iterator[str]: ...  # in one folder, in any order
    @abstractmethod
    def read(self, relpath: str, start: int | None = None, end: int | None = None) -> bytes: ...
    @abstractmethod
    def place(self, temporary: Path, relpath: str) -> None: ...  # a finished local file or folder under its name
    @abstractmethod
    def rename(self, source: str, target: str) -> None: ...
    @abstractmethod
    def remove(self, relpath: str) -> None: ...
    @abstractmethod
    def remove_scratch(self) -> None: ...
