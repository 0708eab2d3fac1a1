"""Shards: many images in one file, stylized into a shard or files; and image files packed into a shard."""

from __future__ import annotations

import contextlib
import itertools
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from nst_ops.collection.manifest import Row
from nst_ops.collection.packing import note_shards
from nst_ops.collection.units import Item, WorkUnit, item_id
from nst_ops.media.errors import (
    MediaError,
    MissingEndError,
    OutputCollisionError,
    UnreadableShardError,
    UnsupportedMediaError,
)
from nst_ops.media.formats import image_output, is_table, media_kind, shard_output
from nst_ops.media.shards import (
    Layout,
    Member,
    Sample,
    ShardImage,
    ShardReader,
    StylizedImage,
    TakenNames,
    file_samples,
    open_shard,
    open_writer,
    split_name,
)
from nst_ops.pipeline.context import WorkerContext
from nst_ops.pipeline.images import ImageTask, decode_tasks, encode_task, stylize_tasks, write_behind
from nst_ops.pipeline.prefetch import Timings
from nst_ops.storage import Folder, NameRules, StorageError

Place = tuple[str, str | None]  # URI of an output, and for an image in a shard its member there
_NO_ROW = "a file without a key or an extension has no place in a table: take --shards.format webdataset to keep it"
_Sink = Callable[[Sample, Mapping[str, StylizedImage]], dict[str, Place]]
"""Adds a sample to the output of a style; returns the place of each image, by its member in the source."""


def stylize_shard(context: WorkerContext, unit: WorkUnit, timings: Timings) -> list[Row]:
    """Stylize a shard; return a row for each image in each style, and for the shard itself if it is damaged.

    That it only lacks its end mark is a note of its last image.
    """
    (item,) = unit.items
    damage: list[MediaError | OSError] = []
    rows: list[Row] = []
    try:
        with context.source.local_copy(item["relpath"]) as path:
            shard = open_shard(path, context.config.shards.image_column)
            relpath, form = shard_output(item["relpath"], context.config.shards.format)
            relpaths = {style: context.output_path(item, style, relpath) for style in item["styles"]}
            layout = shard.layout() if is_table(form) else None
            rows = _stylize_into(context, unit, relpaths, form, layout, _read(context, item, shard, damage), timings)
    except StorageError:
        raise
    except (MediaError, OSError) as error:
        damage.append(error)
    if damage and isinstance(damage[0], MissingEndError):
        _note_end(rows, str(damage.pop(0)))
    for style in item["styles"]:
        if damage:
            rows.append(context.row(unit, item, style, Timings(), damage[0]))
        elif not any(row["style"] == style for row in rows):
            reason = {"error_type": "UnsupportedMediaError", "error_message": "a shard without images"}
            rows.append(context.row(unit, item, style, Timings(), None, status="skipped", **reason))
        else:
            continue
        context.telemetry.add(1, 0)
    return rows


def pack_images(context: WorkerContext, unit: WorkUnit, timings: Timings) -> list[Row]:
    """Stylize image files into one shard for each style; return a row for each file in each style."""
    config = context.config.shards
    columns_of_table = ("source_uri",) if is_table(config.format) else ()
    own = {config.image_column: config.image_column + "_"}  # a label of the name that the images have
    labels = [
        {name: item[name] for name in columns_of_table}
        | {own.get(name, name): value for name, value in item.get("extra", {}).items()}
        for item in unit.items
    ]
    types = {own.get(name, name): kind for name, kind in context.run_spec.labels.items()}
    samples, columns = file_samples([item["relpath"] for item in unit.items], labels, config.image_column, types)
    relpath, form = shard_output(unit.shard, config.format)
    styles = dict.fromkeys(style for item in unit.items for style in item["styles"])
    relpaths = {style: context.run_spec.choice.output(style, relpath) for style in styles}
    note_shards(context.output, unit.shard, relpaths.values())

    def read() -> Iterator[ImageTask]:
        for item, sample in zip(unit.items, samples, strict=True):
            read_bytes = partial(context.source.read_bytes, item["relpath"])
            yield from decode_tasks(context, item, read_bytes, sample, sample.image)

    layout = columns if is_table(form) else None
    return _stylize_into(context, unit, relpaths, form, layout, read(), timings)


