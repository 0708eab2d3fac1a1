"""Operations of smoothing on NumPy arrays, by OpenCV: see ``Operations``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from nst_ops.media.images import UInt8Array

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float32]


def to_planes(frame_hwc: UInt8Array) -> tuple[_Array, _Array, _Array]:
    """See ``Operations``."""
    luma_hw, cr_hw, cb_hw = cv2.split(cv2.cvtColor(frame_hwc, cv2.COLOR_RGB2YCrCb))
    return np.asarray(luma_hw), np.asarray(cr_hw), np.asarray(cb_hw)


def add_to_colors(frame_hwc: UInt8Array, luma_hw: _Floats, colors: Sequence[_Floats]) -> UInt8Array:
    """See ``Operations``."""
    height, width = frame_hwc.shape[:2]
    rgb = [cv2.add(luma_hw, cv2.resize(color, (width, height)), dtype=cv2.CV_16S) for color in colors]
    return np.asarray(cv2.add(frame_hwc, cv2.merge(rgb), dtype=cv2.CV_8U), np.uint8)


def gray(rgb_hwc: _Floats) -> _Floats:
    """See ``Operations``."""
    return np.asarray(cv2.cvtColor(rgb_hwc, cv2.COLOR_RGB2GRAY), np.float32)


def sum_of_squares(values_hwc: _Floats) -> _Floats:
    """See ``Operations``."""
    ones = np.ones((1, values_hwc.shape[2]), np.float32)
    return np.asarray(cv2.transform(cv2.multiply(values_hwc, values_hwc), ones), np.float32)


def full(shape: Sequence[int], value: float, like: _Array) -> _Floats:
    """See ``Operations``."""
    return np.full(shape, value, np.float32)


def as_float(plane: _Array) -> _Floats:
    """See ``Operations``."""
    return plane.astype(np.float32)


def exp(values: _Floats) -> _Floats:
    """See ``Operations``."""
    return np.exp(values)


def subtract(first: _Array, second: _Array) -> _Floats:
    """See ``Operations``."""
    return np.asarray(cv2.subtract(first, second, dtype=cv2.CV_32F), np.float32)


def weighted_sum(first: _Floats, weight: float, second: _Floats, other_weight: float) -> _Floats:
    """See ``Operations``."""
    return np.asarray(cv2.addWeighted(first, weight, second, other_weight, 0), np.float32)


def accumulate(plane: _Array, weights: _Floats, total: _Floats) -> None:
    """See ``Operations``."""
    cv2.accumulateProduct(plane.astype(np.float32, copy=False), weights, total)


def distance(first: _Floats, second: _Floats) -> float:
    """See ``Operations``."""
    return cv2.norm(first, second)


def number(value: float) -> float:
    """See ``Operations``."""
    return float(value)


def limit(number: float, low: float, high: float) -> float:
    """See ``Operations``."""
    return float(min(max(number, low), high))


def blurred(plane: _Floats, sigma: float) -> _Floats:
    """See ``Operations``."""
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma), np.float32)


def shrunk(frame: _Array, height: int, width: int) -> _Array:
    """See ``Operations``."""
    return np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA))


def enlarged(plane: _Floats, height: int, width: int) -> _Floats:
    """See ``Operations``."""
    return np.asarray(cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def resize_flow(flow_hw2: _Floats, height: int, width: int) -> _Floats:
    """See ``Operations``."""
    old_height, old_width = flow_hw2.shape[:2]
    if (old_height, old_width) == (height, width):
        return flow_hw2
    # plane by plane, for which OpenCV is twice as quick
    scales = width / old_width, height / old_height
    scaled = (scale * plane for scale, plane in zip(scales, cv2.split(flow_hw2), strict=True))
    return np.asarray(cv2.merge([cv2.resize(plane, (width, height)) for plane in scaled]), np.float32)


def positions(flow_hw2: _Floats) -> tuple[_Floats, _Floats]:
    """See ``Operations``."""
    height, width = flow_hw2.shape[:2]
    x = np.arange(width, dtype=np.float32) + flow_hw2[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] + flow_hw2[..., 1]
    return x, y


def warped(frames: Sequence[_Array], flow_hw2: _Floats, cubic: bool) -> list[_Array]:
    """See ``Operations``."""
    x, y = positions(flow_hw2)
    kernel = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
    return [np.asarray(cv2.remap(frame, x, y, kernel, borderMode=cv2.BORDER_REPLICATE)) for frame in frames]


def within_surroundings(plane: _Floats, single: UInt8Array, side: int) -> _Floats:
    """See ``Operations``."""
    around = np.ones((side, side), np.uint8)
    return np.asarray(np.clip(plane, cv2.erode(single, around), cv2.dilate(single, around)), np.float32)


def both_ways(estimate: Callable[[Any, Any], Any], a_hwc: UInt8Array, b_hwc: UInt8Array) -> tuple[_Floats, _Floats]:
    """See ``Operations``."""
    return estimate(a_hwc, b_hwc), estimate(b_hwc, a_hwc)


def to_host(array: UInt8Array) -> UInt8Array:
    """See ``Operations``."""
    return array


def from_host(array: UInt8Array, like: _Array) -> UInt8Array:
    """See ``Operations``."""
    return array
