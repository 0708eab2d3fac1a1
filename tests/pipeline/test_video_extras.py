"""What travels beside the frames of a video, kept or named, in one pass and in segments that are joined."""

from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.sidedata.sidedata import Type
from job_runner import check_invariants
from media_factory import (
    Sound,
    captioned_video,
    captions,
    decoded,
    hdr_video,
    moving_frames,
    packets,
    times,
    write_video,
)
from planning import units_of

from nst_ops.collection.units import cut_unit
from nst_ops.config import StylizeConfig
from nst_ops.media.video.color import HLG, PQ
from nst_ops.media.video.hdr import Mastering
from nst_ops.pipeline.run_spec import new_run_spec
from nst_ops.pipeline.worker import Worker

NUM_FRAMES = 80  # at 25 a second: with a keyframe every ten frames, three segments of a second
OPTIONS = {"g": "10", "preset": "ultrafast"}
ORIENTATIONS = [(angle, mirrored) for angle in (0, 90, 180, -90) for mirrored in ((False, False), (True, False))]
LOCATION = "+48.8584+002.2945+035.000/"
PHONE_TAGS = {
    "com.apple.quicktime.location.ISO6709": LOCATION,
    "com.apple.quicktime.creationdate": "2024-05-06T07:08:09+0200",
    "com.apple.quicktime.make": "Apple",
    "com.android.version": "14",
    "location": "+48.8584+002.2945/",
    "creation_time": "2024-05-06T05:08:09.000000Z",
    "make": "samsung",
    "model": "SM-S916B",
}


@pytest.fixture(params=["whole", "in segments"])
def stylize(request, tmp_path):
    """Stylize all videos of the folder ``in`` with the identity; return their rows."""

    def run(**video: object) -> dict[str, dict[str, object]]:
        config = StylizeConfig(
            input=str(tmp_path / "in"),
            output=str(tmp_path / "out"),
            model={"kind": "identity"},
            temporal={"mode": "none"},
            video={"preset": "ultrafast", **video},
            units={"segment_s": 1.0 if request.param == "in segments" else 1000.0},
        )
        worker = Worker(new_run_spec(config, config.input))
        for unit in units_of(worker):
            result = worker(unit)
            assert (result.error, result.fatal) == ("", "")
            assert (len(result.segments) >= 3) == (request.param == "in segments")
            for part in cut_unit(unit, result.segments) if result.segments else ():
                done = worker(part)
                assert (done.error, done.fatal) == ("", "")
        return check_invariants(tmp_path / "out")

    (tmp_path / "in").mkdir()
    return run


def stylized(tmp_path: Path, **video: object) -> list[dict[str, object]]:
    """Stylize all videos of the folder ``in`` in one pass with the identity; return their rows."""
    sections = {"model": {"kind": "identity"}, "temporal": {"mode": "none"}, "video": video}
    config = StylizeConfig(input=str(tmp_path / "in"), output=str(tmp_path / "out"), **sections)
    worker = Worker(new_run_spec(config, config.input))
    for unit in units_of(worker):
        assert not worker(unit).error
    return list(check_invariants(tmp_path / "out").values())


def test_every_orientation_is_shown_as_it_was(tmp_path, stylize):
    for number, (angle, mirrored) in enumerate(ORIENTATIONS):
        name = f"{number}{('.mp4', '.mov', '.mkv')[number % 3]}"
        write_video(
            tmp_path / "in" / name,
            moving_frames(NUM_FRAMES, 48, 32),
            options=OPTIONS,
            rotation=angle,
            mirrored=mirrored,
        )
    for name, row in stylize().items():
        assert (row["status"], row["note"]) == ("ok", None)
        ours, theirs = (
            decoded(path / name)[0].side_data.get(Type.DISPLAYMATRIX) for path in (tmp_path / "out", tmp_path / "in")
        )
        assert (ours and bytes(ours)) == (theirs and bytes(theirs)), name


