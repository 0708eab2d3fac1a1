"""Closed captions in the frames of a source are in those of its output."""

import itertools
from pathlib import Path

import pytest
from media_factory import captioned_video, captions, cc_data

from nst_ops.config import VideoConfig
from nst_ops.media.video.captions import add_captions
from nst_ops.media.video.reader import VideoReader
from nst_ops.media.video.segments import Selection
from nst_ops.media.video.writer import FrameFolderWriter, VideoWriter

NUM_FRAMES = 30


def rewritten(source: Path, codec: str, container: str, **selection: float) -> tuple[Path, list[str]]:
    path = source.parent / f"b.{container}"
    config = VideoConfig(codec=codec, preset="medium" if codec != "av1" else "ultrafast")
    with VideoReader(str(source), selection=Selection(**selection)) as reader:
        span = reader.span
        writer = VideoWriter(str(path), container, reader.info, reader.output_size, str(source), config, span)
        with writer:
            for frame in reader.frames():
                writer.write(frame)
    return path, writer.notes


@pytest.mark.parametrize(
    ("codec", "container"), [*itertools.product(("h264", "h265", "av1"), ("mp4", "matroska")), ("h264", "mov")]
)
def test_captions_stay_with_their_frames(tmp_path, codec, container):
    source = captioned_video(tmp_path / "a.ts", NUM_FRAMES)
    assert captions(source) == [cc_data(number) for number in range(NUM_FRAMES)]
    path, notes = rewritten(source, codec, container)
    assert captions(path) == captions(source)
    assert notes == []


def test_a_part_of_a_video_has_its_own_captions(tmp_path):
    source = captioned_video(tmp_path / "a.mkv", NUM_FRAMES)
    path, _ = rewritten(source, "h264", "mp4", start_s=0.4, duration_s=0.4)
    assert captions(path) == [cc_data(number) for number in range(10, 20)]


def test_captions_that_do_not_fit_are_named(tmp_path):
    source = captioned_video(tmp_path / "a.mkv", NUM_FRAMES)
    path, notes = rewritten(source, "h264", "mp4", max_frame_rate=5)
    assert not any(captions(path))
    assert notes == ["its closed captions are left out: video.max_frame_rate leaves out frames"]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_captions_come_before_the_frame_and_hide_no_start_code(codec):
    header, frame = {"h264": (b"\x67", b"\x65"), "hevc": (b"\x40\x01", b"\x26\x01")}[codec]
    packet = b"\0\0\0\1" + header + b"\xaa\0\0\0\1" + frame + b"\xbb\xbb"
    captioned = add_captions(codec, packet, bytes(3 * 8))
    sei = captioned[captioned.index(b"\xaa") + 1 : captioned.index(b"\0\0\0\1" + frame)]
    assert sei.startswith(b"\0\0\0\1")
    assert not any(pattern in sei[4:] for pattern in (b"\0\0\0", b"\0\0\1", b"\0\0\2"))
    assert captioned.endswith(b"\0\0\0\1" + frame + b"\xbb\xbb")
    assert add_captions(codec, b"no frame in it", b"abc") == b"no frame in it"


def test_a_folder_of_frames_says_that_it_has_no_captions(tmp_path):
    (tmp_path / "frames").mkdir()
    reader = VideoReader(str(captioned_video(tmp_path / "a.mkv", 3)))
    with reader, FrameFolderWriter(str(tmp_path / "frames"), reader.info) as writer:
        for frame in reader.frames():
            writer.write(frame)
    assert writer.notes == ["its closed captions are left out: images hold none"]
