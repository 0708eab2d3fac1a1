"""The catalog: every file of the input, once."""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Iterable, Iterator

import pyarrow as pa

from nst_ops.collection.source import Source
from nst_ops.media.formats import media_kind
from nst_ops.storage import FileInfo

CATALOG_SCHEMA = pa.schema(
    [
        ("relpath", pa.string()),
        ("source_bytes", pa.int64()),
        ("source_version", pa.string()),
        ("kind", pa.string()),
        ("problem", pa.string()),  # why it cannot even be opened; null for the others
        ("extra", pa.string()),  # JSON of what a list says of it beside its URI; null for most
    ]
)

_NAMESPACE = uuid.UUID("5d0dd3a0-7a9c-4d5e-9a43-3f1f8a2b6c11")
_BATCH = 20_000
_NOT_REGULAR = "not a regular file (a pipe, a socket, a link to nothing or to a folder)"
_NOT_UTF8 = "its name is not valid UTF-8: rename it"


def discover(source: Source) -> pa.RecordBatchReader:
    """List the input in batches of ``CATALOG_SCHEMA``, in any order, as the storage gives it.

    Raises:
        PermissionError: while reading, a folder that may not be listed.
        ValueError: a list that cannot be read.
    """
    if source.listing:
        return source.listed(CATALOG_SCHEMA)
    return pa.RecordBatchReader.from_batches(CATALOG_SCHEMA, catalog_batches(source.files()))


def catalog_batches(files: Iterable[FileInfo]) -> Iterator[pa.RecordBatch]:
    """Files as batches of ``CATALOG_SCHEMA``."""
    left = iter(files)
    while infos := list(itertools.islice(left, _BATCH)):
        names, problems = zip(*map(_name, infos), strict=True)
        yield pa.record_batch(
            [
                pa.array(names, pa.string()),
                pa.array([info.num_bytes for info in infos], pa.int64()),
                pa.array([info.version for info in infos], pa.string()),
                pa.array(list(map(media_kind, names)), pa.string()),
                pa.array(problems, pa.string()),
                pa.nulls(len(infos), pa.string()),
            ],
            schema=CATALOG_SCHEMA,
        )


def item_id(source_uri: str) -> str:
    """Stable id of a source: the same file has the same id in every run."""
    return str(uuid.uuid5(_NAMESPACE, source_uri))


def unit_id(names: Iterable[str]) -> str:
    """Stable id of a work unit: the same names make the same unit in every run."""
    return str(uuid.uuid5(_NAMESPACE, "\n".join(names)))


def _name(info: FileInfo) -> tuple[str, str | None]:
    """The path of a file as text, and why it cannot be opened."""
    problem = None if info.regular else _NOT_REGULAR
    if info.relpath.isascii():
        return info.relpath, problem
    try:
        info.relpath.encode()
    except UnicodeEncodeError:
        return os.fsencode(info.relpath).decode("utf-8", "backslashreplace"), _NOT_UTF8
    return info.relpath, problem
