"""The plan: what is left to do, cut into work units. The same input gives the same units."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from nst_ops.collection.discover import unit_id
from nst_ops.collection.manifest import MANIFEST
from nst_ops.collection.run_record import RUN_FILE
from nst_ops.media.formats import likely_output
from nst_ops.storage import SCRATCH

REPORT = "report"
_RESERVED = {MANIFEST, REPORT, RUN_FILE, SCRATCH}

Item = dict[str, Any]
"""A row of the catalog."""


@dataclass(frozen=True)
class WorkUnit:
    """What one call of a worker processes and commits at once: some images, or one video."""

    unit_id: str
    items: tuple[Item, ...]
    attempt: int = 1

    @property
    def num_bytes(self) -> int:
        """Bytes to read."""
        return sum(item["source_bytes"] for item in self.items)


@dataclass(frozen=True)
class Refusal:
    """An item that needs no opening to know its outcome."""

    item: Item
    status: str
    error_type: str
    message: str


@dataclass(frozen=True)
class Plan:
    """Units for the workers, and what the driver settles itself before any work."""

    units: list[WorkUnit]
    refusals: list[Refusal]
    stale_ids: set[str]
    """Items with a row that must be forgotten first, because they are done again."""
    num_done: int
    """Items that an earlier run has finished."""


def plan_units(catalog: pa.Table, manifest: pa.Table, images_per_unit: int, retry_failed: bool) -> Plan:
    """Subtract what the manifest holds from the catalog and cut the rest into units.

    Args:
        catalog: what ``discover`` found.
        manifest: all rows so far. A source that has changed since its row is done again.
        images_per_unit: images in a unit; a video is a unit of its own.
        retry_failed: take items again that failed or crashed.
    """
    items: list[Item] = catalog.to_pylist()
    columns = ["item_id", "status", "source_version", "source_bytes"]
    rows = {row["item_id"]: row for row in manifest.select(columns).to_pylist()}
    stale = {
        item["item_id"]
        for item in items
        if (row := rows.get(item["item_id"])) and _is_stale(item, row, retry_failed)
    }
    done = rows.keys() - stale
    refusals = {refusal.item["item_id"]: refusal for refusal in _refusals(items)}
    images = [item for item in items if item["kind"] == "image" and item["item_id"] not in refusals]
    videos = [item for item in items if item["kind"] == "video" and item["item_id"] not in refusals]
    # Cut the whole catalog first and subtract then: a unit keeps its id, and so the name of its
    # manifest part, however much of it is done.
    groups = [images[i : i + images_per_unit] for i in range(0, len(images), images_per_unit)]
    groups += [[video] for video in videos]
    units = [
        WorkUnit(unit_id([item["item_id"] for item in group]), left)
        for group in groups
        if (left := tuple(item for item in group if item["item_id"] not in done))
    ]
    units.sort(key=lambda unit: -unit.num_bytes)  # the longest film last would leave the others idle
    new_refusals = [refusal for key, refusal in refusals.items() if key not in done]
    return Plan(units, new_refusals, stale, sum(item["item_id"] in done for item in items))


def split_unit(unit: WorkUnit) -> list[WorkUnit]:
    """A unit whose worker died, for the next try: one item each, so that the culprit is alone."""
    return [WorkUnit(unit_id([item["item_id"]]), (item,), unit.attempt + 1) for item in unit.items]


def _is_stale(item: Item, row: dict[str, Any], retry_failed: bool) -> bool:
    changed = (item["source_version"], item["source_bytes"]) != (row["source_version"], row["source_bytes"])
    return changed or (retry_failed and row["status"] in ("failed", "crashed"))


def _refusals(items: list[Item]) -> list[Refusal]:
    media = [item for item in items if item["kind"] != "other"]
    targets = Counter(likely_output(item["relpath"]) for item in media)
    refusals = []
    for item in items:
        relpath = item["relpath"]
        top = relpath.split("/", 1)[0]
        if item["problem"]:
            refusals.append(Refusal(item, "failed", "UnreadableFileError", item["problem"]))
        elif item["kind"] == "other":
            reason = "not an image or video by its extension; rename it if it is one"
            refusals.append(Refusal(item, "skipped", "UnsupportedMediaError", reason))
        elif top in _RESERVED:
            reason = f"'{top}' is where the run keeps its own files: rename it in the input"
            refusals.append(Refusal(item, "failed", "OutputCollisionError", reason))
        elif (target := likely_output(relpath)) != relpath and targets[target] > 1:
            # Whoever keeps its own name has the better right to it.
            reason = f"its output {target} belongs to another input: rename one of them"
            refusals.append(Refusal(item, "failed", "OutputCollisionError", reason))
    return refusals
