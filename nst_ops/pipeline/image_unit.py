"""A unit of images: decoded ahead of the network, encoded behind it, a whole unit long."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from nst_ops.collection.manifest import Row
from nst_ops.collection.plan import REPORT, Item, WorkUnit
from nst_ops.media.errors import TooLargeError
from nst_ops.media.formats import image_output
from nst_ops.media.images import DecodedImage, UInt8Array, decode_image, encode_image, is_animated
from nst_ops.pipeline.film_unit import stylize_film
from nst_ops.pipeline.overlap import Timings, WriteBehind, read_ahead
from nst_ops.pipeline.workbench import Workbench
from nst_ops.report.loss_curve import plot_losses
from nst_ops.storage import StorageFullError
from nst_ops.stylizers import Style


@dataclass
class _Task:
    """An item in one style, on its way from the decoder to the network."""

    item: Item
    style_name: str
    image: DecodedImage | None
    style: Style | None
    error: Exception | None
    timings: Timings
    losses: list[dict[str, float]] = field(default_factory=list)
    """Of each step, where the picture was optimised."""


def stylize_images(bench: Workbench, unit: WorkUnit, timings: Timings) -> list[Row]:
    """Stylize the images of a unit; the row of each, in each of its styles."""
    rows: list[Row] = []
    batch_size = bench.config.model.batch_size
    depth = batch_size  # photographs are large: no more of them than the network takes

    def finish(task: _Task, stylized_hwc: UInt8Array) -> None:
        rows.append(_write(bench, unit, task, stylized_hwc))
        bench.report(1, 0)

    ahead = contextlib.closing(read_ahead(_decode(bench, unit), depth, timings))
    behind = WriteBehind[tuple[_Task, UInt8Array]](lambda pair: finish(*pair), depth, timings)
    with ahead as tasks, behind:
        for batch in _same_size_batches(tasks, batch_size):
            if batch[0].image is None:
                rows.append(_without_image(bench, unit, batch[0], timings))
                bench.report(1, 0)
                continue
            started = time.perf_counter()
            try:
                frames_nhwc = np.stack([task.image.rgb_hwc for task in batch if task.image])
                stylized_nhwc = bench.paint(frames_nhwc, [task.style for task in batch])
            except MemoryError as error:
                too_large = TooLargeError(str(error))
                rows.extend(
                    bench.failed(unit, task.item, task.style_name, too_large, task.timings) for task in batch
                )
                bench.report(len(batch), 0)
                continue
            elapsed = time.perf_counter() - started
            timings.stylize_s += elapsed
            losses = getattr(bench.stylizer, "last_losses", [[] for _ in batch])
            for task, stylized_hwc, steps in zip(batch, stylized_nhwc, losses, strict=True):
                task.losses = steps
                task.timings.stylize_s = elapsed / len(batch)
                behind.put((task, stylized_hwc))
    return rows


def _decode(bench: Workbench, unit: WorkUnit) -> Iterator[_Task]:
    """Each item decoded once, for all of its styles, whose pictures are read here as well."""
    for item in unit.items:
        started = time.perf_counter()
        image, error = None, None
        try:
            data = bench.source.read_bytes(item["relpath"])
            if not is_animated(data):
                image = decode_image(data, bench.config.resize.max_side)
        except Exception as caught:  # any bad file becomes a row, never the end of the run
            error = caught
        share_s = (time.perf_counter() - started) / len(item["styles"])
        for name in item["styles"]:
            yield _in_style(bench, _Task(item, name, image, None, error, Timings(decode_s=share_s)))


def _in_style(bench: Workbench, task: _Task) -> _Task:
    """The task with its style picture, or with the reason why there is none."""
    started = time.perf_counter()
    if task.image is not None:
        try:
            task.style = bench.read_style(task.style_name)
        except Exception as error:  # a bad style picture costs its rows, never the run
            task.image, task.error = None, error
    task.timings.decode_s += time.perf_counter() - started
    return task


def _same_size_batches(tasks: Iterator[_Task], batch_size: int) -> Iterator[list[_Task]]:
    """Runs of neighbours that the network can take at once; what is no image comes alone."""

    def size(task: _Task) -> object:
        return task.image.rgb_hwc.shape if task.image else (task.item["item_id"], task.style_name)

    for _, run in itertools.groupby(tasks, key=size):
        while batch := list(itertools.islice(run, batch_size)):
            yield batch


def _write(bench: Workbench, unit: WorkUnit, task: _Task, stylized_hwc: UInt8Array) -> Row:
    image, item, timings = task.image, task.item, task.timings
    assert image is not None
    started = time.perf_counter()
    try:
        relpath, image_format = image_output(item["relpath"], has_alpha=image.alpha_hw is not None)
        relpath = bench.place(item, task.style_name, relpath)
        quality = bench.config.images.quality
        data = encode_image(stylized_hwc, image.alpha_hw, image_format, quality, image.exif)
        with bench.output.atomic_write(relpath) as temporary:
            temporary.write_bytes(data)
        if task.losses:
            terms = [term for term in task.losses[0] if term not in ("step", "total")]
            with bench.output.atomic_write(f"{REPORT}/losses/{relpath}.png") as temporary:
                plot_losses(temporary, terms, task.losses, smooth=False)
    except StorageFullError:
        raise
    except Exception as error:  # a name too long, a format's own limit on size
        return bench.failed(unit, item, task.style_name, error, timings)
    timings.encode_s = time.perf_counter() - started
    return bench.row(
        unit,
        item,
        task.style_name,
        timings,
        status="ok",
        output_uri=bench.output.uri(relpath),
        output_bytes=len(data),
        output_sha256=hashlib.sha256(data).hexdigest(),
        width=image.source_size[0],
        height=image.source_size[1],
        output_width=stylized_hwc.shape[1],
        output_height=stylized_hwc.shape[0],
        num_frames=1,
    )


def _without_image(bench: Workbench, unit: WorkUnit, task: _Task, timings: Timings) -> Row:
    """A file that did not decode is a failed row; an animated one is a film."""
    if task.error is not None:
        return bench.failed(unit, task.item, task.style_name, task.error, task.timings)
    film = {**task.item, "kind": "video"}
    return stylize_film(bench, unit, film, task.style_name, timings, animated=True)
