"""The manifest: one row per source and style, the only memory of a run.

A plain Parquet dataset, one part per work unit. A part is written whole and only after the
outputs it names, and a unit that is done again replaces its part, so that reading the folder
at any instant gives each source in each style at most once.
"""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nst_ops.storage import Folder

MANIFEST = "manifest"

SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("source_uri", pa.string()),
        ("source_bytes", pa.int64()),
        ("source_version", pa.string()),
        ("kind", pa.string()),
        ("style", pa.string()),
        ("output_uri", pa.string()),
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
"""What there is one row of: item id and style."""


class Manifest:
    """The manifest of an output folder."""

    def __init__(self, output: Folder) -> None:
        self.output = output

    def table(self) -> pa.Table:
        """All rows, in no order; empty where there is no run yet."""
        paths = self._parts()
        if not paths:
            return SCHEMA.empty_table()
        return pa.concat_tables([self._read(path) for path in paths])

    def holds(self, unit_id: str, key: Key) -> bool:
        """Whether there is a row of ``key`` in the part of a unit."""
        relpath = f"{MANIFEST}/{unit_id}.parquet"
        return self.output.exists(relpath) and key in row_keys(self._read(self.output.path(relpath)))

    def commit(self, unit_id: str, rows: list[Row]) -> None:
        """Record ``rows`` as the outcome of a unit, beside its other rows, all or nothing."""
        relpath = f"{MANIFEST}/{unit_id}.parquet"
        merged = {}
        if self.output.exists(relpath):
            merged = {_key(row): row for row in self._read(self.output.path(relpath)).to_pylist()}
        merged.update({_key(row): row for row in rows})
        table = pa.Table.from_pylist(list(merged.values()), schema=SCHEMA)
        with self.output.atomic_write(relpath) as temporary:
            pq.write_table(table, temporary)

    def forget(self, keys: set[Key] | None) -> None:
        """Drop the rows of items that are done again, and their outputs; None drops all."""
        for path in [] if keys == set() else self._parts():
            table = self._read(path)
            gone = pa.array([keys is None or key in keys for key in row_keys(table)], pa.bool_())
            relpath = f"{MANIFEST}/{path.rsplit('/', 1)[1]}"
            if pc.all(gone).as_py():
                self.output.remove(relpath)
            elif pc.any(gone).as_py():
                with self.output.atomic_write(relpath) as temporary:
                    pq.write_table(table.filter(pc.invert(gone)), temporary)
            # Rows first: a row may never name an output that is not there.
            for uri in table.filter(gone)["output_uri"].drop_null().to_pylist():
                self.output.remove(uri.removeprefix(self.output.uri()).lstrip("/"))

    def _parts(self) -> list[str]:
        folder = self.output.path(MANIFEST)
        if not self.output.fs.exists(folder):
            return []
        return sorted(path for path in self.output.fs.ls(folder, detail=False) if path.endswith(".parquet"))

    def _read(self, path: str) -> pa.Table:
        return pq.read_table(io.BytesIO(self.output.fs.cat_file(path)), schema=SCHEMA)


def row_keys(table: pa.Table) -> list[Key]:
    """The key of every row."""
    return list(zip(table["item_id"].to_pylist(), table["style"].to_pylist(), strict=True))


def _key(row: Row) -> Key:
    return row["item_id"], row["style"]
