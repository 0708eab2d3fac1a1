"""A stylized frame and its neighbours become one."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from nst_ops.media.images import UInt8Array
from nst_ops.temporal.match import Map, Match
from nst_ops.temporal.warp import resize_flow, warp

# Strokes may shift by this many pixels; colours that no stroke near by has are a ghost's.
_STROKE = 9


class Blend:
    """Weighted mean of a stylized frame and of others, seen from it.

    Args:
        stylized_hwc: uint8 (H, W, 3), counts once.
        small_hw: size of what is matched.
    """

    def __init__(self, stylized_hwc: UInt8Array, small_hw: tuple[int, ...]) -> None:
        self._frame = stylized_hwc
        self._small = _small_luma(stylized_hwc, small_hw)
        self._sum = stylized_hwc.astype(np.float32)
        self._weights = np.ones(small_hw, np.float32)
        self._brightness = np.zeros(small_hw, np.float32)

    def add(self, stylized_hwc: npt.NDArray[Any], found: Match, weight: float) -> None:
        """Take in another frame, as far as it is trusted.

        Args:
            stylized_hwc: (H, W, 3), uint8 or float32 grey levels.
            found: from this frame to that one.
            weight: at full trust.
        """
        flow = resize_flow(found.flow, *self._frame.shape[:2])
        moved = warp(stylized_hwc, flow, cv2.INTER_CUBIC).astype(np.float32, copy=False)
        weights = weight * found.trust
        cv2.accumulateProduct(moved, self._enlarged(cv2.merge([weights] * 3)), self._sum)
        self._weights += weights
        self._brightness += weights * (self._response(stylized_hwc, found) * found.brighter)

    def mean(self) -> npt.NDArray[np.float32]:
        """The mean, float32 (H, W, 3), in colours that the frame itself has near by."""
        total = self._sum + self._enlarged(self._brightness)[..., None]
        mean = total / self._enlarged(self._weights)[..., None]
        stroke = np.ones((_STROKE, _STROKE), np.uint8)
        darkest, brightest = cv2.erode(self._frame, stroke), cv2.dilate(self._frame, stroke)
        return np.asarray(np.clip(mean, darkest, brightest), np.float32)

    def _response(self, stylized_hwc: npt.NDArray[Any], found: Match) -> float:
        """How far the painting follows the light of its source: by least squares, 0 not, 1 as much."""
        change = self._small - warp(_small_luma(stylized_hwc, found.brighter.shape), found.flow)
        light = found.trust * found.brighter
        # One square grey level more below: where the light does not change, there is no response.
        scale = float((light * found.brighter).sum()) + float(found.trust.sum()) + 1e-6
        return float(np.clip((light * change).sum() / scale, 0, 1.5))

    def _enlarged(self, small: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        height, width = self._frame.shape[:2]
        return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _small_luma(frame_hwc: npt.NDArray[Any], small_hw: tuple[int, ...]) -> Map:
    small = cv2.resize(frame_hwc, small_hw[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.float32)


def to_uint8(frame_hwc: npt.NDArray[np.float32]) -> UInt8Array:
    """Grey levels, rounded and clipped."""
    return np.asarray(cv2.convertScaleAbs(np.maximum(frame_hwc, 0)), np.uint8)
