"""Frames of a film through the stages: read, stylize, smooth, write, all at the same time.

They are read once, and painted, smoothed and written in each style.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from nst_ops.media.images import UInt8Array
from nst_ops.media.video import AnimationReader, Frame, VideoReader
from nst_ops.media.video.segments import Segment
from nst_ops.media.video.source import MediaSource
from nst_ops.pipeline.fan_out import fan_out
from nst_ops.pipeline.overlap import Timings, WriteBehind, read_ahead
from nst_ops.pipeline.painter import Painter, Pair
from nst_ops.pipeline.rendition import Rendition, blame
from nst_ops.pipeline.workbench import Workbench
from nst_ops.temporal.smoothing import Smoother

Reader = VideoReader | AnimationReader

Write = Callable[[Rendition, Reader, Iterator[Pair]], dict[str, Any]]
"""Writes one rendition; its outcome."""


class _Writer(Protocol):
    def write(self, frame: Frame) -> None: ...


def stylize_renditions(
    bench: Workbench,
    open_reader: Callable[[], Reader],
    source: MediaSource | None,
    renditions: Sequence[Rendition],
    write: Write,
) -> None:
    """Read a film once and write it in each style, side by side; what fails one leaves the others alone.

    Args:
        bench: of the worker.
        open_reader: opens what is to be read.
        source: of the whole video; None for an animation.
        renditions: at least one, each with its style; they get their outcomes, or what has failed them.
        write: is called in a thread for each.

    Raises:
        Exception: what the source's reading or the painting raises; all renditions have failed by it.
    """
    reading = Timings()
    timings = [rendition.timings for rendition in renditions]
    for rendition in renditions:
        rendition.queue_frames = max(1, bench.config.workers.queue_frames // len(renditions))
    try:
        started = time.perf_counter()
        with open_reader() as reader:
            reading.decode_s += time.perf_counter() - started
            painter = Painter(bench, [rendition.style for rendition in renditions], source)
            takers = [partial(_take, rendition, reader, write) for rendition in renditions]
            depth, watch = bench.config.workers.queue_frames, bench.meter.decode_fill
            encodings = [rendition.encoding for rendition in renditions]
            ahead = contextlib.closing(read_ahead(reader.frames(), depth, reading, watch))
            with bench.meter.follow(reading, *timings, *encodings), ahead as frames:
                fan_out(painter.stylize(frames, timings), takers, renditions[0].queue_frames, reading)
    finally:
        for rendition in renditions:
            rendition.timings.decode_s += reading.decode_s / len(renditions)
            rendition.timings.wait_s += reading.wait_s / len(renditions)
            rendition.timings.encode_s += rendition.encoding.encode_s


def write_frames(
    bench: Workbench,
    rendition: Rendition,
    pairs: Iterator[Pair],
    writer: _Writer,
    segment: Segment | None = None,
) -> int:
    """Smooth and write frames; those around a segment only serve to smooth it.

    Returns:
        How many were written.
    """
    depth, watch = rendition.queue_frames, bench.meter.encode_fill
    behind = WriteBehind(writer.write, depth, rendition.encoding, watch)
    still = _Still(bench, segment, behind.put, rendition.timings)
    with behind:
        for pair in pairs:
            still.put(pair)
        still.flush()
    return still.num_frames


def _take(rendition: Rendition, reader: Reader, write: Write, pairs: Iterator[Pair]) -> None:
    with blame(rendition):
        rendition.outcome = write(rendition, reader, pairs)


class _Still:
    """Holds a film still: smooths what comes, and hands on what belongs to the segment."""

    def __init__(
        self, bench: Workbench, segment: Segment | None, hand_on: Callable[[Frame], None], timings: Timings
    ) -> None:
        self.num_frames = 0
        self._timings = timings
        self._bench, self._segment, self._hand_on = bench, segment, hand_on
        self._smoother: Smoother = bench.smoother()
        self._waiting: deque[Frame] = deque()  # sources of the frames that the smoother still holds

    def put(self, pair: Pair) -> None:
        source, stylized_hwc = pair
        self._waiting.append(source)
        started = time.perf_counter()
        smoothed = self._smoother.push(source.rgb_hwc, stylized_hwc)
        self._timings.smooth_s += time.perf_counter() - started
        self._pass_on(smoothed)

    def flush(self) -> None:
        started = time.perf_counter()
        smoothed = self._smoother.flush()
        self._timings.smooth_s += time.perf_counter() - started
        self._pass_on(smoothed)

    def _pass_on(self, smoothed: list[UInt8Array]) -> None:
        for smoothed_hwc in smoothed:
            source = self._waiting.popleft()
            if self._segment is None or self._segment.holds(source.pts):
                if self._bench.config.video.side_by_side:
                    smoothed_hwc = np.concatenate([source.rgb_hwc, smoothed_hwc], axis=1)
                self._hand_on(Frame(source.pts, source.duration, smoothed_hwc))
                self.num_frames += 1
                self._bench.report(0, 1)
