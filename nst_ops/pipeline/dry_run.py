"""A dry run: counts, sizes and collisions, and the time that a few samples let expect."""

from __future__ import annotations

import contextlib
import io
import itertools
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

import numpy as np
from rich.table import Table

from nst_ops.collection.planner import Plan
from nst_ops.collection.units import Item
from nst_ops.media.formats import image_output
from nst_ops.media.images import decode_image, encode_image, fit_size, open_image
from nst_ops.media.video.container import even_size, read_header
from nst_ops.media.video.writer import VideoWriter
from nst_ops.pipeline.context import WorkerContext
from nst_ops.pipeline.executors import Executor
from nst_ops.pipeline.executors.pool import wants_gpu
from nst_ops.pipeline.prefetch import Timings
from nst_ops.pipeline.run_spec import RunSpec
from nst_ops.pipeline.video import finish_frame, open_video, read_frames, stack, written_size
from nst_ops.ray_cluster import cores_per_node
from nst_ops.report.text import render
from nst_ops.storage import Folder, configure_storage

_PROBE_S = 60.0  # that a look at headers may take
_PROBES = 48  # headers read of each kind; the rest is estimated by bytes
_HEADER_BYTES = 2**16
_SAMPLES = 3
_SAMPLE_FRAMES = 8
_SHOWN_COLLISIONS = 5


class _Volume(NamedTuple):
    """The work of one file, or the work left of one kind, estimated from probes."""

    num_frames: float = 0.0  # images, or frames of video
    num_pixels: float = 0.0  # at the size that is written, over all frames
    duration_s: float = 0.0


class _Cost(NamedTuple):
    """Measured on samples, per written pixel."""

    seconds: float = 0.0
    num_bytes: float = 0.0


def estimate_frames(plan: Plan, spec: RunSpec, executor: Executor) -> int:
    """Estimate the video frames that are left to write, by the headers of a sample; 0 without videos."""
    return round(_volume(plan, spec, executor, "video").num_frames)


def preflight(plan: Plan, spec: RunSpec, executor: Executor) -> str:
    """Return the table that a dry run ends with."""
    (num_images, _), (num_videos, _), (num_shards, shard_bytes) = map(plan.left, ("image", "video", "shard"))
    images, videos = (_volume(plan, spec, executor, kind) for kind in ("image", "video"))
    image_cost, video_cost = (_cost(plan, spec, executor, kind) for kind in ("image", "video"))
    table = Table(title="preflight (nothing is written)", show_header=False, title_justify="left")
    table.add_row("input", spec.config.input)
    table.add_row("output", spec.config.output)
    mode = f", {spec.choice.mode}" if spec.style_images or len(spec.choice.names) > 1 else ""
    table.add_row("style", f"{spec.style} ({spec.kind.name}{mode})")
    table.add_row("files", f"{plan.num_files:,}, {plan.num_bytes / 1e6:,.1f} MB")
    if spec.choice.has_folders:
        styles = spec.choice.per_item
        table.add_row("outputs", f"{plan.num_files * styles:,}: {styles:,} styles for each file")
    table.add_row("done before", f"{plan.num_done:,}")
    table.add_row("images to do", f"{num_images:,}")
    hours = videos.duration_s / 3600
    table.add_row("videos to do", f"{num_videos:,}, ~{videos.num_frames:,.0f} frames, {hours:.2f} h")
    if num_shards:
        table.add_row("shards to do", f"{num_shards:,}, {shard_bytes / 1e6:,.1f} MB (not estimated)")
    skipped, collisions = (plan.count_refused(error) for error in ("UnsupportedMediaError", "OutputCollisionError"))
    table.add_row("no media", f"{skipped:,} (a row with status skipped)")
    table.add_row("collisions", f"{collisions:,}")
    refusals = itertools.chain.from_iterable(plan.refusals())
    shown = (refusal for refusal in refusals if refusal.error_type == "OutputCollisionError")
    for refusal in itertools.islice(shown, _SHOWN_COLLISIONS):
        table.add_row("", f"{refusal.item['relpath']}: {refusal.message}")
    table.add_row("GPUs", f"{executor.num_gpus}")
    table.add_row("workers", f"{executor.num_workers}")
    if (num_images and not image_cost.seconds) or (num_videos and not video_cost.seconds):
        table.add_row("estimates", "unknown: none of the samples could be stylized")
    else:
        seconds = images.num_pixels * image_cost.seconds + videos.num_pixels * video_cost.seconds
        num_bytes = images.num_pixels * image_cost.num_bytes + videos.num_pixels * video_cost.num_bytes
        estimated = timedelta(seconds=round(seconds / executor.num_workers))
        table.add_row("estimated time", f"~{estimated} (measured on samples)")
        table.add_row("estimated output", f"~{num_bytes / 1e6:,.1f} MB")
    return render(table)


def _volume(plan: Plan, spec: RunSpec, executor: Executor, kind: str) -> _Volume:
    num_rows, num_bytes = plan.left(kind)
    items = plan.sample(kind, _PROBES) if num_rows else []
    probes = executor.call(_probe_all, spec, items, kind, limit_s=_PROBE_S) if items else []
    if probes is None:  # one has killed the process, or hangs: the first of them, each in its own, must do
        probes = [executor.call(_probe, spec, item, kind, limit_s=_PROBE_S) for item in items[:_SAMPLES]]
    known = [(item, probe) for item, probe in zip(items, probes, strict=False) if probe]
    if not known:
        return _Volume()
    sampled_bytes = sum(item["source_bytes"] or 0 for item, _ in known)
    scale = num_bytes / sampled_bytes if sampled_bytes else num_rows / len(known)
    return _Volume(*(sum(column) * scale for column in zip(*(found for _, found in known), strict=True)))