def with_telemetry(path: Path, kind: bytes) -> Path:
    """Write an MP4, whatever it is called, with a data track: one of text, under another name."""
    frames, lines = moving_frames(NUM_FRAMES, 48, 32), [(0.1, 0.4, "DEVC"), (1.5, 1.9, "STRM"), (2.5, 2.9, "GPS5")]
    written = path.with_suffix(".mp4")
    data = write_video(written, frames, options=OPTIONS, subtitles=lines, sounds=[Sound(duration_s=3.0)]).read_bytes()
    written.unlink()
    assert data.count(b"tx3g") == data.count(b"sbtl") == 1
    path.write_bytes(data.replace(b"tx3g", kind).replace(b"sbtl", b"meta"))
    return path


def test_telemetry_is_copied_or_named(tmp_path, stylize):
    for name in ("gopro.mp4", "other.mov"):
        with_telemetry(tmp_path / "in" / name, b"gpmd")
    left_out = {"iphone.mov": b"mebx", "street.mp4": b"camm", "camcorder.mp4": b"rtmd"}
    for name, kind in left_out.items():
        with_telemetry(tmp_path / "in" / name, kind)
    rows = stylize()
    for name in ("gopro.mp4", "other.mov"):
        assert (rows[name]["status"], rows[name]["note"]) == ("ok", None)
        assert b"gpmd" in (tmp_path / "out" / name).read_bytes()
        assert packets(tmp_path / "out" / name, "data") == packets(tmp_path / "in" / name, "data") != []
    for name in left_out:
        assert "data stream 2" in str(rows[name]["note"])
        assert f"does not fit into {name[-3:]}" in str(rows[name]["note"])


def test_a_timecode_is_kept_or_named(tmp_path, stylize):
    for name in ("a.mov", "a.mp4", "a.mkv"):
        tags = {"timecode": "01:02:03:04"}
        write_video(tmp_path / "in" / name, moving_frames(NUM_FRAMES, 48, 32), options=OPTIONS, metadata=tags)
    for name, row in stylize().items():
        assert (row["status"], row["note"]) == ("ok", None)
        with av.open(str(tmp_path / "out" / name)) as output:
            found = [tags.get("timecode") for tags in (output.metadata, output.streams.video[0].metadata)]
            found += [tags.get("TIMECODE") for tags in (output.metadata, output.streams.video[0].metadata)]
            assert "01:02:03:04" in found, name


def test_tags_of_phones_are_kept(tmp_path, stylize):
    flags = {"movflags": "use_metadata_tags"}
    for name in ("a.mov", "a.mp4", "a.mkv"):
        write_video(
            tmp_path / "in" / name,
            moving_frames(NUM_FRAMES, 48, 32),
            options=OPTIONS,
            metadata=PHONE_TAGS,
            container_options={} if name == "a.mkv" else flags,
        )
    for name, row in stylize().items():
        assert (row["status"], row["note"]) == ("ok", None)
        with av.open(str(tmp_path / "out" / name)) as output:
            tags = {key.lower(): value for key, value in output.metadata.items()}
        assert {key: tags.get(key.lower()) for key in PHONE_TAGS} == PHONE_TAGS, name


def test_tags_at_the_streams_of_an_ogg_file_are_kept(tmp_path):
    (tmp_path / "in").mkdir()
    tags = {"title": "A walk", "artist": "Somebody", "date": "2024"}
    frames, options = moving_frames(10, 48, 32), {"codec": "libvpx", "options": {}}
    write_video(tmp_path / "in" / "a.ogv", frames, metadata=tags, sounds=[Sound("libopus")], **options)
    for container in ("mkv", "mp4"):
        sections = {"model": {"kind": "identity"}, "temporal": {"mode": "none"}, "video": {"container": container}}
        config = StylizeConfig(input=str(tmp_path / "in"), output=str(tmp_path / container), **sections)
        worker = Worker(new_run_spec(config, config.input))
        for unit in units_of(worker):
            assert not worker(unit).error
        with av.open(str(tmp_path / container / f"a.ogv.{container}")) as output:
            assert tags.items() <= {key.lower(): value for key, value in output.metadata.items()}.items()


