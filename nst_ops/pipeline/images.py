"""Images, in files or in shards: read (in a thread ahead of the network) → stylize → encode → commit (behind it)."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from nst_ops.collection.constants import REPORT
from nst_ops.collection.manifest import Row
from nst_ops.collection.units import Item, WorkUnit, few_styles_each
from nst_ops.media.errors import NetworkError
from nst_ops.media.formats import image_output
from nst_ops.media.images import DecodedImage, UInt8Array, decode_image, encode_image, is_animated, is_video
from nst_ops.media.shards import Sample, ShardImage
from nst_ops.media.style_images import Style
from nst_ops.pipeline.context import WorkerContext, failing
from nst_ops.pipeline.prefetch import QUEUE_BYTES, Timings, map_threads, prefetch, timed
from nst_ops.pipeline.video import stylize_video

R = TypeVar("R")

_UPLOADS = 8  # images that are encoded and uploaded at once: a small upload mostly waits for answers


@dataclass
class ImageTask:
    """An image on its way through one style."""

    item: Item  # the source, for its row
    style_name: str
    image: DecodedImage | None = None  # None after an error, for what moves, and for a sample without one
    is_video: bool = False  # whether it is a video by its content
    style: Style | None = None  # None for a network that has its own style
    stylized_hwc: UInt8Array | None = None  # (H, W, 3), once it is stylized
    error: Exception | None = None
    timings: Timings = field(default_factory=Timings)
    losses: list[dict[str, float]] = field(default_factory=list)  # of each step, where the image was optimized
    notes: list[str] = field(default_factory=list)  # what its stylizer has to say of it
    outcome: dict[str, Any] = field(default_factory=dict)  # columns of the manifest, once it is encoded
    sample: Sample | None = None  # the sample of a shard that the image is a part of
    shard_image: ShardImage | None = None  # the image there

    def num_bytes(self) -> int:
        """Return the bytes of its pixels, before and after."""
        source = self.image.rgb_hwc.nbytes if self.image else 0
        return source + (0 if self.stylized_hwc is None else self.stylized_hwc.nbytes)


def stylize_images(context: WorkerContext, unit: WorkUnit, timings: Timings) -> list[Row]:
    """Stylize the image files of a unit; return the row of each, in each of its styles."""
    rows: list[Row] = []
    moving: dict[str, tuple[Item, bool]] = {}
    num_threads = 1 if context.output.is_local or context.run_spec.kind.has_losses else _UPLOADS
    reads = context.source.read_ahead(item["relpath"] for item in unit.items)
    items = zip(unit.items, reads, strict=True)
    decoded = itertools.chain.from_iterable(decode_tasks(context, item, read) for item, read in items)
    tasks = stylize_tasks(context, decoded, timings)
    for task, row in write_behind(context, partial(_write, context, unit), tasks, timings, num_threads):
        if row:
            rows.append(row)
        else:
            moving[task.item["item_id"]] = {**task.item, "kind": "video"}, not task.is_video
    for video, animated in moving.values():  # only now, since there is one network for all
        for few in few_styles_each(video):
            rows += stylize_video(context, unit, few, timings, animated)
    return rows


def _write(context: WorkerContext, unit: WorkUnit, task: ImageTask) -> tuple[ImageTask, Row | None]:
    """Encode and write an image; return its row, or none for what moves, which becomes a video."""
    if task.error is None and task.stylized_hwc is None:
        return task, None
    if task.image and not task.error:
        with failing(task), task.timings.busy("encode_s"):
            relpath, image_format = image_output(task.item["relpath"], has_alpha=task.image.alpha_hw is not None)
            relpath = context.output_path(task.item, task.style_name, relpath)
            data = encode_task(context, task, image_format)
            context.output.write_bytes(relpath, data)
            task.outcome["output_uri"] = context.output.uri(relpath)
            if task.losses:
                from nst_ops.report.loss_curve import plot_losses  # matplotlib takes a second to load

                terms = [term for term in task.losses[0] if term not in ("step", "total")]
                plot = context.run_spec.names.path(f"{relpath}.png")
                with context.output.atomic_write(f"{REPORT}/losses/{plot}") as temporary:
                    plot_losses(temporary, terms, task.losses, smooth=False)
    context.telemetry.add(1, 0)
    return task, context.row(unit, task.item, task.style_name, task.timings, task.error, **task.outcome)


def decode_tasks(
    context: WorkerContext,
    item: Item,
    read: Callable[[], bytes],
    sample: Sample | None = None,
    shard_image: ShardImage | None = None,
) -> Iterator[ImageTask]:
    """Decode an image once for all of its styles, and read these."""
    first = ImageTask(item, "", sample=sample, shard_image=shard_image)
    with failing(first), first.timings.busy("decode_s"):
        data = read()
        first.is_video = is_video(data)
        if not (first.is_video or is_animated(data)):
            first.image = decode_image(data, context.config.resize.max_side)
    share_s = first.timings.decode_s / len(item["styles"])
    for name in item["styles"]:
        task = replace(first, style_name=name, timings=Timings(decode_s=share_s), losses=[], notes=[], outcome={})
        if task.image is not None:
            with failing(task), task.timings.busy("decode_s"):
                task.style = context.style(item, name)
            if task.error:
                task.image = None
        yield task


def stylize_tasks(context: WorkerContext, tasks: Iterator[ImageTask], timings: Timings) -> Iterator[ImageTask]:
    """Stylize images of one size in batches, and yield all in their order; images are large: few are read ahead."""
    read = timed(tasks, timings, "decode_s")
    depth, telemetry = context.images_ahead, context.telemetry
    ahead = prefetch(read, depth, timings, telemetry.decode_fill, ImageTask.num_bytes)

    def stylize(tasks: Iterator[ImageTask]) -> Iterator[list[ImageTask]]:
        stylize_batch, batches = partial(_stylize_batch, context, timings), _batches(context, tasks)
        return context.stylize_in_order(stylize_batch, batches, _size, _num_bytes)

    with contextlib.closing(ahead):
        if context.on_gpu:  # it wants large batches: neighbors of other sizes may lie between
            for window in _windows(ahead, depth):
                for _ in stylize(iter(sorted(window, key=lambda task: _size([task])))):
                    pass
                yield from window
        else:
            yield from itertools.chain.from_iterable(stylize(ahead))


def _windows(tasks: Iterator[ImageTask], most: int) -> Iterator[list[ImageTask]]:
    """Yield neighbors, at most so many, and about half of ``QUEUE_BYTES`` of them."""
    window: list[ImageTask] = []
    for task in tasks:
        window.append(task)
        if len(window) >= most or 2 * _num_bytes(window) >= QUEUE_BYTES:
            yield window
            window = []
    if window:
        yield window


def _batches(context: WorkerContext, tasks: Iterator[ImageTask]) -> Iterator[list[ImageTask]]:
    """Group neighbors of one size, as many as are stylized in one call; what has no image is among its own."""
    for (height, width), run in itertools.groupby(tasks, key=lambda task: _size([task])):
        fitting = max(1, QUEUE_BYTES // max(1, 3 * height * width))
        while batch := list(itertools.islice(run, min(context.batch_size(height, width), fitting))):
            yield batch


def _size(batch: list[ImageTask]) -> tuple[int, int]:
    """Return height and width of the images of a batch; 0 and 0 where they are none."""
    image = batch[0].image
    return image.rgb_hwc.shape[:2] if image else (0, 0)


def _num_bytes(batch: list[ImageTask]) -> int:
    return sum(task.num_bytes() for task in batch)


def _stylize_batch(context: WorkerContext, timings: Timings, batch: list[ImageTask]) -> list[ImageTask]:
    """Stylize the images of a batch, which get an error where they are too large; return the batch."""
    frames = [task.image.rgb_hwc for task in batch if task.image]
    if not frames:
        return batch
    frames_nhwc, spent = np.stack(frames) if len(frames) > 1 else frames[0][None], Timings()
    with failing(*batch, only=(MemoryError, NetworkError)):
        stylized_nhwc = context.stylize(frames_nhwc, [task.style for task in batch], spent)
        nothing: list[list[Any]] = [[] for _ in batch]
        losses = getattr(context.stylizer, "last_losses", nothing)
        notes = getattr(context.stylizer, "last_notes", nothing)
        for task, stylized_hwc, steps, said in zip(batch, stylized_nhwc, losses, notes, strict=True):
            task.stylized_hwc, task.losses, task.notes = stylized_hwc, steps, said
    timings.add(spent)
    for task in batch:
        task.timings.stylize_s = spent.stylize_s / len(batch)
    return batch


def write_behind(
    context: WorkerContext,
    write: Callable[[ImageTask], R],
    tasks: Iterator[ImageTask],
    timings: Timings,
    num_threads: int,
) -> Iterator[R]:
    """Write images in threads behind the network; with one thread in their order."""

    def timed_write(task: ImageTask) -> R:
        with timings.busy("encode_s"):
            return write(task)

    depth, telemetry = context.images_ahead, context.telemetry
    with telemetry.follow(timings):
        fill, num_bytes = telemetry.encode_fill, ImageTask.num_bytes
        yield from map_threads(timed_write, tasks, depth, timings, fill, num_threads, num_bytes)


def encode_task(context: WorkerContext, task: ImageTask, image_format: str) -> bytes:
    """Encode a stylized image with what its source says of itself; note its outcome, but for its place."""
    assert task.image is not None
    assert task.stylized_hwc is not None
    quality, alpha_hw = context.config.images.quality, task.image.alpha_hw
    data = encode_image(task.stylized_hwc, alpha_hw, image_format, quality, task.image.exif, task.image.dpi)
    (width, height), (output_height, output_width, _) = task.image.source_size, task.stylized_hwc.shape
    size = {"width": width, "height": height, "output_width": output_width, "output_height": output_height}
    file = {"output_bytes": len(data), "output_sha256": hashlib.sha256(data).hexdigest()}
    note = "; ".join((*task.image.notes, *task.notes)) or None
    task.outcome = {"status": "ok", "note": note, "num_frames": 1, **size, **file}
    return data
