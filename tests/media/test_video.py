"""Videos survive a writer that changes nothing: every frame, its time, its color and all around it."""

import io
import itertools
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from hypothesis import given
from hypothesis import strategies as st
from media_factory import (
    BT601,
    BT709,
    FULL,
    LIMITED,
    Sound,
    colored_clouds,
    decoded,
    moving_frames,
    natural_image,
    packets,
    psnr,
    real_files,
    times,
    write_video,
    yuv_frames,
)
from PIL import Image

from nst_ops.config import VideoConfig
from nst_ops.media.errors import (
    DamagedVideoError,
    EmptyFileError,
    MediaError,
    UnreadableImageError,
    UnreadableVideoError,
)
from nst_ops.media.formats import video_output
from nst_ops.media.video.container import Frame, container_takes, count_packets, even_size, read_header
from nst_ops.media.video.reader import AnimationReader, VideoReader
from nst_ops.media.video.writer import VideoWriter

FRAMES = moving_frames(12, 96, 64)


def rewrite(
    source: Path,
    max_side: int | None = None,
    *,
    crf: int = 18,
    preset: str = "ultrafast",
    keep_damaged: bool = False,
    stylize: Callable[[np.ndarray], np.ndarray] = lambda rgb: rgb,
) -> SimpleNamespace:
    """Write what ``source`` holds beside it, as the worker does, and say what was seen on the way."""
    animated = source.suffix in (".gif", ".webp", ".png", ".avif")
    reader = AnimationReader(str(source), max_side) if animated else VideoReader(str(source), max_side, keep_damaged)
    with reader:
        name, container = video_output(source.name, has_sound=not animated)
        if not container_takes(container, reader.info.audio_codecs):
            name, container = video_output(source.name, fits=False)
        path = source.parent / "rewritten" / name
        path.parent.mkdir(exist_ok=True)
        other_streams = None if animated else str(source)
        config = VideoConfig(crf=crf, preset=preset)
        span = None if animated else reader.span
        writer = VideoWriter(str(path), container, reader.info, reader.output_size, other_streams, config, span)
        begin, seen = Fraction(span.begin_s if span else 0), []
        with writer:
            for frame in reader.frames():
                seen.append(frame.pts * reader.info.time_base - begin)
                writer.write(Frame(frame.pts, frame.duration, stylize(frame.rgb_hwc)))
    return SimpleNamespace(path=path, times=seen, info=reader.info, notes=writer.notes, reader=reader)


def planes(path: Path) -> list[np.ndarray]:
    return [frame.to_ndarray() for frame in decoded(path)]


def rgb_of(path: Path, max_side: int | None = None) -> list[np.ndarray]:
    with VideoReader(str(path), max_side) as reader:
        return [frame.rgb_hwc for frame in reader.frames()]


def tags(path: Path) -> tuple[int, int, int, int]:
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        return int(context.colorspace), int(context.color_range), context.color_trc, context.color_primaries


def worst_ms(one: list[Fraction], other: list[Fraction]) -> float:
    assert len(one) == len(other)
    return 1000 * float(max(abs(a - b) for a, b in zip(one, other, strict=True)))


# Color.


COLORS = [(matrix, color_range) for matrix in (BT601, BT709) for color_range in (LIMITED, FULL)]


def tagged(matrix: int, color_range: int) -> dict[str, int]:
    return {"colorspace": matrix, "color_range": color_range, "color_trc": matrix, "color_primaries": matrix}


@pytest.mark.parametrize(("matrix", "color_range"), COLORS)
def test_an_unchanged_video_keeps_its_colors_and_tags(tmp_path, matrix, color_range):
    frames = yuv_frames(FRAMES, matrix, color_range)
    source = write_video(tmp_path / "a.mp4", frames, color=tagged(matrix, color_range))
    before = planes(source)
    assert all(np.array_equal(a, f.to_ndarray()) for a, f in zip(before, frames, strict=True))  # lossless
    after = rewrite(source).path
    assert min(psnr(a, b) for a, b in zip(before, planes(after), strict=True)) >= 38
    assert tags(after) == (matrix, color_range, matrix, matrix)


