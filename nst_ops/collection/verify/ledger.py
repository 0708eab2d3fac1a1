"""Rows of a manifest against files of a folder, joined on disk: a hundred million do not fit into memory."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from nst_ops.collection.layout import RESERVED
from nst_ops.collection.verify.problems import Key, Kind, Problem
from nst_ops.collection.verify.queries import ADD_ROWS, COMPARE, CREATE, FORGET

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
