"""Units with shards: a shard that is stylized, and image files that are written into one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial

from nst_ops.collection.inputs import item_id
from nst_ops.collection.manifest import Row
from nst_ops.collection.units import Item, WorkUnit
from nst_ops.media.errors import MediaError, UnreadableShardError
from nst_ops.media.formats import media_kind, shard_output
from nst_ops.media.shards import Layout, ShardImage, ShardReader, file_samples, open_shard
from nst_ops.pipeline.image_task import Task, decode_tasks, paint_images
from nst_ops.pipeline.overlap import Timings
from nst_ops.pipeline.shard_outputs import FilesOutput, Output, ShardOutput
from nst_ops.pipeline.shard_sink import ShardSink
from nst_ops.pipeline.workbench import Workbench
from nst_ops.storage import StorageError


def stylize_shard(bench: Workbench, unit: WorkUnit, timings: Timings) -> list[Row]:
    """Stylize a shard; a row for each of its images in each style.

    A shard that is damaged has a row of its own in each style, beside those of the samples before the damage.
    """
    (item,) = unit.items
    damage: MediaError | OSError | None = None
    rows: list[Row] = []
    try:
        with bench.source.local_copy(item["relpath"]) as path:
            shard = open_shard(path, bench.config.shards.image_column)
            rows, damage = _stylize(bench, unit, shard, timings)
    except StorageError:
        raise
    except (MediaError, OSError) as error:
        damage = error
    for style in item["styles"]:
        if damage:
            rows.append(bench.failed(unit, item, style, damage, Timings()))
        elif not any(row["style"] == style for row in rows):
            rows.append(_without_images(bench, unit, style))
        else:
            continue
        bench.report(1, 0)
    return rows


def pack_images(bench: Workbench, unit: WorkUnit, timings: Timings) -> list[Row]:
    """Stylize image files into one shard for each style; a row for each file in each style."""
    config = bench.config.shards
    in_table = config.format == "parquet"
    labels = [
        {**({"source_uri": item["source_uri"]} if in_table else {}), **item.get("extra", {})}
        for item in unit.items
    ]
    samples, columns = file_samples([item["relpath"] for item in unit.items], labels, config.image_column)
    relpath, form = shard_output(unit.shard, config.format)
    layout = columns if form == "parquet" else None
    styles = list(dict.fromkeys(style for item in unit.items for style in item["styles"]))

    def tasks() -> Iterator[Task]:
        for item, sample in zip(unit.items, samples, strict=True):
            read = partial(bench.source.read_bytes, item["relpath"])
            yield from decode_tasks(bench, item, read, sample, sample.image)

    with contextlib.ExitStack() as opened:
        outputs = {
            style: _open_output(bench, bench.spec.choice.output(style, relpath), form, layout, opened)
            for style in styles
        }
        sink = ShardSink(bench, unit, outputs)
        paint_images(bench, tasks(), sink.write, timings)
    return sink.rows


def _stylize(
    bench: Workbench, unit: WorkUnit, shard: ShardReader, timings: Timings
) -> tuple[list[Row], UnreadableShardError | None]:
    """Write the stylized shards; the rows of their images, and why they end early, if they do."""
    (item,) = unit.items
    damage: list[UnreadableShardError] = []
    relpath, form = shard_output(item["relpath"], bench.config.shards.format)
    layout = shard.layout() if form == "parquet" else None
    with contextlib.ExitStack() as opened:
        outputs = {
            style: _open_output(bench, bench.place(item, style, relpath), form, layout, opened)
            for style in item["styles"]
        }
        sink = ShardSink(bench, unit, outputs)
        paint_images(bench, _decode(bench, item, shard, damage), sink.write, timings)
    return sink.rows, damage[0] if damage else None


def _open_output(
    bench: Workbench, relpath: str, form: str, layout: Layout | None, opened: contextlib.ExitStack
) -> Output:
    if form == "files":
        return FilesOutput(bench.output, relpath)
    return opened.enter_context(ShardOutput(bench.output, relpath, layout))


def _decode(
    bench: Workbench, item: Item, shard: ShardReader, damage: list[UnreadableShardError]
) -> Iterator[Task]:
    """Every image of the shard, decoded once, in each style; up to the damage, which is handed out."""
    try:
        for sample in shard.samples():
            for picture in sample.images:
                read = partial(_bytes, picture)
                yield from decode_tasks(bench, _image_item(item, picture), read, sample, picture)
            if not sample.images:
                for style in item["styles"]:
                    yield Task(item, style, sample=sample)
    except UnreadableShardError as error:
        damage.append(error)


def _bytes(picture: ShardImage) -> bytes:
    if picture.error:
        raise picture.error
    return picture.data


def _image_item(shard: Item, picture: ShardImage) -> Item:
    """An image of a shard as an item of the catalog."""
    return {
        **shard,
        "item_id": item_id(f"{shard['source_uri']}#{picture.member}"),
        "source_member": picture.member,
        "source_bytes": len(picture.data),
        "kind": "video" if media_kind(picture.name) == "video" else "image",
    }


def _without_images(bench: Workbench, unit: WorkUnit, style: str) -> Row:
    return bench.row(
        unit,
        unit.items[0],
        style,
        Timings(),
        status="skipped",
        error_type="UnsupportedMediaError",
        error_message="a shard without images",
    )