@pytest.mark.parametrize(("matrix", "color_range"), COLORS)
def test_the_reader_converts_by_the_tags(tmp_path, matrix, color_range):
    clouds = colored_clouds(4, 96, 64)
    frames = yuv_frames(clouds, matrix, color_range)
    right = write_video(tmp_path / "right.mp4", frames, color=tagged(matrix, color_range))
    assert min(psnr(a, b) for a, b in zip(clouds, rgb_of(right), strict=True)) >= 38
    for wrong in ((BT601 + BT709 - matrix, color_range), (matrix, LIMITED + FULL - color_range)):
        mistaken = write_video(tmp_path / "wrong.mp4", frames, color=tagged(*wrong))
        assert max(psnr(a, b) for a, b in zip(clouds, rgb_of(mistaken), strict=True)) <= 33


def test_an_untagged_video_stays_untagged(tmp_path):
    source = write_video(tmp_path / "a.mp4", FRAMES)
    assert tags(source) == (2, 0, 2, 2)
    assert tags(rewrite(source).path)[0::2] == (2, 2)
    assert tags(rewrite(source).path)[3] == 2


def test_shrinking_tags_an_untagged_video_if_players_need_it(tmp_path):
    clouds = colored_clouds(2, 1280, 720)
    source = write_video(tmp_path / "a.mp4", yuv_frames(clouds, BT709, LIMITED))
    small = rewrite(source, 320).path
    assert tags(small)[0] == BT709
    expected = np.asarray(Image.fromarray(clouds[0]).resize((320, 180), Image.Resampling.LANCZOS))
    assert psnr(expected, rgb_of(small)[0]) >= 38


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "bound"),
    [
        ("ten_bit.mp4", "libx264", "yuv420p10le", 33),
        ("yuv422.mkv", "ffv1", "yuv422p", 36),
        ("yuv444.mp4", "libx264", "yuv444p", 36),
        ("full.avi", "mjpeg", "yuvj420p", 33),
        ("gray.mkv", "ffv1", "gray", 36),
        ("rgb.mkv", "ffv1", "bgr0", 36),
        ("rgb.mov", "png", "rgb24", 36),
        ("palette.mov", "png", "rgba", 36),
    ],
)
def test_any_pixel_format_comes_in_with_its_colors(tmp_path, name, codec, pix_fmt, bound):
    clouds = colored_clouds(3, 96, 64)
    options = {"qp": "0"} if codec == "libx264" else {"qscale": "2"} if codec == "mjpeg" else {}
    source = write_video(tmp_path / name, clouds, codec=codec, pix_fmt=pix_fmt, options=options)
    if pix_fmt == "gray":
        clouds = [np.asarray(Image.fromarray(cloud).convert("L").convert("RGB")) for cloud in clouds]
    assert min(psnr(a, b) for a, b in zip(clouds, rgb_of(source), strict=True)) >= bound
    after = rewrite(source, crf=4)
    assert min(psnr(a, b) for a, b in zip(clouds, rgb_of(after.path), strict=True)) >= bound
    assert decoded(after.path)[0].format.name in ("yuv420p", "yuvj420p")


# Time.


UNEVEN = [0, 40, 55, 120, 121, 300, 333, 334, 350, 900, 901, 1000]  # ms


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
@pytest.mark.parametrize("start", [0, 1400])
def test_uneven_frame_times_are_kept(tmp_path, name, start):
    pts = [start + time for time in UNEVEN]
    source = write_video(tmp_path / name, FRAMES, pts=pts, time_base=Fraction(1, 1000))
    before = times(source)
    assert [round(time * 1000) for time in before] == pts
    after = rewrite(source)
    shown = [time - before[0] for time in before]  # as players do
    assert worst_ms(after.times, shown) < 1e-9
    assert worst_ms(times(after.path), shown) == 0


@pytest.mark.parametrize("time_base", [Fraction(1001, 30000), Fraction(1, 90000), Fraction(1, 7), Fraction(1, 600)])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_odd_time_bases_are_kept(tmp_path, name, time_base):
    step = max(1, round(Fraction(1, 30) / time_base))
    pts = [n * step for n in range(len(FRAMES))]
    source = write_video(tmp_path / name, FRAMES, pts=pts, time_base=time_base)
    after = rewrite(source)
    assert worst_ms(times(after.path), times(source)) == 0
    if name == "a.mp4":
        assert times(after.path) == [number * time_base for number in pts]


