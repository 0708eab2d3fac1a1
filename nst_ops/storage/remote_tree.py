"""Files on any remote file system that fsspec knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nst_ops.storage.tree import FileInfo, Tree


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

    def publish(self, source: str, target: str) -> None:
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
