"""Folders on any file system through fsspec: list, read, and write all or nothing.

Local files keep their plain absolute path as their URI; everything else has its scheme.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

SCRATCH = ".tmp"
"""Folder under an output that holds unfinished local writes; on the same disk, so a rename is atomic."""


class StorageFullError(OSError):
    """The output has no space left: no file's fault, so the run stops."""


@dataclass(frozen=True)
class FileInfo:
    """One file of a listing."""

    relpath: str
    num_bytes: int
    version: str
    """Changes when the content does: the ETag, or the modification time in nanoseconds."""
    regular: bool
    """False for what must not be opened: pipes, sockets, links to nothing, links to folders."""


class Folder:
    """A folder by URI. Cheap to make: workers build their own from the URI.

    Raises:
        ValueError: the URI names a file system that fsspec does not know.
    """

    def __init__(self, uri: str) -> None:
        self.is_local = "://" not in uri or uri.startswith("file://")
        if self.is_local:
            # No fsspec URL parsing for plain paths: '::', '*' and '#' are letters there.
            self.fs: fsspec.AbstractFileSystem = LocalFileSystem()
            self.root = os.path.abspath(os.path.expanduser(uri.removeprefix("file://")))
        else:
            try:
                # No cached listings: other processes write into the same folders.
                self.fs, self.root = fsspec.url_to_fs(uri.rstrip("/"), use_listings_cache=False)
            except ImportError as error:
                raise ValueError(f"cannot open '{uri}': {error}") from error

    def path(self, relpath: str) -> str:
        """``relpath`` as the file system knows it."""
        return f"{self.root}/{relpath}"

    def uri(self, relpath: str = "") -> str:
        """``relpath`` as a person or another program would open it."""
        path = self.path(relpath).rstrip("/")
        return path if self.is_local else str(self.fs.unstrip_protocol(path))

    def exists(self, relpath: str = "") -> bool:
        """Whether there is such a file or folder."""
        return bool(self.fs.exists(self.path(relpath)))

    def real_root(self) -> str:
        """The folder behind all links, to tell whether two are the same."""
        return os.path.realpath(self.root) if self.is_local else self.uri()

    def is_empty(self) -> bool:
        """Whether there is nothing that a person would see."""
        names = self.fs.ls(self.root, detail=False) if self.exists() else []
        return all(name.rstrip("/").rsplit("/", 1)[-1].startswith(".") for name in names)

    def is_file(self) -> bool:
        """Whether the URI names one file, not a folder."""
        return bool(self.fs.isfile(self.root))

    def file(self, relpath: str) -> FileInfo:
        """One file, as ``files`` lists it."""
        if self.is_local:
            return self._local_file(relpath)
        return _remote_file(relpath, self.fs.info(self.path(relpath)))

    def files(self) -> Iterator[FileInfo]:
        """Every file below the folder, in any order.

        Raises:
            PermissionError: a folder that may not be listed; nothing is skipped in silence.
        """
        yield from self._local_files() if self.is_local else self._remote_files()

    def _local_files(self) -> Iterator[FileInfo]:
        def refuse(error: OSError) -> None:
            raise error

        for folder, folders, names in os.walk(self.root, onerror=refuse, followlinks=False):
            # Links to folders could lead in a circle: they are not followed, but not forgotten either.
            links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
            for name in names + links:
                yield self._local_file(os.path.relpath(os.path.join(folder, name), self.root))

    def _local_file(self, relpath: str) -> FileInfo:
        path = self.path(relpath)
        try:
            stat = os.stat(path)
        except OSError:  # a link to nothing, or a file that has just gone
            return FileInfo(relpath, 0, "", regular=False)
        return FileInfo(relpath, stat.st_size, str(stat.st_mtime_ns), regular=os.path.isfile(path))

    def _remote_files(self) -> Iterator[FileInfo]:
        for path, info in self.fs.find(self.root, detail=True).items():
            yield _remote_file(path.removeprefix(self.root).lstrip("/"), info)

    def read_bytes(self, relpath: str) -> bytes:
        """The whole file."""
        data: bytes = self.fs.cat_file(self.path(relpath))
        return data

    @contextlib.contextmanager
    def local_copy(self, relpath: str) -> Iterator[str]:
        """A local path with the file's content: the file itself, or a download that goes away."""
        if self.is_local:
            yield self.path(relpath)
            return
        with tempfile.TemporaryDirectory(prefix="nst-ops-") as scratch:
            local = os.path.join(scratch, "file" + os.path.splitext(relpath)[1])
            self.fs.get_file(self.path(relpath), local)
            yield local

    @contextlib.contextmanager
    def atomic_write(self, relpath: str) -> Iterator[Path]:
        """A local path to write to; the file appears under its name complete, or not at all.

        Raises:
            StorageFullError: there is no space left, here or in the quota.
        """
        with storage_full(self.uri()), self._scratch() as scratch:
            temporary = Path(scratch, uuid.uuid4().hex + os.path.splitext(relpath)[1])
            try:
                yield temporary
                if self.is_local:
                    target = self.path(relpath)
                    os.makedirs(os.path.dirname(target), exist_ok=True)
                    os.replace(temporary, target)
                else:
                    self.fs.put_file(str(temporary), self.path(relpath))
            finally:
                temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def atomic_write_folder(self, relpath: str) -> Iterator[Path]:
        """An empty local folder to write files to; it appears under its name whole, in place of an older one.

        On remote storage its files appear one by one, the last by name at the end.

        Raises:
            StorageFullError: there is no space left, here or in the quota.
        """
        with storage_full(self.uri()), self._scratch() as scratch:
            temporary = Path(scratch, uuid.uuid4().hex)
            temporary.mkdir()
            try:
                yield temporary
                self.remove(relpath)
                if self.is_local:
                    target = self.path(relpath)
                    os.makedirs(os.path.dirname(target), exist_ok=True)
                    os.replace(temporary, target)
                else:
                    for path in sorted(temporary.iterdir()):
                        self.fs.put_file(str(path), self.path(f"{relpath}/{path.name}"))
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    def write_bytes(self, relpath: str, data: bytes) -> None:
        """Write a file as ``atomic_write`` does."""
        with self.atomic_write(relpath) as temporary:
            temporary.write_bytes(data)

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[str]:
        if self.is_local:
            scratch = self.path(SCRATCH)
            os.makedirs(scratch, exist_ok=True)
            yield scratch
        else:
            with tempfile.TemporaryDirectory(prefix="nst-ops-") as scratch:
                yield scratch

    def remove_scratch(self) -> None:
        """Drop what killed runs left half-written."""
        if self.is_local:
            shutil.rmtree(self.path(SCRATCH), ignore_errors=True)

    def remove(self, relpath: str) -> None:
        """Delete a file or folder if it is there."""
        if self.exists(relpath):
            self.fs.rm(self.path(relpath), recursive=True)


def _remote_file(relpath: str, info: dict[str, Any]) -> FileInfo:
    keys = ("ETag", "etag", "LastModified", "last_modified", "mtime", "created")
    version = next((str(info[key]) for key in keys if info.get(key)), "")
    return FileInfo(relpath, int(info.get("size") or 0), version.strip('"'), regular=True)


@contextlib.contextmanager
def storage_full(uri: str) -> Iterator[None]:
    """Turn "no space left" and "over quota" within into ``StorageFullError``."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError(
                f"no space left on {uri}: free some and run the same command again, finished files are kept"
            ) from error
        raise
