"""Blending frames over time, and winning back band by band the fine texture that it costs.

Frames are blended as luma and as chroma of half size, as videos store them: colors that vary from pixel to pixel are
not seen, and take half of the time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from nst_ops.media.images import UInt8Array
from nst_ops.temporal.match import Map, Match
from nst_ops.temporal.warp import resize_flow, warp, warp_all

_Plane = npt.NDArray[np.float32]

MAX_GAIN = 3.0
"""Largest gain of a band: where averaging has left nearly nothing, the rest is no texture."""
# Of the grain, finer than a blur of one pixel, this share is the single frame's own. Sharpening brings
# back the energy of strokes but not their shape: a mean of strokes is noise, and the Gram distance to
# the style shows it. Of all bands the finest gives most of it back for the least warping error.
_OWN_GRAIN = 0.85
_LEVELS = 4
_STROKE = 9  # pixels that strokes may shift by; levels that none within them has are a ghost's


class Planes(NamedTuple):
    """A frame, or a mean of frames, uint8 or float32; Cr and Cb are (ceil(H / 2), ceil(W / 2))."""

    luma_hw: npt.NDArray[Any]
    cr_hw: npt.NDArray[Any]
    cb_hw: npt.NDArray[Any]


def split(frame_hwc: UInt8Array) -> Planes:
    """Split a frame, sRGB (H, W, 3), into its planes."""
    luma_hw, cr_hw, cb_hw = cv2.split(cv2.cvtColor(frame_hwc, cv2.COLOR_RGB2YCrCb))
    return Planes(np.asarray(luma_hw), _halved(cr_hw), _halved(cb_hw))


def finish(frame_hwc: UInt8Array, single: Planes, mean: Planes, detail: float) -> UInt8Array:
    """Return the mean as a frame, uint8 (H, W, 3), the share ``detail``, in [0, 1], of its lost texture won back.

    ``frame_hwc`` is the frame before smoothing, ``single`` its planes. What the mean does not change stays as it is.
    """
    height, width = frame_hwc.shape[:2]
    changes = (
        cv2.subtract(_restored(smoothed, plane, level, detail), plane, dtype=cv2.CV_32F)
        for level, smoothed, plane in zip((0, 1, 1), mean, single, strict=True)
    )
    luma, cr, cb = changes
    # what a step of Cr and Cb adds to red, green and blue, and one of luma to each: ITU-T T.871 (JFIF), as in OpenCV
    colors = 1.403 * cr, -0.714 * cr - 0.344 * cb, 1.773 * cb
    rgb = [cv2.add(luma, cv2.resize(color, (width, height)), dtype=cv2.CV_16S) for color in colors]
    return np.asarray(cv2.add(frame_hwc, cv2.merge(rgb), dtype=cv2.CV_8U), np.uint8)


def _restored(smoothed: _Plane, single: UInt8Array, level: int, share: float) -> _Plane:
    """Bring the fine bands of a smoothed plane up to the energy that they have in the single frame.

    The bands are those of a Laplacian pyramid: P. Burt, E. Adelson, "The Laplacian Pyramid as a Compact Image Code",
    IEEE Trans. Communications 1983. One gain for each of them.

    Args:
        smoothed: gray levels, as the result, which is not clipped.
        single: the same plane before smoothing.
        level: of the pyramid: 0 for full size, 1 for half size.
        share: share of the loss that is won back, in [0, 1].
    """
    if share == 0:
        return smoothed
    wanted = single.astype(np.float32)
    textured = smoothed
    if level == 0:
        difference = np.asarray(cv2.subtract(wanted, smoothed), np.float32)
        grain = cv2.subtract(difference, _blurred(difference, 1.0))
        textured = np.asarray(cv2.addWeighted(smoothed, 1, grain, share * _OWN_GRAIN, 0), np.float32)
    return np.asarray(cv2.addWeighted(textured, 1, _lost(textured, wanted, level), share, 0), np.float32)


def _lost(smooth: _Plane, single: _Plane, level: int) -> _Plane:
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
    coarser = _enlarged(_lost(coarse, coarse_single, level + 1), lost)
    return np.asarray(cv2.add(lost, coarser), np.float32)


def _blurred(plane: _Plane, sigma: float) -> _Plane:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma), np.float32)


def _halved(plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
    height, width = plane.shape[:2]
    return np.asarray(cv2.resize(plane, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA))


class Blend:
    """Weighted mean of a stylized frame, which counts once, and of others, seen from it.

    Frames are matched at a smaller size, that of their ``small_luma``.
    """

    def __init__(self, stylized: Planes, small_luma_hw: Map) -> None:
        self._frame = stylized
        self._small = small_luma_hw
        self._sums = [plane.astype(np.float32) for plane in stylized]
        self._weights = np.ones_like(small_luma_hw)
        self._brightness = np.zeros_like(small_luma_hw)

    def add(self, stylized: Planes, small_luma_hw: Map, found: Match, weight: float) -> None:
        """Add another frame, as far as the match to it is trusted; ``weight`` is that at full trust."""
        weights = weight * found.trust
        luma_flow, chroma_flow = (resize_flow(found.flow, *plane.shape) for plane in stylized[:2])
        moved = warp(stylized.luma_hw, luma_flow, cv2.INTER_CUBIC), *warp_all(stylized[1:], chroma_flow)
        luma_weights, chroma_weights = (_enlarged(weights, plane) for plane in stylized[:2])
        for plane, enlarged, total in zip(
            moved, (luma_weights, chroma_weights, chroma_weights), self._sums, strict=True
        ):
            cv2.accumulateProduct(plane.astype(np.float32, copy=False), enlarged, total)
        self._weights += weights
        self._brightness += weights * (self._response(small_luma_hw, found) * found.brighter)

    def mean(self) -> Planes:
        """Return the mean, float32, in levels that the frame itself has near by."""
        luma_hw, *chroma = self._sums
        totals = luma_hw + _enlarged(self._brightness, luma_hw), *chroma
        means = [total / _enlarged(self._weights, total) for total in totals]
        strokes = _STROKE, _STROKE // 2 + 1, _STROKE // 2 + 1  # odd, so that they reach as far to each side
        return Planes(*map(_within, means, self._frame, strokes))

    def _response(self, small_luma_hw: Map, found: Match) -> float:
        """Estimate how far the stylized frame follows the light of its source: 0 not, 1 as much."""
        change = self._small - warp(small_luma_hw, found.flow)
        light = found.trust * found.brighter
        # By least squares. One square gray level more below: without a change of light, no response.
        scale = float((light * found.brighter).sum()) + float(found.trust.sum()) + 1e-6
        return float(np.clip((light * change).sum() / scale, 0, 1.5))


def _within(mean: _Plane, single: UInt8Array, stroke: int) -> _Plane:
    """Clip a mean to the levels that the single frame has within ``stroke`` pixels."""
    around = np.ones((stroke, stroke), np.uint8)
    return np.asarray(np.clip(mean, cv2.erode(single, around), cv2.dilate(single, around)), np.float32)


def _enlarged(small: Map, plane: npt.NDArray[Any]) -> Map:
    height, width = plane.shape[:2]
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def small_luma(frame: Planes, small_hw: tuple[int, ...]) -> Map:
    """Return the luma of a frame, float32, at the size at which frames are matched."""
    return np.asarray(cv2.resize(frame.luma_hw, small_hw[::-1], interpolation=cv2.INTER_AREA), np.float32)
