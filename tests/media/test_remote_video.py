"""Videos on remote storage: read by ranges, few and short ones, and to the same frames as local files."""

import io
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_factory import Sound, moving_frames, real_files, write_video

from nst_ops.config.stylize import VideoConfig
from nst_ops.media.errors import DamagedVideoError, EmptyFileError, MediaError, UnreadableVideoError
from nst_ops.media.video.container import read_header, video_stream
from nst_ops.media.video.join import join_segments
from nst_ops.media.video.reader import VideoReader
from nst_ops.media.video.segments import Selection, cut_segments, read_index
from nst_ops.media.video.source import RangeInput
from nst_ops.media.video.writer import VideoWriter
from nst_ops.storage.remote import RemoteFile

GROUPS = {"g": "25", "bf": "3", "preset": "ultrafast", "qp": "18"}
TABLE_BYTES = 60_000
"""More than the sample table of ``long_videos`` has."""


class Remote:
    """Storage with one file, which keeps a list of what it was asked for."""

    def __init__(self, data: bytes, name: str = "video.mp4", fails_at: int | None = None) -> None:
        self.file = RemoteFile(name, len(data), self._read)
        self.ranges: list[tuple[int, int]] = []
        self._data, self._fails_at = data, fails_at

    @classmethod
    def of(cls, path: Path) -> "Remote":
        return cls(path.read_bytes(), path.name)

    @property
    def num_bytes(self) -> int:
        return sum(end - start for start, end in self.ranges)

    def _read(self, start: int, end: int) -> bytes:
        self.ranges.append((start, end))
        if len(self.ranges) == self._fails_at:
            raise ConnectionResetError("the storage has hung up")
        return self._data[start:end]


@pytest.fixture(scope="module")
def long_videos(tmp_path_factory):
    """Twenty seconds with sound, 4.5 MB, the sample table at the end, at the front, or none."""
    folder = tmp_path_factory.mktemp("videos")
    grain = np.random.default_rng(0).integers(0, 40, (240, 320, 3), dtype=np.uint8)
    images = [
        image // 2 + np.roll(grain, 7 * n, axis=(0, 1))[:120, :160]
        for n, image in enumerate(moving_frames(500, 160, 120))
    ]
    videos = {}
    for name, options in (("end.mp4", {}), ("front.mov", {"movflags": "+faststart"}), ("video.mkv", {})):
        video = folder / name
        sounds = [Sound(duration_s=20.0)]
        videos[name] = write_video(video, images, options=GROUPS, sounds=sounds, container_options=options)
    return videos


NAMES = ["end.mp4", "front.mov", "video.mkv"]
"""Names of the files of ``long_videos``."""


def frames(source, *args, **options):
    with VideoReader(source, *args, **options) as reader:
        return [(frame.pts, frame.duration, frame.rgb_hwc.tobytes()) for frame in reader.frames()]


def times_by_all_packets(path):
    """(shown PTS, positions of keyframes), reading every byte."""
    with av.open(f"file:{path}") as container:
        stream = video_stream(container)
        shown = sorted(
            (packet.pts, packet.is_keyframe)
            for packet in container.demux(stream)
            if packet.size and not packet.is_discard
        )
    return [pts for pts, _ in shown], [n for n, (_, is_key) in enumerate(shown) if is_key]


def assert_index_is_true(path):
    """Compare the index of the remote file with the local one's, and with all packets, if it has one."""
    try:
        local = read_index(str(path))
    except MediaError as error:
        with pytest.raises(type(error)):
            read_index(Remote.of(path).file)
        return
    remote = read_index(Remote.of(path).file)
    found = [index.pts.tolist() for index in (local, remote)]
    assert found[0] == found[1]
    assert local.keyframes.tolist() == remote.keyframes.tolist()
    assert (local.time_base, local.problem) == (remote.time_base, remote.problem)
    if found[0]:
        assert (found[0], local.keyframes.tolist()) == times_by_all_packets(path)


# What a file is like costs a few requests.


@pytest.mark.parametrize("name", NAMES)
def test_the_header_costs_little(long_videos, name):
    remote = Remote.of(long_videos[name])
    assert read_header(remote.file) == read_header(str(long_videos[name]))
    assert len(remote.ranges) <= 6
    assert remote.num_bytes < (2_200_000 if name == "video.mkv" else 600_000)  # FFmpeg looks at seconds of it


