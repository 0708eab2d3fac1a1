"""Results of a run: the rows of its manifest counted and sampled, however many they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from nst_ops.collection.database import Database
from nst_ops.collection.manifest import Manifest

_COLUMNS = (
    *("source_uri", "source_member", "style", "status", "kind", "error_type", "error_message"),
    *("output_uri", "output_member", "output_bytes", "duration_s", "run_id", "num_frames", "device", "precision"),
)


class ErrorGroup(NamedTuple):
    """Group of rows that went wrong in the same way."""

    num_rows: int
    error_type: str
    message: str
    example: str
    """URI of one source."""


class Results:
    """Rows of a manifest as they are now.

    With ``catalog``, a database with this table and what the URIs of its files begin with, rows of sources that have
    gone since are left out.
    """

    def __init__(self, manifest: Manifest, catalog: tuple[Database, str] | None = None) -> None:
        self._database, root = catalog or (Database(), "")
        among = "SEMI JOIN catalog ON source_uri = $root || catalog.relpath" if catalog else ""
        self._database.run(
            f"CREATE OR REPLACE TABLE results AS SELECT * FROM source_rows {among}",
            {"root": root} if catalog else None,
            source_rows=manifest.reader(_COLUMNS),
        )

    def statuses(self) -> dict[str, int]:
        """Return the number of rows by status."""
        return dict(self._database.rows("SELECT status, count(*) FROM results GROUP BY status"))

    def made_by(self, run_id: str) -> tuple[int, int]:
        """Return the numbers of images and of video frames that a run stylized."""
        sql = """
            SELECT count(*) FILTER (kind <> 'video'), coalesce(sum(num_frames) FILTER (kind = 'video'), 0)
            FROM results WHERE run_id = $run_id AND status = 'ok'
        """
        ((images, frames),) = self._database.rows(sql, {"run_id": run_id})
        return int(images), int(frames)

    def devices(self, run_id: str) -> list[dict[str, object]]:
        """Return the devices and precisions in which a run stylized, each with its number of rows."""
        sql = """
            SELECT device, precision, count(*) FROM results
            WHERE run_id = $run_id AND status = 'ok' AND device IS NOT NULL GROUP BY ALL ORDER BY ALL
        """
        names = "device", "precision", "num_rows"
        return [dict(zip(names, row, strict=True)) for row in self._database.rows(sql, {"run_id": run_id})]

    def errors(self, count: int, statuses: Sequence[str] = ("failed", "crashed")) -> list[ErrorGroup]:
        """Return the most frequent errors, or the reasons of rows with other ``statuses``."""
        sql = """
            SELECT count(*) AS times, error_type, error_message, min(source_uri) FROM results
            WHERE status IN (SELECT unnest($statuses)) GROUP BY error_type, error_message
            ORDER BY times DESC, error_type, error_message LIMIT $count
        """
        return [ErrorGroup(*row) for row in self._database.rows(sql, {"count": count, "statuses": list(statuses)})]

    def sample(self, count: int) -> pa.Table:
        """Return up to ``count`` rows with status ok, drawn at random, but the same for the same rows."""
        sql = """
            SELECT * FROM results WHERE status = 'ok'
            ORDER BY hash(source_uri || coalesce(source_member, '') || style), source_uri, style LIMIT $count
        """
        return self._database.table(sql, {"count": count})
