"""A video of half an hour, killed three times: it goes on inside, and equals the video that was never cut."""

import os
import signal
import subprocess
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from job_runner import ENVIRONMENT, check_invariants, job_command, run_job, visible_files
from media_factory import Sound, moving_frames, write_video

from nst_ops.collection.constants import SEGMENTS

MINUTES, FRAMES_PER_SECOND, NUM_SEGMENTS, KILLS = 30, 2, 6, 3
NUM_FRAMES = MINUTES * 60 * FRAMES_PER_SECOND


def records(output: Path) -> dict[Path, int]:
    """When each segment was finished."""
    return {path: path.stat().st_mtime_ns for path in (output / SEGMENTS).glob("*/*.json")}


def kill_after_a_segment(command: list[str], output: Path) -> None:
    """Start the job, and SIGKILL it when it has finished another segment and is in the next."""
    before = len(records(output))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=ENVIRONMENT, **quiet) as job:
        while job.poll() is None and len(records(output)) == before:
            time.sleep(0.02)
        time.sleep(0.3)
        assert job.poll() is None, "it ended before it was killed"
        os.kill(job.pid, signal.SIGKILL)


def sound(path: Path) -> list[tuple[int, bytes]]:
    with av.open(str(path)) as video:
        return [(packet.pts, bytes(packet)) for packet in video.demux(audio=0) if packet.size]


@pytest.mark.slow
def test_a_long_video_killed_three_times_equals_the_uncut(tmp_path: Path, network: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    write_video(
        source / "video.mp4",
        moving_frames(120, 48, 32) * (NUM_FRAMES // 120),
        time_base=Fraction(1, FRAMES_PER_SECOND),
        options={"g": "20", "preset": "ultrafast"},
        sounds=[Sound(duration_s=MINUTES * 60.0, rate=16000)],
    )
    model = ("--model.checkpoint", str(network), "--model.device", "cpu", "--model.batch_size", "16")
    arguments = (*model, "--video.crf", "0", "--video.preset", "ultrafast", "--report.pairs", "0")
    cut, uncut = tmp_path / "cut", tmp_path / "uncut"
    command = job_command(source, cut, *arguments, "--units.segment_s", str(MINUTES * 60 / NUM_SEGMENTS))
    finished: dict[Path, int] = {}
    for _ in range(KILLS):
        kill_after_a_segment(command, cut)
        assert {path.name for path in visible_files(cut)} <= {"run.json", "progress.json"}
        assert finished.items() <= records(cut).items(), "a finished segment was done again"
        finished = records(cut)
    assert KILLS <= len(finished) < NUM_SEGMENTS
    last = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=ENVIRONMENT)
    assert last.returncode == 0, last.stderr
    whole = run_job(source, uncut, *arguments, "--units.segment_s", "100000")
    assert whole.returncode == 0, whole.stderr

    for output in (cut, uncut):
        row = check_invariants(output)["video.mp4"]
        assert (row["status"], row["num_frames"], row["attempts"]) == ("ok", NUM_FRAMES, 1)
        assert not [path for path in output.rglob("*") if path.name.startswith(".")]
    with av.open(str(cut / "video.mp4")) as joined, av.open(str(uncut / "video.mp4")) as one_pass:
        num_compared = 0
        for ours, theirs in zip(joined.decode(video=0), one_pass.decode(video=0), strict=True):
            assert (ours.pts, ours.duration) == (theirs.pts, theirs.duration)
            assert np.array_equal(ours.to_ndarray(), theirs.to_ndarray())
            num_compared += 1
    assert num_compared == NUM_FRAMES
    assert sound(cut / "video.mp4") == sound(uncut / "video.mp4") == sound(source / "video.mp4")
