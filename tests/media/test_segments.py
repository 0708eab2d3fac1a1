"""A video cut anywhere: every frame in one segment, and read from there as if from the start."""

import itertools
import math
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_factory import decoded, moving_frames, real_files, write_video

from nst_ops.media.errors import DamagedVideoError, MediaError, UnsupportedMediaError
from nst_ops.media.video.clock import Span
from nst_ops.media.video.container import Frame
from nst_ops.media.video.reader import VideoReader
from nst_ops.media.video.segments import PacketIndex, Selection, cut_segments, read_index

# Arithmetic.


@st.composite
def indices(draw: st.DrawFn) -> PacketIndex:
    """Any video: even or uneven steps, any start, any keyframes that begin with the first frame."""
    gaps = draw(st.lists(st.integers(1, 2000), max_size=60) | st.just([40] * draw(st.integers(0, 200))))
    pts = draw(st.integers(-(10**6), 10**12)) + np.cumsum([0, *gaps])
    keys = draw(st.sets(st.integers(0, len(pts) - 1), max_size=20))
    time_base = draw(st.sampled_from([Fraction(1, 1000), Fraction(1001, 30000), Fraction(1, 90000)]))
    return PacketIndex(time_base, pts, np.array(sorted(keys | {0})))


selections = st.builds(Selection, st.floats(0, 30), st.none() | st.floats(0.01, 60), st.none() | st.floats(0.1, 120))
targets_s = st.floats(0.01, 100) | st.just(math.inf)


@given(indices(), targets_s, st.integers(0, 90), selections)
def test_every_kept_frame_is_in_one_segment_in_order(index, target_s, lead, selection):
    kept = selection.kept(index.pts, index.time_base)
    segments = cut_segments(index, target_s, lead, selection)
    assert [segment.number for segment in segments] == list(range(len(segments)))
    assert {segment.count for segment in segments} == {len(segments)}
    assert sum(segment.num_frames for segment in segments) == len(kept)
    if not len(kept):
        return
    parts = [kept[(kept >= s.start_pts) & (kept < (math.inf if s.end_pts is None else s.end_pts))] for s in segments]
    assert np.array_equal(np.concatenate(parts), kept)
    assert [len(part) for part in parts] == [segment.num_frames for segment in segments]
    assert all(one.end_pts == next_.start_pts for one, next_ in itertools.pairwise(segments))
    assert segments[-1].end_pts is None
    for segment in segments:
        position = int(np.searchsorted(kept, segment.start_pts))
        assert segment.lead_pts == kept[max(0, position - lead)]


@given(indices(), targets_s, selections)
def test_segments_begin_at_keyframes_and_none_is_tiny(index, target_s, selection):
    kept = selection.kept(index.pts, index.time_base)
    segments = cut_segments(index, target_s, 0, selection)
    key_pts = index.pts[index.keyframes]
    if len(segments) == 1:
        return
    starts = [segment.start_pts for segment in segments]
    for start in starts[1:]:
        before = kept[np.searchsorted(kept, start) - 1]
        assert ((key_pts > before) & (key_pts <= start)).any()
    lengths_s = np.diff([*starts, kept[-1]]) * float(index.time_base)
    assert min(lengths_s) >= target_s / 2 * 0.999


@given(indices(), st.integers(0, 9), selections)
def test_a_problem_or_an_endless_target_gives_one_segment(index, lead, selection):
    kept = selection.kept(index.pts, index.time_base)
    troubled = PacketIndex(index.time_base, index.pts, index.keyframes, "its clock begins anew")
    for segments in (cut_segments(troubled, 0.1, lead, selection), cut_segments(index, math.inf, lead, selection)):
        assert [(s.count, s.num_frames, s.end_pts) for s in segments] == [(1, len(kept), None)]


def test_even_keyframes_are_cut_at_multiples_of_the_target():
    index = PacketIndex(Fraction(1, 25), np.arange(25 * 100), np.arange(0, 2500, 25))
    segments = cut_segments(index, 20, 4, Selection())
    assert [s.start_pts for s in segments] == [0, 500, 1000, 1500, 2000]
    assert [s.lead_pts for s in segments] == [0, 496, 996, 1496, 1996]
    assert len(cut_segments(index, 70, 0, Selection())) == 1  # the rest would be less than half a target
    assert [s.num_frames for s in cut_segments(index, 65, 0, Selection())] == [1625, 875]


