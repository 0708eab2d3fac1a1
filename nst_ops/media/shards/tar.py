"""WebDataset tars: neighbors with the same key are a sample."""

from __future__ import annotations

import contextlib
import itertools
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from types import TracebackType

import pyarrow as pa

from nst_ops.media.errors import UnreadableShardError, UnsupportedMediaError
from nst_ops.media.formats import media_kind
from nst_ops.media.shards.sample import (
    Layout,
    Member,
    Sample,
    ShardImage,
    StylizedImage,
    Survey,
    TableRow,
    TakenNames,
    parse_label,
    printable,
    safe_name,
    split_name,
)


@dataclass(frozen=True)
class TarSample:
    """A sample of a tar; what is no image goes on byte by byte."""

    key: str
    parts: tuple[Member, ...]
    image_column: str

    @property
    def images(self) -> tuple[ShardImage, ...]:
        """The images, in their order."""
        return tuple(part.image for part in self.parts if part.image)

    def members(self, stylized: Mapping[str, StylizedImage]) -> list[Member]:
        """The files as they came, each stylized image in the place of its source."""
        members = []
        for part in self.parts:
            if part.image is None:
                members.append(part)
            elif image := stylized.get(part.image.member):
                members.append(Member(image.name, image.data, part.image))
        return members

    def rows(self, stylized: Mapping[str, StylizedImage], layout: Layout) -> list[TableRow]:
        """A row for each image, all with the labels of the sample; without an image there is no row."""
        images = [(image, stylized[image.member]) for image in self.images if image.member in stylized]
        if not images:
            return []
        columns = layout.others
        values = {name: parse_label(data, columns.field(name).type) for name, data in self.labels().items()}
        others = pa.RecordBatch.from_pylist([{"__key__": self.key, **values}], schema=columns)
        return [TableRow(source, image.name, image.data, others) for source, image in images]

    def labels(self) -> dict[str, bytes]:
        """The files that are no images, by the columns that they become."""
        labels = {}
        for part in self.parts:
            if part.image is None:
                column = split_name(part.name)[1]
                taken = column in (self.image_column, "__key__")
                labels[column + "_" if taken else column] = part.data
        return labels


class TarShard:
    """Reads a local tar, compressed or not.

    Args:
        path: of the file.
        image_column: what the column of images is to be called, where the shard becomes a table.
    """

    def __init__(self, path: str, image_column: str) -> None:
        self._path, self._image_column = path, image_column

    def samples(self) -> Iterator[TarSample]:
        """The samples in their order.

        Raises:
            UnreadableShardError: at the damage, where there is one. The sample before it is not given:
                some of its files may be lost.
        """
        for key, group in itertools.groupby(self._members(), lambda member: split_name(member.name)[0]):
            yield TarSample(key, tuple(group), self._image_column)

    def layout(self) -> Layout:
        """The columns that the shard would have as Parquet, from a look at all of its labels."""
        survey = Survey(self._image_column)
        with contextlib.suppress(UnreadableShardError):  # reading will say so
            for sample in self.samples():
                if sample.images:
                    survey.add(sample.labels())
        return survey.layout()

    def _members(self) -> Iterator[Member]:
        num_members, seen = 0, set[str]()
        try:
            with tarfile.open(self._path) as tar:
                for info in tar:
                    name = printable(info.name)
                    hidden = name.rsplit("/", 1)[-1].startswith(".")
                    kind = "other" if hidden else media_kind(name)
                    if kind in ("image", "video"):
                        yield Member(safe_name(info.name), b"", _picture(tar, info, kind, name in seen))
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


def _picture(tar: tarfile.TarFile, info: tarfile.TarInfo, kind: str, seen: bool) -> ShardImage:
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
    """A tar ends with empty blocks; ``tarfile`` takes a broken header, and nothing, for an end as well."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("cut off or damaged")


class TarWriter:
    """Writes a tar: the same samples give the same bytes. A context manager."""

    def __init__(self, path: str) -> None:
        self._tar = tarfile.open(path, "w")  # noqa: SIM115, closed on leaving
        self._names = TakenNames()

    def __enter__(self) -> TarWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tar.__exit__(kind, error, trace)

    def write(self, sample: Sample, stylized: Mapping[str, StylizedImage]) -> dict[str, str]:
        """Add a sample; the name that each image of it got, by ``ShardImage.member``.

        Raises:
            OutputCollisionError: a name is taken; then nothing of the sample is written.
        """
        members = sample.members(stylized)
        self._names.claim(member.name for member in members)
        for member in members:
            info = tarfile.TarInfo(member.name)  # owner and time stay 0
            info.size = len(member.data)
            self._tar.addfile(info, BytesIO(member.data))
        return {member.image.member: member.name for member in members if member.image}
