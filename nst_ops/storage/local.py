"""Files on a disk."""

# ruff: noqa: D102, a method without a docstring is described in ``Folder``

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO
from urllib.parse import unquote

from fsspec.implementations.local import LocalFileSystem

from nst_ops.storage.base import A_FOLDER, Enters, FileInfo, Links, Tree, unlisted
from nst_ops.storage.names import PROBE, NameRules, rules_of_disk

_NO_FILE = "not a regular file (a pipe, a socket, or a link to nothing)"
_SHUT = "its folder may not be entered: chmod +x it, or run as an account that may; then again with --retry-failed"
_LINK_OUT = "a link that leads out of the input: run again with --discovery.follow_links true --retry-failed to read it"
_LINK_TO_FOLDER = "a link to a folder: run again with --discovery.follow_links true to read what lies there"
_LINK_BACK = "a link to a folder that it lies in"

FILE_URI = "file:(?://(?:localhost)?)?(/(?:[^/].*)?)"
"""Regular expression of the URI of a file on this machine, whatever its case; the group is its path, with escapes."""

SCRATCH = ".tmp"  # folder under an output that holds unfinished local writes; on the same disk: a rename is atomic


def local_path(uri: str) -> str | None:
    """Return the path that a URI means on this machine: its own, or that of a ``file:`` URI, which has escapes.

    None for other URIs; raises ValueError for a file of another machine.
    """
    if file := re.fullmatch(FILE_URI, uri, re.IGNORECASE | re.DOTALL):
        return unquote(file[1], errors="surrogateescape")
    if uri.lower().startswith("file://"):
        raise ValueError(f"'{uri}' names a file of another machine: give its path here, file:///PATH")
    return uri if "://" not in uri else None


class LocalTree(Tree):
    """A folder on a disk: unfinished files lie in a scratch folder beside the finished ones."""

    def __init__(self, path: str) -> None:
        # No fsspec URL parsing for plain paths: '::', '*' and '#' are letters there.
        super().__init__(LocalFileSystem(), os.path.abspath(os.path.expanduser(path)))
        self.scratch: str | None = self.path(SCRATCH)

    def name_rules(self) -> NameRules:
        return rules_of_disk(self.root)

    def uri(self, relpath: str) -> str:
        return self.path(relpath).rstrip("/") or "/"

    def kind(self, relpath: str) -> str | None:
        """Return ``file``, ``directory``, ``other`` for pipes and the like, or None."""
        path = self.uri(relpath)  # without a slash at the end: "file/" is nothing
        if os.path.isdir(path):
            return "directory"
        return "file" if os.path.isfile(path) else "other" if os.path.exists(path) else None

    def file(self, relpath: str) -> FileInfo:
        path = self.path(relpath)
        try:
            stat = os.stat(path)
        except PermissionError:
            return FileInfo(relpath, 0, "", _SHUT)
        except OSError:  # a link to nothing, or a file that has just gone
            return FileInfo(relpath, 0, "", _NO_FILE)
        problem = "" if S_ISREG(stat.st_mode) else _NO_FILE
        return FileInfo(relpath, stat.st_size, str(stat.st_mtime_ns), problem)

    def files(self, links: Links, enters: Enters | None) -> Iterator[FileInfo]:
        root = os.path.realpath(self.root)
        # Path of a folder, and the real folders in which there were links on the way to it.
        folders: list[tuple[str, tuple[str, ...]]] = [("", ())]
        while folders:
            folder, way = folders.pop()
            if folder and enters and not enters(folder):
                yield FileInfo(folder, 0, "")
                continue
            try:
                for entry in self._entries(folder):
                    relpath, is_link = folder + entry.name, entry.is_symlink()
                    is_folder = os.path.isdir(entry.path) if is_link else entry.is_dir()  # a link may lead to itself
                    if is_folder and (links == "all" or not is_link):
                        met = (*way, os.path.realpath(self.path(folder))) if is_link else way
                        if is_link and any(_is_below(each, os.path.realpath(entry.path)) for each in met):
                            yield replace(self.file(relpath), problem=_LINK_BACK)
                        else:
                            folders.append((f"{relpath}/", met))
                        continue
                    info = self.file(relpath)
                    if is_link and is_folder:
                        info = replace(info, problem=_LINK_TO_FOLDER)
                    elif is_link and links == "inside" and info.regular:
                        is_inside = _is_below(os.path.realpath(entry.path), root)
                        info = info if is_inside else replace(info, problem=_LINK_OUT)
                    yield info
            except FileNotFoundError:  # the folder has just gone, with all that was in it
                if not folder:
                    raise
            except OSError as error:
                if not folder or enters is None:
                    raise
                yield unlisted(folder, error)

    def _entries(self, folder: str) -> Iterator[os.DirEntry[str]]:
        with os.scandir(self.uri(folder)) as entries:
            yield from entries

    def names(self, relpath: str) -> Iterator[str]:
        try:
            with os.scandir(self.path(relpath)) as entries:
                yield from (entry.name for entry in entries)
        except (FileNotFoundError, NotADirectoryError):
            return

    def read(self, relpath: str, start: int | None = None, end: int | None = None) -> bytes:
        with readable(self.path(relpath)) as file:
            file.seek(start or 0)
            return file.read() if end is None else file.read(end - (start or 0))

    def place(self, temporary: Path, relpath: str) -> None:
        if temporary.is_dir():
            self.remove(relpath)
        os.makedirs(os.path.dirname(self.path(relpath)), exist_ok=True)
        os.replace(temporary, self.path(relpath))

    def rename(self, source: str, target: str) -> None:
        self.place(Path(self.path(source)), target)

    def remove(self, relpath: str) -> None:
        """Delete a file or folder if it is there; of a link, the link."""
        path = self.path(relpath)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.remove(path)

    def remove_scratch(self) -> None:
        for name in self.names(""):
            if name == SCRATCH or name.startswith(PROBE):
                shutil.rmtree(self.path(name), ignore_errors=True)


def readable(path: str, buffering: int = -1) -> BinaryIO:
    """Open a file for reading; PermissionError where that is not allowed, IsADirectoryError: both say what to do."""
    try:
        return open(path, "rb", buffering)
    except PermissionError as error:
        remedy = "allow it to be read (chmod u+r), or run as an account that may read it"
        raise PermissionError(error.errno, f"{error.strerror}: {remedy}", path) from error
    except IsADirectoryError as error:
        raise IsADirectoryError(error.errno, A_FOLDER, path) from error


def _is_below(path: str, folder: str) -> bool:
    """Return whether a real path is that of a folder, or of something in it."""
    return f"{path}/".startswith(f"{folder.rstrip('/')}/")
