"""Closed captions (CEA-608, CEA-708) inside the packets of a video, as ATSC A/53 part 4 has them.

They are in an SEI message of H.264 and H.265, and in a metadata OBU of AV1.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

_START_CODE = re.compile(rb"\x00\x00\x01")
_REGISTERED = 4  # user_data_registered_itu_t_t35, for SEI messages and for OBUs
_ATSC = b"\xb5\x00\x31GA94\x03"  # country, provider, identifier, and cc_data()
_PROCESS, _MARKER, _TRAILING = 0xC0, b"\xff", b"\x80"
_MOST = 31  # triplets in one message
_OBU_METADATA, _OBU_HAS_SIZE = 5, 2
_OBU_BEFORE = {1, 2}  # sequence header and temporal delimiter, which come first


def add_captions(codec: str, packet: bytes, captions: bytes) -> bytes:
    """Put captions, the triplets of ``cc_data``, into a packet before its frame.

    H.264 and H.265 come with start codes, AV1 with the size of each OBU, as encoders give them.
    """
    captions = captions[: 3 * _MOST]
    payload = _ATSC + bytes([_PROCESS | len(captions) // 3]) + _MARKER + captions + _MARKER
    return _WRITERS[codec](packet, payload)


def _add_sei(header: bytes, is_slice: Callable[[int], bool], packet: bytes, payload: bytes) -> bytes:
    """Add an SEI message before the first slice, which ``is_slice`` knows by the first byte of its NAL unit."""
    for found in _START_CODE.finditer(packet):
        if found.end() < len(packet) and is_slice(packet[found.end()]):
            place = found.start() - (packet[found.start() - 1 : found.start()] == b"\0")
            message = bytes([_REGISTERED, len(payload)]) + payload + _TRAILING
            escaped = re.sub(rb"\x00\x00(?=[\x00-\x03])", b"\x00\x00\x03", message)
            return packet[:place] + b"\0\0\0\1" + header + escaped + packet[place:]
    return packet


def _add_obu(packet: bytes, payload: bytes) -> bytes:
    """Add a metadata OBU before the frame of a temporal unit."""
    place = 0
    while place < len(packet) and packet[place] >> 3 & 0xF in _OBU_BEFORE:
        head_bytes = 2 + (packet[place] >> 2 & 1)  # with an extension or not, and a size of one byte
        place += head_bytes + packet[place + head_bytes - 1]
    body = bytes([_REGISTERED]) + payload + _TRAILING
    return packet[:place] + bytes([_OBU_METADATA << 3 | _OBU_HAS_SIZE, len(body)]) + body + packet[place:]


_WRITERS: dict[str, Callable[[bytes, bytes], bytes]] = {
    "h264": partial(_add_sei, b"\x06", lambda first: 1 <= first & 0x1F <= 5),
    "hevc": partial(_add_sei, b"\x4e\x01", lambda first: first >> 1 & 0x3F < 32),
    "av1": _add_obu,
}