def test_a_scene_change_is_preferred_to_a_nearer_keyframe():
    keys = sorted({*range(0, 2500, 250), 1060})  # an encoder goes on counting from its early keyframe
    index = PacketIndex(Fraction(1, 25), np.arange(2500), np.array(keys))
    assert [s.start_pts for s in cut_segments(index, 40, 0, Selection())] == [0, 1060]


def test_thinning_keeps_the_first_frame_of_every_interval():
    pts = np.arange(0, 3000, 40)
    kept = Selection(max_frame_rate=5).kept(pts, Fraction(1, 1000))
    assert kept.tolist() == list(range(0, 3000, 200))
    # A clock of milliseconds rounds: 30 frames per second asked of 30 are all of them.
    rounded = np.array([round(n * 1000 / 30) for n in range(90)])
    assert len(Selection(max_frame_rate=30).kept(rounded, Fraction(1, 1000))) == 90
    assert len(Selection(max_frame_rate=15).kept(rounded, Fraction(1, 1000))) == 45


def test_a_range_counts_from_the_first_frame_without_its_end():
    pts = np.arange(100, 200)
    kept = Selection(0.04, 0.12).kept(pts, Fraction(1, 25))  # 0.04 is one tick, although no binary fraction
    assert kept.tolist() == [101, 102, 103]


# Index.


def video(path: Path, num_frames: int = 60, **given: object) -> Path:
    options = given.pop("options", {"preset": "ultrafast", "qp": "0", "g": "10"})
    return write_video(path, moving_frames(num_frames, 64, 48), options=options, **given)


def test_the_index_holds_every_pts_and_keyframe(tmp_path):
    options = {"preset": "medium", "qp": "10", "g": "10", "bf": "3", "sc_threshold": "0"}
    for name in ("a.mp4", "a.mov", "a.mkv"):
        index = read_index(str(video(tmp_path / name, options=options)))
        frames = decoded(tmp_path / name)
        assert index.problem == ""
        assert index.pts.tolist() == [frame.pts for frame in frames]
        assert index.keyframes.tolist() == [n for n, frame in enumerate(frames) if frame.key_frame]
        assert len(index.keyframes) == 6
        assert index.time_base == frames[0].time_base


@pytest.mark.parametrize("name", ["a.ts", "a.avi", "a.h264", "a.flv"])
def test_a_container_without_exact_seeking_is_not_cut(tmp_path, name):
    assert "cannot be searched exactly" in read_index(str(video(tmp_path / name))).problem


def test_a_codec_whose_packets_may_show_nothing_is_not_cut(tmp_path):
    source = video(tmp_path / "a.webm", codec="libvpx", options={"g": "10"})
    assert "vp8" in read_index(str(source)).problem


def test_a_video_with_one_keyframe_is_not_cut(tmp_path):
    options = {"preset": "ultrafast", "qp": "0", "g": "999", "sc_threshold": "0"}
    index = read_index(str(video(tmp_path / "a.mp4", options=options)))
    assert "no keyframes" in index.problem
    (segment,) = cut_segments(index, 0.4, 2, Selection())
    assert segment.num_frames == 60


def remuxed(source: Path, path: Path, change: object) -> Path:
    """Copy the packets of the video, each changed; ``change`` may leave one out."""
    with av.open(str(source)) as a, av.open(str(path), "w") as b:
        stream = b.add_stream_from_template(a.streams.video[0])
        packets = [packet for packet in a.demux(video=0) if packet.size]
        for number, packet in enumerate(packets):
            if change(number, packet):
                packet.stream = stream
                b.mux(packet)
    return path


def test_a_video_that_begins_between_keyframes_is_not_cut(tmp_path):
    path = remuxed(video(tmp_path / "a.mkv"), tmp_path / "b.mkv", lambda number, _: number >= 5)
    assert "between two keyframes" in read_index(str(path)).problem


def test_equal_and_falling_times_are_not_cut(tmp_path):
    source = video(tmp_path / "a.mkv")

    def twice(number, packet):
        if number == 30:
            packet.pts = packet.dts = packet.pts - 40
        return True

    assert "same time" in read_index(str(remuxed(source, tmp_path / "b.mkv", twice))).problem


def test_a_clock_that_begins_anew_is_not_cut(tmp_path):
    source = video(tmp_path / "a.mkv", container_options={"cluster_time_limit": "400"})
    data = bytearray(source.read_bytes())
    at = data.rfind(b"\x1f\x43\xb6\x75")  # the last cluster, and in it its time of two bytes
    at = data.index(b"\xe7\x82", at) + 2
    assert int.from_bytes(data[at : at + 2], "big") == 2000
    data[at : at + 2] = (615).to_bytes(2, "big")
    source.write_bytes(data)
    assert "begins anew" in read_index(str(source)).problem


