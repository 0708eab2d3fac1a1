"""Folders on any file system, whichever tree they work on."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from nst_ops.storage.base import Enters, FileInfo, Links, Tree, storage_full_errors
from nst_ops.storage.local import LocalTree, local_path, readable
from nst_ops.storage.names import NameRules, leads_out
from nst_ops.storage.remote import S3_SCHEMES, RangeReader, RemoteFile, RemoteTree, connect
from nst_ops.storage.scratch import ScratchFolder


class Folder:
    """A folder by URI. Cheap to make: workers build their own from the URI.

    On S3 every method raises ``StorageUnavailableError`` if the storage does not answer after all tries or refuses the
    credentials, and ``PermissionError`` or ``FileNotFoundError`` for one file that cannot be had. Raises ValueError if
    fsspec does not know the URI's file system, or where a path to write or delete leads out of the folder; ConfigError
    if the URI holds credentials.
    """

    def __init__(self, uri: str) -> None:
        path = local_path(uri)
        self.is_local = path is not None
        self._tree = _remote_tree(uri) if path is None else LocalTree(path)
        self.fs, self.root = self._tree.fs, self._tree.root

    def path(self, relpath: str) -> str:
        """Return ``relpath`` as the file system knows it."""
        return self._tree.path(relpath)

    def uri(self, relpath: str = "") -> str:
        """Return ``relpath`` as a person or another program would open it."""
        return self._tree.uri(relpath)

    def exists(self, relpath: str = "") -> bool:
        """Return whether there is such a file or folder."""
        return self._tree.kind(relpath) is not None

    def real_root(self) -> str:
        """Return the folder behind all links, to tell whether two are the same."""
        return os.path.realpath(self.root) if self.is_local else self.uri()

    def name_rules(self) -> NameRules:
        """Return what the storage takes as names of files below the folder; a disk is asked by a scratch folder."""
        return self._tree.name_rules()

    def relpath_of(self, uri: str) -> str | None:
        """Return the path of a file by its URI; None for one outside of the folder."""
        relpath = uri.removeprefix(self.uri("x").removesuffix("x"))
        return None if relpath == uri or leads_out(relpath) else relpath

    def is_empty(self) -> bool:
        """Return whether there is nothing that a person would see."""
        return all(name.startswith(".") for name in self._tree.names(""))

    def is_file(self) -> bool:
        """Return whether the URI names one file, not a folder."""
        return self._tree.kind("") == "file"

    def parent_and_name(self) -> tuple[Folder, str]:
        """Split the URI of a file into its folder, and its name there."""
        name = os.path.basename(self.root)
        return Folder(self.uri().removesuffix(name)), name

    def file(self, relpath: str) -> FileInfo:
        """Describe one file, as ``files`` lists it."""
        return self._tree.file(relpath)

    def files(self, links: Links = "to files", enters: Enters | None = None) -> Iterator[FileInfo]:
        """List every file below the folder, in any order; no more than a page of them in memory.

        Links that are not to be followed have a ``problem``. Raises PermissionError if a folder may not be listed;
        nothing is skipped in silence. With ``enters`` a folder below that it refuses, or that cannot be listed, is
        given itself, the latter with a ``problem``. A bucket has no folders.
        """
        return self._tree.files(links, enters)

    def list(self, relpath: str = "") -> list[str]:
        """List the files and folders in one folder by name, sorted; none if there is no such folder."""
        return sorted(self._tree.names(relpath))

    def read_bytes(self, relpath: str) -> bytes:
        """Read a whole file."""
        return self._tree.read(relpath)

    def read_ahead(
        self, relpaths: Iterable[str], streams: int = 8, num_bytes: int | None = None
    ) -> Iterator[Callable[[], bytes]]:
        """Yield for each file, in order, a function that returns its bytes or raises what ``read_bytes`` raises.

        With ``num_bytes`` only its first ones. Of remote files up to ``streams`` are read at once, before they are
        asked for: most of the time of a small one is the way there and back.
        """
        read = self.read_bytes if num_bytes is None else partial(self._tree.read, start=0, end=num_bytes)
        if self.is_local:
            yield from (partial(read, relpath) for relpath in relpaths)
            return
        with ThreadPoolExecutor(streams) as pool:
            waiting: deque[Future[bytes]] = deque()
            for relpath in relpaths:
                waiting.append(pool.submit(read, relpath))
                if len(waiting) == streams:
                    yield waiting.popleft().result
            while waiting:
                yield waiting.popleft().result

    def media_source(self, relpath: str) -> str | RemoteFile:
        """Return a file to read here and there: its local path, or a remote file that is read by ranges.

        Raises PermissionError or IsADirectoryError for a local one that others who open it would take for damaged.
        """
        if self.is_local:
            path = self.path(relpath)
            with contextlib.suppress(FileNotFoundError):
                readable(path).close()
            return path
        name = relpath.rsplit("/", 1)[-1]
        return RemoteFile(name, self.file(relpath).num_bytes, partial(self._tree.read, relpath))

    def open(self, relpath: str, block_bytes: int = 2**20) -> BinaryIO:
        """Open a file for reading and seeking; of a remote one nothing is requested before the first read.

        A request has at least ``block_bytes``: many to read on and on, few to read here and there.
        """
        source = self.media_source(relpath)
        if isinstance(source, str):
            return readable(source, block_bytes)
        return io.BufferedReader(RangeReader(source), block_bytes)

    @contextlib.contextmanager
    def local_copy(self, relpath: str) -> Iterator[str]:
        """Yield a local path with the file's content: the file itself, or a download that goes away."""
        source = self.media_source(relpath)
        if isinstance(source, str):
            yield source
            return
        with ScratchFolder() as scratch:
            name, extension = os.path.splitext(relpath)
            extension = name[-4:] + extension if name.lower().endswith(".tar") else extension
            source.download(local := os.path.join(scratch, "file" + extension))
            yield local

    def atomic_write(self, relpath: str) -> contextlib.AbstractContextManager[Path]:
        """Give a local path to write to; the file appears under its name complete, or not at all.

        Raises StorageFullError if there is no space left, here or in the quota.
        """
        return self._write_and_place(relpath, is_folder=False)

    def atomic_write_folder(self, relpath: str) -> contextlib.AbstractContextManager[Path]:
        """Give an empty local folder; it appears under its name whole, in place of an older one.

        On remote storage its files appear one by one, the last by name at the end. Raises as ``atomic_write`` does.
        """
        return self._write_and_place(relpath, is_folder=True)

    @contextlib.contextmanager
    def _write_and_place(self, relpath: str, is_folder: bool) -> Iterator[Path]:
        with storage_full_errors(self.uri()), contextlib.ExitStack() as cleanup:
            _refuse_outside(relpath)
            if (scratch := self._tree.scratch) is None:
                scratch = cleanup.enter_context(ScratchFolder())
            os.makedirs(scratch, exist_ok=True)
            temporary = Path(scratch, uuid.uuid4().hex + ("" if is_folder else os.path.splitext(relpath)[1]))
            if is_folder:
                temporary.mkdir()
                cleanup.callback(shutil.rmtree, temporary, ignore_errors=True)
            else:
                cleanup.callback(temporary.unlink, missing_ok=True)
            yield temporary
            self._tree.place(temporary, relpath)

    def pyarrow_filesystem(self) -> Any:
        """Return how Ray reaches a remote folder: through fsspec, as pyarrow alone would ignore its settings."""
        import pyarrow.fs  # only a training on Ray needs it

        return None if self.is_local else pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(self.fs))

    def write_bytes(self, relpath: str, data: bytes) -> None:
        """Write a file as ``atomic_write`` does."""
        with self.atomic_write(relpath) as temporary:
            temporary.write_bytes(data)

    def rename(self, source: str, target: str) -> None:
        """Rename a file in place of an older one, at once; a remote one appears whole, then its old name goes."""
        _refuse_outside(source, target)
        self._tree.rename(source, target)

    def remove(self, relpath: str) -> None:
        """Delete a file or folder if it is there."""
        _refuse_outside(relpath)
        self._tree.remove(relpath)

    def remove_many(self, relpaths: Iterable[str]) -> None:
        """Delete files if they are there, in as few requests as there can be."""
        relpaths = list(relpaths)
        _refuse_outside(*relpaths)
        self._tree.remove_many(relpaths)

    def remove_scratch(self) -> None:
        """Delete what killed runs left half-written, or half-uploaded to S3."""
        self._tree.remove_scratch()


def folder_and_name(uri: str) -> tuple[Folder, str]:
    """Open the folder of a file by the file's URI; return it, and the file's path there.

    In a bucket ``a//x.jpg`` is not ``a/x.jpg``: slashes that follow one another belong to the path.
    """
    parent = uri.rpartition("/")[0].rstrip("/")
    return Folder(parent or "/"), uri[len(parent) + 1 :]


def _refuse_outside(*relpaths: str) -> None:
    """Raise ValueError for a path that leads out of its folder: whoever made it has not asked ``NameRules``."""
    for relpath in relpaths:
        if leads_out(relpath):
            raise ValueError(f"'{relpath}' leads out of its folder")


def _remote_tree(uri: str) -> Tree:
    if uri.partition("://")[0] in S3_SCHEMES:
        from nst_ops.storage.s3 import S3Tree  # its client takes a second to load

        return S3Tree(*connect(uri))
    return RemoteTree(*connect(uri))
