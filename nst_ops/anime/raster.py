"""Drawing of shapes on a canvas in head coordinates: filled outlines, tapered strokes, soft masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from nst_ops.anime.arrays import FloatArray, UInt8Array, blur, smoothstep
from nst_ops.anime.head import HeadFrame

_SHIFT = 4  # fractional bits of OpenCV's coordinates
_PIECE = 6  # points of a stroke that are filled at once: longer pieces would fill the inside of bends


class Canvas:
    """An RGB image, 0 to 255, that is painted over and over.

    Args:
        frame: where it lies.
        scale: pixels per face height.
    """

    def __init__(self, frame: HeadFrame, scale: float) -> None:
        self.frame, self.scale = frame, scale
        self.width, self.height = frame.size(scale)
        self.rgb: UInt8Array = np.zeros((self.height, self.width, 3), np.uint8)
        self.x, self.y = frame.grid(scale)

    def coverage(self, points: FloatArray) -> FloatArray:
        """Return the share of each pixel, (H, W), that lies within an outline, (N, 2)."""
        mask = np.zeros((self.height, self.width), np.uint8)
        cv2.fillPoly(mask, [self._fixed(points)], 255, cv2.LINE_AA, _SHIFT)
        return mask.astype(np.float32) / 255

    def fill(self, points: FloatArray, color: Any, opacity: float = 1.0) -> None:
        """Fill an outline, (N, 2), with one color."""
        if opacity >= 1:
            cv2.fillPoly(self.rgb, [self._fixed(points)], _scalar(color), cv2.LINE_AA, _SHIFT)
        else:
            self.paint(self.coverage(points) * opacity, color)

    def stroke(self, points: FloatArray, width: Any, color: Any) -> None:
        """Draw a line through points, (N, 2), of a width in head units: one for all, or one for each."""
        if len(points) < 2:
            return
        half = np.broadcast_to(np.asarray(width, np.float32), (len(points),))[:, None] / 2
        along = np.gradient(points, axis=0)
        along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
        across = np.stack([-along[:, 1], along[:, 0]], 1) * half
        for start in range(0, len(points) - 1, _PIECE):
            piece = slice(start, start + _PIECE + 1)
            outline = np.concatenate([points[piece] + across[piece], (points[piece] - across[piece])[::-1]])
            cv2.fillPoly(self.rgb, [self._fixed(outline)], _scalar(color), cv2.LINE_AA, _SHIFT)

    def paint(self, opacity: FloatArray, color: Any) -> None:
        """Paint a color, (3,) or one for each pixel (H, W, 3), through a mask, (H, W), of 0 to 1."""
        rows, columns = np.flatnonzero(opacity.max(1) > 0.004), np.flatnonzero(opacity.max(0) > 0.004)
        if not len(rows):
            return
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        paint = np.asarray(color, np.float32)
        paint = paint[box] if paint.ndim == 3 else paint
        under = self.rgb[box].astype(np.float32)
        under += (paint - under) * opacity[box][..., None]
        self.rgb[box] = (under + 0.5).clip(0, 255).astype(np.uint8)

    def _fixed(self, points: FloatArray) -> Any:
        return np.round(self.frame.to_pixels(points, self.scale) * (1 << _SHIFT)).astype(np.int32)


class Region:
    """A part of the drawing with a smooth outline, from a mask of 0 to 1, (H, W), on a canvas.

    The distance to the outline is what a straight edge would have where the blurred mask has its value: without steps
    of whole pixels. A Gaussian edge is inverted by its logistic approximation (G. Bowling et al., 2009).
    """

    def __init__(self, mask: FloatArray, softness_px: float) -> None:
        share = np.clip(blur(mask, softness_px), 0.002, 0.998)
        slope_y, slope_x = cv2.Scharr(share, cv2.CV_32F, 0, 1), cv2.Scharr(share, cv2.CV_32F, 1, 0)
        slope = np.maximum(np.hypot(slope_x, slope_y), 1e-3)
        self.distance_px = np.asarray(softness_px / 1.702 * np.log(share / (1 - share)), np.float32)
        self.lit = np.asarray((slope_x * 0.6 + slope_y * 0.8) / slope, np.float32)  # 1: the outline looks up and left
        self.inside = smoothstep(self.distance_px, -0.8, 0.8)

    def outline(self, width_px: float) -> FloatArray:
        """Return the coverage, (H, W), of a line along the outline, heavier on the side away from the light."""
        half = width_px * (1 - 0.4 * self.lit) / 2
        soft = min(0.7, width_px / 2)
        return smoothstep(half - np.abs(self.distance_px), -soft, soft) * np.float32(min(1, width_px / 0.8))


def curve(points: Sequence[Any] | FloatArray, count: int = 40) -> FloatArray:
    """Interpolate points, (N, 2), by a centripetal Catmull-Rom spline, at ``count`` points evenly spread.

    E. Catmull, R. Rom, 1974; centripetal knots after P. Lee, 1989: no loops and no overshoot.
    """
    knots = np.asarray(points, np.float32)
    ends = np.concatenate([[2 * knots[0] - knots[1]], knots, [2 * knots[-1] - knots[-2]]])
    steps = np.sqrt(np.linalg.norm(np.diff(ends, axis=0), axis=1)) + 1e-6
    at = np.concatenate([[0], np.cumsum(steps)])
    t = np.linspace(at[1], at[-2], count)
    index = np.clip(np.searchsorted(at, t, side="right") - 1, 1, len(at) - 3)
    t0, t1, t2, t3 = (at[index + offset][:, None] for offset in (-1, 0, 1, 2))
    p0, p1, p2, p3 = (ends[index + offset] for offset in (-1, 0, 1, 2))
    t = t[:, None]
    a1 = ((t1 - t) * p0 + (t - t0) * p1) / (t1 - t0)
    a2 = ((t2 - t) * p1 + (t - t1) * p2) / (t2 - t1)
    a3 = ((t3 - t) * p2 + (t - t2) * p3) / (t3 - t2)
    b1 = ((t2 - t) * a1 + (t - t0) * a2) / (t2 - t0)
    b2 = ((t3 - t) * a2 + (t - t1) * a3) / (t3 - t1)
    return np.asarray(((t2 - t) * b1 + (t - t1) * b2) / (t2 - t1), np.float32)


def taper(count: int, start: float = 0.15, end: float = 0.15, least: float = 0.15) -> FloatArray:
    """Return widths that grow from ``least`` to 1 in the share ``start`` of a line, and fall in its last ``end``."""
    t = np.linspace(0, 1, count)
    rise = least + (1 - least) * np.minimum(t / max(start, 1e-3), (1 - t) / max(end, 1e-3))
    return np.minimum(1, rise).astype(np.float32)


def _scalar(color: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in np.clip(color, 0, 255))
