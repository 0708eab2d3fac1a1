"""What the pipeline costs: overlap and memory, as ratios measured in one run.

Every case runs in a process of its own, so that peaks do not mix.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from nst_ops.collection.discover import Source, discover
from nst_ops.collection.plan import plan_units
from nst_ops.collection.styles import StyleChoice
from nst_ops.config import ModelConfig, StylizeConfig
from nst_ops.media.images import UInt8Array
from nst_ops.media.video import Frame, VideoReader, VideoWriter
from nst_ops.pipeline.spec import RunSpec
from nst_ops.pipeline.worker import UnitResult, Worker
from nst_ops.stylizers import Style

Figures = dict[str, float]

_STAGES = ("decode_s", "stylize_s", "encode_s")
_IDENTITY = {"kind": "identity"}
_STAND_IN: dict[str, Any] = {}
"""In place of a ``model`` section: ``_stand_in``."""


def benchmark(model: dict[str, Any], num_frames: int, size: tuple[int, int]) -> dict[str, Figures]:
    """Measure a worker on films and images made for it.

    Args:
        model: the ``model`` section of a configuration.
        num_frames: frames of the film whose stages overlap; the long film has ten times as many.
        size: width and height of the films in pixels.

    Returns:
        ``overlap``: seconds of the film through a worker and through the same steps in a row.
        ``overlap_beside_cpu``: the same with a stand-in network that takes 20 ms a frame and no CPU,
        as one on a GPU would; on a CPU all stages compete for the same cores.
        ``memory``: peak MiB for a film and one ten times as long, for 100 images and for 1,000.
    """
    with tempfile.TemporaryDirectory() as scratch:
        short, long = Path(scratch, "short"), Path(scratch, "long")
        few, many = Path(scratch, "few"), Path(scratch, "many")
        for folder, frames in ((short, num_frames), (long, 10 * num_frames)):
            folder.mkdir()
            _write_film(folder / "film.mp4", frames, size)
        for folder, count in ((few, 100), (many, 1000)):
            _write_images(folder, count)
        overlap = {name: _overlap(short, who) for name, who in (("cpu", model), ("beside", _STAND_IN))}
        peaks = {
            name: _apart(_through_worker, Path(scratch, name), _IDENTITY)["peak_mib"]
            for name in ("short", "long", "few", "many")
        }
    return {
        "overlap": overlap["cpu"],
        "overlap_beside_cpu": overlap["beside"],
        "memory": {
            "film_mib": peaks["short"],
            "film_10x_mib": peaks["long"],
            "film_10x_to_1x": peaks["long"] / peaks["short"],
            "images_100_mib": peaks["few"],
            "images_1000_mib": peaks["many"],
            "images_1000_to_100": peaks["many"] / peaks["few"],
        },
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
    config = StylizeConfig(input=str(source), output=output, model=ModelConfig(**model or _IDENTITY))
    kind = config.model.kind
    worker = Worker(RunSpec(config, "benchmark", kind, "", "", StyleChoice((kind,))))
    if model == _STAND_IN:
        worker.stylizer = _stand_in
    worker.stylizer(np.zeros((1, 64, 64, 3), np.uint8))  # the first call pays for what the others use
    return worker


def _through_worker(source: Path, model: dict[str, Any]) -> Figures:
    worker = _worker(source, model)
    catalog = discover(Source.open(str(source)))
    plan = plan_units(catalog, worker.manifest.table(), 100, retry_failed=False, choice=worker.spec.choice)
    started = time.perf_counter()
    results: list[UnitResult] = [worker(unit) for unit in plan.units]
    elapsed_s = time.perf_counter() - started
    return {"elapsed_s": elapsed_s} | {
        stage: sum(getattr(result.timings, stage) for result in results) for stage in _STAGES
    }


def _serially(source: Path, model: dict[str, Any]) -> Figures:
    worker = _worker(source, model)
    path, output = str(source / "film.mp4"), f"{source}-serial-{os.getpid()}.mp4"
    video, batch_size = worker.config.video, worker.config.model.batch_size
    started = time.perf_counter()
    with VideoReader(path) as reader:
        writer = VideoWriter(output, "mp4", reader.info, reader.output_size, path, video)
        with writer:
            batch: list[Frame] = []
            for frame in reader.frames():
                batch.append(frame)
                if len(batch) == batch_size:
                    _stylize_and_write(worker, writer, batch)
                    batch = []
            if batch:
                _stylize_and_write(worker, writer, batch)
    return {"elapsed_s": time.perf_counter() - started}


def _stylize_and_write(worker: Worker, writer: VideoWriter, batch: list[Frame]) -> None:
    stylized_nhwc = worker.stylizer(np.stack([frame.rgb_hwc for frame in batch]))
    for frame, stylized_hwc in zip(batch, stylized_nhwc, strict=True):
        writer.write(Frame(frame.pts, frame.duration, stylized_hwc))


def _write_film(path: Path, num_frames: int, size: tuple[int, int]) -> None:
    """Noise of the size of leaves that drifts: neither trivial nor impossible to encode."""
    width, height = size
    leaves = np.random.default_rng(0).integers(0, 256, (height // 8 + 64, width // 8 + 64, 3), np.uint8)
    picture = Image.fromarray(leaves).resize((width + 512, height + 512), Image.Resampling.BICUBIC)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(num_frames):
            offset = index * 3 % 512
            view = picture.crop((offset, offset, offset + width, offset + height))
            frame = av.VideoFrame.from_ndarray(np.asarray(view), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _write_images(folder: Path, count: int) -> None:
    folder.mkdir()
    generator = np.random.default_rng(0)
    for index in range(count):
        leaves = Image.fromarray(generator.integers(0, 256, (32, 32, 3), np.uint8))
        leaves.resize((512, 512), Image.Resampling.BICUBIC).save(folder / f"{index}.jpg", quality=90)
