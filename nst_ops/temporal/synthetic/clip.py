"""Layers that move as one piece, and the clips that they make.

Shapes: T frames, H and W pixels. Positions are (x, y) of pixel centres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from nst_ops.media.images import UInt8Array
from nst_ops.temporal.warp import Flow, Mask

FloatArray = npt.NDArray[np.floating]
Float32Array = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

_LOBES, _LOBE_DEPTH = 5, 0.25


@dataclass(frozen=True)
class Layer:
    """A picture that moves as one piece.

    Attributes:
        texture_hwc: uint8 RGB; mirrored where the frame looks past its edge.
        poses_t23: of each frame the affine map from texture to frame, both in pixels from their middles.
        radius_px: mean radius in the texture of a rosette that is cut out of it; None keeps all of it.
    """

    texture_hwc: UInt8Array
    poses_t23: FloatArray
    radius_px: float | None = None

    def to_texture(self, frame: int, points_hw2: FloatArray) -> FloatArray:
        """Where points of a frame, from its middle, lie in the texture."""
        pose = self.poses_t23[frame]
        return np.asarray((points_hw2 - pose[:, 2]) @ np.linalg.inv(pose[:, :2]).T)

    def to_frame(self, frame: int, points_hw2: FloatArray) -> FloatArray:
        """The inverse of ``to_texture``."""
        pose = self.poses_t23[frame]
        return np.asarray(points_hw2 @ pose[:, :2].T + pose[:, 2])

    def covers(self, points_hw2: FloatArray) -> Mask:
        """Whether the layer is there, at points of the texture."""
        if self.radius_px is None:
            return np.ones(points_hw2.shape[:2], bool)
        x, y = points_hw2[..., 0], points_hw2[..., 1]
        rim = self.radius_px * (1 + _LOBE_DEPTH * np.cos(_LOBES * np.arctan2(y, x)))
        return np.asarray(np.hypot(x, y) <= rim)

    def paint(self, points_hw2: FloatArray) -> Float32Array:
        """Colours at points of the texture, (H, W, 3) in grey levels."""
        height, width = self.texture_hwc.shape[:2]
        at = (points_hw2 + middle(height, width)).astype(np.float32)
        texture = self.texture_hwc.astype(np.float32)
        colours = cv2.remap(
            texture, at[..., 0], at[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
        )
        return np.asarray(colours, np.float32)


@dataclass(frozen=True)
class Clip:
    """Frames, and how they move.

    Attributes:
        name: what happens in it.
        frames_thwc: uint8 RGB (T, H, W, 3).
        scenes: layers of each scene, the lowest first.
        scene_of: of each frame the number of its scene.
    """

    name: str
    frames_thwc: UInt8Array = field(repr=False)
    scenes: Sequence[Sequence[Layer]] = field(repr=False)
    scene_of: Sequence[int] = field(repr=False)

    @property
    def cuts(self) -> list[int]:
        """The frames that begin another scene than the frame before."""
        return [t for t in range(1, len(self.scene_of)) if self.scene_of[t] != self.scene_of[t - 1]]

    def motion(self, frame: int, other: int) -> tuple[Flow, Mask]:
        """Exact flow between two frames: a ``metrics.Motion``.

        Args:
            frame: number of the frame whose pixels are followed.
            other: number of the frame in which they are found.

        Returns:
            Flow (H, W, 2) in pixels, x before y: what ``frame`` shows at p is at p + flow in
            ``other``. And a mask (H, W): False where it is hidden there or out of view, on a
            pixel across the rim of a layer in either frame, and everywhere across a cut.
        """
        height, width = self.frames_thwc.shape[1:3]
        if self.scene_of[frame] != self.scene_of[other]:
            return np.zeros((height, width, 2), np.float32), np.zeros((height, width), bool)
        layers, from_middle = self.scenes[self.scene_of[frame]], points(height, width)
        owner_here, owner_there = (owner(layers, t, from_middle) for t in (frame, other))
        whole_here, whole_there = _whole(owner_here), _whole(owner_there)
        flow, valid = np.zeros((height, width, 2)), np.zeros((height, width), bool)
        for number, layer in enumerate(layers):
            target = layer.to_frame(other, layer.to_texture(frame, from_middle))
            at = (target + middle(height, width)).astype(np.float32)
            there = (whole_there & (owner_there == number)).astype(np.float32)
            seen = cv2.remap(there, at[..., 0], at[..., 1], cv2.INTER_LINEAR) > 0.999  # out of view: 0
            mine = owner_here == number
            flow[mine] = (target - from_middle)[mine]
            valid |= mine & whole_here & seen
        return flow.astype(np.float32), valid


def owner(layers: Sequence[Layer], frame: int, points_hw2: FloatArray) -> IntArray:
    """The number of the uppermost layer at each point of a frame."""
    numbers = np.zeros(points_hw2.shape[:2], np.int64)
    for number, layer in enumerate(layers):
        numbers[layer.covers(layer.to_texture(frame, points_hw2))] = number
    return numbers


def _whole(owner_hw: IntArray) -> Mask:
    """Pixels that show the same layer as all their neighbours, so nothing of another."""
    owner, window = owner_hw.astype(np.uint8), np.ones((3, 3), np.uint8)
    return np.asarray(cv2.dilate(owner, window) == cv2.erode(owner, window))


def points(height: int, width: int) -> FloatArray:
    """(H, W, 2): each pixel's centre, from the middle of the frame."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([x, y], -1) - middle(height, width)


def middle(height: int, width: int) -> FloatArray:
    """(x, y) of the middle of a picture."""
    return np.array([(width - 1) / 2, (height - 1) / 2])
