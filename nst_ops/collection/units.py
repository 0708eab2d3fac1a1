"""Work units: what one call of a worker processes and commits at once."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from nst_ops.collection.inputs import unit_id
from nst_ops.collection.manifest import Key
from nst_ops.media.video.segments import Segment

STYLES_AT_ONCE = 4
"""That a film is decoded for at once: each has an encoder of its own, 0.5 GiB at 1080p with its frames."""

Item = dict[str, Any]
"""A row of the catalog with its ids, and as ``styles`` the names of the styles it still has to get."""


@dataclass(frozen=True)
class WorkUnit:
    """What one call of a worker processes and commits at once.

    Some images, a shard, or one video in up to ``STYLES_AT_ONCE`` styles, or a segment of it.
    """

    unit_id: str
    items: tuple[Item, ...]
    attempt: int = 1
    segment: Segment | None = None
    film: str = ""
    """Of a segment: names all segments of its film, and changes with the source and with every cut."""
    shard: str = ""
    """Of image files that are written into one shard: its path in the output, without style and extension."""

    @property
    def part(self) -> str:
        """Name of its part of the manifest: all segments of a film in one style share one.

        See ``in_each_style`` for a segment of several.
        """
        return unit_id(_names(self.items)) if self.segment else self.unit_id

    @property
    def keys(self) -> list[Key]:
        """Of the rows of the manifest that it comes to, or adds to; of a shard, before it is opened."""
        return [key for item in self.items for key in item_keys(item)]

    def film_in(self, style: str) -> str:
        """Of a segment: names all segments of its film in a style."""
        return unit_id([self.film, style])


def split_unit(unit: WorkUnit) -> list[WorkUnit]:
    """A unit whose worker died, for the next try: in parts, so that the culprit is alone.

    Several items part into single ones, and an item of several styles into single styles: a style
    picture may be the culprit, too. A shard stays as it is.
    """
    if unit.segment or unit.items[0]["kind"] == "shard":
        return [replace(one, attempt=unit.attempt + 1) for one in in_each_style(unit)]
    parts = unit.items if len(unit.items) > 1 else one_each(unit.items[0])
    shards = [f"{unit.shard}-{number}" if unit.shard else "" for number in range(len(parts))]
    return [
        replace(unit_of([part], unit.attempt + 1), shard=shard)
        for part, shard in zip(parts, shards, strict=True)
    ]


def in_each_style(unit: WorkUnit) -> list[WorkUnit]:
    """A segment of several styles once for each, with a part of the manifest of its own; others as they are.

    Segments of a film run at the same time: in a part for all styles they would overwrite each other's rows.
    """
    if not unit.segment or len(unit.items[0]["styles"]) == 1:
        return [unit]
    return [
        replace(unit, unit_id=unit_id([unit.unit_id, *item["styles"]]), items=(item,))
        for item in one_each(unit.items[0])
    ]


def cut_unit(film: WorkUnit, segments: Sequence[Segment]) -> list[WorkUnit]:
    """A unit of one video as a unit for each of its segments."""
    (item,) = film.items
    cuts = [str(segment.start_pts) for segment in segments]
    name = unit_id([film.unit_id, item["source_version"], str(item["source_bytes"]), *cuts])
    return [
        WorkUnit(unit_id([name, str(segment.number)]), film.items, segment=segment, film=name)
        for segment in segments
    ]


def without(unit: WorkUnit, done: Set[Key]) -> WorkUnit | None:
    """What of ``unit`` is not done yet; None where nothing is left."""
    left = []
    for item in unit.items:
        styles = tuple(style for style in item["styles"] if (item["source_uri"], style) not in done)
        if styles:
            left.append({**item, "styles": styles})
    return replace(unit, items=tuple(left)) if left else None


def unit_of(items: Sequence[Item], attempt: int = 1) -> WorkUnit:
    """A unit that is named by what is in it."""
    return WorkUnit(unit_id(_names(items)), tuple(items), attempt)


def one_each(item: Item) -> list[Item]:
    """The item once for every style that it has to get."""
    return [{**item, "styles": (style,)} for style in item["styles"]]


def few_each(item: Item) -> list[Item]:
    """The item once for every few styles that it has to get."""
    styles = item["styles"]
    begins = range(0, len(styles), STYLES_AT_ONCE)
    return [{**item, "styles": styles[begin : begin + STYLES_AT_ONCE]} for begin in begins]


def item_keys(item: Item) -> list[Key]:
    """Keys of the rows that an item comes to."""
    return [(item["source_uri"], style) for style in item["styles"]]


def _names(items: Sequence[Item]) -> list[str]:
    return [name for item in items for name in (item["item_id"], *item["styles"])]
