"""Segments encoded apart and joined are the video that one pass writes."""

import itertools
import math
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from media_factory import REAL_DATA, Sound, decoded, moving_frames, packets, write_video

from nst_ops.config.stylize import VideoConfig
from nst_ops.media.errors import MediaError, UnreadableVideoError
from nst_ops.media.formats import video_output
from nst_ops.media.video.container import count_packets
from nst_ops.media.video.join import join_segments
from nst_ops.media.video.reader import VideoReader
from nst_ops.media.video.segments import Selection, cut_segments, read_index
from nst_ops.media.video.writer import VideoWriter

LOSSLESS = VideoConfig(crf=0, preset="ultrafast")
ALL = Selection()


def video(path: Path, num_frames: int = 60, **given: object) -> Path:
    options = given.pop("options", {"preset": "ultrafast", "qp": "0", "g": "5"})
    return write_video(path, moving_frames(num_frames, 64, 48), options=options, **given)


def one_pass(
    source: Path, config: VideoConfig = LOSSLESS, selection: Selection = ALL, **options: object
) -> SimpleNamespace:
    with VideoReader(str(source), selection=selection, **options) as reader:
        name, container = video_output(source.name)
        path = source.parent / "whole" / name
        path.parent.mkdir(exist_ok=True)
        with VideoWriter(
            str(path), container, reader.info, reader.output_size, str(source), config, reader.span
        ) as writer:
            for frame in reader.frames():
                writer.write(frame)
    return SimpleNamespace(path=path, notes=writer.notes)


def segmented(
    source: Path,
    target_s: float,
    config: VideoConfig = LOSSLESS,
    selection: Selection = ALL,
    lead: int = 2,
    tail: int = 2,
    **options: object,
) -> SimpleNamespace:
    """Write each segment from its own frames alone, and join them."""
    segments = cut_segments(read_index(str(source)), target_s, lead, selection)
    name, container = video_output(source.name)
    folder = source.parent / f"{source.stem} joined"
    folder.mkdir(exist_ok=True)
    parts = []
    for segment in segments:
        with VideoReader(str(source), selection=selection, segment=segment, tail=tail, **options) as reader:
            parts.append(str(folder / f"{segment.number}.mp4"))
            with VideoWriter(parts[-1], "mp4", reader.info, reader.output_size, None, config) as writer:
                for frame in reader.frames():
                    if segment.start_pts <= frame.pts < (segment.end_pts or math.inf):
                        writer.write(frame)
    path = folder / name
    num_frames, notes = join_segments(parts, str(path), container, reader.info, str(source), reader.span)
    return SimpleNamespace(path=path, notes=notes, num_frames=num_frames, count=len(parts), parts=parts)


def described(path: Path) -> dict[str, object]:
    """Return what must not depend on how a video was cut."""
    with av.open(f"file:{path}") as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        return {
            "size": (context.width, context.height, context.pix_fmt),
            "codec": (context.name, context.codec_tag, context.extradata),
            "clock": stream.time_base,
            "rate": stream.average_rate,
            "aspect": stream.sample_aspect_ratio,
            "color": (context.colorspace, context.color_range, context.color_trc, context.color_primaries),
            "duration": (stream.duration, container.duration),
            "metadata": container.metadata,
            "stream metadata": [each.metadata for each in container.streams],
            "chapters": container.chapters(),
        }


def assert_equal(joined: SimpleNamespace, whole: SimpleNamespace) -> None:
    """The same images at the same times for as long, beside the same sound and text."""
    one, other = decoded(joined.path), decoded(whole.path)
    assert [frame.pts for frame in one] == [frame.pts for frame in other]
    assert all(np.array_equal(a.to_ndarray(), b.to_ndarray()) for a, b in zip(one, other, strict=True))
    assert one[0].rotation == other[0].rotation
    assert [frame.duration for frame in one] == [frame.duration for frame in other]
    assert described(joined.path) == described(whole.path)
    for kind in ("audio", "subtitle"):
        assert packets(joined.path, kind) == packets(whole.path, kind)
    assert joined.notes == whole.notes
    assert joined.num_frames == count_packets(str(joined.path)) == len(one)
    assert_decodable_in_order(joined.path)


def assert_decodable_in_order(path: Path) -> None:
    with av.open(f"file:{path}") as container:
        clock = [(p.dts, p.pts) for p in container.demux(video=0) if p.size and p.dts is not None]
    assert all(dts <= pts for dts, pts in clock)
    assert all(a[0] < b[0] for a, b in itertools.pairwise(clock))


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
def test_any_number_of_segments_make_one_video(tmp_path, name, count):
    text = {} if name == "a.mov" else {"subtitles": [(0.1, 0.4, "Hello"), (1.5, 1.9, "Grüße")]}
    source = video(
        tmp_path / name,
        rotation=90,
        aspect=Fraction(237, 235),
        color={"colorspace": 1, "color_range": 2, "color_trc": 1, "color_primaries": 1},
        sounds=[Sound(duration_s=3.0, language="deu", title="Kommentar"), Sound(hertz=880)],
        chapters=[(0, 400, "first"), (400, 1000, "second")],
        metadata={"title": "A video"},
        language="jpn",
        **text,
    )
    joined = segmented(source, 2.4 / count)
    assert joined.count == count
    assert joined.num_frames == 60
    assert_equal(joined, one_pass(source))


# Slow after each keyframe, quick before the next: the encoder's head start reaches into the segment before.
UNEVEN = [40 * (n - n % 5) + (0, 90, 180, 185, 190)[n % 5] for n in range(60)]


