"""Smoothers: stylized frames in, as many out, with less flicker; on the device where the frames are on one.

To add one: a class with ``lead``, ``tail``, ``push`` and ``flush``, and a line in ``MODES``.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from nst_ops.config.stylize import TemporalConfig
from nst_ops.media.images import UInt8Array
from nst_ops.models.host_memory import keep_freed_memory
from nst_ops.temporal.blend import MAX_GAIN, Blend, Planes, finish, small_luma, split
from nst_ops.temporal.flow import FlowEstimator, load_flow, reduced
from nst_ops.temporal.match import Map, Match, Step, both_ways, match, standing_still
from nst_ops.temporal.operations import Array
from nst_ops.temporal.scenes import is_scene_cut, thumbnail


class Smoother(Protocol):
    """Takes the frames of one clip in order, and gives as many back in the same order.

    Attributes:
        lead: frames before the first wanted one that its result depends on.
        tail: frames after the last wanted one that its result depends on.
    """

    lead: int
    tail: int

    def push(self, source_hwc: Array, stylized_hwc: Array) -> list[Array]:
        """Take the next frame and its stylized version, uint8 sRGB; return the frames finished by now, in order.

        Both are arrays of the host or, for all frames of a clip, tensors on one device. The result is where they are.
        """
        ...

    def flush(self) -> list[Array]:
        """Finish the frames still held; call it once, at the end of the clip."""
        ...


class PassThrough:
    """Every frame by itself."""

    lead = tail = 0

    def push(self, source_hwc: Array, stylized_hwc: Array) -> list[Array]:
        """See ``Smoother``."""
        return [stylized_hwc]

    def flush(self) -> list[Array]:
        """See ``Smoother``."""
        return []


class RecursiveSmoother:
    """An exponential mean: ``config.weight`` of the previous result, the rest of the frame itself.

    Its memory never ends but fades: ``lead`` frames on, less than half a gray level is left of whatever came before,
    also where ``restore_detail`` enlarges it. The previous result is moved along the flow of ``estimate``; None takes
    it from where it was, so that only what stands still is smoothed.
    """

    tail = 0

    def __init__(self, estimate: FlowEstimator | None, config: TemporalConfig) -> None:
        weight = config.weight
        self.lead = math.ceil(math.log(0.5 / (255 * MAX_GAIN)) / math.log(weight)) if weight else 0
        self._estimate, self._config = estimate, config
        self._previous: tuple[Array, UInt8Array, Planes] | None = None  # reduced source, thumbnail, result

    def push(self, source_hwc: Array, stylized_hwc: Array) -> list[Array]:
        """See ``Smoother``."""
        config = self._config
        here_hwc = reduced(source_hwc, config.flow_side)
        small_hwc = thumbnail(here_hwc)
        single = split(stylized_hwc)
        blend = Blend(single, small_luma(single, here_hwc.shape[:2]))
        if self._previous is not None:
            there_hwc, before_hwc, result = self._previous
            if not is_scene_cut(before_hwc, small_hwc, config.scene_threshold):
                if self._estimate is None:
                    step = standing_still(here_hwc)
                else:
                    step, _ = both_ways(here_hwc, there_hwc, self._estimate)
                found = match(here_hwc, there_hwc, step)
                small = small_luma(result, there_hwc.shape[:2])
                blend.add(result, small, found, config.weight / (1 - config.weight))
        mean = blend.mean()
        self._previous = here_hwc, small_hwc, mean
        return [finish(stylized_hwc, single, mean, config.detail)]

    def flush(self) -> list[Array]:
        """See ``Smoother``."""
        return []


@dataclass
class _Frame:
    """A frame in the window, with the steps to its neighbors: None across a cut and at the ends."""

    source_small_hwc: Array
    thumbnail_hwc: UInt8Array
    stylized_hwc: Array
    planes: Planes
    small_luma_hw: Map
    to_previous: Step | None = None
    to_next: Step | None = None


class WindowSmoother:
    """Mean over the ``config.radius`` frames to each side, each moved along the flow to the frame's place.

    It is a finite filter, so that a result knows no other frames. The weights over time are a parabola: of all weights
    that sum to one over so many frames, it has the least squared difference from each result to the next.
    """

    def __init__(self, estimate: FlowEstimator, config: TemporalConfig) -> None:
        self.lead = self.tail = config.radius
        self._estimate, self._config = estimate, config
        self._window: deque[_Frame] = deque()
        self._center = 0  # index in the window of the frame that is finished next

    def push(self, source_hwc: Array, stylized_hwc: Array) -> list[Array]:
        """See ``Smoother``."""
        source_small_hwc = reduced(source_hwc, self._config.flow_side)
        planes = split(stylized_hwc)
        small_luma_hw = small_luma(planes, source_small_hwc.shape[:2])
        new = _Frame(source_small_hwc, thumbnail(source_small_hwc), stylized_hwc, planes, small_luma_hw)
        if self._window:
            last = self._window[-1]
            if not is_scene_cut(last.thumbnail_hwc, new.thumbnail_hwc, self._config.scene_threshold):
                frames = last.source_small_hwc, new.source_small_hwc
                last.to_next, new.to_previous = both_ways(*frames, self._estimate)
        self._window.append(new)
        return [self._finish()] if len(self._window) > self._center + self.tail else []

    def flush(self) -> list[Array]:
        """See ``Smoother``."""
        return [self._finish() for _ in range(len(self._window) - self._center)]

    def _finish(self) -> Array:
        frame = self._window[self._center]
        blend = Blend(frame.planes, frame.small_luma_hw)
        for distance, there, found in self._matches(frame):
            # 1 in the middle, 0 one frame beyond the window
            blend.add(there.planes, there.small_luma_hw, found, 1 - (distance / (self.lead + 1)) ** 2)
        finished = finish(frame.stylized_hwc, frame.planes, blend.mean(), self._config.detail)
        if self._center < self.lead:
            self._center += 1
        else:
            self._window.popleft()
        return finished

    def _matches(self, frame: _Frame) -> Iterator[tuple[int, _Frame, Match]]:
        """Yield distance, frame and match of the frames around, nearest first, up to a cut."""
        for direction in (-1, 1):
            path: Step | None = None
            for distance in range(1, self.lead + 1):
                index = self._center + direction * distance
                if not 0 <= index < len(self._window):
                    break
                before, there = self._window[index - direction], self._window[index]
                step = before.to_next if direction > 0 else before.to_previous
                if step is None:
                    break
                path = step if path is None else path.then(step)
                found = match(frame.source_small_hwc, there.source_small_hwc, path)
                yield distance, there, found


MODES: dict[str, Callable[[TemporalConfig, str], Smoother]] = {
    "none": lambda config, device: PassThrough(),
    "gate": lambda config, device: RecursiveSmoother(None, config),
    "ema": lambda config, device: RecursiveSmoother(load_flow(config, device), config),
    "window": lambda config, device: WindowSmoother(load_flow(config, device), config),
}
"""Smoothers by ``temporal.mode``."""


def load_smoother(config: TemporalConfig, device: str = "auto") -> Smoother:
    """Make the smoother that ``config`` describes, for one clip; ``device`` is for flow that runs on torch.

    This process then keeps what it frees: a smoother makes maps of the same sizes for every frame.

    Raises:
        FileNotFoundError: ``flow_weights`` does not exist.
        ValueError: there is no such device.
    """
    keep_freed_memory()
    return MODES[config.mode](config, device)
