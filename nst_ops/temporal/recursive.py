"""Smoothing by a blend with the previous result, which forgets by a steady share."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from nst_ops.media.images import UInt8Array
from nst_ops.temporal.blend import MOST, Blend, restore_detail, to_uint8
from nst_ops.temporal.flow import FlowEstimator, reduced
from nst_ops.temporal.match import both_ways, match, standing_still
from nst_ops.temporal.scenes import is_scene_cut


class RecursiveSmoother:
    """An exponential mean: ``weight`` of the previous result, the rest of the frame itself.

    Its memory never ends but fades: ``lead`` frames on, less than half a gray level is left of
    whatever came before, also where ``restore_detail`` enlarges it.

    Args:
        estimate: optical flow along which the previous result is moved; None takes it from where
            it was, so that only what stands still is smoothed.
        weight: share of the previous result where it is fully trusted, in [0, 1).
        detail: share of the lost texture that is won back.
        flow_side: longer side in pixels of the frames that are compared.
        scene_threshold: of ``is_scene_cut``.
    """

    tail = 0

    def __init__(
        self,
        estimate: FlowEstimator | None,
        weight: float,
        detail: float,
        flow_side: int,
        scene_threshold: float,
    ) -> None:
        self.lead = math.ceil(math.log(0.5 / (255 * MOST)) / math.log(weight)) if weight else 0
        self._estimate, self._weight, self._detail = estimate, weight, detail
        self._flow_side, self._scene_threshold = flow_side, scene_threshold
        self._previous: tuple[UInt8Array, npt.NDArray[np.float32]] | None = None

    def push(self, source_hwc: UInt8Array, stylized_hwc: UInt8Array) -> list[UInt8Array]:
        """See ``Smoother``."""
        source_small_hwc = reduced(source_hwc, self._flow_side)
        blend = Blend(stylized_hwc, source_small_hwc.shape[:2])
        if self._previous is not None:
            self._add_previous(blend, source_small_hwc, *self._previous)
        mean = blend.mean()
        self._previous = source_small_hwc, mean
        return [to_uint8(restore_detail(mean, stylized_hwc, self._detail))]

    def flush(self) -> list[UInt8Array]:
        """See ``Smoother``."""
        return []

    def _add_previous(
        self, blend: Blend, here_hwc: UInt8Array, there_hwc: UInt8Array, result_hwc: npt.NDArray[np.float32]
    ) -> None:
        if is_scene_cut(there_hwc, here_hwc, self._scene_threshold):
            return
        if self._estimate is None:
            step = standing_still(*here_hwc.shape[:2])
        else:
            step, _ = both_ways(here_hwc, there_hwc, self._estimate)
        blend.add(result_hwc, match(here_hwc, there_hwc, step), self._weight / (1 - self._weight))
