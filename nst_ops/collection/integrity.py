"""Verification of an output against its manifest: nothing missing, damaged, extra or twice."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import itertools
import json
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, BinaryIO, NamedTuple, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.dataset
from rich.progress import Progress

from nst_ops.collection.constants import MANIFEST, RESERVED, RUN_FILE
from nst_ops.collection.manifest import SCHEMA, Manifest
from nst_ops.collection.run_lock import machine_lock, refuse_live_run
from nst_ops.media.errors import MediaError
from nst_ops.media.formats import media_kind
from nst_ops.media.shards import open_shard
from nst_ops.media.video import FRAME_TABLE
from nst_ops.storage import Folder, RemoteFile, StorageError


class Kind(StrEnum):
    """Kinds of problems, in the order in which they are shown."""

    PART = "part"
    ROW = "row"
    TWICE = "twice"
    SHARED = "shared"
    MISSING = "missing"
    DAMAGED = "damaged"
    UNREADABLE = "unreadable"
    EXTRA = "extra"

    @property
    def meaning(self) -> str:
        """In a few words."""
        return _MEANINGS[self]

    @property
    def remedy(self) -> str:
        """What to do."""
        return _REMEDIES[self]


_MEANINGS = {
    Kind.PART: "parts of the manifest that cannot be read",
    Kind.ROW: "rows that lack what their status demands",
    Kind.TWICE: "sources with two rows in one style",
    Kind.SHARED: "outputs that two sources claim",
    Kind.MISSING: "outputs that are not there",
    Kind.DAMAGED: "outputs of another size or content",
    Kind.UNREADABLE: "outputs that could not be read",
    Kind.EXTRA: "files that no row names",
}

_AGAIN = "verify with --repair, then run the job's command again: it does them again"
_REMEDIES = {
    Kind.PART: "restore it from a backup, or delete it and run the job's command again: "
    "its sources are done again, and their outputs are no longer extra",
    Kind.ROW: _AGAIN,
    Kind.TWICE: _AGAIN,
    Kind.SHARED: _AGAIN,
    Kind.MISSING: _AGAIN,
    Kind.DAMAGED: _AGAIN,
    Kind.UNREADABLE: "check the permissions and the connection, then verify again",
    Kind.EXTRA: "expected while a run is going on or after it was killed: run the job's command to its end; "
    "what is still there then is not the run's, and yours to move or delete",
}

Key = tuple[str, str]
"""URI of the source and style of a row."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    kind: Kind
    what: str
    """The file, below the output, or the source."""
    detail: str
    key: Key | None = None
    """The row to forget so that the next run puts it right; None where that does not help."""


@dataclass(frozen=True)
class Verdict:
    """What a verification has found."""

    output: str
    quick: bool
    """Whether contents were left out."""
    statuses: dict[str, int]
    """Rows by status."""
    num_files: int
    """Outputs looked at: files, pictures of folders of frames, images in shards."""
    num_bytes: int
    """Bytes read and hashed."""
    elapsed_s: float
    counts: dict[Kind, int]
    examples: dict[Kind, list[Problem]]
    num_repaired: int | None = None
    """Rows dropped for the next run; None where that was not asked for."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.counts


COLUMNS = [
    *("item_id", "style", "source_uri", "source_member", "status", "error_type", "error_message"),
    *("output_uri", "output_member", "output_bytes", "output_sha256"),
]
"""What is read of a manifest."""

CREATE = """
-- owner: what Manifest.forget knows a row by, with its style
CREATE TABLE rows (owner VARCHAR, style VARCHAR, source VARCHAR, status VARCHAR,
                   place VARCHAR, member VARCHAR, bytes BIGINT, sha256 VARCHAR, lack VARCHAR);
CREATE TABLE pictures (owner VARCHAR, style VARCHAR, place VARCHAR, sha256 VARCHAR);
CREATE TABLE files (place VARCHAR, bytes BIGINT, is_media BOOLEAN);  -- bytes -1: not a regular file
CREATE TABLE problems (kind VARCHAR, what VARCHAR, detail VARCHAR, owner VARCHAR, style VARCHAR);
CREATE VIEW outputs AS
    SELECT owner, style, place, member, bytes, sha256 FROM rows WHERE status = 'ok' AND place IS NOT NULL
    UNION ALL SELECT owner, style, place, NULL, NULL, sha256 FROM pictures;
