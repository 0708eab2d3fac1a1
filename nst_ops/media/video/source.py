"""Where the bytes of a video come from: a local path, or a remote file of which only ranges are fetched."""

# ruff: noqa: D102, methods without a docstring do what those of any file do

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

_FIRST_BYTES, _MOST_BYTES = 2**16, 2**22  # of a request: the first one somewhere in a file, after enough that follow
_BLOCKS_KEPT = 4  # in memory: header, sound and video may lie far from each other
_FIRST_BOXES = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}
_BOX_HEAD = 8  # bytes at least
_REACH = 2**22  # bytes after a hole in which a video goes on, if it does
_FRAGMENT_BOXES = _FIRST_BOXES | {
    b"moof",
    b"sidx",
    b"styp",
    b"emsg",
    b"prft",
    b"ssix",
    b"mfra",
    b"uuid",
    b"meta",
    b"udta",
}
_EBML_HEADER, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


class MediaFile(Protocol):
    """A file on remote storage: its base name tells the format of a raw stream."""

    @property
    def name(self) -> str: ...
    @property
    def num_bytes(self) -> int: ...
    @property
    def read_range(self) -> Callable[[int, int], bytes]: ...  # from a start to before an end, in one request


MediaSource = str | MediaFile  # a local path, or a remote file


def size_of(source: MediaSource) -> int:
    """Return the size in bytes."""
    return os.path.getsize(source) if isinstance(source, str) else source.num_bytes


