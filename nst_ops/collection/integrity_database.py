"""Comparison of the rows of a manifest with the files of its output, in SQL."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import pyarrow as pa

from nst_ops.collection.constants import RESERVED
from nst_ops.collection.database import Database
from nst_ops.collection.manifest import Key

_AGAIN = "verify with --repair, then run the job's command again: it does them again"
_CHECK_ACCESS = "check the permissions and the connection, then verify again"
_RESTORE = """restore it from a backup, or delete it and run the job's command again: its sources are done again, \
and their outputs are no longer extra"""
_FINISH = """expected while a run is going on or after it was killed: run the job's command to its end; what is \
still there then is not the run's, and yours to move or delete"""


class ProblemKind(StrEnum):
    """Kinds of problems, in the order in which they are shown."""

    meaning: str
    remedy: str

    def __new__(cls, value: str, meaning: str, remedy: str = _AGAIN) -> ProblemKind:
        """Make a member that is its ``value`` and knows what it means and what to do."""
        kind = str.__new__(cls, value)
        kind._value_, kind.meaning, kind.remedy = value, meaning, remedy
        return kind

    PART = "part", "parts of the manifest that cannot be read", _RESTORE
    ROW = "row", "rows that lack what their status demands"
    TWICE = "twice", "sources with two rows in one style"
    SHARED = "shared", "outputs that two sources claim"
    MISSING = "missing", "outputs that are not there"
    DAMAGED = "damaged", "outputs of another size or content"
    UNREADABLE = "unreadable", "outputs that could not be read", _CHECK_ACCESS
    EXTRA = "extra", "files that no row names", _FINISH


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    kind: ProblemKind
    what: str
    """The file, by its path below the output, or the source."""
    detail: str
    key: Key | None = None
    """Row to forget so that the next run puts it right; None where that does not help."""


class OutputFile(NamedTuple):
    """File that a row names, by itself or in a folder of frames, or an image in a shard."""

    source_uri: str
    style: str
    path: str
    """Path below the output; of an image in a shard, its name there."""
    num_bytes: int
    sha256: str

    @property
    def key(self) -> Key:
        """Key of its row."""
        return self.source_uri, self.style


class OutputShard(NamedTuple):
    """File that holds images which have rows of their own."""

    path: str
    """Path below the output."""
    num_bytes: int
    config_sha256: str
    """Configuration that its rows were made with."""
    images: dict[str, OutputFile]
    """Images by their names in the shard."""

    @property
    def key(self) -> Key:
        """Key of one of its rows."""
        return next(iter(self.images.values())).key


_FOLD = "CREATE MACRO fold(name) AS {}"
"""What two names have in common that are one file on the disk."""

_CREATE = """
SET preserve_insertion_order = false;
-- source_uri and style: the key that Manifest.forget knows a row by
CREATE TABLE rows (source_uri VARCHAR, style VARCHAR, source VARCHAR, status VARCHAR,
                   path VARCHAR, member VARCHAR, bytes BIGINT, sha256 VARCHAR, config VARCHAR, lack VARCHAR);
CREATE TABLE frames (source_uri VARCHAR, style VARCHAR, path VARCHAR, sha256 VARCHAR);
CREATE TABLE files (path VARCHAR, bytes BIGINT, is_media BOOLEAN);  -- bytes -1: not a regular file
CREATE TABLE problems (kind VARCHAR, what VARCHAR, detail VARCHAR, source_uri VARCHAR, style VARCHAR);
CREATE VIEW outputs AS
    SELECT source_uri, style, path, member, bytes, sha256, config FROM rows WHERE status = 'ok' AND path IS NOT NULL
    UNION ALL SELECT source_uri, style, path, NULL, NULL, sha256, NULL FROM frames;
CREATE VIEW present AS
    SELECT source_uri, style, outputs.path, member, outputs.bytes AS promised, sha256, config, files.bytes,
           -- Shards have no size in the manifest; tables of frames have been read by then.
           member IS NULL AND NOT ends_with(outputs.path, '.frames/frames.csv') AS single
    FROM outputs JOIN files ON fold(outputs.path) = fold(files.path);
CREATE VIEW sound AS
    FROM present WHERE single AND sha256 IS NOT NULL AND bytes >= 0 AND bytes = coalesce(promised, bytes);
CREATE VIEW packed AS
    FROM present WHERE member IS NOT NULL AND bytes >= 0;
"""

