"""Frames of a film through the stages: read, stylize, smooth, write, all at the same time."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from nst_ops.media.images import UInt8Array
from nst_ops.media.video import Frame
from nst_ops.media.video.segments import Segment
from nst_ops.pipeline.overlap import Timings, WriteBehind, read_ahead
from nst_ops.pipeline.painter import Painter
from nst_ops.pipeline.workbench import Workbench
from nst_ops.temporal.smoothing import Smoother


class _Writer(Protocol):
    def write(self, frame: Frame) -> None: ...


def stylize_frames(
    bench: Workbench,
    frames: Iterator[Frame],
    painter: Painter,
    writer: _Writer,
    timings: Timings,
    segment: Segment | None = None,
) -> int:
    """Stylize, smooth and write frames; those around a segment only serve to smooth it.

    Returns:
        How many were written.
    """
    depth = bench.config.workers.queue_frames
    smoothing, encoding = Timings(), Timings()
    behind = WriteBehind(writer.write, depth, encoding)
    still = _Still(bench, segment, behind.put, timings)
    with behind:
        ahead = contextlib.closing(read_ahead(frames, depth, timings))
        with ahead as ready, WriteBehind(still.put, depth, smoothing) as stage:
            for pair in painter.stylize(ready, timings):
                stage.put(pair)
        still.flush()
    timings.wait_s += smoothing.wait_s
    timings.encode_s += encoding.encode_s
    return still.num_frames


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

    def put(self, pair: tuple[Frame, UInt8Array]) -> None:
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