CREATE VIEW there AS
    SELECT owner, style, place, member, outputs.bytes AS promised, sha256, files.bytes,
           -- Shards have no size in the manifest; tables of frames have been read by then.
           member IS NULL AND NOT ends_with(place, '.frames/frames.csv') AS single
    FROM outputs JOIN files USING (place);
CREATE VIEW sound AS
    FROM there WHERE single AND sha256 IS NOT NULL AND bytes >= 0 AND bytes = coalesce(promised, bytes);
CREATE VIEW packed AS
    FROM there WHERE member IS NOT NULL AND bytes >= 0;
"""

ADD_ROWS = """
INSERT INTO rows
SELECT source_uri AS owner, style,
       coalesce(source_uri, 'a source without a name') || coalesce('#' || source_member, ''),
       status, place, output_member, output_bytes, output_sha256,
       CASE WHEN status IS NULL THEN 'has no status'
            WHEN status <> 'ok' AND (error_type IS NULL OR error_message IS NULL)
                THEN 'is ' || status || ', but does not say why'
            WHEN status = 'ok' AND (output_uri IS NULL OR output_bytes IS NULL OR output_sha256 IS NULL)
                THEN 'is ok, but does not say where its output is, how long, or with which hash'
            WHEN status = 'ok' AND place IS NULL
                THEN 'names an output outside of this folder: ' || output_uri END
FROM (SELECT *, CASE WHEN starts_with(output_uri, $root) THEN substr(output_uri, length($root) + 1)
                     WHEN starts_with(output_uri, $recorded)
                         THEN substr(output_uri, length($recorded) + 1) END AS place FROM batch)
"""

COMPARE = {
    Kind.ROW: "SELECT source, lack, owner, style FROM rows WHERE lack IS NOT NULL",
    # Hashes first: of a hundred million rows a few are candidates, and only these are compared by name.
    Kind.TWICE: """
        SELECT source, 'has ' || count(*) || ' rows in style ' || style, min(owner), style
        FROM rows WHERE hash(source, style) IN (
            SELECT hash(source, style) FROM rows GROUP BY 1 HAVING count(*) > 1)
        GROUP BY source, style HAVING count(*) > 1""",
    Kind.SHARED: """
        SELECT place || coalesce('#' || member, ''),
               'is the output of ' || min(source) || ' and of ' || max(source),
               arg_min(owner, source), arg_min(style, source)
        FROM rows WHERE status = 'ok' AND place IS NOT NULL AND hash(place, member) IN (
            SELECT hash(place, member) FROM rows WHERE status = 'ok' GROUP BY 1 HAVING count(*) > 1)
        GROUP BY place, member HAVING min(source) <> max(source)""",
    Kind.MISSING: """
        SELECT place, 'is not there', owner, style FROM outputs ANTI JOIN files USING (place)""",
    Kind.DAMAGED: """
        SELECT place, if(bytes < 0, 'is not a regular file',
                         format('has {:,} bytes, its row says {:,}', bytes, promised)), owner, style
        FROM there WHERE bytes < 0 OR (single AND bytes <> promised)""",
    Kind.EXTRA: """
        SELECT place, 'is in no row', NULL, NULL FROM files ANTI JOIN outputs USING (place)
        WHERE NOT list_contains($reserved, split_part(place, '/', 1))
          AND place NOT LIKE '.%' AND place NOT LIKE '%/.%'
          -- The labels of a shard that was written as files lie beside its images, without rows.
          AND (is_media OR regexp_extract(place, '^(.*?\\.files)/', 1) NOT IN (
              SELECT regexp_extract(place, '^(.*?\\.files)/', 1) FROM outputs
              WHERE contains(place, '.files/')))
          -- Beside a table of frames that cannot be read nobody knows which pictures are extra.
          AND regexp_replace(place, '[^/]*$', 'frames.csv') NOT IN (
              SELECT what FROM problems WHERE kind IN ('missing', 'damaged', 'unreadable'))""",
}
"""Of each kind: what, detail, and the row to forget. Later kinds look at the problems of earlier ones."""

FORGET = """
SELECT DISTINCT owner, style FROM problems WHERE owner IS NOT NULL
UNION SELECT owner, style FROM rows WHERE place IN (
    SELECT place FROM rows SEMI JOIN problems USING (owner, style))
