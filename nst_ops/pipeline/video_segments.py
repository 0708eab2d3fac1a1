"""Long videos: cut into segments, each stylized and committed apart, and joined after the last."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from nst_ops.collection.manifest import Key, Row
from nst_ops.collection.segments import SegmentRecord, Segments
from nst_ops.collection.units import Item, WorkUnit, in_each_style, without
from nst_ops.media.video.container import Frame, read_header
from nst_ops.media.video.join import join_segments
from nst_ops.media.video.segments import Segment, cut_segments, read_index
from nst_ops.media.video.source import MediaSource
from nst_ops.media.video.writer import VideoWriter
from nst_ops.pipeline.context import WorkerContext, failing
from nst_ops.pipeline.prefetch import Timings
from nst_ops.pipeline.video import (
    Reader,
    StyledVideo,
    damage_notes,
    encode,
    file_columns,
    open_video,
    read_styles,
    stylize_frames,
    video_columns,
    video_place,
    video_row,
    written_size,
)
from nst_ops.storage import Folder, StorageError

_WORTH_CUTTING = 1.5  # times the length of a segment: shorter videos stay whole


def find_segments(context: WorkerContext, item: Item) -> tuple[Segment, ...]:
    """Cut a video by its packets, of which no frame is decoded; none where it is short, or cannot be cut."""
    video, target_s = context.config.video, context.config.units.segment_s
    if video.container == "frames":
        return ()
    try:
        media = context.source.media_source(item["relpath"])
        length_s = min(read_header(media).duration_s - video.start_s, video.duration_s or float("inf"))
        if length_s <= _WORTH_CUTTING * target_s:
            return ()
        segments = cut_segments(read_index(media), target_s, context.new_smoother().lead, context.selection)
    except StorageError:
        raise
    except Exception:  # decoding it will say what is wrong with it
        return ()
    return segments if len(segments) > 1 else ()


def stylize_segment(context: WorkerContext, unit: WorkUnit, timings: Timings) -> list[Row]:
    """Stylize a segment and commit it; return the rows of videos that it has finished or failed."""
    (item,) = unit.items
    # In a style that has its row by now, another segment has failed the video.
    units = [one for one in in_each_style(unit) if not context.manifest.keys_of(one.part)]
    if not units:
        return []
    videos = [StyledVideo(one, item, one.items[0]["styles"][0]) for one in units]
    rows: list[Row] = []
    whole = context.config.temporal.freeze_statistics
    with failing(*videos), _open_source(context, item, context.source.media_source(item["relpath"]), whole) as source:
        number = _segment(unit).number
        _stylize(context, source, [video for video in videos if number not in _segments(context, video).finished()])
        for video in videos:
            if video.error is None:
                with failing(video):
                    rows += _join(context, video, source)
    for video in videos:
        timings.add(video.timings)
        # Two workers may have finished the last two segments at once: then the other has joined the video.
        if video.error and not context.manifest.keys_of(video.unit.part):
            rows.append(video_row(context, video))
    return rows


def segments_of(output: Folder, unit: WorkUnit, style_name: str) -> Segments:
    """Return the finished segments of the video that a unit is part of, in one of its styles."""
    return Segments(output, unit.video_in(style_name), _segment(unit).count)


def unfinished(units: Sequence[WorkUnit], output: Folder) -> list[WorkUnit]:
    """Leave out the segments that are finished; of a video of which all are, keep the last one given, to join it."""
    left = []
    finished: dict[str, set[int]] = {}
    joiners = {unit.video_in(key[1]): unit.unit_id for unit in units if unit.segment for key in unit.keys}
    for unit in units:
        done: set[Key] = set()
        for key in unit.keys if unit.segment else ():
            segment, video = _segment(unit), unit.video_in(key[1])
            if video not in finished:
                finished[video] = segments_of(output, unit, key[1]).finished()
            joins = joiners[video] == unit.unit_id and len(finished[video]) == segment.count
            if segment.number in finished[video] and not joins:
                done.add(key)
        if rest := without(unit, done):
            left.append(rest)
    return left


def _segment(unit: WorkUnit) -> Segment:
    assert unit.segment is not None
    return unit.segment


def _open_source(
    context: WorkerContext, item: Item, source: MediaSource, whole: bool
) -> contextlib.AbstractContextManager[MediaSource]:
    """Open a video: a segment needs its share, but ``whole`` where its sound is copied or its shots are looked up."""
    if whole and not isinstance(source, str):
        return context.source.local_copy(item["relpath"])
    return contextlib.nullcontext(source)


def _segments(context: WorkerContext, video: StyledVideo) -> Segments:
    return segments_of(context.output, video.unit, video.style_name)


def _stylize(context: WorkerContext, source: MediaSource, videos: list[StyledVideo]) -> None:
    """Write the segment and its record in each style."""
    readable = read_styles(context, videos)
    if not readable:
        return
    segment = _segment(readable[0].unit)
    with failing(*readable):
        open_reader = partial(open_video, context, source, segment, context.new_smoother().tail)
        stylize_frames(context, open_reader, source, readable, partial(_write, context), segment)
    for video in readable:
        if video.error is None:
            record = SegmentRecord(**video.outcome, attempts=video.unit.attempt, seconds=asdict(video.timings))
            with failing(video):
                _segments(context, video).commit(segment.number, record)


def _write(context: WorkerContext, video: StyledVideo, reader: Reader, frames: Iterator[Frame]) -> dict[str, Any]:
    """Write the frames of the segment; return the fields of its record."""
    segment = _segment(video.unit)
    with _segments(context, video).write(segment.number) as temporary:
        size = written_size(context, reader)
        writer = VideoWriter(str(temporary), "mp4", reader.info, size, None, context.config.video)
        num_frames = encode(context, video, frames, writer)
        temporary.touch()  # of a damaged video nothing may be left here
        if num_frames != segment.num_frames and not reader.num_damaged:
            differs = f"segment {segment.number} has {num_frames} frames, its index says {segment.num_frames}"
            raise OSError(f"{differs}: run again with a --units.segment_s longer than the video, and --retry-failed")
    notes = tuple(note for note in writer.notes if note not in reader.info.notes)
    damage = {"num_damaged": reader.num_damaged, "ends_damaged": reader.ends_damaged}
    return {"num_frames": num_frames, "notes": notes, **damage}


def _join(context: WorkerContext, video: StyledVideo, source: MediaSource) -> list[Row]:
    """Join the segments beside the sound of their source; return the row, or none if some are missing."""
    segments = _segments(context, video)
    if len(segments.finished()) < segments.count:
        return []
    records, total = segments.records(), Timings()
    for record in records:
        total.add(Timings(**record.seconds))
    with (
        total.busy("encode_s"),
        open_video(context, source) as reader,
        _open_source(context, video.item, source, bool(reader.info.audio_codecs)) as whole,
    ):
        relpath, container = video_place(context, video, reader)
        with segments.local_copies() as paths, context.output.atomic_write(relpath) as temporary:
            num_frames, notes = join_segments(paths, str(temporary), container, reader.info, whole, reader.span)
            if num_frames != sum(record.num_frames for record in records):
                raise OSError(f"its segments hold {num_frames} frames, not as many as their records say")
            file = file_columns(context, relpath, temporary, num_frames)
        damaged = SegmentRecord(num_frames, sum(record.num_damaged for record in records), records[-1].ends_damaged)
        of_segments = itertools.chain.from_iterable(record.notes for record in records)
        notes = [*dict.fromkeys((*notes, *of_segments)), *damage_notes(damaged)]
        columns = video_columns(context, reader, notes, num_frames)
    return [context.row(video.unit, video.item, video.style_name, total, None, **columns, **file)]