def test_hdr_is_mapped_or_kept(tmp_path, stylize):
    for name, transfer in (("pq.mp4", PQ), ("hlg.mov", HLG)):
        hdr_video(tmp_path / "in" / name, transfer, NUM_FRAMES)
    rows = stylize(hdr="keep", codec="h265")
    for name, transfer in (("pq.mp4", PQ), ("hlg.mov", HLG)):
        assert "8 bits" in str(rows[name]["note"])
        for frame in decoded(tmp_path / "out" / name)[:: NUM_FRAMES - 1]:
            assert (frame.format.name, frame.color_trc) == ("yuv420p10le", transfer)
        assert Mastering.of(decoded(tmp_path / "out" / name)[0]).light_level == (800, 200)


@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_closed_captions_are_kept(tmp_path, stylize, codec):
    source = captioned_video(tmp_path / "in" / "a.mkv", NUM_FRAMES)
    assert stylize(codec=codec)["a.mkv"]["note"] is None
    assert captions(tmp_path / "out" / "a.mkv") == captions(source)


SPHERICAL = (
    bytes.fromhex("ffcc8263f8554a938814587a02521fdd")
    + b"""<?xml version="1.0"?>
<rdf:SphericalVideo xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
 xmlns:GSpherical="http://ns.google.com/videos/1.0/spherical/">
<GSpherical:Spherical>true</GSpherical:Spherical><GSpherical:Stitched>true</GSpherical:Stitched>
<GSpherical:ProjectionType>equirectangular</GSpherical:ProjectionType>
<GSpherical:StitchingSoftware>a camera</GSpherical:StitchingSoftware>
</rdf:SphericalVideo>"""
)


def with_spherical_box(path: Path) -> None:
    """Say in the track of a video, its last, that it shows all around (Google's Spherical Video V1)."""
    data = bytearray(path.read_bytes())
    box = (8 + len(SPHERICAL)).to_bytes(4, "big") + b"uuid" + SPHERICAL
    track, movie = data.rindex(b"trak") - 4, data.rindex(b"moov") - 4
    end = track + int.from_bytes(data[track : track + 4], "big")
    for start in (track, movie):
        data[start : start + 4] = (int.from_bytes(data[start : start + 4], "big") + len(box)).to_bytes(4, "big")
    path.write_bytes(data[:end] + box + data[end:])


def test_spherical_and_stereo_video_is_named(tmp_path, stylize):
    frames = moving_frames(NUM_FRAMES, 64, 48)
    with_spherical_box(write_video(tmp_path / "in" / "around.mp4", frames, options=OPTIONS))
    eyes = {"stereo_mode": "left_right"}
    write_video(tmp_path / "in" / "eyes.mkv", frames, options=OPTIONS, stream_metadata=eyes)
    rows = stylize()
    assert "spherical projection is left out" in str(rows["around.mp4"]["note"])
    assert "stereo 3D arrangement is left out" in str(rows["eyes.mkv"]["note"])


