"""Samples of a shard: an image or several, their labels, and the names of all.

A sample is either files with a common key, as a tar holds them, or a row of a table; each can be written as the other.
Stylized images are given to it by ``ShardImage.member``; an image that is not among them has failed and is left out.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import json
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from nst_ops.media.errors import MediaError, OutputCollisionError, UnsupportedMediaError
from nst_ops.media.formats import IMAGE_WRITERS, hidden_reason, media_kind
from nst_ops.media.shards.labels import label_column
from nst_ops.media.signatures import HEAD_BYTES, content_format
from nst_ops.storage.names import own_safe_name, safe_name, with_hash

IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # of a column in Hugging Face's datasets
ROWS_PER_GROUP = 100  # for shards that come from no Parquet: what Hugging Face writes for images
_LABELS = ("label", "cls", "class")
_FIRST_TYPES = {
    # last extension of a label's file: type of its column, if its content allows
    "cls": pa.int64(),
    **dict.fromkeys(("txt", "text", "caption", "json", "csv", "html", "md"), pa.string()),
}
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True)
class ShardImage:
    """An image of a shard, as it came."""

    member: str  # its name in the shard, unique there and valid UTF-8
    name: str  # that it is written under, but for the extension of another format
    data: bytes  # the encoded image
    error: MediaError | None = None  # why it is not stylized, if that is clear before a look into it
    by_content: bool = False  # whether its bytes make it an image, as its name says nothing


@dataclass(frozen=True)
class StylizedImage:
    """A stylized image, encoded."""

    name: str  # ``ShardImage.name``, with the extension of the format that is written
    data: bytes


Stylized = Mapping[str, StylizedImage]  # by ``ShardImage.member``


@dataclass(frozen=True)
class Member:
    """A file of a sample."""

    name: str
    data: bytes
    image: ShardImage | None = None  # the source image, if the file is an image


@dataclass(frozen=True)
class Cell:
    """An image in a column of a table, or none where the table has a null."""

    image: ShardImage | None
    path: str | None = None  # the name of the image that the table itself gives, if any
    data: bytes | None = None  # what is written for it; None writes a null


@dataclass(frozen=True)
class TableRow:
    """A row of a table."""

    cells: tuple[Cell, ...] | None  # one, or those of a list, which may itself be null
    others: pa.RecordBatch  # the other columns, of one row
    fields: pa.StructArray | None = None  # what the structs of the cells hold beside bytes and path


@dataclass(frozen=True)
class Layout:
    """The columns of a table of images."""

    schema: pa.Schema
    image: str  # column of the images: bytes, or a struct of bytes, path and others, or lists of these
    rows_per_group: int

    @property
    def place(self) -> int:
        """Number of the column of the images."""
        return int(self.schema.get_field_index(self.image))

    @property
    def image_type(self) -> pa.DataType:
        """Type of the column of the images."""
        return self.schema.field(self.place).type

    @property
    def cell_type(self) -> pa.DataType:
        """Type of one image."""
        return cell_type(self.image_type)

    @property
    def others(self) -> pa.Schema:
        """The schema without the images."""
        return self.schema.remove(self.place)


class TakenNames:
    """The names of one output, each of which is given once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def claim(self, names: Iterable[str]) -> None:
        """Take all of ``names``; OutputCollisionError, and none is taken, if one of them is taken already."""
        claimed: set[str] = set()
        for name in names:
            if name in self._taken or name in claimed:
                raise OutputCollisionError(f"there is another {name} in the shard: rename one of them")
            claimed.add(name)
        self._taken |= claimed


class RowNames:
    """Names of the images of a table: their paths, or the numbers of their rows where paths do not tell."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._num_rows = 0

    def next(self, paths: Sequence[str | None], *, is_list: bool = False) -> list[str]:
        """Name the images of the next row; the same paths in the same order give the same names."""
        names = []
        for place, path in enumerate(paths):
            if not (name := printable(path or "")) or name in self._taken:
                name = f"row-{self._num_rows:07d}" + (f"-{place}" if is_list else "")
            while name in self._taken:
                name += "-"
            self._taken.add(name)
            names.append(name)
        self._num_rows += 1
        return names


class SampleKeys:
    """Keys of the samples of a tar, from the paths of images."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def next(self, path: str) -> str:
        """Return a key that no other path got; dots end a key, so there are none in it."""
        folder, base = posixpath.split(safe_name(posixpath.normpath(path)))
        key = posixpath.join(folder, posixpath.splitext(base)[0].replace(".", "_"))
        if key in self._taken:
            key += "-" + hashlib.sha256(path.encode()).hexdigest()[:8]
        self._taken.add(key)
        return key


