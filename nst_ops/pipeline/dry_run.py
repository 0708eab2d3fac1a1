"""A dry run: counts, sizes and collisions, and the time that a few samples let expect."""

from __future__ import annotations

import contextlib
import io
import itertools
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from PIL import Image
from rich.table import Table

from nst_ops.collection.planner import Plan, Refusal
from nst_ops.collection.units import Item
from nst_ops.media.formats import image_output
from nst_ops.media.images import decode_image, encode_image, fit_size
from nst_ops.media.video.container import Frame, VideoHeader, even_size, read_header
from nst_ops.media.video.writer import VideoWriter
from nst_ops.pipeline.context import WorkerContext
from nst_ops.pipeline.executors import Executor
from nst_ops.pipeline.executors.pool import wants_gpu
from nst_ops.pipeline.run_spec import RunSpec
from nst_ops.pipeline.video import open_video
from nst_ops.report.text import render
from nst_ops.storage import Folder, configure_storage

_PROBES = 48
"""Headers read of each kind; the rest is estimated by bytes."""
_HEADER_BYTES = 2**16
_SAMPLES = 3
_SAMPLE_FRAMES = 8
_SHOWN_COLLISIONS = 5


@dataclass
class _Volume:
    """The work left of one kind, estimated from probes."""

    num_frames: float = 0.0
    """Images, or frames of video."""
    num_pixels: float = 0.0
    """At the size that is written, over all frames."""
    hours: float = 0.0


@dataclass
class _Cost:
    """Measured on samples, per written pixel."""

    seconds: float = 0.0
    num_bytes: float = 0.0


def estimate_frames(plan: Plan, spec: RunSpec, executor: Executor) -> int:
    """Estimate the video frames that are left to write, by the headers of a sample; 0 without videos."""
    return round(_volume(plan, spec, executor, "video").num_frames)


def preflight(plan: Plan, spec: RunSpec, executor: Executor) -> str:
    """Return the table that a dry run ends with."""
    num_images, num_videos, num_shards = (plan.left(kind)[0] for kind in ("image", "video", "shard"))
    image_volume, video_volume = (_volume(plan, spec, executor, "image"), _volume(plan, spec, executor, "video"))
    image_cost, video_cost = _cost(plan, spec, executor, "image"), _cost(plan, spec, executor, "video")
    workers = executor.num_workers
    seconds = image_volume.num_pixels * image_cost.seconds + video_volume.num_pixels * video_cost.seconds
    num_bytes = image_volume.num_pixels * image_cost.num_bytes + video_volume.num_pixels * video_cost.num_bytes
    table = Table(title="preflight (nothing is written)", show_header=False, title_justify="left")
    table.add_row("input", spec.config.input)
    table.add_row("output", spec.config.output)
    mode = f", {spec.choice.mode}" if spec.style_images else ""
    table.add_row("style", f"{spec.style} ({spec.kind.name}{mode})")
    table.add_row("files", f"{plan.num_files:,}, {plan.num_bytes / 1e6:,.1f} MB")
    if spec.choice.has_folders:
        styles = spec.choice.per_item
        table.add_row("outputs", f"{plan.num_files * styles:,}: {styles:,} styles for each file")
    table.add_row("done before", f"{plan.num_done:,}")
    table.add_row("images to do", f"{num_images:,}")
    table.add_row("videos to do", f"{num_videos:,}, ~{video_volume.num_frames:,.0f} frames, {video_volume.hours:.2f} h")
    if num_shards:
        shard_bytes = plan.left("shard")[1]
        table.add_row("shards to do", f"{num_shards:,}, {shard_bytes / 1e6:,.1f} MB (not estimated)")
    skipped, collisions = (plan.count_refused(error) for error in ("UnsupportedMediaError", "OutputCollisionError"))
    table.add_row("no media", f"{skipped:,} (a row with status skipped)")
    table.add_row("collisions", f"{collisions:,}")
    for refusal in itertools.islice(_collisions(plan), _SHOWN_COLLISIONS):
        table.add_row("", f"{refusal.item['relpath']}: {refusal.message}")
    table.add_row("GPUs", f"{executor.num_gpus}")
    table.add_row("workers", f"{workers}")
    if (num_images and not image_cost.seconds) or (num_videos and not video_cost.seconds):
        table.add_row("estimates", "unknown: none of the samples could be stylized")
    else:
        table.add_row("estimated time", f"~{timedelta(seconds=round(seconds / workers))} (measured on samples)")
        table.add_row("estimated output", f"~{num_bytes / 1e6:,.1f} MB")
    return render(table)


def _collisions(plan: Plan) -> Iterator[Refusal]:
    refusals = itertools.chain.from_iterable(plan.refusals())
    return (refusal for refusal in refusals if refusal.error_type == "OutputCollisionError")


def _volume(plan: Plan, spec: RunSpec, executor: Executor, kind: str) -> _Volume:
    num_rows, num_bytes = plan.left(kind)
    if not num_rows:
        return _Volume()
    known = _probe_apart(spec, executor, plan.sample(kind, _PROBES), kind)
    if not known:
        return _Volume()
    sampled_bytes = sum(item["source_bytes"] or 0 for item, _ in known)
    scale = num_bytes / sampled_bytes if sampled_bytes else num_rows / len(known)
    totals = [sum(column) * scale for column in zip(*(found for _, found in known), strict=True)]
    return _Volume(totals[0], totals[1], totals[2] / 3600)


