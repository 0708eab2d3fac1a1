"""Labels as files and as columns, and from one to the other."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from nst_ops.media.formats import media_kind
from nst_ops.media.shards.sample import Layout

IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""Of an image in the datasets of Hugging Face."""

ROWS_PER_GROUP = 100
"""Of shards that come from no Parquet: what Hugging Face writes for images."""

_LABELS = ("label", "cls", "class")
_FIRST_TYPES = {
    # last extension of a label's file: type of its column, if its content allows
    "cls": pa.int64(),
    **dict.fromkeys(("txt", "text", "caption", "json", "csv", "html", "md"), pa.string()),
}
_INT64 = range(-(2**63), 2**63)


def image_layout(image_column: str, others: pa.Schema) -> Layout:
    """Columns of a new Parquet shard, which Hugging Face's readers take for one of images."""
    schema = others.insert(0, pa.field(image_column, IMAGE_TYPE))
    features = {"info": {"features": {image_column: {"_type": "Image"}}}}
    return Layout(schema.with_metadata({"huggingface": json.dumps(features)}), image_column, ROWS_PER_GROUP)


class Survey:
    """Finds the types of the columns that the labels of a tar become."""

    def __init__(self, image_column: str) -> None:
        self._image_column = image_column
        self._types: dict[str, pa.DataType] = {}

    def add(self, labels: Mapping[str, bytes]) -> None:
        """Take the labels of another sample into account."""
        for column, data in labels.items():
            first = _FIRST_TYPES.get(column.rsplit(".", 1)[-1].lower(), pa.binary())
            wanted = self._types.get(column, first)
            while not _fits(data, wanted):
                wanted = pa.string() if pa.types.is_integer(wanted) else pa.binary()
            self._types[column] = wanted

    def layout(self) -> Layout:
        """The columns for all labels so far."""
        columns = [("__key__", pa.string()), *sorted(self._types.items())]
        return image_layout(self._image_column, pa.schema(columns))


def parse_label(data: bytes, wanted: pa.DataType) -> Any:
    """The content of a label's file as a value of a column.

    Raises:
        ValueError: it is none.
    """
    if pa.types.is_integer(wanted):
        return int(data)
    return data.decode() if pa.types.is_string(wanted) else data


def label_files(row: pa.RecordBatch) -> Iterator[tuple[str, bytes]]:
    """The columns of one row as files, each with its extension.

    Bytes get a file of their own, an integer label a ``cls``, and all the rest a ``json``.
    """
    taken = {"json"}
    rest = {}
    for name, kind in zip(row.schema.names, row.schema.types, strict=True):
        value = row[name][0].as_py()
        if is_bytes(kind):
            extension = re.sub(r"[^\w-]", "_", name)
            while extension in taken or media_kind(f"a.{extension}") != "other":
                extension += "_"
            taken.add(extension)
            if value is not None:
                yield extension, value
        elif pa.types.is_integer(kind) and name.lower() in _LABELS and "cls" not in taken:
            taken.add("cls")
            if value is not None:
                yield "cls", str(value).encode()
        else:
            rest[name] = value
    if rest:
        yield "json", json.dumps(rest, ensure_ascii=False, default=_json_value).encode()


def label_column(values: Sequence[Any]) -> pa.Array:
    """A column of values as JSON knows them; as JSON text where they are of no one type."""
    try:
        column = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        texts = [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
        return pa.array(texts, pa.string())
    return column.cast(pa.string()) if pa.types.is_null(column.type) else column


def is_bytes(kind: pa.DataType) -> bool:
    """Whether a column of this type holds bytes."""
    types = pa.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _fits(data: bytes, wanted: pa.DataType) -> bool:
    try:
        value = parse_label(data, wanted)
    except ValueError:
        return False
    return not isinstance(value, int) or value in _INT64


def _json_value(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