"""


_BATCH = 50_000
_FILE = "SELECT owner, style, place, bytes, sha256"


class OutputFile(NamedTuple):
    """A file that a row names, by itself or in a folder of frames."""

    owner: str
    """What the manifest knows its row by, together with the style."""
    style: str
    place: str
    """Below the output."""
    num_bytes: int
    sha256: str

    @property
    def key(self) -> Key:
        """Of its row."""
        return self.owner, self.style


class Shard(NamedTuple):
    """A file that holds images which have rows of their own."""

    place: str
    num_bytes: int
    members: dict[str, OutputFile]
    """By name; their places are their names."""

    @property
    def key(self) -> Key:
        """Of one of its rows."""
        return next(iter(self.members.values())).key


class Ledger:
    """What the manifest says, what is there, and where the two differ.

    Args:
        scratch: an empty local folder, for what does not fit into the memory.
        memory: that may be used, such as ``2GB``.
        roots: URIs of the output, as it is opened and as its run knew it.
    """

    def __init__(self, scratch: str, memory: str, roots: tuple[str, str]) -> None:
        settings: dict[str, Any] = {
            "memory_limit": memory,
            "temp_directory": os.path.join(scratch, "duckdb"),
            "preserve_insertion_order": False,
        }
        self._database = duckdb.connect(config=settings)
        self._database.execute(CREATE)
        self._roots = dict(zip(("root", "recorded"), (f"{root}/" for root in roots), strict=True))

    def close(self) -> None:
        """Drop everything."""
        self._database.close()

    def add_rows(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Take the rows of a part of the manifest, all or none; from any thread.

        Args:
            batches: with ``COLUMNS``. An exception of theirs leaves nothing of the part.
        """
        with self._database.cursor() as cursor:
            cursor.begin()
            for batch in batches:
                cursor.register("batch", pa.Table.from_batches([batch]))
                cursor.execute(ADD_ROWS, self._roots)
            cursor.commit()

    def add_files(self, files: Iterable[tuple[str, int, bool]]) -> None:
        """Take the listing: place below the output, bytes (-1: no regular file), whether it is media."""
        self._insert("files", files)

    def add_pictures(self, pictures: Iterable[OutputFile]) -> None:
        """Take what folders of frames must hold; sizes are not known."""
        self._insert("pictures", ((*p.key, p.place, p.sha256) for p in pictures))

    def add_problems(self, problems: Iterable[Problem]) -> None:
        """Take what somebody else has found."""
        flat = ((p.kind.value, p.what, p.detail, *(p.key or (None, None))) for p in problems)
        self._insert("problems", flat)

    def compare(self) -> None:
        """Find everything that can be seen without reading a file."""
        for kind, query in COMPARE.items():
            values = {"reserved": sorted(RESERVED)} if kind is Kind.EXTRA else {}
            self._database.execute(f"INSERT INTO problems SELECT '{kind.value}', * FROM ({query})", values)

    def tables_of_frames(self) -> Iterator[OutputFile]:
        """The tables of all folders of frames."""
        found = "FROM rows WHERE status = 'ok' AND ends_with(place, '.frames/frames.csv')"
        return itertools.starmap(OutputFile, self._stream(f"{_FILE} {found}"))

    def sound_files(self) -> Iterator[OutputFile]:
        """All files that look right from the outside, but for shards."""
        return itertools.starmap(OutputFile, self._stream(f"{_FILE} FROM sound"))

    def shards(self) -> Iterator[Shard]:
        """All shards that are there."""
        columns = "place, bytes, owner, style, member, promised, sha256"
        rows = self._stream(f"SELECT {columns} FROM packed ORDER BY place")
        for (place, num_bytes), group in itertools.groupby(rows, key=lambda row: row[:2]):
            members = (OutputFile(*values) for _, _, *values in group)
            yield Shard(place, num_bytes, {member.place: member for member in members})

    def num_bytes(self) -> int:
        """Bytes of all ``sound_files`` and ``shards``."""
        query = """
            SELECT coalesce(sum(bytes), 0) FROM (
                SELECT bytes FROM sound UNION ALL SELECT any_value(bytes) FROM packed GROUP BY place)"""
        return int(self._one(query)[0])

    def num_outputs(self) -> int:
        """Outputs that are there."""
        return int(self._one("SELECT count(*) FROM outputs SEMI JOIN files USING (place)")[0])

    def statuses(self) -> dict[str, int]:
        """Rows by status."""
        return dict(self._all("SELECT coalesce(status, 'none'), count(*) FROM rows GROUP BY 1 ORDER BY 1"))

    def counts(self) -> dict[Kind, int]:
        """Problems by kind; kinds without one are left out."""
        found = dict(self._all("SELECT kind, count(*) FROM problems GROUP BY kind"))
        return {kind: found[kind.value] for kind in Kind if kind.value in found}

    def examples(self, kind: Kind, count: int) -> list[Problem]:
        """The first problems of a kind, by name."""
        query = "SELECT what, detail, owner, style FROM problems WHERE kind = ? ORDER BY what, detail LIMIT ?"
        return [
            Problem(kind, what, detail, (owner, style) if owner else None)
            for what, detail, owner, style in self._all(query, [kind.value, count])
        ]

    def keys_to_forget(self) -> set[Key]:
        """Of all rows that must go so that the next run puts right what it can.

        With a row go all others that name the same file: a shard is written whole.
        """
        return set(self._all(FORGET))

    def _insert(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        rows = iter(rows)
        with self._database.cursor() as cursor:
            while batch := list(itertools.islice(rows, _BATCH)):
                columns = [pa.array(values) for values in zip(*batch, strict=True)]
                cursor.register("batch", pa.table(columns, [str(n) for n in range(len(columns))]))
                cursor.execute(f"INSERT INTO {table} FROM batch")

    def _stream(self, query: str) -> Iterator[tuple[Any, ...]]:
        with self._database.cursor() as cursor:
            batches: Any = cursor.sql(query).to_arrow_reader(_BATCH)
            for batch in batches:
                yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    def _all(self, query: str, values: list[Any] | None = None) -> list[tuple[Any, ...]]:
        return list(self._database.execute(query, values or []).fetchall())

    def _one(self, query: str) -> tuple[Any, ...]:
        return self._all(query)[0]


A = TypeVar("A")
B = TypeVar("B")

_BLOCK = 2**22
"""Bytes of a file that a thread holds."""


def in_threads(function: Callable[[A], B], items: Iterable[A], num_threads: int) -> Iterator[B]:
    """Call ``function`` on every item; results in order, few of them waiting."""
    with ThreadPoolExecutor(num_threads, thread_name_prefix="verify") as pool:
        waiting: deque[Future[B]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 4 * num_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def open_file(output: Folder, place: str) -> BinaryIO:
    """A file to be read from its beginning to its end, in pieces."""
    media = output.media_source(place)
    return media.open(_BLOCK) if isinstance(media, RemoteFile) else open(media, "rb", _BLOCK)


def check_file(output: Folder, file: OutputFile) -> tuple[int, list[Problem]]:
    """Read a file and compare its hash.

    Returns:
        The bytes that were read, and what is wrong.
    """
    try:
        digest = hashlib.sha256()
        if file.num_bytes <= _BLOCK:
            digest.update(output.read_bytes(file.place))  # one request
        else:
            with open_file(output, file.place) as stream:
                while chunk := stream.read(_BLOCK):
                    digest.update(chunk)
    except StorageError:
        raise
    except Exception as error:  # whatever the file system raises: the others are checked all the same
        return 0, [unreadable(file, error)]
    if digest.hexdigest() == file.sha256:
        return file.num_bytes, []
    detail = f"has SHA-256 {digest.hexdigest()}, its row says {file.sha256}"
    return file.num_bytes, [Problem(Kind.DAMAGED, file.place, detail, file.key)]


def read_pictures(output: Folder, table: OutputFile) -> tuple[list[OutputFile], list[Problem]]:
    """What must lie beside the table of a folder of frames, unless the table is missing or damaged.

    Returns:
        Every picture, its size unknown, and what is wrong with the table.
    """
    try:
        data = output.read_bytes(table.place)
    except StorageError:
        raise
    except Exception as error:  # as above; that it is not there shows in the listing
        return [], [] if isinstance(error, FileNotFoundError) else [unreadable(table, error)]
    if hashlib.sha256(data).hexdigest() != table.sha256:
        return [], [Problem(Kind.DAMAGED, table.place, "is another table than its row says", table.key)]
    folder = table.place.removesuffix(FRAME_TABLE)
    rows = csv.DictReader(io.StringIO(data.decode()))
    return [OutputFile(*table.key, folder + row["name"], 0, row["sha256"]) for row in rows], []


def unreadable(file: OutputFile, error: Exception) -> Problem:
    """What is wrong with a file that raises this when it is read."""
    if isinstance(error, FileNotFoundError):
        return Problem(Kind.MISSING, file.place, "is not there any more", file.key)
    return Problem(Kind.UNREADABLE, file.place, f"{type(error).__name__}: {error}")


def check_shard(output: Folder, image_column: str, shard: Shard) -> tuple[int, list[Problem]]:
    """Read a shard and compare the hash of every image in it; labels have none in the manifest.

    Returns:
        The bytes that were read, and what is wrong.
    """
    file = OutputFile(*shard.key, shard.place, shard.num_bytes, "")
    try:
        with output.local_copy(shard.place) as path:
            return shard.num_bytes, list(_problems(path, image_column, shard))
    except StorageError:
        raise
    except MediaError as error:
        return 0, [Problem(Kind.DAMAGED, shard.place, f"is {error}", shard.key)]
    except Exception as error:  # whatever the file system raises: the others are checked all the same
        return 0, [unreadable(file, error)]


def _problems(path: str, image_column: str, shard: Shard) -> Iterator[Problem]:
    missing = dict(shard.members)
    for sample in open_shard(path, image_column).samples():
        for picture in sample.images:
            what = f"{shard.place}#{picture.member}"
            member = missing.pop(picture.member, None)
            if member is None:
                yield Problem(Kind.DAMAGED, what, "is in the shard, but in no row", shard.key)
                continue
            found = hashlib.sha256(picture.data).hexdigest()
            if len(picture.data) != member.num_bytes or found != member.sha256:
                yield Problem(
                    Kind.DAMAGED, what, f"has SHA-256 {found}, its row says {member.sha256}", member.key
                )
    for name, member in missing.items():
        yield Problem(Kind.MISSING, f"{shard.place}#{name}", "is not in the shard", member.key)


_ROWS_AT_ONCE = 50_000


class NoRunError(ValueError):
    """The folder holds no run, so that there is nothing to compare it with."""


class UnreadableManifestError(ValueError):
    """A manifest of which a part is damaged: what its rows say is not known."""


def verify(
    output: Folder,
    *,
    quick: bool = False,
    repair: bool = False,
    threads: int = 16,
    memory: str = "2GB",
    show: int = 20,
    progress: Progress | None = None,
) -> Verdict:
    """Compare what lies in an output with its manifest.

    Args:
        output: where a run has written.
        quick: leave the contents out: only names and sizes are compared.
        repair: drop the rows whose outputs are missing or damaged, and what is left of these outputs,
            so that the next run does them again. Nothing that no row names is touched.
        threads: that read files.
        memory: for the comparison, as DuckDB writes it; what does not fit goes to the disk.
        show: examples of each kind of problem.
        progress: where to show how far it is.

    Raises:
        NoRunError: no run has written there.
        OutputInUseError: to be repaired while a run writes to it.
        StorageError: the storage does not answer; no file's fault.
        UnreadableManifestError: to be repaired, but a part of the manifest cannot be read.
    """
    started = time.perf_counter()
    bars = progress or Progress(disable=True)
    config = _run_config(output)
    image_column = config.get("shards", {}).get("image_column", "image")
    # Its rows name the place where the run wrote: a copy that lies elsewhere is as good.
    roots = output.uri(), str(config["output"]).rstrip("/")
    with contextlib.ExitStack() as stack:
        if repair:
            stack.enter_context(machine_lock(output))
            refuse_live_run(output)
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="nst-ops-"))
        ledger = stack.enter_context(contextlib.closing(Ledger(scratch, memory, roots)))
        # Rows before files: of a run that is going on, each row that is seen has its output by then.
        _read_manifest(output, ledger, threads, bars)
        _read_tables_of_frames(output, ledger, threads)
        ledger.add_files(_listing(output, bars))
        ledger.compare()
        num_bytes = 0 if quick else _read_contents(output, ledger, image_column, threads, bars)
        num_repaired = _repair(output, ledger) if repair else None
        counts = ledger.counts()
        return Verdict(
            output=output.uri(),
            quick=quick,
            statuses=ledger.statuses(),
            num_files=ledger.num_outputs(),
            num_bytes=num_bytes,
            elapsed_s=time.perf_counter() - started,
            counts=counts,
            examples={kind: ledger.examples(kind, show) for kind in counts},
            num_repaired=num_repaired,
        )


