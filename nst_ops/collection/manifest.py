"""The manifest: one row per source and style, the only memory of a run.

A plain Parquet dataset, one part per work unit. A part is written whole and only after the
outputs it names, and a unit that is done again replaces its part, so that reading the folder
at any instant gives each source at most once.
"""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nst_ops.storage import Folder

MANIFEST = "manifest"
RUN_FILE = "run.json"

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
        ("encode_s", pa.float64()),
        ("finished_at", pa.timestamp("ms", tz="UTC")),
    ]
)

Row = dict[str, Any]


class OutputInUseError(ValueError):
    """The output holds another run; the message names the difference."""


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

    def commit(self, unit_id: str, rows: list[Row]) -> None:
        """Record ``rows`` as the outcome of a unit, beside its other rows, all or nothing."""
        relpath = f"{MANIFEST}/{unit_id}.parquet"
        merged = {}
        if self.output.exists(relpath):
            merged = {row["item_id"]: row for row in self._read(self.output.path(relpath)).to_pylist()}
        merged.update({row["item_id"]: row for row in rows})
        table = pa.Table.from_pylist(list(merged.values()), schema=SCHEMA)
        with self.output.atomic_write(relpath) as temporary:
            pq.write_table(table, temporary)

    def forget(self, item_ids: set[str]) -> None:
        """Drop the rows of items that are done again; until then they have none."""
        if not item_ids:
            return
        for path in self._parts():
            table = self._read(path)
            keep = pc.invert(pc.is_in(table["item_id"], pa.array(sorted(item_ids))))
            if pc.all(keep).as_py():
                continue
            with self.output.atomic_write(f"{MANIFEST}/{path.rsplit('/', 1)[1]}") as temporary:
                pq.write_table(table.filter(keep), temporary)

    def start(self, record: dict[str, Any], overwrite: bool) -> None:
        """Write ``run.json``, after refusing an output that another model or configuration made.

        Args:
            record: facts of this run; ``record["fingerprint"]`` holds all that shapes outputs.
            overwrite: drop the manifest of an earlier run instead of refusing.

        Raises:
            OutputInUseError: the earlier fingerprint differs.
        """
        if overwrite:
            self.output.remove(MANIFEST)
        else:
            self.refuse_other(record["fingerprint"])
        with self.output.atomic_write(RUN_FILE) as temporary:
            temporary.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def refuse_other(self, fingerprint: dict[str, Any]) -> None:
        """Raise ``OutputInUseError`` if the output was made with another fingerprint."""
        if not self.output.exists(RUN_FILE):
            if self._parts():
                raise OutputInUseError(
                    f"'{self.output.uri()}' holds a manifest but no {RUN_FILE}: take another output, "
                    "or --overwrite"
                )
            return
        try:
            earlier = json.loads(self.output.read_bytes(RUN_FILE))["fingerprint"]
        except (ValueError, KeyError, TypeError) as error:
            raise OutputInUseError(f"'{self.output.uri(RUN_FILE)}' is not a run record of nst-ops") from error
        differences = [
            f"{key} was {earlier.get(key)!r}, is now {fingerprint.get(key)!r}"
            for key in sorted({*earlier, *fingerprint})
            if earlier.get(key) != fingerprint.get(key)
        ]
        if differences:
            raise OutputInUseError(
                f"'{self.output.uri()}' holds another run: {'; '.join(differences)}. "
                "Take another output, or --overwrite"
            )

    def _parts(self) -> list[str]:
        folder = self.output.path(MANIFEST)
        if not self.output.fs.exists(folder):
            return []
        return sorted(path for path in self.output.fs.ls(folder, detail=False) if path.endswith(".parquet"))

    def _read(self, path: str) -> pa.Table:
        return pq.read_table(io.BytesIO(self.output.fs.cat_file(path)), schema=SCHEMA)