def test_b_frames_come_out_in_order_and_on_time(tmp_path):
    options = {"preset": "medium", "bf": "3", "b_strategy": "0", "qp": "10"}
    source = write_video(tmp_path / "a.mp4", moving_frames(40, 96, 64), options=options)
    assert sum(frame.pict_type == PictureType.B for frame in decoded(source)) > 15
    after = rewrite(source, preset="medium", crf=12)
    assert times(after.path) == times(source)
    pairs = zip(planes(source), planes(after.path), strict=True)
    assert min(psnr(a, b) for a, b in pairs) >= 38


@pytest.mark.parametrize("name", ["a.avi", "a.h264", "a.ts", "a.flv"])
def test_formats_with_poor_clocks_keep_every_frame(tmp_path, name):
    source = write_video(tmp_path / name, FRAMES, options={"qp": "0", "bf": "2"})
    after = rewrite(source)
    assert after.path.name == name + ".mkv"
    assert len(times(after.path)) == len(FRAMES) == len(after.times)
    gaps = np.diff([float(time) for time in times(after.path)])
    assert np.allclose(gaps, 0.04, atol=0.0011)


def test_a_clock_that_begins_anew_goes_on(tmp_path):
    parts = [write_video(tmp_path / f"{n}.ts", moving_frames(50, 96, 64), sounds=[Sound(duration_s=2)]) for n in "ab"]
    both = tmp_path / "both.ts"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    after = rewrite(both)
    gaps = np.diff([float(time) for time in times(after.path)])
    assert len(gaps) == 99
    assert np.allclose(gaps, 0.04, atol=0.0011)
    (sound,) = packets(after.path, "audio")
    first, second = (len(packets(part, "audio")[0]) for part in parts)
    assert len(sound) == first - 1 + second  # the last of the first part lies over the second
    assert sound[first - 1].pts_s == pytest.approx(2, abs=1024 / 48000)
    assert np.allclose(np.diff([packet.pts_s for packet in sound]), 1024 / 48000, atol=0.002)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_one_frame_is_a_video(tmp_path, name):
    source = write_video(tmp_path / name, FRAMES[:1])
    assert times(rewrite(source).path) == [0]


def test_the_last_frame_lasts_as_long_as_in_the_source(tmp_path):
    source = write_video(tmp_path / "a.mp4", FRAMES)
    with av.open(str(source)) as a, av.open(str(rewrite(source).path)) as b:
        durations = [float(f.streams.video[0].duration * f.streams.video[0].time_base) for f in (a, b)]
    assert durations[0] == durations[1] == pytest.approx(len(FRAMES) / 25)


# Shape.


