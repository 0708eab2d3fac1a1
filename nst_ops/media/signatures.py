"""Formats of media by the first bytes of a file, whatever its name says."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

ContentKind = Literal["image", "video", "other"]

HEAD_BYTES = 1024
"""Bytes from the start of a file that tell its format."""

_BOX = rb"....(?:ftyp|moov|mdat|wide|free|skip|pnot)"  # the first box of an MP4 or QuickTime file
# Format, its kind, and how its files begin. The first that fits counts: special ones stand before general ones.
_SIGNATURES: list[tuple[str, ContentKind, bytes]] = [
    ("JPEG", "image", rb"\xff\xd8\xff"),
    ("PNG", "image", rb"\x89PNG\r\n\x1a\n"),
    ("GIF", "image", rb"GIF8[79]a"),
    ("WEBP", "image", rb"RIFF....WEBP"),
    ("raw", "other", rb"....ftypcrx |II\*\0....CR|IIU\0|IIR[OS]|MMOR|FUJIFILMCCD-RAW|\0MRM|FOVb"),
    ("TIFF", "image", rb"II[*+]\0|MM\0[*+]"),
    ("AVIF", "image", rb"....ftyp(?:avi[fs]|mi[fa]1.{4,24}?avif)"),
    ("HEIF", "image", rb"....ftyp(?:hei[cxms]|hev[cxms]|mif[12]|msf1)"),
    ("JXL", "image", rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
    ("JPEG2000", "image", rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
    ("PSD", "image", rb"8BPS\0\x01"),
    ("QOI", "image", rb"qoif"),
    ("ICNS", "image", rb"icns"),
    ("BMP", "image", rb"BM.{4}\0{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0{3}"),
    ("sound", "other", rb"....ftypM4[ABP] |ID3|fLaC|RIFF....WAVE|OggS.{24}.?(?:\x01vorbis|OpusHead|Speex)"),
    ("MP4", "video", _BOX),
    ("Matroska", "video", rb"\x1aE\xdf\xa3"),
    ("AVI", "video", rb"RIFF....AVI "),
    ("MPEG-PS", "video", rb"\0\0\x01(?:\xba|\xb3)"),
    ("MPEG-TS", "video", rb"(?:G.{187}){3}G|.{4}(?:G.{191}){3}G"),
    ("ASF", "video", rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    ("FLV", "video", rb"FLV\x01"),
    ("Ogg", "video", rb"OggS"),
    ("MXF", "video", rb"\x06\x0e\x2b\x34\x02\x05\x01\x01"),
    ("YUV4MPEG", "video", rb"YUV4MPEG2 "),
    ("RealMedia", "video", rb"\.RMF\0"),
    ("IVF", "video", rb"DKIF"),
    ("PDF", "other", rb"%PDF-"),
    ("SVG", "other", rb"(?i)\s*(?:<\?xml.{0,500}?)?<svg"),
    ("HTML", "other", rb"(?i)\s*<(?:!doctype html|html|\?xml|head|body|svg)"),
    ("AppleDouble", "other", rb"\0\x05\x16[\0\x07]"),
    ("Git LFS", "other", rb"version https://git-lfs\.github\.com/spec/v1\s"),
    ("gzip", "other", rb"\x1f\x8b"),
    ("archive", "other", rb"PK\x03\x04|7z\xbc\xaf|Rar!\x1a|BZh[1-9]|\xfd7zXZ\0|\x28\xb5\x2f\xfd"),
    ("base64", "other", rb"data:[\w/+.-]+[;,]|(?:/9j/|iVBORw0KGgo|R0lGOD|UklGR)[A-Za-z0-9+/=\s]{100}"),
    ("JSON", "other", rb"\s*[{\[]\s*[\"{\[}\]]"),
]
NO_MEDIA = {
    "HTML": "a web page, perhaps a server's message of an error: download the file again",
    "JSON": "a text of JSON, perhaps a server's message of an error: download the file again",
    "PDF": "a PDF: export its pages as images",
    "AppleDouble": "a Mac's AppleDouble file, which holds no pixels: remove it",
    "raw": "a camera's raw file: develop it to JPEG or TIFF",
    "SVG": "a drawing (SVG): export it as PNG",
    "Git LFS": "a pointer of Git LFS to the file, not the file itself: get it, git lfs pull",
    "gzip": "compressed with gzip: decompress it, gzip -d, or download the file again",
    "archive": "an archive, or compressed (zip, 7z, rar, bz2, xz or zst): unpack it",
    "base64": "a text that holds a file in base64, not the file itself: decode it to bytes",
}
"""What a file is that is named as media and is none, by its format, and what to do about it."""
_PATTERNS = [(name, kind, re.compile(pattern, re.DOTALL)) for name, kind, pattern in _SIGNATURES]


def content_format(head: bytes) -> str:
    """Return the name of a file's format by its first bytes, an image's as Pillow has it; empty if unknown."""
    return _find(head)[0]


def content_kind(head: bytes) -> ContentKind:
    """Return what a file is by its first ``HEAD_BYTES``; other if it is no media, or of a format without a mark."""
    return _find(head)[1]


def _find(head: bytes) -> tuple[str, ContentKind]:
    return next(((name, kind) for name, kind, pattern in _PATTERNS if pattern.match(head)), ("", "other"))


class JxlHeader(NamedTuple):
    """What the first bits of a JPEG XL say."""

    width: int
    height: int
    is_animated: bool


def read_jxl_header(head: bytes) -> JxlHeader | None:
    """Read the header of a JPEG XL by ISO/IEC 18181-1; None where it does not lie in the file's first bytes."""
    start = re.match(rb"\xff\x0a", head) or re.search(rb"jxl(?:c|p.{4})\xff\x0a", head, re.DOTALL)
    bits = int.from_bytes(head[start.end() : start.end() + 32], "little") if start else 0
    if not bits:
        return None

    def take(count: int) -> int:
        nonlocal bits
        value, bits = bits & (1 << count) - 1, bits >> count
        return value

    def side(is_small: int) -> int:
        return 8 * (take(5) + 1) if is_small else take((9, 13, 18, 30)[take(2)]) + 1

    def size() -> tuple[int, int]:
        is_small = take(1)
        height = side(is_small)
        ratio = take(3)
        return height * _JXL_RATIOS[ratio][0] // _JXL_RATIOS[ratio][1] if ratio else side(is_small), height

    width, height = size()
    is_animated = False
    if not take(1) and take(1):  # metadata that are not the usual ones, and have more than depth and color
        take(3)  # orientation
        if take(1):
            size()  # at which it is to be shown
        is_animated = not take(1) and bool(take(1))  # behind a preview, which is rare, it is not looked for
    return JxlHeader(width, height, is_animated)


_JXL_RATIOS = ((1, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
