"""Where one shot ends and the next begins: a function of two neighbouring frames, whatever else is known.

So a film has the same cuts in any segment of it.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from nst_ops.media.images import UInt8Array

_THUMBNAIL = (64, 36)
_REACH = (10, 6)  # pixels of a thumbnail that a pan may cover between two frames
_BINS = 8
_FLAT = 1.0  # grey levels of standard deviation


def is_scene_cut(previous_hwc: UInt8Array, next_hwc: UInt8Array, threshold: float = 0.35) -> bool:
    """Whether a new scene begins between two neighbouring frames.

    Args:
        previous_hwc: uint8 sRGB, (H, W, 3).
        next_hwc: of the same shape.
        threshold: of ``scene_distance``; from 1 on nothing is a cut.
    """
    return threshold < 1 and scene_distance(previous_hwc, next_hwc) > threshold


def scene_distance(previous_hwc: UInt8Array, next_hwc: UInt8Array) -> float:
    """How different two frames look, in [0, 1].

    The geometric mean of a difference in colour and one in layout: a flash or a fade changes the
    first, a fast pan or a passing thing the second, a cut both.

    Args:
        previous_hwc: uint8 sRGB, (H, W, 3).
        next_hwc: of the same shape.
    """
    # Area averages take out noise, and make the cost the same for every size.
    a, b = _thumbnail(previous_hwc), _thumbnail(next_hwc)
    return float(np.sqrt(_colour_difference(a, b) * _layout_difference(a, b)))


def _thumbnail(rgb_hwc: UInt8Array) -> UInt8Array:
    return np.asarray(cv2.resize(rgb_hwc, _THUMBNAIL, interpolation=cv2.INTER_AREA), np.uint8)


def _colour_difference(a: UInt8Array, b: UInt8Array) -> float:
    """Share of the pixels whose colour the other frame does not have."""
    return 1 - float(np.minimum(_colours(a), _colours(b)).sum())


def _colours(rgb_hwc: UInt8Array) -> npt.NDArray[np.float32]:
    lab = cv2.cvtColor(rgb_hwc, cv2.COLOR_RGB2Lab)
    counts = cv2.calcHist([lab], [0, 1, 2], None, [_BINS] * 3, [0, 256] * 3)
    return np.asarray(counts / counts.sum(), np.float32)


def _layout_difference(a: UInt8Array, b: UInt8Array) -> float:
    """1 less the correlation of the brightness of two frames, at the shift that suits best."""
    brightness_a, brightness_b = (cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) for each in (a, b))
    contrasts = float(brightness_a.std()), float(brightness_b.std())
    if min(contrasts) < _FLAT:  # has no layout to correlate
        return float(max(contrasts) >= _FLAT)
    x, y = _REACH
    surrounded = cv2.copyMakeBorder(brightness_b, y, y, x, x, cv2.BORDER_REFLECT_101)
    correlations = cv2.matchTemplate(surrounded, brightness_a, cv2.TM_CCOEFF_NORMED)
    return float(np.clip(1 - correlations.max(), 0, 1))