_ADD_ROWS = """
INSERT INTO rows
SELECT source_uri, style,
       coalesce(source_uri, 'a source without a name') || coalesce('#' || source_member, ''),
       status, path, output_member, output_bytes, output_sha256, config_sha256,
       CASE WHEN status IS NULL THEN 'has no status'
            WHEN status <> 'ok' AND (error_type IS NULL OR error_message IS NULL)
                THEN 'is ' || status || ', but does not say why'
            WHEN status = 'ok' AND (output_uri IS NULL OR output_bytes IS NULL OR output_sha256 IS NULL)
                THEN 'is ok, but does not say where its output is, how long, or with which hash'
            WHEN status = 'ok' AND path IS NULL
                THEN 'names an output outside of this folder: ' || output_uri END
FROM (SELECT * EXCLUDE (below), if(regexp_matches(below, '^/|(^|/)\\.\\.(/|$)'), NULL, below) AS path FROM (
    SELECT *, CASE WHEN starts_with(output_uri, $root) THEN substr(output_uri, length($root) + 1)
                   WHEN starts_with(output_uri, $recorded)
                       THEN substr(output_uri, length($recorded) + 1) END AS below FROM batch))
"""

_COMPARE = {
    ProblemKind.ROW: "SELECT source, lack, source_uri, style FROM rows WHERE lack IS NOT NULL",
    # Hashes first: of a hundred million rows a few are candidates, and only these are compared by name.
    ProblemKind.TWICE: """
        SELECT source, 'has ' || count(*) || ' rows in style ' || style, min(source_uri), style
        FROM rows WHERE hash(source, style) IN (
            SELECT hash(source, style) FROM rows GROUP BY 1 HAVING count(*) > 1)
        GROUP BY source, style HAVING count(*) > 1""",
    ProblemKind.SHARED: """
        SELECT min(path) || coalesce('#' || member, ''),
               'is the output of ' || min(source) || ' and of ' || max(source),
               arg_min(source_uri, source), arg_min(style, source)
        FROM rows WHERE status = 'ok' AND path IS NOT NULL AND hash(fold(path), member) IN (
            SELECT hash(fold(path), member) FROM rows WHERE status = 'ok' GROUP BY 1 HAVING count(*) > 1)
        GROUP BY fold(path), member HAVING min(source) <> max(source)
        UNION ALL  -- a shard of one source, in which every image is another
        SELECT min(path), 'is the output of ' || min(source_uri) || ' and of ' || max(source_uri),
               min(source_uri), arg_min(style, source_uri)
        FROM rows WHERE status = 'ok' AND member IS NOT NULL AND source <> source_uri
        GROUP BY fold(path) HAVING min(source_uri) <> max(source_uri)""",
    ProblemKind.MISSING: """
        SELECT path, 'is not there', source_uri, style
        FROM outputs ANTI JOIN files ON fold(outputs.path) = fold(files.path)""",
    ProblemKind.DAMAGED: """
        SELECT path, if(bytes < 0, 'is not a regular file',
                        format('has {:,} bytes, its row says {:,}', bytes, promised)), source_uri, style
        FROM present WHERE bytes < 0 OR (single AND bytes <> promised)""",
    ProblemKind.EXTRA: """
        SELECT path, 'is in no row', NULL, NULL
        FROM files ANTI JOIN outputs ON fold(outputs.path) = fold(files.path)
        WHERE NOT list_contains($reserved, fold(split_part(path, '/', 1)))
          AND path NOT LIKE '.%' AND path NOT LIKE '%/.%'
          -- The labels of a shard that was written as files lie beside its images, without rows.
          AND (is_media OR regexp_extract(path, '^(.*?\\.files)/', 1) NOT IN (
              SELECT regexp_extract(path, '^(.*?\\.files)/', 1) FROM outputs
              WHERE contains(path, '.files/')))
          -- Beside a table of frames that cannot be read nobody knows which frames are extra.
          AND regexp_replace(path, '[^/]*$', 'frames.csv') NOT IN (
              SELECT what FROM problems WHERE kind IN ('missing', 'damaged', 'unreadable'))""",
}
"""Query for each kind: what, detail, and the row to forget. Later ones look at earlier problems."""

# With a row go all others that name the same file: a shard is written whole.
_FORGET = """
SELECT DISTINCT source_uri, style FROM problems WHERE source_uri IS NOT NULL
UNION SELECT source_uri, style FROM rows WHERE path IN (
    SELECT path FROM rows SEMI JOIN problems USING (source_uri, style))
"""

_BATCH = 50_000
_FILE = "SELECT source_uri, style, path, bytes, sha256"


