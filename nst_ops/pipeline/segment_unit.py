"""A segment of a long film: stylized apart and committed, and joined with the others after the last."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from nst_ops.collection.manifest import Row
from nst_ops.collection.plan import Item, WorkUnit
from nst_ops.collection.segments import SegmentRecord, Segments
from nst_ops.media.errors import TooLargeError
from nst_ops.media.video import VideoReader, VideoWriter, join_segments
from nst_ops.pipeline.film import stylize_frames
from nst_ops.pipeline.film_unit import file_outcome, film_outcome, open_film, place_film, written_size
from nst_ops.pipeline.overlap import Timings
from nst_ops.pipeline.painter import Painter
from nst_ops.pipeline.workbench import Workbench
from nst_ops.storage import Folder, StorageFullError


def stylize_segment(bench: Workbench, unit: WorkUnit, timings: Timings) -> list[Row]:
    """Stylize a segment and commit it; the film's row, if it was the last one or cannot go on."""
    (item,) = unit.items
    (style_name,) = item["styles"]
    own = Timings()
    try:
        if bench.manifest.holds(unit.part, unit.keys[0]):
            return []  # another segment has failed the film
        with bench.source.local_copy(item["relpath"]) as path:
            segments = segments_of(bench.output, unit)
            _commit(bench, unit, style_name, path, segments, own)
            if len(segments.finished()) < segments.count:
                return []
            return [_join(bench, unit, item, style_name, path, segments)]
    except StorageFullError:
        raise
    except Exception as error:  # any bad file becomes a row, never the end of the run
        if bench.manifest.holds(unit.part, unit.keys[0]):
            return []  # two workers finished the last two segments at once, and the other joined the film
        too_large = TooLargeError(str(error)) if isinstance(error, MemoryError) else error
        return [bench.failed(unit, item, style_name, too_large, own)]
    finally:
        timings.add(own)


def segments_of(output: Folder, unit: WorkUnit) -> Segments:
    """The finished segments of the film that a unit is part of."""
    assert unit.segment is not None
    return Segments(output, unit.film, unit.segment.count)


def _commit(
    bench: Workbench, unit: WorkUnit, style_name: str, path: str, segments: Segments, timings: Timings
) -> None:
    """Write the segment and its record, unless an earlier try has."""
    segment, config = unit.segment, bench.config
    assert segment is not None
    if segment.number in segments.finished():
        return
    painter = Painter(bench, bench.read_style(style_name), path)
    started = time.perf_counter()
    reader = VideoReader(
        path,
        config.resize.max_side,
        config.video.keep_damaged,
        bench.selection,
        segment,
        tail=bench.smoother().tail,
    )
    timings.decode_s += time.perf_counter() - started
    with reader, segments.write(segment.number) as temporary:
        size = written_size(bench, reader)
        writer = VideoWriter(str(temporary), "mp4", reader.info, size, None, config.video)
        with writer:
            num_frames = stylize_frames(bench, reader.frames(), painter, writer, timings, segment)
        temporary.touch()  # of a damaged film nothing may be left here
        if num_frames != segment.num_frames and not reader.num_damaged:
            raise OSError(
                f"segment {segment.number} has {num_frames} frames, its index says {segment.num_frames}: "
                "set units.segment_s longer than the video"
            )
    record = SegmentRecord(num_frames, reader.num_damaged, unit.attempt, asdict(timings))
    segments.commit(segment.number, record)


def _join(
    bench: Workbench, unit: WorkUnit, item: Item, style_name: str, path: str, segments: Segments
) -> Row:
    """Join the segments beside the sound of their source; the film's row."""
    records = segments.records()
    total = Timings()
    for record in records:
        total.add(Timings(**record.seconds))
    started = time.perf_counter()
    with open_film(bench, path) as reader:
        relpath, container = place_film(bench, item, style_name, reader)
        with segments.local_copies() as paths, bench.output.atomic_write(relpath) as temporary:
            num_frames, notes = join_segments(
                paths, str(temporary), container, reader.info, path, reader.span_s
            )
            if num_frames != sum(record.num_frames for record in records):
                raise OSError(f"its segments hold {num_frames} frames, not as many as their records say")
            file = file_outcome(bench, relpath, temporary, num_frames)
        num_damaged = sum(record.num_damaged for record in records)
        outcome: dict[str, Any] = film_outcome(bench, reader, notes, num_frames, num_damaged)
    total.encode_s += time.perf_counter() - started
    return bench.row(unit, item, style_name, total, **outcome, **file)
