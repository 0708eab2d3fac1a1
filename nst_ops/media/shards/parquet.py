"""Parquet with the bytes of images in a column, as Hugging Face lays it out."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nst_ops.media.errors import UnreadableShardError, UnsupportedMediaError
from nst_ops.media.images import open_image
from nst_ops.media.shards.labels import is_binary
from nst_ops.media.shards.sample import (
    Cell,
    Layout,
    RowNames,
    RowSample,
    Sample,
    SampleKeys,
    ShardImage,
    Stylized,
    TableRow,
    cell_type,
    is_bytes,
    is_list_of,
    written_name,
)
from nst_ops.media.signatures import HEAD_BYTES, NO_MEDIA, content_format

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
            if "encrypted" in str(error):
                raise UnreadableShardError("an encrypted Parquet: decrypt it first") from error
            with contextlib.suppress(OSError), open(path, "rb") as file:
                if what := NO_MEDIA.get(content_format(file.read(HEAD_BYTES))):
                    raise UnreadableShardError(f"no Parquet but {what}") from error
            raise UnreadableShardError(f"no whole Parquet: {error}: copy or make it again") from error
        schema, metadata = self._file.schema_arrow, self._file.metadata
        rows_per_group = max((metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)), default=1)
        self._layout = Layout(schema, _image_column(schema, image_column), max(1, rows_per_group))

    def layout(self) -> Layout:
        """Return the columns, which the output has as well."""
        return self._layout

    def samples(self) -> Iterator[RowSample]:
        """Yield the rows in their order; UnreadableShardError at the damage, where there is one."""
        names, keys, num_rows = RowNames(), SampleKeys(), 0
        place = self._layout.place
        try:
            for batch in self._file.iter_batches(_ROWS_READ, use_threads=False):
                others = batch.remove_column(place)
                for index, (images, fields) in enumerate(_images(batch.column(place))):
                    yield self._sample(images, fields, others.slice(index, 1), names, keys)
                    num_rows += 1
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UnreadableShardError(
                f"damaged Parquet: {error}, after {num_rows} of its rows: copy or make it again"
            ) from error

    def _sample(
        self,
        images: list[_Image | None] | None,
        fields: pa.StructArray | None,
        others: pa.RecordBatch,
        names: RowNames,
        keys: SampleKeys,
    ) -> RowSample:
        is_list = is_list_of(self._layout.image_type)
        members = names.next([image and image.path for image in images or ()], is_list=is_list)
        cells = tuple(
            Cell(None) if image is None else Cell(_shard_image(member, image.data), image.path)
            for member, image in zip(members, images or (), strict=True)
        )
        first = next((cell.image.name for cell in cells if cell.image), members[0] if members else "row")
        key = keys.next(first)
        return RowSample(key, None if images is None else cells, others, self._layout.image, is_list, fields)


class ParquetWriter(AbstractContextManager["ParquetWriter"]):
    """Writes a Parquet shard, a row group at a time."""

    def __init__(self, path: str, layout: Layout) -> None:
        self._layout, self._names = layout, RowNames()
        self._is_list, self._has_paths = is_list_of(layout.image_type), pa.types.is_struct(layout.cell_type)
        # A dictionary of images would be all of them, for nothing.
        self._writer = pq.ParquetWriter(path, layout.schema, use_dictionary=layout.others.names)
        self._rows: list[TableRow] = []
        self._num_bytes = 0

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._writer:
            if kind is None and self._rows:
                self._write_group()

    def write(self, sample: Sample, stylized: Stylized) -> dict[str, str]:
        """Add a sample: a row for each of its stylized images, or one with all of them."""
        names: dict[str, str] = {}
        for row in sample.rows(stylized, self._layout):
            cells = row.cells or ()
            members = self._names.next(
                [cell.path if self._has_paths else None for cell in cells], is_list=self._is_list
            )
            names |= {cell.image.member: member for cell, member in zip(cells, members, strict=True) if cell.image}
            self._rows.append(row)
            self._num_bytes += sum(len(cell.data or b"") for cell in cells)
            if len(self._rows) >= self._layout.rows_per_group or self._num_bytes >= _GROUP_BYTES:
                self._write_group()
        return names

    def _write_group(self) -> None:
        layout = self._layout
        columns = pa.Table.from_batches([row.others for row in self._rows], layout.others).columns
        columns.insert(layout.place, _image_array(self._rows, layout))
        table = pa.Table.from_arrays(columns, schema=layout.schema)
        self._writer.write_table(table, row_group_size=len(self._rows))
        self._rows, self._num_bytes = [], 0


def holds_images(table: pq.ParquetFile) -> bool:
    """Return whether a Parquet file holds images, and not only other bytes beside names of files, such as hashes."""
    names = _image_columns(table.schema_arrow)
    kinds = [table.schema_arrow.field(name).type for name in names]
    if any(pa.types.is_struct(cell_type(kind)) for kind in kinds):
        return True
    return any(
        image and _format(image.data)
        for name in names
        for batch in itertools.islice(table.iter_batches(_ROWS_READ, columns=[name], use_threads=False), 1)
        for images, _ in _images(batch.column(0))
        for image in images or ()
    )


class _Image(NamedTuple):
    """An image as a table holds it."""

    data: bytes | None
    path: str | None


def _image_column(schema: pa.Schema, wanted: str) -> str:
    columns = _image_columns(schema)
    if wanted in columns or len(columns) == 1:
        return wanted if wanted in columns else columns[0]
    if columns:
        found = f"there are {', '.join(columns)}"
    elif schema.names.count(wanted) > 1:
        found = "several have that name"
    else:
        found = f"its columns are {', '.join(schema.names)}"
        if any("binary" in str(field.type) and not is_binary(field.type) for field in schema):
            found += " with bytes only further in: move the images into a column, or into lists of it"
        elif wanted in schema.names and _is_text(schema.field(wanted).type):
            found += f", and '{wanted}' is text: if it holds images in base64, decode them to bytes"
    raise UnreadableShardError(
        f"no column '{wanted}' that holds the bytes of images: {found}; give --shards.image_column, with --retry-failed"
    )


def _image_columns(schema: pa.Schema) -> list[str]:
    """Return the names of columns that can hold images; those of lists only where there is no other."""
    fields = [field for field in schema if _holds_images(field.type) and schema.names.count(field.name) == 1]
    single = [field.name for field in fields if not is_list_of(field.type)]
    return single or [field.name for field in fields]


def _holds_images(kind: pa.DataType) -> bool:
    kind = cell_type(kind)
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and is_bytes(field.type) for field in kind)
    return is_bytes(kind)


def _images(column: pa.Array) -> Iterator[tuple[list[_Image | None] | None, pa.StructArray | None]]:
    """Yield for each row of a column its images, None for a null list, and what else their structs hold."""
    is_list = is_list_of(column.type)
    cells = column.flatten() if is_list else column
    lengths = pc.list_value_length(column).to_pylist() if is_list else [1] * len(column)
    others = None
    if pa.types.is_struct(cells.type):
        names = [field.name for field in cells.type]
        data = _field(cells, "bytes").to_pylist()
        paths = _field(cells, "path").to_pylist() if "path" in _written(cells.type) else [None] * len(cells)
        rest = [number for number, name in enumerate(names) if name not in _written(cells.type)]
        if rest:
            fields = [cells.type.field(number) for number in rest]
            others = pa.StructArray.from_arrays([pc.struct_field(cells, [n]) for n in rest], fields=fields)
    else:
        data, paths = cells.to_pylist(), [None] * len(cells)
    images = [_Image(*pair) for pair in zip(data, paths, strict=True)]
    is_there, begin = cells.is_valid().to_pylist(), 0
    for length in lengths:
        end = begin + (length or 0)
        here = [image if there else None for image, there in zip(images[begin:end], is_there[begin:end], strict=True)]
        yield None if length is None else here, None if others is None else others.slice(begin, end - begin)
        begin = end


def _field(cells: pa.StructArray, name: str) -> pa.Array:
    return pc.struct_field(cells, [cells.type.get_field_index(name)])


def _written(kind: pa.StructType) -> set[str]:
    """Return the fields of an image's struct that are written anew: its bytes, and its path if that is a text."""
    texts = {field.name for field in kind if _is_text(field.type)}
    return {"bytes"} | (texts & {"path"})