def _probe_apart(
    spec: RunSpec, executor: Executor, items: list[Item], kind: str
) -> list[tuple[Item, tuple[float, float, float]]]:
    """Probe items in a process that may die of one: then those before it, or one by one, must do."""
    probes = executor.call(_probe_all, spec, items, kind)
    if probes is None:
        probes = [executor.call(_probe, spec, item, kind) for item in items[:_SAMPLES]]
    return [(item, probe) for item, probe in zip(items, probes, strict=False) if probe]


def _cost(plan: Plan, spec: RunSpec, executor: Executor, kind: str) -> _Cost:
    sample = plan.sample(kind, _SAMPLES)
    found = None
    with contextlib.suppress(Exception):  # the estimate is then unknown, as where a sample kills its process
        found = executor.call(_measure, spec, sample, kind, gpu=wants_gpu(spec.config)) if sample else None
    return _Cost(*found) if found else _Cost()


def _probe_all(spec: RunSpec, items: list[Item], kind: str) -> list[tuple[float, float, float] | None]:
    configure_storage(spec.config.storage)
    return [_probe(spec, item, kind) for item in items]


def _probe(spec: RunSpec, item: Item, kind: str) -> tuple[float, float, float] | None:
    """Return (frames, written pixels, seconds) of one file by its header, or None."""
    source = Folder(spec.source_root)
    max_side = spec.config.resize.max_side
    try:
        if kind == "image":
            with source.open(item["relpath"], _HEADER_BYTES) as file, Image.open(file) as image:
                width, height = fit_size(image.size, max_side)
            return 1.0, float(width * height), 0.0
        header = read_header(source.media_source(item["relpath"]))
        width, height = even_size((header.width, header.height), max_side)
        num_frames, duration_s = _selected(spec, header)
        return num_frames, width * height * num_frames, duration_s
    except Exception:  # it will be a failed row of the run, and weighs nothing here
        return None


def _selected(spec: RunSpec, header: VideoHeader) -> tuple[float, float]:
    """Return (frames, seconds) of a video that the configuration selects."""
    video = spec.config.video
    if not header.duration_s:
        return float(header.num_frames), 0.0
    duration_s = max(0.0, min(header.duration_s - video.start_s, video.duration_s or header.duration_s))
    rate = header.num_frames / header.duration_s
    return duration_s * min(rate, video.max_frame_rate or rate), duration_s


def _measure(spec: RunSpec, items: list[Item], kind: str) -> tuple[float, float] | None:
    """Return (seconds, bytes) per written pixel on the way that the run itself takes."""
    context = WorkerContext(spec)
    seconds = pixels = num_bytes = 0.0
    for item in items:
        with contextlib.suppress(Exception):
            measured = (_measure_image if kind == "image" else _measure_video)(context, item)
            seconds, pixels, num_bytes = (a + b for a, b in zip((seconds, pixels, num_bytes), measured, strict=True))
    return (seconds / pixels, num_bytes / pixels) if pixels else None


def _measure_image(context: WorkerContext, item: Item) -> tuple[float, float, float]:
    config, style = context.config, context.read_style(item["styles"][0])
    started = time.perf_counter()
    image = decode_image(context.source.read_bytes(item["relpath"]), config.resize.max_side)
    decoded = time.perf_counter()
    stylized_hwc = context.stylize(image.rgb_hwc[None], [style])[0]
    stylized = time.perf_counter()
    image_format = image_output(item["relpath"], has_alpha=image.alpha_hw is not None)[1]
    data = encode_image(stylized_hwc, image.alpha_hw, image_format, config.images.quality)
    stages = (decoded - started, stylized - decoded, time.perf_counter() - stylized)
    return max(stages), stylized_hwc.shape[0] * stylized_hwc.shape[1], len(data)


def _measure_video(context: WorkerContext, item: Item) -> tuple[float, float, float]:
    style, smoother = context.read_style(item["styles"][0]), context.new_smoother()
    with (
        open_video(context, context.source.media_source(item["relpath"])) as reader,
        tempfile.NamedTemporaryFile(suffix=".mp4") as output,
    ):
        started = time.perf_counter()
        frames = list(itertools.islice(reader.frames(), _SAMPLE_FRAMES))
        decoded = time.perf_counter()
        frames_nhwc = np.stack([frame.rgb_hwc for frame in frames])
        stylized_nhwc = context.stylize(frames_nhwc, [style] * len(frames))
        stylized = time.perf_counter()
        pairs = zip(frames_nhwc, stylized_nhwc, strict=True)
        smoothed = [*itertools.chain.from_iterable(smoother.push(*pair) for pair in pairs), *smoother.flush()]
        still = time.perf_counter()
        config = context.config.video
        with VideoWriter(output.name, "mp4", reader.info, reader.output_size, None, config) as writer:
            for frame, smoothed_hwc in zip(frames, smoothed, strict=True):
                writer.write(Frame(frame.pts, frame.duration, smoothed_hwc))
        stages = (decoded - started, stylized - decoded, still - stylized, time.perf_counter() - still)
        num_bytes = output.seek(0, io.SEEK_END)
        return max(stages), float(np.prod(stylized_nhwc.shape[:3])), num_bytes
