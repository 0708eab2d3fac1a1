"""The frame of a head: upright, in units of the face's height, whatever its size and tilt in the photograph.

Everything after the landmarks is measured and drawn in it, so that a drawing does not depend on size and tilt.
Head coordinates: origin at the chin, x to the right, y down; the top of the forehead lies at (0, -1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nst_ops.anime.arrays import FloatArray, vector
from nst_ops.anime.faces import Face
from nst_ops.anime.landmarks import CHIN, FOREHEAD

REACH_SIDE, REACH_UP, REACH_DOWN = 1.5, 2.15, 1.15
"""How far around the chin a head is drawn: hair, neck, shoulders."""


@dataclass(frozen=True)
class HeadFrame:
    """A rectangle in head coordinates, and where it lies in the photograph."""

    chin: FloatArray
    """The chin, (2,), in pixels of the photograph."""
    right: FloatArray
    """Step of one face height to the right of the upright head, (2,), in pixels of the photograph."""
    left_edge: float
    top_edge: float
    right_edge: float
    bottom_edge: float

    @property
    def face_height_px(self) -> float:
        """Height of the face in pixels of the photograph."""
        return float(np.linalg.norm(self.right))

    def to_head(self, positions: FloatArray) -> FloatArray:
        """Map positions in the photograph, (N, 2), to head coordinates."""
        axes = np.stack([self.right, [-self.right[1], self.right[0]]], 1)
        return np.asarray((positions - self.chin) @ axes / (self.right @ self.right), np.float32)

    def size(self, scale: float) -> tuple[int, int]:
        """Return width and height in pixels at ``scale`` pixels per face height."""
        width, height = self.right_edge - self.left_edge, self.bottom_edge - self.top_edge
        return max(8, round(width * scale)), max(8, round(height * scale))

    def to_photograph(self, scale: float) -> FloatArray:
        """Return the (2, 3) map from pixels of the frame to pixels of the photograph."""
        down = np.array([-self.right[1], self.right[0]], np.float32)
        axes = np.stack([self.right, down], 1)
        corner = self.chin + axes @ np.array([self.left_edge, self.top_edge], np.float32)
        offset = corner + (axes / scale) @ vector([0.5, 0.5]) - 0.5
        return np.concatenate([axes / scale, offset[:, None]], 1).astype(np.float32)

    def grid(self, scale: float) -> tuple[FloatArray, FloatArray]:
        """Return head coordinates x and y of every pixel, (H, W) each."""
        width, height = self.size(scale)
        x = self.left_edge + (np.arange(width, dtype=np.float32) + 0.5) / scale
        y = self.top_edge + (np.arange(height, dtype=np.float32) + 0.5) / scale
        return np.broadcast_to(x, (height, width)), np.broadcast_to(y[:, None], (height, width))

    def to_pixels(self, points: FloatArray, scale: float) -> FloatArray:
        """Map head coordinates, (N, 2), to pixels at ``scale``."""
        return np.asarray((points - vector([self.left_edge, self.top_edge])) * scale - 0.5, np.float32)


def frame_of(face: Face, width: int, height: int) -> tuple[HeadFrame, FloatArray]:
    """Return the frame of a face in a photograph of this size, and its landmarks, (478, 2), in head coordinates.

    The frame ends where the photograph does.
    """
    points = face.points[:, :2]
    up = points[FOREHEAD] - points[CHIN]
    right = np.array([-up[1], up[0]], np.float32)
    boundless = HeadFrame(points[CHIN].copy(), right, -REACH_SIDE, -REACH_UP, REACH_SIDE, REACH_DOWN)
    corners = boundless.to_head(vector([[0, 0], [width, 0], [0, height], [width, height]]) - 0.5)
    (left, top), (far_right, bottom) = corners.min(0), corners.max(0)
    frame = replace(
        boundless,
        left_edge=max(float(left), -REACH_SIDE),
        top_edge=max(float(top), -REACH_UP),
        right_edge=min(float(far_right), REACH_SIDE),
        bottom_edge=min(float(bottom), REACH_DOWN),
    )
    return frame, frame.to_head(points)
