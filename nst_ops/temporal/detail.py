"""Fine texture, which averaging over time costs, won back band by band."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from nst_ops.media.images import UInt8Array

_Frame = npt.NDArray[np.float32]

MOST = 3.0
"""Largest gain of a band: where averaging has left nearly nothing, what is left is no texture."""
_LEVELS = 3
# Of the finest band this share is the single frame's own. Sharpening brings back the energy of
# strokes but not their shape: a mean of strokes is noise, and the Gram distance to the style shows it.
# Grain flickers least to the eye and costs least warping error for what it gives.
_OWN_GRAIN = 0.7


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
    lost = _lost(smoothed_hwc, single_hwc.astype(np.float32), 0)
    return np.asarray(cv2.addWeighted(smoothed_hwc, 1, lost, share, 0), np.float32)


def _lost(smooth: _Frame, single: _Frame, level: int) -> _Frame:
    """What this level of the pyramid and the coarser ones lack."""
    coarse, coarse_single = _blurred(smooth), _blurred(single)
    band, band_single = smooth - coarse, single - coarse_single
    own = _OWN_GRAIN if level == 0 else 0.0
    wanted = cv2.addWeighted(band, 1 - own, band_single, own, 0)
    gain = min(max(cv2.norm(band_single) / max(cv2.norm(wanted), 1e-6), 1), MOST)
    lost = cv2.addWeighted(wanted, gain, band, -1, 0)
    if level + 1 < _LEVELS:
        coarser = _lost(_halved(coarse), _halved(coarse_single), level + 1)
        height, width = smooth.shape[:2]
        lost += cv2.resize(coarser, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(lost, np.float32)


def _blurred(frame_hwc: _Frame) -> _Frame:
    return np.asarray(cv2.GaussianBlur(frame_hwc, (0, 0), 1.0), np.float32)


def _halved(frame_hwc: _Frame) -> _Frame:
    height, width = frame_hwc.shape[:2]
    size = (max(1, width // 2), max(1, height // 2))
    return np.asarray(cv2.resize(frame_hwc, size, interpolation=cv2.INTER_AREA), np.float32)
