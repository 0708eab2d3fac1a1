"""Blending frames over time, and winning back band by band the fine texture that it costs.

Frames are blended as luma and as chroma of half size, as videos store them: colors that vary from pixel to pixel are
not seen, and take half of the time.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from nst_ops.temporal.match import Map, Match
from nst_ops.temporal.operations import Array, Number, operations_of
from nst_ops.temporal.warp import resize_flow, warp, warp_all

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

    luma_hw: Array
    cr_hw: Array
    cb_hw: Array


def split(frame_hwc: Array) -> Planes:
    """Split a frame, sRGB (H, W, 3), into its planes."""
    luma_hw, cr_hw, cb_hw = operations_of(frame_hwc).to_planes(frame_hwc)
    return Planes(luma_hw, _halved(cr_hw), _halved(cb_hw))


def finish(frame_hwc: Array, single: Planes, mean: Planes, detail: float) -> Array:
    """Return the mean as a frame, uint8 (H, W, 3), the share ``detail``, in [0, 1], of its lost texture won back.

    ``frame_hwc`` is the frame before smoothing, ``single`` its planes. What the mean does not change stays as it is.
    """
    operations = operations_of(frame_hwc)
    changes = (
        operations.subtract(_restored(smoothed, plane, level, detail), plane)
        for level, smoothed, plane in zip((0, 1, 1), mean, single, strict=True)
    )
    luma, cr, cb = changes
    # what a step of Cr and Cb adds to red, green and blue, and one of luma to each: ITU-T T.871 (JFIF), as in OpenCV
    colors = 1.403 * cr, -0.714 * cr - 0.344 * cb, 1.773 * cb
    return operations.add_to_colors(frame_hwc, luma, colors)


def _restored(smoothed: Map, single: Array, level: int, share: float) -> Map:
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
    operations = operations_of(smoothed)
    wanted = operations.as_float(single)
    textured = smoothed
    if level == 0:
        difference = operations.subtract(wanted, smoothed)
        grain = operations.subtract(difference, operations.blurred(difference, 1.0))
        textured = operations.weighted_sum(smoothed, 1, grain, share * _OWN_GRAIN)
    return operations.weighted_sum(textured, 1, _lost(textured, wanted, level), share)


def _lost(smooth: Map, single: Map, level: int) -> Map:
    """Return what this level of the pyramid and the coarser ones lack."""
    operations, sigma = operations_of(smooth), 1.0 if level == 0 else 2.0
    coarse, coarse_single = operations.blurred(smooth, sigma), operations.blurred(single, sigma)
    left, wanted = operations.distance(smooth, coarse), operations.distance(single, coarse_single)
    gain: Number = operations.limit(wanted / operations.limit(left, 1e-6, math.inf), 1, MAX_GAIN)
    lost = operations.weighted_sum(smooth, gain - 1, coarse, 1 - gain)
    if level + 1 == _LEVELS:
        return lost
    if level > 0:  # blurred by two pixels: every other one says it all
        coarse, coarse_single = _halved(coarse), _halved(coarse_single)
    return lost + operations.enlarged(_lost(coarse, coarse_single, level + 1), *lost.shape)


def _halved(plane: Array) -> Array:
    height, width = plane.shape
    return operations_of(plane).shrunk(plane, (height + 1) // 2, (width + 1) // 2)


class Blend:
    """Weighted mean of a stylized frame, which counts once, and of others, seen from it.

    Frames are matched at a smaller size, that of their ``small_luma``.
    """

    def __init__(self, stylized: Planes, small_luma_hw: Map) -> None:
        self._frame = stylized
        self._small = small_luma_hw
        self._operations = operations_of(small_luma_hw)
        self._sums = [self._operations.as_float(plane) for plane in stylized]
        self._weights, self._brightness = (
            self._operations.full(small_luma_hw.shape, value, small_luma_hw) for value in (1, 0)
        )

    def add(self, stylized: Planes, small_luma_hw: Map, found: Match, weight: float) -> None:
        """Add another frame, as far as the match to it is trusted; ``weight`` is that at full trust."""
        weights = weight * found.trust
        luma_flow, chroma_flow = (resize_flow(found.flow, *plane.shape) for plane in stylized[:2])
        moved = warp(stylized.luma_hw, luma_flow, cubic=True), *warp_all(stylized[1:], chroma_flow)
        luma_weights, chroma_weights = (self._operations.enlarged(weights, *plane.shape) for plane in stylized[:2])
        for plane, enlarged, total in zip(
            moved, (luma_weights, chroma_weights, chroma_weights), self._sums, strict=True
        ):
            self._operations.accumulate(plane, enlarged, total)
        self._weights += weights
        self._brightness += weights * (self._response(small_luma_hw, found) * found.brighter)

    def mean(self) -> Planes:
        """Return the mean, float32, in levels that the frame itself has near by."""
        luma_hw, *chroma = self._sums
        totals = luma_hw + self._operations.enlarged(self._brightness, *luma_hw.shape), *chroma
        means = [total / self._operations.enlarged(self._weights, *total.shape) for total in totals]
        strokes = _STROKE, _STROKE // 2 + 1, _STROKE // 2 + 1  # odd, so that they reach as far to each side
        return Planes(*map(self._operations.within_surroundings, means, self._frame, strokes))

    def _response(self, small_luma_hw: Map, found: Match) -> Number:
        """Estimate how far the stylized frame follows the light of its source: 0 not, 1 as much."""
        change = self._small - warp(small_luma_hw, found.flow)
        light = found.trust * found.brighter
        number = self._operations.number
        # By least squares. One square gray level more below: without a change of light, no response.
        scale = number((light * found.brighter).sum()) + number(found.trust.sum()) + 1e-6
        return self._operations.limit((light * change).sum() / scale, 0, 1.5)


def small_luma(frame: Planes, small_hw: tuple[int, ...]) -> Map:
    """Return the luma of a frame, float32, at the size at which frames are matched."""
    operations = operations_of(frame.luma_hw)
    return operations.as_float(operations.shrunk(frame.luma_hw, *small_hw))
