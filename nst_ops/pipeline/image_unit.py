"""A unit of image files, each written as a file of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator

from nst_ops.collection.constants import REPORT
from nst_ops.collection.manifest import Row
from nst_ops.collection.units import Item, WorkUnit, few_each
from nst_ops.media.formats import image_output
from nst_ops.media.images import UInt8Array
from nst_ops.pipeline.film_unit import stylize_film
from nst_ops.pipeline.image_task import Task, decode_tasks, encode_task, image_outcome, paint_images
from nst_ops.pipeline.overlap import Timings
from nst_ops.pipeline.workbench import Workbench
from nst_ops.report.loss_curve import plot_losses
from nst_ops.storage import StorageError

_UPLOADS = 8
"""Images that are encoded and uploaded at once."""


def stylize_images(bench: Workbench, unit: WorkUnit, timings: Timings) -> list[Row]:
    """Stylize the images of a unit; the row of each, in each of its styles."""
    rows: list[Row] = []
    films: dict[str, Item] = {}

    def write(task: Task, stylized_hwc: UInt8Array | None) -> None:
        if task.error is not None:
            rows.append(bench.failed(unit, task.item, task.style_name, task.error, task.timings))
        elif stylized_hwc is not None:
            rows.append(_write(bench, unit, task, stylized_hwc))
        else:
            films[task.item["item_id"]] = {**task.item, "kind": "video"}
            return
        bench.report(1, 0)

    paint_images(bench, _decode(bench, unit), write, timings, _num_writers(bench))
    places = {item["item_id"]: number for number, item in enumerate(unit.items)}
    rows.sort(key=lambda row: (places[row["item_id"]], row["style"]))  # the same part from any number of them
    for film in films.values():  # animated: only now, since there is one network for all
        for few in few_each(film):
            rows += stylize_film(bench, unit, few, timings, animated=True)
    return rows


def _num_writers(bench: Workbench) -> int:
    """Most of the time of a small upload is the way there and back; loss curves are drawn one by one."""
    return 1 if bench.output.is_local or bench.config.model.kind == "gatys" else _UPLOADS


def _decode(bench: Workbench, unit: WorkUnit) -> Iterator[Task]:
    reads = bench.source.read_ahead(item["relpath"] for item in unit.items)
    for item, read in zip(unit.items, reads, strict=True):
        yield from decode_tasks(bench, item, read)


def _write(bench: Workbench, unit: WorkUnit, task: Task, stylized_hwc: UInt8Array) -> Row:
    image, item, timings = task.image, task.item, task.timings
    assert image is not None
    started = time.perf_counter()
    try:
        relpath, image_format = image_output(item["relpath"], has_alpha=image.alpha_hw is not None)
        relpath = bench.place(item, task.style_name, relpath)
        data = encode_task(bench, task, stylized_hwc, image_format)
        bench.output.write_bytes(relpath, data)
        if task.losses:
            terms = [term for term in task.losses[0] if term not in ("step", "total")]
            with bench.output.atomic_write(f"{REPORT}/losses/{relpath}.png") as temporary:
                plot_losses(temporary, terms, task.losses, smooth=False)
    except StorageError:
        raise
    except Exception as error:  # a name too long, a format's own limit on size
        return bench.failed(unit, item, task.style_name, error, timings)
    timings.encode_s = time.perf_counter() - started
    outcome = image_outcome(task, stylized_hwc, data)
    return bench.row(unit, item, task.style_name, timings, output_uri=bench.output.uri(relpath), **outcome)
