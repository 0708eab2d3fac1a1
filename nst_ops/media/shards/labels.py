"""Labels of image files, from JSON to the columns of a table."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa


def label_column(values: Sequence[Any], kind: pa.DataType | None = None) -> pa.Array:
    """Make a column of values of JSON, of a type; without one, of theirs, or of ``mixed_type`` where they have several.

    In a column of text, texts stay as they are and other values are their JSON; in one of JSON all are.
    """
    if kind is None:
        try:
            column = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            return label_column(values, mixed_type(values))
        return column.cast(pa.string()) if pa.types.is_null(column.type) else column
    if kind == pa.json_():
        return pa.array([None if value is None else _json(value) for value in values], pa.string())
    if pa.types.is_string(kind):
        return pa.array([value if value is None or isinstance(value, str) else _json(value) for value in values], kind)
    if is_binary(kind):
        return pa.array([None if value is None else base64.b64decode(value) for value in values], kind)
    if _is_written_as_text(kind):
        return pa.array(values, pa.string()).cast(kind)
    return pa.array(values, kind)


def mixed_type(values: Sequence[Any]) -> pa.DataType:
    """Return the type of a column for values of JSON of several types: text, or JSON where some hold others."""
    return pa.json_() if any(isinstance(value, list | dict) for value in values) else pa.string()


def comes_back(kind: pa.DataType) -> bool:
    """Return whether ``label_column`` makes a column of this type again out of its JSON."""
    return is_binary(kind) or _is_written_as_text(kind) or _is_of_json(kind)


def is_binary(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds bytes, of any length or of one."""
    types = pa.types
    tests = types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary
    return any(test(kind) for test in tests)


def _is_written_as_text(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_timestamp(kind) or types.is_date(kind) or types.is_time(kind) or types.is_decimal(kind))


def _is_of_json(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_struct(kind):
        return all(_is_of_json(field.type) for field in kind)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind) or types.is_dictionary(kind):
        return _is_of_json(kind.value_type)
    texts = types.is_string, types.is_large_string, types.is_string_view
    return any(test(kind) for test in (types.is_integer, types.is_floating, types.is_boolean, *texts))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