class RangeInput:
    """A source as libavformat reads it through Python, in blocks that grow by half while it reads on.

    So a header costs little, and a long stretch few requests and little more than its own bytes. libavformat goes on
    reading after an error: PyAV raises the first one as it is, and from there on the file is at its end.
    """

    def __init__(self, source: MediaSource, num_bytes: int | None = None) -> None:
        self.name = source if isinstance(source, str) else source.name
        self.num_bytes = size_of(source) if num_bytes is None else num_bytes  # what follows is not read
        self._read_range = partial(_read_local, source) if isinstance(source, str) else source.read_range
        self._blocks: deque[tuple[int, bytes]] = deque(maxlen=_BLOCKS_KEPT)
        self._position = 0
        self._has_failed = False

    def read(self, num_bytes: int) -> bytes:
        pieces = []
        while num_bytes > 0 and self._position < self.num_bytes and not self._has_failed:
            pieces.append(self._piece(self._position, num_bytes))
            self._position += len(pieces[-1])
            num_bytes -= len(pieces[-1])
        return b"".join(pieces)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.num_bytes}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def _piece(self, start: int, num_bytes: int) -> bytes:
        """Return some of the bytes from a position on, at least one."""
        for first, data in self._blocks:
            if first <= start < first + len(data):
                return data[start - first : start - first + num_bytes]
        # A new block is longer than one that ends where it begins, or a little before.
        gaps = [(start - first - len(data), len(data)) for first, data in self._blocks]
        before = max((length for gap, length in gaps if 0 <= gap < _FIRST_BYTES), default=0)
        end = min(start + min(max(_FIRST_BYTES, before * 3 // 2), _MOST_BYTES), self.num_bytes)
        try:
            data = self._read_range(start, end)
            if len(data) != end - start:
                raise OSError(f"{self.name} has become shorter while it was read")
        except Exception:
            self._has_failed = True
            raise
        self._blocks.append((start, data))
        return data[:num_bytes]


class SampleTable(RangeInput):
    """An MP4 file of which the media data read as zeros and cost nothing; all other boxes are true.

    Of an hour of video that is a megabyte or two, at the front or at the end. ``is_whole`` says whether it tells of
    every packet: of other containers and of fragmented files it does not.
    """

    def __init__(self, source: MediaSource) -> None:
        super().__init__(source)
        self._media_data: list[range] = []
        self.is_whole = self._find_media_data()
        self.seek(0)

    def _find_media_data(self) -> bool:
        """Go from box to box; return whether all of them are those of an MP4 without fragments."""
        start = 0
        while start < self.num_bytes:
            self.seek(start)
            kind, head_bytes, num_bytes = _box_head(self)
            if num_bytes == 0 or kind == b"moof" or (start == 0 and kind not in _FIRST_BOXES):
                return False
            if kind == b"mdat":
                self._media_data.append(range(start + head_bytes, start + num_bytes))
            start += num_bytes
        return bool(self._media_data)

    def _piece(self, start: int, num_bytes: int) -> bytes:
        for data in self._media_data:
            if start in data:
                return bytes(min(num_bytes, min(data.stop, self.num_bytes) - start))
            if start < data.start:
                num_bytes = min(num_bytes, data.start - start)
        return super()._piece(start, num_bytes)


def fragments_end(source: MediaSource) -> tuple[int, int, int | None]:
    """Return where the last box of a fragmented MP4 says that it ends, where those before it end, and a hole in them.

    It goes from box to box, so a remote file takes a request for each fragment. A file without fragments gives 0, 0;
    what follows the last box that MP4 knows is no box, and a hole if a fragment comes after it.
    """
    file = RangeInput(source)
    start = end = whole = 0
    kind, has_fragments = b"", False
    while start < file.num_bytes:
        file.seek(start)
        kind, head_bytes, num_bytes = _box_head(file)
        if start == 0 and kind not in _FIRST_BOXES:
            return 0, 0, None
        if kind and kind not in _FRAGMENT_BOXES:
            file.seek(start)
            return end, whole, start if has_fragments and b"moof" in file.read(_REACH) else None
        end = start + (num_bytes or head_bytes)
        if end > file.num_bytes:
            # The samples of half an mdat are there; half a moof is of no use, and FFmpeg opens no file that has one.
            whole = file.num_bytes if kind == b"mdat" else start
            break
        has_fragments |= kind == b"moof"
        whole = start = end
    if kind == b"moof" and end == file.num_bytes:  # the box of its samples is missing
        end += _BOX_HEAD
    return (end, whole, None) if has_fragments or kind == b"moof" else (0, 0, None)


def lacks_table(source: MediaSource) -> bool:
    """Return whether an MP4 or MOV holds media data, and not the ``moov`` box that says where its samples are."""
    file, start, kinds = RangeInput(source), 0, set[bytes]()
    while start < file.num_bytes:
        file.seek(start)
        kind, _, num_bytes = _box_head(file)
        if start == 0 and kind not in _FIRST_BOXES:
            return False
        kinds.add(kind)
        start += num_bytes or file.num_bytes  # a recorder writes its size at the end, too
    return b"mdat" in kinds and not kinds & {b"moov", b"moof"}


def _box_head(file: RangeInput) -> tuple[bytes, int, int]:
    """Read the head of an MP4 box: its kind, the size of the head, and of the box; kind is empty if cut off."""
    start, head = file.tell(), file.read(16)
    num_bytes, kind, head_bytes = int.from_bytes(head[:4]), head[4:8], 8
    if num_bytes == 0:  # up to the end
        num_bytes = file.num_bytes - start
    elif num_bytes == 1:
        num_bytes, head_bytes = int.from_bytes(head[8:]), 16
    if len(head) < head_bytes:
        return b"", head_bytes, 0
    return kind, head_bytes, num_bytes if num_bytes >= head_bytes else 0


def promised_bytes(source: MediaSource, container: str, stream: Any) -> int:
    """Return where a file says that it ends, given FFmpeg's name of its format and its video stream; 0 if nowhere."""
    if "mp4" in container:
        entries = stream.index_entries
        return max((entry.pos + entry.size for entry in (entries[0], entries[-1])), default=0) if entries else 0
    file = RangeInput(source)
    if "matroska" in container:
        return _matroska_end(file)
    head = file.read(8)
    # A RIFF says how much follows its first 8 bytes; some writers count these, too.
    promised = int.from_bytes(head[4:], "little") if head[:4] == b"RIFF" else 0
    return 0 if promised == 0xFFFFFFFF else promised  # a recorder that never came back to fill it in


def _matroska_end(file: RangeInput) -> int:
    """Return the byte at which the segment ends, or 0 for a live recording, which does not know."""
    for element in (_EBML_HEADER, _SEGMENT):
        if file.read(4) != element:
            return 0
        first = file.read(1)
        length = 9 - int.from_bytes(first, "big").bit_length()  # a leading 1 says how many bytes
        if not 1 <= length <= 8:
            return 0
        unknown = (1 << 7 * length) - 1
        size = int.from_bytes(first + file.read(length - 1), "big") & unknown
        if element == _SEGMENT:
            return 0 if size == unknown else file.tell() + size
        file.seek(size, os.SEEK_CUR)
    return 0


def _read_local(path: str, start: int, end: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(start)
        return file.read(end - start)