@pytest.mark.parametrize("name", ["end.mp4", "front.mov"])
def test_the_index_of_an_mp4_takes_its_sample_table_only(long_videos, name):
    remote = Remote.of(long_videos[name])
    index = read_index(remote.file)
    assert len(index.keyframes) == 20
    assert len(remote.ranges) <= 3
    assert remote.num_bytes < 2**16 + 2 * TABLE_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_the_remote_index_is_true(long_videos, name):
    assert_index_is_true(long_videos[name])


@pytest.mark.parametrize("path", real_files("videos"))
def test_the_remote_index_of_real_videos_is_true(path):
    assert_index_is_true(path)


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("late.mp4", {"pts": range(50, 110)}),
        ("early.mp4", {"pts": range(-10, 50)}),
        ("uneven.mp4", {"pts": [n * n for n in range(60)], "time_base": Fraction(1, 600)}),
        ("no_edits.mp4", {"container_options": {"use_editlist": "0"}}),
        ("fragments.mp4", {"container_options": {"movflags": "+frag_keyframe+empty_moov"}}),
        ("open_groups.mov", {"options": {"g": "12", "x264-params": "open-gop=1:bframes=3"}}),
        ("intra.mov", {"codec": "prores_ks", "pix_fmt": "yuv422p10le"}),
        ("hevc.mp4", {"codec": "libx265", "options": {"x265-params": "bframes=3:keyint=12:log-level=0"}}),
        ("mpeg.ts", {}),
    ],
)
def test_the_remote_index_of_any_container_is_true(tmp_path, name, made):
    made = {"options": {"g": "12", "bf": "2", "preset": "veryfast"} if "codec" not in made else {}, **made}
    assert_index_is_true(write_video(tmp_path / name, moving_frames(60, 96, 64), **made))


def with_long_box(video: bytes) -> bytes:
    """The same with a size of 64 bits before its media data, as in files of more than 4 GiB."""
    start = video.index(b"mdat") - 4
    assert video[start - 8 : start] == (8).to_bytes(4) + b"free"  # the muxer has left the room
    num_bytes = int.from_bytes(video[start : start + 4]) + 8
    return video[: start - 8] + (1).to_bytes(4) + b"mdat" + num_bytes.to_bytes(8) + video[start + 8 :]


def with_open_end(video: bytes) -> bytes:
    """The same with media data up to its end, as recorders write that do not know how much will come."""
    start = video.index(b"mdat") - 4
    return video[:start] + bytes(4) + video[start + 4 :]


@pytest.mark.parametrize(("name", "change"), [("end.mp4", with_long_box), ("front.mov", with_open_end)])
def test_the_index_of_mp4_with_odd_boxes_is_true(long_videos, tmp_path, name, change):
    video = tmp_path / name
    video.write_bytes(change(long_videos[name].read_bytes()))
    assert_index_is_true(video)
    remote = Remote.of(video)
    read_index(remote.file)
    assert remote.num_bytes < 2**16 + 2 * TABLE_BYTES


# Frames.