@pytest.mark.parametrize("start", [0, 1427])
@pytest.mark.parametrize(
    "time_base", [Fraction(1, 1000), Fraction(1, 1_000_003), Fraction(1001, 30000), Fraction(1, 25)]
)
def test_every_time_base_and_start_is_kept(tmp_path, start, time_base):
    coarse = time_base > Fraction(1, 500)
    pts = [start + (time // 5 if coarse else time) for time in UNEVEN]
    source = video(tmp_path / "a.mp4", pts=pts, time_base=time_base, sounds=[Sound()])
    length_s = float(60 * 40 * (Fraction(1, 5) if coarse else 1) * time_base)
    joined = segmented(source, length_s / 5)
    assert joined.count > 2
    assert_equal(joined, one_pass(source))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("codec", ["h264", "h265", "av1"])
def test_every_codec_is_joined(tmp_path, name, codec):
    source = video(tmp_path / name, pts=UNEVEN, time_base=Fraction(1, 1000))
    config = VideoConfig(codec=codec, crf=30, preset="veryfast")  # with B-frames
    joined, whole = segmented(source, 0.8, config, lead=0, tail=0), one_pass(source, config)
    assert joined.count == 3
    one, other = decoded(joined.path), decoded(whole.path)
    assert [frame.pts for frame in one] == [frame.pts for frame in other]
    apart = [frame for part in joined.parts for frame in decoded(Path(part))]
    assert all(np.array_equal(a.to_ndarray(), b.to_ndarray()) for a, b in zip(one, apart, strict=True))
    assert described(joined.path) == described(whole.path)
    assert_decodable_in_order(joined.path)


def test_frames_that_an_edit_list_hides_stay_hidden(tmp_path):
    source = video(tmp_path / "a.mp4", pts=range(-5, 55), sounds=[Sound()])
    joined = segmented(source, 0.6)
    assert (joined.count, joined.num_frames) == (4, 55)
    assert_equal(joined, one_pass(source))


@pytest.mark.parametrize("selection", [Selection(0.48, 1.3), Selection(0.48, 1.3, 9), Selection(max_frame_rate=9)])
def test_a_selection_is_joined_with_its_sound(tmp_path, selection):
    source = video(tmp_path / "a.mp4", sounds=[Sound(duration_s=3.0)])
    joined = segmented(source, 0.4, selection=selection)
    assert joined.count > 1
    assert_equal(joined, one_pass(source, selection=selection))
    assert decoded(joined.path)[0].pts == 0


def test_the_last_frame_lasts_as_long_as_in_the_source(tmp_path):
    source = video(tmp_path / "a.mp4", pts=[*range(59), 90], time_base=Fraction(1, 25))
    with av.open(str(source)) as a, av.open(str(segmented(source, 0.6).path)) as b:
        lengths = [float(c.streams.video[0].duration * c.streams.video[0].time_base) for c in (a, b)]
    assert lengths[0] == lengths[1]


def test_segments_of_a_damaged_video_are_joined(tmp_path):
    source = video(tmp_path / "a.mp4", sounds=[Sound()])
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        for packet in [packet for packet in container.demux(video=0) if packet.size][31:34]:
            data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    source.write_bytes(data)
    joined, whole = segmented(source, 0.4, keep_damaged=True), one_pass(source, keep_damaged=True)
    assert joined.num_frames < 60
    assert_equal(joined, whole)


def test_a_name_that_is_an_option_is_only_a_name(tmp_path, monkeypatch):
    source = video(tmp_path / "-i.mp4")
    monkeypatch.chdir(tmp_path)
    joined = segmented(Path("-i.mp4"), 0.6)
    assert joined.num_frames == 60
    assert_equal(joined, one_pass(source))


def test_an_empty_segment_is_one_without_frames(tmp_path):
    source = video(tmp_path / "a.mp4")
    joined = segmented(source, 0.6)
    (tmp_path / "empty").touch()
    with VideoReader(str(source)) as reader:
        info = reader.info

    def join(parts: list[str]) -> int:
        return join_segments(parts, str(tmp_path / "x.mp4"), "mp4", info, str(source))[0]

    assert join([str(tmp_path / "empty"), *joined.parts[1:]]) == 45
    assert [frame.pts for frame in decoded(tmp_path / "x.mp4")] == [n * 512 for n in range(15, 60)]
    with pytest.raises(UnreadableVideoError, match="none of its frames"):
        join([str(tmp_path / "empty")])


def test_segments_that_do_not_match_are_refused(tmp_path):
    source = video(tmp_path / "a.mp4")
    joined = segmented(source, 0.6)
    with VideoReader(str(source)) as reader:
        info = reader.info
    other = segmented(video(tmp_path / "b.mp4"), 0.6, VideoConfig(crf=0, preset="medium"))

    def join(parts: list[str]) -> None:
        join_segments(parts, str(tmp_path / "x.mp4"), "mp4", info, str(source))

    with pytest.raises(UnreadableVideoError, match="segment 1 was encoded with other settings"):
        join([joined.parts[0], other.parts[1]])
    with pytest.raises(UnreadableVideoError, match="segment 1 begins before"):
        join(joined.parts[::-1])
    Path(joined.parts[1]).write_bytes(Path(joined.parts[1]).read_bytes()[:500])
    with pytest.raises(MediaError):
        join(joined.parts)


@pytest.mark.parametrize("name", ["clipmorph_ski.mov", "daft_sample_video.mp4"])
def test_real_videos_are_joined(tmp_path, name):
    if not (REAL_DATA / "videos" / name).exists():
        pytest.skip("no real data here")
    (tmp_path / name).symlink_to(REAL_DATA / "videos" / name)
    joined = segmented(tmp_path / name, 1.0, max_side=64)
    assert joined.count > 3
    assert_equal(joined, one_pass(tmp_path / name, max_side=64))