def _stylize_into(
    context: WorkerContext,
    unit: WorkUnit,
    relpaths: Mapping[str, str],
    form: str,
    layout: Layout | None,
    tasks: Iterator[ImageTask],
    timings: Timings,
) -> list[Row]:
    """Stylize images and write them sample by sample, in a thread, into an output for each style."""
    with contextlib.ExitStack() as opened:
        sinks: dict[str, _Sink] = {}
        for style, relpath in relpaths.items():
            if form == "files":
                rules = context.run_spec.names.below(relpath)
                sinks[style] = partial(_write_files, context.output, relpath, rules, TakenNames())
            else:
                sinks[style] = opened.enter_context(_open_sink(context.output, relpath, layout))
        waiting: dict[str, list[ImageTask]] = {style: [] for style in sinks}

        def write(task: ImageTask) -> list[Row]:
            """Write a sample with the last one of its images in a style."""
            assert task.sample is not None
            waiting[task.style_name].append(task)
            if len(waiting[task.style_name]) < len(task.sample.images):
                return []
            tasks, waiting[task.style_name] = waiting[task.style_name], []
            return _write_sample(context, unit, task.sample, tasks, sinks[task.style_name], layout is not None)

        stylized = stylize_tasks(context, tasks, timings)
        return list(itertools.chain.from_iterable(write_behind(context, write, stylized, timings, 1)))


def _read(
    context: WorkerContext, item: Item, shard: ShardReader, damage: list[MediaError | OSError]
) -> Iterator[ImageTask]:
    """Read every image of the shard, decoded once for all styles, up to the damage, which is noted."""
    taken: set[str] = set()
    try:
        for sample in shard.samples():
            for image in sample.images:
                yield from decode_tasks(context, _image_item(item, image), partial(_bytes, image), sample, image)
            if not sample.images:
                described = _item_without_image(item, sample, taken)
                for style in item["styles"]:
                    yield ImageTask(described, style, sample=sample)
    except UnreadableShardError as error:
        damage.append(error)


def _note_end(rows: list[Row], note: str) -> None:
    """Add a note to the last image that is ok in each style."""
    for row in {row["style"]: row for row in rows if row["status"] == "ok"}.values():
        row["note"] = f"{row['note']}; {note}" if row["note"] else note


def _bytes(image: ShardImage) -> bytes:
    if image.error:
        raise image.error
    return image.data


def _image_item(shard: Item, image: ShardImage) -> Item:
    """Describe an image of a shard as an item of the catalog."""
    name = {"item_id": item_id(f"{shard['source_uri']}#{image.member}"), "source_member": image.member}
    kind = "video" if media_kind(image.name) == "video" else "image"
    return {**shard, **name, "source_bytes": len(image.data), "kind": kind}


def _item_without_image(shard: Item, sample: Sample, taken: set[str]) -> Item:
    """Describe a sample that holds no image as an item of the catalog, by its first file or its key."""
    member = sample.name
    while member in taken:
        member += "-"
    taken.add(member)
    name = {"item_id": item_id(f"{shard['source_uri']}#{member}"), "source_member": member}
    return {**shard, **name, "source_bytes": None, "kind": None}


def _write_sample(
    context: WorkerContext, unit: WorkUnit, sample: Sample, tasks: Sequence[ImageTask], sink: _Sink, into_table: bool
) -> list[Row]:
    """Write a sample with those of its images that were stylized, if any; return the rows of all.

    A sample without an image has a row only where it is not written.
    """
    context.telemetry.touch()
    encoded = {task.shard_image.member: _encode(context, task) for task in tasks if task.shard_image}
    stylized = {member: image for member, image in encoded.items() if image}
    places: dict[str, Place] = {}
    if stylized or not sample.images:
        try:
            places = sink(sample, stylized)
        except MediaError as error:
            for task in tasks:
                task.error = task.error or error
    rows: list[Row] = []
    for task in tasks:
        if task.shard_image:
            context.telemetry.add(1, 0)
            if task.error is None:
                task.outcome["output_uri"], task.outcome["output_member"] = places[task.shard_image.member]
        elif task.error is None and (sample.is_in_table or not into_table):
            continue  # nothing of it is an image, and it is there
        elif task.error is None:
            task.outcome = {"status": "skipped", "error_type": "UnsupportedMediaError", "error_message": _NO_ROW}
        rows.append(context.row(unit, task.item, task.style_name, task.timings, task.error, **task.outcome))
    return rows


