"""The plan: what is left to do, cut into work units. The same input gives the same units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from nst_ops.collection.discover import unit_id
from nst_ops.collection.manifest import MANIFEST, Key
from nst_ops.collection.run_record import RUN_FILE
from nst_ops.collection.segments import SEGMENTS
from nst_ops.collection.styles import StyleChoice
from nst_ops.media.formats import Container, likely_output
from nst_ops.media.video.segments import Segment
from nst_ops.storage import SCRATCH

REPORT = "report"
RESERVED = frozenset({MANIFEST, REPORT, RUN_FILE, SCRATCH, SEGMENTS})
"""What the run itself writes into the output."""

Item = dict[str, Any]
"""A row of the catalog, and as ``styles`` the names of the styles it still has to get."""


@dataclass(frozen=True)
class WorkUnit:
    """What one call of a worker processes and commits at once.

    Some images, or one video in one style, or a segment of it.
    """

    unit_id: str
    items: tuple[Item, ...]
    attempt: int = 1
    segment: Segment | None = None
    film: str = ""
    """Of a segment: names all segments of its film, and changes with the source and with every cut."""

    @property
    def part(self) -> str:
        """Name of its part of the manifest: all segments of a film share the film's."""
        return unit_id(_names(self.items)) if self.segment else self.unit_id

    @property
    def num_bytes(self) -> int:
        """Bytes of the sources, once for every style: how much work it is."""
        whole = sum(item["source_bytes"] * len(item["styles"]) for item in self.items)
        return int(whole // (self.segment.count if self.segment else 1))

    @property
    def num_rows(self) -> int:
        """Rows of the manifest that it comes to; a film's segments come to one together."""
        return len(self.keys)

    @property
    def keys(self) -> list[Key]:
        """Of the rows of the manifest that it comes to, or adds to."""
        return [key for item in self.items for key in _keys(item)]


@dataclass(frozen=True)
class Refusal:
    """An item that needs no opening to know its outcome, in any style."""

    item: Item
    status: str
    error_type: str
    message: str


@dataclass(frozen=True)
class Plan:
    """Units for the workers, and what the driver settles itself before any work."""

    units: list[WorkUnit]
    refusals: list[Refusal]
    stale: set[Key]
    """Rows that must be forgotten first, because they are done again."""
    num_done: int
    """Rows that an earlier run has finished."""


def plan_units(
    catalog: pa.Table,
    manifest: pa.Table,
    images_per_unit: int,
    retry_failed: bool,
    choice: StyleChoice,
    container: Container = "auto",
) -> Plan:
    """Subtract what the manifest holds from the catalog and cut the rest into units.

    Args:
        catalog: what ``discover`` found.
        manifest: all rows so far. A source that has changed since its row is done again.
        images_per_unit: images that a unit writes; a video in one style is a unit of its own.
        retry_failed: take items again that failed or crashed.
        choice: the styles.
        container: of stylized videos, as in the configuration.
    """
    items: list[Item] = [{**item, "styles": choice.of(item["relpath"])} for item in catalog.to_pylist()]
    columns = ["item_id", "style", "status", "source_version", "source_bytes"]
    rows = {(row["item_id"], row["style"]): row for row in manifest.select(columns).to_pylist()}
    stale = {
        key
        for item in items
        for key in _keys(item)
        if (row := rows.get(key)) and _is_stale(item, row, retry_failed)
    }
    done = rows.keys() - stale
    refusals = {refusal.item["item_id"]: refusal for refusal in _refusals(items, choice, container)}
    images = [item for item in items if item["kind"] == "image" and item["item_id"] not in refusals]
    videos = [item for item in items if item["kind"] == "video" and item["item_id"] not in refusals]
    # Cut the whole catalog first and subtract then: a unit keeps its id, and so the name of its
    # manifest part, however much of it is done.
    size = max(1, images_per_unit // choice.per_item)
    groups = [_unit(images[i : i + size]) for i in range(0, len(images), size)]
    groups += [_unit([alone]) for video in videos for alone in _one_each(video)]
    units = [rest for unit in groups if (rest := without(unit, done))]
    units.sort(key=lambda unit: -unit.num_bytes)  # the longest film last would leave the others idle
    new_refusals = [
        Refusal(left, refusal.status, refusal.error_type, refusal.message)
        for refusal in refusals.values()
        if (left := _left(refusal.item, done))["styles"]
    ]
    return Plan(units, new_refusals, stale, sum(key in done for item in items for key in _keys(item)))


def without(unit: WorkUnit, done: Set[Key]) -> WorkUnit | None:
    """What of ``unit`` is not done yet; None where nothing is left."""
    left = tuple(item for item in (_left(item, done) for item in unit.items) if item["styles"])
    return replace(unit, items=left) if left else None


def split_unit(unit: WorkUnit) -> list[WorkUnit]:
    """A unit whose worker died, for the next try: in parts, so that the culprit is alone.

    Several items part into single ones, and an item of several styles into single styles: a style
    picture may be the culprit, too. A segment stays as it is.
    """
    if unit.segment:
        return [replace(unit, attempt=unit.attempt + 1)]
    parts = unit.items if len(unit.items) > 1 else _one_each(unit.items[0])
    return [_unit([part], unit.attempt + 1) for part in parts]


def cut_unit(film: WorkUnit, segments: Sequence[Segment]) -> list[WorkUnit]:
    """A unit of one video as a unit for each of its segments."""
    (item,) = film.items
    cuts = [str(segment.start_pts) for segment in segments]
    name = unit_id([film.unit_id, item["source_version"], str(item["source_bytes"]), *cuts])
    return [
        WorkUnit(unit_id([name, str(segment.number)]), film.items, segment=segment, film=name)
        for segment in segments
    ]


def _unit(items: list[Item], attempt: int = 1) -> WorkUnit:
    return WorkUnit(unit_id(_names(items)), tuple(items), attempt)


def _names(items: Sequence[Item]) -> list[str]:
    return [name for item in items for name in (item["item_id"], *item["styles"])]


def _one_each(item: Item) -> list[Item]:
    """The item once for every style that it has to get."""
    return [{**item, "styles": (style,)} for style in item["styles"]]


def _left(item: Item, done: Set[Key]) -> Item:
    """The item with the styles that it still has to get."""
    styles = tuple(style for style in item["styles"] if (item["item_id"], style) not in done)
    return {**item, "styles": styles}


def _keys(item: Item) -> list[Key]:
    return [(item["item_id"], style) for style in item["styles"]]


def _is_stale(item: Item, row: dict[str, Any], retry_failed: bool) -> bool:
    changed = (item["source_version"], item["source_bytes"]) != (row["source_version"], row["source_bytes"])
    return changed or (retry_failed and row["status"] in ("failed", "crashed"))


def _refusals(items: list[Item], choice: StyleChoice, container: Container) -> list[Refusal]:
    media = [item for item in items if item["kind"] != "other"]
    targets = Counter(likely_output(item["relpath"], container) for item in media)
    folders = {str(folder) for target in targets for folder in PurePosixPath(target).parents}
    refusals = []
    for item in items:
        relpath = item["relpath"]
        top = relpath.split("/", 1)[0]
        if item["problem"]:
            refusals.append(Refusal(item, "failed", "UnreadableFileError", item["problem"]))
        elif item["kind"] == "other":
            reason = "not an image or video by its extension; rename it if it is one"
            refusals.append(Refusal(item, "skipped", "UnsupportedMediaError", reason))
        elif top in RESERVED and not choice.has_folders:
            reason = f"'{top}' is where the run keeps its own files: rename it in the input"
            refusals.append(Refusal(item, "failed", "OutputCollisionError", reason))
        elif (target := likely_output(relpath, container)) != relpath and (
            targets[target] > 1 or target in folders
        ):
            # Whoever keeps its own name has the better right to it.
            reason = f"its output {target} belongs to another input: rename one of them"
            refusals.append(Refusal(item, "failed", "OutputCollisionError", reason))
    return refusals