def printable(name: str) -> str:
    """Return ``name`` as valid UTF-8: bytes that are none become visible escapes."""
    return name.encode(errors="backslashreplace").decode()


def written_name(name: str, data: bytes) -> str:
    """Return the name that an image is written under: where its own says nothing, with the extension of its format."""
    if media_kind(name) == "image":
        return name
    image_format = content_format(data[:HEAD_BYTES])
    return name + next((extension for extension, each in IMAGE_WRITERS.items() if each == image_format), ".png")


def split_name(name: str) -> tuple[str, str]:
    """Split the name of a file of a tar into (key, field), at the base name's first dot."""
    folder, base = posixpath.split(name)
    stem, _, field = base.partition(".")
    return posixpath.join(folder, stem), field


def member_name(name: str) -> str:
    """Return the safe name of a file of a tar: its own where that is safe, else one that no other name becomes.

    The hash in it is one of the key alone where that has to change, so that an image and its labels keep a common one.
    """
    key, field = split_name(name)
    if safe_name(name) == name or not posixpath.basename(key):
        return own_safe_name(name)
    return f"{own_safe_name(key)}.{own_safe_name(field)}" if field else own_safe_name(key)


@dataclass(frozen=True)
class FilesSample:
    """Files with a common key, as in a tar; what is no image goes on byte by byte."""

    key: str
    parts: tuple[Member, ...]
    image_column: str  # of a table, which no label may have
    elsewhere: tuple[Member, ...] = ()  # labels of the same key that are no neighbors: a table has them as well
    has_key_of_images: bool = False  # whether there are images of its key, here or elsewhere
    is_name: Callable[[str], bool] | None = None  # whether a file of the shard has a name

    @property
    def name(self) -> str:
        """The name of its first file."""
        return self.parts[0].name

    @property
    def images(self) -> tuple[ShardImage, ...]:
        """The images, in their order."""
        return tuple(part.image for part in self.parts if part.image)

    @property
    def is_in_table(self) -> bool:
        """Whether a table holds all of it: a file without a key or an extension has no column there."""
        return bool(self.images) or all(split_name(part.name)[1] and self.has_key for part in self.parts)

    @property
    def has_key(self) -> bool:
        """Whether its files have a key: hidden ones and those of systems have none."""
        return hidden_reason(self.parts[0].name) is None

    def members(self, stylized: Stylized) -> list[Member]:
        """Return the files as they came, each stylized image in the place of its source.

        One that has to change its name, as for another extension, leaves those of other files to them.
        """
        members = []
        taken = {part.name for part in self.parts}
        for part in self.parts:
            if part.image is None:
                members.append(part)
            elif image := stylized.get(part.image.member):
                name = image.name
                if name != part.name:
                    if name in taken or (self.is_name and self.is_name(name)):
                        name = _beside(part.name, name)
                    taken.add(name)
                members.append(Member(name, image.data, part.image))
        return members

    def rows(self, stylized: Stylized, layout: Layout) -> list[TableRow]:
        """Return a row for each image, all with the labels of the sample; labels alone are a row without an image."""
        images = [(image, stylized[image.member]) for image in self.images if image.member in stylized]
        if not images and (self.images or self.has_key_of_images or not self._is_first_of_key):
            return []
        columns = layout.others
        files: dict[str, Member] = {}
        for part in (*self.parts, *self.elsewhere):
            if part.image is None and files.setdefault(part.name, part).data != part.data:
                raise OutputCollisionError(f"there is another {part.name} in the shard: rename one of them")
        known = columns.names
        labels = {name: data for name, data in self.labels().items() if name in known}
        if not images and not (labels and self.has_key):
            return []
        values = {name: _parse_label(data, columns.field(name).type) for name, data in labels.items()}
        others = pa.RecordBatch.from_pylist([{"__key__": self.key, **values}], schema=columns)
        cells = [Cell(source, image.name, image.data) for source, image in images] or [Cell(None)]
        return [TableRow((cell,), others) for cell in cells]

    @property
    def _is_first_of_key(self) -> bool:
        """Whether no group of files with its key is before it, as far as that is known."""
        return not self.elsewhere or self.elsewhere[0].name == self.parts[0].name

    def labels(self) -> dict[str, bytes]:
        """Return the files that are no images, by the columns that they become."""
        parts = (*self.elsewhere, *self.parts)
        columns = [(split_name(part.name)[1], part.data) for part in parts if part.image is None]
        taken = (self.image_column, "__key__")
        return {column + "_" if column in taken else column: data for column, data in columns}


