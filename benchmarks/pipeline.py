"""Measure what the pipeline costs on this machine: how well its stages overlap, and its peak memory.

Every case runs in a process of its own, so that peaks do not mix. Run it from the root of the
repository: ``python benchmarks/pipeline.py --help``.
"""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
import resource
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import av
import numpy as np
from PIL import Image
from pydantic import Field

from benchmarks.figures_table import show_figures
from nst_ops.collection.inputs import Source, discover
from nst_ops.collection.manifest import SCHEMA
from nst_ops.collection.planner import Plan, PlanRules
from nst_ops.collection.units import WorkUnit, cut_unit
from nst_ops.config import JobConfig, ModelConfig, StylizeConfig, parse_config
from nst_ops.config.stylize import UnitsConfig
from nst_ops.media.images import UInt8Array
from nst_ops.media.video.container import Frame
from nst_ops.media.video.reader import VideoReader
from nst_ops.media.video.writer import VideoWriter
from nst_ops.pipeline.run_spec import new_run_spec
from nst_ops.pipeline.video_segments import find_segments
from nst_ops.pipeline.worker import Worker
from nst_ops.stylizers import Style
from nst_ops.stylizers.registry import ModelKind, register


class BenchmarkConfig(JobConfig):
    """Measure overlap and memory of a worker, as ratios in one run."""

    epilog: ClassVar[str] = "example:\n  python benchmarks/pipeline.py --model.kind identity\n"

    model: ModelConfig = ModelConfig()
    num_frames: int = Field(default=60, ge=8)
    """Frames of the video whose stages overlap."""
    width: int = Field(default=320, ge=16)
    """Width of that video in pixels."""
    height: int = Field(default=240, ge=16)
    """Height of that video in pixels."""
    minutes: int = Field(default=60, ge=2)
    """Length of the long video whose memory is compared with that of a video of one minute."""
    output: str = ""
    """JSON file to write the figures to. Default: none."""


def _after_20_ms(frames_nhwc: UInt8Array, styles: Sequence[Style] = ()) -> UInt8Array:
    """Stand in for a network on a GPU, which takes its time, and no CPU."""
    time.sleep(0.02 * len(frames_nhwc))
    return frames_nhwc


def _unchanged(frames_nhwc: UInt8Array, styles: Sequence[Style] = ()) -> UInt8Array:
    """Like ``identity``, but its videos are smoothed over time."""
    return frames_nhwc


for _name, _stylizer in (("after_20_ms", _after_20_ms), ("unchanged", _unchanged)):
    register(ModelKind(_name, functools.partial(lambda it, *_: it, _stylizer), uses_device=False))

Figures = dict[str, float]
Case = Callable[[Path, dict[str, Any]], Figures]

_STAGES = ("decode_s", "stylize_s", "smooth_s", "encode_s")
_SMALL = 128, 72
# Every case begins in a process that has imported what this one has, and nothing else.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["benchmarks.pipeline"])


def benchmark(
    model: dict[str, Any],
    num_frames: int,
    size: tuple[int, int],
    minutes: int,
    videos: int = 1000,
    frame_rate: int = 25,
    images: int = 100,
) -> dict[str, Figures]:
    """Measure a worker on videos and images made for it.

    Args:
        model: the ``model`` section of a configuration.
        num_frames: frames of the video whose stages overlap.
        size: width and height of that video in pixels.
        minutes: length of the long video whose memory is compared with that of one minute.
        videos: number of videos to cut into segments, each of a minute.
        frame_rate: frames per second of all videos.
        images: number of images whose memory is compared with that of ten times as many.

    Returns:
        ``overlap``: seconds of the video through a worker and through the same steps in a row.
        ``overlap_beside_cpu``: the same with a stand-in network that takes 20 ms a frame and no CPU,
        as one on a GPU would; on a CPU all stages compete for the same cores.
        ``memory``: peak MiB for a video of a minute and a long one in segments, both smoothed over time,
        and for few and many images.
        ``planning``: seconds to cut the videos, and to decode them, of which one is decoded.
    """
    unchanged, identity = {"kind": "unchanged"}, {"kind": "identity"}
    with tempfile.TemporaryDirectory() as scratch:
        short, minute, long, few, many = (Path(scratch, name) for name in ("short", "minute", "long", "few", "many"))
        _write_video(short / "video.mp4", num_frames, size, frame_rate)
        _write_video(minute / "video.mp4", 60 * frame_rate, _SMALL, frame_rate)
        _write_video(long / "video.mp4", 60 * frame_rate * minutes, _SMALL, frame_rate)
        _write_images(few, images)
        _write_images(many, 10 * images)
        overlap, overlap_beside_cpu = _overlap(short, model), _overlap(short, {"kind": "after_20_ms"})
        cases = {minute: unchanged, long: unchanged, few: identity, many: identity}
        peaks = {folder: _apart(_through_worker, folder, case)["peak_mib"] for folder, case in cases.items()}
        planning = _apart(functools.partial(_planning, videos), minute, identity)
    return {
        "overlap": overlap,
        "overlap_beside_cpu": overlap_beside_cpu,
        "memory": {
            "video_1_minute_mib": peaks[minute],
            f"video_{minutes}_minutes_mib": peaks[long],
            f"video_{minutes}_minutes_to_1": peaks[long] / peaks[minute],
            f"images_{images}_mib": peaks[few],
            f"images_{10 * images}_mib": peaks[many],
            f"images_{10 * images}_to_{images}": peaks[many] / peaks[few],
        },
        "planning": {key: value for key, value in planning.items() if key != "peak_mib"},
    }