@pytest.mark.parametrize("name", NAMES)
def test_a_segment_costs_its_share(long_videos, name):
    path = long_videos[name]
    segments = cut_segments(read_index(str(path)), 4.0, 5, Selection())
    middle = segments[len(segments) // 2]
    header, remote = Remote.of(path), Remote.of(path)
    read_header(header.file)
    assert frames(remote.file, 80, segment=middle, tail=2) == frames(str(path), 80, segment=middle, tail=2)
    share = path.stat().st_size * middle.num_frames // 500
    assert remote.num_bytes < header.num_bytes + 2 * share
    assert len(remote.ranges) <= 16


@pytest.mark.parametrize("path", real_files("videos"))
def test_real_videos_are_read_alike(path):
    def looked_at(source):
        try:
            with VideoReader(source, 64) as reader:
                return reader.info, next(reader.frames()).rgb_hwc.tobytes()
        except MediaError as error:
            return type(error), str(error)

    assert looked_at(Remote.of(path).file) == looked_at(str(path))


def test_a_remote_rotated_video_is_described_alike(tmp_path):
    video = write_video(tmp_path / "a.mov", moving_frames(3, 64, 48), rotation=-90, aspect=Fraction(4, 3))
    with VideoReader(Remote.of(video).file) as remote, VideoReader(str(video)) as local:
        assert remote.info == local.info
        assert remote.info.display_matrix[:5] == (0, 65536, 0, -65536, 0)  # a quarter turn clockwise


def test_a_silent_video_is_joined_with_its_remote_source(tmp_path):
    video = write_video(tmp_path / "a.mp4", moving_frames(40, 64, 48), metadata={"title": "A walk"})
    (whole,) = cut_segments(read_index(str(video)), 60.0, 0, Selection())
    with VideoReader(str(video), segment=whole) as reader:
        info, part = reader.info, str(tmp_path / "part.mp4")
        with VideoWriter(part, "mp4", info, (64, 48), None, VideoConfig()) as writer:
            for frame in reader.frames():
                writer.write(frame)
    outputs = [tmp_path / "local.mp4", tmp_path / "remote.mp4"]
    for output, source in zip(outputs, (str(video), Remote.of(video).file), strict=True):
        assert join_segments([part], str(output), "mp4", info, source) == (40, [])
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    assert b"A walk" in outputs[1].read_bytes()


# What can go wrong.


@pytest.mark.parametrize("name", [*NAMES, "transport.ts"])
@pytest.mark.parametrize("read", [read_header, read_index, frames])
def test_an_error_of_the_storage_comes_as_it_is(long_videos, tmp_path, capfd, name, read):
    path = long_videos.get(name) or write_video(tmp_path / name, moving_frames(60, 160, 120))
    healthy = Remote.of(path)
    read(healthy.file)
    for fails_at in {1, (len(healthy.ranges) + 1) // 2, len(healthy.ranges)}:
        remote = Remote(path.read_bytes(), name, fails_at)
        with pytest.raises(ConnectionResetError, match="hung up"):
            read(remote.file)
        assert len(remote.ranges) == fails_at  # FFmpeg would read on
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", NAMES)
def test_a_cut_off_remote_video_is_refused_on_opening(long_videos, name):
    data = long_videos[name].read_bytes()
    remote = Remote(data[: len(data) * 2 // 3], name)
    with pytest.raises(UnreadableVideoError if name == "end.mp4" else DamagedVideoError):
        VideoReader(remote.file)
    assert remote.num_bytes < len(data) / 2


def test_a_remote_file_that_is_no_video_is_refused():
    with pytest.raises(EmptyFileError):
        VideoReader(Remote(b"").file)
    with pytest.raises(UnreadableVideoError):
        VideoReader(Remote(b"a letter to my aunt " * 100).file)
    with pytest.raises(UnreadableVideoError):
        read_index(Remote(b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\x08mdat").file)


def test_a_file_that_shrinks_while_read_is_an_error():
    file = replace(Remote(bytes(1000)).file, num_bytes=2000)
    with pytest.raises(OSError, match=r"video\.mp4 has become shorter"):
        RangeInput(file).read(1)


@given(st.lists(st.tuples(st.integers(0, 400_000), st.integers(0, 300_000)), max_size=30))
def test_ranges_are_the_bytes_of_the_file(reads):
    data = np.random.default_rng(0).bytes(333_333)
    remote, truth = RangeInput(Remote(data).file), io.BytesIO(data)
    for start, num_bytes in reads:
        assert remote.seek(start) == truth.seek(start)
        assert remote.read(num_bytes) == truth.read(num_bytes)
        assert remote.tell() == truth.tell()


def test_reading_on_takes_few_requests():
    remote = Remote(bytes(100 * 2**20))
    file = RangeInput(remote.file)
    while file.read(2**15):
        pass
    assert remote.num_bytes == 100 * 2**20
    assert len(remote.ranges) < 40


def test_reading_here_and_there_is_remembered():
    remote = Remote(bytes(2**22))
    file = RangeInput(remote.file)
    for step in range(0, 2**15, 2**10):
        for place in (0, 2**20, 2**21, 3 * 2**20):
            file.seek(place + step)
            file.read(2**10)
    assert len(remote.ranges) == 4
