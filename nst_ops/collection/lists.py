"""Lists of files as an input: text, CSV, JSON lines or Parquet, read by DuckDB."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from nst_ops.collection.database import Database
from nst_ops.media.formats import media_kind
from nst_ops.storage import Folder

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


def is_list(file: Folder) -> bool:
    """Whether a file names others: by its extension, a Parquet file by its columns."""
    extension = _extension(file.root)
    if extension != ".parquet":
        return extension in _READERS
    folder, name = file.split()
    media = folder.media(name)
    schema = pq.read_schema(media if isinstance(media, str) else media.open())
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    has_pixels = any(pa.types.is_binary(field.type) or pa.types.is_struct(field.type) for field in schema)
    return not has_pixels and _has_uris(texts)


@dataclass(frozen=True)
class ListFile:
    """A file that names files, one a line or row.

    Entries are URIs or absolute paths, all on one storage, or paths relative to the list's own folder.
    Text: empty lines and those that begin with # are left out. Tables: the column is called uri, url,
    path, file_name or the like, or there are two, bucket and key, as in an S3 inventory; size and ETag
    are taken if they are there, and all other columns travel with the file.
    """

    folder: Folder
    name: str
    root: str
    """What the paths of all entries are relative to."""

    @classmethod
    def open(cls, file: Folder) -> ListFile:
        """A list, by a look at its first entry.

        Raises:
            ValueError: it cannot be read, is empty, or has no column of URIs.
        """
        folder, name = file.split()
        entries = cls(folder, name, "")._entries("SELECT uri FROM entries LIMIT 1")
        first = next((uri for batch in entries for uri in batch["uri"].to_pylist()), None)
        if first is None:
            raise ValueError(f"list '{file.uri()}' is empty")
        scheme = _SCHEME.match(first)
        if scheme and scheme[0] != "file://":
            return cls(folder, name, scheme[0])
        return cls(folder, name, "/" if scheme or first.startswith("/") else folder.uri())

    def read(self, schema: pa.Schema) -> pa.RecordBatchReader:
        """The entries, each once, in batches of a catalog's schema, in any order.

        Raises:
            ValueError: while reading, what cannot be read.
        """
        return pa.RecordBatchReader.from_batches(schema, self._catalog(schema))

    def _catalog(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        is_absolute = self.root == "/" or _SCHEME.fullmatch(self.root)
        begin = f"'{self.root}'" if is_absolute else "''"
        sql = f"""
            SELECT DISTINCT ON (uri)
                CASE WHEN starts_with(uri, {begin}) THEN substr(uri, length({begin}) + 1) ELSE uri END
                    AS relpath,
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
            columns = [kinds if name == "kind" else batch[name] for name in schema.names]
            yield pa.record_batch(
                [column.cast(schema.field(i).type) for i, column in enumerate(columns)], schema=schema
            )

    def _entries(self, sql: str, values: dict[str, str] | None = None) -> Iterator[pa.RecordBatch]:
        """Query ``entries``: uri, num_bytes, version, and extra, JSON of all other columns."""
        reader = _READERS[_extension(self.name)]
        try:
            with self.folder.local_copy(self.name) as path:
                database = Database()
                names = [row[0] for row in database.rows(f"DESCRIBE SELECT * FROM {reader}", {"path": path})]
                entries = f"SELECT {_columns(names)} FROM {reader}"
                text_only = "uri <> '' AND NOT starts_with(uri, '#')" if self._is_text else "uri IS NOT NULL"
                with_entries = f"WITH entries AS (SELECT * FROM ({entries}) WHERE {text_only}) {sql}"
                yield from database.batches(with_entries, {"path": path, **(values or {})})
        except (duckdb.Error, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"list '{self.folder.uri(self.name)}' cannot be read: {reason}") from error

    @property
    def _is_text(self) -> bool:
        return _extension(self.name) == ".txt"


def _columns(names: list[str]) -> str:
    """What is selected of a table with these columns."""
    lower = {name.lower(): name for name in names}
    uri = next((lower[name] for name in _URI_COLUMNS if name in lower), None)
    num_bytes = next((lower[name] for name in _BYTES_COLUMNS if name in lower), None)
    version = next((lower[name] for name in _VERSION_COLUMNS if name in lower), None)
    if uri:
        address = f"ltrim({_quoted(uri)}, ' ')"
    elif {"bucket", "key"} <= lower.keys():
        address = f"'s3://' || {_quoted(lower['bucket'])} || '/' || {_quoted(lower['key'])}"
    else:
        raise ValueError(f"none of its columns {names} holds URIs: call one of them 'uri'")
    taken = {uri, num_bytes, version} if uri else {lower["bucket"], lower["key"], num_bytes, version}
    others = ", ".join(f"{_quoted(name)} := {_quoted(name)}" for name in names if name not in taken)
    return ", ".join(
        [
            f"regexp_replace(regexp_replace({address}, '^file://', ''), '^(\\./)+', '') AS uri",
            f"TRY_CAST({_quoted(num_bytes)} AS BIGINT) AS num_bytes" if num_bytes else "0 AS num_bytes",
            f"trim(CAST({_quoted(version)} AS VARCHAR), '\"') AS version" if version else "'' AS version",
            (f"CAST(to_json(struct_pack({others})) AS VARCHAR)" if others else "NULL") + " AS extra",
        ]
    )


def _has_uris(names: list[str]) -> bool:
    lower = {name.lower() for name in names}
    return not lower.isdisjoint(_URI_COLUMNS) or {"bucket", "key"} <= lower


def _quoted(name: str | None) -> str:
    return '"' + (name or "").replace('"', '""') + '"'


def _extension(path: str) -> str:
    return os.path.splitext(path)[1].lower()
