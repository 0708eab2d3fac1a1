"""Programs of an MPEG transport stream: which streams belong together (ISO/IEC 13818-1, 2.4.4)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from nst_ops.media.video.source import MediaSource, RangeInput

_SYNC = 0x47
_PACKET_BYTES = 188
# Bytes from packet to packet, and before each: plain, Blu-ray, with error correction.
_STRIDES = {188: 0, 192: 4, 204: 0}
_PROBE_BYTES = 2**20
_PAT_PID, _PAT_TABLE, _PMT_TABLE, _CRC_BYTES = 0, 0, 2, 4


def read_programs(source: MediaSource) -> list[set[int]]:
    """Return the packet identifiers of the streams of each program, as far as the first megabyte tells."""
    data = RangeInput(source).read(_PROBE_BYTES)
    programs: dict[int, set[int]] = {}
    pmt_pids: set[int] = set()
    for pid, section in _sections(data):
        table, body = section[0], section[8:-_CRC_BYTES]
        if pid == _PAT_PID and table == _PAT_TABLE:
            entries = (body[start : start + 4] for start in range(0, len(body) - 3, 4))
            pmt_pids |= {_pid(entry[2:]) for entry in entries if any(entry[:2])}  # number 0 is the network's
        elif pid in pmt_pids and table == _PMT_TABLE:
            programs[int.from_bytes(section[3:5])] = set(_stream_pids(body))
    return list(programs.values())


def _sections(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the sections of tables, each with the identifier of its packets."""
    stride = next((stride for stride in _STRIDES if _is_stream(data, stride)), 0)
    parts: dict[int, bytes] = defaultdict(bytes)
    for start in range(_STRIDES[stride], len(data) - _PACKET_BYTES, stride) if stride else ():
        packet = data[start : start + _PACKET_BYTES]
        pid, begins, has_adaptation = _pid(packet[1:3]), packet[1] & 0x40, packet[3] & 0x20
        payload = packet[5 + packet[4] :] if has_adaptation else packet[4:]
        if begins and payload and payload[1 + payload[0] : 4 + payload[0]] != b"\0\0\1":  # of a table, not of a stream
            parts[pid] = payload[1 + payload[0] :]
        elif pid in parts:
            parts[pid] += payload
        section = parts.get(pid, b"")
        if len(section) >= 3 and len(section) >= (length := 3 + (int.from_bytes(section[1:3]) & 0xFFF)):
            del parts[pid]
            if length > 8 + _CRC_BYTES:
                yield pid, section[:length]


def _is_stream(data: bytes, stride: int) -> bool:
    places = range(_STRIDES[stride], min(len(data), 8 * stride), stride)
    return len(data) > stride and all(data[place] == _SYNC for place in places)


def _stream_pids(body: bytes) -> Iterator[int]:
    """Yield the identifiers of the streams that a map of a program lists."""
    place = 4 + (int.from_bytes(body[2:4]) & 0xFFF)
    while place + 5 <= len(body):
        yield _pid(body[place + 1 : place + 3])
        place += 5 + (int.from_bytes(body[place + 3 : place + 5]) & 0xFFF)


def _pid(two_bytes: bytes) -> int:
    return int.from_bytes(two_bytes[:2]) & 0x1FFF
