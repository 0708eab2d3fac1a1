"""What is still whole of an image that does not decode as it is: every pixel is there, something around them is not.

Browsers show such files. A repair takes the file's bytes and gives others that decode, and a note on what was wrong.
"""

from __future__ import annotations

import contextlib
import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin

from nst_ops.media.signatures import content_format

NO_END = "its last bytes are missing, but every row of pixels is there"
MOST_MISSING = 0.02
"""Share of the pixels of a JPEG that may be missing at its end: blocks in its last corner."""
_NOISE = bytes(range(1, 255)) * 8


class Repaired(NamedTuple):
    """Bytes that may decode, and what was wrong with the file."""

    data: bytes
    note: str


def repair(data: bytes) -> Repaired | None:
    """Repair a file that does not decode; None where there is nothing to repair, or pixels are missing."""
    known = _REPAIRS.get(content_format(data))
    return known(data) if known else None


def lacks_scans(data: bytes) -> bool:
    """Return whether a JPEG ends before its last scan: a progressive one is blurred then, though it has all rows."""
    scans = _read_scans(data)
    return scans is not None and not scans.is_complete


def missing_share(data: bytes) -> float:
    """Return the share of a JPEG's pixels, from 0 to 1, that its data do not reach, whether or not it has an end mark.

    The data are decoded twice, with different bytes after their end: from where the two differ on, there were none.
    What a later scan would have refined counts as missing, too. 1 where it cannot be told.
    """
    scans = _read_scans(data)
    if scans is None or not scans.is_complete:
        return 1.0
    whole = data[: scans.end].rstrip(b"\xff")
    try:
        ended, noisy = (_pixels(whole + tail + b"\xff\xd9", scans.is_progressive) for tail in (b"", _NOISE))
    except Exception:
        return 1.0
    differs = np.any(ended != noisy, axis=-1)
    rows = np.flatnonzero(differs.any(axis=1))
    if not len(rows):
        return 0.0
    height, width = differs.shape
    block = min(scans.rows_at_once // (1 if scans.is_progressive else 8), height)  # rows that are coded at once
    begun = rows[0] - rows[0] % block
    columns = np.flatnonzero(differs[begun : begun + block].any(axis=0))
    return float(1 - (begun * width + columns[0] * min(block, height - begun)) / (height * width))


def _repair_jpeg(data: bytes) -> Repaired | None:
    """Give a JPEG its end mark."""
    missing, scans = missing_share(data), _read_scans(data)
    if scans is None or missing > MOST_MISSING:
        return None
    note = f"its last bytes are missing, and with them {missing:.2%} of its pixels" if missing else NO_END
    return Repaired(data[: scans.end].rstrip(b"\xff") + b"\xff\xd9", note)


class _Scans(NamedTuple):
    """Scans of a JPEG."""

    is_progressive: bool
    rows_at_once: int  # rows of pixels of an interleaved block
    is_complete: bool  # whether each coefficient of each component is there to its last bit
    end: int  # where the data of the last scan end, before the end mark


_STUFFING = re.compile(rb"\xff(?![\x00\xd0-\xd7\xff])")  # in the data of a scan, what is a mark and no restart


def _read_scans(data: bytes) -> _Scans | None:
    """Read the headers of all scans; None where they are broken, or cut off before the first scan."""
    place, is_progressive, rows_at_once = 2, False, 8
    left: dict[int, set[int]] = {}  # coefficients, in progressive JPEGs one each, by component, that are not complete
    end = 0
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
            continue
        if marker == 0xD9:
            break
        length = int.from_bytes(data[place + 2 : place + 4])
        segment = data[place + 4 : place + 2 + length]
        if len(segment) != length - 2:
            break
        place += 2 + length
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            is_progressive = marker in (0xC2, 0xCA)
            rows_at_once = 8 * max(1, *(segment[7 + 3 * index] & 15 for index in range(segment[5])), 1)
            left = {segment[6 + 3 * index]: set(range(64)) for index in range(segment[5])}
        elif marker == 0xDA and left:
            components = segment[1 : 1 + 2 * segment[0] : 2]
            first, last, low = segment[-3], segment[-2], segment[-1] & 15
            for component in components:
                if not is_progressive:
                    left[component] = set()
                elif low == 0:
                    left[component] -= set(range(first, last + 1))
            mark = _STUFFING.search(data, place)
            end = place = mark.start() if mark else len(data)
    return _Scans(is_progressive, rows_at_once, not any(left.values()), end) if end else None


def _pixels(data: bytes, all_of_them: bool) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """Decode a JPEG, or only one of 8 x 8 pixels, to (H, W, channels) uint8."""
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    if not all_of_them:
        image.draft(None, (max(1, image.width // 8), max(1, image.height // 8)))
    array = np.asarray(image)
    return array.reshape(*array.shape[:2], -1)


_BYTES_OF_TYPE = {2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}  # of EXIF, others 1
_SUB_FOLDERS = (0x8769, 0x8825)


def drop_broken_tags(exif: bytes) -> bytes:
    """Leave out tags of EXIF whose values lie outside of it: Pillow would read none of those that follow."""
    start = 6 if exif.startswith(b"Exif\0\0") else 0
    order = "<" if exif[start : start + 2] == b"II" else ">"
    block = bytearray(exif[start:])
    folders = [struct.unpack_from(f"{order}I", block, 4)[0]] if len(block) >= 8 else []
    is_sound = True
    for folder in folders:  # it grows
        if folder + 2 > len(block):
            continue
        (count,) = struct.unpack_from(f"{order}H", block, folder)
        begin, end = folder + 2, min(folder + 2 + 12 * count, len(block) - 11)
        kept = []
        for place in range(begin, end, 12):
            tag, form, number, value = struct.unpack_from(f"{order}HHII", block, place)
            num_bytes = number * _BYTES_OF_TYPE.get(form, 1)
            if num_bytes <= 4 or value + num_bytes <= len(block):
                kept.append(bytes(block[place : place + 12]))
            if tag in _SUB_FOLDERS and value not in folders:
                folders.append(value)
        if len(kept) < count and kept:
            is_sound = False
            struct.pack_into(f"{order}H", block, folder, len(kept))
            block[begin : begin + 12 * len(kept)] = b"".join(kept)
            block[begin + 12 * len(kept) : begin + 12 * len(kept) + 4] = bytes(4)
    return exif if is_sound else exif[:start] + bytes(block)


_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of the color types of PNG
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_PNG_MARK = b"\x89PNG\r\n\x1a\n"


class _Chunk(NamedTuple):
    kind: bytes
    content: bytes
    crc: bytes

    @property
    def is_whole(self) -> bool:
        return self.crc == self.checksum

    @property
    def checksum(self) -> bytes:
        return struct.pack(">I", zlib.crc32(self.kind + self.content))


def _repair_png(data: bytes) -> Repaired | None:
    """Leave out texts and what is optional and has a wrong checksum; give the pixels their end, if they are all there.

    A wrong checksum of the pixels themselves is passed over: zlib has one of its own.
    """
    chunks = list(_chunks(data))
    if not chunks or chunks[0].kind != b"IHDR" or len(chunks[0].content) != 13:
        return None
    notes = []
    if any(map(_is_refused_profile, chunks)):
        notes.append("its color profile is left out: it is empty or too large")
    chunks = [chunk for chunk in chunks if not _is_refused_profile(chunk)]
    # A small letter at the front says that a chunk is optional.
    kept = [chunk for chunk in chunks if chunk.is_whole or not chunk.kind[0] & 32]
    if len(kept) < len(chunks) - (not chunks[-1].is_whole):
        notes.append("chunks with a wrong checksum are left out")
    if any(chunk.kind in _TEXTS for chunk in kept):
        notes.append("its texts are left out")
    kept = [chunk for chunk in kept if chunk.kind not in _TEXTS]
    if chunks[-1].kind != b"IEND" and not any(chunk.kind == b"acTL" for chunk in kept):
        rows = _rows(chunks[0].content, b"".join(chunk.content for chunk in kept if chunk.kind == b"IDAT"))
        if rows is None:
            return None
        kept = [chunk for chunk in kept if chunk.kind != b"IDAT"]
        kept += [_Chunk(b"IDAT", zlib.compress(rows, 1), b""), _Chunk(b"IEND", b"", b"")]
        notes.append(NO_END)
    if not notes:
        return None
    return Repaired(_PNG_MARK + b"".join(map(_packed, kept)), "; ".join(notes))


def _is_refused_profile(chunk: _Chunk) -> bool:
    """Return whether Pillow would refuse the image for a profile: one that is empty, or too large."""
    if chunk.kind != b"iCCP":
        return False
    _, _, packed = chunk.content.partition(b"\0")
    profile = zlib.decompressobj()
    with contextlib.suppress(zlib.error):  # Pillow passes a broken one over
        profile.decompress(packed[1:], PngImagePlugin.MAX_TEXT_CHUNK)
    return not packed or bool(profile.unconsumed_tail)


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """Yield the chunks of a PNG; the last may be cut off."""
    place = len(_PNG_MARK)
    while place + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        content = data[place + 8 : place + 8 + length]
        yield _Chunk(kind, content, data[place + 8 + length : place + 12 + length])
        if kind == b"IEND":
            return
        place += 12 + length


def _packed(chunk: _Chunk) -> bytes:
    return struct.pack(">I", len(chunk.content)) + chunk.kind + chunk.content + chunk.checksum


def _rows(header: bytes, compressed: bytes) -> bytes | None:
    """Decompress the rows of a PNG, each with its filter's byte; None if some are missing, or far too many."""
    width, height, depth, color, _, _, interlace = struct.unpack(">IIBBBBB", header)
    limit = Image.MAX_IMAGE_PIXELS
    if color not in _CHANNELS or (limit is not None and width * height > 2 * limit):
        return None
    passes = _PASSES if interlace else ((0, 0, 1, 1),)
    sizes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in passes]
    num_bytes = sum(
        rows * (1 + -(-columns * _CHANNELS[color] * depth // 8)) for columns, rows in sizes if columns > 0 and rows > 0
    )
    try:
        rows = zlib.decompressobj().decompress(compressed, num_bytes)
    except zlib.error:
        return None
    return rows if len(rows) == num_bytes else None


def _repair_webp(data: bytes) -> Repaired | None:
    """Give a WebP the byte that makes its length even."""
    return Repaired(data + b"\0", NO_END) if len(data) == int.from_bytes(data[4:8], "little") + 7 else None


def _repair_jpeg2000(data: bytes) -> Repaired | None:
    """Give a JPEG 2000 its end mark, if every part of every tile is there."""
    begin = place = data.find(b"\xff\x4f\xff\x51")
    place += 2
    while data[place : place + 2] != b"\xff\x90" and place + 4 <= len(data):  # up to the first part of a tile
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    while data[place : place + 2] == b"\xff\x90" and (length := int.from_bytes(data[place + 6 : place + 10])):
        place += length
    if begin < 0 or not 0 <= len(data) - place <= 1:
        return None
    return Repaired(data[:place] + b"\xff\xd9", NO_END)


_REPAIRS: dict[str, Callable[[bytes], Repaired | None]] = {
    "JPEG": _repair_jpeg,
    "PNG": _repair_png,
    "WEBP": _repair_webp,
    "JPEG2000": _repair_jpeg2000,
}
