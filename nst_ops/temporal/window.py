"""Smoothing by a mean over the neighboring frames, each moved along the flow to where the frame has it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from nst_ops.media.images import UInt8Array
from nst_ops.temporal.blend import Blend, restore_detail, to_uint8
from nst_ops.temporal.flow import FlowEstimator, reduced
from nst_ops.temporal.match import Match, Step, both_ways, match
from nst_ops.temporal.scenes import is_scene_cut


@dataclass
class _Frame:
    """A frame in the window, with the steps to its neighbors: None across a cut and at the ends."""

    source_small_hwc: UInt8Array
    stylized_hwc: UInt8Array
    to_previous: Step | None = None
    to_next: Step | None = None


class WindowSmoother:
    """Mean over the ``radius`` frames to each side: a finite filter, so a result knows no other frames.

    The weights over time are a parabola: of all weights that sum to one over so many frames, it
    has the least squared difference from each result to the next.

    Args:
        estimate: optical flow, asked at the reduced size.
        radius: frames to each side.
        detail: share of the lost texture that is won back.
        flow_side: longer side in pixels of the frames that are compared.
        scene_threshold: of ``is_scene_cut``.
    """

    def __init__(
        self, estimate: FlowEstimator, radius: int, detail: float, flow_side: int, scene_threshold: float
    ) -> None:
        self.lead = self.tail = radius
        self._estimate, self._detail = estimate, detail
        self._flow_side, self._scene_threshold = flow_side, scene_threshold
        self._window: deque[_Frame] = deque()
        self._center = 0  # of the frame in the window that is finished next

    def push(self, source_hwc: UInt8Array, stylized_hwc: UInt8Array) -> list[UInt8Array]:
        """See ``Smoother``."""
        new = _Frame(reduced(source_hwc, self._flow_side), stylized_hwc)
        if self._window:
            last = self._window[-1]
            if not is_scene_cut(last.source_small_hwc, new.source_small_hwc, self._scene_threshold):
                last.to_next, new.to_previous = both_ways(
                    last.source_small_hwc, new.source_small_hwc, self._estimate
                )
        self._window.append(new)
        return [self._finish()] if len(self._window) > self._center + self.tail else []

    def flush(self) -> list[UInt8Array]:
        """See ``Smoother``."""
        return [self._finish() for _ in range(len(self._window) - self._center)]

    def _finish(self) -> UInt8Array:
        finished = self._mean(self._center)
        if self._center < self.lead:
            self._center += 1
        else:
            self._window.popleft()
        return finished

    def _mean(self, center: int) -> UInt8Array:
        frame = self._window[center]
        blend = Blend(frame.stylized_hwc, frame.source_small_hwc.shape[:2])
        for distance, stylized_hwc, found in self._matches(center):
            blend.add(stylized_hwc, found, self._weight(distance))
        smoothed = restore_detail(blend.mean(), frame.stylized_hwc, self._detail)
        return to_uint8(smoothed)

    def _matches(self, center: int) -> Iterator[tuple[int, UInt8Array, Match]]:
        """The frames around one, nearest first, up to a cut on each side."""
        frame = self._window[center]
        for direction in (-1, 1):
            path: Step | None = None
            for distance in range(1, self.lead + 1):
                index = center + direction * distance
                if not 0 <= index < len(self._window):
                    break
                before, there = self._window[index - direction], self._window[index]
                step = before.to_next if direction > 0 else before.to_previous
                if step is None:
                    break
                path = step if path is None else path.then(step)
                yield (
                    distance,
                    there.stylized_hwc,
                    match(frame.source_small_hwc, there.source_small_hwc, path),
                )

    def _weight(self, distance: int) -> float:
        """1 in the middle, 0 one frame beyond the window."""
        return 1 - (distance / (self.lead + 1)) ** 2
