"""The manifest: one row per source and style, the only memory of a run.

A plain Parquet dataset, one part per work unit, later compacted into few large ones. A part is
written whole and only after the outputs it names, and a unit that is done again replaces its part,
so that reading the folder at any instant gives each source in each style at most once.
"""

from __future__ import annotations

import contextlib
import io
import json
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nst_ops.collection.constants import COMPACTING, MANIFEST
from nst_ops.storage import Folder

REPLACES = b"nst_ops.replaces"
"""Key in the metadata of a compacted part: JSON list of the parts whose rows it holds."""

RECORDED = (
    *("source_uri", "source_member", "style", "status", "kind", "source_version", "source_bytes"),
    *("output_uri", "output_member"),
)
"""Columns that say what is done."""
_READ_AT_ONCE = 8

SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("source_uri", pa.string()),
        ("source_member", pa.string()),  # of an image in a shard: its name there
        ("source_bytes", pa.int64()),
        ("source_version", pa.string()),
        ("kind", pa.string()),
        ("style", pa.string()),
        ("output_uri", pa.string()),
        ("output_member", pa.string()),  # of an image in a shard: bytes and hash are the member's
        ("output_bytes", pa.int64()),
        ("output_sha256", pa.string()),
        ("status", pa.string()),
        ("error_type", pa.string()),
        ("error_message", pa.string()),
        ("note", pa.string()),
        ("attempts", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("output_width", pa.int32()),
        ("output_height", pa.int32()),
        ("num_frames", pa.int64()),
        ("frame_rate", pa.float64()),
        ("duration_s", pa.float64()),
        ("video_codec", pa.string()),
        ("audio_codec", pa.string()),
        ("model", pa.string()),
        ("model_sha256", pa.string()),
        ("config_sha256", pa.string()),
        ("run_id", pa.string()),
        ("unit_id", pa.string()),
        ("worker", pa.string()),
        ("decode_s", pa.float64()),
        ("stylize_s", pa.float64()),
        ("smooth_s", pa.float64()),
        ("encode_s", pa.float64()),
        ("finished_at", pa.timestamp("ms", tz="UTC")),
    ]
)

Row = dict[str, Any]
Key = tuple[str, str]
"""Of all that a source gives in a style, which is one row, or for a shard one for each of its images: URI
of the source and style."""


