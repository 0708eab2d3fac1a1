"""The input of a run: a folder, a file, a pattern or a list, and the catalog of its files."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
from fsspec.utils import glob_translate

from nst_ops.collection.constants import CATALOG_SCHEMA, Labels
from nst_ops.collection.lists import LIST_EXTENSIONS, ListFile, is_list
from nst_ops.config.stylize import DiscoveryConfig
from nst_ops.media.formats import is_system_folder, is_unknown, kind_and_reason
from nst_ops.media.signatures import HEAD_BYTES, content_kind
from nst_ops.storage import FileInfo, Folder, StorageError
from nst_ops.storage.base import A_FOLDER, Links

_WILD = re.compile(r"[*?\[]")

_BATCH = 20_000
_NOT_LOOKED = "not an image or video by its name; --discovery.look_inside always looks at its first bytes, too"
_NOT_THERE = "it is not there: a list names it, or it has just gone"
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
    links: Links = "inside"
    """Symbolic links that are followed. Files that are named are read wherever they lie."""

    @classmethod
    def open(cls, uri: str, links: Links = "inside") -> Source:
        """Open a folder, a file, a pattern or a list by URI.

        Raises:
            FileNotFoundError: there is none of these.
            ValueError: a list that cannot be read, or a file that is neither media nor a list.
        """
        folder = Folder(uri)
        if folder.is_file():
            if is_list(folder):
                listing = ListFile.open(folder)
                return cls(Folder(listing.root), listing=listing)
            parent, name = folder.parent_and_name()
            if not _may_be_media(parent, name):
                lists = f"no list, which are {', '.join(LIST_EXTENSIONS)}"
                raise ValueError(f"input '{uri}' is no image, no video, no shard and {lists}")
            return cls(parent, name)
        if folder.exists():
            return cls(folder, links=links)
        parts = uri.split("/")
        first = next((number for number, part in enumerate(parts) if _WILD.search(part)), None)
        if first is None:
            raise FileNotFoundError(f"input '{uri}' does not exist")
        folder = Folder("/".join(parts[:first]) or ("/" if uri.startswith("/") else "."))
        if not folder.exists():
            raise FileNotFoundError(f"input '{uri}' does not exist: there is no '{folder.uri()}'")
        return cls(folder, pattern="/".join(parts[first:]), links=links)

    @property
    def root(self) -> str:
        """Beginning of every file's URI, up to its path."""
        return self.folder.uri("x").removesuffix("x")

    @property
    def labels(self) -> Labels:
        """Types of the columns that a list has beside the URIs."""
        return self.listing.labels if self.listing else {}

    @property
    def is_whole(self) -> bool:
        """Whether a file that is not found is not there: a list may be one of a part today."""
        return self.listing is None

    def files(self, takes_hidden: bool = False) -> Iterator[FileInfo]:
        """Yield the files, if they are not listed, in any order, and folders that are not entered or cannot be."""
        if self.only is not None:
            yield self.folder.file(self.only)
            return
        pattern = self.pattern or "**"
        matches = re.compile(glob_translate(pattern)).match
        for info in self.folder.files(self.links, lambda folder: takes_hidden or not is_system_folder(folder)):
            if _leads_to(info.relpath, pattern) if info.relpath.endswith("/") else matches(info.relpath):
                yield info


def discover(source: Source, config: DiscoveryConfig = DiscoveryConfig()) -> pa.RecordBatchReader:  # noqa: B008
    """List the input in batches of ``CATALOG_SCHEMA``, in any order, as the storage gives it.

    Raises:
        PermissionError: while reading, the input itself may not be listed; a folder in it becomes a row.
        ValueError: while reading, a list that cannot be read.
    """
    # Whoever names a file, or hidden files by a pattern, wants them.
    takes_hidden = config.hidden or bool(source.only or re.search(r"(^|/)\.", source.pattern or ""))
    batches = source.listing.batches() if source.listing else catalog_batches(source.files(takes_hidden), takes_hidden)
    is_near = source.folder.is_local or source.only is not None
    looks = config.look_inside == "always" or (config.look_inside == "auto" and is_near)
    batches = (_look_inside(source.folder if looks else None, batch) for batch in batches)
    return pa.RecordBatchReader.from_batches(CATALOG_SCHEMA, batches)


