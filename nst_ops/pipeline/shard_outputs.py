"""What the stylized images of a shard are written into: a shard, or files."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Protocol

from nst_ops.media.errors import OutputCollisionError
from nst_ops.media.shards import Layout, Sample, ShardWriter, StylizedImage, TakenNames, open_writer
from nst_ops.storage import Folder, StorageError

Place = tuple[str, str | None]
"""URI of an output, and of an image in a shard its member there."""


class Output(Protocol):
    """What a sink writes for one style."""

    def write(self, sample: Sample, stylized: Mapping[str, StylizedImage]) -> dict[str, Place]:
        """Add a sample; URI and member that each image of it got, by ``ShardImage.member``."""


class ShardOutput:
    """A shard of the output. A context manager: it appears whole, or not at all if it has no image."""

    def __init__(self, folder: Folder, relpath: str, layout: Layout | None) -> None:
        self._folder, self._relpath, self._layout = folder, relpath, layout
        self._num_images = 0

    def __enter__(self) -> ShardOutput:
        with contextlib.ExitStack() as opened:
            temporary = opened.enter_context(self._folder.atomic_write(self._relpath))
            self._writer: ShardWriter = open_writer(str(temporary), self._layout)
            opened.enter_context(self._writer)
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        reason = error or (None if self._num_images else _NoImagesError())
        with contextlib.suppress(_NoImagesError), self._opened:
            if reason:
                raise reason

    def write(self, sample: Sample, stylized: Mapping[str, StylizedImage]) -> dict[str, Place]:
        """Add a sample."""
        names = self._writer.write(sample, stylized)
        self._num_images += len(names)
        uri = self._folder.uri(self._relpath)
        return {picture: (uri, name) for picture, name in names.items()}


class FilesOutput:
    """The files that a shard becomes, in a folder that is named after it."""

    def __init__(self, folder: Folder, relpath: str) -> None:
        self._folder, self._relpath = folder, relpath
        self._names = TakenNames()

    def write(self, sample: Sample, stylized: Mapping[str, StylizedImage]) -> dict[str, Place]:
        """Write the files of a sample, all or none."""
        members = [
            replace(member, name=posixpath.normpath(member.name)) for member in sample.members(stylized)
        ]
        self._names.claim(member.name for member in members)
        relpaths = [f"{self._relpath}/{member.name}" for member in members]
        try:
            for relpath, member in zip(relpaths, members, strict=True):
                self._folder.write_bytes(relpath, member.data)
        except StorageError:
            raise
        except OSError as error:  # a name too long, a file where a folder has to be
            self._folder.remove_many(relpaths[: relpaths.index(relpath)])
            raise OutputCollisionError(
                f"cannot be written as {relpath}: {error.strerror}: rename it in the shard"
            ) from error
        uri = self._folder.uri(self._relpath)
        return {member.image.member: (f"{uri}/{member.name}", None) for member in members if member.image}


class _NoImagesError(Exception):
    """Nothing is to be written."""
