"""Layers that move as one piece, and the clips that they make.

Shapes: T frames, H and W pixels. Positions are (x, y) of pixel centers.
"""

from __future__ import annotations

import math
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
    """An image that moves as one piece.

    Attributes:
        texture_hwc: uint8 RGB; mirrored where the frame looks past its edge.
        poses_t23: of each frame the affine map from texture to frame, both in pixels from their middles.
        radius_px: mean radius in the texture of a rosette that is cut out of it; None keeps all of it.
    """

    texture_hwc: UInt8Array
    poses_t23: FloatArray
    radius_px: float | None = None

    def to_texture(self, frame: int, points_hw2: FloatArray) -> FloatArray:
        """Map points of a frame, from its middle, to points of the texture."""
        pose = self.poses_t23[frame]
        return np.asarray((points_hw2 - pose[:, 2]) @ np.linalg.inv(pose[:, :2]).T)

    def to_frame(self, frame: int, points_hw2: FloatArray) -> FloatArray:
        """The inverse of ``to_texture``."""
        pose = self.poses_t23[frame]
        return np.asarray(points_hw2 @ pose[:, :2].T + pose[:, 2])

    def covers(self, points_hw2: FloatArray) -> Mask:
        """Tell where the layer is, at points of the texture: bool (H, W)."""
        if self.radius_px is None:
            return np.ones(points_hw2.shape[:2], bool)
        x, y = points_hw2[..., 0], points_hw2[..., 1]
        rim = self.radius_px * (1 + _LOBE_DEPTH * np.cos(_LOBES * np.arctan2(y, x)))
        return np.asarray(np.hypot(x, y) <= rim)

    def colors(self, points_hw2: FloatArray) -> Float32Array:
        """Colors at points of the texture, (H, W, 3) in gray levels."""
        height, width = self.texture_hwc.shape[:2]
        at = (points_hw2 + middle(height, width)).astype(np.float32)
        texture = self.texture_hwc.astype(np.float32)
        colors = cv2.remap(texture, at[..., 0], at[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        return np.asarray(colors, np.float32)


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
    """Pixels that show the same layer as all their neighbors, so nothing of another."""
    owner, window = owner_hw.astype(np.uint8), np.ones((3, 3), np.uint8)
    return np.asarray(cv2.dilate(owner, window) == cv2.erode(owner, window))


def points(height: int, width: int) -> FloatArray:
    """(H, W, 2): each pixel's center, from the middle of the frame."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([x, y], -1) - middle(height, width)


def middle(height: int, width: int) -> FloatArray:
    """(x, y) of the middle of an image."""
    return np.array([(width - 1) / 2, (height - 1) / 2])


_MARGIN = 1.5
"""Sides of the background in sides of the frame, so that motion uncovers more of it."""
_SUPERSAMPLING = 2
_NOISE = 4.0
"""Standard deviation in gray levels: a camera indoors."""


def make_clips(
    image_hwc: UInt8Array | None = None, size: tuple[int, int] = (320, 180), num_frames: int = 24, seed: int = 0
) -> list[Clip]:
    """The suite: pan, fast pan, zoom, sprites, exposure, noise and cut, each of another motion.

    Args:
        image_hwc: uint8 RGB, resized to cover one and a half frames. Default: a texture drawn
            from ``seed``.
        size: width and height of the frames in pixels.
        num_frames: of each clip.
        seed: of texture, noise and sprites.
    """
    generator = np.random.default_rng(seed)
    if image_hwc is None:
        image_hwc = draw_texture((round(_MARGIN * size[0]), round(_MARGIN * size[1])), seed)
    image_hwc = _cover(image_hwc, size)
    flipped_hwc = np.ascontiguousarray(255 - image_hwc[::-1, ::-1])
    steps = np.arange(num_frames) - (num_frames - 1) / 2  # the middle of the image in the middle of the clip

    def background(image: UInt8Array, velocity: tuple[float, float], zoom: float = 1.0) -> Layer:
        return Layer(image, _poses(steps[:, None] * velocity, zoom**steps, 0 * steps))

    slow = background(image_hwc, (0.7, -0.3))
    still = background(image_hwc, (0, 0))
    exposure = 1 - 0.25 * np.sin(2 * np.pi * np.arange(num_frames) / 48)
    return [
        _clip("pan", [[slow]], size),
        _clip("fast pan", [[background(image_hwc, (-4.6, 1.7))]], size),
        _clip("zoom", [[background(image_hwc, (0, 0), 1.01)]], size),
        _clip("sprites", [[background(image_hwc, (-0.4, 0.2)), *_sprites(flipped_hwc, steps, size)]], size),
        _clip("exposure", [[slow]], size, gains=exposure),
        _clip("noise", [[still]], size, noise=generator.normal(0, _NOISE, (num_frames, size[1], size[0], 3))),
        _clip("cut", [[slow], [background(flipped_hwc, (-0.9, 0.4))]], size),
    ]


def draw_texture(size: tuple[int, int], seed: int = 0) -> UInt8Array:
    """An image without a motif, (H, W, 3): clouds of all sizes over discs with hard edges.

    Its spectrum falls about as a photograph's does: amplitude as one over frequency.

    Args:
        size: width and height in pixels.
        seed: seed of the drawing.
    """
    width, height = size
    generator = np.random.default_rng(seed)
    discs = np.full((height, width, 3), 128, np.uint8)
    for _ in range(24):
        center = generator.integers(0, (width, height)).tolist()
        radius = int(generator.uniform(0.02, 0.08) * max(size))
        cv2.circle(discs, center, radius, generator.uniform(40, 216, 3).tolist(), -1, cv2.LINE_AA)
    image, cell = discs.astype(np.float32), max(size) / 2
    while cell >= 2:
        cells = (round(height / cell) + 2, round(width / cell) + 2)
        coarse = generator.normal(0, 1, (*cells, 1)) + 0.5 * generator.normal(0, 1, (*cells, 3))
        clouds = cv2.resize(coarse.astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
        image += 30 * (cell / max(size)) ** 0.5 * clouds
        cell /= 2
    return image.clip(0, 255).round().astype(np.uint8)


def _sprites(image_hwc: UInt8Array, steps: FloatArray, size: tuple[int, int]) -> list[Layer]:
    """Three rosettes that cross the frame, turn, and pass over each other."""
    width, height = size
    radius = 0.16 * min(size)
    motions = (  # where in the middle of the clip, pixels a frame, degrees a frame
        ((-0.15 * width, -0.2 * height), (1.9, 0.6), 1.5),
        ((0.2 * width, 0.2 * height), (-1.3, -0.4), -2.5),
        ((0.0, 0.05 * height), (0.5, -1.1), 0.0),
    )
    layers = []
    for number, (start, velocity, turn) in enumerate(motions):
        texture = np.ascontiguousarray(np.roll(image_hwc, 61 * number, axis=1))
        poses = _poses(np.add(start, steps[:, None] * velocity), np.ones(len(steps)), turn * steps)
        layers.append(Layer(texture, poses, radius))
    return layers


def _clip(
    name: str,
    scenes: Sequence[Sequence[Layer]],
    size: tuple[int, int],
    gains: FloatArray | None = None,
    noise: FloatArray | None = None,
) -> Clip:
    """Render the scenes one after another, each with its share of the frames."""
    num_frames = len(scenes[0][0].poses_t23)
    scene_of = [t * len(scenes) // num_frames for t in range(num_frames)]
    frames = np.stack([_render(scenes[scene_of[t]], t, size) for t in range(num_frames)])
    if gains is not None:
        frames *= gains[:, None, None, None]
    if noise is not None:
        frames += noise
    return Clip(name, frames.clip(0, 255).round().astype(np.uint8), scenes, scene_of)


def _render(layers: Sequence[Layer], frame: int, size: tuple[int, int]) -> Float32Array:
    """A frame in gray levels, each pixel the mean over its area."""
    width, height = size
    at_hw2 = points(_SUPERSAMPLING * height, _SUPERSAMPLING * width) / _SUPERSAMPLING
    owner_hw = owner(layers, frame, at_hw2)
    image = np.zeros((*owner_hw.shape, 3), np.float32)
    for number, layer in enumerate(layers):
        mine = owner_hw == number
        image[mine] = layer.colors(layer.to_texture(frame, at_hw2))[mine]
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32)


def _poses(centres_t2: FloatArray, zooms_t: FloatArray, degrees_t: FloatArray) -> FloatArray:
    """Affine maps (T, 2, 3) that zoom and turn about the texture's middle, and put that to ``centres_t2``."""
    angles = np.deg2rad(degrees_t)
    cos, sin = zooms_t * np.cos(angles), zooms_t * np.sin(angles)
    linear = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    return np.concatenate([linear, np.asarray(centres_t2)[:, :, None]], axis=2)


def _cover(image_hwc: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    """The image resized to cover the frame and its margin, softened to what sub-pixel shifts keep."""
    height, width = image_hwc.shape[:2]
    scale = _MARGIN * max(size[0] / width, size[1] / height)
    new = (math.ceil(width * scale), math.ceil(height * scale))
    resized = cv2.resize(image_hwc, new, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    return np.asarray(cv2.GaussianBlur(resized, (0, 0), 0.5), np.uint8)