def test_the_index_is_of_the_stream_that_is_read(tmp_path):
    source = tmp_path / "a.mkv"
    with av.open(str(source), "w") as output:
        streams = [output.add_stream("ffv1", rate=25) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt, stream.options = 64, 48, "yuv420p", {"g": "1"}
        for number, image in enumerate(moving_frames(9, 64, 48)):
            for stream in streams[: 1 if number >= 5 else 2]:
                output.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        for stream in streams:
            output.mux(stream.encode(None))
    index = read_index(str(source))
    assert (len(index.pts), len(index.keyframes), index.problem) == (9, 9, "")


# Reading.


def frames(path: Path, *args: object, **options: object) -> list[Frame]:
    with VideoReader(str(path), *args, **options) as reader:
        return list(reader.frames())


def same(one: list[Frame], other: list[Frame]) -> bool:
    return [(f.pts, f.duration) for f in one] == [(f.pts, f.duration) for f in other] and all(
        np.array_equal(a.rgb_hwc, b.rgb_hwc) for a, b in zip(one, other, strict=True)
    )


def assert_segments_read_as_one(path: Path, target_s: float, lead: int = 3, tail: int = 2, **options: object) -> None:
    """Each segment holds what a reader of the whole shows, from its lead to its tail."""
    selection = options.get("selection", Selection())
    whole = frames(path, **options)
    segments = cut_segments(read_index(str(path)), target_s, lead, selection)
    assert len(segments) > 1
    at = {frame.pts: number for number, frame in enumerate(whole)}
    for segment in segments:
        part = frames(path, segment=segment, tail=tail, **options)
        start = at[segment.start_pts]
        assert same(part, whole[max(0, start - lead) : start + segment.num_frames + tail])


CODED = {
    "b_frames": ("libx264", {"preset": "medium", "crf": "20", "g": "12", "bf": "3", "b_strategy": "0"}),
    "open_gop": ("libx264", {"preset": "medium", "crf": "20", "x264-params": "keyint=12:bframes=3:open-gop=1"}),
    "refresh": ("libx264", {"preset": "medium", "crf": "20", "x264-params": "keyint=12:intra-refresh=1"}),
    "hevc": ("libx265", {"preset": "ultrafast", "x265-params": "keyint=12:min-keyint=12:open-gop=1:log-level=none"}),
    "vp9": ("libvpx-vp9", {"g": "12", "deadline": "realtime", "cpu-used": "8", "auto-alt-ref": "1"}),
    "av1": ("libsvtav1", {"g": "12", "preset": "13"}),
    "mpeg2": ("mpeg2video", {"g": "12", "bf": "2"}),
}


@pytest.mark.parametrize("coded", CODED)
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_segment_holds_the_frames_of_the_whole(tmp_path, name, coded):
    codec, options = CODED[coded]
    video(tmp_path / name, codec=codec, options=options)
    assert_segments_read_as_one(tmp_path / name, 0.5)


UNEVEN = [n * 40 + 13 * (n % 3) for n in range(60)]


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
@pytest.mark.parametrize("start", [0, 1400])
def test_segments_of_uneven_and_late_frames(tmp_path, name, start):
    video(tmp_path / name, pts=[start + time for time in UNEVEN], time_base=Fraction(1, 1000))
    assert_segments_read_as_one(tmp_path / name, 0.7)


def test_frames_that_an_edit_list_hides_are_in_no_segment(tmp_path):
    options = {"preset": "medium", "crf": "20", "g": "12", "bf": "2"}
    video(tmp_path / "a.mp4", pts=range(-5, 55), options=options)  # MP4 hides what lies before zero
    index = read_index(str(tmp_path / "a.mp4"))
    assert index.pts[0] == 0
    assert len(index.pts) == 55
    assert_segments_read_as_one(tmp_path / "a.mp4", 0.5)


@pytest.mark.parametrize(
    "selection",
    [Selection(0.5), Selection(0.3, 1.5), Selection(max_frame_rate=7), Selection(0.2, 1.9, 11), Selection(0, 1.0)],
)
def test_a_selection_is_the_same_by_segment_seek_or_start(tmp_path, selection):
    video(tmp_path / "a.mp4")
    whole = frames(tmp_path / "a.mp4")
    kept = selection.kept(np.array([frame.pts for frame in whole]), Fraction(1, 12800)).tolist()
    chosen = frames(tmp_path / "a.mp4", selection=selection)
    assert [frame.pts for frame in chosen] == kept
    assert_segments_read_as_one(tmp_path / "a.mp4", 0.4, selection=selection)
    video(tmp_path / "a.ts")  # which is read from its start
    searched = frames(tmp_path / "a.ts", selection=selection)
    assert [(f.pts - searched[0].pts) / 90000 for f in searched] == [(f.pts - kept[0]) / 12800 for f in chosen]
    assert all(np.array_equal(a.rgb_hwc, b.rgb_hwc) for a, b in zip(chosen, searched, strict=True))


def test_thinned_frames_last_until_the_next(tmp_path):
    video(tmp_path / "a.mp4", pts=[time * 10 for time in UNEVEN], time_base=Fraction(1, 10000))
    thinned = frames(tmp_path / "a.mp4", selection=Selection(max_frame_rate=6))
    assert [a.pts + a.duration for a in thinned[:-1]] == [b.pts for b in thinned[1:]]
    assert 10 <= len(thinned) <= 16


def test_a_segment_describes_the_whole_video(tmp_path):
    video(tmp_path / "a.mp4", rotation=90, aspect=Fraction(4, 3))
    segments = cut_segments(read_index(str(tmp_path / "a.mp4")), 0.5, 0, Selection())
    infos = []
    for segment in (None, *segments):
        with VideoReader(str(tmp_path / "a.mp4"), segment=segment) as reader:
            infos.append(reader.info)
            assert reader.span is None
    assert all(info == infos[0] for info in infos)
    with VideoReader(str(tmp_path / "a.mp4"), selection=Selection(0.5, 1.0, 5)) as reader:
        assert reader.span == Span(0.5, 1.5)
        assert (reader.info.frame_rate, reader.info.duration_s) == (5, 1.0)


@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
def test_a_selection_after_the_end_is_refused(tmp_path, name):
    video(tmp_path / name)
    with pytest.raises(UnsupportedMediaError, match="start_s"):
        frames(tmp_path / name, selection=Selection(99))


def test_a_name_that_is_an_option_is_only_a_name(tmp_path, monkeypatch):
    video(tmp_path / "-i.mp4")
    monkeypatch.chdir(tmp_path)
    assert len(read_index("-i.mp4").pts) == 60


# Damage.


def broken(path: Path, numbers: range) -> Path:
    """The video with these packets overwritten."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    for number in numbers:
        packet = packets[number]
        data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    path.write_bytes(data)
    return path


def test_a_damaged_video_is_the_same_in_segments(tmp_path):
    path = broken(video(tmp_path / "a.mp4"), range(33, 36))
    with pytest.raises(DamagedVideoError):
        frames(path)
    with VideoReader(str(path), keep_damaged=True) as reader:
        whole, num_damaged = list(reader.frames()), reader.num_damaged
    assert 50 <= len(whole) < 60
    parts, damaged, refused = [], 0, []
    for segment in cut_segments(read_index(str(path)), 0.4, 2, Selection()):
        with VideoReader(str(path), keep_damaged=True, segment=segment, tail=2) as reader:
            inside = [f for f in reader.frames() if segment.start_pts <= f.pts < (segment.end_pts or math.inf)]
            parts += inside
            damaged += reader.num_damaged
        try:
            frames(path, segment=segment, tail=2)
        except DamagedVideoError:
            refused.append(segment.number)
    assert same(parts, whole)
    assert damaged == num_damaged > 0
    assert refused == [3]


# Real videos.


@pytest.mark.parametrize("source", real_files("videos"))
def test_real_videos_can_be_read_from_every_keyframe(source):
    if source.name == "v2d_test_video.mp4":
        pytest.skip("two minutes at 1080p")
    try:
        index = read_index(str(source))
    except MediaError:
        return
    if index.problem:
        assert len(cut_segments(index, 0.1, 0, Selection())) == 1
        return
    cuts = cut_segments(index, 0.05, 1, Selection())
    chosen = cuts[:: max(1, len(cuts) // 2)]
    whole = [frame.pts for frame in decoded(source)]
    assert index.pts.tolist() == whole
    for segment in chosen:
        start = whole.index(segment.start_pts)
        with VideoReader(str(source), 32, segment=segment) as reader:
            part = [frame.pts for frame in itertools.islice(reader.frames(), 20)]
        assert part == whole[max(0, start - 1) : start + segment.num_frames][:20]
