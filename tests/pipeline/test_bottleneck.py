"""The summary names the slowest stage, and keys that the next run takes."""

import re
import time
from pathlib import Path

import numpy as np
import pytest
from job_runner import write_image
from media_factory import write_video
from planning import spec_of, units_of

from nst_ops.config import StylizeConfig, parse_config
from nst_ops.pipeline.bottleneck import bottleneck
from nst_ops.pipeline.prefetch import Timings
from nst_ops.pipeline.run import stylize_collection
from nst_ops.pipeline.worker import Worker

PATHS = ["--input", "in", "--output", "out"]
BUSY = {"decode_s": 2.0, "stylize_s": 3.0, "smooth_s": 1.0, "encode_s": 2.0, "wait_s": 100.0}


@pytest.mark.parametrize("on_gpu", [True, False])
@pytest.mark.parametrize("has_videos", [True, False])
@pytest.mark.parametrize(
    ("stage", "name"),
    [("decode_s", "decoding"), ("stylize_s", "the network"), ("smooth_s", "smoothing"), ("encode_s", "encoding")],
)
def test_the_slowest_stage_is_named_with_keys_that_are_taken(
    stage: str, name: str, on_gpu: bool, has_videos: bool
) -> None:
    timings = Timings(**BUSY | {stage: 8.0})
    line = bottleneck(timings, 10.0, parse_config(StylizeConfig, PATHS), on_gpu, has_videos)
    assert line.startswith(f"{name}, 80% of the time; quicker with ")
    options = re.findall(r"(--\S+) (\w[\w.]*)", line.replace("a smaller --resize.max_side", "--resize.max_side 480"))
    assert options or "more CPU cores" in line
    once_more = parse_config(StylizeConfig, [*PATHS, *(word for option in options for word in option)])
    # What was tried is not named again.
    for key, value in options:
        if key != "--resize.max_side":
            assert f"{key} {value}" not in bottleneck(timings, 10.0, once_more, on_gpu, has_videos)


def test_workers_that_had_nothing_to_do_are_no_stage() -> None:
    config = parse_config(StylizeConfig, PATHS)
    line = bottleneck(Timings(**BUSY), 10.0, config, on_gpu=False, has_videos=False)
    assert line.startswith("no stage: workers had nothing to do for 70% of the time")
    assert bottleneck(Timings(wait_s=3.0), 10.0, config, on_gpu=False, has_videos=False) == ""


def test_the_end_of_a_video_counts_as_encoding(tmp_path: Path) -> None:
    """An encoder holds dozens of frames, so most of a short video is encoded when its file is finished."""
    source = tmp_path / "in"
    source.mkdir()
    frames = np.random.default_rng(0).integers(0, 256, (25, 240, 320, 3), np.uint8)  # noise: its worst case
    write_video(source / "noise.mp4", frames)
    slow = ["--temporal.mode", "none", "--video.preset", "veryslow"]
    paths = ["--input", str(source), "--output", str(tmp_path / "out")]
    worker = Worker(spec_of(parse_config(StylizeConfig, [*paths, "--model.kind", "identity", *slow])))
    (unit,) = units_of(worker)
    started = time.perf_counter()
    result = worker(unit)
    elapsed_s = time.perf_counter() - started
    assert result.statuses == {"ok": 1}
    assert result.timings.encode_s > 0.7 * elapsed_s
    line = bottleneck(result.timings, elapsed_s, worker.config, on_gpu=False, has_videos=True)
    assert line.startswith("encoding, ")
    assert line.endswith("quicker with --video.preset veryfast")


def test_the_summary_has_a_bottleneck_where_something_was_done(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.png")
    paths = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--executor", "local"]
    config = parse_config(StylizeConfig, [*paths, "--model.kind", "identity"])
    assert "bottleneck" in stylize_collection(config).table()
    assert "bottleneck" not in stylize_collection(config).table()
