"""Samples of one image each: rows of a table, or image files with what is known of them."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from nst_ops.media.shards.columns import image_layout, label_column, label_files
from nst_ops.media.shards.sample import Layout, Member, Picture, Stylized, TableRow, safe_name


@dataclass(frozen=True)
class RowSample:
    """A row with an image: of a Parquet shard, or of an image file and its labels."""

    key: str
    """What its files are called in a tar, without extension."""
    picture: Picture
    path: str | None
    others: pa.RecordBatch

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The one image."""
        return (self.picture,)

    def members(self, stylized: Mapping[str, Stylized]) -> list[Member]:
        """The image and its labels as files of one key."""
        image = stylized[self.picture.member]
        extension = posixpath.splitext(image.name)[1]
        labels = [Member(f"{self.key}.{field}", data) for field, data in label_files(self.others)]
        return [Member(self.key + extension, image.data, self.picture), *labels]

    def rows(self, stylized: Mapping[str, Stylized], layout: Layout) -> list[TableRow]:
        """The row with another image."""
        image = stylized[self.picture.member]
        path = image.name if self.path and image.name != self.picture.name else self.path
        return [TableRow(self.picture, path, image.data, self.others)]


def file_samples(
    relpaths: Sequence[str], labels: Sequence[Mapping[str, Any]], image_column: str
) -> tuple[list[RowSample], Layout]:
    """Image files as samples that are yet without bytes, and the columns of a table of them.

    Args:
        relpaths: of the files, which also name them.
        labels: what is known of each.
        image_column: what the column of images is to be called.
    """
    columns = {name: None for row in labels for name in row if name != image_column}
    arrays = {name: label_column([row.get(name) for row in labels]) for name in columns}
    fields = [(name, array.type) for name, array in arrays.items()]
    keys = Keys()
    samples = []
    for index, relpath in enumerate(relpaths):
        others = pa.RecordBatch.from_arrays(
            [array.slice(index, 1) for array in arrays.values()], schema=pa.schema(fields)
        )
        samples.append(RowSample(keys.next(relpath), Picture(relpath, relpath, b""), relpath, others))
    return samples, image_layout(image_column, pa.schema(fields))


class Keys:
    """Keys of the samples of a tar, from the paths of images."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def next(self, path: str) -> str:
        """A key that no other path got; dots end a key, so there are none in it."""
        folder, base = posixpath.split(safe_name(posixpath.normpath(path)))
        key = posixpath.join(folder, posixpath.splitext(base)[0].replace(".", "_"))
        if key in self._taken:
            key += "-" + hashlib.sha256(path.encode()).hexdigest()[:8]
        self._taken.add(key)
        return key
