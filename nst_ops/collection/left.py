"""What is left to do, in SQL: the catalog without what the manifest holds, cut into units."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from nst_ops.collection.database import Database
from nst_ops.collection.refusals import refuse
from nst_ops.collection.styles import StyleChoice
from nst_ops.collection.units import STYLES_AT_ONCE
from nst_ops.media.formats import Container, ShardFormat

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
