"""Closed captions (CEA-608, CEA-708) inside the packets of a video, as ATSC A/53 part 4 has them: in an SEI message."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_START_CODE = re.compile(rb"\x00\x00\x01")
_REGISTERED = 4  # payload type of user_data_registered_itu_t_t35
_ATSC = bytes([0xB5, 0x00, 0x31]) + b"GA94\x03"  # country, provider, identifier, and cc_data()
_PROCESS, _MARKER = 0xC0, b"\xff"
_MOST = 31  # triplets in one message


@dataclass(frozen=True)
class _Syntax:
    """What a codec needs of its NAL units."""

    sei_header: bytes
    is_slice: Callable[[int], bool]  # by the first byte of a unit's header


_SYNTAX = {
    "h264": _Syntax(b"\x06", lambda first: 1 <= first & 0x1F <= 5),
    "hevc": _Syntax(b"\x4e\x01", lambda first: first >> 1 & 0x3F < 32),
}


def holds_captions(codec: str) -> bool:
    """Return whether captions can be written into packets of a codec, by FFmpeg's name of it."""
    return codec in _SYNTAX


def add_captions(codec: str, packet: bytes, captions: bytes) -> bytes:
    """Put captions, the triplets of ``cc_data``, into a packet of H.264 or H.265 with start codes, before its frame."""
    syntax = _SYNTAX[codec]
    for found in _START_CODE.finditer(packet):
        if found.end() < len(packet) and syntax.is_slice(packet[found.end()]):
            place = found.start() - (packet[found.start() - 1 : found.start()] == b"\0")
            return packet[:place] + _sei(syntax.sei_header, captions[: 3 * _MOST]) + packet[place:]
    return packet


def _sei(header: bytes, captions: bytes) -> bytes:
    payload = _ATSC + bytes([_PROCESS | len(captions) // 3]) + _MARKER + captions + _MARKER
    message = bytes([_REGISTERED, len(payload)]) + payload + b"\x80"
    return b"\0\0\0\1" + header + re.sub(rb"\x00\x00(?=[\x00-\x03])", b"\x00\x00\x03", message)