def _image_array(rows: Sequence[TableRow], layout: Layout) -> pa.Array:
    """Make the column of images of these rows."""
    kind, cell = layout.image_type, layout.cell_type
    cells = [cell for row in rows for cell in row.cells or ()]
    data = [cell.data for cell in cells]
    if pa.types.is_struct(cell):
        others = [row.fields for row in rows if row.fields is not None]
        rest = pa.concat_arrays(others) if others else None
        arrays = []
        for field in cell:
            if field.name in _written(cell):
                values = data if field.name == "bytes" else [each.path for each in cells]
                arrays.append(pa.array(values, field.type))
            else:
                arrays.append(rest.field(field.name) if rest is not None else pa.nulls(len(cells), field.type))
        is_null = pa.array([each.image is None for each in cells], pa.bool_())
        values = pa.StructArray.from_arrays(arrays, fields=list(cell), mask=is_null)
    else:
        values = pa.array(data, cell)
    if not is_list_of(kind):
        return values
    lengths = [None if row.cells is None else len(row.cells) for row in rows]
    return _list_array(values, lengths, kind)


def _list_array(values: pa.Array, lengths: Sequence[int | None], kind: pa.DataType) -> pa.Array:
    """Make lists of a type out of neighboring values; a length of None makes a null."""
    ends = list(itertools.accumulate(length or 0 for length in lengths))
    begins, is_null = [0, *ends[:-1]], pa.array([length is None for length in lengths], pa.bool_())
    if pa.types.is_fixed_size_list(kind):  # there, nulls take as much place as others
        places = [
            None if length is None else place
            for begin, length in zip(begins, lengths, strict=True)
            for place in range(begin, begin + kind.list_size)
        ]
        return pa.FixedSizeListArray.from_arrays(values.take(pa.array(places, pa.int64())), type=kind, mask=is_null)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        made = pa.ListArray if pa.types.is_list(kind) else pa.LargeListArray
        return made.from_arrays([*begins, ends[-1]], values, type=kind, mask=is_null)
    made = pa.ListViewArray if pa.types.is_list_view(kind) else pa.LargeListViewArray
    sizes = [length or 0 for length in lengths]
    return made.from_arrays(begins, sizes, values, type=kind, mask=is_null)


def _shard_image(member: str, data: bytes | None) -> ShardImage:
    error = None if data else UnsupportedMediaError("a row without the bytes of its image: embed them")
    return ShardImage(member, written_name(member, data or b""), data or b"", error)


def _format(data: bytes | None) -> str | None:
    """Return Pillow's name of an image's format; None for what is none."""
    with contextlib.suppress(Exception), open_image(io.BytesIO(data or b"")) as image:
        return image.format
    return None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