def _encode(context: WorkerContext, task: ImageTask) -> StylizedImage | None:
    """Encode an image; return none, and give the task its error, where there is none."""
    assert task.shard_image is not None
    if task.stylized_hwc is None or task.image is None:
        packed = task.item.get("source_member") is None
        remedy = "take another output, with --shards.format files" if packed else "give it as a file of its own"
        task.error = task.error or UnsupportedMediaError(f"an animated image, which becomes a video: {remedy}")
        return None
    name = task.shard_image.name
    path, image_format = image_output(name, has_alpha=task.image.alpha_hw is not None)
    try:
        with task.timings.busy("encode_s"):
            data = encode_task(context, task, image_format)
    except Exception as error:  # a format's own limit on size
        task.error = error
        return None
    # In a sample the extension says what a file is: it is replaced, not appended.
    return StylizedImage(name if path == name else posixpath.splitext(name)[0] + ".png", data)


def _on_disk(members: Sequence[Member], rules: NameRules) -> list[Member]:
    """Name the files of a sample as the disk takes them; their key stays one for all of them."""
    names = [posixpath.normpath(member.name) for member in members]
    split = [split_name(name) if split_name(posixpath.basename(name))[0] else (name, "") for name in names]
    longest = max((len(field.encode()) for _, field in split), default=0) + 1
    of_key = replace(rules, name_bytes=max(rules.name_bytes - longest, 64), path_bytes=rules.path_bytes - longest)
    paths = [rules.path(of_key.path(key) + (f".{field}" if field else "")) for key, field in split]
    return [replace(member, name=path) for member, path in zip(members, paths, strict=True)]


@contextlib.contextmanager
def _open_sink(output: Folder, relpath: str, layout: Layout | None) -> Iterator[_Sink]:
    """Open a shard of the output, which appears whole, or not at all if it has no image."""
    uri, num_images = output.uri(relpath), 0
    with contextlib.suppress(_NoImagesError), contextlib.ExitStack() as opened:
        temporary = opened.enter_context(output.atomic_write(relpath))
        writer = opened.enter_context(open_writer(str(temporary), layout))

        def write(sample: Sample, stylized: Mapping[str, StylizedImage]) -> dict[str, Place]:
            nonlocal num_images
            names = writer.write(sample, stylized)
            num_images += len(names)
            return {source: (uri, name) for source, name in names.items()}

        yield write
        if not num_images:
            raise _NoImagesError


class _NoImagesError(Exception):
    """There is nothing to write."""


def _write_files(
    output: Folder,
    folder: str,
    rules: NameRules,
    names: TakenNames,
    sample: Sample,
    stylized: Mapping[str, StylizedImage],
) -> dict[str, Place]:
    """Write the files of a sample, all or none, into a folder that is named after the shard."""
    members = _on_disk(sample.members(stylized), rules)
    names.claim(rules.key(member.name) for member in members)
    relpaths = [f"{folder}/{member.name}" for member in members]
    try:
        for relpath, member in zip(relpaths, members, strict=True):
            output.write_bytes(relpath, member.data)
    except StorageError:
        raise
    except OSError as error:  # a name too long, a file where a folder has to be
        output.remove_many(relpaths[: relpaths.index(relpath)])
        reason = f"cannot be written as {relpath}: {error.strerror}: rename it in the shard"
        raise OutputCollisionError(reason) from error
    uri = output.uri(folder)
    return {member.image.member: (f"{uri}/{member.name}", None) for member in members if member.image}
