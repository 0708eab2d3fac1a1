"""Every encoder keeps each frame, its time and its color, and does what the keys of ``video`` say."""

import dataclasses
import os
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from media_factory import (
    BT601,
    BT709,
    FULL,
    LIMITED,
    Sound,
    decoded,
    moving_frames,
    packets,
    psnr,
    times,
    write_video,
    yuv_frames,
)

from nst_ops.config import VideoConfig
from nst_ops.media.errors import UnsupportedMediaError
from nst_ops.media.video import encoders
from nst_ops.media.video.clock import Span
from nst_ops.media.video.container import Frame
from nst_ops.media.video.encoders import check_encoder, choose_encoder, encoder_for, nvenc_problem
from nst_ops.media.video.reader import VideoReader
from nst_ops.media.video.writer import VideoWriter

FRAMES = moving_frames(12, 256, 144)
CODECS = ("h264", "h265", "av1")
NAMES = {"h264": "h264", "h265": "hevc", "av1": "av1"}
UNEVEN = [0, 40, 55, 120, 121, 300, 333, 334, 350, 900, 901, 1000]  # ms
TAGS = {"colorspace": BT709, "color_range": LIMITED, "color_trc": BT709, "color_primaries": BT709}


def read(source: Path) -> tuple[list[Frame], VideoReader]:
    with VideoReader(str(source)) as reader:
        return list(reader.frames()), reader


def write(
    source: Path,
    path: Path,
    config: VideoConfig,
    *,
    container: str = "mp4",
    sound: bool = False,
    span: Span | None = None,
) -> list[str]:
    """Write the frames of ``source`` that lie in the span as they are; the notes."""
    frames, reader = read(source)
    begin_s, end_s = (span.begin_s, span.end_s) if span else (0, None)
    info, other_streams = reader.info, str(source) if sound else None
    writer = VideoWriter(str(path), container, info, reader.output_size, other_streams, config, span)
    with writer:
        for frame in frames:
            time_s = frame.pts * info.time_base
            if begin_s <= time_s and (end_s is None or time_s < end_s):
                writer.write(frame)
    return writer.notes


def planes(path: Path) -> list[np.ndarray]:
    """8-bit 4:2:0 planes of every frame, whatever the file holds."""
    return [frame.reformat(format="yuv420p").to_ndarray() for frame in decoded(path)]


def worst_psnr(one: Path, other: Path) -> float:
    return min(psnr(a, b) for a, b in zip(planes(one), planes(other), strict=True))


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """A pan, its planes as computed."""
    folder = tmp_path_factory.mktemp("video")
    return write_video(folder / "a.mp4", yuv_frames(FRAMES, BT709, LIMITED), color=TAGS)


# What comes out.


PIXEL_FORMATS = [
    *((codec, name) for codec in CODECS for name in ("yuv420p", "yuv420p10le")),
    *((codec, name) for codec in CODECS[:2] for name in ("yuv422p", "yuv422p10le", "yuv444p", "yuv444p10le")),
]


