"""Names and values that everything about a run shares."""

from __future__ import annotations

from nst_ops.storage import SCRATCH

RUN_FILE = "run.json"
MANIFEST = "manifest"
COMPACTING = ".compacting"
"""Compacted parts of the manifest, while those that they replace are still there."""
SEGMENTS = ".segments"
"""Finished segments of films that are not finished."""
REPORT = "report"
REPORT_PAGE = f"{REPORT}/index.html"

STATUSES = ("ok", "failed", "crashed", "skipped")
"""Values of the manifest's column ``status``."""

RESERVED = frozenset({RUN_FILE, MANIFEST, COMPACTING, SEGMENTS, REPORT, SCRATCH})
"""No output of a source may lie there."""
