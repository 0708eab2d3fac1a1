"""The input of a run: a folder, a file, a pattern or a list, and the catalog of its files."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
from fsspec.utils import glob_translate

from nst_ops.collection.constants import CATALOG_SCHEMA
from nst_ops.collection.lists import Labels, ListFile, is_list
from nst_ops.media.formats import media_kind
from nst_ops.storage import FileInfo, Folder

_WILD = re.compile(r"[*?\[]")

_BATCH = 20_000
_NOT_REGULAR = "not a regular file (a pipe, a socket, a link to nothing or to a folder)"
_NOT_UTF8 = "its name is not valid UTF-8: rename it"


@dataclass(frozen=True)
class Source:
    """The input of a run."""

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
        """Open a folder, a file, a pattern or a list by URI.

        Raises:
            FileNotFoundError: there is none of these.
            ValueError: a list that cannot be read.
        """
        folder = Folder(uri)
        if folder.is_file():
            if is_list(folder):
                listing = ListFile.open(folder)
                return cls(Folder(listing.root), listing=listing)
            return cls(*folder.parent_and_name())
        if folder.exists():
            return cls(folder)
        parts = uri.split("/")
        first = next((number for number, part in enumerate(parts) if _WILD.search(part)), None)
        if first is None:
            raise FileNotFoundError(f"input '{uri}' does not exist")
        folder = Folder("/".join(parts[:first]) or ("/" if uri.startswith("/") else "."))
        if not folder.exists():
            raise FileNotFoundError(f"input '{uri}' does not exist: there is no '{folder.uri()}'")
        return cls(folder, pattern="/".join(parts[first:]))

    @property
    def root(self) -> str:
        """Beginning of every file's URI, up to its path."""
        return self.folder.uri("x").removesuffix("x")

    @property
    def labels(self) -> Labels:
        """Types of the columns that a list has beside the URIs."""
        return self.listing.labels if self.listing else {}

    def files(self) -> Iterator[FileInfo]:
        """Yield the files, if they are not listed, in any order."""
        if self.only is not None:
            yield self.folder.file(self.only)
            return
        matches = re.compile(glob_translate(self.pattern)).match if self.pattern else None
        for info in self.folder.files():
            if matches is None or matches(info.relpath):
                yield info


def discover(source: Source) -> pa.RecordBatchReader:
    """List the input in batches of ``CATALOG_SCHEMA``, in any order, as the storage gives it.

    Raises:
        PermissionError: while reading, a folder that may not be listed.
        ValueError: while reading, a list that cannot be read.
    """
    batches = source.listing.batches() if source.listing else catalog_batches(source.files())
    return pa.RecordBatchReader.from_batches(CATALOG_SCHEMA, batches)


def catalog_batches(files: Iterable[FileInfo]) -> Iterator[pa.RecordBatch]:
    """Yield files in batches of ``CATALOG_SCHEMA``."""
    left = iter(files)
    while infos := list(itertools.islice(left, _BATCH)):
        names, problems = zip(*map(_name, infos), strict=True)
        sizes, versions = [info.num_bytes for info in infos], [info.version for info in infos]
        columns = names, sizes, versions, list(map(media_kind, names)), problems, [None] * len(infos)
        yield pa.record_batch(list(map(pa.array, columns, CATALOG_SCHEMA.types)), schema=CATALOG_SCHEMA)


def _name(info: FileInfo) -> tuple[str, str | None]:
    """Return the path of a file as text, and why it cannot be opened."""
    try:
        info.relpath.encode()
    except UnicodeEncodeError:
        return os.fsencode(info.relpath).decode("utf-8", "backslashreplace"), _NOT_UTF8
    return info.relpath, None if info.regular else _NOT_REGULAR
