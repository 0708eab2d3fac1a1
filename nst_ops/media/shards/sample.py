"""A sample of a shard: an image or several, what goes with them, and by what names."""

from __future__ import annotations

import posixpath
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from nst_ops.media.errors import MediaError, OutputCollisionError


@dataclass(frozen=True)
class Picture:
    """An image of a shard, as it came."""

    member: str
    """Its name in the shard, unique there and valid UTF-8."""
    name: str
    """The name that it is written under, but for the extension of another format."""
    data: bytes
    """Of its file, encoded."""
    error: MediaError | None = None
    """Why it is not stylized, if that is clear before a look into it."""


@dataclass(frozen=True)
class Stylized:
    """A stylized image, encoded."""

    name: str
    """``Picture.name``, with the extension of the format that is written."""
    data: bytes


@dataclass(frozen=True)
class Member:
    """A file of a tar."""

    name: str
    data: bytes
    picture: Picture | None = None
    """The image that it is, if it is one."""


@dataclass(frozen=True)
class TableRow:
    """A row of a Parquet shard."""

    picture: Picture
    path: str | None
    """What the row says of the image's own name, if anything."""
    data: bytes
    others: pa.RecordBatch
    """The other columns, of one row."""


@dataclass(frozen=True)
class Layout:
    """The columns of a Parquet shard."""

    schema: pa.Schema
    image: str
    """Column of the images: bytes, or a struct of bytes and path."""
    rows_per_group: int

    @property
    def others(self) -> pa.Schema:
        """The schema without the images."""
        return self.schema.remove(self.schema.get_field_index(self.image))


class Sample(Protocol):
    """What belongs together in a shard; stylized images are given by ``Picture.member``.

    An image that is not among them has failed and is left out.
    """

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The images, in their order."""

    def members(self, stylized: Mapping[str, Stylized]) -> list[Member]:
        """The sample as files of a tar."""

    def rows(self, stylized: Mapping[str, Stylized], layout: Layout) -> list[TableRow]:
        """The sample as rows of a table, one for each image."""


class TakenNames:
    """The names of one output, each of which is given once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def claim(self, names: Iterable[str]) -> None:
        """Take all of ``names``.

        Raises:
            OutputCollisionError: one of them is taken; then none is.
        """
        claimed: set[str] = set()
        for name in names:
            if name in self._taken or name in claimed:
                raise OutputCollisionError(f"there is another {name} in the shard: rename one of them")
            claimed.add(name)
        self._taken |= claimed


class RowNames:
    """Names of the images of a Parquet shard: their paths, or where these do not tell, their rows."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._num_rows = 0

    def next(self, path: str | None) -> str:
        """The name of the next row; the same paths in the same order give the same names."""
        name = printable(path or "")
        if not name or name in self._taken:
            name = f"row-{self._num_rows:07d}"
        while name in self._taken:
            name += "-"
        self._taken.add(name)
        self._num_rows += 1
        return name


def printable(name: str) -> str:
    """``name`` as valid UTF-8: bytes that are none become visible escapes."""
    return name.encode(errors="backslashreplace").decode()


def safe_name(name: str) -> str:
    r"""A relative path that leads nowhere but down; the same as ``name`` if that does.

    Names come out of foreign archives: no absolute paths, no ``..``, no backslashes, no control characters.
    """
    letters = ["_" if unicodedata.category(c) in ("Cc", "Cs") or c == "\\" else c for c in name]
    parts = [part for part in "".join(letters).split("/") if part != ".."]
    return "/".join(parts).lstrip("/") or "_"


def split_name(name: str) -> tuple[str, str]:
    """(key, field) of a file of a WebDataset tar: the base name's first dot is between them."""
    folder, base = posixpath.split(name)
    stem, _, field = base.partition(".")
    return posixpath.join(folder, stem), field
