"""What went wrong most often, and where to look."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

COLUMNS = ("status", "error_type", "error_message", "source_uri")
"""What of the manifest is needed."""


class ErrorGroup(NamedTuple):
    """Rows that went wrong in the same way."""

    num_rows: int
    error_type: str
    message: str
    example: str
    """URI of one source."""


def top_errors(rows: pa.Table, limit: int | None = None) -> list[ErrorGroup]:
    """The errors of rows that are failed or crashed, most frequent first.

    Args:
        rows: with at least ``COLUMNS``.
        limit: groups at most; None for all.
    """
    bad = rows.filter(pc.is_in(rows["status"], pa.array(["failed", "crashed"])))
    groups = bad.group_by(["error_type", "error_message"]).aggregate(
        [("source_uri", "count"), ("source_uri", "min")]
    )
    groups = groups.sort_by(
        [("source_uri_count", "descending"), ("error_type", "ascending"), ("error_message", "ascending")]
    )
    columns = ("source_uri_count", "error_type", "error_message", "source_uri_min")
    rows_of_groups = groups.slice(0, limit).select(columns).to_pylist()
    return [ErrorGroup(*row.values()) for row in rows_of_groups]
