"""The input: a folder, one file of it, the files that a pattern names, or a list of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
from fsspec.utils import glob_translate

from nst_ops.collection.lists import ListFile, is_list
from nst_ops.storage import FileInfo, Folder

_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Source:
    """What is to be stylized."""

    folder: Folder
    """The paths of all files begin here."""
    only: str | None = None
    """The one file that was named."""
    pattern: str | None = None
    """What the paths of files must match."""
    listing: ListFile | None = None
    """A file that names the files."""

    @classmethod
    def open(cls, uri: str) -> Source:
        """A folder, a file, a pattern or a list by URI.

        Raises:
            FileNotFoundError: there is none of these.
            ValueError: a list that cannot be read.
        """
        folder = Folder(uri)
        if folder.is_file():
            if is_list(folder):
                listing = ListFile.open(folder)
                return cls(Folder(listing.root), listing=listing)
            return cls(*folder.split())
        if folder.exists():
            return cls(folder)
        if _WILD.search(uri):
            return cls._of_pattern(uri)
        raise FileNotFoundError(f"input '{uri}' does not exist")

    @classmethod
    def _of_pattern(cls, uri: str) -> Source:
        parts = uri.split("/")
        first = next(number for number, part in enumerate(parts) if _WILD.search(part))
        folder = Folder("/".join(parts[:first]) or ("/" if uri.startswith("/") else "."))
        if not folder.exists():
            raise FileNotFoundError(f"input '{uri}' does not exist: there is no '{folder.uri()}'")
        return cls(folder, pattern="/".join(parts[first:]))

    @property
    def root(self) -> str:
        """What the URI of every file begins with, up to its path."""
        return self.folder.uri("x").removesuffix("x")

    def files(self) -> Iterator[FileInfo]:
        """The files, if they are not listed, in any order."""
        if self.only is not None:
            yield self.folder.file(self.only)
            return
        matches = re.compile(glob_translate(self.pattern)).match if self.pattern else None
        for info in self.folder.files():
            if matches is None or matches(info.relpath):
                yield info

    def listed(self, schema: pa.Schema) -> pa.RecordBatchReader:
        """The files of a list, in batches of a catalog's schema."""
        assert self.listing is not None
        return self.listing.read(schema)
