"""Many small parts of the manifest as few large ones, without a row twice or lost at any instant.

A compacted part is first written out of sight, with the names of the parts that it stands for. Then
these are removed, and it takes its place. Whoever reads the plain folder in between misses rows for a
moment, but finds none twice; whoever is killed in between leaves what ``finish_compaction`` needs.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from nst_ops.collection.layout import COMPACTING, MANIFEST
from nst_ops.collection.manifest import REPLACES, SCHEMA, Manifest

_PREFIX = "compacted-"
_PARTS = 4_000
"""Parts that go into one file; of 100 images each, some 60 MB."""
_ROW_GROUP = 50_000


def compact(manifest: Manifest, at_least: int = 1_000) -> None:
    """Replace small parts by large ones, if there are ``at_least`` so many; no unit may be at work."""
    names = [name for name in manifest.output.list(MANIFEST) if not name.startswith(_PREFIX)]
    if len(names) < at_least:
        return
    for begin in range(0, len(names), _PARTS):
        _write(manifest, names[begin : begin + _PARTS])
        finish_compaction(manifest)


def finish_compaction(manifest: Manifest) -> None:
    """Let compacted parts take the place of those that they stand for; no unit may be at work."""
    for name in manifest.output.list(COMPACTING):
        waiting = f"{COMPACTING}/{name}"
        manifest.output.remove_many(f"{MANIFEST}/{part}" for part in manifest.replaced_by(waiting))
        manifest.output.publish(waiting, f"{MANIFEST}/{name}")
    manifest.output.remove(COMPACTING)


def _write(manifest: Manifest, names: list[str]) -> None:
    schema = SCHEMA.with_metadata({REPLACES: json.dumps(names).encode()})
    relpath = f"{COMPACTING}/{_PREFIX}{uuid.uuid4().hex}.parquet"
    with (
        manifest.output.atomic_write(relpath) as temporary,
        pq.ParquetWriter(temporary, schema, write_page_checksum=True) as writer,
    ):
        for table in _grouped(manifest, names):
            writer.write_table(table.cast(schema))


def _grouped(manifest: Manifest, names: list[str]) -> Iterator[pa.Table]:
    tables: list[pa.Table] = []
    for table in manifest.read_all(f"{MANIFEST}/{name}" for name in names):
        tables.append(table)
        if sum(map(len, tables)) >= _ROW_GROUP:
            yield pa.concat_tables(tables)
            tables = []
    if tables:
        yield pa.concat_tables(tables)
