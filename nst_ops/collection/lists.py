"""Lists of files: text, CSV, JSON, JSON lines and Parquet, with what they say of each file."""

from __future__ import annotations

import codecs
import csv
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TextIO, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nst_ops.collection.constants import CATALOG_SCHEMA, Labels
from nst_ops.collection.database import Database
from nst_ops.media.formats import kind_and_reason
from nst_ops.media.shards.labels import comes_back, mixed_type
from nst_ops.media.signatures import HEAD_BYTES, content_format
from nst_ops.storage import Folder
from nst_ops.storage.base import A_FOLDER
from nst_ops.storage.local import FILE_URI

_URI = ("uri", "url", "source_uri", "path", "file_path", "file", "filename", "file_name", "image")
_KEY = ("bucket", "key")
# What other columns are for: names by which they are known.
_ROLES = {
    "num_bytes": ("source_bytes", "num_bytes", "size", "bytes"),
    "version": ("source_version", "version", "etag", "e_tag"),
}
_INVENTORY_ROLES = {
    "is_latest": ("is_latest", "islatest"),
    "is_deleted": ("is_delete_marker", "isdeletemarker"),
    "modified": ("last_modified_date", "lastmodifieddate", "last_modified", "lastmodified"),
}
_SIMPLE_TYPES = {frozenset({str}): pa.string(), frozenset({float}): pa.float64(), frozenset({bool}): pa.bool_()}
_of_json, _to_json = json.JSONDecoder().decode, json.JSONEncoder(ensure_ascii=False).encode
_Row = TypeVar("_Row")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")
_SEPARATOR = re.compile(r"sep=(.)\r?\n?")
_COMMENT = re.compile(r"#(?:\s|$|EXT)")  # in a list of names, and in playlists; "#1.jpg" is a name
_ROWS = 20_000  # of a text, in memory at once
_BOMS = {
    # those of UTF-32 begin as those of UTF-16 do
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# A column of text has the first of these types from which every value in all of the list comes back as it was written.
_TEXT_TYPES = {"BIGINT": pa.int64(), "DOUBLE": pa.float64(), "BOOLEAN": pa.bool_()}
_EVERY_VALUE_COMES_BACK = """
    SELECT bool_and(CAST(TRY_CAST({0} AS {1}) AS VARCHAR) IS NOT DISTINCT FROM {0}
        AND {0} NOT IN ('nan', '-nan', 'inf', '-inf')) FROM {2} WHERE {0} IS NOT NULL
"""
# On a disk a/./b is a/b.
_WITHOUT_DOTS = """
    UPDATE entries SET uri = regexp_replace(uri, '/(\\./)+', '/', 'g')
    WHERE contains(uri, '/./') AND NOT contains(uri, '://')
"""
# How values of a type of DuckDB are given to JSON, where JSON itself would lose something.
_TO_JSON = {
    "BLOB": "to_base64({})",
    "DECIMAL": "CAST({} AS VARCHAR)",
    "FLOAT": "CAST(CAST({} AS VARCHAR) AS DOUBLE)",  # 3.7, not 3.700000047683716
}


@dataclass(frozen=True)
class ListFile:
    """A file that names files, one a line or row; it has been read whole.

    Entries are URIs or absolute paths, all on one storage, or paths relative to the list's own folder. Text: empty
    lines and comments, which begin with # and a space, are left out. Tables: the column is called uri, url, path,
    file_name or the like, or there are two, bucket and key, as in an S3 inventory, of which only the latest versions of
    objects count. Size and ETag are taken if they are there; all other columns travel with the file. Where several rows
    name one file, its columns are lists of their values.
    """

    name: str
    root: str
    """What the paths of all entries are relative to."""
    labels: Labels
    database: Database = field(repr=False)

    @classmethod
    def open(cls, file: Folder) -> ListFile:
        """Read a list; raises ValueError if it is empty, unreadable or has no column of URIs."""
        folder, name = file.parent_and_name()
        database = Database()
        try:
            with folder.local_copy(name) as path:
                labels = _read(database, path)
            if folder.is_local:
                database.run(_WITHOUT_DOTS)
            first = database.rows("SELECT uri FROM entries WHERE uri IS NOT NULL ORDER BY row LIMIT 1")
            database.run(
                """CREATE TABLE repeated AS
                SELECT uri, count(DISTINCT extra) > 1 AS differs FROM entries SEMI JOIN (
                    SELECT uri FROM entries WHERE uri IS NOT NULL GROUP BY uri HAVING count(*) > 1
                ) USING (uri) GROUP BY uri"""
            )
        except (duckdb.Error, ValueError, csv.Error) as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(f"list '{file.uri()}' cannot be read: {reason}") from error
        if not first:
            raise ValueError(f"list '{file.uri()}' is empty")
        if content_format(first[0][0][:HEAD_BYTES].encode()) == "base64":
            instead = "not their paths: decode them into files, or into a column of bytes in Parquet"
            raise ValueError(f"list '{file.uri()}' holds images as text (base64, data: URIs), {instead}")
        scheme, is_absolute = _SCHEME.match(first[0][0]), first[0][0].startswith("/")
        root = scheme[0] if scheme else "/" if is_absolute else folder.uri()
        if database.value("SELECT count(*) > 0 FROM repeated WHERE differs"):
            labels = {label: kind if pa.types.is_string(kind) else pa.json_() for label, kind in labels.items()}
        return cls(name, root, labels, database)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the files, each once, in batches of ``CATALOG_SCHEMA``, and rows that name none, with their problem.

        A list gives its files one time.
        """
        is_remote = _SCHEME.fullmatch(self.root) is not None
        is_absolute = self.root == "/" or is_remote
        sql = """
            WITH by_columns AS (
                SELECT uri, extra, min(row) AS row, arg_min(num_bytes, row) AS num_bytes,
                    arg_min(version, row) AS version
                FROM entries SEMI JOIN repeated USING (uri) GROUP BY uri, extra
            ), files AS (
                SELECT uri, num_bytes, version, extra FROM entries ANTI JOIN repeated USING (uri) WHERE uri IS NOT NULL
                UNION ALL
                SELECT uri, arg_min(num_bytes, row) AS num_bytes, arg_min(version, row) AS version,
                    if(count(*) = 1, any_value(extra), '[' || string_agg(extra, ',' ORDER BY row) || ']') AS extra
                FROM by_columns GROUP BY uri
            )
            SELECT
                if(starts_with(uri, $begin), substr(uri, length($begin) + 1), uri) AS relpath,
                num_bytes AS source_bytes, version AS source_version,
                CASE
                    WHEN regexp_matches(uri, '^file:', 'i') THEN 'it is said to be on another machine: copy it here'
                    WHEN NOT starts_with(uri, $begin) OR NOT $is_absolute
                        AND (starts_with(uri, '/') OR regexp_matches(uri, '^' || $scheme))
                        THEN 'a list names files of one storage, all relative to its folder or none:'
                            || ' its first entry is below ' || $root
                    -- In a bucket such a key is an object of its own, on a disk another name of a file.
                    WHEN NOT $is_remote AND regexp_matches(uri, '(^|/)\\.\\.?(/|$)|[^:]//')
                        THEN 'its path has .. or empty parts: write it without'
                    WHEN ends_with(uri, '/') THEN $is_folder
                    WHEN contains(uri, chr(0)) THEN 'its path has a NUL character, as no file has: mend the list'
                END AS problem,
                extra
            FROM files
            UNION ALL
            SELECT $name || '#' || row, NULL, '', 'entry ' || row || ' of the list names no file: mend the list', extra
            FROM entries WHERE uri IS NULL
        """
        values: dict[str, object] = {"begin": self.root if is_absolute else "", "root": self.root}
        values["is_folder"] = A_FOLDER
        values |= {"is_absolute": is_absolute, "is_remote": is_remote, "scheme": _SCHEME.pattern}
        for batch in self.database.batches(sql, {**values, "name": self.name}):
            kinds, reasons = zip(*map(kind_and_reason, batch["relpath"].to_pylist()), strict=True)
            made = {"kind": kinds, "no_media": reasons}
            if pc.any(pc.starts_with(batch["extra"], "[")).as_py():  # of files that several rows name
                made["extra"] = tuple(map(_joined, batch["extra"].to_pylist()))
            columns = [
                pa.array(made[f.name], f.type) if f.name in made else batch[f.name].cast(f.type) for f in CATALOG_SCHEMA
            ]
            yield pa.record_batch(columns, CATALOG_SCHEMA)
        self.database.run("DROP TABLE entries")  # it would take its place until the end of the run


def is_list(file: Folder) -> bool:
    """Return whether a file names others: by its extension, a Parquet file by its columns."""
    extension = _extension(file.root)
    if extension != ".parquet":
        return extension in _TEXTS
    from nst_ops.media.shards.parquet import holds_images  # Pillow takes a while to load

    folder, name = file.parent_and_name()
    try:
        with folder.open(name) as content:
            table = pq.ParquetFile(content)
            texts = [column.name for column in table.schema_arrow if _is_text(column.type)]
            return _Columns.find(texts) is not None and not holds_images(table)
    except (pa.ArrowException, OSError, ValueError):  # damaged or encrypted: as a shard it gets a row that says so
        return False


@dataclass(frozen=True)
class _Columns:
    """The columns of a list by what they are for, under the names that they have."""

    uri: tuple[str, ...]  # one column, or bucket and key
    roles: dict[str, str]

    @classmethod
    def find(cls, names: Sequence[str], texts: Sequence[str] | None = None) -> _Columns | None:
        """Find the columns by their names, the URIs among ``texts``; None if none holds URIs."""
        known = {name.strip().lower(): name for name in reversed(names)}
        readable = {name.strip().lower() for name in names if texts is None or name in texts}
        uri = next((known[name] for name in _URI if name in readable), None)
        if uri is None and not readable >= set(_KEY):
            return None
        wanted = _ROLES if uri is not None else _ROLES | _INVENTORY_ROLES
        found = ((role, next((known[a] for a in aliases if a in known), None)) for role, aliases in wanted.items())
        roles = {role: name for role, name in found if name is not None}
        return cls((uri,) if uri is not None else tuple(known[key] for key in _KEY), roles)

    @classmethod
    def get(cls, names: Sequence[str], texts: Sequence[str] | None = None) -> _Columns:
        """Find the columns; ValueError if none holds URIs."""
        if columns := cls.find(names, texts):
            return columns
        raise ValueError(f"none of its columns {list(names)} holds URIs: call one of them 'uri'")


def _read(database: Database, path: str) -> Labels:
    """Make the table ``entries``: row, uri, num_bytes, version, extra; return the types of what ``extra`` holds."""
    extension = _extension(path)
    if extension == ".parquet":
        return _read_parquet(database, path)
    with _open_text(path, "" if extension in (".csv", ".tsv") else None) as text:
        try:
            return _TEXTS[extension](database, text)
        except UnicodeEncodeError as error:  # JSON can name them
            raise ValueError("it holds half of a surrogate pair, which is no text") from error
        except UnicodeError as error:
            line = _undecodable_line(path) if text.encoding == "utf-8" else ""
            convert = "save it as UTF-8, or convert it: iconv -f WINDOWS-1252 -t UTF-8"
            raise ValueError(f"it is no {text.encoding.upper()}{line}: {convert}") from error
        except RecursionError as error:
            raise ValueError("its values are nested too deeply") from error


def _read_parquet(database: Database, path: str) -> Labels:
    schema = pq.read_schema(path)
    kinds = dict(zip(_unique(schema.names), schema.types, strict=True))
    columns = _Columns.get(list(kinds), [name for name, kind in kinds.items() if _is_text(kind)])
    numbered = {name: f"c{number}" for number, name in enumerate(kinds)}
    # A path with a wildcard of its own is no pattern.
    values = {"path": re.sub(r"([*?\[])", r"[\1]", path)}
    found = f"read_parquet($path) AS found({', '.join(numbered.values())})"
    database.run(f"CREATE TABLE found AS SELECT * FROM {found}", values)
    duck = {row[0]: row[1] for row in database.rows("DESCRIBE found")}
    shown = {
        name: next((sql for kind, sql in _TO_JSON.items() if duck[column].startswith(kind)), "{}").format(column)
        for name, column in numbered.items()
    }
    others = _make_entries(database, columns, numbered, shown)
    return {name: kinds[name] if comes_back(kinds[name]) else pa.json_() for name in others}


def _read_lines(database: Database, text: TextIO) -> Labels:
    lines = (line for line in map(str.strip, text) if line and not (line[0] == "#" and _COMMENT.match(line)))
    _load(database, 1, ([some] for some in _batches(lines)))
    _make_entries(database, _Columns(("uri",), {}), {"uri": "c0"}, {})
    return {}


def _read_csv(database: Database, text: TextIO, delimiters: str = ",;\t|") -> Labels:
    """Read a table of text; its delimiter is the one by which its header has a column of URIs."""
    csv.field_size_limit(sys.maxsize)
    delimiters = _rewind(text) or delimiters
    headers = [(_csv_header(text, delimiter), delimiter) for delimiter in delimiters]
    found = next((header for header in headers if _Columns.find(header[0])), headers[0])
    (names, delimiter), columns = found, _Columns.get(found[0])
    numbered = {name: f"c{number}" for number, name in enumerate(names)}
    uri = names.index(columns.uri[0]) if len(columns.uri) == 1 else None

    def loaded() -> Iterator[list[Sequence[str | None]]]:
        for rows in _batches(_csv_rows(text, delimiter, len(names))):
            found: list[Sequence[str | None]] = list(zip(*rows, strict=True))
            if uri is not None:  # keys of a bucket may begin or end with spaces
                found[uri] = [row[uri].strip() for row in rows]
            yield found

    _load(database, len(names), loaded(), empty="''")
    labels: Labels = {}
    shown: dict[str, str] = {}
    for name in [name for name in names if name not in (*columns.uri, columns.roles.get("version"))]:
        column = numbered[name]
        sql = next((sql for sql in _TEXT_TYPES if _every_value_comes_back(database, column, sql)), None)
        labels[name] = _TEXT_TYPES[sql] if sql else pa.string()
        shown[name] = f"CAST({column} AS {sql})" if sql else column
    others = _make_entries(database, columns, numbered, shown)
    return {name: labels[name] for name in others}


def _read_json(database: Database, text: TextIO) -> Labels:
    """Read an array of paths or of objects, or JSON lines."""
    start = text.read(1)
    while start.isspace():
        start = text.read(1)
    text.seek(0)
    try:
        if start != "[":
            return _read_json_lines(database, text)
        entries = json.load(text)
    except UnicodeError:
        raise
    except ValueError as error:
        raise ValueError(f"{error}; a .json is an array of paths or of objects, or one object a line") from error
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, str | dict):
            raise ValueError(f"entry {number} is neither a path nor an object of JSON")
    return _read_objects(database, ({"uri": entry} if isinstance(entry, str) else entry for entry in entries))


def _read_json_lines(database: Database, text: TextIO) -> Labels:
    return _read_objects(database, _json_objects(text))


def _read_objects(database: Database, objects: Iterator[dict[str, Any]]) -> Labels:
    """Read objects of JSON; the columns are those of the first one and whatever others have beside them."""
    first = next(objects, None)
    columns = _Columns.get(list(first or {}))
    taken = dict.fromkeys([*columns.uri, *columns.roles.values()])
    size, names = columns.roles.get("num_bytes"), {*columns.uri, *(columns.roles.get(role) for role in _ROLES)}
    labels: Labels = {}

    def loaded() -> Iterator[list[Sequence[str | None]]]:
        for some in _batches(itertools.chain([first or {}], objects)):
            rest = [_without(each, names, size) for each in some]
            for name in dict.fromkeys(itertools.chain.from_iterable(rest)):
                labels[name] = _merged(labels.get(name), [each.get(name) for each in rest])
            yield [*([_text(each.get(name)) for each in some] for name in taken), list(map(_to_json, rest))]

    numbered = {name: f"c{number}" for number, name in enumerate(taken)}
    _load(database, len(numbered) + 1, loaded())
    _make_entries(database, columns, numbered, {}, f"nullif(c{len(numbered)}, '{{}}')")
    return {name: pa.string() if pa.types.is_null(kind) else kind for name, kind in labels.items()}


_TEXTS: dict[str, Callable[[Database, TextIO], Labels]] = {
    ".txt": _read_lines,
    ".csv": _read_csv,
    ".tsv": partial(_read_csv, delimiters="\t"),
    **dict.fromkeys((".jsonl", ".ndjson"), _read_json_lines),
    ".json": _read_json,
}
LIST_EXTENSIONS = (*_TEXTS, ".parquet")
"""Extensions of files that may be lists."""


def _make_entries(
    database: Database, columns: _Columns, numbered: Mapping[str, str], shown: Mapping[str, str], extra: str = ""
) -> list[str]:
    """Make ``entries`` of the table ``found``; return the columns that ``extra`` holds, unless it is there already.

    ``numbered`` are the columns of ``found`` by their names in the list, ``shown`` the SQL of their JSON.
    """
    roles = {role: numbered[name] for role, name in columns.roles.items()}
    size = f"TRY_CAST(CAST({roles['num_bytes']} AS VARCHAR) AS BIGINT)" if "num_bytes" in roles else "0"
    if (
        "num_bytes" in roles
        and not extra
        and database.value(f"SELECT count(*) > 0 FROM found WHERE {roles['num_bytes']} IS NOT NULL AND {size} IS NULL")
    ):  # a column of another meaning
        size = "0"
        del roles["num_bytes"]
    taken = {*columns.uri, *(columns.roles[role] for role in _ROLES if role in roles)}
    others = [name for name in numbered if name not in taken]
    if not extra:
        pairs = [f"{_literal(name)}, {shown[name]}" for name in others if name in shown]
        extra = f"CAST(json_object({', '.join(pairs)}) AS VARCHAR)" if pairs else "NULL"
    address = numbered[columns.uri[0]]
    if len(columns.uri) == 2:
        address = f"'s3://' || {address} || '/' || {numbered[columns.uri[1]]}"
    # A URI of a file is percent-encoded; a host is that of another machine.
    local = f"regexp_extract(uri, '^{FILE_URI}$', 1, 'i')"
    version = f"trim(CAST({roles['version']} AS VARCHAR), '\"')" if "version" in roles else "''"
    # In an inventory a key with a slash at its end is what some tools put where a folder begins.
    is_there = f"NOT coalesce(ends_with({address}, '/'), FALSE)" if len(columns.uri) == 2 else "TRUE"
    if "is_latest" in roles:
        is_there += f" AND coalesce(lower(CAST({roles['is_latest']} AS VARCHAR)), 'true') <> 'false'"
    elif "modified" in roles:
        newest = f"row_number() OVER (PARTITION BY {address} ORDER BY {roles['modified']} DESC, rowid)"
        is_there += f" AND {newest} = 1"
    if "is_deleted" in roles:
        is_there += f" AND coalesce(lower(CAST({roles['is_deleted']} AS VARCHAR)), 'false') <> 'true'"
    database.run(
        f"""
        CREATE TABLE entries AS
        SELECT row, nullif(regexp_replace(
                if(NOT starts_with(lower(uri[:5]), 'file:') OR {local} = '', uri, TRY(url_decode({local}))),
                '^(\\./)+', ''), '') AS uri,
            num_bytes, version, extra
        FROM (
            SELECT rowid + 1 AS row, {address} AS uri, {size} AS num_bytes, {version} AS version, {extra} AS extra,
                {is_there} AS is_there
            FROM found
        ) WHERE is_there
        """
    )
    database.run("DROP TABLE found")
    return others


def _batches(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    left = iter(rows)
    while some := list(itertools.islice(left, _ROWS)):
        yield some


def _load(
    database: Database, num_columns: int, batches: Iterable[Sequence[Sequence[str | None]]], empty: str = "NULL"
) -> None:
    """Make the table ``found`` of batches of columns of text, c0, c1, ...; what equals ``empty`` is null."""
    schema = pa.schema([(f"c{number}", pa.string()) for number in range(num_columns)])
    arrays = (pa.record_batch([pa.array(column, pa.string()) for column in batch], schema) for batch in batches)
    shown = ", ".join(f"nullif({name}, {empty}) AS {name}" for name in schema.names)
    lines = pa.RecordBatchReader.from_batches(schema, arrays)
    database.run(f"CREATE TABLE found AS SELECT {shown} FROM lines", lines=lines)


def _every_value_comes_back(database: Database, column: str, sql: str) -> bool:
    """Return whether every text of a column is that of its value as a type; a look at the first ones rules most out."""
    if database.value(_EVERY_VALUE_COMES_BACK.format(column, sql, f"(FROM found LIMIT {_ROWS})")) is False:
        return False
    return bool(database.value(_EVERY_VALUE_COMES_BACK.format(column, sql, "found")))


def _open_text(path: str, newline: str | None) -> TextIO:
    """Open a text by its byte order mark, UTF-16 without one by its zeros, as UTF-8 otherwise."""
    with open(path, "rb") as file:
        start = file.read(1024)
    encoding = next((name for mark, name in _BOMS.items() if start.startswith(mark)), "utf-8")
    if encoding == "utf-8":
        for name, zeros in (("utf-16-le", start[1::2]), ("utf-16-be", start[::2])):
            if zeros.count(0) > len(start) / 8:  # ASCII in UTF-16 has a zero for each letter
                encoding = name
    return open(path, encoding=encoding, newline=newline)


def _undecodable_line(path: str) -> str:
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeError:
                return f" in line {number}"
    return ""


def _rewind(text: TextIO) -> str:
    """Go to the header of a table; return its delimiter where a line before it names one, as Excel's do."""
    text.seek(0)
    if delimiter := _SEPARATOR.fullmatch(text.readline()):
        return delimiter[1]
    text.seek(0)
    return ""


def _csv_header(text: TextIO, delimiter: str) -> list[str]:
    _rewind(text)
    header = next(csv.reader(text, delimiter=delimiter), [])
    return _unique([name.strip() or f"column{number}" for number, name in enumerate(header)])


def _csv_rows(text: TextIO, delimiter: str, num_columns: int) -> Iterator[list[str]]:
    """Yield the rows after the header, but for empty ones; ValueError at one that has not its columns."""
    _rewind(text)
    reader = csv.reader(text, delimiter=delimiter, strict=True)  # else a quote that is not closed takes all of the rest
    try:
        next(reader)
        for row in reader:
            if len(row) == num_columns and row[0] and not row[0].isspace():  # as nearly all are
                yield row
                continue
            if len(row) != num_columns and (len(row) < num_columns or any(row[num_columns:])) and "".join(row).strip():
                fields = f"has {len(row)} fields, its header {num_columns}"
                raise ValueError(f"line {reader.line_num} {fields}: quote those that hold '{delimiter}'")
            if "".join(row).strip():
                yield row[:num_columns]
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error


def _json_objects(text: TextIO) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text, 1):
        if not line.strip():
            continue
        try:
            value = _of_json(line)
        except ValueError as error:
            raise ValueError(f"line {number} is no JSON: {error}") from error
        if not isinstance(value, dict):
            raise ValueError(f"line {number} is no object of JSON: write one a line")
        yield value


