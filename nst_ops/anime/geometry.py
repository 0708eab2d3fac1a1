"""Anime proportions: a thin-plate spline moves the landmarks of a head, and everything between them.

F. Bookstein, "Principal Warps: Thin-Plate Splines and the Decomposition of Deformations", PAMI 1989. Head coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from nst_ops.anime.arrays import FloatArray, UInt8Array, vector
from nst_ops.anime.head import HeadFrame
from nst_ops.anime.landmarks import EYES, LEFT_SIDE, NOSE_TIP, OUTER_LIPS, OVAL, RIGHT_SIDE

_STIFFNESS = 0.002  # how far the spline may miss a landmark to stay smooth
_GRID_STEP = 0.05  # face heights between points at which the spline itself is evaluated


@dataclass(frozen=True)
class ThinPlateSpline:
    """A smooth map of the plane, x + a(x) + sum of w U(|x - c|) with U(r) = r² log r."""

    centers: NDArray[np.float64]
    weights: NDArray[np.float64]

    @classmethod
    def fit(cls, source: FloatArray, target: FloatArray) -> ThinPlateSpline:
        """Fit the map that takes ``source`` to ``target``, both (N, 2)."""
        centers = source.astype(np.float64)
        count = len(centers)
        system = np.zeros((count + 3, count + 3))
        system[:count, :count] = _kernel(centers, centers) + _STIFFNESS * np.eye(count)
        system[:count, count:] = np.concatenate([np.ones((count, 1)), centers], 1)
        system[count:, :count] = system[:count, count:].T
        moves = np.concatenate([target - source, np.zeros((3, 2))]).astype(np.float64)
        return cls(centers, np.asarray(np.linalg.solve(system, moves), np.float64))

    def __call__(self, points: FloatArray) -> FloatArray:
        """Map points, (N, 2)."""
        basis = np.concatenate([_kernel(points, self.centers), np.ones((len(points), 1)), points], 1)
        return np.asarray(points + basis @ self.weights, np.float32)


@dataclass(frozen=True)
class Proportions:
    """A head in anime proportions."""

    frame: HeadFrame
    points: FloatArray
    """Landmarks of the drawing, (478, 2), in head coordinates."""
    backward: ThinPlateSpline
    """From the drawing to the photograph, both in head coordinates."""

    def resample(self, values: FloatArray | UInt8Array, scale: float, canvas_scale: float) -> FloatArray:
        """Warp an array over the frame, (H, W) or (H, W, C) at ``scale``, to the drawing at ``canvas_scale``."""
        width, height = self.frame.size(canvas_scale)
        rows, columns, _ = self._sources.shape
        # the corners of the coarse grid lie at the edges of the frame
        x = (np.arange(width, dtype=np.float32) + 0.5) * ((columns - 1) / width)
        y = (np.arange(height, dtype=np.float32) + 0.5) * ((rows - 1) / height)
        x_at, y_at = np.meshgrid(x, y)
        fine = cv2.remap(self._sources, x_at, y_at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        pixels = self.frame.to_pixels(np.asarray(fine, np.float32), scale)
        x_map, y_map = np.ascontiguousarray(pixels[..., 0]), np.ascontiguousarray(pixels[..., 1])
        return np.asarray(cv2.remap(values, x_map, y_map, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))

    @cached_property
    def _sources(self) -> FloatArray:
        """Where points of a coarse grid over the frame come from, (rows, columns, 2), in head coordinates."""
        frame = self.frame
        columns = max(2, round((frame.right_edge - frame.left_edge) / _GRID_STEP)) + 1
        rows = max(2, round((frame.bottom_edge - frame.top_edge) / _GRID_STEP)) + 1
        x = np.linspace(frame.left_edge, frame.right_edge, columns)
        y = np.linspace(frame.top_edge, frame.bottom_edge, rows)
        grid = np.stack(np.meshgrid(x, y), 2).astype(np.float32)
        return self.backward(grid.reshape(-1, 2)).reshape(grid.shape)


def anime_proportions(points: FloatArray, frame: HeadFrame, softness: float) -> Proportions:
    """Give a head anime proportions: lower eyes, a small mouth, a narrow chin, a shorter lower face.

    Args:
        points: landmarks of the photograph, (478, 2), in head coordinates.
        frame: its frame, whose edges stay where they are.
        softness: 0 for a strong jaw to 1 for a narrow one.
    """
    width = float(points[RIGHT_SIDE, 0] - points[LEFT_SIDE, 0])
    middle = (points[LEFT_SIDE] + points[RIGHT_SIDE]) / 2
    sources, targets = [], []

    def move(source: FloatArray, target: FloatArray) -> None:
        sources.append(source)
        targets.append(target)

    slimming = 0.085 + 0.05 * softness
    for index in OVAL:
        x, y = points[index] - middle
        down = float(np.clip(y / 0.55, 0, 1))
        narrowed = 1.02 - slimming * 1.1 * np.sin(down * np.pi * 0.62)
        move(points[index], middle + vector([x * narrowed, y if y < 0 else y * 0.90]))
    for eye in EYES:
        for index in (eye.inner, eye.outer):
            move(points[index], points[index] + vector([eye.side * 0.006 * width, 0.030]))
        for index in eye.brow[1::2]:
            move(points[index], points[index] - vector([0, 0.004]))
    mouth = points[list(OUTER_LIPS)].mean(0)
    for index in (61, 291, 0, 17):
        move(points[index], mouth + vector([0, -0.030]) + (points[index] - mouth) * 0.8)
    move(points[NOSE_TIP], points[NOSE_TIP] + vector([0, 0.004]))
    for across in np.linspace(0, 1, 6):
        for down in np.linspace(0, 1, 6):
            if across in (0, 1) or down in (0, 1):
                edge = vector(
                    [
                        frame.left_edge + across * (frame.right_edge - frame.left_edge),
                        frame.top_edge + down * (frame.bottom_edge - frame.top_edge),
                    ]
                )
                if np.linalg.norm(points - edge, axis=1).min() > 0.12:  # a face at the border moves the border
                    move(edge, edge)
    source, target = np.stack(sources), np.stack(targets)
    return Proportions(frame, ThinPlateSpline.fit(source, target)(points), ThinPlateSpline.fit(target, source))


def _kernel(points: FloatArray | NDArray[np.float64], centers: NDArray[np.float64]) -> NDArray[np.float64]:
    squared = ((points[:, None].astype(np.float64) - centers[None]) ** 2).sum(2)
    return np.asarray(0.5 * squared * np.log(squared + 1e-12), np.float64)
