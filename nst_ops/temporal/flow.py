"""Optical flow: the estimators, and how one is made from the configuration. Frames of the host need no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from nst_ops.config.stylize import TemporalConfig
from nst_ops.media.images import UInt8Array
from nst_ops.temporal.operations import Array, operations_of
from nst_ops.temporal.warp import resize_flow

FlowEstimator = Callable[[Array, Array], Array]
"""(a, b), both uint8 sRGB (H, W, 3), to the flow from a to b: float32 (H, W, 2) in pixels.

Frames on a device come as two batches, tensors (N, H, W, 3), and give a tensor (N, H, W, 2) there.
"""

# OpenCV's DIS reads out of bounds where its coarsest scale is finer than its finest one: below this.
_SMALLEST_DIS = 32


class DisFlow:
    """Dense inverse search on the CPU, deterministic whatever the number of threads.

    T. Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016. Slower presets refine the flow
    further.
    """

    def __init__(self, preset: int = cv2.DISOPTICAL_FLOW_PRESET_MEDIUM) -> None:
        self._dis: Any = cv2.DISOpticalFlow.create(preset)

    def __call__(self, a_rgb_hwc: Array, b_rgb_hwc: Array) -> Array:
        """See ``FlowEstimator``; frames of any size from 1x1 on, those of a device by way of the host."""
        if not isinstance(a_rgb_hwc, np.ndarray):
            operations = operations_of(a_rgb_hwc)
            pairs = zip(operations.to_host(a_rgb_hwc), operations.to_host(b_rgb_hwc), strict=True)
            return operations.from_host(np.stack([self(a, b) for a, b in pairs]), a_rgb_hwc)
        height, width = a_rgb_hwc.shape[:2]
        flow = self._dis.calc(_gray(a_rgb_hwc), _gray(b_rgb_hwc), None)
        return np.ascontiguousarray(flow[:height, :width], np.float32)


class ReducedFlow:
    """An estimator that sees frames no larger than ``side`` pixels, whose flow is then enlarged."""

    def __init__(self, estimate: FlowEstimator, side: int) -> None:
        self._estimate, self._side = estimate, side

    def __call__(self, a_rgb_hwc: Array, b_rgb_hwc: Array) -> Array:
        """See ``FlowEstimator``."""
        flow = self._estimate(reduced(a_rgb_hwc, self._side), reduced(b_rgb_hwc, self._side))
        return resize_flow(flow, *a_rgb_hwc.shape[-3:-1])


def load_flow(config: TemporalConfig, device: str = "auto") -> FlowEstimator:
    """Make the estimator that ``config`` describes; flow comes at the size of the frames it is given.

    ``device`` is for those that run on torch.

    Raises:
        FileNotFoundError: there are no such weights.
        ValueError: there is no such device.
    """
    kind: str = config.flow
    if kind == "auto":
        kind = "lucas_kanade" if device.startswith("cuda") or (device == "auto" and _has_gpu()) else "dis"
    estimate: FlowEstimator = DisFlow()
    if kind == "raft":
        from nst_ops.temporal.raft import RaftFlow  # late: flow on the CPU needs no torch

        estimate = RaftFlow(config.flow_weights, device)
    elif kind == "lucas_kanade":
        from nst_ops.temporal.lucas_kanade import LucasKanadeFlow

        estimate = LucasKanadeFlow(device)
    return ReducedFlow(estimate, config.flow_side)


def reduced(rgb_hwc: Array, side: int) -> Array:
    """Resize a frame to ``side`` pixels along its longer side; smaller ones stay as they are."""
    height, width = rgb_hwc.shape[-3:-1]
    scale = side / max(height, width)
    if scale >= 1:
        return rgb_hwc
    return operations_of(rgb_hwc).shrunk(rgb_hwc, max(1, round(height * scale)), max(1, round(width * scale)))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _gray(rgb_hwc: UInt8Array) -> UInt8Array:
    gray = cv2.cvtColor(rgb_hwc, cv2.COLOR_RGB2GRAY)
    below, right = (max(0, _SMALLEST_DIS - each) for each in gray.shape)
    padded = cv2.copyMakeBorder(gray, 0, below, 0, right, cv2.BORDER_REPLICATE) if below or right else gray
    return np.asarray(padded, np.uint8)
