"""WebDataset tars: neighboring files with the same key are a sample."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import posixpath
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cached_property, partial
from io import BytesIO
from typing import IO, Any, cast

from nst_ops.media.errors import MissingEndError, UnreadableShardError, UnsupportedMediaError
from nst_ops.media.formats import is_unknown, kind_and_reason
from nst_ops.media.shards.sample import (
    FilesSample,
    Layout,
    Member,
    Sample,
    ShardImage,
    Stylized,
    TakenNames,
    label_layout,
    member_name,
    printable,
    split_name,
    written_name,
)
from nst_ops.media.signatures import HEAD_BYTES, NO_MEDIA, content_format, content_kind

_MAX_BYTES = 2**30  # of a file inside, which is read whole: a few bytes can stand for any number of zeros
_OPENERS: Mapping[bytes, Callable[[str], Any]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
}
_NOT_READ = {
    b"\x28\xb5\x2f\xfd": "compressed with Zstandard: decompress it, zstd -d",
    b"\x04\x22\x4d\x18": "compressed with LZ4: decompress it, lz4 -d",
    b"\x1f\x9d": "compressed with compress: decompress it, gzip -d",
    b"PK\x03\x04": "a zip file: unpack it",
    b"7z\xbc\xaf": "a 7z file: unpack it",
    b"Rar!": "a RAR file: unpack it",
}
_NO_FILE = (tarfile.DIRTYPE, b"V", b"D")  # folders, names of volumes, and lists of what is in a folder
_REST_OF_FILE = b"M"
_MAX_LINKS = 40  # one after the other
_ZEROS_READ = 2**20
_REMARKS = (b"x", b"g", b"X", b"L", b"K")  # types of headers that are about the next file: pax, GNU
_MAX_REMARK_BYTES = 2**20
_NAME_BYTES = 100  # at the start of a header
_TYPE_PLACE = 156


class _DamageError(Exception):
    """Broken bytes in a tar, behind ``num_files`` whole files.

    ``begins`` is the name of the file that is broken there: empty where none begins, None where it cannot be told.
    """

    def __init__(self, reason: str, num_files: int, begins: str | None) -> None:
        super().__init__(f"no whole tar: {reason}, after {num_files} of its files: copy or make it again")
        self.begins = begins


class _Header(tarfile.TarInfo):
    """A header that is not followed by gigabytes of names and remarks, which tarfile would read whole."""

    def _proc_member(self, tar: tarfile.TarFile) -> Any:
        if self.type in _REMARKS and self.size > _MAX_REMARK_BYTES:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(tar)  # type: ignore[misc]


class TarReader:
    """Reads a local tar, compressed or not; ``image_column`` is that of a table that it may become.

    Files of one key are a sample where they are neighbors; where they are not, each of the groups is one. Tars that
    were written one after the other into one file are one, and a link is the file in the shard that it leads to.
    """

    def __init__(self, path: str, image_column: str) -> None:
        self._path, self._image_column = path, image_column
        self._with_images: set[str] = set()
        self._apart: dict[str, list[Member]] = {}
        self._lacks_end = False

    def samples(self) -> Iterator[FilesSample]:
        """Yield the samples in their order; UnreadableShardError at the damage, where there is one.

        A sample is given if all of its files were read; one that the damage cuts is not, and the error names it. Where
        the damage does not tell, it is cut if it has fewer files than the sample before it.
        MissingEndError, behind the last sample, if nothing is missing but the blocks that end a tar.
        """
        key, parts, num_before, name = "", list[Member](), 0, ""
        try:
            for own_name, member in self._members():
                own_key = split_name(member.name)[0]
                if parts and own_key != key:
                    yield self._sample(key, parts)
                    parts, num_before = [], len(parts)
                key, name = own_key, own_name
                parts.append(member)
        except _DamageError as damage:
            if parts and (len(parts) < num_before if damage.begins is None else _have_one_key(name, damage.begins)):
                raise UnreadableShardError(f"{damage}; its sample '{key}' is cut off and left out") from damage
            if parts:
                yield self._sample(key, parts)
            raise UnreadableShardError(str(damage)) from damage
        if parts:
            yield self._sample(key, parts)
        if self._lacks_end:
            raise MissingEndError("the shard has no end mark behind this file: if it was cut off there, files are lost")

    def _sample(self, key: str, parts: list[Member]) -> FilesSample:
        elsewhere = tuple(self._apart.get(key, ()))
        has_images = key in self._with_images
        return FilesSample(key, tuple(parts), self._image_column, elsewhere, has_images, self._is_name)

    def _is_name(self, name: str) -> bool:
        return name in self._all_names

    @cached_property
    def _all_names(self) -> set[str]:
        """The names of all files: only a shard with an image whose name has to change needs another look for them."""
        names = set[str]()
        with contextlib.suppress(_DamageError):  # reading says so
            entries = TarReader(self._path, self._image_column).entries()  # this one may be read at the same time
            names.update(member_name(info.name) for _, info in entries if info.type not in _NO_FILE)
        return names

    def layout(self) -> Layout:
        """Return the columns that the shard would have as a table, from a look at all of its labels.

        From then on samples know the labels of their key that lie elsewhere in the shard, which are held in memory.
        """
        seen, apart = set[str](), set[str]()

        def labels() -> Iterator[Mapping[str, bytes]]:
            for sample in self._whole_samples():
                if sample.key in seen:
                    apart.add(sample.key)
                seen.add(sample.key)
                if sample.images:
                    self._with_images.add(sample.key)
                if sample.is_in_table:
                    yield sample.labels()

        layout = label_layout(self._image_column, labels())
        if apart:
            found: dict[str, list[Member]] = {key: [] for key in apart}
            for sample in self._whole_samples():
                if sample.key in apart:
                    found[sample.key] += [part for part in sample.parts if part.image is None]
            self._apart = found
        return layout

    def _whole_samples(self) -> Iterator[FilesSample]:
        with contextlib.suppress(UnreadableShardError):  # reading will say so
            yield from self.samples()

    def entries(self) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        """Yield the headers of all tars in the file, each with its tar; _DamageError at the damage."""
        num_entries, begin, offset = 0, 0, 0
        with _open(self._path) as stream:
            try:
                while begin >= 0:
                    stream.seek(begin)
                    tar, num_before = tarfile.TarFile(fileobj=stream, tarinfo=_Header), num_entries
                    for info in tar:
                        if info.size < 0 or tar.offset <= info.offset:  # it would be read again and again
                            raise tarfile.ReadError("a header with an impossible size")
                        yield tar, info
                        num_entries, offset = num_entries + 1, tar.offset
                    is_tar = not begin or num_entries > num_before
                    begin = self._next_tar(tar, "cut off or damaged" if is_tar else "what follows its end is no tar")
            except Exception as error:  # whatever tarfile and the decompressors raise of broken bytes
                raise _DamageError(_reason(error), num_entries, _name_at(stream, offset)) from error

    def _next_tar(self, tar: tarfile.TarFile, damage: str) -> int:
        """Return where another tar begins behind the empty blocks at the end of one; -1 where there is none.

        A tar may also end with the file itself: GNU tar takes it for whole, and so does ``tarfile``. Raises ReadError
        where anything else follows, which ``tarfile`` passes over.
        """
        stream, begin = tar.fileobj, tar.offset
        assert stream is not None
        stream.seek(begin)
        block = stream.read(tarfile.BLOCKSIZE)
        if block.strip(b"\0"):
            raise tarfile.ReadError(damage)
        self._lacks_end = len(block) < tarfile.BLOCKSIZE
        while block:
            if rest := block.lstrip(b"\0"):
                return begin + (len(block) - len(rest)) // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
            begin += len(block)
            block = stream.read(_ZEROS_READ)
        return -1

    def _members(self) -> Iterator[tuple[str, Member]]:
        """Yield the files, each with the name that its header has."""
        seen, files = set[str](), _Files(self)
        for number, (tar, info) in enumerate(self.entries()):
            files.add(info)
            try:
                member = files.member(tar, info, seen)
            except Exception as error:  # as above
                raise _DamageError(f"{_reason(error)} in {printable(info.name)}", number, info.name) from error
            if member:
                yield info.name, member


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


class _Files:
    """The files of a shard by name, to follow links to them; only the content of the shard itself is ever read."""

    def __init__(self, reader: TarReader) -> None:
        self._reader = reader
        self._by_name: dict[str, tarfile.TarInfo] = {}
        self._unnamed: list[tarfile.TarInfo] = []  # found, but not yet in ``_by_name``: most shards have no link
        self._is_complete = False

    def add(self, info: tarfile.TarInfo) -> None:
        """Note a file that was found."""
        self._unnamed.append(info)

    def member(self, tar: tarfile.TarFile, info: tarfile.TarInfo, seen: set[str]) -> Member | None:
        """Return a file with its content, or why it cannot be read; None for what is no file.

        It is an image by its name, or by its content where its name says nothing; hidden files and those of systems
        are carried along. ``seen`` are the names of the images before it, to which it is added.
        """
        name, safe, problem, data = printable(info.name), member_name(info.name), "", b""
        kind, no_media = kind_and_reason(name, takes_hidden=False)
        is_image = kind in ("image", "video")
        if is_image and info.isdir():
            problem = "not a file inside the shard but a folder: put the image itself there"
        elif info.type in _NO_FILE:
            return None
        elif kind == "video":
            problem = "a video inside a shard: give it as a file of its own"
        elif not (is_image and name in seen):
            problem, data = self.read(tar, info)
        by_content = not (is_image or no_media) and is_unknown(name) and content_kind(data[:HEAD_BYTES]) == "image"
        if not (is_image or by_content or problem):
            return Member(safe, data)
        if is_image or by_content:
            if name in seen:
                name, problem = f"{name} at byte {info.offset}", "a second image of this name in the shard: rename it"
            seen.add(name)
        # What cannot be carried gets a row, as an image does.
        error = UnsupportedMediaError(problem) if problem else None
        written = written_name(safe, data) if by_content else safe
        return Member(safe, b"", ShardImage(name, written, b"" if error else data, error, by_content))

    def read(self, tar: tarfile.TarFile, info: tarfile.TarInfo) -> tuple[str, bytes]:
        """Return (why a file cannot be read, its content)."""
        target = self._target(info)
        if target is None:
            return "a link to nothing inside the shard: put the file itself there", b""
        if target.ischr() or target.isblk() or target.isfifo():
            return "not a file inside the shard but a device or a pipe: put the file itself there", b""
        if target.type == _REST_OF_FILE:
            return "the rest of a file that begins in another volume: join them, tar --multi-volume", b""
        if target.size > _MAX_BYTES:
            return f"a file of {target.size / 2**30:.0f} GiB inside a shard: give it as a file of its own", b""
        content = tar.extractfile(target)
        assert content is not None
        return "", content.read()

    def _target(self, info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        """Follow links to a file of the shard; None where there is none."""
        target: tarfile.TarInfo | None = info
        for _ in range(_MAX_LINKS):
            if target is None or not (target.issym() or target.islnk()):
                break
            self._by_name |= {posixpath.normpath(each.name): each for each in self._unnamed}
            self._unnamed.clear()
            folder = posixpath.dirname(target.name) if target.issym() else ""
            name = posixpath.normpath(posixpath.join(folder, target.linkname))
            # A hard link is another name of a file before it, perhaps of its own name.
            found = self._by_name.get(name)
            if (found is None or found is target) and not self._is_complete:
                with contextlib.suppress(_DamageError):  # reading on will say so
                    for _, other in self._reader.entries():
                        self._by_name.setdefault(posixpath.normpath(other.name), other)
                self._is_complete = True
            target = self._by_name.get(name)
        return target if target is not None and not (target.issym() or target.islnk() or target.isdir()) else None


def _open(path: str) -> IO[bytes]:
    """Open a tar, decompressed; UnreadableShardError where it is another archive."""
    with open(path, "rb") as file:
        start = file.read(HEAD_BYTES)
    if content_format(start) == "Git LFS":
        raise UnreadableShardError(f"no tar but {NO_MEDIA['Git LFS']}")
    for magic, what in _NOT_READ.items():
        if start.startswith(magic):
            raise UnreadableShardError(f"no tar that can be read but {what}")
    opener = next((opener for magic, opener in _OPENERS.items() if start.startswith(magic)), partial(open, mode="rb"))
    stream: Any = opener(path)
    return cast(IO[bytes], stream)


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(":") or type(error).__name__


def _name_at(stream: IO[bytes], offset: int) -> str | None:
    """Return the name in a broken header, as ``_DamageError`` has it."""
    header = b""
    with contextlib.suppress(Exception):
        stream.seek(offset)
        while len(header) <= _TYPE_PLACE and (byte := stream.read(1)):  # more at once would give nothing at a cut
            header += byte
    name, nul, _ = header[:_NAME_BYTES].partition(b"\0")
    is_whole = nul or len(header) >= _NAME_BYTES
    is_remark = header[_TYPE_PLACE : _TYPE_PLACE + 1] in _REMARKS  # the name follows further on
    return name.decode(errors="surrogateescape") if is_whole and not is_remark else None


def _have_one_key(name: str, other: str) -> bool:
    """Return whether two files, the other if any, are of one sample; a header may keep folders elsewhere."""
    keys = {split_name(posixpath.basename(each))[0] for each in (name, other)}
    return bool(other) and len(keys) == 1