def _beside(name: str, wanted: str) -> str:
    """Return another name than the ``wanted`` one, of the same key and extension, for a file of this name."""
    folder, base = posixpath.split(name)
    base += "" if "." in base else "."  # which ends the key
    return posixpath.join(folder, with_hash(base + posixpath.splitext(wanted)[1], name))


@dataclass(frozen=True)
class RowSample:
    """A row of a table with its images, or an image file and its labels."""

    key: str  # name of its files in a tar, without extension
    cells: tuple[Cell, ...] | None  # yet without data
    others: pa.RecordBatch
    image_column: str
    is_list: bool = False
    fields: pa.StructArray | None = None  # what the structs of the cells hold beside bytes and path

    @property
    def images(self) -> tuple[ShardImage, ...]:
        """The images, in their order: one, or those of a list."""
        return tuple(cell.image for cell in self.cells or () if cell.image)

    @property
    def name(self) -> str:
        """The name that its files have in common."""
        return self.key

    @property
    def is_in_table(self) -> bool:
        """Whether a table has a row for it: always."""
        return True

    @property
    def image(self) -> ShardImage:
        """The first of the images."""
        return self.images[0]

    def members(self, stylized: Stylized) -> list[Member]:
        """Return the images and their labels as files of one key; those of a list have their place in their names."""
        members = []
        for place, cell in enumerate(self.cells or ()):
            if cell.image and (image := stylized.get(cell.image.member)):
                key = f"{self.key}.{place}" if self.is_list else self.key
                members.append(Member(key + posixpath.splitext(image.name)[1], image.data, cell.image))
        fields: list[dict[str, Any]] = [{}] if self.fields is None else self.fields.to_pylist()
        if self.is_list:  # their paths make no names of files
            beside = itertools.chain(fields, itertools.repeat({}))
            fields = [
                {"path": cell.path} | each if cell.path else each
                for cell, each in zip(self.cells or (), beside, strict=False)
            ]
        rest = {self.image_column: fields if self.is_list else fields[0]} if any(fields) else {}
        return members + [Member(f"{self.key}.{field}", data) for field, data in _label_files(self.others, rest)]

    def rows(self, stylized: Stylized, layout: Layout) -> list[TableRow]:
        """Return the row with its stylized images; one of a list that has failed leaves a null in its place."""
        if self.cells is None:
            return [TableRow(None, self.others)]
        return [TableRow(tuple(_stylized_cell(cell, stylized) for cell in self.cells), self.others, self.fields)]


def _stylized_cell(cell: Cell, stylized: Stylized) -> Cell:
    image = stylized.get(cell.image.member) if cell.image else None
    if image is None or cell.image is None:
        return Cell(None)
    path = image.name if cell.path and image.name != cell.image.name else cell.path
    return Cell(cell.image, path, image.data)


Sample = FilesSample | RowSample


class ShardReader(Protocol):
    """A local shard that is read; made from ``(path, image_column)``."""

    def samples(self) -> Iterator[Sample]:
        """Yield the samples in their order; UnreadableShardError at the damage, where there is one.

        MissingEndError behind the last sample, where that is all the damage.
        """

    def layout(self) -> Layout:
        """Return the columns of a table of all samples."""


class ShardWriter(AbstractContextManager["ShardWriter"], Protocol):
    """A local shard that is written; made from ``(path, layout)``."""

    def write(self, sample: Sample, stylized: Stylized) -> dict[str, str]:
        """Add a sample; return the name that each image of it got, by ``ShardImage.member``.

        Raises OutputCollisionError if a name is taken; then nothing of the sample is written.
        """


