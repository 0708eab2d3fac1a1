"""Recordings as they come: with holes of zeros, streams that begin late, and an end that was never written."""

import contextlib
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from media_factory import Sound, moving_frames, packets, times, write_video
from test_clock import moved, recording

from nst_ops.config import VideoConfig
from nst_ops.media.errors import DamagedVideoError
from nst_ops.media.video.container import count_packets, read_header
from nst_ops.media.video.reader import VideoReader
from nst_ops.media.video.structure import broken_at
from nst_ops.media.video.writer import VideoWriter

OPTIONS = {"preset": "ultrafast", "g": "10", "crf": "20"}
MPEG2 = {"g": "10"}
STEP_S, SOUND_STEP_S = 0.04, 1024 / 48000
END_CODE = b"\0\0\1\xb9"


def record(path: Path, num_frames: int = 50, sounds: tuple[Sound, ...] = (), **keywords: object) -> bytes:
    """Write a recording; MPEG-PS, with MPEG-2 and without its end code, or another format with H.264."""
    is_ps = path.suffix in (".mpg", ".vob")
    codec = {"codec": "mpeg2video", "options": MPEG2} if is_ps else {"options": OPTIONS}
    write_video(path, moving_frames(num_frames, 64, 48), sounds=sounds, **{**codec, **keywords})
    return path.read_bytes().removesuffix(END_CODE)


def rewrite(source: Path, keep_damaged: bool = False) -> SimpleNamespace:
    path = source.with_name(f"{source.name} rewritten.mkv")
    config = VideoConfig(crf=30, preset="ultrafast")
    with VideoReader(str(source), keep_damaged=keep_damaged) as reader:
        writer = VideoWriter(str(path), "matroska", reader.info, reader.output_size, str(source), config, reader.span)
        with writer:
            for frame in reader.frames():
                writer.write(frame)
        damaged = reader.num_damaged
    sounds = [[each.pts_s for each in stream] for stream in packets(path, "audio")]
    shown = [float(time) for time in times(path)]
    return SimpleNamespace(
        path=path, times=shown, sounds=sounds, notes=writer.notes, info=reader.info, num_damaged=damaged
    )


@pytest.mark.parametrize(("name", "sound"), [("a.ts", "aac"), ("a.mpg", "mp2")])
def test_sound_that_only_the_middle_has_is_taken_along(tmp_path, name, sound):
    silent = record(tmp_path / f"silent {name}", 400)
    loud = record(tmp_path / f"loud {name}", 50, (Sound(sound, duration_s=2.0),))
    source = tmp_path / name
    source.write_bytes(silent + loud + silent)
    after = rewrite(source)
    assert len(after.times) == 850
    assert max(np.diff(after.times)) < 0.07
    (heard,) = after.sounds
    assert heard[0] == pytest.approx(16, abs=0.1)
    assert heard[-1] == pytest.approx(18, abs=0.1)
    assert len(after.notes) == 1
    assert after.notes[0].startswith("its clock jumps at 2 places")


def test_a_stream_beyond_the_far_look_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("nst_ops.media.video.container._LOOK_FAR", {})
    silent = record(tmp_path / "silent.ts", 400)
    loud = record(tmp_path / "loud.ts", 50, (Sound(duration_s=2.0),))
    source = tmp_path / "a.ts"
    source.write_bytes(silent + loud + silent)
    after = rewrite(source)
    assert len(after.times) == count_packets(str(source)) == 850
    assert after.sounds == []
    assert "a stream that begins late in it is left out" in after.notes


def test_zeros_between_packets_end_no_transport_stream(tmp_path):
    data = record(tmp_path / "a.ts", 50, (Sound(duration_s=2.0),))
    half = len(data) // 2 // 188 * 188
    zeros = bytes(300_000)
    for number, parts in enumerate(((data[:half], zeros, data[half:]), (data, zeros), (zeros, data))):
        source = tmp_path / f"{number}.ts"
        source.write_bytes(b"".join(parts))
        after = rewrite(source)
        assert len(after.times) == count_packets(str(source)) == 50
        assert len(after.sounds[0]) == len(packets(tmp_path / "a.ts", "audio")[0])
        assert (after.notes, after.num_damaged) == ([], 0)
        assert after.info.duration_s == pytest.approx(2.0, abs=0.001)


def test_the_frames_that_a_decoder_holds_are_kept(tmp_path):
    options = {"preset": "medium", "g": "12", "crf": "20"}
    frames = [np.roll(image, 7 * n, 1) for n, image in enumerate(moving_frames(60, 160, 120))]
    sound = Sound(duration_s=2.4, rate=44100)
    data = write_video(tmp_path / "a.flv", frames, options=options, sounds=[sound]).read_bytes()
    source = tmp_path / "cut.flv"
    for share in (0.41, 0.62, 0.74, 0.87):
        source.write_bytes(data[: int(len(data) * share)])
        with VideoReader(str(source), keep_damaged=True) as reader:
            assert sum(1 for _ in reader.frames()) == num_decodable(source) > 10


def num_decodable(path: Path) -> int:
    """Frames that FFmpeg decodes one after the other, those before damage included."""
    with av.open(str(path)) as container:
        stream, count = container.streams.video[0], 0
        stream.thread_type = "NONE"
        for packet in container.demux(stream):
            with contextlib.suppress(av.FFmpegError):
                count += len(packet.decode())
        return count


