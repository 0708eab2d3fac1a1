"""The plan: what is left to do, cut into work units. The same input gives the same units.

All of it happens in a database, so that the driver plans a hundred million files in bounded memory;
units are made one after the other while the run goes on.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from nst_ops.collection.database import Database
from nst_ops.collection.discover import item_id, unit_id
from nst_ops.collection.left import Rules, find_left
from nst_ops.collection.manifest import Key
from nst_ops.collection.units import STYLES_AT_ONCE, Item, WorkUnit, unit_of

_FETCH = 2_000
"""Units that are read from the database at once."""


@dataclass(frozen=True)
class Refusal:
    """An item that needs no opening to know its outcome, in any style."""

    item: Item
    status: str
    error_type: str
    message: str


class Plan:
    """What is left to do: the catalog without what the manifest holds.

    Args:
        catalog: what ``discover`` found: a table or a reader of its batches, in any order.
        recorded: rows of the manifest so far, with at least ``RECORDED``'s columns. A source that has
            changed since its row is done again.
        rules: how it is cut.
        root: what the URI of every source begins with, up to its path.
    """

    def __init__(
        self,
        catalog: pa.Table | pa.RecordBatchReader,
        recorded: pa.Table | pa.RecordBatchReader,
        rules: Rules,
        root: str = "",
    ) -> None:
        self.root = root
        self.database = Database()
        """Holds ``found``, the catalog."""
        self._rules = rules
        self.database.run("CREATE TABLE found AS SELECT * FROM catalog", catalog=catalog)
        find_left(self.database, recorded, rules, root)
        self.num_files: int = self.database.value("SELECT count(*) FROM found")
        self.num_bytes = int(self.database.value("SELECT coalesce(sum(source_bytes), 0) FROM found"))
        self.num_units: int = self.database.value("SELECT count(*) FROM units")
        self.num_left: int = self.database.value("SELECT count(*) FROM todo")
        refused: int = self.database.value("SELECT count(*) FROM refused_todo")
        self.num_done = self.num_files * rules.choice.per_item - self.num_left - refused
        """Rows that an earlier run has finished; a shard counts as one."""

    def units(self) -> Iterator[WorkUnit]:
        """Units for the workers, the largest first: the longest film last would leave the others idle."""
        sql = """
            SELECT rank, units.kind, number, first, last, size,
                relpath, source_bytes, source_version, extra, style
            FROM todo JOIN units USING (kind, number) WHERE rank BETWEEN $begin AND $end
            ORDER BY rank, position, place
        """
        for begin in range(0, self.num_units, _FETCH):
            rows = self.database.table(sql, {"begin": begin, "end": begin + _FETCH - 1}).to_pylist()
            for _, group in itertools.groupby(rows, key=lambda row: row["rank"]):
                yield self._unit(list(group))

    def refusals(self) -> Iterator[list[Refusal]]:
        """What the driver settles itself before any work, in batches."""
        sql = "SELECT * FROM refused_todo ORDER BY relpath, place"
        for batch in self.database.batches(sql):
            yield [
                Refusal(item, first["status"], first["error_type"], first["message"])
                for item, first in self._items(batch.to_pylist())
            ]

    def stale(self) -> set[Key]:
        """Keys of rows that must be forgotten first, because their sources are done again."""
        sql = """
            SELECT relpath, style FROM todo WHERE is_stale
            UNION ALL SELECT relpath, style FROM refused_todo WHERE is_stale
        """
        return {(self.root + relpath, style) for relpath, style in self.database.rows(sql)}

    def left(self, kind: str) -> tuple[int, int]:
        """(rows, bytes of sources) that are left to do of a kind."""
        rows, num_bytes = self.database.rows(
            "SELECT count(*), coalesce(sum(source_bytes), 0) FROM todo WHERE kind = $kind", {"kind": kind}
        )[0]
        return rows, int(num_bytes)

    def count_refused(self, error_type: str) -> int:
        """Items that are refused for a reason, and have no row yet."""
        sql = "SELECT count(DISTINCT relpath) FROM refused_todo WHERE error_type = $error_type"
        return int(self.database.value(sql, {"error_type": error_type}))

    def sample(self, kind: str, count: int) -> list[Item]:
        """Items of a kind that are left to do, in one style each, spread over the collection by chance."""
        sql = """
            SELECT relpath, source_bytes, source_version, kind, extra, style FROM todo
            WHERE kind = $kind ORDER BY hash(relpath || style), relpath, style LIMIT $count
        """
        rows = self.database.table(sql, {"kind": kind, "count": count}).to_pylist()
        return [item for row in rows for item, _ in self._items([row])]

    def _unit(self, rows: list[dict[str, Any]]) -> WorkUnit:
        """A unit of the rows of one rank."""
        items, first = [item for item, _ in self._items(rows)], rows[0]
        if first["kind"] == "video":
            return WorkUnit(self._film_name(items[0]), tuple(items))
        if first["kind"] == "shard":
            return unit_of(items)
        name = unit_id([self.root + first["first"], self.root + first["last"], str(first["size"])])
        if not self._rules.packs:
            return WorkUnit(name, tuple(items))
        left = unit_id(item["item_id"] for item in items)  # of what is done again, another shard than before
        return WorkUnit(name, tuple(items), shard=f"images-{first['number']:06d}-{left[:8]}")

    def _film_name(self, item: Item) -> str:
        """Id of the unit of a video, from all of its styles, those that are done among them."""
        styles = self._rules.choice.of(item["relpath"])
        place = styles.index(item["styles"][0])
        begin = place - place % STYLES_AT_ONCE
        return unit_id([item["item_id"], *styles[begin : begin + STYLES_AT_ONCE]])

    def _items(self, rows: list[dict[str, Any]]) -> Iterator[tuple[Item, dict[str, Any]]]:
        """Neighbouring rows of one file as one item, and the first of them."""
        for relpath, group in itertools.groupby(rows, key=lambda row: row["relpath"]):
            of_file = list(group)
            first, source_uri = of_file[0], self.root + relpath
            item: Item = {
                "item_id": item_id(source_uri),
                "relpath": relpath,
                "source_uri": source_uri,
                "source_bytes": first["source_bytes"],
                "source_version": first["source_version"],
                "kind": first["kind"],
                "styles": tuple(row["style"] for row in of_file),
            }
            if first["extra"]:
                item["extra"] = json.loads(first["extra"])
            yield item, first
