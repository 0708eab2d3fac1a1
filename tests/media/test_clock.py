"""Clocks that begin late begin at 0 in the output, and of clocks that jump it is the parts in a row."""

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from media_factory import Sound, moving_frames, packets, times, write_video

from nst_ops.config import VideoConfig
from nst_ops.media.video.clock import read_clock
from nst_ops.media.video.join import join_segments
from nst_ops.media.video.reader import VideoReader
from nst_ops.media.video.segments import Selection, cut_segments, read_index
from nst_ops.media.video.writer import VideoWriter

HOUR_S = 3600
COPY = {"mpegts_copyts": "1"}
ADTS_BYTES = 7  # before each packet of AAC in MPEG-TS
STEP_S, SOUND_STEP_S = 0.04, 1024 / 48000
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof+frag_discont"}


def recording(
    path: Path, start_s: float, num_frames: int = 50, sound_start_s: float | None = None, **options: object
) -> Path:
    """Write a recording with sound whose clocks begin at ``start_s``."""
    plain = write_video(
        path.with_name(f"plain {path.stem}.mov"),
        moving_frames(num_frames, 64, 48),
        options={"preset": "ultrafast", "g": "10", "crf": "20", **options},
        sounds=[Sound(duration_s=num_frames / 25)],
    )
    return moved(plain, path, start_s, start_s if sound_start_s is None else sound_start_s)


def moved(source: Path, path: Path, start_s: float, sound_start_s: float) -> Path:
    """Copy packets, the earliest of each stream of which comes at a time."""
    options = {".mp4": FRAGMENTED, ".ts": COPY}.get(path.suffix, {})
    with av.open(str(source)) as a, av.open(str(path), "w", options={**options, "avoid_negative_ts": "disabled"}) as b:
        copies = {stream.index: b.add_stream_from_template(stream) for stream in a.streams}
        found = [packet for packet in a.demux() if packet.size]
        for packet in found:
            own = [each for each in found if each.stream.index == packet.stream.index]
            packet.opaque = min(each.pts for each in own)
        for packet in found:
            begin_s = start_s if packet.stream.type == "video" else sound_start_s
            ticks = round(Fraction(begin_s) / packet.time_base) - packet.opaque
            packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
            packet.stream = copies[packet.stream.index]
            b.mux(packet)
    return path


