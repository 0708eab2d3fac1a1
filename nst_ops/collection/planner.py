"""The plan: what has no row yet, cut into work units. The same input gives the same units.

All of it happens in a database, so that the driver plans a hundred million files in bounded memory;
units are made one after the other while the run goes on. The tables, in the order in which they are made:

========================  ====================================================================================
``catalog``               every file of the input: relpath, source_bytes, source_version, kind, problem, no_media, extra
``renamed_outputs``       files whose outputs do not have their own path: relpath, target
``refusals``              files that no worker need see: relpath, status, error_type, message
``ordered``               the other files with the number of their unit, whatever is done of them
``recorded``              rows of the manifest by source and style
``styles``                names of the styles: place, style
``pending``               a row for each file and style to do, with its unit's number; is_stale: an old row
``pending_refusals``      a row for each refusal and style that has no row yet
``dropped``               rows without an output of sources that have gone: relpath, style
``gone``                  rows of sources that have gone, and whose outputs are in the way: owner, owner_style
``units``                 the units of ``pending`` by rank, the largest first
========================  ====================================================================================
"""

from __future__ import annotations

import itertools
import json
import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeAlias

import pyarrow as pa

from nst_ops.collection.constants import RESERVED
from nst_ops.collection.database import Database
from nst_ops.collection.manifest import Key
from nst_ops.collection.styles import StyleChoice
from nst_ops.collection.units import STYLES_AT_ONCE, Item, WorkUnit, item_id, unit_id, unit_of
from nst_ops.media.formats import SHARD_FORMATS, Container, ShardFormat, likely_output
from nst_ops.storage import NameRules
from nst_ops.storage.names import ANY_DISK

Rows: TypeAlias = pa.Table | pa.RecordBatchReader

_FETCH = 2_000
"""Units that are read from the database at once."""
_SIZE = "coalesce(nullif(source_bytes, 0), 100_000)"
"""Bytes of an image that goes into a shard; a list need not say them."""


@dataclass(frozen=True)
class PlanRules:
    """How a collection is cut into units; see the keys of the configuration of the same names."""

    choice: StyleChoice
    images: int = 100
    """Images that a unit writes; a video in a few styles is a unit of its own, and so is a shard."""
    retry_failed: bool = False
    container: Container = "auto"
    shards: ShardFormat = "auto"
    shard_bytes: int = 100_000_000
    """Bytes of the images that are written into one shard, if they are."""
    names: NameRules = ANY_DISK
    """What the output takes as names."""
    output_root: str = ""
    """What the URI of every output begins with, up to its path."""

    @property
    def packs(self) -> bool:
        """Whether image files are written into shards."""
        return self.shards in SHARD_FORMATS


@dataclass(frozen=True)
class Refusal:
    """An item that needs no opening to know its outcome, in any style."""

    item: Item
    status: str
    error_type: str
    message: str


