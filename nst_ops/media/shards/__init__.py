"""Shards: many images in one file, with their labels, as WebDataset tars, as Parquet, or otherwise.

Whatever a shard is read from, its samples can be written as any other: a sample gives both the files that a tar holds
of it and the rows of a table. The formats are listed in ``media/formats.py``.
"""

from __future__ import annotations

import pkgutil

from nst_ops.media.errors import UnreadableShardError
from nst_ops.media.formats import SHARD_FORMATS, ShardEntry, shard_entry
from nst_ops.media.shards.sample import (
    Layout,
    Member,
    Sample,
    ShardImage,
    ShardReader,
    ShardWriter,
    StylizedImage,
    TakenNames,
    file_samples,
    split_name,
)

__all__ = [
    "Layout",
    "Member",
    "Sample",
    "ShardImage",
    "ShardReader",
    "ShardWriter",
    "StylizedImage",
    "TakenNames",
    "file_samples",
    "open_shard",
    "open_writer",
    "split_name",
]


def open_shard(path: str, image_column: str = "image") -> ShardReader:
    """Open the local shard ``path`` for reading, by its extension; a tar is only opened when it is read.

    Raises UnreadableShardError if it is not what its extension says, or holds no images.
    """
    reader: ShardReader = pkgutil.resolve_name(_entry(path).reader)(path, image_column)
    return reader


def open_writer(path: str, layout: Layout | None) -> ShardWriter:
    """Open a new local shard for writing, by its extension; ``layout`` is that of a table."""
    writer: ShardWriter = pkgutil.resolve_name(_entry(path).writer)(path, layout)
    return writer


def _entry(path: str) -> ShardEntry:
    if entry := shard_entry(path):
        return entry
    known = ", ".join(extension for e in SHARD_FORMATS.values() for extension in (e.extension, *e.read_only))
    raise UnreadableShardError(f"not a shard by its extension: those of shards are {known}")