def file_samples(
    relpaths: Sequence[str],
    labels: Sequence[Mapping[str, Any]],
    image_column: str,
    types: Mapping[str, pa.DataType] | None = None,
) -> tuple[list[RowSample], Layout]:
    """Make samples of image files, yet without bytes, with their ``labels`` by column, and the columns of a table.

    Columns with ``types`` are there, of these types, whatever the labels of these files are.
    """
    types = types or {}
    columns = dict.fromkeys(name for row in [*labels, types] for name in row if name != image_column)
    arrays = {name: label_column([row.get(name) for row in labels], types.get(name)) for name in columns}
    schema = pa.schema([(name, array.type) for name, array in arrays.items()])
    keys, samples = SampleKeys(), []
    for index, relpath in enumerate(relpaths):
        others = pa.RecordBatch.from_arrays([array.slice(index, 1) for array in arrays.values()], schema=schema)
        cell = Cell(ShardImage(relpath, relpath, b""), relpath)
        samples.append(RowSample(keys.next(relpath), (cell,), others, image_column))
    return samples, image_layout(image_column, schema)


def image_layout(image_column: str, others: pa.Schema) -> Layout:
    """Lay out a new table of images so that Hugging Face's readers take it for one."""
    schema = others.insert(0, pa.field(image_column, IMAGE_TYPE))
    features = {"info": {"features": {image_column: {"_type": "Image"}}}}
    return Layout(schema.with_metadata({"huggingface": json.dumps(features)}), image_column, ROWS_PER_GROUP)


def label_layout(image_column: str, labels: Iterable[Mapping[str, bytes]]) -> Layout:
    """Lay out the table that samples of files become; a label's column has a type that all of them fit."""
    types: dict[str, pa.DataType] = {}
    for column, data in itertools.chain.from_iterable(each.items() for each in labels):
        wanted = types.get(column, _FIRST_TYPES.get(column.rsplit(".", 1)[-1].lower(), pa.binary()))
        while not _fits(data, wanted):
            wanted = pa.string() if pa.types.is_integer(wanted) else pa.binary()
        types[column] = wanted
    return image_layout(image_column, pa.schema([("__key__", pa.string()), *sorted(types.items())]))


def is_list_of(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds lists."""
    types = pa.types
    tests = types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view
    return any(test(kind) for test in tests)


def cell_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of what a column of lists holds; that of another column itself."""
    return kind.value_type if is_list_of(kind) else kind


def is_bytes(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds bytes."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _parse_label(data: bytes, wanted: pa.DataType) -> Any:
    """Return the content of a label's file as a value of a column; ValueError if it is none."""
    if pa.types.is_integer(wanted):
        return int(data)
    return data.decode() if pa.types.is_string(wanted) else data


def _fits(data: bytes, wanted: pa.DataType) -> bool:
    try:
        value = _parse_label(data, wanted)
    except ValueError:
        return False
    # A number that would not be written like this again, such as 007, is a text.
    return not isinstance(value, int) or (value in _INT64 and str(value).encode() == data.strip())


def _label_files(row: pa.RecordBatch, rest: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Yield one row as (extension, content) of files: of its bytes, an integer label's ``cls``, the rest's ``json``."""
    taken = {"json"}
    for name, column in zip(row.schema.names, row.columns, strict=True):
        kind = column.type
        if is_bytes(kind):
            extension = re.sub(r"[^\w-]", "_", name)
            while extension in taken or media_kind(f"a.{extension}") != "other":
                extension += "_"
            taken.add(extension)
            if column[0].is_valid:
                yield extension, column[0].as_py()
        elif pa.types.is_integer(kind) and name.lower() in _LABELS and "cls" not in taken:
            taken.add("cls")
            if column[0].is_valid:
                yield "cls", str(column[0].as_py()).encode()
        else:
            while name in rest:
                name += "_"
            rest[name] = _plain_value(name, column)
    if rest:
        yield "json", json.dumps(rest, ensure_ascii=False, default=_json_value).encode()


def _plain_value(name: str, column: pa.Array) -> Any:
    """Return the one value of a column as Python knows it; a time that Python has no type for as Arrow's text."""
    try:
        return column[0].as_py()
    except ValueError as error:  # nanoseconds
        with contextlib.suppress(pa.ArrowException):
            return column.cast(pa.string())[0].as_py()
        raise UnsupportedMediaError(f"its column '{name}' ({column.type}) cannot be written as JSON") from error


def _json_value(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