def catalog_batches(files: Iterable[FileInfo], takes_hidden: bool = False) -> Iterator[pa.RecordBatch]:
    """Yield files in batches of ``CATALOG_SCHEMA``."""
    left = iter(files)
    while infos := list(itertools.islice(left, _BATCH)):
        names, found = zip(*map(_name, infos), strict=True)
        kinds, reasons = zip(*(kind_and_reason(name, takes_hidden) for name in names), strict=True)
        # Whether a folder can be listed does not matter where nothing is made of what lies in it.
        problems = [
            None if reason and name.endswith("/") else problem
            for name, problem, reason in zip(names, found, reasons, strict=True)
        ]
        columns = {
            "relpath": pa.array(names, pa.string()),
            "source_bytes": pa.array([info.num_bytes for info in infos], pa.int64()),
            "source_version": pa.array([info.version for info in infos], pa.string()),
            "problem": pa.array(problems, pa.string()),
            "extra": pa.nulls(len(infos), pa.string()),
            "kind": pa.array(kinds, pa.string()),
            "no_media": pa.array(reasons, pa.string()),
        }
        yield pa.record_batch([columns[name] for name in CATALOG_SCHEMA.names], schema=CATALOG_SCHEMA)


def _look_inside(folder: Folder | None, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Replace the kind of files whose names say nothing by what their first bytes say; without a folder, say so."""
    columns = batch.select(["relpath", "kind", "problem", "no_media"]).to_pydict()
    places = [
        place
        for place, (relpath, kind, *reasons) in enumerate(zip(*columns.values(), strict=True))
        if kind == "other" and not any(reasons) and is_unknown(relpath)
    ]
    if folder is None:
        for place in places:
            columns["no_media"][place] = _NOT_LOOKED
    else:
        heads = folder.read_ahead((columns["relpath"][place] for place in places), num_bytes=HEAD_BYTES)
        for place, read in zip(places, heads, strict=True):
            try:
                if (kind := content_kind(read())) == "other":
                    columns["no_media"][place] = "not an image or video, neither by its name nor by its first bytes"
                columns["kind"][place] = kind
            except StorageError:
                raise
            except FileNotFoundError:
                columns["problem"][place] = _NOT_THERE
            except IsADirectoryError:
                columns["problem"][place] = A_FOLDER
            except OSError as error:
                reason = f"not an image or video by its name, and it cannot be read: {error.strerror}"
                columns["no_media"][place] = reason
    for name in ("kind", "problem", "no_media") if places else ():
        batch = batch.set_column(batch.schema.get_field_index(name), name, pa.array(columns[name], pa.string()))
    return batch


def _may_be_media(folder: Folder, name: str) -> bool:
    """Return whether a file that was named is media, or there is more to say of it: then its row does."""
    if kind_and_reason(name) != ("other", None):
        return True
    if not is_unknown(name):
        return False
    try:
        (read,) = folder.read_ahead([name], num_bytes=HEAD_BYTES)
        return content_kind(read()) != "other"
    except PermissionError:
        return True


def _leads_to(folder: str, pattern: str) -> bool:
    """Return whether files below a folder may match a pattern."""
    *parts, last = pattern.split("/")
    for place, name in enumerate(folder.rstrip("/").split("/")):
        if "**" in (*parts, last)[: place + 1]:
            return True
        if place >= len(parts) or not re.match(glob_translate(parts[place]), name):
            return False
    return True


def _name(info: FileInfo) -> tuple[str, str | None]:
    """Return the path of a file as text, and why it cannot be opened."""
    try:
        info.relpath.encode()
    except UnicodeEncodeError:
        return os.fsencode(info.relpath).decode("utf-8", "backslashreplace"), _NOT_UTF8
    return info.relpath, info.problem or None