@pytest.mark.parametrize(("codec", "pixel_format"), PIXEL_FORMATS)
def test_every_frame_keeps_its_time_and_color(tmp_path, video, codec, pixel_format):
    config = VideoConfig(codec=codec, pixel_format=pixel_format, preset="fast")
    write(video, tmp_path / "b.mp4", config)
    frames = decoded(tmp_path / "b.mp4")
    assert [frame.pts * frame.time_base for frame in frames] == times(video)
    assert frames[0].format.name == pixel_format
    assert worst_psnr(video, tmp_path / "b.mp4") >= 38
    with av.open(str(tmp_path / "b.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert context.codec.canonical_name == NAMES[codec]
        assert {name: int(getattr(context, name)) for name in TAGS} == TAGS


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le"])
def test_full_range_and_another_matrix_are_kept(tmp_path, codec, pixel_format):
    tags = {"colorspace": BT601, "color_range": FULL, "color_trc": BT601, "color_primaries": BT601}
    source = write_video(tmp_path / "a.mp4", yuv_frames(FRAMES[:6], BT601, FULL), color=tags)
    write(source, tmp_path / "b.mp4", VideoConfig(codec=codec, pixel_format=pixel_format, preset="fast"))
    assert worst_psnr(source, tmp_path / "b.mp4") >= 38
    frame = decoded(tmp_path / "b.mp4")[0]
    assert (int(frame.colorspace), int(frame.color_range)) == (BT601, FULL)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("container", ["mp4", "mov", "matroska"])
def test_uneven_times_survive_every_codec_in_every_container(tmp_path, codec, container):
    if (codec, container) == ("av1", "mov"):
        pytest.skip("FFmpeg writes no av1 into mov")
    source = write_video(tmp_path / "a.mkv", FRAMES[:12], pts=UNEVEN, time_base=Fraction(1, 1000))
    write(source, tmp_path / "b", VideoConfig(codec=codec, preset="medium"), container=container)
    assert times(tmp_path / "b") == [Fraction(time, 1000) for time in UNEVEN]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("time_base", [Fraction(1001, 30000), Fraction(1, 90000), Fraction(1, 7), Fraction(1, 10**7)])
def test_a_segment_keeps_exact_times_in_any_time_base(tmp_path, codec, time_base):
    step = max(1, round(Fraction(1, 30) / time_base))
    pts = [(5000 + number) * step + 1 for number in range(8)]
    frames, reader = read(write_video(tmp_path / "a.mp4", moving_frames(8, 64, 48)))
    info = dataclasses.replace(reader.info, time_base=time_base)
    config = VideoConfig(codec=codec)
    with VideoWriter(str(tmp_path / "b"), "mp4", info, reader.output_size, None, config) as writer:
        for frame, time in zip(frames, pts, strict=True):
            writer.write(Frame(time, step, frame.rgb_hwc))
    assert times(tmp_path / "b") == [time * time_base for time in pts]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_rotation_and_pixel_shape_are_kept_or_noted(tmp_path, codec, container):
    source = write_video(tmp_path / "a.mp4", FRAMES[:3], rotation=90, aspect=Fraction(4, 3))
    notes = write(source, tmp_path / "b", VideoConfig(codec=codec), container=container)
    assert decoded(tmp_path / "b")[0].rotation == 90
    with av.open(str(tmp_path / "b")) as written:
        aspect = written.streams.video[0].sample_aspect_ratio
    if (codec, container) == ("av1", "matroska"):
        assert notes == ["the shape of its pixels is lost: av1 keeps it only in video.container mp4"]
    else:
        assert (aspect, notes) == (Fraction(4, 3), [])


def test_constant_quality_zero_is_lossless_for_h264(tmp_path, video):
    # Two efforts agree in every pixel only where neither loses anything.
    for crf, is_lossless in ((0, True), (1, False)):
        for preset in ("ultrafast", "medium"):
            write(video, tmp_path / preset, VideoConfig(crf=crf, preset=preset))
        assert np.isinf(worst_psnr(tmp_path / "ultrafast", tmp_path / "medium")) == is_lossless


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("quality", [{}, {"bitrate_kbps": 300}])
@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_the_same_frames_give_the_same_bytes(tmp_path, video, codec, quality, container):
    config = VideoConfig(codec=codec, preset="fast", **quality)
    for name in "bc":
        write(video, tmp_path / name, config, container=container)
    assert len({(tmp_path / name).read_bytes() for name in "bc"}) == 1


def test_x264_writes_the_same_bytes_at_every_run(tmp_path):
    # Its AVX-512 code does not, and what shows it are frames with detail in the default preset.
    source = write_video(tmp_path / "a.mp4", moving_frames(40, 320, 180))
    for name in "bcdef":
        write(source, tmp_path / name, VideoConfig())
    assert len({(tmp_path / name).read_bytes() for name in "bcdef"}) == 1


# What the keys say.


@pytest.mark.parametrize("codec", CODECS)
def test_keyframes_are_as_close_as_asked_for(tmp_path, codec):
    source = write_video(tmp_path / "a.mp4", moving_frames(50, 96, 64))
    for interval_s, expected in ((0.5, 12), (0.001, 1)):
        config = VideoConfig(codec=codec, preset="fast", keyframe_interval_s=interval_s)
        write(source, tmp_path / "b.mp4", config)
        with av.open(str(tmp_path / "b.mp4")) as container:
            shown = sorted((p.pts, p.is_keyframe) for p in container.demux(video=0) if p.size)
        keys = [number for number, (_, is_key) in enumerate(shown) if is_key]
        assert keys[0] == 0
        assert max(b - a for a, b in pairwise([*keys, len(shown)])) == expected
    write(source, tmp_path / "c.mp4", VideoConfig(codec=codec, preset="fast"))
    with av.open(str(tmp_path / "c.mp4")) as container:
        assert sum(p.is_keyframe for p in container.demux(video=0) if p.size) == 1


@pytest.mark.parametrize("codec", CODECS)
def test_the_bitrate_is_about_what_is_asked_for(tmp_path, codec):
    source = write_video(tmp_path / "a.mp4", moving_frames(75, 160, 96))
    sizes = {}
    for kbps in (50, 150):
        write(source, tmp_path / "b.mp4", VideoConfig(codec=codec, preset="fast", bitrate_kbps=kbps))
        sizes[kbps] = (tmp_path / "b.mp4").stat().st_size
        assert kbps / 2 <= sizes[kbps] * 8 / 3 / 1000 <= kbps * 2
    assert sizes[150] > 1.5 * sizes[50]


@pytest.mark.parametrize("codec", CODECS)
def test_a_higher_crf_writes_a_smaller_file(tmp_path, video, codec):
    for crf in (20, 40):
        write(video, tmp_path / str(crf), VideoConfig(codec=codec, crf=crf, preset="fast"))
    assert (tmp_path / "40").stat().st_size < 0.6 * (tmp_path / "20").stat().st_size


@pytest.mark.parametrize("preset", ["ultrafast", "veryfast", "fast", "medium", "slow", "veryslow"])
@pytest.mark.parametrize("codec", CODECS)
def test_every_preset_starts(codec, preset):
    check_encoder(VideoConfig(codec=codec, preset=preset))


@pytest.mark.parametrize("container", ["mp4", "mov"])
def test_h265_carries_the_tag_that_apple_opens(tmp_path, video, container):
    write(video, tmp_path / "b", VideoConfig(codec="h265", preset="ultrafast"), container=container)
    with av.open(str(tmp_path / "b")) as written:
        assert written.streams.video[0].codec_context.codec_tag == "hvc1"


# What cannot be.


@pytest.mark.parametrize(
    ("keys", "remedy"),
    [
        ({"crf": 20, "bitrate_kbps": 500}, r"video\.crf and video\.bitrate_kbps exclude each other"),
        ({"codec": "av1", "pixel_format": "yuv444p"}, r"video\.pixel_format .*only yuv420p or yuv420p10le"),
        ({"codec": "av1", "container": "mov"}, r"video\.container mov .* set it to mp4"),
        ({"codec": "av1", "bitrate_kbps": 900_000}, r"libsvtav1 does not start .* bitrate"),
    ],
)
def test_conflicting_keys_are_refused_before_any_work(keys, remedy):
    with pytest.raises(ValueError, match=remedy):
        check_encoder(VideoConfig(**keys))


def test_a_folder_of_frames_asks_for_no_encoder():
    check_encoder(VideoConfig(container="frames", encoder="nvenc", crf=51))


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="needs Linux")
@pytest.mark.parametrize("codec", CODECS)
def test_an_encoder_leaves_the_rest_of_the_machine_its_turn(tmp_path, codec):
    source = write_video(tmp_path / "a.mkv", FRAMES)
    before = os.sched_getscheduler(0)
    with VideoReader(str(source)) as reader:
        writer = VideoWriter(str(tmp_path / "b.mp4"), "mp4", reader.info, (256, 144), None, VideoConfig(codec=codec))
        with writer:
            for frame in reader.frames():
                writer.write(frame)
            policies = {os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")}
    assert policies == {before} == {os.SCHED_OTHER}


@pytest.mark.parametrize("codec", CODECS)
def test_a_gpu_that_does_not_encode_is_refused_on_the_worker(codec):
    config = VideoConfig(codec=codec, encoder="nvenc")
    check_encoder(config)  # the machine that plans a run may have no GPU
    name = encoder_for(config).name
    try:
        with av.open("/dev/null", "w", format="null") as output:
            stream = output.add_stream(name, rate=25)
            stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p"
            stream.codec_context.open()
    except av.error.FFmpegError:
        with pytest.raises(ValueError, match=rf"{name} does not start on this machine .*another encoder"):
            choose_encoder(config)
    else:
        assert choose_encoder(config).name == name


@pytest.mark.parametrize("codec", ["h265", "av1"])
def test_frames_too_small_for_an_encoder_name_the_remedy(tmp_path, codec):
    source = write_video(tmp_path / "a.mkv", [FRAMES[0][:2, :2]], codec="ffv1", pix_fmt="bgr0")
    with pytest.raises(UnsupportedMediaError, match=r"2x2 pixels .* --video\.codec h264"):
        write(source, tmp_path / "b.mp4", VideoConfig(codec=codec))
    write(source, tmp_path / "b.mp4", VideoConfig())
    assert len(times(tmp_path / "b.mp4")) == 1


# A part of a video.


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("span", [Span(0.9, 2.1), Span(1.0), Span(0.0, 0.5)])
def test_a_part_begins_at_zero_with_its_sound_and_chapters(tmp_path, name, span):
    source = write_video(
        tmp_path / name,
        moving_frames(75, 48, 32),
        pts=range(10, 85),
        time_base=Fraction(1, 25),
        sounds=[Sound(duration_s=3)],
        subtitles=[(0.1, 0.4, "one"), (1.2, 1.6, "two"), (2.5, 2.9, "three")],
        chapters=[(0, 400, "first"), (400, 2000, "second"), (2000, 3000, "third")],
        container_options={"movie_timescale": "90000"} if name == "a.mp4" else {},
    )
    container = "mp4" if name == "a.mp4" else "matroska"
    write(source, tmp_path / "b", VideoConfig(), container=container, sound=True, span=span)
    begin_s, end_s = span.begin_s, span.end_s or 99.0

    def inside(time_s: float) -> bool:
        return begin_s <= time_s < end_s

    wanted = [float(time) - begin_s for time in times(source) if inside(float(time))]
    assert [float(time) for time in times(tmp_path / "b")] == pytest.approx(wanted, abs=0.0011)
    for kind in ("audio", "subtitle"):
        before, after = (
            [packet for packet in packets(path, kind)[0] if packet.data.strip(b"\0")]  # no pauses of MP4
            for path in (source, tmp_path / "b")
        )
        kept = [packet for packet in before if inside(packet.pts_s)]
        assert 0 < len(kept) < len(before)
        assert [packet.data for packet in after] == [packet.data for packet in kept]
        assert [packet.pts_s for packet in after] == pytest.approx(
            [packet.pts_s - begin_s for packet in kept], abs=0.0011
        )
    with av.open(str(tmp_path / "b")) as written:
        chapters = [(float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"])) for c in written.chapters()]
    whole = [(0.0, 0.4), (0.4, 2.0), (2.0, 3.0)]
    cut = [(max(a, begin_s) - begin_s, min(b, end_s) - begin_s) for a, b in whole]
    assert chapters == [pytest.approx(chapter) for chapter in cut if chapter[0] < chapter[1]]


def test_converted_sound_is_cut_to_the_part(tmp_path):
    source = write_video(
        tmp_path / "a.avi",
        moving_frames(75, 48, 32),
        codec="mpeg4",
        options={"qscale": "2"},
        sounds=[Sound("adpcm_ms", duration_s=3, rate=44100)],
    )
    write(source, tmp_path / "b", VideoConfig(), container="matroska", sound=True, span=Span(1.0, 2.0))
    (sound,) = packets(tmp_path / "b", "audio")
    assert -0.05 <= sound[0].pts_s <= 0.05
    assert 0.9 <= sound[-1].pts_s <= 1.1


def test_auto_is_what_starts_on_this_machine(tmp_path, video, monkeypatch):
    config = VideoConfig(encoder="auto", codec="h265", pixel_format="yuv422p")
    assert "hevc_nvenc takes no yuv422p" in nvenc_problem(config)
    assert encoder_for(config).name == "libx265"
    config = VideoConfig(encoder="auto")
    expected = "libx264" if nvenc_problem(config) else "h264_nvenc"
    assert encoder_for(config).name == choose_encoder(config).name == expected
    write(video, tmp_path / "b.mp4", config)
    assert times(tmp_path / "b.mp4") == times(video)
    tried = []

    def answer(name, pixel_format, options):
        tried.append((name, pixel_format, dict(options)["preset"]))
        return ""

    monkeypatch.setattr(encoders, "_try", answer)  # as on a card that has one
    config = VideoConfig(encoder="auto", codec="h265", pixel_format="yuv420p10le", preset="fast")
    assert encoder_for(config).name == choose_encoder(config).name == "hevc_nvenc"
    assert set(tried) == {("hevc_nvenc", "p010le", "p3")}
