"""Names of files and values that everything about a run shares."""

from __future__ import annotations

from typing import TypeAlias

import pyarrow as pa

from nst_ops.storage.local import SCRATCH

RUN_FILE = "run.json"
MANIFEST = "manifest"
COMPACTING = ".compacting"
"""Folder of compacted parts of the manifest, while those that they replace are still there."""
SEGMENTS = ".segments"
"""Folder of finished segments of videos that are not finished."""
PACKING = ".packing"
"""Folder of notes of shards that are being made from files."""
REPORT = "report"
REPORT_PAGE = f"{REPORT}/index.html"
PROGRESS_FILE = f"{REPORT}/progress.json"

TEXT_STYLES = "styles_from_text.safetensors"
"""Network of many styles of a run with ``style.text``: the row that was fitted to it, before those it came from."""

STATUSES = ("ok", "failed", "crashed", "skipped")
"""Values of the manifest's column ``status``."""

RESERVED = frozenset({RUN_FILE, MANIFEST, COMPACTING, SEGMENTS, PACKING, REPORT, SCRATCH, TEXT_STYLES})
"""Names in the output that no output of a source may take."""

CATALOG_SCHEMA = pa.schema(
    [
        ("relpath", pa.string()),
        ("source_bytes", pa.int64()),
        ("source_version", pa.string()),
        ("kind", pa.string()),
        ("problem", pa.string()),  # why it cannot even be opened; null for the others
        ("no_media", pa.string()),  # why nothing is made of it, where there is more to say than its kind, other
        ("extra", pa.string()),  # JSON of what a list says of it beside its URI; null for most
    ]
)
"""Columns of the catalog: every file of the input."""

Labels: TypeAlias = dict[str, pa.DataType]
"""Columns that travel with the files of a list, with their types, which hold for all of it."""
