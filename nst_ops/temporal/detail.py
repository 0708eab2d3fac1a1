"""Fine texture, which averaging over time costs, won back band by band."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from nst_ops.media.images import UInt8Array

_Frame = npt.NDArray[np.float32]

MOST = 3.0
"""Largest gain of a band: where averaging has left nearly nothing, what is left is no texture."""
# Of the grain, finer than a blur of one pixel, this share is the single frame's own. Sharpening brings
# back the energy of strokes but not their shape: a mean of strokes is noise, and the Gram distance to
# the style shows it. Of all bands the finest gives most of it back for the least warping error.
_OWN_GRAIN = 0.85
_LEVELS = 4


def restore_detail(smoothed_hwc: _Frame, single_hwc: UInt8Array, share: float) -> _Frame:
    """Bring the fine bands of a smoothed frame up to the energy that they have in the single frame.

    The bands are those of a Laplacian pyramid: P. Burt, E. Adelson, "The Laplacian Pyramid as a
    Compact Image Code", IEEE Trans. Communications 1983. One gain for each of them.

    Args:
        smoothed_hwc: float32 (H, W, 3), grey levels.
        single_hwc: uint8 (H, W, 3): the same frame by itself.
        share: of the loss that is won back, in [0, 1].

    Returns:
        float32 (H, W, 3), grey levels, not clipped.
    """
    if share == 0:
        return smoothed_hwc
    single = single_hwc.astype(np.float32)
    difference = np.asarray(cv2.subtract(single, smoothed_hwc), np.float32)
    grain = cv2.subtract(difference, _blurred(difference, 1.0))
    textured = np.asarray(cv2.addWeighted(smoothed_hwc, 1, grain, share * _OWN_GRAIN, 0), np.float32)
    return np.asarray(cv2.addWeighted(textured, 1, _lost(textured, single, 0), share, 0), np.float32)


def _lost(smooth: _Frame, single: _Frame, level: int) -> _Frame:
    """What this level of the pyramid and the coarser ones lack."""
    sigma = 1.0 if level == 0 else 2.0
    coarse, coarse_single = _blurred(smooth, sigma), _blurred(single, sigma)
    left, wanted = cv2.norm(smooth, coarse), cv2.norm(single, coarse_single)
    gain = min(max(wanted / max(left, 1e-6), 1), MOST)
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