@pytest.mark.parametrize("kind", [8, 9])
def test_a_flash_video_cut_inside_any_tag_is_cut_off(tmp_path, kind):
    data = record(tmp_path / "a.flv", 50, (Sound(duration_s=2.0, rate=44100),))
    place, tags = 13, []
    while place + 11 <= len(data):
        tags.append((data[place], place))
        place += 15 + int.from_bytes(data[place + 1 : place + 4])
    start = [place for tag, place in tags if tag == kind][-5]
    source = tmp_path / "cut.flv"
    for num_bytes in (4, 14, 20):
        source.write_bytes(data[: start + num_bytes])
        with pytest.raises(DamagedVideoError, match="cut off"):
            VideoReader(str(source))
    for num_missing in (0, 4):  # some writers leave out the last four bytes
        source.write_bytes(data[: len(data) - num_missing])
        assert broken_at(str(source), "flv") is None
        assert rewrite(source).notes == []


def test_a_flash_video_that_ends_between_tags_is_cut_off(tmp_path):
    data = record(tmp_path / "a.flv", 100, (Sound(duration_s=4.0, rate=44100),))
    place = 13
    while place < len(data) * 0.6:
        place += 15 + int.from_bytes(data[place + 1 : place + 4])
    source = tmp_path / "cut.flv"
    source.write_bytes(data[:place])
    with pytest.raises(DamagedVideoError, match=r"cut off: its header says 4\.\d\d s, the file ends after"):
        VideoReader(str(source))
    assert any(note.startswith("cut off") for note in rewrite(source, keep_damaged=True).notes)


def test_a_live_matroska_cut_inside_an_element_is_cut_off(tmp_path):
    muxer = {"live": "1", "cluster_time_limit": "400"}
    data = record(tmp_path / "a.mkv", 50, (Sound(duration_s=2.0),), container_options=muxer)
    with av.open(str(tmp_path / "a.mkv")) as container:
        places = [packet.pos for packet in container.demux() if packet.size]
    assert broken_at(str(tmp_path / "a.mkv"), "matroska") is None
    assert rewrite(tmp_path / "a.mkv").info.duration_s == pytest.approx(2, abs=0.001)
    source = tmp_path / "cut.mkv"
    for place in places[-20:-10]:
        for num_bytes in (1, 3, 10, 30):
            source.write_bytes(data[: place + num_bytes])
            assert broken_at(str(source), "matroska") > place + num_bytes
    with pytest.raises(DamagedVideoError, match="cut off"):
        VideoReader(str(source))
    assert 30 < len(rewrite(source, keep_damaged=True).times) < 50


def test_a_clock_that_wraps_after_the_first_sound_begins_at_zero(tmp_path):
    plain = tmp_path / "plain.mov"
    record(plain, 50, (Sound(duration_s=2.0),))
    source = moved(plain, tmp_path / "a.ts", 2**33 / 90000 + 1, 2**33 / 90000 - 1)
    after = rewrite(source)
    assert after.sounds[0][0] == pytest.approx(0, abs=0.002)
    assert after.times[0] == pytest.approx(2, abs=0.002)


def test_the_length_of_a_program_stream_is_that_of_its_frames(tmp_path):
    for name, num_frames in (("a.vob", 25), ("a.mpg", 60), ("a.ts", 40)):
        record(tmp_path / name, num_frames, (Sound("mp2", duration_s=3.0),))
        with VideoReader(str(tmp_path / name)) as reader:
            assert reader.info.duration_s == pytest.approx(num_frames / 25, abs=0.001)


@pytest.mark.parametrize(("name", "sound"), [("a.ts", "aac"), ("a.mpg", "mp2"), ("a.vob", "ac3")])
def test_sound_that_begins_late_is_copied(tmp_path, name, sound):
    plain = tmp_path / "plain.mkv"
    codec = {"codec": "mpeg2video", "options": MPEG2}
    record(plain, 400, (Sound(sound, duration_s=4.0),), **codec)
    source = moved(plain, tmp_path / name, 0, 12)
    after = rewrite(source)
    assert after.notes == []
    assert after.sounds[0][0] - after.times[0] == pytest.approx(12, abs=0.1)
    assert len(after.sounds[0]) == len(packets(source, "audio")[0])


def test_the_plan_does_not_believe_a_clock_that_jumps(tmp_path):
    part = record(tmp_path / "part.ts", 50)
    late = recording(tmp_path / "late.ts", 80000).read_bytes()
    (tmp_path / "a.ts").write_bytes(part + late)
    assert read_header(str(tmp_path / "a.ts")).num_frames < 3000
    assert read_header(str(tmp_path / "part.ts")).num_frames == pytest.approx(50, abs=1)


def test_frames_of_another_size_are_scaled_with_a_note(tmp_path):
    (tmp_path / "a.ts").write_bytes(record(tmp_path / "b.ts", 20))
    write_video(tmp_path / "c.ts", moving_frames(20, 96, 80), options=OPTIONS)
    source = tmp_path / "d.ts"
    source.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "c.ts").read_bytes())
    with VideoReader(str(source)) as reader:
        assert {frame.rgb_hwc.shape for frame in reader.frames()} == {(48, 64, 3)}
        assert reader.changes == ["the size of its frames changes from 64x48 to 96x80 at 0.80 s: they are scaled"]


def test_a_codec_that_changes_is_named(tmp_path):
    source = tmp_path / "a.ts"
    first = record(tmp_path / "first.ts", 50, (Sound(duration_s=2.0),))
    second = record(tmp_path / "second.ts", 30, codec="mpeg2video", options=MPEG2)
    for data, change in ((first + second, "from h264 to mpeg2video"), (second + first, "from mpeg2video to h264")):
        source.write_bytes(data)
        with pytest.raises(DamagedVideoError, match=f"the codec of its video changes {change}; cut it there"):
            VideoReader(str(source))
        after = rewrite(source, keep_damaged=True)
        whole = 50 if data.startswith(first) else 30
        assert whole - 1 <= len(after.times) <= whole
        assert any(change in note for note in after.notes)
