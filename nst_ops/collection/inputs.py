"""The input of a run: a folder, a file, a pattern or a list, and the catalog of its files."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.utils import glob_translate

from nst_ops.collection.database import Database
from nst_ops.media.formats import media_kind
from nst_ops.storage import FileInfo, Folder

_READERS = {
    ".txt": "read_csv($path, delim='\\0', quote='', escape='', header=false, columns={'uri': 'VARCHAR'})",
    ".csv": "read_csv($path, header=true)",
    ".tsv": "read_csv($path, header=true, delim='\\t')",
    ".jsonl": "read_json($path, format='newline_delimited')",
    ".parquet": "read_parquet($path)",
}
_URI_COLUMNS = ("uri", "url", "source_uri", "path", "file_path", "file", "filename", "file_name", "image")
_BYTES_COLUMNS = ("source_bytes", "num_bytes", "size", "bytes")
_VERSION_COLUMNS = ("source_version", "version", "etag", "e_tag")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")
_WILD = re.compile(r"[*?\[]")

CATALOG_SCHEMA = pa.schema(
    [
        ("relpath", pa.string()),
        ("source_bytes", pa.int64()),
        ("source_version", pa.string()),
        ("kind", pa.string()),
        ("problem", pa.string()),  # why it cannot even be opened; null for the others
        ("extra", pa.string()),  # JSON of what a list says of it beside its URI; null for most
    ]
)
_BATCH = 20_000
_NOT_REGULAR = "not a regular file (a pipe, a socket, a link to nothing or to a folder)"
_NOT_UTF8 = "its name is not valid UTF-8: rename it"


@dataclass(frozen=True)
class ListFile:
    """A file that names files, one a line or row.

    Entries are URIs or absolute paths, all on one storage, or paths relative to the list's own folder. Text: empty
    lines and those that begin with # are left out. Tables: the column is called uri, url, path, file_name or the
    like, or there are two, bucket and key, as in an S3 inventory; size and ETag are taken if they are there, and all
    other columns travel with the file.
    """

    folder: Folder
    name: str
    root: str
    """What the paths of all entries are relative to."""

    @classmethod
    def open(cls, file: Folder) -> ListFile:
        """Open a list by its first entry; raises ValueError if it is empty, unreadable or has no column of URIs."""
        folder, name = file.parent_and_name()
        entries = cls(folder, name, "")._entries("SELECT uri FROM entries LIMIT 1")
        first = next((uri for batch in entries for uri in batch["uri"].to_pylist()), None)
        if first is None:
            raise ValueError(f"list '{file.uri()}' is empty")
        scheme = _SCHEME.match(first)
        if scheme and scheme[0] != "file://":
            return cls(folder, name, scheme[0])
        return cls(folder, name, "/" if scheme or first.startswith("/") else folder.uri())

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the entries, each once, in batches of ``CATALOG_SCHEMA``; raises ValueError if they cannot be read."""
        is_absolute = self.root == "/" or _SCHEME.fullmatch(self.root)
        begin = f"'{self.root}'" if is_absolute else "''"
        sql = f"""
            SELECT DISTINCT ON (uri)
                CASE WHEN starts_with(uri, {begin}) THEN substr(uri, length({begin}) + 1) ELSE uri END AS relpath,
                num_bytes AS source_bytes, version AS source_version,
                CASE
                    WHEN NOT starts_with(uri, {begin}) OR {str(not is_absolute).upper()}
                        AND (starts_with(uri, '/') OR regexp_matches(uri, '^[a-z][a-z0-9+.-]*://'))
                        THEN 'a list names files of one storage, all relative to its folder or none:'
                            || ' its first entry is below ' || $root
                    WHEN regexp_matches(uri, '(^|/)\\.\\.?(/|$)|[^:]//')
                        THEN 'its path has .. or empty parts: write it without'
                END AS problem,
                extra
            FROM entries
        """
        for batch in self._entries(sql, {"root": self.root}):
            kinds = pa.array(map(media_kind, batch["relpath"].to_pylist()), pa.string())
            columns = [kinds if f.name == "kind" else batch[f.name].cast(f.type) for f in CATALOG_SCHEMA]
            yield pa.record_batch(columns, CATALOG_SCHEMA)

    def _entries(self, sql: str, values: dict[str, str] | None = None) -> Iterator[pa.RecordBatch]:
        """Query ``entries``: uri, num_bytes, version, and extra, JSON of all other columns."""
        extension = _extension(self.name)
        reader = _READERS[extension]
        try:
            with self.folder.local_copy(self.name) as path:
                database = Database()
                names = [row[0] for row in database.rows(f"DESCRIBE SELECT * FROM {reader}", {"path": path})]
                entries = f"SELECT {_columns(names)} FROM {reader}"
                is_entry = "uri <> '' AND NOT starts_with(uri, '#')" if extension == ".txt" else "uri IS NOT NULL"
                with_entries = f"WITH entries AS (SELECT * FROM ({entries}) WHERE {is_entry}) {sql}"
                yield from database.batches(with_entries, {"path": path, **(values or {})})
        except (duckdb.Error, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"list '{self.folder.uri(self.name)}' cannot be read: {reason}") from error


def is_list(file: Folder) -> bool:
    """Return whether a file names others: by its extension, a Parquet file by its columns."""
    extension = _extension(file.root)
    if extension != ".parquet":
        return extension in _READERS
    folder, name = file.parent_and_name()
    with folder.open(name) as content:
        schema = pq.read_schema(content)
    if any(pa.types.is_binary(field.type) or pa.types.is_struct(field.type) for field in schema):
        return False  # these are images
    texts = {field.name.lower() for field in schema if pa.types.is_string(field.type)}
    return not texts.isdisjoint(_URI_COLUMNS) or {"bucket", "key"} <= texts


def _extension(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _columns(names: list[str]) -> str:
    """Return the SQL of what is selected of a table with these columns."""
    lower = {name.lower(): name for name in names}
    uri, num_bytes, version = (
        next((lower[name] for name in known if name in lower), None)
        for known in (_URI_COLUMNS, _BYTES_COLUMNS, _VERSION_COLUMNS)
    )
    if uri:
        address, taken = f"ltrim({_quoted(uri)}, ' ')", {uri}
    elif {"bucket", "key"} <= lower.keys():
        address = f"'s3://' || {_quoted(lower['bucket'])} || '/' || {_quoted(lower['key'])}"
        taken = {lower["bucket"], lower["key"]}
    else:
        raise ValueError(f"none of its columns {names} holds URIs: call one of them 'uri'")
    others = [f"{_quoted(name)} := {_quoted(name)}" for name in names if name not in {*taken, num_bytes, version}]
    columns = {
        "uri": f"regexp_replace(regexp_replace({address}, '^file://', ''), '^(\\./)+', '')",
        "num_bytes": f"TRY_CAST({_quoted(num_bytes)} AS BIGINT)" if num_bytes else "0",
        "version": f"trim(CAST({_quoted(version)} AS VARCHAR), '\"')" if version else "''",
        "extra": f"CAST(to_json(struct_pack({', '.join(others)})) AS VARCHAR)" if others else "NULL",
    }
    return ", ".join(f"{sql} AS {name}" for name, sql in columns.items())


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


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