def _overlap(source: Path, model: dict[str, Any]) -> Figures:
    serial, worker = _apart(_serially, source, model), _apart(_through_worker, source, model)
    stages = {stage: worker[stage] for stage in _STAGES}
    return {
        "serial_s": serial["elapsed_s"],
        "worker_s": worker["elapsed_s"],
        **stages,
        "worker_to_serial": worker["elapsed_s"] / serial["elapsed_s"],
        "worker_to_longest_stage": worker["elapsed_s"] / max(stages.values()),
    }


def _apart(case: Case, source: Path, model: dict[str, Any]) -> Figures:
    """Run a case in a process of its own; its figures, and its peak memory."""
    with _CONTEXT.Pool(1) as pool:
        return pool.apply(_with_peak, (case, source, model))


def _with_peak(case: Case, source: Path, model: dict[str, Any]) -> Figures:
    figures = case(source, model)
    return {**figures, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _worker(source: Path, model: dict[str, Any], **sections: Any) -> Worker:
    output = f"{source}-out-{os.getpid()}"
    config = StylizeConfig(input=str(source), output=output, model=ModelConfig(**model), **sections)
    worker = Worker(new_run_spec(config, str(source)))
    worker.stylizer(np.zeros((1, 64, 64, 3), np.uint8))  # the first call pays for what the others use
    return worker


def _through_worker(source: Path, model: dict[str, Any]) -> Figures:
    worker = _worker(source, model)
    started = time.perf_counter()
    units, results = deque(_units(worker, source)), []
    while units:
        unit = units.popleft()
        results.append(result := worker(unit))
        if result.segments:
            units.extend(cut_unit(unit, result.segments))
    assert not any(result.error for result in results)
    figures = {stage: sum(getattr(result.timings, stage) for result in results) for stage in _STAGES}
    return {"elapsed_s": time.perf_counter() - started, **figures}


def _units(worker: Worker, folder: Path) -> list[WorkUnit]:
    source = Source.open(str(folder))
    plan = Plan(discover(source), SCHEMA.empty_table(), PlanRules(worker.run_spec.choice), source.root)
    return list(plan.units())


def _planning(videos: int, source: Path, model: dict[str, Any]) -> Figures:
    """Cut many videos, which are one and the same, and decode one of them."""
    worker = _worker(source, model, units=UnitsConfig(segment_s=20))
    (unit,) = _units(worker, source)
    started = time.perf_counter()
    cuts = [find_segments(worker, unit.items[0]) for _ in range(videos)]
    planned = time.perf_counter()
    with VideoReader(str(source / "video.mp4")) as reader:
        num_frames = sum(1 for _ in reader.frames())
    decode_s = (time.perf_counter() - planned) * videos
    assert all(sum(segment.num_frames for segment in cut) == num_frames for cut in cuts)
    return {"videos": videos, "planning_s": planned - started, "decoding_s": decode_s}


def _serially(source: Path, model: dict[str, Any]) -> Figures:
    """The stages of a worker one after the other, in one thread."""
    worker = _worker(source, model)
    path, output = str(source / "video.mp4"), f"{source}-serial-{os.getpid()}.mp4"
    video, smoother = worker.config.video, worker.new_smoother()
    started = time.perf_counter()
    with (
        VideoReader(path) as reader,
        VideoWriter(output, "mp4", reader.info, reader.output_size, path, video) as writer,
    ):
        frames, waiting = reader.frames(), deque[Frame]()
        batch_size = worker.batch_size(reader.output_size[1], reader.output_size[0])

        def write(smoothed: list[UInt8Array]) -> None:
            for smoothed_hwc in smoothed:
                frame = waiting.popleft()
                writer.write(Frame(frame.pts, frame.duration, smoothed_hwc))

        while batch := list(itertools.islice(frames, batch_size)):
            stylized_nhwc = worker.stylizer(np.stack([frame.rgb_hwc for frame in batch]))
            for frame, stylized_hwc in zip(batch, stylized_nhwc, strict=True):
                waiting.append(frame)
                write(smoother.push(frame.rgb_hwc, stylized_hwc))
        write(smoother.flush())
    return {"elapsed_s": time.perf_counter() - started}


def _write_video(path: Path, num_frames: int, size: tuple[int, int], frame_rate: int) -> None:
    """Noise of the size of leaves that drifts: neither trivial nor impossible to encode."""
    path.parent.mkdir()
    width, height = size
    leaves = np.random.default_rng(0).integers(0, 256, (height // 8 + 64, width // 8 + 64, 3), np.uint8)
    scene = Image.fromarray(leaves).resize((width + 512, height + 512), Image.Resampling.BICUBIC)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(
            "libx264", rate=frame_rate, options={"preset": "veryfast", "g": str(10 * frame_rate)}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(num_frames):
            offset = index * 3 % 512
            view = scene.crop((offset, offset, offset + width, offset + height))
            frame = av.VideoFrame.from_ndarray(np.asarray(view), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, frame_rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _write_images(folder: Path, count: int) -> None:
    folder.mkdir()
    generator = np.random.default_rng(0)
    for index in range(count):
        leaves = Image.fromarray(generator.integers(0, 256, (32, 32, 3), np.uint8))
        leaves.resize((512, 512), Image.Resampling.BICUBIC).save(folder / f"{index}.jpg", quality=90)


def main() -> int:
    """Measure, print, and write the figures."""
    config = parse_config(BenchmarkConfig)
    size = (config.width, config.height)
    show_figures(benchmark(config.model.model_dump(), config.num_frames, size, config.minutes), config.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
