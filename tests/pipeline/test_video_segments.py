"""A long video in segments: the same video as in one pass, whatever fails in between."""

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from job_runner import check_invariants, visible_files
from media_factory import Sound, moving_frames, psnr, write_video
from planning import units_of

from nst_ops.collection.constants import SEGMENTS
from nst_ops.collection.units import WorkUnit, cut_unit
from nst_ops.config import ConfigError, StylizeConfig
from nst_ops.media.video.reader import VideoReader
from nst_ops.media.video.segments import Segment, cut_segments, read_index
from nst_ops.pipeline.run_spec import new_run_spec
from nst_ops.pipeline.video_segments import find_segments, unfinished
from nst_ops.pipeline.worker import Worker
from nst_ops.storage import StorageFullError

LOSSLESS = {"crf": 0, "preset": "ultrafast"}
NUM_FRAMES = 90


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A video with sound and a keyframe every ten frames."""
    (tmp_path / "in").mkdir()
    options = {"g": "10", "preset": "veryfast"}
    video = tmp_path / "in" / "video.mp4"
    write_video(video, moving_frames(NUM_FRAMES, 64, 48), options=options, sounds=[Sound(duration_s=4.0)])
    return tmp_path / "in"


def make_worker(source: Path, output: Path, network: Path, **sections: object) -> Worker:
    model = {"checkpoint": str(network), "device": "cpu", "batch_size": 4}
    config = StylizeConfig(input=str(source), output=str(output), **{"model": model, "video": LOSSLESS, **sections})
    return Worker(new_run_spec(config, config.input))


def video_unit(worker: Worker) -> WorkUnit:
    (unit,) = units_of(worker)
    return unit


def cut(worker: Worker, target_s: float) -> list[WorkUnit]:
    unit = video_unit(worker)
    index = read_index(f"{worker.config.input}/{unit.items[0]['relpath']}")
    lead = worker.new_smoother().lead
    return cut_unit(unit, cut_segments(index, target_s, lead, worker.selection))


def find(source: Path, output: Path, **sections: object) -> dict[str, tuple[Segment, ...]]:
    """The segments of every video of a folder, by path."""
    sections = {"units": {"segment_s": 1.0}, "model": {"kind": "identity"}, **sections}
    config = StylizeConfig(input=str(source), output=str(output), **sections)
    worker = Worker(new_run_spec(config, config.input))
    items = [unit.items[0] for unit in units_of(worker)]
    return {item["relpath"]: find_segments(worker, item) for item in items}


def without_pixels(video: Path) -> None:
    """Leave the index of a video and the head of each NAL unit, and overwrite what is coded in it."""
    data = bytearray(video.read_bytes())
    start = data.index(b"mdat") + 4
    end = start + int.from_bytes(data[start - 8 : start - 4], "big") - 8
    while start < end:
        length = int.from_bytes(data[start : start + 4], "big")
        body = slice(start + 4 + 16, start + 4 + length)
        data[body] = bytes(len(data[body]))
        start += 4 + length
    video.write_bytes(data)


def stylize(worker: Worker, units: list[WorkUnit]) -> None:
    for unit in units:
        result = worker(unit)
        assert not result.fatal
        assert not result.error


def contents(path: Path) -> tuple[np.ndarray, list[tuple[float, float]], list[tuple[float, bytes]]]:
    """Pictures, their times and durations, and the packets of the sound."""
    with av.open(str(path)) as video:
        frames = list(video.decode(video=0))
        times = [(float(frame.pts * frame.time_base), float(frame.duration * frame.time_base)) for frame in frames]
        stacked = np.stack([frame.to_ndarray() for frame in frames])
    with av.open(str(path)) as video:
        packets = [packet for packet in video.demux(audio=0) if packet.size] if video.streams.audio else []
        return stacked, times, [(float(packet.pts * packet.time_base), bytes(packet)) for packet in packets]


def test_a_video_is_cut_without_decoding_it(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    long, short = source / "long.mp4", source / "short.mp4"
    write_video(long, moving_frames(100, 64, 48), options={"g": "5", "preset": "ultrafast"})
    write_video(short, moving_frames(30, 64, 48), options={"g": "5", "preset": "ultrafast"})
    without_pixels(long)
    with VideoReader(str(long)) as reader:
        assert psnr(next(reader.frames()).rgb_hwc, moving_frames(1, 64, 48)[0]) < 15
    os.link(long, source / "long too.mp4")
    (source / "text.mp4").write_text("no video")
    (source / "empty.mp4").touch()
    found = find(source, tmp_path / "out")
    assert set(found) == {"long.mp4", "long too.mp4", "short.mp4", "text.mp4", "empty.mp4"}
    for name, segments in found.items():
        if name.startswith("long"):
            assert [segment.number for segment in segments] == [0, 1, 2, 3]
            assert sum(segment.num_frames for segment in segments) == 100
        else:
            assert segments == ()


@pytest.mark.parametrize(
    ("video", "count"),
    [({"container": "frames"}, 0), ({"duration_s": 1.2}, 0), ({"start_s": 3.0}, 0), ({"start_s": 1.0}, 3)],
)
def test_frame_folders_and_previews_stay_whole(tmp_path: Path, video: dict[str, object], count: int) -> None:
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in/video.mp4", moving_frames(100, 64, 48), options={"g": "5"})
    (segments,) = find(tmp_path / "in", tmp_path / "out", video=video).values()
    assert len(segments) == count


def test_a_long_video_comes_back_as_its_segments(source: Path, tmp_path: Path, network: Path) -> None:
    worker = make_worker(source, tmp_path / "out", network, units={"segment_s": 1.0})
    unit = video_unit(worker)
    result = worker(unit)
    assert (result.error, result.fatal, result.statuses) == ("", "", {})
    assert cut_unit(unit, result.segments) == cut(worker, 1.0)
    assert visible_files(tmp_path / "out") == []


@pytest.mark.parametrize("mode", ["none", "window", "ema", "gate"])
def test_a_video_in_segments_equals_one_pass(source: Path, tmp_path: Path, network: Path, mode: str) -> None:
    whole = make_worker(source, tmp_path / "whole", network, temporal={"mode": mode})
    parts = make_worker(source, tmp_path / "parts", network, temporal={"mode": mode})
    stylize(whole, [video_unit(whole)])
    units = cut(parts, 0.4)
    assert len(units) >= 8
    stylize(parts, units)
    for output in ("whole", "parts"):
        (row,) = check_invariants(tmp_path / output).values()
        assert (row["status"], row["num_frames"], row["error_message"]) == ("ok", NUM_FRAMES, None)
    frames, times, sound = contents(tmp_path / "whole" / "video.mp4")
    joined, joined_times, joined_sound = contents(tmp_path / "parts" / "video.mp4")
    assert times == joined_times
    assert sound
    assert sound == joined_sound
    difference = np.abs(frames.astype(int) - joined).max()
    assert difference == 0 if mode in ("none", "window") else difference <= 1
    assert not list((tmp_path / "parts" / SEGMENTS).glob("*"))


def test_the_video_appears_with_its_last_segment(source: Path, tmp_path: Path, network: Path) -> None:
    worker = make_worker(source, tmp_path / "out", network)
    units = cut(worker, 1.0)
    assert len(units) == 4
    for unit in (units[2], units[0], units[3]):
        stylize(worker, [unit])
        assert not visible_files(tmp_path / "out")
    stylize(worker, [units[1]])
    assert (tmp_path / "out" / "video.mp4").is_file()
    assert check_invariants(tmp_path / "out")["video.mp4"]["status"] == "ok"


def test_a_finished_segment_is_not_done_again(source: Path, tmp_path: Path, network: Path) -> None:
    worker = make_worker(source, tmp_path / "out", network)
    units = cut(worker, 1.0)
    stylize(worker, units[:2])
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / SEGMENTS).rglob("*.mp4")}
    assert len(files) == 2
    assert unfinished(units, worker.output) == units[2:]
    stylize(worker, units[:2])
    assert files == {path: path.stat().st_mtime_ns for path in files}


def test_a_kill_before_the_join_leaves_the_last_segment_to_join(
    source: Path, tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make_worker(source, tmp_path / "out", network)
    units = cut(worker, 1.0)
    stylize(worker, units[:-1])

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("nst_ops.pipeline.video_segments.join_segments", die)
        with pytest.raises(KeyboardInterrupt):
            worker(units[-1])
    assert not worker.manifest.table().num_rows
    assert unfinished(units, worker.output) == units[-1:]
    stylize(worker, units[-1:])
    assert check_invariants(tmp_path / "out")["video.mp4"]["status"] == "ok"


def test_two_workers_that_both_join_leave_one_video(
    source: Path, tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_worker(source, tmp_path / "out", network)
    second = make_worker(source, tmp_path / "out", network)
    units = cut(first, 1.0)
    stylize(first, units[:-1])
    import nst_ops.pipeline.video_segments as module

    join = module.join_segments

    def join_late(*arguments: object) -> object:
        """While this one was about to join, the other one has done so and removed the segments."""
        monkeypatch.setattr(module, "join_segments", join)
        stylize(second, [units[-1]])
        return join(*arguments)

    monkeypatch.setattr(module, "join_segments", join_late)
    stylize(first, [units[-1]])
    assert check_invariants(tmp_path / "out")["video.mp4"]["status"] == "ok"
    assert [path.name for path in visible_files(tmp_path / "out") if path.suffix == ".mp4"] == ["video.mp4"]


def test_a_segment_that_fails_fails_the_video(source: Path, tmp_path: Path, network: Path) -> None:
    video = source / "video.mp4"
    worker = make_worker(source, tmp_path / "out", network)
    units = cut(worker, 1.0)
    data = video.read_bytes()
    # A hole in the middle, found only when it is decoded.
    start = len(data) // 2
    video.write_bytes(data[:start] + bytes(1500) + data[start + 1500 :])
    stylize(worker, units)
    (row,) = check_invariants(tmp_path / "out").values()
    assert (row["status"], row["error_type"]) == ("failed", "DamagedVideoError")
    assert "keep_damaged" in str(row["error_message"])
    assert not visible_files(tmp_path / "out")[1:], "only the manifest's one part"
    # With its source whole again, --retry-failed goes on where it stopped.
    video.write_bytes(data)
    worker.manifest.forget({units[0].keys[0]})
    left = unfinished(units, worker.output)
    assert 0 < len(left) < len(units)
    stylize(worker, left)
    assert check_invariants(tmp_path / "out")["video.mp4"]["status"] == "ok"


def test_a_full_disk_is_fatal_and_no_video_is_failed(
    source: Path, tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make_worker(source, tmp_path / "out", network)
    unit = cut(worker, 1.0)[0]

    def full(*_: object) -> None:
        raise StorageFullError("no space left")

    monkeypatch.setattr("nst_ops.pipeline.video_segments.encode", full)
    assert worker(unit).fatal == "no space left"
    assert not worker.manifest.table().num_rows


def test_a_preview_in_segments_equals_one_pass(source: Path, tmp_path: Path, network: Path) -> None:
    video = {**LOSSLESS, "start_s": 0.4, "duration_s": 2.4, "max_frame_rate": 10.0, "side_by_side": True}
    whole = make_worker(source, tmp_path / "whole", network, video=video)
    parts = make_worker(source, tmp_path / "parts", network, video=video)
    stylize(whole, [video_unit(whole)])
    units = cut(parts, 0.8)
    assert len(units) > 1
    stylize(parts, units)
    frames, times, sound = contents(tmp_path / "whole" / "video.mp4")
    joined, joined_times, joined_sound = contents(tmp_path / "parts" / "video.mp4")
    assert len(times) == 24
    assert times[0][0] == 0
    assert frames.shape[2] == 2 * 64
    assert times == joined_times
    assert sound == joined_sound
    assert 2.2 < sound[-1][0] < 2.45
    assert np.array_equal(frames, joined)


def test_a_retried_segment_keeps_its_part_and_counts_its_tries(source: Path, tmp_path: Path, network: Path) -> None:
    worker = make_worker(source, tmp_path / "out", network)
    units = [replace(unit, attempt=2) for unit in cut(worker, 1.0)]
    stylize(worker, units)
    row = check_invariants(tmp_path / "out")["video.mp4"]
    assert row["attempts"] == 2
    assert row["unit_id"] == video_unit(make_worker(source, tmp_path / "other", network)).unit_id
    assert Fraction(str(row["frame_rate"])) == 25


def test_frozen_statistics_do_not_depend_on_segments(tmp_path: Path, network: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    frames = moving_frames(40, 64, 48)
    other = [255 - frame // 2 for frame in moving_frames(30, 64, 48)]
    write_video(source / "video.mp4", frames + other, options={"g": "10", "preset": "veryfast"})
    outputs = {}
    for name, frozen, target_s in (("free", False, 100), ("whole", True, 100), ("parts", True, 0.8)):
        temporal = {"mode": "none", "freeze_statistics": frozen}
        worker = make_worker(source, tmp_path / name, network, temporal=temporal)
        stylize(worker, cut(worker, target_s))
        outputs[name] = contents(tmp_path / name / "video.mp4")[0]
    assert np.array_equal(outputs["whole"], outputs["parts"])
    assert not np.array_equal(outputs["whole"], outputs["free"])


def test_frozen_statistics_without_a_network_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    config = StylizeConfig(
        input=str(tmp_path / "in"),
        output=str(tmp_path / "out"),
        model={"kind": "identity"},
        temporal={"freeze_statistics": True},
    )
    with pytest.raises(ConfigError, match="freeze_statistics"):
        new_run_spec(config, config.input)


def test_another_segment_length_begins_the_video_anew(source: Path, tmp_path: Path, network: Path) -> None:
    worker = make_worker(source, tmp_path / "out", network)
    first, second = cut(worker, 1.0), cut(worker, 0.85)
    assert len(first) == len(second)
    assert [unit.segment for unit in first] != [unit.segment for unit in second]
    stylize(worker, first[:2])
    assert unfinished(second, worker.output) == second
    stylize(worker, second)
    assert check_invariants(tmp_path / "out")["video.mp4"]["num_frames"] == NUM_FRAMES
