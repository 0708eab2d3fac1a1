"""A segment of a long film: stylized apart and committed, and joined with the others after the last."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

from nst_ops.collection.manifest import Row
from nst_ops.collection.segments import SegmentRecord, Segments
from nst_ops.collection.units import Item, WorkUnit, in_each_style
from nst_ops.media.video import VideoInfo, VideoReader, VideoWriter, join_segments
from nst_ops.media.video.segments import Segment
from nst_ops.media.video.source import MediaSource
from nst_ops.pipeline.film import Reader, stylize_renditions, write_frames
from nst_ops.pipeline.film_unit import file_outcome, film_outcome, open_film, place_film, written_size
from nst_ops.pipeline.overlap import Timings
from nst_ops.pipeline.painter import Pair
from nst_ops.pipeline.rendition import Rendition, blame, read_styles, rendition_row
from nst_ops.pipeline.workbench import Workbench
from nst_ops.storage import Folder


def stylize_segment(bench: Workbench, unit: WorkUnit, timings: Timings) -> list[Row]:
    """Stylize a segment and commit it; the rows of films that it was the last of, or that it has failed."""
    (item,) = unit.items
    # In a style that has its row by now, another segment has failed the film.
    wanted = [one for one in in_each_style(unit) if not bench.manifest.keys_of(one.part)]
    if not wanted:
        return []
    renditions = [Rendition(one, item, one.items[0]["styles"][0]) for one in wanted]
    rows: list[Row] = []
    with blame(*renditions), _open(bench, item) as source:
        _stylize(bench, source, [one for one in renditions if not _is_finished(bench, one)])
        for rendition in renditions:
            if rendition.error is None:
                with blame(rendition):
                    rows += _join(bench, rendition, source)
    for rendition in renditions:
        timings.add(rendition.timings)
        # Two workers may have finished the last two segments at once: then the other has joined the film.
        if rendition.error and not bench.manifest.keys_of(rendition.unit.part):
            rows.append(rendition_row(bench, rendition))
    return rows


def segments_of(output: Folder, unit: WorkUnit, style_name: str) -> Segments:
    """The finished segments of the film that a unit is part of, in one of its styles."""
    return Segments(output, unit.film_in(style_name), _segment(unit).count)


def _segment(unit: WorkUnit) -> Segment:
    assert unit.segment is not None
    return unit.segment


def _open(bench: Workbench, item: Item) -> contextlib.AbstractContextManager[MediaSource]:
    """The film, of which a segment needs its share; its shots are looked up in all of it."""
    if bench.config.temporal.freeze_statistics:
        return bench.source.local_copy(item["relpath"])
    return contextlib.nullcontext(bench.source.media_source(item["relpath"]))


def _is_finished(bench: Workbench, rendition: Rendition) -> bool:
    return _segment(rendition.unit).number in _segments(bench, rendition).finished()


def _stylize(bench: Workbench, source: MediaSource, renditions: list[Rendition]) -> None:
    """Write the segment and its record in each style."""
    painted = read_styles(bench, renditions)
    if not painted:
        return
    with blame(*painted):
        open_reader = partial(_open_segment, bench, source, _segment(painted[0].unit))
        stylize_renditions(bench, open_reader, source, painted, partial(_write, bench))
    for rendition in painted:
        if rendition.error is None:
            seconds = asdict(rendition.timings)
            record = SegmentRecord(**rendition.outcome, attempts=rendition.unit.attempt, seconds=seconds)
            with blame(rendition):
                _segments(bench, rendition).commit(_segment(rendition.unit).number, record)


def _open_segment(bench: Workbench, source: MediaSource, segment: Segment) -> VideoReader:
    max_side, keep_damaged = bench.config.resize.max_side, bench.config.video.keep_damaged
    tail = bench.smoother().tail
    return VideoReader(source, max_side, keep_damaged, bench.selection, segment, tail=tail)


def _write(bench: Workbench, rendition: Rendition, reader: Reader, pairs: Iterator[Pair]) -> dict[str, Any]:
    """Write the pictures of the segment; what its record says of it."""
    segment = _segment(rendition.unit)
    with _segments(bench, rendition).write(segment.number) as temporary:
        size = written_size(bench, reader)
        writer = VideoWriter(str(temporary), "mp4", reader.info, size, None, bench.config.video)
        with writer:
            num_frames = write_frames(bench, rendition, pairs, writer, segment)
        temporary.touch()  # of a damaged film nothing may be left here
        if num_frames != segment.num_frames and not reader.num_damaged:
            raise OSError(
                f"segment {segment.number} has {num_frames} frames, its index says {segment.num_frames}: "
                "set units.segment_s longer than the video"
            )
    return {"num_frames": num_frames, "num_damaged": reader.num_damaged}


def _segments(bench: Workbench, rendition: Rendition) -> Segments:
    return segments_of(bench.output, rendition.unit, rendition.style_name)


def _join(bench: Workbench, rendition: Rendition, source: MediaSource) -> list[Row]:
    """Join the segments beside the sound of their source; the film's row, or none if some are missing."""
    segments = _segments(bench, rendition)
    if len(segments.finished()) < segments.count:
        return []
    unit, item, style_name = rendition.unit, rendition.item, rendition.style_name
    records = segments.records()
    total = Timings()
    for record in records:
        total.add(Timings(**record.seconds))
    started = time.perf_counter()
    with open_film(bench, source) as reader, _beside(bench, item, source, reader.info) as whole:
        relpath, container = place_film(bench, item, style_name, reader)
        with segments.local_copies() as paths, bench.output.atomic_write(relpath) as temporary:
            num_frames, notes = join_segments(
                paths, str(temporary), container, reader.info, whole, reader.span_s
            )
            if num_frames != sum(record.num_frames for record in records):
                raise OSError(f"its segments hold {num_frames} frames, not as many as their records say")
            file = file_outcome(bench, relpath, temporary, num_frames)
        num_damaged = sum(record.num_damaged for record in records)
        outcome: dict[str, Any] = film_outcome(bench, reader, notes, num_frames, num_damaged)
    total.encode_s += time.perf_counter() - started
    return [bench.row(unit, item, style_name, total, **outcome, **file)]


def _beside(
    bench: Workbench, item: Item, source: MediaSource, info: VideoInfo
) -> contextlib.AbstractContextManager[MediaSource]:
    """The film to copy from what lies beside its picture: sound is spread over all of it."""
    if info.audio_codecs and not isinstance(source, str):
        return bench.source.local_copy(item["relpath"])
    return contextlib.nullcontext(source)