def test_mp3_of_low_rates_stays_in_mp4(tmp_path, stylize):
    for rate in (8000, 11025, 12000):
        sounds = [Sound("libmp3lame", rate=rate, duration_s=3.0)]
        write_video(
            tmp_path / "in" / f"{rate}.mp4",
            moving_frames(NUM_FRAMES, 48, 32),
            options=OPTIONS,
            sounds=sounds,
            container_options={"strict": "unofficial"},
        )
    for name, row in stylize().items():
        assert (row["status"], row["note"], row["audio_codec"]) == ("ok", None, "mp3")
        assert packets(tmp_path / "out" / name, "audio") == packets(tmp_path / "in" / name, "audio")


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv"])
def test_sound_stays_in_step_in_every_container(tmp_path, stylize, container):
    early, late = {"pts": range(10, 10 + NUM_FRAMES)}, {}
    for name, start in (("early.mp4", early), ("late.mp4", late)):  # sound before the first frame, and with it
        write_video(
            tmp_path / "in" / name,
            moving_frames(NUM_FRAMES, 48, 32),
            options=OPTIONS,
            sounds=[Sound(duration_s=4.0)],
            **start,
        )
    for name, row in stylize(container=container).items():
        source, output = tmp_path / "in" / name, Path(str(row["output_uri"]))
        assert times(output) == times(source)
        for ours, theirs in zip(packets(output, "audio")[0], packets(source, "audio")[0], strict=True):
            assert ours.data == theirs.data
            assert ours.pts_s == pytest.approx(theirs.pts_s, abs=0.001)


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv"])
def test_a_clock_that_begins_late_begins_at_zero(tmp_path, stylize, container):
    for name in ("a.mp4", "a.mkv"):
        write_video(
            tmp_path / "in" / name,
            moving_frames(NUM_FRAMES, 48, 32),
            pts=range(90_000, 90_000 + NUM_FRAMES),
            options=OPTIONS,
        )
    for row in stylize(container=container).values():
        assert (row["status"], row["note"], row["num_frames"]) == ("ok", None, NUM_FRAMES)
        assert row["duration_s"] == pytest.approx(NUM_FRAMES / 25)
        assert [round(25 * time, 2) for time in times(Path(str(row["output_uri"])))] == list(range(NUM_FRAMES))


def test_a_frame_rate_that_no_video_has_is_not_stated(tmp_path):
    (tmp_path / "in").mkdir()
    source = write_video(tmp_path / "in" / "a.avi", moving_frames(9, 48, 32), codec="mpeg4")
    data = bytearray(source.read_bytes())
    place = data.index(b"vids") + 20  # scale and rate of its stream
    data[place : place + 8] = (1).to_bytes(4, "little") + (60_000).to_bytes(4, "little")
    source.write_bytes(data)
    (row,) = stylized(tmp_path)
    assert (row["status"], row["num_frames"], row["frame_rate"]) == ("ok", 9, None)


@pytest.mark.parametrize("container", ["mp4", "mkv", "frames"])
def test_a_joined_recording_is_its_parts_in_a_row(tmp_path, container):
    (tmp_path / "in").mkdir()
    frames, parts = moving_frames(12, 48, 32), []
    for start in (0, 180_000):  # two hours later
        parts.append(tmp_path / f"{start}.ts")
        write_video(parts[-1], frames, pts=range(start, start + 12))
    (tmp_path / "in" / "a.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    (row,) = stylized(tmp_path, container=container)
    assert (row["status"], row["num_frames"], row["duration_s"]) == ("ok", 24, pytest.approx(0.96))
    assert "its clock jumps at" in str(row["note"])
    output = Path(str(row["output_uri"]))
    if container == "frames":
        shown = [float(line.split(",")[2]) for line in output.read_text().splitlines()[1:]]
        assert [round(25 * (time - shown[0])) for time in shown] == list(range(24))
    else:
        assert [round(25 * time) for time in times(output)] == list(range(24))


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_a_clock_that_wraps_costs_no_frame(tmp_path, container):
    (tmp_path / "in").mkdir()
    pts = [2**33 - 5 * 3600 + 3600 * number for number in range(12)]
    frames = moving_frames(len(pts), 48, 32)
    source = write_video(tmp_path / "in" / "a.ts", frames, pts=pts, time_base=Fraction(1, 90000))
    assert times(source)[0] < 0  # as FFmpeg reads what is left of the clock's 26 hours
    (row,) = stylized(tmp_path, container=container)
    assert (row["status"], row["num_frames"]) == ("ok", len(pts))
    assert [round(25 * time) for time in times(Path(str(row["output_uri"])))] == list(range(len(pts)))