class Manifest:
    """The manifest of an output folder."""

    def __init__(self, output: Folder) -> None:
        self.output = output

    def table(self, columns: Sequence[str] = SCHEMA.names) -> pa.Table:
        """All rows, in no order, or some of their columns; empty where there is no run yet."""
        return self.reader(columns).read_all()

    def reader(self, columns: Sequence[str] = SCHEMA.names) -> pa.RecordBatchReader:
        """Columns of all rows, in no order, read ahead by a few threads while they are consumed."""
        names = list(columns)
        schema = pa.schema([SCHEMA.field(name) for name in names])
        tables = self.read_all(self.parts(), names)
        return pa.RecordBatchReader.from_batches(
            schema, (batch for table in tables for batch in table.to_batches())
        )

    def parts(self) -> list[str]:
        """Paths of all parts below the output; those being compacted count once."""
        waiting = [name for name in self.output.list(COMPACTING) if name.endswith(".parquet")]
        replaced = {part for name in waiting for part in self.replaced_by(f"{COMPACTING}/{name}")}
        names = [name for name in self.output.list(MANIFEST) if name.endswith(".parquet")]
        rest = [name for name in names if name not in replaced and name not in waiting]
        return [f"{COMPACTING}/{name}" for name in waiting] + [f"{MANIFEST}/{name}" for name in rest]

    def replaced_by(self, relpath: str) -> list[str]:
        """Names of the parts that a compacted part stands for."""
        metadata = pq.read_schema(io.BytesIO(self.output.read_bytes(relpath))).metadata
        return list(json.loads(metadata[REPLACES]))

    def read(self, relpath: str, columns: list[str] | None = None) -> pa.Table:
        """A part, or columns of it."""
        schema = SCHEMA if columns is None else pa.schema([SCHEMA.field(name) for name in columns])
        return pq.read_table(io.BytesIO(self.output.read_bytes(relpath)), schema=SCHEMA, columns=schema.names)

    def keys_of(self, part: str) -> set[Key]:
        """Keys of the rows in the part of a unit; none if it has no part."""
        try:
            return set(row_keys(self.read(f"{MANIFEST}/{part}.parquet", ["source_uri", "style"])))
        except (FileNotFoundError, NotADirectoryError):
            return set()

    def commit(self, part: str, rows: list[Row]) -> None:
        """Record ``rows`` as the outcome of a unit, beside its other rows, all or nothing."""
        relpath = f"{MANIFEST}/{part}.parquet"
        merged = {}
        with contextlib.suppress(FileNotFoundError):
            merged = {_identity(row): row for row in self.read(relpath).to_pylist()}
        merged.update({_identity(row): row for row in rows})
        self.write(relpath, pa.Table.from_pylist(list(merged.values()), schema=SCHEMA))

    def write(self, relpath: str, table: pa.Table) -> None:
        """Write a part, all or nothing."""
        with self.output.atomic_write(relpath) as temporary:
            pq.write_table(table, temporary, write_page_checksum=True)

    def forget(self, keys: set[Key] | None) -> None:
        """Drop the rows of sources that are done again, and their outputs; None drops all.

        With a shard go the rows of all images that were written into it.
        """
        if keys == set():
            return
        spoiled = set() if keys is None else self._shards_of(keys)
        for relpath in self.parts():
            table = self.read(relpath)
            uris, members = table["output_uri"].to_pylist(), table["output_member"].to_pylist()
            gone = [
                keys is None or key in keys or (member is not None and uri in spoiled)
                for key, uri, member in zip(row_keys(table), uris, members, strict=True)
            ]
            if all(gone):
                self.output.remove(relpath)
            elif any(gone):
                self.write(relpath, table.filter(pa.array([not is_gone for is_gone in gone])))
            # Rows first: a row may never name an output that is not there.
            outputs = {uri for uri, is_gone in zip(uris, gone, strict=True) if is_gone and uri}
            for uri in sorted(outputs):
                self.output.remove(uri.removeprefix(self.output.uri()).lstrip("/"))

    def _shards_of(self, keys: set[Key]) -> set[str]:
        """URIs of the shards that hold outputs of these keys."""
        columns = ["source_uri", "style", "output_uri", "output_member"]
        return {
            row["output_uri"]
            for batch in self.reader(columns)
            if batch["output_member"].null_count < len(batch)
            for row in batch.to_pylist()
            if row["output_member"] is not None and (row["source_uri"], row["style"]) in keys
        }

    def read_all(self, relpaths: Iterable[str], columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Parts in their order, read ahead by a few threads."""
        waiting: deque[Future[pa.Table]] = deque()
        with ThreadPoolExecutor(_READ_AT_ONCE, thread_name_prefix="manifest") as pool:
            for relpath in relpaths:
                waiting.append(pool.submit(self.read, relpath, columns))
                if len(waiting) >= _READ_AT_ONCE:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


def row_keys(table: pa.Table | pa.RecordBatch) -> list[Key]:
    """The key of every row."""
    return list(zip(table["source_uri"].to_pylist(), table["style"].to_pylist(), strict=True))


def _identity(row: Row) -> tuple[str, str]:
    """What there is one row of."""
    return row["item_id"], row["style"]


_PREFIX = "compacted-"
_PARTS = 4_000
"""Parts that go into one file; of 100 images each, some 60 MB."""
_ROW_GROUP = 50_000


def compact(
    manifest: Manifest, at_least: int = 1_000, keep: Callable[[str], bool] = lambda part: False
) -> None:
    """Replace small parts by large ones, if there are ``at_least`` so many; no unit may be at work."""
    names = [
        name
        for name in manifest.output.list(MANIFEST)
        if not name.startswith(_PREFIX) and not keep(name.removesuffix(".parquet"))
    ]
    if len(names) < at_least:
        return
    for begin in range(0, len(names), _PARTS):
        _write(manifest, names[begin : begin + _PARTS])
        finish_compaction(manifest)


def finish_compaction(manifest: Manifest) -> None:
    """Let compacted parts take the place of those that they stand for; no unit may be at work."""
    for name in manifest.output.list(COMPACTING):
        waiting = f"{COMPACTING}/{name}"
        manifest.output.remove_many(f"{MANIFEST}/{part}" for part in manifest.replaced_by(waiting))
        manifest.output.rename(waiting, f"{MANIFEST}/{name}")
    manifest.output.remove(COMPACTING)


def _write(manifest: Manifest, names: list[str]) -> None:
    schema = SCHEMA.with_metadata({REPLACES: json.dumps(names).encode()})
    relpath = f"{COMPACTING}/{_PREFIX}{uuid.uuid4().hex}.parquet"
    with (
        manifest.output.atomic_write(relpath) as temporary,
        pq.ParquetWriter(temporary, schema, write_page_checksum=True) as writer,
    ):
        for table in _grouped(manifest, names):
            writer.write_table(table.cast(schema))


def _grouped(manifest: Manifest, names: list[str]) -> Iterator[pa.Table]:
    tables: list[pa.Table] = []
    for table in manifest.read_all(f"{MANIFEST}/{name}" for name in names):
        tables.append(table)
        if sum(map(len, tables)) >= _ROW_GROUP:
            yield pa.concat_tables(tables)
            tables = []
    if tables:
        yield pa.concat_tables(tables)