def _run_config(output: Folder) -> dict[str, Any]:
    """The configuration of the run that has written there last."""
    try:
        return dict(json.loads(output.read_bytes(RUN_FILE))["config"])
    except FileNotFoundError as error:
        raise NoRunError(
            f"'{output.uri()}' holds no {RUN_FILE}: give the folder that a run wrote to"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise NoRunError(f"'{output.uri(RUN_FILE)}' is not a run record of nst-ops") from error


def _read_manifest(output: Folder, ledger: Ledger, threads: int, bars: Progress) -> None:
    """All rows; a part that cannot be read is a problem of its own."""
    parts = Manifest(output).parts()

    def read(part: str) -> list[Problem]:
        try:
            ledger.add_rows(_rows(output, part))
        except (StorageError, duckdb.Error):  # no fault of the part
            raise
        except Exception as error:  # of Arrow or of the file system: each has its own
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            return [Problem(Kind.PART, part, reason)]
        return []

    task = bars.add_task("parts of the manifest", total=len(parts))
    for problems in in_threads(read, parts, threads):
        ledger.add_problems(problems)
        bars.advance(task)


def _rows(output: Folder, part: str) -> Iterator[pa.RecordBatch]:
    """The rows of a part, a few thousand at a time; columns that it does not have are null."""
    options = pyarrow.dataset.ParquetFragmentScanOptions(page_checksum_verification=True)
    parquet = pyarrow.dataset.ParquetFileFormat(default_fragment_scan_options=options)
    with open_file(output, part) as file:
        rows = parquet.make_fragment(file)
        yield from rows.to_batches(
            SCHEMA, columns=COLUMNS, batch_size=_ROWS_AT_ONCE, batch_readahead=1, use_threads=False
        )


def _read_tables_of_frames(output: Folder, ledger: Ledger, threads: int) -> None:
    """What lies in folders of frames, which have one row each."""
    tables = ledger.tables_of_frames()
    for pictures, problems in in_threads(partial(read_pictures, output), tables, threads):
        ledger.add_pictures(pictures)
        ledger.add_problems(problems)


def _listing(output: Folder, bars: Progress) -> Iterator[tuple[str, int, bool]]:
    task = bars.add_task("files listed", total=0)
    for count, file in enumerate(output.files(), start=1):
        # A name that is no UTF-8 is in no row; Arrow could not hold it.
        name = file.relpath.encode(errors="surrogateescape").decode(errors="backslashreplace")
        yield name, file.num_bytes if file.regular else -1, media_kind(name) in ("image", "video")
        if count % 1000 == 0:
            bars.update(task, total=count, completed=count)


def _read_contents(output: Folder, ledger: Ledger, image_column: str, threads: int, bars: Progress) -> int:
    """Hash what looks right from the outside; how many bytes that were."""
    task = bars.add_task("MB read", total=ledger.num_bytes() / 1e6)
    files = in_threads(partial(check_file, output), ledger.sound_files(), threads)
    shards = in_threads(partial(check_shard, output, image_column), ledger.shards(), threads)
    total = 0
    for num_bytes, problems in itertools.chain(files, shards):
        ledger.add_problems(problems)
        bars.advance(task, num_bytes / 1e6)
        total += num_bytes
    return total


def _repair(output: Folder, ledger: Ledger) -> int:
    """Drop the rows that stand in the way of doing their outputs again; how many."""
    if Kind.PART in ledger.counts():
        raise UnreadableManifestError(
            f"'{output.uri(MANIFEST)}' has parts that cannot be read: restore or delete them, then repair"
        )
    keys = ledger.keys_to_forget()
    Manifest(output).forget(keys)
    return len(keys)
