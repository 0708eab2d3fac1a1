"""Manifest of an output: one row per source and style, the only memory of a run.

A plain Parquet dataset, one part per work unit, later compacted into few large ones. A part is written whole and after
the outputs that it names, and a unit done again replaces it: at any instant a source is there at most once a style.
"""

from __future__ import annotations

import contextlib
import io
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from nst_ops.collection.constants import COMPACTING, MANIFEST
from nst_ops.storage import Folder

REPLACES, COUNTS = b"nst_ops.replaces", b"nst_ops.num_rows"
"""Metadata of a compacted part: JSON lists of the parts that it replaces, and of their numbers of rows."""

RECORDED = (
    *("source_uri", "source_member", "style", "status", "kind", "source_version", "source_bytes"),
    *("output_uri", "output_member"),
)
"""Columns that say what is done."""
_COMPACTED = "compacted-"
_PARTS_PER_FILE = 4_000
"""Parts that are compacted into one file; of 100 images each, some 60 MB."""
_ROW_GROUP = 50_000

_TEXT, _NUMBER = pa.string(), pa.float64()
# The members are names of images in shards; bytes and hash of an output are then the member's.
SCHEMA = pa.schema(
    dict.fromkeys(("item_id", "source_uri", "source_member"), _TEXT)
    | {"source_bytes": pa.int64()}
    | dict.fromkeys(("source_version", "kind", "style", "style_mix", "output_uri", "output_member"), _TEXT)
    | {"output_bytes": pa.int64()}
    | dict.fromkeys(("output_sha256", "status", "error_type", "error_message", "note"), _TEXT)
    | dict.fromkeys(("attempts", "width", "height", "output_width", "output_height"), pa.int32())
    | {"num_frames": pa.int64(), "frame_rate": _NUMBER, "duration_s": _NUMBER}
    | dict.fromkeys(("video_codec", "audio_codec", "model", "model_sha256", "config_sha256"), _TEXT)
    | dict.fromkeys(("run_id", "unit_id", "worker", "device", "precision", "encoder"), _TEXT)
    | dict.fromkeys(("decode_s", "stylize_s", "smooth_s", "encode_s"), _NUMBER)
    | {"finished_at": pa.timestamp("ms", tz="UTC")}
)

Row = dict[str, Any]
Key = tuple[str, str]
"""URI of a source and a style: one row, or for a shard of images one row for each of its images."""


