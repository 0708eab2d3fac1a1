"""The catalog: every file of the input, once."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from nst_ops.media.formats import media_kind
from nst_ops.storage import FileInfo, Folder

CATALOG_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("relpath", pa.string()),
        ("source_uri", pa.string()),
        ("source_bytes", pa.int64()),
        ("source_version", pa.string()),
        ("kind", pa.string()),
        ("problem", pa.string()),  # why it cannot even be opened; null for the others
    ]
)

_NAMESPACE = uuid.UUID("5d0dd3a0-7a9c-4d5e-9a43-3f1f8a2b6c11")


@dataclass(frozen=True)
class Source:
    """An input: a folder, or the one file of it that was named."""

    folder: Folder
    only: str | None = None

    @classmethod
    def open(cls, uri: str) -> Source:
        """A folder or a file by URI.

        Raises:
            FileNotFoundError: there is neither.
        """
        folder = Folder(uri)
        if folder.is_file():
            parent, name = folder.root.rsplit("/", 1)
            return cls(Folder(folder.uri().removesuffix(name).rstrip("/") or parent or "/"), name)
        if not folder.exists():
            raise FileNotFoundError(f"input '{uri}' does not exist")
        return cls(folder)


def discover(source: Source) -> pa.Table:
    """List the input as a table of ``CATALOG_SCHEMA``, sorted by path: same files, same table."""
    infos = source.folder.files() if source.only is None else [source.folder.file(source.only)]
    rows = [_row(source.folder, info) for info in infos]
    rows.sort(key=lambda row: row["relpath"])
    return pa.Table.from_pylist(rows, schema=CATALOG_SCHEMA)


def item_id(source_uri: str) -> str:
    """Stable id of a source: the same file has the same id in every run."""
    return str(uuid.uuid5(_NAMESPACE, source_uri))


def unit_id(item_ids: list[str]) -> str:
    """Stable id of a work unit: the same items make the same unit in every run."""
    return str(uuid.uuid5(_NAMESPACE, "\n".join(item_ids)))


def _row(folder: Folder, info: FileInfo) -> dict[str, Any]:
    name, problem = info.relpath, None
    if not info.regular:
        problem = "not a regular file (a pipe, a socket, a link to nothing or to a folder)"
    try:
        name.encode()
    except UnicodeEncodeError:
        name = os.fsencode(name).decode("utf-8", "backslashreplace")
        problem = "its name is not valid UTF-8: rename it"
    uri = folder.uri(name)
    return {
        "item_id": item_id(uri),
        "relpath": name,
        "source_uri": uri,
        "source_bytes": info.num_bytes,
        "source_version": info.version,
        "kind": media_kind(name),
        "problem": problem,
    }
