"""Transport streams of several programs: one is stylized, with its own sound, and the others are named."""

import zlib
from pathlib import Path

import pytest
from media_factory import Sound, decoded, moving_frames, packets, write_video

from nst_ops.config import VideoConfig
from nst_ops.media.video.programs import read_programs
from nst_ops.media.video.reader import VideoReader
from nst_ops.media.video.writer import VideoWriter

PACKET = 188


def crc(data: bytes) -> bytes:
    """CRC-32 of MPEG-2: that of zlib without reflection and inversion."""
    flipped = bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)
    return int(f"{zlib.crc32(flipped) ^ 0xFFFFFFFF:032b}"[::-1], 2).to_bytes(4, "big")


def program_table(pids: dict[int, int]) -> bytes:
    """A packet with the table of programs: the PID of the map of each by number."""
    entries = b"".join(number.to_bytes(2, "big") + (0xE000 | pid).to_bytes(2, "big") for number, pid in pids.items())
    section = b"\0" + (0xB000 | 9 + len(entries)).to_bytes(2, "big") + b"\0\1\xc1\0\0" + entries
    return (b"\x47\x40\0\x10\0" + section + crc(section)).ljust(PACKET, b"\xff")


def write_programs(path: Path, count: int, before: bytes = b"") -> Path:
    """Write a transport stream of several programs, each with sound of its own codec, packet by packet in turn."""
    codecs = ("aac", "mp2", "ac3")
    parts, maps = [], {}
    for number in range(1, count + 1):
        maps[number] = 0x1000 + 16 * number
        part = path.with_name(f"{number}.ts")
        pids = {"mpegts_start_pid": str(256 * number), "mpegts_pmt_start_pid": str(maps[number])}
        options = {**pids, "mpegts_service_id": str(number)}
        frames = [frame // number for frame in moving_frames(25, 64, 48)]
        sounds = [Sound(codecs[number - 1], hertz=440.0 * number)]
        data = write_video(part, frames, sounds=sounds, container_options=options).read_bytes()
        found = [data[start : start + PACKET] for start in range(0, len(data), PACKET)]
        parts.append([packet for packet in found if int.from_bytes(packet[1:3], "big") & 0x1FFF > 31])
        part.unlink()
    mixed = [packet for group in zip(*parts, strict=False) for packet in group]
    mixed += [packet for part in parts for packet in part[min(map(len, parts)) :]]
    path.write_bytes(b"".join(before + packet for packet in (program_table(maps), *mixed)))
    return path


@pytest.mark.parametrize("before", [b"", b"\0\0\0\0"], ids=["plain", "blu-ray"])
def test_streams_are_told_by_their_programs(tmp_path, before):
    source = write_programs(tmp_path / "a.m2ts", 3, before)
    assert read_programs(str(source)) == [{256, 257}, {512, 513}, {768, 769}]


def test_the_first_program_comes_with_its_own_sound(tmp_path):
    source = write_programs(tmp_path / "a.ts", 2)
    with VideoReader(str(source)) as reader:
        assert reader.info.audio_codecs == ("aac",)
        path, size = tmp_path / "b.mkv", reader.output_size
        with VideoWriter(str(path), "matroska", reader.info, size, str(source), VideoConfig()) as writer:
            for frame in reader.frames():
                writer.write(frame)
    assert writer.notes == ["only the first program is stylized, the 2 streams of others are left out"]
    assert len(decoded(path)) == 25
    assert len(packets(path, "audio")) == 1


def test_one_program_keeps_all_its_sound(tmp_path):
    sounds = [Sound(), Sound("mp2", hertz=880.0)]
    source = write_video(tmp_path / "a.ts", moving_frames(25, 64, 48), sounds=sounds)
    assert len(read_programs(str(source))) == 1
    with VideoReader(str(source)) as reader:
        assert reader.info.audio_codecs == ("aac", "mp2")
    assert read_programs(str(write_video(tmp_path / "a.mp4", moving_frames(3, 64, 48)))) == []