def _cost(plan: Plan, spec: RunSpec, executor: Executor, kind: str) -> _Cost:
    sample = plan.sample(kind, _SAMPLES)
    found = None
    with contextlib.suppress(Exception):  # the estimate is then unknown, as where a sample kills its process
        on_gpu, limit_s = wants_gpu(spec.config), spec.config.workers.item_timeout_s
        found = executor.call(_measure, spec, sample, kind, gpu=on_gpu, limit_s=limit_s) if sample else None
    return found or _Cost()


def _probe_all(spec: RunSpec, items: list[Item], kind: str) -> list[_Volume | None]:
    configure_storage(spec.config.storage)
    return [_probe(spec, item, kind) for item in items]


def _probe(spec: RunSpec, item: Item, kind: str) -> _Volume | None:
    """Return the work of one file by its header, or None."""
    source = Folder(spec.source_root)
    max_side = spec.config.resize.max_side
    try:
        if kind == "image":
            with source.open(item["relpath"], _HEADER_BYTES) as file, open_image(file) as image:
                width, height = fit_size(image.size, max_side)
            return _Volume(1, width * height)
        header = read_header(source.media_source(item["relpath"]))
        width, height = even_size((header.width, header.height), max_side)
        num_frames, duration_s, video = float(header.num_frames), 0.0, spec.config.video
        if header.duration_s:  # then only what the configuration selects
            duration_s = max(0.0, min(header.duration_s - video.start_s, video.duration_s or header.duration_s))
            rate = header.num_frames / header.duration_s
            num_frames = duration_s * min(rate, video.max_frame_rate or rate)
        return _Volume(num_frames, width * height * num_frames, duration_s)
    except Exception:  # it will be a failed row of the run, and weighs nothing here
        return None


def _measure(spec: RunSpec, items: list[Item], kind: str) -> _Cost | None:
    """Return (seconds, bytes) per written pixel on the way that the run itself takes."""
    context = WorkerContext(spec)
    context.warm_up()
    seconds = pixels = num_bytes = 0.0
    for item in items:
        with contextlib.suppress(Exception):
            measured = (_measure_image if kind == "image" else _measure_video)(context, item)
            seconds, pixels, num_bytes = (a + b for a, b in zip((seconds, pixels, num_bytes), measured, strict=True))
    return _Cost(seconds / pixels, num_bytes / pixels) if pixels else None


def _measure_image(context: WorkerContext, item: Item) -> tuple[float, float, float]:
    config, style = context.config, context.style(item, item["styles"][0])
    started, started_cpu = time.perf_counter(), time.process_time()
    image = decode_image(context.source.read_bytes(item["relpath"]), config.resize.max_side)
    decoded = time.perf_counter()
    timings = Timings()
    stylized_hwc = context.stylize(image.rgb_hwc[None], [style], timings)[0]
    stylized = time.perf_counter()
    image_format = image_output(item["relpath"], has_alpha=image.alpha_hw is not None)[1]
    data = encode_image(stylized_hwc, image.alpha_hw, image_format, config.images.quality)
    stages = (decoded - started, timings.stylize_s, time.perf_counter() - stylized)
    seconds = _pace_s(stages, time.process_time() - started_cpu, config.workers.cpus)
    return seconds, stylized_hwc.shape[0] * stylized_hwc.shape[1], len(data)


def _measure_video(context: WorkerContext, item: Item) -> tuple[float, float, float]:
    style, smoother = context.style(item, item["styles"][0]), context.new_smoother()
    with (
        open_video(context, context.source.media_source(item["relpath"])) as reader,
        tempfile.NamedTemporaryFile(suffix=".mp4") as output,
    ):
        started, started_cpu = time.perf_counter(), time.process_time()
        frames = list(itertools.islice(read_frames(context, reader), _SAMPLE_FRAMES))
        decoded = time.perf_counter()
        frames_nhwc = stack(context, frames)
        size, timings = frames_nhwc.shape[1:3], Timings()
        at_once = context.batch_size(*size)
        batches = [frames_nhwc[first : first + at_once] for first in range(0, len(frames), at_once)]
        parts = context.stylize_in_order(
            lambda batch: context.stylize(batch, [style] * len(batch), timings), batches, lambda _: size
        )
        stylized = list(itertools.chain.from_iterable(parts))
        done = time.perf_counter()
        pairs = zip(frames_nhwc, stylized, strict=True)
        smoothed = [*itertools.chain.from_iterable(smoother.push(*pair) for pair in pairs), *smoother.flush()]
        still = time.perf_counter()
        config = context.config.video
        with VideoWriter(output.name, "mp4", reader.info, written_size(context, reader), None, config) as writer:
            for frame, smoothed_hwc in zip(frames, smoothed, strict=True):
                writer.write(finish_frame(context, reader, frame, smoothed_hwc))
        stages = (decoded - started, timings.stylize_s, still - done, time.perf_counter() - still)
        seconds = _pace_s(stages, time.process_time() - started_cpu, context.config.workers.cpus)
        num_bytes = output.seek(0, io.SEEK_END)
        return seconds, float(np.prod(frames_nhwc.shape[:3])), num_bytes


def _pace_s(stages: Sequence[float], cpu_s: float, cores: float | None) -> float:
    """Return the seconds that a worker takes for what its ``stages`` took one after another, and ``cpu_s`` of a core.

    They run side by side: as long as the longest of them, or as the worker's cores take for all. Default: all cores.
    """
    return max(*stages, cpu_s / (cores or cores_per_node()))
