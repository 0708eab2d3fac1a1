"""Shards: many images in one file, with their labels, as WebDataset tars and as Parquet.

Whatever a shard is read from, its samples can be written as either: a sample tells both, as the
files that a tar holds of it and as the rows of a table.
"""

from __future__ import annotations

from nst_ops.media.formats import shard_format
from nst_ops.media.shards.parquet import ParquetShard, ParquetWriter
from nst_ops.media.shards.sample import (
    Layout,
    Member,
    RowSample,
    Sample,
    ShardImage,
    StylizedImage,
    TakenNames,
    file_samples,
)
from nst_ops.media.shards.tar import TarShard, TarWriter

__all__ = [
    "Layout",
    "Member",
    "ParquetShard",
    "ParquetWriter",
    "RowSample",
    "Sample",
    "Shard",
    "ShardImage",
    "StylizedImage",
    "TakenNames",
    "TarShard",
    "TarWriter",
    "Writer",
    "file_samples",
    "open_shard",
    "open_writer",
]

Shard = TarShard | ParquetShard
Writer = TarWriter | ParquetWriter


def open_shard(path: str, image_column: str = "image") -> Shard:
    """A reader of the local shard ``path``, by its extension.

    Raises:
        UnreadableShardError: no Parquet, or none with images. A tar is opened when it is read.
    """
    if shard_format(path) == "parquet":
        return ParquetShard(path, image_column)
    return TarShard(path, image_column)


def open_writer(path: str, layout: Layout | None) -> Writer:
    """A writer of the local file ``path``: of Parquet with these columns, or of a tar, which has none."""
    return ParquetWriter(path, layout) if layout else TarWriter(path)
