"""Blending frames over time, and winning back band by band the fine texture that it costs."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from nst_ops.media.images import UInt8Array
from nst_ops.temporal.match import Map, Match
from nst_ops.temporal.warp import resize_flow, warp

_Frame = npt.NDArray[np.float32]

MAX_GAIN = 3.0
"""Largest gain of a band: where averaging has left nearly nothing, the rest is no texture."""
# Of the grain, finer than a blur of one pixel, this share is the single frame's own. Sharpening brings
# back the energy of strokes but not their shape: a mean of strokes is noise, and the Gram distance to
# the style shows it. Of all bands the finest gives most of it back for the least warping error.
_OWN_GRAIN = 0.85
_LEVELS = 4
_STROKE = 9  # pixels that strokes may shift by; colors that none within them has are a ghost's


def restore_detail(smoothed_hwc: _Frame, single_hwc: UInt8Array, share: float) -> _Frame:
    """Bring the fine bands of a smoothed frame up to the energy that they have in the single frame.

    The bands are those of a Laplacian pyramid: P. Burt, E. Adelson, "The Laplacian Pyramid as a Compact Image Code",
    IEEE Trans. Communications 1983. One gain for each of them.

    Args:
        smoothed_hwc: gray levels, as the result, which is not clipped.
        single_hwc: the same frame before smoothing.
        share: share of the loss that is won back, in [0, 1].
    """
    if share == 0:
        return smoothed_hwc
    single = single_hwc.astype(np.float32)
    difference = np.asarray(cv2.subtract(single, smoothed_hwc), np.float32)
    grain = cv2.subtract(difference, _blurred(difference, 1.0))
    textured = np.asarray(cv2.addWeighted(smoothed_hwc, 1, grain, share * _OWN_GRAIN, 0), np.float32)
    return np.asarray(cv2.addWeighted(textured, 1, _lost(textured, single, 0), share, 0), np.float32)


def _lost(smooth: _Frame, single: _Frame, level: int) -> _Frame:
    """Return what this level of the pyramid and the coarser ones lack."""
    sigma = 1.0 if level == 0 else 2.0
    coarse, coarse_single = _blurred(smooth, sigma), _blurred(single, sigma)
    left, wanted = cv2.norm(smooth, coarse), cv2.norm(single, coarse_single)
    gain = min(max(wanted / max(left, 1e-6), 1), MAX_GAIN)
    lost = np.asarray(cv2.addWeighted(smooth, gain - 1, coarse, 1 - gain, 0), np.float32)
    if level + 1 == _LEVELS:
        return lost
    if level > 0:  # blurred by two pixels: every other one says it all
        coarse, coarse_single = _halved(coarse), _halved(coarse_single)
    height, width = smooth.shape[:2]
    coarser = cv2.resize(_lost(coarse, coarse_single, level + 1), (width, height))
    return np.asarray(cv2.add(lost, coarser), np.float32)


def _blurred(frame_hwc: _Frame, sigma: float) -> _Frame:
    return np.asarray(cv2.GaussianBlur(frame_hwc, (0, 0), sigma), np.float32)


def _halved(frame_hwc: _Frame) -> _Frame:
    height, width = frame_hwc.shape[:2]
    size = (max(1, width // 2), max(1, height // 2))
    return np.asarray(cv2.resize(frame_hwc, size, interpolation=cv2.INTER_AREA), np.float32)


class Blend:
    """Weighted mean of a stylized frame, which counts once, and of others, seen from it.

    Frames are matched at a smaller size, that of their ``small_luma``.
    """

    def __init__(self, stylized_hwc: UInt8Array, small_luma_hw: Map) -> None:
        self._frame = stylized_hwc
        self._small = small_luma_hw
        self._sum = stylized_hwc.astype(np.float32)
        self._weights = np.ones_like(small_luma_hw)
        self._brightness = np.zeros_like(small_luma_hw)

    def add(self, stylized_hwc: npt.NDArray[Any], small_luma_hw: Map, found: Match, weight: float) -> None:
        """Add another frame of gray levels, uint8 or float32, as far as the match to it is trusted.

        ``weight`` is that at full trust.
        """
        flow = resize_flow(found.flow, *self._frame.shape[:2])
        moved = warp(stylized_hwc, flow, cv2.INTER_CUBIC).astype(np.float32, copy=False)
        weights = weight * found.trust
        cv2.accumulateProduct(moved, self._enlarged(cv2.merge([weights] * 3)), self._sum)
        self._weights += weights
        self._brightness += weights * (self._response(small_luma_hw, found) * found.brighter)

    def mean(self) -> npt.NDArray[np.float32]:
        """Return the mean, float32 (H, W, 3), in colors that the frame itself has near by."""
        total = self._sum + self._enlarged(self._brightness)[..., None]
        mean = total / self._enlarged(self._weights)[..., None]
        stroke = np.ones((_STROKE, _STROKE), np.uint8)
        darkest, brightest = cv2.erode(self._frame, stroke), cv2.dilate(self._frame, stroke)
        return np.asarray(np.clip(mean, darkest, brightest), np.float32)

    def _response(self, small_luma_hw: Map, found: Match) -> float:
        """Estimate how far the stylized frame follows the light of its source: 0 not, 1 as much."""
        change = self._small - warp(small_luma_hw, found.flow)
        light = found.trust * found.brighter
        # By least squares. One square gray level more below: without a change of light, no response.
        scale = float((light * found.brighter).sum()) + float(found.trust.sum()) + 1e-6
        return float(np.clip((light * change).sum() / scale, 0, 1.5))

    def _enlarged(self, small: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        height, width = self._frame.shape[:2]
        return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def small_luma(frame_hwc: npt.NDArray[Any], small_hw: tuple[int, ...]) -> Map:
    """Return the gray levels of a frame, uint8 or float32 (H, W, 3), at the size at which frames are matched."""
    small = cv2.resize(frame_hwc, small_hw[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.float32)


def to_uint8(frame_hwc: npt.NDArray[np.float32]) -> UInt8Array:
    """Round and clip gray levels."""
    return np.asarray(cv2.convertScaleAbs(np.maximum(frame_hwc, 0)), np.uint8)
