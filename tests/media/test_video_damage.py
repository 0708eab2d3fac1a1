"""Cut-off and damaged videos: where the damage is, and what is left of them."""

from pathlib import Path

import av
import pytest
from media_factory import Sound, decoded, moving_frames, write_video

from nst_ops.media.errors import DamagedVideoError, MediaError
from nst_ops.media.video.reader import VideoReader
from nst_ops.media.video.segments import read_index
from nst_ops.media.video.structure import broken_at

FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
OPTIONS = {"preset": "ultrafast", "g": "10", "crf": "20"}
NUM_FRAMES = 50


@pytest.fixture(scope="module")
def fragmented(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("fragmented") / "a.mp4"
    frames, sound = moving_frames(NUM_FRAMES, 96, 64), [Sound(duration_s=2.0)]
    return write_video(path, frames, options=OPTIONS, sounds=sound, container_options=FRAGMENTED)


def boxes(data: bytes) -> list[tuple[bytes, int, int]]:
    """Kind, start and end of the outermost boxes."""
    found, start = [], 0
    while start < len(data):
        end = start + int.from_bytes(data[start : start + 4], "big")
        found.append((data[start + 4 : start + 8], start, end))
        start = end
    return found


def num_frames(path: Path, keep_damaged: bool = False) -> int:
    with VideoReader(str(path), keep_damaged=keep_damaged) as reader:
        return sum(1 for _ in reader.frames())


def test_a_whole_fragmented_video_is_read(tmp_path, fragmented):
    assert num_frames(fragmented) == NUM_FRAMES
    for garbage in (b"\0" * 5000, b"\xff" * 5000):  # a download manager's padding, and anything else
        (tmp_path / "a.mp4").write_bytes(fragmented.read_bytes() + garbage)
        assert num_frames(tmp_path / "a.mp4") == NUM_FRAMES


def test_a_cut_off_fragment_is_found_wherever_it_is_cut(tmp_path, fragmented):
    data, path = fragmented.read_bytes(), tmp_path / "a.mp4"
    kind, start, end = [box for box in boxes(data) if box[0] in (b"moof", b"mdat")][-2]
    assert kind == b"moof"
    mdat_end = boxes(data)[-2][2] if boxes(data)[-1][0] == b"mfra" else len(data)
    for cut in (start + 4, start + 8, start + 100, end, end + 3, end + 8, end + 50, mdat_end - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(DamagedVideoError, match=r"cut off: .*video\.keep_damaged"):
            VideoReader(str(path))
        assert read_index(str(path)).problem == "its last fragment is cut off"
        with VideoReader(str(path), keep_damaged=True) as reader:
            assert any(note.startswith("cut off") for note in reader.info.notes), cut
            assert 40 <= sum(1 for _ in reader.frames()) <= NUM_FRAMES


def test_a_fragment_that_is_missing_whole_leaves_a_shorter_video(tmp_path, fragmented):
    data = fragmented.read_bytes()
    start = [start for kind, start, _ in boxes(data) if kind == b"moof"][-1]
    (tmp_path / "a.mp4").write_bytes(data[:start])
    assert num_frames(tmp_path / "a.mp4") == 40


def damaged(source: Path, path: Path, numbers: range) -> Path:
    """Overwrite packets of a video, counted in the order of the file."""
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        found = [packet for packet in container.demux(video=0) if packet.size]
    for number in numbers:
        packet = bytes(found[number])
        start = data.index(packet)
        data[start : start + len(packet)] = b"\xff" * len(packet)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("b_frames", ["0", "3"])
def test_damage_at_the_very_end_is_told_from_damage_inside(tmp_path, name, b_frames):
    options = {"preset": "medium", "g": "15", "bf": b_frames, "b_strategy": "0", "crf": "20"}
    source = write_video(tmp_path / name, moving_frames(NUM_FRAMES, 96, 64), options=options)
    last = range(NUM_FRAMES - 2, NUM_FRAMES)
    for numbers, words, at_end in ((range(20, 23), "damaged after frame", False), (last, "at its very end", True)):
        path = damaged(source, tmp_path / f"damaged {name}", numbers)
        with pytest.raises(DamagedVideoError, match=words) as caught:
            num_frames(path)
        assert ("very end" in str(caught.value)) == at_end
        with VideoReader(str(path), keep_damaged=True) as reader:
            assert NUM_FRAMES - 30 <= sum(1 for _ in reader.frames()) < NUM_FRAMES + 1
            assert reader.num_damaged
            assert reader.ends_damaged == at_end


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.flv"])
def test_packets_that_are_lost_inside_are_missed(tmp_path, name):
    codec = {".webm": "libvpx", ".flv": "flv"}.get(name[1:], "libx264")
    options = OPTIONS if codec == "libx264" else {}
    sound = Sound("libopus" if name == "a.webm" else "libmp3lame", rate=48000 if name == "a.webm" else 44100)
    source = write_video(
        tmp_path / name, moving_frames(NUM_FRAMES, 96, 64), codec=codec, options=options, sounds=[sound]
    )
    assert num_frames(source) == NUM_FRAMES
    assert broken_at(str(source), "matroska,webm" if name != "a.flv" else "flv") is None
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][20]
    data[packet.pos : packet.pos + 16] = b"\xff" * 16  # the head that says how long it is
    path = tmp_path / f"damaged {name}"
    path.write_bytes(data)
    with pytest.raises(DamagedVideoError, match=r"damaged at byte .*video\.keep_damaged"):
        VideoReader(str(path))
    with VideoReader(str(path), keep_damaged=True) as reader:
        assert reader.info.notes[0].startswith("damaged at byte")
        assert 10 < sum(1 for _ in reader.frames()) < NUM_FRAMES


WRITTEN_WITH = {
    # extension: encoder of the frames, of the sound, options of the muxer, FFmpeg's name of the format, a packet's head
    "avi": ("mpeg4", "libmp3lame", {}, "avi", b"00dc"),
    "wmv": ("wmv2", "libmp3lame", {"packet_size": "800"}, "asf", b"\x82\0\0"),
    "ogv": ("libvpx", "libopus", {"page_duration": "100000"}, "ogg", b"OggS"),
    "mxf": ("mpeg2video", "pcm_s16le", {}, "mxf", b"\x06\x0e\x2b\x34"),
}


@pytest.mark.parametrize("extension", WRITTEN_WITH)
def test_holes_and_cuts_are_found_in_other_containers(tmp_path, extension):
    codec, sound, muxer, container, head = WRITTEN_WITH[extension]
    source = write_video(
        tmp_path / f"a.{extension}",
        moving_frames(NUM_FRAMES, 96, 64),
        codec=codec,
        pix_fmt="yuv422p" if extension == "mxf" else "yuv420p",
        options={},
        sounds=[Sound(sound, duration_s=2.0)],
        container_options=muxer,
    )
    assert num_frames(source) == NUM_FRAMES
    assert broken_at(str(source), container) is None
    data, path = source.read_bytes(), tmp_path / f"damaged.{extension}"
    place = data.index(head, len(data) // 2)
    damages = {"damaged at byte": data[:place] + b"\xff" * 8 + data[place + 8 :], "cut off": data[: place - 20]}
    for fault, left in damages.items():
        path.write_bytes(left)
        with pytest.raises(DamagedVideoError, match=rf"{fault}.*video\.keep_damaged"):
            num_frames(path)
        with VideoReader(str(path), keep_damaged=True) as reader:
            assert any(note.startswith(fault) for note in reader.info.notes)
            assert 5 < sum(1 for _ in reader.frames()) <= NUM_FRAMES


def test_a_fragment_that_is_overwritten_is_missed(tmp_path, fragmented):
    start = [start for kind, start, _ in boxes(fragmented.read_bytes()) if kind == b"moof"][1]
    for first, last in ((start, start + 24), (start + 4, start + 8)):
        data = bytearray(fragmented.read_bytes())
        data[first:last] = b"\xff" * (last - first)
        (tmp_path / "a.mp4").write_bytes(data)
        with pytest.raises(DamagedVideoError, match="damaged at byte"):
            VideoReader(str(tmp_path / "a.mp4"))
        assert read_index(str(tmp_path / "a.mp4")).problem == "fragments are missing"


def test_a_live_recording_and_other_elements_are_no_damage(tmp_path):
    frames = moving_frames(NUM_FRAMES, 96, 64)
    live = write_video(tmp_path / "a.mkv", frames, options=OPTIONS, container_options={"live": "1"})
    whole = write_video(tmp_path / "b.mkv", frames, options=OPTIONS, chapters=[(0, 900, "one")], language="eng")
    flash = write_video(tmp_path / "c.flv", frames, codec="flv", options={})
    for path in (live, whole, flash):
        path.write_bytes(path.read_bytes() + b"\x5a\x00\x08" * 999)
        assert broken_at(str(path), path.suffix.replace("mkv", "matroska")) is None, path
        assert num_frames(path) == NUM_FRAMES
    for cut in range(0, whole.stat().st_size, 997):
        (tmp_path / "cut.mkv").write_bytes(whole.read_bytes()[:cut])
        assert broken_at(str(tmp_path / "cut.mkv"), "matroska") is None


def test_a_transport_stream_cut_inside_a_frame_is_damaged_at_its_end(tmp_path):
    source = write_video(tmp_path / "a.ts", moving_frames(NUM_FRAMES, 192, 128), options={**OPTIONS, "crf": "1"})
    data = source.read_bytes()
    with av.open(str(source)) as container:
        last = [packet for packet in container.demux(video=0) if packet.size][-1]
    cut = tmp_path / "cut.ts"
    cut.write_bytes(data[: last.pos + 188 * (last.size // 188 // 2)])
    with pytest.raises(DamagedVideoError, match="at its very end"):
        num_frames(cut)


def test_a_video_without_its_table_is_refused(tmp_path):
    data = write_video(tmp_path / "a.mp4", moving_frames(5, 96, 64)).read_bytes()
    for end in (data.rindex(b"moov") - 4, len(data) // 3):
        (tmp_path / "b.mp4").write_bytes(data[:end])
        with pytest.raises(MediaError, match=r"does not open .* not finished, its index \(moov\) is missing"):
            VideoReader(str(tmp_path / "b.mp4"))


def test_trailing_garbage_and_a_missing_index_cost_no_frame(tmp_path):
    frames = moving_frames(12, 96, 64)
    mp4 = write_video(tmp_path / "a.mp4", frames)
    mp4.write_bytes(mp4.read_bytes() + b"\x5a" * 4097)
    assert num_frames(mp4) == 12
    avi = write_video(tmp_path / "a.avi", frames, codec="mpeg4", options={})
    data = avi.read_bytes()
    index = data.rindex(b"idx1")
    avi.write_bytes(data[: index + 8] + bytes(len(data) - index - 8))
    assert num_frames(avi) == len(decoded(avi)) == 12
