"""Files that need no opening to know their outcome: no media, reserved names, two outputs of one name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

import pyarrow as pa

from nst_ops.collection.database import Database
from nst_ops.collection.layout import RESERVED
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
