"""Images on their way through the network: the same for files and for what lies in shards."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nst_ops.collection.units import Item
from nst_ops.media.errors import TooLargeError
from nst_ops.media.images import DecodedImage, UInt8Array, decode_image, encode_image, is_animated
from nst_ops.media.shards import Sample, ShardImage
from nst_ops.pipeline.overlap import Timings, WriteBehind, read_ahead
from nst_ops.pipeline.workbench import Workbench
from nst_ops.storage import StorageError
from nst_ops.stylizers import Style


@dataclass
class Task:
    """An image in one style."""

    item: Item
    """What its row says of it."""
    style_name: str
    image: DecodedImage | None = None
    """None where there is an error, where the image moves, and for a sample without one."""
    style: Style | None = None
    error: Exception | None = None
    timings: Timings = field(default_factory=Timings)
    losses: list[dict[str, float]] = field(default_factory=list)
    """Of each step, where the picture was optimized."""
    sample: Sample | None = None
    """Of a shard, that the image is a part of."""
    picture: ShardImage | None = None
    """What it is there."""


Write = Callable[[Task, UInt8Array | None], None]
"""Takes a task and its stylized image (H, W, 3); None where there is none."""


def decode_tasks(
    bench: Workbench,
    item: Item,
    read: Callable[[], bytes],
    sample: Sample | None = None,
    picture: ShardImage | None = None,
) -> Iterator[Task]:
    """An image decoded once, for all of its styles, whose pictures are read here as well."""
    started = time.perf_counter()
    image, error = None, None
    try:
        data = read()
        if not is_animated(data):
            image = decode_image(data, bench.config.resize.max_side)
    except StorageError:
        raise
    except Exception as caught:  # any bad file becomes a row, never the end of the run
        error = caught
    share_s = (time.perf_counter() - started) / len(item["styles"])
    for name in item["styles"]:
        task = Task(item, name, image, None, error, Timings(decode_s=share_s), [], sample, picture)
        yield _in_style(bench, task)


def paint_images(
    bench: Workbench, tasks: Iterator[Task], write: Write, timings: Timings, num_writers: int = 1
) -> None:
    """Decode ahead of the network and write behind it: ``write`` gets every task.

    With one writer they come in their order.
    """
    batch_size = bench.config.model.batch_size
    depth = batch_size  # photographs are large: no more of them than the network takes
    meter = bench.meter
    ahead = contextlib.closing(read_ahead(tasks, depth, timings, meter.decode_fill))
    behind = WriteBehind[tuple[Task, UInt8Array | None]](
        lambda pair: write(*pair), depth, timings, meter.encode_fill, num_writers
    )
    with meter.follow(timings), ahead as decoded, behind:
        for batch in _same_size_batches(decoded, batch_size):
            for pair in zip(batch, _paint(bench, batch, timings), strict=True):
                behind.put(pair)


def encode_task(bench: Workbench, task: Task, stylized_hwc: UInt8Array, image_format: str) -> bytes:
    """The stylized image in a format, with the transparency and the EXIF of its source."""
    assert task.image is not None
    quality = bench.config.images.quality
    return encode_image(stylized_hwc, task.image.alpha_hw, image_format, quality, task.image.exif)


def image_outcome(task: Task, stylized_hwc: UInt8Array, data: bytes) -> dict[str, Any]:
    """What the manifest says of a stylized image, but for where it lies."""
    assert task.image is not None
    return {
        "status": "ok",
        "output_bytes": len(data),
        "output_sha256": hashlib.sha256(data).hexdigest(),
        "width": task.image.source_size[0],
        "height": task.image.source_size[1],
        "output_width": stylized_hwc.shape[1],
        "output_height": stylized_hwc.shape[0],
        "num_frames": 1,
    }


def _in_style(bench: Workbench, task: Task) -> Task:
    """The task with its style picture, or with the reason why there is none."""
    started = time.perf_counter()
    if task.image is not None:
        try:
            task.style = bench.read_style(task.style_name)
        except StorageError:
            raise
        except Exception as error:  # a bad style picture costs its rows, never the run
            task.image, task.error = None, error
    task.timings.decode_s += time.perf_counter() - started
    return task


def _same_size_batches(tasks: Iterator[Task], batch_size: int) -> Iterator[list[Task]]:
    """Runs of neighbors that the network can take at once, and runs without an image."""
    for _, run in itertools.groupby(tasks, key=lambda task: task.image and task.image.rgb_hwc.shape):
        while batch := list(itertools.islice(run, batch_size)):
            yield batch


def _paint(bench: Workbench, batch: list[Task], timings: Timings) -> list[UInt8Array | None]:
    frames = [task.image.rgb_hwc for task in batch if task.image]
    if not frames:
        return [None] * len(batch)
    started = time.perf_counter()
    try:
        stylized_nhwc = bench.paint(np.stack(frames), [task.style for task in batch])
    except MemoryError as error:
        for task in batch:
            task.error = TooLargeError(str(error))
        return [None] * len(batch)
    elapsed = time.perf_counter() - started
    timings.stylize_s += elapsed
    losses = getattr(bench.stylizer, "last_losses", [[] for _ in batch])
    for task, steps in zip(batch, losses, strict=True):
        task.losses = steps
        task.timings.stylize_s = elapsed / len(batch)
    return list(stylized_nhwc)
