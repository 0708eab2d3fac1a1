"""What the pipeline costs: overlap and memory, as ratios measured in one run.

Every case runs in a process of its own, so that peaks do not mix.
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
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from nst_ops.pipeline.cutting import read_segments
from PIL import Image

from nst_ops.collection.inputs import Source, discover
from nst_ops.collection.manifest import SCHEMA
from nst_ops.collection.planner import Plan, PlanRules
from nst_ops.collection.styles import StyleChoice
from nst_ops.collection.units import WorkUnit, cut_unit
from nst_ops.config import ModelConfig, StylizeConfig
from nst_ops.config.stylize import UnitsConfig
from nst_ops.media.images import UInt8Array
from nst_ops.media.video import Frame, VideoReader, VideoWriter
from nst_ops.pipeline.run_spec import RunSpec
from nst_ops.pipeline.worker import UnitResult, Worker
from nst_ops.stylizers import Style

Figures = dict[str, float]

_STAGES = ("decode_s", "stylize_s", "smooth_s", "encode_s")
_IDENTITY = {"kind": "identity"}
_STAND_IN: dict[str, Any] = {"kind": "johnson", "device": "stand-in"}
"""In place of a ``model`` section: ``_stand_in``."""
_UNCHANGED: dict[str, Any] = {"kind": "johnson", "device": "unchanged"}
"""Likewise: frames as they are, but smoothed over time, as those of ``identity`` are not."""
_SMALL = 128, 72


def benchmark(
    model: dict[str, Any],
    num_frames: int,
    size: tuple[int, int],
    minutes: int,
    films: int = 1000,
    frame_rate: int = 25,
) -> dict[str, Figures]:
    """Measure a worker on films and images made for it.

    Args:
        model: the ``model`` section of a configuration.
        num_frames: frames of the film whose stages overlap.
        size: width and height of that film in pixels.
        minutes: length of the long film whose memory is compared with that of one minute.
        films: how many to cut, each of a minute.
        frame_rate: of all films.

    Returns:
        ``overlap``: seconds of the film through a worker and through the same steps in a row.
        ``overlap_beside_cpu``: the same with a stand-in network that takes 20 ms a frame and no CPU,
        as one on a GPU would; on a CPU all stages compete for the same cores.
        ``memory``: peak MiB for a film of a minute and a long one in segments, both smoothed over time,
        for 100 images and for 1,000.
        ``planning``: seconds to cut the films, and to decode them, of which one is decoded.
    """
    with tempfile.TemporaryDirectory() as scratch:
        names = ("film", "minute", "long", "few", "many")
        film, minute, long, few, many = (Path(scratch, name) for name in names)
        _write_film(film / "film.mp4", num_frames, size, frame_rate)
        _write_film(minute / "film.mp4", 60 * frame_rate, _SMALL, frame_rate)
        _write_film(long / "film.mp4", 60 * frame_rate * minutes, _SMALL, frame_rate)
        for folder, count in ((few, 100), (many, 1000)):
            _write_images(folder, count)
        overlap = {name: _overlap(film, who) for name, who in (("cpu", model), ("beside", _STAND_IN))}
        cases = {minute: _UNCHANGED, long: _UNCHANGED, few: _IDENTITY, many: _IDENTITY}
        peaks = {
            folder.name: _apart(_through_worker, folder, case)["peak_mib"] for folder, case in cases.items()
        }
        planning = _apart(functools.partial(_planning, films), minute, _IDENTITY)
    return {
        "overlap": overlap["cpu"],
        "overlap_beside_cpu": overlap["beside"],
        "memory": {
            "film_1_minute_mib": peaks["minute"],
            f"film_{minutes}_minutes_mib": peaks["long"],
            f"film_{minutes}_minutes_to_1": peaks["long"] / peaks["minute"],
            "images_100_mib": peaks["few"],
            "images_1000_mib": peaks["many"],
            "images_1000_to_100": peaks["many"] / peaks["few"],
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


def _stand_in(frames_nhwc: UInt8Array, styles: Sequence[Style] = ()) -> UInt8Array:
    """A network on another device: it takes its time, and no CPU."""
    time.sleep(0.02 * len(frames_nhwc))
    return frames_nhwc


def _unchanged(frames_nhwc: UInt8Array, styles: Sequence[Style] = ()) -> UInt8Array:
    return frames_nhwc


def _apart(case: Callable[[Path, dict[str, Any]], Figures], source: Path, model: dict[str, Any]) -> Figures:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_with_peak, (case, source, model))


def _with_peak(
    case: Callable[[Path, dict[str, Any]], Figures], source: Path, model: dict[str, Any]
) -> Figures:
    figures = case(source, model)
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {**figures, "peak_mib": peak_kib / 1024}


def _worker(source: Path, model: dict[str, Any]) -> Worker:
    output = f"{source}-out-{os.getpid()}"
    stand_in = {"stand-in": _stand_in, "unchanged": _unchanged}.get(model.get("device", ""))
    section = ModelConfig(**_IDENTITY if stand_in else model)
    config = StylizeConfig(input=str(source), output=output, model=section)
    choice = StyleChoice((section.kind,))
    worker = Worker(RunSpec(config, "benchmark", section.kind, "", "", choice, str(source)))
    if stand_in:
        worker.stylizer = stand_in
        painted = section.model_copy(update={"kind": "johnson", "device": "cpu"})
        worker.config = config.model_copy(update={"model": painted})
    worker.stylizer(np.zeros((1, 64, 64, 3), np.uint8))  # the first call pays for what the others use
    return worker


def _through_worker(source: Path, model: dict[str, Any]) -> Figures:
    worker = _worker(source, model)
    started = time.perf_counter()
    units = [part for unit in _units(worker, source) for part in _cut(worker, unit)]
    results: list[UnitResult] = [worker(unit) for unit in units]
    elapsed_s = time.perf_counter() - started
    return {"elapsed_s": elapsed_s} | {
        stage: sum(getattr(result.timings, stage) for result in results) for stage in _STAGES
    }


def _units(worker: Worker, folder: Path) -> list[WorkUnit]:
    source = Source.open(str(folder))
    plan = Plan(discover(source), SCHEMA.empty_table(), PlanRules(worker.spec.choice), source.root)
    return list(plan.units())


def _cut(worker: Worker, unit: WorkUnit) -> list[WorkUnit]:
    item = unit.items[0]
    segments = read_segments(worker.spec, item) if item["kind"] == "video" else ()
    return cut_unit(unit, segments) if len(segments) > 1 else [unit]


def _planning(films: int, source: Path, model: dict[str, Any]) -> Figures:
    """Cut many films, which are one and the same, and decode a sample of them."""
    worker = _worker(source, model)
    units = UnitsConfig(segment_s=20)
    spec = replace(worker.spec, config=worker.config.model_copy(update={"units": units}))
    (unit,) = _units(worker, source)
    (item,) = unit.items
    started = time.perf_counter()
    cuts = [read_segments(spec, item) for _ in range(films)]
    planned = time.perf_counter()
    num_frames = _frames_in(source / "film.mp4")
    decode_s = (time.perf_counter() - planned) * films
    assert all(sum(segment.num_frames for segment in cut) == num_frames for cut in cuts)
    return {"films": films, "planning_s": planned - started, "decoding_s": decode_s}


def _frames_in(path: Path) -> int:
    with VideoReader(str(path)) as reader:
        return sum(1 for _ in reader.frames())


def _serially(source: Path, model: dict[str, Any]) -> Figures:
    worker = _worker(source, model)
    path, output = str(source / "film.mp4"), f"{source}-serial-{os.getpid()}.mp4"
    video, batch_size, smoother = worker.config.video, worker.config.model.batch_size, worker.smoother()
    started = time.perf_counter()
    with (
        VideoReader(path) as reader,
        VideoWriter(output, "mp4", reader.info, reader.output_size, path, video) as writer,
    ):
        frames, waiting = reader.frames(), deque[Frame]()

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


def _write_film(path: Path, num_frames: int, size: tuple[int, int], frame_rate: int) -> None:
    """Noise of the size of leaves that drifts: neither trivial nor impossible to encode."""
    path.parent.mkdir()
    width, height = size
    leaves = np.random.default_rng(0).integers(0, 256, (height // 8 + 64, width // 8 + 64, 3), np.uint8)
    picture = Image.fromarray(leaves).resize((width + 512, height + 512), Image.Resampling.BICUBIC)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=frame_rate, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(num_frames):
            offset = index * 3 % 512
            view = picture.crop((offset, offset, offset + width, offset + height))
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
