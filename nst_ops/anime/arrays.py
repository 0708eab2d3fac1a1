"""Arrays of this package, and the few filters that several stages share. (H, W) unless a name says more."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

UInt8Array = NDArray[np.uint8]
FloatArray = NDArray[np.floating[Any]]
"""float32, but for what is small."""


def vector(values: Any) -> FloatArray:
    """Make an array of numbers, or of points, from a list."""
    return np.array(values, np.float32)


def to_lab(rgb_hwc: UInt8Array | FloatArray) -> FloatArray:
    """Convert sRGB, 0 to 255, to CIE Lab (D65): L in 0 to 100, a and b about -100 to 100."""
    rgb = np.ascontiguousarray(rgb_hwc, np.float32) / np.float32(255)
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB), np.float32)


def to_rgb(lab: Any) -> FloatArray:
    """Convert one Lab color, (3,), to sRGB, 0 to 255; what RGB cannot show takes the nearest value."""
    rgb = cv2.cvtColor(np.asarray(lab, np.float32)[None, None], cv2.COLOR_LAB2RGB)
    return np.clip(np.asarray(rgb[0, 0], np.float32) * 255, 0, 255)


def blur(values: FloatArray, sigma_px: float) -> FloatArray:
    """Blur by a Gaussian."""
    return np.asarray(cv2.GaussianBlur(values, (0, 0), max(float(sigma_px), 0.1)), np.float32)


def resize(values: Any, width: int, height: int) -> Any:
    """Resize (H, W) or (H, W, C): by area to smaller, linearly to larger."""
    smaller = width * height < values.shape[0] * values.shape[1]
    return cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def sample(image: Any, matrix: FloatArray, width: int, height: int, border: int = cv2.BORDER_REPLICATE) -> Any:
    """Sample (height, width) pixels of an image at ``matrix``, (2, 3), times (x, y, 1); reduced by area first."""
    factor = int(np.hypot(matrix[0, 0], matrix[1, 0]))
    if factor > 1:
        image = cv2.resize(image, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
        matrix = matrix / np.float32(factor)
        matrix[:, 2] += 0.5 / factor - 0.5  # centers of pixels
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, matrix, (width, height), flags=flags, borderMode=border)


def smoothstep(values: Any, low: float, high: float) -> FloatArray:
    """Rise smoothly from 0 at ``low`` to 1 at ``high``; fall where ``low`` is the larger."""
    t = np.clip((np.asarray(values, np.float32) - low) / np.float32(high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def ramp(value: float, low: float, high: float) -> float:
    """``smoothstep`` of one number."""
    return float(smoothstep(np.float32(value), low, high))


def guided_filter(guide: FloatArray, values: FloatArray, radius: int, epsilon: float) -> FloatArray:
    """Smooth ``values`` along the edges of ``guide`` (K. He, J. Sun, X. Tang, "Guided Image Filtering", ECCV 2010)."""

    def mean(x: FloatArray) -> FloatArray:
        return np.asarray(cv2.blur(x, (2 * radius + 1, 2 * radius + 1)), np.float32)

    guide_mean, values_mean = mean(guide), mean(values)
    slope = (mean(guide * values) - guide_mean * values_mean) / (mean(guide * guide) - guide_mean**2 + epsilon)
    return mean(slope) * guide + mean(values_mean - slope * guide_mean)


def fill_from_outside(rgb_hwc: FloatArray, known: FloatArray, sigma_px: float) -> FloatArray:
    """Fill what is not ``known``, a mask in 0 to 1, smoothly from what is, near before far; the mean where nothing is.

    Normalized convolution (H. Knutsson, C.-F. Westin, CVPR 1993) with growing blurs.
    """
    weight = known[..., None]
    total = float(known.sum())
    filled = np.empty_like(rgb_hwc)
    filled[:] = (rgb_hwc * weight).sum((0, 1)) / total if total > 1 else 128
    height, width = known.shape
    for factor in (4.0, 2.0, 1.0):
        step = max(1, int(sigma_px * factor / 3))  # a wide blur needs few pixels
        size = max(1, width // step), max(1, height // step)
        sigma = sigma_px * factor * size[0] / width
        near = blur(resize(known, *size), sigma)[..., None]
        there = blur(resize(rgb_hwc * weight, *size), sigma) / (near + 1e-4)
        near, there = resize(near[..., 0], width, height)[..., None], resize(there, width, height)
        filled += (there - filled) * np.clip(near * 6, 0, 1)
    return np.asarray(rgb_hwc * weight + filled * (1 - weight), np.float32)


def color_clusters(samples: FloatArray, count: int) -> tuple[FloatArray, NDArray[np.intp]]:
    """Group colors, (N, 3), by k-means from a fixed start; return centers, (K, 3), K up to ``count``, and labels, (N,).

    The start is each next sample farthest from those chosen (T. Gonzalez, 1985): no random draw, so that a picture
    comes out the same wherever it is drawn.
    """
    centers = [np.median(samples, 0)]
    distance = ((samples - centers[0]) ** 2).sum(1)
    for _ in range(count - 1):
        spread = np.partition(distance, int(0.98 * (len(distance) - 1)))[int(0.98 * (len(distance) - 1))]
        if spread < 9:
            break
        near_spread = np.abs(distance - spread).argmin()  # not the very farthest: that is an outlier
        centers.append(samples[near_spread])
        distance = np.minimum(distance, ((samples - centers[-1]) ** 2).sum(1))
    means = np.asarray(centers, np.float32)
    labels = np.zeros(len(samples), np.intp)
    for _ in range(8):
        labels = ((samples[:, None] - means[None]) ** 2).sum(2).argmin(1)
        means = np.stack([samples[labels == k].mean(0) if (labels == k).any() else means[k] for k in range(len(means))])
    return means.astype(np.float32), labels
