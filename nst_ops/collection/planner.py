"""The plan: what is left to do, cut into work units. The same input gives the same units.

All of it happens in a database, so that the driver plans a hundred million files in bounded memory;
units are made one after the other while the run goes on.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from nst_ops.collection.constants import RESERVED
from nst_ops.collection.database import Database
from nst_ops.collection.inputs import item_id, unit_id
from nst_ops.collection.manifest import Key
from nst_ops.collection.styles import StyleChoice
from nst_ops.collection.units import STYLES_AT_ONCE, Item, WorkUnit, unit_of
from nst_ops.media.formats import Container, ShardFormat, likely_output


def refuse(database: Database, container: Container, shards: ShardFormat, has_folders: bool) -> None:
    """Make ``refused``, of ``found``: relpath, status, error_type and message.

    Args:
        database: with ``found``, the catalog.
        container: of stylized videos.
        shards: how images are written.
        has_folders: whether outputs lie below their style's name, where no name is reserved.
    """
    _name_outputs(database, container, shards)
    reserved = "FALSE" if has_folders else "split_part(relpath, '/', 1) IN (SELECT unnest($reserved))"
    database.run(
        f"""
        CREATE TABLE refused AS
        SELECT relpath, 'failed' AS status, 'UnreadableFileError' AS error_type, problem AS message
        FROM found WHERE problem IS NOT NULL
        UNION ALL
        SELECT relpath, 'skipped', 'UnsupportedMediaError',
            'not an image or video by its extension; rename it if it is one'
        FROM found WHERE problem IS NULL AND kind = 'other'
        UNION ALL
        SELECT relpath, 'failed', 'OutputCollisionError',
            '''' || split_part(relpath, '/', 1)
                || ''' is where the run keeps its own files: rename it in the input'
        FROM found WHERE problem IS NULL AND kind <> 'other' AND {reserved}
        """,
        None if has_folders else {"reserved": sorted(RESERVED)},
    )
    # Whoever keeps its own name has the better right to it.
    database.run(
        """
        INSERT INTO refused
        SELECT relpath, 'failed', 'OutputCollisionError',
            'its output ' || target || ' belongs to another input: rename one of them'
        FROM renamed ANTI JOIN refused USING (relpath)
        WHERE target IN (
                SELECT relpath FROM found
                WHERE kind <> 'other' AND relpath NOT IN (SELECT relpath FROM renamed)
            )
            OR target IN (SELECT target FROM renamed GROUP BY target HAVING count(*) > 1)
            OR target IN (SELECT folder FROM folders)
        """
    )


def _name_outputs(database: Database, container: Container, shards: ShardFormat) -> None:
    """Make ``renamed``, the files whose outputs get an extension appended, and ``folders`` in their way."""
    extension = "'.' || split_part(relpath, '.', -1)"
    # Images that go into shards take no names of their own.
    named = "kind IN ('video', 'shard')" if shards in ("webdataset", "parquet") else "kind <> 'other'"
    extensions = database.rows(f"SELECT DISTINCT {extension} FROM found WHERE {named}")
    endings = {
        name: likely_output(f"x{name}", container, shards).removeprefix(f"x{name}") for (name,) in extensions
    }
    changed = {name: ending for name, ending in endings.items() if ending}
    database.run(
        f"""
        CREATE TABLE renamed AS SELECT relpath, relpath || ending AS target
        FROM found JOIN endings ON {extension} = endings.extension WHERE {named}
        """,
        endings=pa.table(
            {
                "extension": pa.array(changed, pa.string()),
                "ending": pa.array(changed.values(), pa.string()),
            }
        ),
    )
    folders = pa.array(sorted(set(_folders(database, set(changed.values())))), pa.string())
    database.run("CREATE TABLE folders AS SELECT * FROM names", names=pa.table({"folder": folders}))


def _folders(database: Database, endings: set[str]) -> Iterator[str]:
    """Folders of outputs whose names end as those of renamed outputs do: few, if any."""
    if not endings:
        return
    pattern = f"({'|'.join(map(re.escape, sorted(endings)))})/"
    sql = """
        SELECT coalesce(target, relpath) AS path FROM found LEFT JOIN renamed USING (relpath)
        WHERE kind <> 'other' AND regexp_matches(relpath, $pattern)
    """
    for batch in database.batches(sql, {"pattern": pattern}):
        for path in batch["path"].to_pylist():
            yield from map(str, PurePosixPath(path).parents)


_KINDS = ("image", "video", "shard")
_SIZE = "coalesce(nullif(source_bytes, 0), 100_000)"
"""Of an image that goes into a shard; a list need not say it."""


@dataclass(frozen=True)
class Rules:
    """How a collection is cut into units.

    Attributes:
        choice: the styles.
        images: that a unit writes; a video in a few styles is a unit of its own, and so is a shard.
        retry_failed: take items again that failed or crashed.
        container: of stylized videos, as in the configuration.
        shards: how images are written, as in the configuration.
        shard_bytes: of the images that are written into one shard, if they are.
    """

    choice: StyleChoice
    images: int = 100
    retry_failed: bool = False
    container: Container = "auto"
    shards: ShardFormat = "auto"
    shard_bytes: int = 100_000_000

    @property
    def packs(self) -> bool:
        """Whether image files are written into shards."""
        return self.shards in ("webdataset", "parquet")


def find_left(database: Database, recorded: pa.Table | pa.RecordBatchReader, rules: Rules, root: str) -> None:
    """Make ``todo`` and ``units``, and ``refused_todo`` for what no worker need see, of ``found``.

    Args:
        database: with ``found``, the catalog.
        recorded: rows of the manifest so far.
        rules: how the catalog is cut.
        root: what the URI of every source begins with, up to its path.
    """
    refuse(database, rules.container, rules.shards, rules.choice.has_folders)
    _put_in_order(database, rules)
    _record(database, recorded, root)
    _subtract(database, rules)
    _cut(database)


def _put_in_order(database: Database, rules: Rules) -> None:
    """Make ``ordered``: what is not refused by path, with its number in its unit's kind.

    The whole catalog is cut before anything is subtracted: a unit keeps its id, and so the name of
    its manifest part, however much of it is done.
    """
    choice, shard_bytes = rules.choice, rules.shard_bytes
    number = dict.fromkeys(_KINDS, "position")
    number["image"] = f"position // {max(1, rules.images // choice.per_item)}"
    if rules.packs:
        number["image"] = f"CAST((end_bytes - {_SIZE}) // {shard_bytes} AS BIGINT)"
    database.run(
        """CREATE TABLE ordered (kind VARCHAR, number BIGINT, position BIGINT, relpath VARCHAR,
        source_bytes BIGINT, source_version VARCHAR, extra VARCHAR)"""
    )
    for kind in _KINDS:
        database.run(
            f"""
            INSERT INTO ordered
            SELECT '{kind}', {number[kind]}, position, relpath, source_bytes, source_version, extra
            FROM (
                SELECT *, row_number() OVER () - 1 AS position,
                    sum({_SIZE}) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS end_bytes
                FROM (
                    SELECT * FROM found ANTI JOIN refused USING (relpath)
                    WHERE kind = '{kind}' ORDER BY relpath
                )
            )
            """
        )


def _record(database: Database, recorded: pa.Table | pa.RecordBatchReader, root: str) -> None:
    """Make ``recorded``: what the manifest says of each source in each style.

    The rows of a shard's images count for the shard: it is done as a whole.
    """
    database.run(
        """
        CREATE TABLE rows AS
        SELECT substr(source_uri, length($root) + 1) AS relpath, style,
            status IN ('failed', 'crashed') AS failed,
            source_version, source_bytes,
            source_member IS NOT NULL OR coalesce(kind = 'shard', FALSE) AS is_shard,
            CASE WHEN source_member IS NULL AND output_member IS NOT NULL THEN output_uri END AS shard
        FROM source_rows WHERE starts_with(source_uri, $root)
        """,
        {"root": root},
        source_rows=recorded,
    )
    database.run(
        """
        CREATE TABLE recorded AS SELECT * FROM rows WHERE NOT is_shard
        UNION ALL
        SELECT relpath, style, bool_or(failed), min(source_version), NULL, TRUE, NULL
        FROM rows WHERE is_shard GROUP BY relpath, style
        """
    )
    database.run("DROP TABLE rows")


def _subtract(database: Database, rules: Rules) -> None:
    """Make ``todo`` and ``refused_todo``: a row for each item and style that has none, or a stale one."""
    choice, retry = rules.choice, "failed" if rules.retry_failed else "FALSE"
    names = {"place": pa.array(range(len(choice.names)), pa.int64()), "style": list(choice.names)}
    database.run("CREATE TABLE styles AS SELECT * FROM names", names=pa.table(names))
    styles = "CROSS JOIN styles"
    if choice.mode == "random":  # the same draw as StyleChoice.of
        digest = f"('0x' || substr(sha256('{choice.seed}' || chr(10) || relpath), 1, 16))::UBIGINT"
        styles = f"JOIN styles ON styles.place = {digest} % {len(choice.names)}"
    is_changed = """(r.source_version IS DISTINCT FROM w.source_version
        OR NOT r.is_shard AND r.source_bytes IS DISTINCT FROM w.source_bytes)"""
    # An image that has changed spoils the shard it was written into: all images of that are done again.
    database.run(
        f"""CREATE TABLE spoiled AS SELECT DISTINCT shard FROM recorded r JOIN found w USING (relpath)
        WHERE shard IS NOT NULL AND {is_changed}"""
    )
    is_spoiled = "coalesce(shard IN (FROM spoiled), FALSE)"
    # A video is a unit for every few of its styles.
    groups = -(-len(choice.names) // STYLES_AT_ONCE)
    of_film = f"if(kind = 'video', number * {groups} + place // {STYLES_AT_ONCE}, number) AS number"
    todo = f"SELECT * REPLACE ({of_film}) FROM ordered {styles}"
    refused = f"SELECT * FROM found JOIN refused USING (relpath) {styles}"
    for table, wanted in (("todo", todo), ("refused_todo", refused)):
        database.run(
            f"""
            CREATE TABLE {table} AS SELECT * FROM (
                SELECT w.*, r.relpath IS NOT NULL AS is_known,
                    is_known AND ({retry} OR {is_changed} OR {is_spoiled}) AS is_stale
                FROM ({wanted}) w
                LEFT JOIN recorded r ON w.relpath = r.relpath AND w.style = r.style
            ) WHERE is_stale OR NOT is_known
            """
        )


def _cut(database: Database) -> None:
    """Make ``units``, those that are left, by rank: the number of a group of images names them all."""
    database.run(
        """
        CREATE TABLE units AS
        SELECT *, row_number() OVER (ORDER BY num_bytes DESC, kind, number) - 1 AS rank FROM (
            SELECT kind, number, coalesce(sum(source_bytes), 0) AS num_bytes
            FROM todo GROUP BY kind, number
        ) LEFT JOIN (
            SELECT kind, number, min(relpath) AS first, max(relpath) AS last, count(*) AS size
            FROM ordered WHERE kind = 'image' GROUP BY kind, number
        ) USING (kind, number)
        """
    )


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
        """Neighboring rows of one file as one item, and the first of them."""
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
