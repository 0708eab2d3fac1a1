"""Parquet with the bytes of images in a column, as Hugging Face lays it out."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from nst_ops.media.errors import UnreadableShardError, UnsupportedMediaError
from nst_ops.media.formats import IMAGE_WRITERS, media_kind
from nst_ops.media.shards.sample import Layout, RowNames, RowSample, Sample, SampleKeys, ShardImage, Stylized, is_bytes

_ROWS_READ = 16  # in memory while a shard is read: images are large
_BUFFER_BYTES = 2**20
# Bytes of images after which a row group is written, however many rows the source's hold: each style has one open.
_GROUP_BYTES = 32 * 2**20


class ParquetReader:
    """Reads a local Parquet file; UnreadableShardError if it is none or has no column of images.

    Without an ``image_column`` of that name it takes the only one that can hold images.
    """

    def __init__(self, path: str, image_column: str) -> None:
        try:
            self._file = pq.ParquetFile(path, buffer_size=_BUFFER_BYTES)
        except (pa.ArrowException, OSError) as error:
            raise UnreadableShardError(f"no whole Parquet: {error}: copy or make it again") from error
        schema, metadata = self._file.schema_arrow, self._file.metadata
        rows_per_group = metadata.row_group(0).num_rows if metadata.num_row_groups else 1
        self._layout = Layout(schema, _image_column(schema, image_column), max(1, rows_per_group))

    def layout(self) -> Layout:
        """Return the columns, which the output has as well."""
        return self._layout

    def samples(self) -> Iterator[RowSample]:
        """Yield the rows in their order; UnreadableShardError at the damage, where there is one."""
        names, keys, num_rows = RowNames(), SampleKeys(), 0
        try:
            for batch in self._file.iter_batches(_ROWS_READ, use_threads=False):
                others = batch.drop_columns([self._layout.image])
                for index, value in enumerate(batch[self._layout.image].to_pylist()):
                    yield _sample(value, others.slice(index, 1), names, keys)
                    num_rows += 1
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UnreadableShardError(
                f"damaged Parquet: {error}, after {num_rows} of its rows: copy or make it again"
            ) from error


class ParquetWriter(AbstractContextManager["ParquetWriter"]):
    """Writes a Parquet shard, a row group at a time."""

    def __init__(self, path: str, layout: Layout) -> None:
        self._layout, self._names = layout, RowNames()
        self._is_struct = pa.types.is_struct(layout.schema.field(layout.image).type)
        # A dictionary of images would be all of them, for nothing.
        self._writer = pq.ParquetWriter(path, layout.schema, use_dictionary=layout.others.names)
        self._images: list[Any] = []
        self._others: list[pa.RecordBatch] = []
        self._num_bytes = 0

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._writer:
            if kind is None and self._images:
                self._write_group()

    def write(self, sample: Sample, stylized: Stylized) -> dict[str, str]:
        """Add a sample, a row for each of its stylized images."""
        names = {}
        for row in sample.rows(stylized, self._layout):
            names[row.image.member] = self._names.next(row.path if self._is_struct else None)
            self._images.append({"bytes": row.data, "path": row.path} if self._is_struct else row.data)
            self._others.append(row.others)
            self._num_bytes += len(row.data)
            if len(self._images) >= self._layout.rows_per_group or self._num_bytes >= _GROUP_BYTES:
                self._write_group()
        return names

    def _write_group(self) -> None:
        schema, image = self._layout.schema, self._layout.image
        images = pa.array(self._images, schema.field(image).type)
        others = pa.Table.from_batches(self._others, self._layout.others)
        columns = [images if name == image else others[name] for name in schema.names]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=len(images))
        self._images, self._others, self._num_bytes = [], [], 0


def _image_column(schema: pa.Schema, wanted: str) -> str:
    columns = [field.name for field in schema if _holds_images(field.type)]
    if wanted in columns or len(columns) == 1:
        return wanted if wanted in columns else str(columns[0])
    found = f"there are {', '.join(columns)}" if columns else f"its columns are {', '.join(schema.names)}"
    raise UnreadableShardError(
        f"no column '{wanted}' that holds the bytes of images: {found}; give --shards.image_column"
    )


def _holds_images(kind: pa.DataType) -> bool:
    types = [field.type for field in kind if field.name == "bytes"] if pa.types.is_struct(kind) else [kind]
    return any(map(is_bytes, types))


def _sample(value: Any, others: pa.RecordBatch, names: RowNames, keys: SampleKeys) -> RowSample:
    path, data = (value.get("path"), value.get("bytes")) if isinstance(value, dict) else (None, value)
    member = names.next(path)
    name = member if media_kind(member) == "image" else member + _extension(data or b"")
    error = None if data else UnsupportedMediaError("a row without the bytes of its image: embed them")
    return RowSample(keys.next(name), ShardImage(member, name, data or b"", error), path, others)


def _extension(data: bytes) -> str:
    """Return the extension under which an image is written again, by a look at its bytes."""
    with contextlib.suppress(Exception), Image.open(io.BytesIO(data)) as image:
        written = "JPEG" if image.format == "MPO" else image.format
        return next(extension for extension, name in IMAGE_WRITERS.items() if name == written)
    return ".png"