class IntegrityDatabase:
    """Rows of the manifest, files of the output, and the problems between them, in bounded memory.

    ``root`` is the URI of the output as it is opened, ``recorded_root`` as its run knew it; ``folds`` says whether its
    disk takes two names for one file that differ only in their case.
    """

    row_columns = (
        *("item_id", "style", "source_uri", "source_member", "status", "error_type", "error_message"),
        *("output_uri", "output_member", "output_bytes", "output_sha256", "config_sha256"),
    )
    """Columns of a manifest that are compared."""

    def __init__(self, memory: str, root: str, recorded_root: str, folds: bool = False) -> None:
        self._database = Database(memory)
        self._database.run(_FOLD.format("lower(nfc_normalize(name))" if folds else "name"))
        self._database.run(_CREATE)
        self._roots = {"root": f"{root}/", "recorded": f"{recorded_root}/"}

    def add_rows(self, table: pa.Table) -> None:
        """Add rows of the manifest with ``row_columns``."""
        self._database.run(_ADD_ROWS, self._roots, batch=table)

    def add_files(self, files: Iterable[tuple[str, int, bool]]) -> None:
        """Add files of the output: path below it, bytes (-1: no regular file), whether it is media."""
        self._insert("files", files)

    def add_frames(self, frames: Iterable[OutputFile]) -> None:
        """Add the frames that a folder of frames must hold; their sizes are not known."""
        self._insert("frames", ((*frame.key, frame.path, frame.sha256) for frame in frames))

    def add_problems(self, problems: Iterable[Problem]) -> None:
        """Add problems that the caller has found."""
        self._insert("problems", ((p.kind.value, p.what, p.detail, *(p.key or (None, None))) for p in problems))

    def compare(self) -> None:
        """Find the problems that can be seen without reading a file."""
        for kind, query in _COMPARE.items():
            values = {"reserved": sorted(RESERVED)} if kind is ProblemKind.EXTRA else None
            self._database.run(f"INSERT INTO problems SELECT '{kind.value}', * FROM ({query})", values)

    def tables_of_frames(self) -> Iterator[OutputFile]:
        """Yield the tables of all folders of frames."""
        tables = self._rows(f"{_FILE} FROM rows WHERE status = 'ok' AND ends_with(path, '.frames/frames.csv')")
        return itertools.starmap(OutputFile, tables)

    def sound_files(self) -> Iterator[OutputFile]:
        """Yield all files that look right from the outside, except shards."""
        return itertools.starmap(OutputFile, self._rows(f"{_FILE} FROM sound"))

    def shards(self) -> Iterator[OutputShard]:
        """Yield all shards that are there."""
        columns = "path, bytes, coalesce(config, ''), source_uri, style, member, promised, sha256"
        query = f"SELECT {columns} FROM packed ORDER BY path"
        for _, group in itertools.groupby(self._rows(query), key=lambda row: row[0]):
            (path, num_bytes, config, *_), *_ = of_shard = list(group)
            images = (OutputFile(*values) for _, _, _, *values in of_shard)
            yield OutputShard(path, num_bytes, config, {image.path: image for image in images})

    def num_bytes(self) -> int:
        """Return the bytes of all ``sound_files`` and ``shards``."""
        query = "SELECT bytes FROM sound UNION ALL SELECT any_value(bytes) FROM packed GROUP BY path"
        return int(self._database.value(f"SELECT coalesce(sum(bytes), 0) FROM ({query})"))

    def num_outputs(self) -> int:
        """Return the number of outputs that are there."""
        query = "SELECT count(*) FROM outputs SEMI JOIN files ON fold(outputs.path) = fold(files.path)"
        return int(self._database.value(query))

    def statuses(self) -> dict[str, int]:
        """Return the number of rows by status."""
        return dict(self._database.rows("SELECT coalesce(status, 'none'), count(*) FROM rows GROUP BY 1 ORDER BY 1"))

    def counts(self) -> dict[ProblemKind, int]:
        """Return the number of problems by kind, without kinds that have none."""
        found = dict(self._database.rows("SELECT kind, count(*) FROM problems GROUP BY kind"))
        return {kind: found[kind.value] for kind in ProblemKind if kind.value in found}

    def examples(self, kind: ProblemKind, count: int) -> list[Problem]:
        """Return the first problems of a kind by name."""
        query = """
            SELECT what, detail, source_uri, style FROM problems WHERE kind = $kind
            ORDER BY what, detail LIMIT $count"""
        rows = self._database.rows(query, {"kind": kind.value, "count": count})
        return [Problem(kind, what, detail, (uri, style) if uri else None) for what, detail, uri, style in rows]

    def keys_to_forget(self) -> set[Key]:
        """Return the keys of all rows that must go so that the next run puts right what it can."""
        return set(self._database.rows(_FORGET))

    def _insert(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        rows = iter(rows)
        while batch := list(itertools.islice(rows, _BATCH)):
            columns = {str(number): pa.array(values) for number, values in enumerate(zip(*batch, strict=True))}
            self._database.run(f"INSERT INTO {table} FROM batch", batch=pa.table(columns))

    def _rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        for batch in self._database.batches(query):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