class Plan:
    """The work that is left: the ``catalog`` that ``discover`` found, in any order, without what the manifest holds.

    ``recorded`` are the rows of the manifest so far, with at least the columns ``RECORDED``; a source that has changed
    since its row is done again. ``root`` is what the URI of every source begins with, up to its path. With ``is_whole``
    a source that is not in the catalog has gone: its rows that failed or were skipped are dropped.
    """

    def __init__(
        self, catalog: Rows, recorded: Rows, rules: PlanRules, root: str = "", *, is_whole: bool = False
    ) -> None:
        self.root, self._rules = root, rules
        self.database = Database()
        """Holds ``catalog``, and the other tables of the plan."""
        self.database.run("CREATE TABLE catalog AS SELECT * FROM found", found=catalog)
        self._name_outputs()
        self._refuse()
        self._put_in_order()
        self._record(recorded)
        self._subtract()
        self._drop(is_whole)
        self._refuse_taken()
        self._cut()
        value = self.database.value
        ((self.num_files, num_bytes),) = self.database.rows("SELECT count(*), sum(source_bytes) FROM catalog")
        self.num_bytes = int(num_bytes or 0)
        self.num_units: int = value("SELECT count(*) FROM units")
        self.num_left: int = value("SELECT count(*) FROM pending")
        refused: int = value("SELECT count(*) FROM pending_refusals")
        self.num_done = self.num_files * rules.choice.per_item - self.num_left - refused
        """Rows that an earlier run has finished; a shard counts as one."""
        self.num_dropped: int = value("SELECT count(*) FROM dropped")
        """Rows of sources that have gone, which are forgotten; a shard counts as one."""

    def units(self) -> Iterator[WorkUnit]:
        """Yield the units, the largest first: the longest video last would leave other workers idle."""
        sql = """
            SELECT rank, units.kind, number, first, last, size, relpath, source_bytes, source_version, extra, style
            FROM pending JOIN units USING (kind, number) WHERE rank BETWEEN $begin AND $end
            ORDER BY rank, position, place
        """
        for begin in range(0, self.num_units, _FETCH):
            rows = self.database.table(sql, {"begin": begin, "end": begin + _FETCH - 1}).to_pylist()
            for _, group in itertools.groupby(rows, key=lambda row: row["rank"]):
                yield self._unit(list(group))

    def refusals(self) -> Iterator[list[Refusal]]:
        """Yield, in batches, what the driver settles itself before any work."""
        for batch in self.database.batches("SELECT * FROM pending_refusals ORDER BY relpath, place"):
            items = self._items(batch.to_pylist())
            yield [Refusal(item, row["status"], row["error_type"], row["message"]) for item, row in items]

    def stale(self) -> set[Key]:
        """Return the keys of rows that must be forgotten first: their sources are done again, or have gone."""
        stale = "SELECT $root || relpath, style FROM {} WHERE is_stale"
        gone = "SELECT $root || owner, owner_style FROM gone UNION ALL SELECT $root || relpath, style FROM dropped"
        sql = f"{stale.format('pending')} UNION ALL {stale.format('pending_refusals')} UNION ALL {gone}"
        return set(self.database.rows(sql, {"root": self.root}))

    def left(self, kind: str) -> tuple[int, int]:
        """Return (rows, bytes of sources) that are left to do of a kind."""
        sql = "SELECT count(*), coalesce(sum(source_bytes), 0) FROM pending WHERE kind = $kind"
        ((rows, num_bytes),) = self.database.rows(sql, {"kind": kind})
        return rows, int(num_bytes)

    def count_refused(self, error_type: str) -> int:
        """Count the items that are refused for a reason, and have no row yet."""
        sql = "SELECT count(DISTINCT relpath) FROM pending_refusals WHERE error_type = $error_type"
        return int(self.database.value(sql, {"error_type": error_type}))

    def sample(self, kind: str, count: int) -> list[Item]:
        """Return items of a kind that are left to do, in one style each, by chance but always the same."""
        sql = """
            SELECT relpath, source_bytes, source_version, kind, extra, style FROM pending
            WHERE kind = $kind ORDER BY hash(relpath || style), relpath, style LIMIT $count
        """
        rows = self.database.table(sql, {"kind": kind, "count": count}).to_pylist()
        return [item for row in rows for item, _ in self._items([row])]

    def _name_outputs(self) -> None:
        """Make ``renamed_outputs``, the view ``outputs``, and ``fold``: what two names of one file have in common."""
        extension, rules = "regexp_extract(relpath, '[^/]((?i:\\.tar)?\\.[^/.]*)$', 1)", self._rules.names
        # Images that go into shards take no names of their own.
        named = "problem IS NULL AND " + ("kind IN ('video', 'shard')" if self._rules.packs else "kind <> 'other'")
        found = self.database.rows(f"SELECT DISTINCT kind, {extension} FROM catalog WHERE {named}")
        container, shards = self._rules.container, self._rules.shards
        outputs = [(kind, ext, likely_output(f"x{ext}", container, shards, kind)) for kind, ext in found]
        rows = [{"kind": kind, "extension": ext, "ending": path[1 + len(ext) :]} for kind, ext, path in outputs]
        schema = pa.schema(dict.fromkeys(("kind", "extension", "ending"), pa.string()))
        self.database.run(
            f"""
            CREATE TABLE renamed_outputs AS SELECT relpath, relpath || ending AS target,
                regexp_matches(target, $odd) OR strlen(target) > $longest AS is_odd
            FROM (SELECT relpath, kind, {extension} AS extension FROM catalog WHERE {named})
                JOIN endings USING (kind, extension) WHERE ending <> '' OR is_odd
            """,
            {"odd": rules.odd, "longest": min(rules.name_bytes, rules.path_bytes)},
            endings=pa.Table.from_pylist(rows, schema),
        )
        for batch in self.database.batches("SELECT relpath, target FROM renamed_outputs WHERE is_odd"):
            paths = _texts(map(rules.path, batch["target"].to_pylist()))
            self.database.run(
                "INSERT INTO renamed_outputs SELECT relpath, target, FALSE FROM batch",
                batch=pa.table({"relpath": batch["relpath"], "target": paths}),
            )
        self.database.run("DELETE FROM renamed_outputs WHERE is_odd OR target = relpath")
        self.database.run(
            f"""CREATE VIEW outputs AS SELECT relpath, coalesce(target, relpath) AS target
            FROM catalog LEFT JOIN renamed_outputs USING (relpath) WHERE {named}"""
        )
        self.database.run(f"CREATE MACRO fold(name) AS {'lower(nfc_normalize(name))' if rules.folds else 'name'}")
        self._extensions = {posixpath.splitext(path)[1] for _, _, path in outputs} - {""}

    def _refuse(self) -> None:
        """Make ``refusals``: no media, reserved names, and two outputs of one name."""
        # Where outputs lie below their style's name, no name is reserved.
        reserved = [] if self._rules.choice.has_folders else sorted(RESERVED)
        self.database.run(
            """
            CREATE TABLE refusals AS
            SELECT relpath, 'failed' AS status, 'UnreadableFileError' AS error_type, problem AS message
            FROM catalog WHERE problem IS NOT NULL
            UNION ALL
            SELECT relpath, 'skipped', 'UnsupportedMediaError',
                coalesce(no_media, 'not an image or video by its extension; rename it if it is one')
            FROM catalog WHERE problem IS NULL AND kind = 'other'
            UNION ALL
            SELECT relpath, 'failed', 'OutputCollisionError', '''' || split_part(target, '/', 1)
                || ''' is where the run keeps its own files: rename it in the input'
            FROM outputs WHERE list_contains($reserved, fold(split_part(target, '/', 1)))
            """,
            {"reserved": reserved},
        )
        collision = "'OutputCollisionError', 'its output ' || target || ' belongs to another input: rename one of them'"
        # Whoever keeps its own name has the better right to it.
        self.database.run(
            f"""
            INSERT INTO refusals SELECT relpath, 'failed', {collision}
            FROM renamed_outputs ANTI JOIN refusals USING (relpath)
            WHERE target IN (SELECT target FROM renamed_outputs GROUP BY target HAVING count(*) > 1)
                OR target IN (SELECT target FROM outputs ANTI JOIN renamed_outputs USING (relpath))
            """
        )
        self.database.run(
            f"""
            INSERT INTO refusals SELECT relpath, 'failed', {collision}
            FROM outputs ANTI JOIN refusals USING (relpath) WHERE fold(target) IN (SELECT fold(folder) FROM folders)
            """,
            folders=pa.table({"folder": _texts(sorted(set(self._folders_like_files())))}),
        )
        if self._rules.names.folds:
            self.database.run(
                """
                INSERT INTO refusals SELECT relpath, 'failed', 'OutputCollisionError',
                    'its output ' || target || ' and that of another input, with other letters, are one file on this '
                    || 'disk: rename one of them, or take another output'
                FROM outputs ANTI JOIN refusals USING (relpath) WHERE fold(target) IN (
                    SELECT fold(target) FROM outputs ANTI JOIN refusals USING (relpath) GROUP BY 1 HAVING count(*) > 1)
                """
            )

    def _folders_like_files(self) -> Iterator[str]:
        """Yield folders of outputs whose names end as those of output files do: few, if any."""
        if not self._extensions:
            return
        pattern = f"(?i:{'|'.join(map(re.escape, sorted(self._extensions)))})/"
        sql = "SELECT target FROM outputs WHERE target LIKE '%.%/%' AND regexp_matches(target, $pattern)"
        for batch in self.database.batches(sql, {"pattern": pattern}):
            for path in batch["target"].to_pylist():
                yield from map(str, PurePosixPath(path).parents)

    def _put_in_order(self) -> None:
        """Make ``ordered``, of all files: a unit keeps its id, and its manifest part, however much of it is done."""
        number_of_image = f"position // {max(1, self._rules.images // self._rules.choice.per_item)}"
        if self._rules.packs:
            number_of_image = f"CAST((end_bytes - {_SIZE}) // {self._rules.shard_bytes} AS BIGINT)"
        self.database.run(
            """CREATE TABLE ordered (kind VARCHAR, number BIGINT, position BIGINT, relpath VARCHAR,
            source_bytes BIGINT, source_version VARCHAR, extra VARCHAR)"""
        )
        for kind, number in (("image", number_of_image), ("video", "position"), ("shard", "position")):
            self.database.run(
                f"""
                INSERT INTO ordered
                SELECT kind, {number}, position, relpath, source_bytes, source_version, extra FROM (
                    SELECT *, row_number() OVER () - 1 AS position,
                        sum({_SIZE}) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS end_bytes
                    FROM (FROM catalog ANTI JOIN refusals USING (relpath) WHERE kind = '{kind}' ORDER BY relpath)
                )
                """
            )

    def _record(self, rows: pa.Table | pa.RecordBatchReader) -> None:
        """Make ``recorded``; the rows of a shard's images count for the shard, which is done as a whole."""
        self.database.run(
            """
            CREATE TABLE single_rows AS
            SELECT substr(source_uri, length($root) + 1) AS relpath, style,
                status = 'ok' AS is_ok, status IN ('failed', 'crashed') AS failed,
                status = 'skipped' AND kind IS NULL AS was_no_media,
                source_version, source_bytes,
                source_member IS NOT NULL OR coalesce(kind = 'shard', FALSE) AS is_shard,
                CASE WHEN source_member IS NULL AND output_member IS NOT NULL THEN output_uri END AS shard,
                -- Where it lies below the folder of its style, if that is not its own path.
                CASE WHEN status = 'ok' AND starts_with(output_uri, $outputs) AND source_member IS NULL
                    AND output_member IS NULL THEN nullif(substr(output_uri, length($outputs) + 1 + if($has_folders,
                        length(style) + 1, 0)), substr(source_uri, length($root) + 1)) END AS output
            FROM manifest_rows WHERE starts_with(source_uri, $root)
            """,
            {"root": self.root, "outputs": self._rules.output_root, "has_folders": self._rules.choice.has_folders},
            manifest_rows=rows,
        )
        self.database.run(
            """
            CREATE TABLE recorded AS SELECT * FROM single_rows WHERE NOT is_shard
            UNION ALL
            SELECT relpath, style, bool_or(is_ok), bool_or(failed), FALSE, min(source_version), NULL, TRUE, NULL, NULL
            FROM single_rows WHERE is_shard GROUP BY relpath, style
            """
        )
        self.database.run("DROP TABLE single_rows")

    def _subtract(self) -> None:
        """Make ``styles``, ``pending`` and ``pending_refusals``."""
        choice, retry = self._rules.choice, "failed" if self._rules.retry_failed else "FALSE"
        names = pa.table({"place": pa.array(range(len(choice.names)), pa.int64()), "style": list(choice.names)})
        self.database.run("CREATE TABLE styles AS FROM names", names=names)
        drawn = f"styles.place = {choice.drawn_place('relpath')}" if choice.mode == "random" else "TRUE"
        with_styles = f"JOIN styles ON {drawn}"
        is_changed = """(r.source_version IS DISTINCT FROM w.source_version
            OR NOT r.is_shard AND r.source_bytes IS DISTINCT FROM w.source_bytes)"""
        # An image that has changed spoils the shard it was written into: all images of that are done again.
        self.database.run(
            f"""CREATE TABLE spoiled_shards AS SELECT DISTINCT shard
            FROM recorded r JOIN catalog w USING (relpath) WHERE shard IS NOT NULL AND {is_changed}"""
        )
        is_spoiled = "coalesce(shard IN (FROM spoiled_shards), FALSE)"
        # A video is a unit for every few of its styles.
        groups = -(-len(choice.names) // STYLES_AT_ONCE)
        of_video = f"if(kind = 'video', number * {groups} + place // {STYLES_AT_ONCE}, number) AS number"
        wanted_rows = {
            "pending": f"SELECT * REPLACE ({of_video}) FROM ordered {with_styles}",
            "pending_refusals": f"SELECT * FROM catalog JOIN refusals USING (relpath) {with_styles}",
        }
        for table, wanted in wanted_rows.items():
            self.database.run(
                f"""
                CREATE TABLE {table} AS SELECT * FROM (
                    SELECT w.*, r.relpath IS NOT NULL AS is_known,
                        -- What was no media before is some now: its name, or the discovery, has changed.
                        is_known AND ({retry} OR {is_changed} OR {is_spoiled} OR was_no_media AND kind <> 'other')
                            AS is_stale
                    FROM ({wanted}) w
                    LEFT JOIN recorded r ON w.relpath = r.relpath AND w.style = r.style
                ) WHERE is_stale OR NOT is_known
                """
            )

    def _drop(self, is_whole: bool) -> None:
        """Make ``dropped``. What lies in a folder that cannot be listed has not gone, as far as anybody knows."""
        self.database.run(
            """
            CREATE TABLE dropped AS SELECT relpath, style FROM recorded ANTI JOIN catalog USING (relpath)
            WHERE $is_whole AND NOT is_ok
            """,
            {"is_whole": is_whole},
        )
        self.database.run(
            """
            DELETE FROM dropped USING (
                SELECT relpath AS folder FROM catalog WHERE problem IS NOT NULL AND ends_with(relpath, '/')
            ) WHERE starts_with(dropped.relpath, folder)
            """
        )

    def _refuse_taken(self) -> None:
        """Move to ``pending_refusals`` what would overwrite what an earlier run has made of another source.

        Of a source that has gone since, the row goes into ``gone``, to be forgotten.
        """
        same_folder = "p.style = r.style" if self._rules.choice.has_folders else "TRUE"
        self.database.run(
            f"""
            CREATE TABLE taken AS
            SELECT p.relpath, p.style, o.target, r.relpath AS owner, r.style AS owner_style,
                r.relpath NOT IN (SELECT relpath FROM catalog) AS is_gone
            FROM pending p JOIN outputs o USING (relpath)
            JOIN recorded r ON coalesce(r.output, r.relpath) = o.target AND r.relpath <> p.relpath AND {same_folder}
            WHERE (r.output IS NOT NULL OR o.target <> p.relpath) AND NOT r.failed AND NOT r.is_shard
                AND NOT EXISTS (FROM pending d WHERE d.relpath = r.relpath AND d.style = r.style)
            """
        )
        self.database.run("CREATE TABLE gone AS SELECT DISTINCT owner, owner_style FROM taken WHERE is_gone")
        self.database.run(
            """
            INSERT INTO pending_refusals BY NAME
            SELECT p.* EXCLUDE (number, position), 'failed' AS status, 'OutputCollisionError' AS error_type,
                'its output ' || target || ' was written by an earlier run, for ' || owner || ': rename one of them'
                    AS message
            FROM pending p JOIN taken t ON p.relpath = t.relpath AND p.style = t.style AND NOT is_gone
            """
        )
        self.database.run(
            """DELETE FROM pending USING taken t
            WHERE pending.relpath = t.relpath AND pending.style = t.style AND NOT is_gone"""
        )
        self.database.run("DROP TABLE taken")

    def _cut(self) -> None:
        """Make ``units``; the first and the last file of a group of images, and its size, name it."""
        self.database.run(
            """
            CREATE TABLE units AS
            SELECT *, row_number() OVER (ORDER BY num_bytes DESC, kind, number) - 1 AS rank FROM (
                SELECT kind, number, coalesce(sum(source_bytes), 0) AS num_bytes
                FROM pending GROUP BY kind, number
            ) LEFT JOIN (
                SELECT kind, number, min(relpath) AS first, max(relpath) AS last, count(*) AS size
                FROM ordered WHERE kind = 'image' GROUP BY kind, number
            ) USING (kind, number)
            """
        )

    def _unit(self, rows: list[dict[str, Any]]) -> WorkUnit:
        """Make a unit of the rows of one rank."""
        items, first = [item for item, _ in self._items(rows)], rows[0]
        if first["kind"] == "video":
            return WorkUnit(self._video_unit_id(items[0]), tuple(items))
        if first["kind"] == "shard":
            return unit_of(items)
        name = unit_id([self.root + first["first"], self.root + first["last"], str(first["size"])])
        if not self._rules.packs:
            return WorkUnit(name, tuple(items))
        # What is done again goes into another shard than before.
        pending = unit_id(item["item_id"] for item in items)
        return WorkUnit(name, tuple(items), shard=f"images-{first['number']:06d}-{pending[:8]}")

    def _video_unit_id(self, item: Item) -> str:
        """Name the unit of a video after a few of its styles, those that are done among them."""
        # With random styles it has only the one that was drawn.
        styles = item["styles"] if self._rules.choice.mode == "random" else self._rules.choice.names
        place = styles.index(item["styles"][0])
        begin = place - place % STYLES_AT_ONCE
        return unit_id([item["item_id"], *styles[begin : begin + STYLES_AT_ONCE]])

    def _items(self, rows: list[dict[str, Any]]) -> Iterator[tuple[Item, dict[str, Any]]]:
        """Yield neighboring rows of one file as one item, and the first of them."""
        for relpath, group in itertools.groupby(rows, key=lambda row: row["relpath"]):
            of_file = list(group)
            first, source_uri = of_file[0], self.root + relpath
            item: Item = {"item_id": item_id(source_uri), "relpath": relpath, "source_uri": source_uri}
            item |= {name: first[name] for name in ("source_bytes", "source_version", "kind")}
            item["styles"] = tuple(row["style"] for row in of_file)
            if first["extra"]:
                item["extra"] = json.loads(first["extra"])
            yield item, first


def _texts(values: Iterable[str]) -> pa.Array:
    return pa.array(values, pa.string())  # the type, for there may be none