def joined(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def rewrite(source: Path, container: str = "matroska", selection: Selection | None = None) -> SimpleNamespace:
    path = source.with_name(f"{source.name} rewritten.{container.replace('matroska', 'mkv')}")
    config = VideoConfig(crf=30, preset="ultrafast")
    with VideoReader(str(source), selection=selection or Selection()) as reader:
        writer = VideoWriter(str(path), container, reader.info, reader.output_size, str(source), config, reader.span)
        with writer:
            for frame in reader.frames():
                writer.write(frame)
    (sound,) = packets(path, "audio")
    shown = [float(time) for time in times(path)]
    return SimpleNamespace(
        path=path, times=shown, sound=[each.pts_s for each in sound], notes=writer.notes, info=reader.info, data=sound
    )


def starts(path: Path) -> tuple[Fraction, float]:
    """First time of the video and of the sound, in seconds."""
    return times(path)[0], packets(path, "audio")[0][0].pts_s


@pytest.mark.parametrize("container", ["matroska", "mp4", "mov"])
@pytest.mark.parametrize("name", ["a.ts", "a.mkv", "a.mp4"])
@pytest.mark.parametrize("sound_late_s", [-0.12, 0.0, 0.12])
def test_a_clock_that_begins_late_begins_at_zero(tmp_path, name, container, sound_late_s):
    source = recording(tmp_path / name, HOUR_S, sound_start_s=HOUR_S + sound_late_s)
    start, sound_start = starts(source)
    assert start == pytest.approx(HOUR_S, abs=0.01)
    assert sound_start - float(start) == pytest.approx(sound_late_s, abs=0.01)
    after = rewrite(source, container)
    assert after.info.duration_s == pytest.approx(2.1, abs=0.15)
    begin = min(float(start), sound_start)
    assert after.times[0] == pytest.approx(float(start) - begin, abs=0.0011)
    assert after.sound[0] == pytest.approx(sound_start - begin, abs=0.0011)
    assert np.allclose(np.diff(after.times), STEP_S, atol=0.0011)
    assert after.notes == []
    with av.open(str(after.path)) as written:
        assert written.duration / av.time_base == pytest.approx(2.1, abs=0.15)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_segments_of_a_late_clock_are_the_whole(tmp_path, name):
    source = recording(tmp_path / name, HOUR_S, sound_start_s=HOUR_S - 0.12)
    whole = rewrite(source)
    segments = cut_segments(read_index(str(source)), 0.8, 2, Selection())
    assert len(segments) > 1
    parts = []
    for segment in segments:
        with VideoReader(str(source), segment=segment, tail=2) as reader:
            parts.append(str(tmp_path / f"{segment.number}.mp4"))
            config = VideoConfig(crf=30, preset="ultrafast")
            with VideoWriter(parts[-1], "mp4", reader.info, reader.output_size, None, config) as writer:
                for frame in reader.frames():
                    if segment.holds(frame.pts):
                        writer.write(frame)
    path = tmp_path / "joined.mkv"
    with VideoReader(str(source)) as reader:
        join_segments(parts, str(path), "matroska", reader.info, str(source), reader.span)
    assert [float(time) for time in times(path)] == whole.times
    assert packets(path, "audio")[0] == whole.data


def test_a_part_of_a_late_clock_begins_at_zero(tmp_path):
    source = recording(tmp_path / "a.ts", HOUR_S)
    after = rewrite(source, selection=Selection(0.4, 0.8))
    assert after.times == pytest.approx([n * STEP_S for n in range(20)], abs=0.0011)
    assert 0 <= after.sound[0] < 0.03


JUMPS_S = {
    "two hours on": 7200,
    "eleven seconds on": 13,
    "an hour back": -3000,
    "half a second back": 1.5,
    "two frames back": 1.9,
}


@pytest.mark.parametrize("container", ["matroska", "mp4"])
@pytest.mark.parametrize("b_frames", ["0", "2"])
@pytest.mark.parametrize("jump", JUMPS_S)
def test_a_joined_recording_is_its_parts_in_a_row(tmp_path, container, b_frames, jump):
    options = {"preset": "medium", "bf": b_frames, "b_strategy": "0"}
    parts = [recording(tmp_path / f"{n}.ts", 5000 + n * JUMPS_S[jump], **options) for n in range(2)]
    after = rewrite(joined(tmp_path / "both.ts", *parts), container)
    assert len(after.times) == 100
    assert np.allclose(np.diff(after.times), STEP_S, atol=0.0011)
    first, second = ([each.data[ADTS_BYTES:] for each in packets(part, "audio")[0]] for part in parts)
    assert [each.data for each in after.data] == first[:-1] + second  # the last of the first lies over the second
    assert after.sound[len(first) - 1] - after.times[50] == pytest.approx(0, abs=SOUND_STEP_S)
    assert np.allclose(np.diff(after.sound), SOUND_STEP_S, atol=0.03)
    assert min(np.diff(after.sound)) > SOUND_STEP_S / 2
    assert after.info.duration_s == pytest.approx(4.0, abs=0.01)
    assert after.notes == ["its clock jumps at 2.00 s: what follows goes on from there"]


def test_sound_stays_in_step_over_many_jumps(tmp_path):
    parts = [recording(tmp_path / f"{n}.ts", 100 + 977 * (n * 7 % 12), num_frames=20) for n in range(12)]
    after = rewrite(joined(tmp_path / "all.ts", *parts))
    assert np.diff(after.times).max() < 0.15
    own = [(float(start), sound) for start, sound in map(starts, parts)]
    first_packets = [packets(part, "audio")[0][0].data[ADTS_BYTES:] for part in parts]
    assert len(set(first_packets)) == 1
    begins = [number for number, each in enumerate(after.data) if each.data == first_packets[0]]
    assert len(begins) == len(parts)
    for number, begin in enumerate(begins):
        late = after.sound[begin] - after.times[20 * number] - (own[number][1] - own[number][0])
        assert -0.002 <= late <= SOUND_STEP_S


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_a_long_gap_is_kept_where_clocks_do_not_jump(tmp_path, name):
    pts = [*range(25), *range(25 + 500, 50 + 500)]
    source = write_video(tmp_path / name, moving_frames(50, 64, 48), pts=pts, sounds=[Sound(duration_s=22)])
    assert read_clock(str(source)).jumps_s == ()
    after = rewrite(source)
    assert max(np.diff(after.times)) == pytest.approx(501 * STEP_S, abs=0.002)
    assert after.notes == []


def test_video_that_rests_beside_its_sound_is_no_jump(tmp_path):
    pts = [*range(25), *range(25 + 500, 50 + 500)]
    plain = write_video(tmp_path / "a.mov", moving_frames(50, 64, 48), pts=pts, sounds=[Sound(duration_s=22)])
    after = rewrite(moved(plain, tmp_path / "a.ts", 1, 1))
    assert max(np.diff(after.times)) == pytest.approx(501 * STEP_S, abs=0.002)
    assert after.notes == []


def test_a_splice_leaves_each_stream_in_its_own_part(tmp_path):
    """A multiplexer sends video ahead of its sound: that of the part before comes behind the jump."""
    data = [recording(tmp_path / f"{n}.ts", 100 + 9000 * n).read_bytes() for n in range(2)]
    before, behind = ([each[at : at + 188] for at in range(0, len(each), 188)] for each in data)

    def is_sound(packet: bytes) -> bool:
        return int.from_bytes(packet[1:3]) & 0x1FFF == 0x101

    late = [number for number, packet in enumerate(before) if is_sound(packet)][-12:]
    first = [is_sound(packet) for packet in behind].index(True)
    assert first > 3
    tail = [before[number] for number in late]
    rest = [packet for number, packet in enumerate(before) if number not in late]
    (tmp_path / "a.ts").write_bytes(b"".join([*rest, *behind[:first], *tail, *behind[first:]]))
    source = tmp_path / "a.ts"
    after = rewrite(source)
    assert np.allclose(np.diff(after.times), STEP_S, atol=0.0011)
    assert np.allclose(np.diff(after.sound), SOUND_STEP_S, atol=0.03)
    assert len(after.times) == 100


def test_a_joined_program_stream_goes_on(tmp_path):
    frames, sounds = moving_frames(50, 64, 48), [Sound("mp2", duration_s=2)]
    part = write_video(tmp_path / "a.mpg", frames, codec="mpeg2video", options={"g": "10", "bf": "2"}, sounds=sounds)
    after = rewrite(joined(tmp_path / "both.mpg", part, part))
    assert len(after.times) == 100
    assert np.allclose(np.diff(after.times), STEP_S, atol=0.0011)


def test_subtitles_and_chapters_follow_a_clock_that_begins_late(tmp_path):
    source = write_video(
        tmp_path / "a.mkv",
        moving_frames(50, 64, 48),
        pts=range(HOUR_S * 25, HOUR_S * 25 + 50),
        subtitles=[(HOUR_S + 0.4, HOUR_S + 0.8, "one")],
        chapters=[(HOUR_S * 1000, HOUR_S * 1000 + 800, "first"), (HOUR_S * 1000 + 800, HOUR_S * 1000 + 2000, "second")],
    )
    with VideoReader(str(source)) as reader:
        path = tmp_path / "b.mkv"
        writer = VideoWriter(
            str(path), "matroska", reader.info, reader.output_size, str(source), VideoConfig(), reader.span
        )
        with writer:
            for frame in reader.frames():
                writer.write(frame)
    assert times(path)[0] == 0
    assert packets(path, "subtitle")[0][0].pts_s == pytest.approx(0.4)
    with av.open(str(path)) as written:
        assert [chapter["start"] * chapter["time_base"] for chapter in written.chapters()] == [0, Fraction(4, 5)]


def test_a_matroska_whose_clock_begins_anew_goes_on(tmp_path):
    source = write_video(
        tmp_path / "a.mkv",
        moving_frames(60, 64, 48),
        options={"preset": "ultrafast", "g": "10"},
        sounds=[Sound(duration_s=2.4)],
        container_options={"cluster_time_limit": "400"},
    )
    data = bytearray(source.read_bytes())
    for place in [at for at in range(len(data)) if data[at : at + 4] == b"\x1f\x43\xb6\x75"][3:]:
        at = data.index(b"\xe7\x82", place) + 2
        data[at : at + 2] = (int.from_bytes(data[at : at + 2], "big") - 1100).to_bytes(2, "big")
    source.write_bytes(data)
    after = rewrite(source)
    assert np.allclose(np.diff(after.times), STEP_S, atol=0.003)
    assert np.allclose(np.diff(after.sound), SOUND_STEP_S, atol=0.03)
    assert len(after.notes) == 1


@pytest.mark.parametrize(
    ("name", "codec", "sound"),
    [("a.ts", "libx264", "aac"), ("a.mpg", "mpeg2video", "mp2"), ("a.ogv", "libvpx", "libopus")],
)
def test_a_whole_recording_has_no_jump(tmp_path, name, codec, sound):
    options = {"g": "10"} | ({"bf": "2"} if codec != "libvpx" else {})
    frames = moving_frames(50, 64, 48)
    source = write_video(tmp_path / name, frames, codec=codec, options=options, sounds=[Sound(sound)])
    assert read_clock(str(source)).jumps_s == ()
