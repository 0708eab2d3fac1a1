"""WebDataset tars: neighboring files with the same key are a sample."""

from __future__ import annotations

import contextlib
import itertools
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from io import BytesIO
from typing import Any

from nst_ops.media.errors import UnreadableShardError, UnsupportedMediaError
from nst_ops.media.formats import media_kind
from nst_ops.media.shards.sample import (
    FilesSample,
    Layout,
    Member,
    Sample,
    ShardImage,
    Stylized,
    TakenNames,
    label_layout,
    printable,
    split_name,
)
from nst_ops.storage.names import safe_name


class TarReader:
    """Reads a local tar, compressed or not; ``image_column`` is that of a table that it may become."""

    def __init__(self, path: str, image_column: str) -> None:
        self._path, self._image_column = path, image_column

    def samples(self) -> Iterator[FilesSample]:
        """Yield the samples in their order; UnreadableShardError at the damage, where there is one.

        The sample before the damage is not given: some of its files may be lost.
        """
        for key, group in itertools.groupby(self._members(), lambda member: split_name(member.name)[0]):
            yield FilesSample(key, tuple(group), self._image_column)

    def layout(self) -> Layout:
        """Return the columns that the shard would have as a table, from a look at all of its labels."""
        return label_layout(self._image_column, self._labels())

    def _labels(self) -> Iterator[Mapping[str, bytes]]:
        with contextlib.suppress(UnreadableShardError):  # reading will say so
            yield from (sample.labels() for sample in self.samples() if sample.images)

    def _members(self) -> Iterator[Member]:
        num_members, seen = 0, set[str]()
        try:
            with tarfile.open(self._path) as tar:
                for info in tar:
                    name = printable(info.name)
                    hidden = name.rsplit("/", 1)[-1].startswith(".")
                    kind = "other" if hidden else media_kind(name)
                    if kind in ("image", "video"):
                        yield Member(safe_name(info.name), b"", _image(tar, info, kind, name in seen))
                        seen.add(name)
                    elif info.isfile():  # a link to a label is passed over, as WebDataset does
                        yield Member(safe_name(info.name), _read(tar, info))
                    num_members += 1
                _check_end(tar)
        except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError, MemoryError) as error:
            reason = str(error).partition("\n")[0].rstrip(":")
            raise UnreadableShardError(
                f"no whole tar: {reason}, after {num_members} of its files: copy or make it again"
            ) from error


class TarWriter(AbstractContextManager["TarWriter"]):
    """Writes a tar: the same samples give the same bytes."""

    def __init__(self, path: str, layout: Layout | None = None) -> None:
        del layout  # a tar has no columns
        self._tar = tarfile.open(path, "w")  # noqa: SIM115, closed on leaving
        self._names = TakenNames()

    def __exit__(self, *raised: Any) -> None:
        self._tar.__exit__(*raised)

    def write(self, sample: Sample, stylized: Stylized) -> dict[str, str]:
        """Add a sample, all of its files or none."""
        members = sample.members(stylized)
        self._names.claim(member.name for member in members)
        for member in members:
            info = tarfile.TarInfo(member.name)  # owner and time stay 0
            info.size = len(member.data)
            self._tar.addfile(info, BytesIO(member.data))
        return {member.image.member: member.name for member in members if member.image}


def _image(tar: tarfile.TarFile, info: tarfile.TarInfo, kind: str, seen: bool) -> ShardImage:
    name, problem = printable(info.name), ""
    if seen:
        name, problem = f"{name} at byte {info.offset}", "a second image of this name in the shard: rename it"
    elif kind == "video":
        problem = "a video inside a shard: give it as a file of its own"
    elif not info.isfile():
        problem = "not a file inside the shard but a link or a folder: put the image itself there"
    if problem:
        return ShardImage(name, safe_name(info.name), b"", UnsupportedMediaError(problem))
    return ShardImage(name, safe_name(info.name), _read(tar, info))


def _read(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(info)
    assert file is not None
    return file.read()


def _check_end(tar: tarfile.TarFile) -> None:
    """Refuse a tar without empty blocks at its end: ``tarfile`` takes a broken header for an end as well."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("cut off or damaged")
