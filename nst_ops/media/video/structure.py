"""Damage between the packets of a file, where FFmpeg goes on at the next that it finds and says nothing.

Only the heads of packets are read, a small part of a file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

_HEAD_BYTES = 20  # of a Matroska element at most, and the number of the track that a block begins with
# Elements of Matroska by what they are in, RFC 9559. The content of those of _OPENED is gone through, too.
_EBML, _SEGMENT, _CLUSTER, _TRACKS, _GROUP = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0x1654AE6B, 0xA0
_TRACK_ENTRY, _TRACK_NUMBER, _BLOCKS = 0xAE, 0xD7, {0xA3, 0xA1}
_OPENED = {_CLUSTER, _GROUP}
_IN_SEGMENT = {_CLUSTER, _TRACKS, 0x114D9B74, 0x1549A966, 0x1C53BB6B, 0x1254C367, 0x1043A770, 0x1941A469, 0xEC, 0xBF}
_IN_CLUSTER = _BLOCKS | {_GROUP, 0xE7, 0xAB, 0xA7, 0xAF, 0x5854}
_IN_GROUP = {0x9B, 0xFA, 0xFB, 0xFD, 0xA2, 0xA4, 0x8E, 0x75A1, 0x75A2, 0xE8}
_FLV_TAG_BYTES, _FLV_KINDS = 11, {8, 9, 18}
_FLV_TAG = re.compile(rb"[\x08\x09\x12](?=(...)....\x00\x00\x00)", re.DOTALL)  # kind, size, time, stream
_OGG_HEAD_BYTES = 27
_MXF_KEY, _MXF_KEY_BYTES = b"\x06\x0e\x2b\x34", 16
_ASF_PROPERTIES, _ASF_DATA_BYTES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"), 50
_AVI_OPENED = {b"AVI ", b"AVIX", b"movi", b"rec "}
_AVI_MEDIA = re.compile(rb"[0-9]{2}(dc|db|wb)")
_AVI_CHUNK = re.compile(
    rb"[0-9]{2}(dc|db|wb|tx|pc|sb|iv)|ix[0-9]{2}|idx1|JUNK|junk|LIST|RIFF|INFO|strn|vprp|odml|\0{4}"
)
_REACH = 2**22  # bytes after a break in which a video goes on, if it does


def broken_at(path: str, container: str) -> int | None:
    """Return the byte at which the chain of packets of a local file breaks, by FFmpeg's name of its format.

    None if it is whole up to its end, or if nothing is known of the format. A byte beyond the file is where its last
    packet should end.
    """
    find = next((find for name, find in _FINDERS.items() if name in container), None)
    if find is None:
        return None
    with open(path, "rb", buffering=0) as file:
        return find(file, os.fstat(file.fileno()).st_size)


def _broken_matroska(file: BinaryIO, num_bytes: int) -> int | None:
    position, end, is_sized = 0, num_bytes, False
    latest = 0  # end of elements, where the segment does not say its own
    kinds, tracks = {_EBML, _SEGMENT}, set[int]()
    while position < end:
        kind, start, stop, first = _element(file, position)
        if kind == _TRACKS and not tracks:
            tracks = set(_track_numbers(file, start, stop))
        is_known = kind in kinds and (kind not in _BLOCKS or not tracks or first in tracks)
        # An element that we do not know is one if another follows it.
        if not is_known and not (stop and kind not in kinds and _is_followed(file, stop, end, kinds)):
            file.seek(position)
            # Of a segment that does not say where it ends this may be what somebody else has put behind it.
            rest = file.read(_REACH)
            is_inside = is_sized or _CLUSTER.to_bytes(4) in rest
            if is_inside and position + _HEAD_BYTES <= num_bytes:
                return position
            # A recorder that was switched off has left half a head.
            return num_bytes + 1 if not is_sized and _begins_element(rest) else _beyond(latest, num_bytes)
        if not is_sized and kind not in (_EBML, _SEGMENT):
            latest = max(latest, stop)
        if kind == _SEGMENT:
            position, end, is_sized = start, min(end, stop or end), stop > 0
            kinds = _IN_SEGMENT | _IN_CLUSTER | _IN_GROUP
        else:
            position = start if kind in _OPENED else stop or end
    return _beyond(latest, num_bytes)


def _beyond(place: int, num_bytes: int) -> int | None:
    """Return a place if it is beyond the end of the file."""
    return place if place > num_bytes else None


def _begins_element(rest: bytes) -> bool:
    """Return whether the end of a file is the begin of an element, too short to say its size."""
    kinds = (kind.to_bytes((kind.bit_length() + 7) // 8) for kind in _IN_SEGMENT | _IN_CLUSTER)
    return 0 < len(rest) < _HEAD_BYTES and any(rest.startswith(kind[: len(rest)]) for kind in kinds)


def _is_followed(file: BinaryIO, stop: int, end: int, kinds: set[int]) -> bool:
    return stop == end or (stop < end and _element(file, stop)[0] in kinds)


def _track_numbers(file: BinaryIO, position: int, end: int) -> Iterator[int]:
    while position < end:
        kind, start, stop, _ = _element(file, position)
        if kind == _TRACK_NUMBER:
            file.seek(start)
            yield int.from_bytes(file.read(stop - start))
        if not stop:
            return
        position = start if kind == _TRACK_ENTRY else stop


def _element(file: BinaryIO, position: int) -> tuple[int, int, int, int]:
    """Return the kind of an element, where its content starts and ends, and the number that it begins with.

    0 stands for what is unknown, and for what is no element.
    """
    file.seek(position)
    head = file.read(_HEAD_BYTES)
    kind_bytes = _num_bytes(head)
    if kind_bytes > 4 or not (size := _number(head[kind_bytes:])):
        return 0, position, 0, 0
    start = position + kind_bytes + size[1]
    first = _number(head[start - position :])
    kind = int.from_bytes(head[:kind_bytes])
    return kind, start, 0 if size[0] is None else start + size[0], (first and first[0]) or 0


def _number(data: bytes) -> tuple[int | None, int] | None:
    """Return a number of variable length, None if it says unknown, and its length; None if there is none."""
    num_bytes = _num_bytes(data)
    if num_bytes > 8 or len(data) < num_bytes:
        return None
    most = (1 << 7 * num_bytes) - 1
    number = int.from_bytes(data[:num_bytes]) & most
    return None if number == most else number, num_bytes


def _num_bytes(data: bytes) -> int:
    """Return the length of a number by the zeros that it begins with; 9 for none."""
    return 9 - data[0].bit_length() if data else 9


def _broken_flv(file: BinaryIO, num_bytes: int) -> int | None:
    file.seek(5)
    end = position = int.from_bytes(file.read(4)) + 4
    while position + _FLV_TAG_BYTES <= num_bytes:
        file.seek(position)
        head = file.read(4)
        if head[0] & 0x1F not in _FLV_KINDS:
            file.seek(position)
            return position if _holds_flv_tag(file.read(_REACH)) else None
        end = position + _FLV_TAG_BYTES + int.from_bytes(head[1:])
        position = end + 4
    if position < num_bytes:  # half a head
        file.seek(position)
        end = position + _FLV_TAG_BYTES if file.read(1)[0] in _FLV_KINDS else 0
    return _beyond(end, num_bytes)


def _holds_flv_tag(data: bytes) -> bool:
    """Return whether a tag is somewhere in data, with its length after it: else this is not the middle of a video."""
    for found in _FLV_TAG.finditer(data):
        length = _FLV_TAG_BYTES + int.from_bytes(found[1])
        if data[found.start() + length :][:4] == length.to_bytes(4):
            return True
    return False


def _broken_ogg(file: BinaryIO, num_bytes: int) -> int | None:
    position, numbers = 0, dict[bytes, int]()
    while position + _OGG_HEAD_BYTES <= num_bytes:
        file.seek(position)
        head = file.read(_OGG_HEAD_BYTES)
        stream, number = head[14:18], int.from_bytes(head[18:22], "little")
        if head[:4] != b"OggS" or number not in (0, numbers.get(stream, number)):
            return position if head[:4] == b"OggS" or b"OggS" in file.read(_REACH) else None
        numbers[stream] = number + 1
        position += _OGG_HEAD_BYTES + head[26] + sum(file.read(head[26]))
    return position if position > num_bytes else None


def _broken_mxf(file: BinaryIO, num_bytes: int) -> int | None:
    position = 0
    while position + _MXF_KEY_BYTES < num_bytes:
        file.seek(position)
        head = file.read(_MXF_KEY_BYTES + 9)
        if not head.startswith(_MXF_KEY):
            if position:
                return position if _MXF_KEY in file.read(_REACH) else None
            return None  # a run-in comes first
        length = head[_MXF_KEY_BYTES]
        num_more = length & 0x7F if length > 0x7F else 0
        value = int.from_bytes(head[_MXF_KEY_BYTES + 1 :][:num_more]) if num_more else length
        position += _MXF_KEY_BYTES + 1 + num_more + value
    return position if position > num_bytes else None


def _broken_asf(file: BinaryIO, num_bytes: int) -> int | None:
    header = file.read(min(int.from_bytes(file.read(24)[16:], "little"), _REACH) - 24)
    properties, data = header.find(_ASF_PROPERTIES), 24 + len(header)
    packet_bytes = int.from_bytes(header[properties + 92 :][:4], "little")
    if properties < 0 or packet_bytes < 2:
        return None
    file.seek(data)
    head = file.read(_ASF_DATA_BYTES)
    num_packets = int.from_bytes(head[40:48], "little")  # 0 of a live recording
    first = data + _ASF_DATA_BYTES
    for position in range(first, min(num_bytes, first + num_packets * packet_bytes), packet_bytes):
        file.seek(position)
        if file.read(1) != b"\x82":  # two bytes of error correction follow, as FFmpeg expects
            return position if position > first else None
    end = first + num_packets * packet_bytes
    return end if end > num_bytes else None


def _broken_avi(file: BinaryIO, num_bytes: int) -> int | None:
    position = 0
    while position + 8 <= num_bytes:
        file.seek(position)
        head = file.read(12)
        kind, length = head[:4], int.from_bytes(head[4:8], "little")
        if kind in (b"RIFF", b"LIST"):  # their chunks come one by one; a header's list is passed over
            position += 12 if head[8:] in _AVI_OPENED else 8 + length + length % 2
        elif _AVI_CHUNK.fullmatch(kind):
            position += 8 + length + length % 2
        else:
            file.seek(max(0, position - 1))
            rest = file.read(_REACH)
            if _AVI_CHUNK.match(rest):  # some writers do not pad
                position -= 1
                continue
            return position if _AVI_MEDIA.search(rest) else None
    return None


_FINDERS: dict[str, Callable[[BinaryIO, int], int | None]] = {
    "matroska": _broken_matroska,
    "flv": _broken_flv,
    "ogg": _broken_ogg,
    "mxf": _broken_mxf,
    "asf": _broken_asf,
    "avi": _broken_avi,
}