def _without(row: dict[str, Any], taken: Set[str | None], size: str | None) -> dict[str, Any]:
    """Return what of an object of JSON travels: all but what the catalog has itself."""
    rest = row.copy()
    for name in taken:
        rest.pop(name, None)  # type: ignore[arg-type]
    if size is not None and size in row and not str(row[size]).isdecimal():  # a column of another meaning
        rest[size] = row[size]
    return rest


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _merged(kind: pa.DataType | None, values: Sequence[Any]) -> pa.DataType:
    """Return a type for values of JSON and those before them; that of text or JSON where there is no other."""
    if kind == pa.json_():
        return kind
    if (simple := _SIMPLE_TYPES.get(frozenset(map(type, values)) - {type(None)})) and kind in (None, simple):
        return simple
    try:
        types = [pa.array(values).type] if kind is None else [kind, pa.array(values).type]
        fields = [pa.schema([("value", each)]) for each in types]
        return pa.unify_schemas(fields, promote_options="permissive").field("value").type
    except (pa.ArrowException, OverflowError):
        is_nested = kind is not None and pa.types.is_nested(kind)
        return pa.json_() if is_nested else mixed_type(values)


def _joined(extra: str | None) -> str | None:
    """Make one object of JSON out of a list of them: each value a list."""
    if extra is None or not extra.startswith("["):
        return extra
    rows = json.loads(extra)
    names = dict.fromkeys(itertools.chain.from_iterable(rows))
    return json.dumps({name: [row.get(name) for row in rows] for name in names}, ensure_ascii=False)


def _unique(names: Iterable[str]) -> list[str]:
    """Number names that are there before."""
    unique: dict[str, None] = {}
    for name in names:
        numbered = (f"{name}_{number}" for number in itertools.count(2))
        unique[next(each for each in itertools.chain([name], numbered) if each not in unique)] = None
    return list(unique)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _extension(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
