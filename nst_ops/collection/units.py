"""Work units: what one call of a worker processes and commits at once."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from nst_ops.collection.manifest import Key
from nst_ops.media.video.segments import Segment

STYLES_AT_ONCE = 4
"""Styles that a video is decoded for at once: each has an encoder of its own, 0.5 GiB at 1080p."""

Item = dict[str, Any]
"""A row of the catalog with its ids, and as ``styles`` the names of the styles it still has to get."""

_NAMESPACE = uuid.UUID("5d0dd3a0-7a9c-4d5e-9a43-3f1f8a2b6c11")


def item_id(source_uri: str) -> str:
    """Return the stable id of a source: the same file has the same id in every run."""
    return str(uuid.uuid5(_NAMESPACE, source_uri))


def unit_id(names: Iterable[str]) -> str:
    """Return the stable id of a work unit: the same names make the same unit in every run."""
    return str(uuid.uuid5(_NAMESPACE, "\n".join(names)))


@dataclass(frozen=True)
class WorkUnit:
    """Some images, a shard, or one video in up to ``STYLES_AT_ONCE`` styles, or a segment of it."""

    unit_id: str
    items: tuple[Item, ...]
    attempt: int = 1
    segment: Segment | None = None
    video_id: str = ""
    """For a segment: the name of all of its video; it changes with the source and every cut."""
    shard: str = ""
    """For image files that go into one shard: its path in the output, without style and extension."""

    @property
    def part(self) -> str:
        """Name of its part of the manifest: all segments of a video in one style share one; see ``in_each_style``."""
        return unit_id(_names(self.items)) if self.segment else self.unit_id

    @property
    def keys(self) -> list[Key]:
        """Keys of the manifest's rows that it comes to, or adds to; for a shard, before it is opened."""
        return [(item["source_uri"], style) for item in self.items for style in item["styles"]]

    def video_in(self, style: str) -> str:
        """Return the name of all segments of its video in a style."""
        return unit_id([self.video_id, style])


def in_each_style(unit: WorkUnit) -> list[WorkUnit]:
    """Part a segment of several styles into one for each, with a part of the manifest of its own.

    Segments of a video run at the same time: in a part for all styles they would overwrite each other's rows.
    Other units stay as they are.
    """
    if not unit.segment or len(unit.items[0]["styles"]) == 1:
        return [unit]
    items = few_styles_each(unit.items[0], 1)
    return [replace(unit, unit_id=unit_id([unit.unit_id, *item["styles"]]), items=(item,)) for item in items]


def split_unit(unit: WorkUnit) -> list[WorkUnit]:
    """Part a unit whose worker died, for the next try, so that the culprit is alone.

    Several items part into single ones, and an item of several styles into single styles: a style
    image may be the culprit, too. A shard stays as it is.
    """
    if unit.segment or unit.items[0]["kind"] == "shard":
        return [replace(one, attempt=unit.attempt + 1) for one in in_each_style(unit)]
    parts = unit.items if len(unit.items) > 1 else few_styles_each(unit.items[0], 1)
    shards = [f"{unit.shard}-{number}" if unit.shard else "" for number in range(len(parts))]
    return [replace(unit_of([part], unit.attempt + 1), shard=shard) for part, shard in zip(parts, shards, strict=True)]


def cut_unit(video: WorkUnit, segments: Sequence[Segment]) -> list[WorkUnit]:
    """Part a unit of one video into a unit for each of its segments."""
    (item,) = video.items
    cuts = [str(segment.start_pts) for segment in segments]
    name = unit_id([video.unit_id, item["source_version"], str(item["source_bytes"]), *cuts])
    return [
        replace(video, unit_id=unit_id([name, str(segment.number)]), segment=segment, video_id=name)
        for segment in segments
    ]


def without(unit: WorkUnit, done: Set[Key]) -> WorkUnit | None:
    """Leave out of ``unit`` what is done; None where nothing is left."""
    left = []
    for item in unit.items:
        if styles := tuple(style for style in item["styles"] if (item["source_uri"], style) not in done):
            left.append({**item, "styles": styles})
    return replace(unit, items=tuple(left)) if left else None


def unit_of(items: Sequence[Item], attempt: int = 1) -> WorkUnit:
    """Make a unit that is named by its items and their styles."""
    return WorkUnit(unit_id(_names(items)), tuple(items), attempt)


def few_styles_each(item: Item, count: int = STYLES_AT_ONCE) -> list[Item]:
    """Repeat the item once for every ``count`` styles that it has to get."""
    styles = item["styles"]
    return [{**item, "styles": styles[begin : begin + count]} for begin in range(0, len(styles), count)]


def _names(items: Sequence[Item]) -> list[str]:
    return [name for item in items for name in (item["item_id"], *item["styles"])]