class Manifest:
    """Manifest of an output folder."""

    def __init__(self, output: Folder) -> None:
        self.output = output

    def table(self, columns: Sequence[str] = SCHEMA.names) -> pa.Table:
        """Return all rows, or some columns of them, in no order; empty where there is no run yet."""
        return self.reader(columns).read_all()

    def reader(self, columns: Sequence[str] = SCHEMA.names) -> pa.RecordBatchReader:
        """Return a reader of columns of all rows, in no order, which fetches remote parts ahead."""
        schema = pa.schema([SCHEMA.field(name) for name in columns])
        batches = (batch for read in self.read_parts(self.parts(), columns) for batch in read().to_batches())
        return pa.RecordBatchReader.from_batches(schema, batches)

    def read_parts(
        self, parts: Sequence[str], columns: Sequence[str] = SCHEMA.names, streams: int = 8
    ) -> Iterator[Callable[[], pa.Table]]:
        """Yield for each part a function that returns its rows or raises why it cannot.

        Remote parts are fetched ahead in several streams. A part that is compacted meanwhile is read from the part
        that has replaced it.
        """
        latest = _Compacted([], [], SCHEMA.empty_table())
        for part, fetch in zip(parts, self.output.read_ahead(parts, streams), strict=True):

            def read(part: str = part, fetch: Callable[[], bytes] = fetch) -> pa.Table:
                nonlocal latest
                try:
                    return _decode(fetch(), columns)
                except FileNotFoundError:
                    name = part.split("/")[1]
                    if part == f"{COMPACTING}/{name}":
                        return self.read(part, columns)
                    if name not in latest.replaced:
                        latest = self._compacted(name, columns)
                    return latest.rows_of(name)

            yield read

    def parts(self) -> list[str]:
        """Return the paths of all parts below the output; those that are being compacted count once."""
        while True:
            waiting, names = self._names(COMPACTING), self._names(MANIFEST)
            with contextlib.suppress(FileNotFoundError):
                replaced = {part for name in waiting for part in self.replaced_by(f"{COMPACTING}/{name}")}
                if self._names(COMPACTING) == waiting:  # else a compaction has begun or ended meanwhile
                    rest = [name for name in names if name not in replaced and name not in waiting]
                    return [f"{COMPACTING}/{name}" for name in waiting] + [f"{MANIFEST}/{n}" for n in rest]

    def read(self, part: str, columns: Sequence[str] = SCHEMA.names) -> pa.Table:
        """Return a part, or columns of it; raises FileNotFoundError or, where it is damaged, OSError."""
        try:
            return _decode(self.output.read_bytes(part), columns)
        except FileNotFoundError:
            if not part.startswith(COMPACTING):
                raise
            return self.read(part.replace(COMPACTING, MANIFEST, 1), columns)  # the compaction has ended meanwhile

    def replaced_by(self, part: str) -> list[str]:
        """Return the names of the parts that a compacted part stands for."""
        return list(json.loads(self._metadata(part)[REPLACES]))

    def keys_of(self, part: str) -> set[Key]:
        """Return the keys of the rows in the part of a unit; none if it has no part."""
        try:
            return set(row_keys(self.read(f"{MANIFEST}/{part}.parquet", ["source_uri", "style"])))
        except (FileNotFoundError, NotADirectoryError):
            return set()

    def commit(self, part: str, rows: list[Row]) -> None:
        """Record ``rows`` as the outcome of a unit, beside its other rows, all or nothing."""
        relpath = f"{MANIFEST}/{part}.parquet"
        earlier: list[Row] = []
        with contextlib.suppress(FileNotFoundError):
            earlier = self.read(relpath).to_pylist()
        merged = {(row["item_id"], row["style"]): row for row in earlier + rows}
        self._write(relpath, pa.Table.from_pylist(list(merged.values()), schema=SCHEMA))

    def forget(self, keys: set[Key] | None) -> None:
        """Drop the rows of sources that are done again, and their outputs; None drops all.

        With a shard go the rows of all images that were written into it. No unit may be at work.
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
                self._write(relpath, table.filter(pa.array([not is_gone for is_gone in gone])))
            # Rows first: a row may never name an output that is not there.
            outputs = {uri for uri, is_gone in zip(uris, gone, strict=True) if is_gone and uri}
            for uri in sorted(outputs):
                if output := self.output.relpath_of(uri):  # a row cannot have anything else removed
                    self.output.remove(output)

    def _shards_of(self, keys: set[Key]) -> set[str]:
        """Return the URIs of the shards that hold outputs of these keys."""
        return {
            row["output_uri"]
            for batch in self.reader(["source_uri", "style", "output_uri", "output_member"])
            if batch["output_member"].null_count < len(batch)
            for row in batch.to_pylist()
            if row["output_member"] is not None and (row["source_uri"], row["style"]) in keys
        }

    def _write(self, relpath: str, table: pa.Table) -> None:
        with self.output.atomic_write(relpath) as temporary:
            pq.write_table(table, temporary, write_page_checksum=True)

    def _names(self, folder: str) -> list[str]:
        return [name for name in self.output.list(folder) if name.endswith(".parquet")]

    def _metadata(self, part: str) -> dict[bytes, bytes]:
        with self.output.open(part) as file:
            return pq.read_metadata(file).metadata or {}

    def _compacted(self, name: str, columns: Sequence[str]) -> _Compacted:
        """Return the compacted part that has replaced ``name``."""
        for part in self.parts():
            if part.split("/")[1].startswith(_COMPACTED):
                metadata = self._metadata(part)
                if COUNTS in metadata and name in (replaced := json.loads(metadata[REPLACES])):
                    return _Compacted(replaced, json.loads(metadata[COUNTS]), self.read(part, columns))
        raise FileNotFoundError(f"'{self.output.uri(MANIFEST)}/{name}' is not there any more")


class _Compacted(NamedTuple):
    """Rows of many parts, one part after the other."""

    replaced: list[str]
    counts: list[int]
    table: pa.Table

    def rows_of(self, name: str) -> pa.Table:
        place = self.replaced.index(name)
        return self.table.slice(sum(self.counts[:place]), self.counts[place])


def compact(manifest: Manifest, at_least: int = 1_000, keep: Callable[[str], bool] = lambda part: False) -> None:
    """Replace small parts by large ones, if there are ``at_least`` so many. Units may be at work beside.

    ``keep`` says of the name of a part whether its unit may be committed from now on: it is at work, waits to be
    tried again, or has not begun. Such a part is not touched: its rows would be lost or twice.
    """
    names = [name for name in manifest.output.list(MANIFEST) if not name.startswith(_COMPACTED)]
    names = [name for name in names if not keep(name.removesuffix(".parquet"))]
    if len(names) < at_least:
        return
    for begin in range(0, len(names), _PARTS_PER_FILE):
        _write_compacted(manifest, names[begin : begin + _PARTS_PER_FILE])
        finish_compaction(manifest)


def finish_compaction(manifest: Manifest) -> None:
    """Let compacted parts take the place of those that they stand for, also after a kill."""
    for name in manifest.output.list(COMPACTING):
        waiting = f"{COMPACTING}/{name}"
        manifest.output.remove_many(f"{MANIFEST}/{part}" for part in manifest.replaced_by(waiting))
        manifest.output.rename(waiting, f"{MANIFEST}/{name}")
    manifest.output.remove(COMPACTING)


def _write_compacted(manifest: Manifest, names: list[str]) -> None:
    counts, waiting = [], []
    with (
        manifest.output.atomic_write(f"{COMPACTING}/{_COMPACTED}{uuid.uuid4().hex}.parquet") as temporary,
        pq.ParquetWriter(temporary, SCHEMA, write_page_checksum=True) as writer,
    ):
        for fetch in manifest.output.read_ahead(f"{MANIFEST}/{name}" for name in names):
            waiting.append(_decode(fetch()))
            counts.append(len(waiting[-1]))
            if sum(map(len, waiting)) >= _ROW_GROUP:
                writer.write_table(pa.concat_tables(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.concat_tables(waiting))
        writer.add_key_value_metadata({REPLACES: json.dumps(names), COUNTS: json.dumps(counts)})


def row_keys(table: pa.Table | pa.RecordBatch) -> list[Key]:
    """Return the key of every row."""
    return list(zip(table["source_uri"].to_pylist(), table["style"].to_pylist(), strict=True))


def _decode(data: bytes, columns: Sequence[str] = SCHEMA.names) -> pa.Table:
    """Decode a part; columns that it lacks, as of an earlier version, are null."""
    return pq.read_table(io.BytesIO(data), schema=SCHEMA, columns=list(columns), page_checksum_verification=True)