@pytest.mark.parametrize("rotation", [-90, 90, 180])
@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
def test_rotation_is_kept_and_the_stored_frame_is_not_turned(tmp_path, name, rotation):
    source = write_video(tmp_path / name, FRAMES, rotation=rotation)
    after = rewrite(source)
    frame = decoded(after.path)[0]
    assert abs(frame.rotation) == 180 if rotation == 180 else frame.rotation == rotation
    assert (frame.width, frame.height) == (96, 64)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_the_sample_aspect_ratio_is_kept(tmp_path, name):
    source = write_video(tmp_path / name, FRAMES, aspect=Fraction(237, 235))
    with av.open(str(rewrite(source).path)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(237, 235)


@pytest.mark.parametrize(("width", "height"), [(63, 48), (64, 47), (33, 31), (16, 16)])
def test_odd_sizes_are_padded_by_their_edge(tmp_path, width, height):
    images = [image[:height, :width] for image in FRAMES]
    source = write_video(tmp_path / "a.mkv", images, codec="ffv1", pix_fmt="bgr0")
    assert rgb_of(source)[0].shape == (height, width, 3)
    after = rgb_of(rewrite(source, crf=4).path)
    assert len(after) == len(images)
    expected = np.pad(images[0], ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    assert after[0].shape == expected.shape
    for edge in ((slice(None), slice(-2, None)), (slice(-2, None), slice(None))):
        assert psnr(after[0][edge], expected[edge]) >= 28


@given(st.integers(1, 9000), st.integers(1, 9000), st.none() | st.integers(16, 4000))
def test_sizes_are_even_never_enlarged_and_keep_their_aspect(width, height, max_side):
    new_width, new_height = even_size((width, height), max_side)
    assert new_width % 2 == new_height % 2 == 0
    assert 2 <= new_width <= width + 1
    assert 2 <= new_height <= height + 1
    if max_side:
        assert max(new_width, new_height) <= max_side + 1
        scale = min(1.0, max_side / max(width, height))
        assert abs(new_width - width * scale) <= 1.5 or new_width == 2
        assert abs(new_height - height * scale) <= 1.5 or new_height == 2


def test_frames_are_shrunk_to_the_longer_side(tmp_path):
    source = write_video(tmp_path / "a.mp4", FRAMES)
    assert rgb_of(source, 48)[0].shape == (32, 48, 3)
    assert rgb_of(source, 960)[0].shape == (64, 96, 3)
    assert rewrite(source, 48).reader.output_size == (48, 32)


def test_a_changing_size_becomes_that_of_the_first_frame(tmp_path):
    parts = [tmp_path / "a.ts", tmp_path / "b.ts"]
    write_video(parts[0], FRAMES)
    write_video(parts[1], moving_frames(12, 48, 32), pts=range(12, 24))
    both = tmp_path / "both.ts"
    both.write_bytes(parts[0].read_bytes() + parts[1].read_bytes())
    frames = rgb_of(both)
    assert len(frames) == 24
    assert {frame.shape for frame in frames} == {(64, 96, 3)}


# What goes along with the video.


@pytest.mark.parametrize(
    ("name", "codecs"),
    [
        ("a.mp4", ["aac"]),
        ("a.mov", ["aac", "pcm_s16le"]),
        ("a.mkv", ["libopus", "aac"]),
        ("b.mp4", ["aac", "libmp3lame"]),
    ],
)
def test_sound_is_copied_packet_by_packet(tmp_path, name, codecs):
    sounds = [Sound(codec, hertz=440 * (n + 1)) for n, codec in enumerate(codecs)]
    source = write_video(tmp_path / name, moving_frames(25, 48, 32), sounds=sounds)
    after = rewrite(source)
    assert after.path.name == name
    before, copied = packets(source, "audio"), packets(after.path, "audio")
    assert len(copied) == len(codecs)
    for one, other in zip(before, copied, strict=True):
        assert len(one) > 10
        assert [packet.data for packet in one] == [packet.data for packet in other]
        assert [packet.pts_s for packet in one] == pytest.approx([packet.pts_s for packet in other], abs=0.001)
    assert times(after.path) == times(source)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_subtitles_chapters_titles_and_languages_are_kept(tmp_path, name):
    source = write_video(
        tmp_path / name,
        moving_frames(25, 48, 32),
        language="jpn",
        sounds=[Sound(language="deu", title="Kommentar")],
        subtitles=[(0.1, 0.4, "Hello"), (0.5, 0.9, "Grüße")],
        chapters=[(0, 400, "first"), (400, 1000, "second")],
        metadata={"title": "A video", "artist": "Somebody"},
    )
    after = rewrite(source)
    assert after.notes == []
    assert packets(after.path, "subtitle") == packets(source, "subtitle")
    with av.open(str(after.path)) as container:
        seconds = [(float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"])) for c in container.chapters()]
        assert seconds == [(0, 0.4), (0.4, 1)]
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["first", "second"]
        found = {key.lower(): value for key, value in container.metadata.items()}
        assert (found["title"], found["artist"]) == ("A video", "Somebody")
        assert container.streams.video[0].metadata["language"] == "jpn"
        sound = container.streams.audio[0].metadata
        assert sound["language"] == "deu"
        assert sound.get("title", sound.get("name")) == "Kommentar"


def test_sound_that_outlasts_the_video_is_kept_whole(tmp_path):
    source = write_video(tmp_path / "a.mp4", FRAMES, sounds=[Sound(duration_s=3.0)])
    assert packets(rewrite(source).path, "audio") == packets(source, "audio")
    assert packets(source, "audio")[0][-1].pts_s > 2.9


def test_sound_stays_in_step_with_a_video_that_starts_late(tmp_path):
    pts = [112_345 + 3600 * n for n in range(len(FRAMES))]
    exact = {"movie_timescale": "90000"}
    clock = {"pts": pts, "time_base": Fraction(1, 90000), "container_options": exact}
    source = write_video(tmp_path / "a.mp4", FRAMES, sounds=[Sound(duration_s=2)], **clock)
    after = rewrite(source)
    assert times(source)[0] == Fraction(112_345, 90000)
    assert times(after.path) == times(source)
    assert packets(after.path, "audio") == packets(source, "audio")


def test_sound_and_video_are_interleaved_in_the_file(tmp_path):
    # Longer than the ten seconds for which the muxer itself would wait.
    source = write_video(tmp_path / "a.mkv", moving_frames(40, 32, 32) * 13, sounds=[Sound(duration_s=20)])
    with av.open(str(rewrite(source).path)) as container:
        order = [float(p.pts * p.time_base) for p in container.demux() if p.size]
    latest = itertools.accumulate(order, max)
    # x264 holds some forty frames back, and the sound waits for them.
    assert max(newest - time for newest, time in zip(latest, order, strict=True)) < 2


def test_cover_art_is_not_taken_for_the_video(tmp_path):
    jpeg = io.BytesIO()
    natural_image("coffee", 48, 32).save(jpeg, "JPEG")
    source = write_video(tmp_path / "a.mp4", FRAMES, cover=jpeg.getvalue())
    after = rewrite(source)
    assert len(after.times) == len(FRAMES)
    assert count_packets(str(after.path)) == len(FRAMES)
    with av.open(str(after.path)) as container:
        cover = container.streams.video[1]
        assert cover.disposition & av.stream.Disposition.attached_pic
        assert bytes(next(container.demux(cover))) == jpeg.getvalue()


def test_fonts_of_subtitles_are_kept(tmp_path):
    source = tmp_path / "a.mkv"
    with av.open(str(source), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        output.add_attachment("a.ttf", "application/x-truetype-font", b"letters")
        for image in FRAMES:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        output.mux(stream.encode(None))
    with av.open(str(rewrite(source).path)) as container:
        (font,) = container.streams.attachments
        assert (font.name, font.mimetype, bytes(font.data)) == ("a.ttf", "application/x-truetype-font", b"letters")


def test_losses_are_noted(tmp_path):
    clear = write_video(tmp_path / "clear.mov", FRAMES, codec="png", pix_fmt="rgba")
    assert rewrite(clear).notes == ["its transparency is left out"]
    options = {"preset": "ultrafast", "flags": "+ildct+ilme", "x264-params": "tff=1"}
    fields = write_video(tmp_path / "fields.mp4", FRAMES, options=options)
    assert rewrite(fields).notes == ["interlaced: its two fields are stylized as one frame"]


def test_sound_of_an_unknown_codec_is_left_out_and_noted(tmp_path):
    source = write_video(tmp_path / "a.mp4", FRAMES, sounds=[Sound()])
    source.write_bytes(source.read_bytes().replace(b"mp4a", b"zzzz").replace(b"esds", b"free"))
    after = rewrite(source)
    assert after.path.name == "a.mp4"
    assert after.notes == ["audio stream 1 is of an unknown codec and left out"]
    assert times(after.path) == times(source)


@pytest.mark.parametrize(("codec", "suffix"), [("adpcm_ms", ".avi"), ("adpcm_yamaha", ".avi")])
def test_sound_that_no_container_takes_is_converted(tmp_path, codec, suffix):
    sound = Sound(codec, duration_s=1.5, rate=44100)
    video = {"codec": "mpeg4", "options": {"qscale": "2"}}
    source = write_video(tmp_path / f"a{suffix}", FRAMES * 3, sounds=[sound], **video)
    after = rewrite(source)
    assert after.path.name == f"a{suffix}.mkv"
    assert after.notes == [f"its sound ({codec}) does not fit into matroska and is converted to AAC"]
    with av.open(str(after.path)) as container:
        assert container.streams.audio[0].codec_context.codec.canonical_name == "aac"
        wave = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert len(wave) / 44100 == pytest.approx(1.5, abs=0.1)
    middle = wave[len(wave) // 4 : -len(wave) // 4]
    peak_hz = np.abs(np.fft.rfft(middle)).argmax() * 44100 / len(middle)
    assert peak_hz == pytest.approx(sound.hertz, rel=0.02)


def test_video_of_an_unknown_codec_is_refused(tmp_path):
    source = write_video(tmp_path / "a.mp4", FRAMES)
    source.write_bytes(source.read_bytes().replace(b"avc1", b"zzzz").replace(b"avcC", b"free"))
    with pytest.raises(UnreadableVideoError, match="does not know its codec"):
        rewrite(source)


def test_a_second_video_stream_is_left_out_and_noted(tmp_path):
    source = tmp_path / "a.mkv"
    with av.open(str(source), "w") as output:
        streams = [output.add_stream("ffv1", rate=25) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for image, stream in itertools.product(FRAMES, streams):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        for stream in streams:
            output.mux(stream.encode(None))
    after = rewrite(source)
    assert after.notes == ["only the first video stream is stylized, the others are left out"]
    assert len(times(after.path)) == len(FRAMES)


@pytest.mark.parametrize(
    ("name", "codec", "sound", "expected"),
    [
        ("a.webm", "libvpx", "libopus", "a.webm.mkv"),
        ("a.avi", "mpeg4", "libmp3lame", "a.avi.mkv"),
        ("a.ts", "libx264", "aac", "a.ts.mkv"),
        ("a.mov", "libx264", "flac", "a.mov.mkv"),
        ("a.flv", "libx264", "aac", "a.flv.mkv"),
    ],
)
def test_the_container_falls_back_to_matroska_where_it_must(tmp_path, name, codec, sound, expected):
    images = moving_frames(25, 48, 32)
    # FFmpeg writes no FLAC into a .mov, yet reads what somebody else has put there.
    written = tmp_path / name.replace(".mov", ".mp4")
    source = write_video(written, images, codec=codec, options={}, sounds=[Sound(sound)]).rename(tmp_path / name)
    after = rewrite(source)
    assert after.path.name == expected
    assert len(times(after.path)) == len(after.times) == len(images)
    assert worst_ms(times(after.path), after.times) <= 1
    with av.open(str(after.path)) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    assert samples / 48000 == pytest.approx(1, abs=0.06)


def test_a_container_is_asked_for_every_codec():
    assert container_takes("mp4", ("aac", "mp3"))
    assert container_takes("matroska", ("vorbis", "pcm_s16le", "truehd"))
    assert not container_takes("mp4", ("aac", "wmav2"))
    assert not container_takes("mov", ("flac",))


# Names and hostile files.


@pytest.mark.parametrize(
    "name",
    [
        "a b.mp4",
        'it\'s "q".mp4',
        "100%d %03d.mp4",
        "a#b?c.mp4",
        "a:b.mp4",
        "http:a.mp4",
        "-y.mp4",
        "фильм 映画 é.mp4",
        "a\\b|c,d;e.mp4",
    ],
)
def test_names_are_only_names(tmp_path, name):
    source = write_video(tmp_path / name, FRAMES, sounds=[Sound()])
    after = rewrite(source)
    assert after.path.name == name
    assert len(times(after.path)) == len(FRAMES)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "rewritten"])


def test_a_name_that_starts_with_a_dash_is_read(tmp_path, monkeypatch):
    write_video(tmp_path / "-i.mp4", FRAMES)
    monkeypatch.chdir(tmp_path)
    with VideoReader("-i.mp4") as reader:
        assert len(list(reader.frames())) == len(FRAMES)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.mp4").touch()
    with pytest.raises(EmptyFileError, match="0 bytes"):
        VideoReader(str(tmp_path / "a.mp4"))


@pytest.mark.parametrize("content", [b"just some words\n" * 99, bytes(5000), b"\x00\x00\x00\x18ftypmp42" + bytes(64)])
def test_a_file_that_is_no_video_is_refused(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(UnreadableVideoError, match=r"does not open|no video stream"):
        VideoReader(str(tmp_path / "a.mp4"))


def test_sound_alone_is_refused(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as output:
        stream = output.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 9600), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        output.mux([*stream.encode(frame), *stream.encode(None)])
    for open_it in (lambda path: VideoReader(path), read_header):
        with pytest.raises(UnreadableVideoError, match="no video stream"):
            open_it(str(tmp_path / "a.mp4"))


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:9.0,\n{}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile {}\n",
    "dash": """<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>
        <AdaptationSet mimeType="video/mp4"><Representation id="1"><BaseURL>{}</BaseURL></Representation>
        </AdaptationSet></Period></MPD>""",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("extension", ["mp4", "ts", "mkv", "avi"])
def test_a_playlist_cannot_make_ffmpeg_open_other_files(tmp_path, kind, extension):
    write_video(tmp_path / "secret.ts", FRAMES)
    for target in ("secret.ts", f"file:{tmp_path / 'secret.ts'}", str(tmp_path / "secret.ts")):
        (tmp_path / f"a.{extension}").write_text(PLAYLISTS[kind].format(target))
        with pytest.raises(UnreadableVideoError):
            VideoReader(str(tmp_path / f"a.{extension}"))


# Damage.


@pytest.fixture(scope="module")
def long_video(tmp_path_factory) -> Path:
    options = {"preset": "ultrafast", "crf": "20", "g": "20"}
    return write_video(tmp_path_factory.mktemp("long") / "a.mp4", moving_frames(100, 96, 64), options=options)


@pytest.mark.parametrize("faststart", [False, True])
def test_a_cut_off_mp4_is_refused_on_opening(tmp_path, faststart):
    flags = {"movflags": "+faststart"} if faststart else {}
    whole = write_video(tmp_path / "a.mp4", moving_frames(50, 96, 64), container_options=flags).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(MediaError) as caught:
        VideoReader(str(tmp_path / "cut.mp4"))
    assert isinstance(caught.value, DamagedVideoError if faststart else UnreadableVideoError)


@pytest.mark.parametrize("name", ["a.mkv", "a.avi", "a.webm"])
def test_other_cut_off_containers_are_refused(tmp_path, name):
    codec, options = ("libvpx", {}) if name == "a.webm" else ("libx264", None)
    whole = write_video(tmp_path / name, moving_frames(50, 96, 64), codec=codec, options=options).read_bytes()
    cut = tmp_path / f"cut.{name}"
    cut.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(DamagedVideoError, match="cut off"), VideoReader(str(cut)) as reader:
        list(reader.frames())
    with VideoReader(str(cut), keep_damaged=True) as reader:
        assert 10 < len(list(reader.frames())) < 50


def test_a_damaged_middle_is_refused_or_left_out_and_counted(tmp_path, long_video):
    broken = bytearray(long_video.read_bytes())
    with av.open(str(long_video)) as container:
        middle = [packet for packet in container.demux(video=0) if packet.size][45:50]
    for packet in middle:
        broken[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    path = tmp_path / "a.mp4"
    path.write_bytes(broken)
    with pytest.raises(DamagedVideoError, match="damaged after frame 4"), VideoReader(str(path)) as reader:
        list(reader.frames())
    after = rewrite(path, keep_damaged=True)
    assert after.reader.num_damaged >= 1
    assert 90 <= len(after.times) == len(times(after.path)) <= 100


def test_flipped_bytes_are_seen(tmp_path, long_video):
    broken = bytearray(long_video.read_bytes())
    with av.open(str(long_video)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][50]
    for offset in range(packet.size // 4, packet.size // 2):
        broken[packet.pos + offset] ^= 0x55
    path = tmp_path / "a.mp4"
    path.write_bytes(broken)
    with pytest.raises(DamagedVideoError), VideoReader(str(path)) as reader:
        list(reader.frames())


# Animations.


DELAYS = {"gif": [100, 0, 200, 50, 1000], "webp": [100, 16, 200, 50, 1000], "png": [100, 17, 200, 50, 1000]}


def frames_of_animation(path: Path) -> list[Frame]:
    with AnimationReader(str(path)) as reader:
        return list(reader.frames())


def animation(path: Path, delays: list[int], **options: object) -> list[Image.Image]:
    images = [Image.fromarray(image) for image in moving_frames(len(delays), 48, 32)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=delays, loop=0, **options)
    return images


@pytest.mark.parametrize("extension", DELAYS)
def test_animations_keep_their_frames_and_delays(tmp_path, extension):
    source = tmp_path / f"a.{extension}"
    images = animation(source, DELAYS[extension], **({"lossless": True} if extension == "webp" else {}))
    after = rewrite(source, crf=10)
    assert after.path.name == source.name + ".mp4"
    delays = [delay or 100 for delay in DELAYS[extension]]
    assert times(after.path) == [Fraction(sum(delays[:n]), 1000) for n in range(len(delays))]
    with av.open(str(after.path)) as container:
        assert container.duration == sum(delays) * 1000
    bound = 24 if extension == "gif" else 30  # 256 colors
    for frame, image in zip(rgb_of(after.path), images, strict=True):
        assert psnr(frame, np.asarray(image)) >= bound


def test_an_animation_is_laid_on_white_and_shrunk(tmp_path):
    clear = Image.new("RGBA", (49, 33), (0, 0, 0, 0))
    dot = clear.copy()
    dot.paste((255, 0, 0, 255), (0, 0, 20, 20))
    clear.save(tmp_path / "a.webp", save_all=True, append_images=[dot], duration=100, lossless=True)
    with AnimationReader(str(tmp_path / "a.webp"), 24) as reader:
        first, second = (frame.rgb_hwc for frame in reader.frames())
    assert first.shape == (16, 24, 3) == (*reader.output_size[::-1], 3)
    assert first.min() == 255
    assert tuple(second[4, 4]) == (255, 0, 0)
    assert tuple(second[12, 20]) == (255, 255, 255)


def test_delays_up_to_10_ms_become_100_ms(tmp_path):
    animation(tmp_path / "a.webp", [10, 11, 30])
    assert [frame.duration for frame in frames_of_animation(tmp_path / "a.webp")] == [100, 11, 30]


def test_the_default_image_of_an_apng_is_no_frame(tmp_path):
    still, *frames = (Image.new("RGB", (16, 16), color) for color in ("black", "red", "lime"))
    still.save(tmp_path / "a.png", save_all=True, default_image=True, append_images=frames, duration=100)
    with AnimationReader(str(tmp_path / "a.png")) as reader:
        assert [tuple(frame.rgb_hwc[0, 0]) for frame in reader.frames()] == [(255, 0, 0), (0, 255, 0)]
        assert (reader.info.frame_rate, reader.info.duration_s) == (10, 0.2)


@pytest.mark.parametrize("extension", ["gif", "webp", "png"])
def test_a_damaged_animation_is_refused(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    animation(path, [100] * 8)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableImageError):
        frames_of_animation(path)


# Memory.


def test_memory_does_not_grow_with_the_video(tmp_path):
    source = write_video(tmp_path / "a.mp4", moving_frames(120, 320, 180), options={"preset": "ultrafast", "crf": "30"})
    tracemalloc.start()
    try:
        rewrite(source, crf=30)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 * 320 * 180 * 3


# Real videos.


@pytest.mark.parametrize("source", real_files("videos"))
def test_real_videos_keep_their_frames_and_times(tmp_path, source):
    if source.name == "v2d_test_video.mp4":
        pytest.skip("two minutes at 1080p")
    (tmp_path / source.name).symlink_to(source)
    bad = {"moviepy_result.webm": EmptyFileError, "decord_corrupted.mp4": DamagedVideoError}
    if source.name in bad:
        with pytest.raises(bad[source.name]):
            rewrite(tmp_path / source.name)
        return
    after = rewrite(tmp_path / source.name, 160, crf=30)
    assert worst_ms(times(after.path), after.times) <= 1
    before = [] if source.suffix == ".gif" else packets(source, "audio")
    if source.suffix != ".ts":  # there it stands in frames of its own
        assert [[p.data for p in s] for s in packets(after.path, "audio")] == [[p.data for p in s] for s in before]
    with av.open(str(after.path)) as container:
        assert max(container.streams.video[0].width, container.streams.video[0].height) <= 160
    assert count_packets(str(after.path)) == len(after.times)
