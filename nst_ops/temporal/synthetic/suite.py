"""The suite of clips, and the texture that they are made of where no picture is given."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from nst_ops.media.images import UInt8Array
from nst_ops.temporal.synthetic.clip import Clip, Float32Array, FloatArray, Layer, owner, points

_MARGIN = 1.5
"""Sides of the background in sides of the frame, so that motion uncovers more of it."""
_SUPERSAMPLING = 2
_NOISE = 4.0
"""Standard deviation in grey levels: a camera indoors."""


def make_clips(
    picture_hwc: UInt8Array | None = None,
    size: tuple[int, int] = (320, 180),
    num_frames: int = 24,
    seed: int = 0,
) -> list[Clip]:
    """The suite: pan, fast pan, zoom, sprites, exposure, noise and cut, each of another motion.

    Args:
        picture_hwc: uint8 RGB, resized to cover one and a half frames. Default: a texture drawn
            from ``seed``.
        size: width and height of the frames in pixels.
        num_frames: of each clip.
        seed: of texture, noise and sprites.
    """
    generator = np.random.default_rng(seed)
    if picture_hwc is None:
        picture_hwc = draw_texture((round(_MARGIN * size[0]), round(_MARGIN * size[1])), seed)
    picture_hwc = _cover(picture_hwc, size)
    flipped_hwc = np.ascontiguousarray(255 - picture_hwc[::-1, ::-1])
    steps = (
        np.arange(num_frames) - (num_frames - 1) / 2
    )  # the middle of the picture in the middle of the clip

    def background(picture: UInt8Array, velocity: tuple[float, float], zoom: float = 1.0) -> Layer:
        return Layer(picture, _poses(steps[:, None] * velocity, zoom**steps, 0 * steps))

    slow = background(picture_hwc, (0.7, -0.3))
    still = background(picture_hwc, (0, 0))
    exposure = 1 - 0.25 * np.sin(2 * np.pi * np.arange(num_frames) / 48)
    return [
        _film("pan", [[slow]], size),
        _film("fast pan", [[background(picture_hwc, (-4.6, 1.7))]], size),
        _film("zoom", [[background(picture_hwc, (0, 0), 1.01)]], size),
        _film("sprites", [[background(picture_hwc, (-0.4, 0.2)), *_sprites(flipped_hwc, steps, size)]], size),
        _film("exposure", [[slow]], size, gains=exposure),
        _film("noise", [[still]], size, noise=generator.normal(0, _NOISE, (num_frames, size[1], size[0], 3))),
        _film("cut", [[slow], [background(flipped_hwc, (-0.9, 0.4))]], size),
    ]


def draw_texture(size: tuple[int, int], seed: int = 0) -> UInt8Array:
    """A picture without a motif, (H, W, 3): clouds of all sizes over discs with hard edges.

    Its spectrum falls about as that of photographs does: amplitude as one over frequency.

    Args:
        size: width and height in pixels.
        seed: another one, another picture.
    """
    width, height = size
    generator = np.random.default_rng(seed)
    discs = np.full((height, width, 3), 128, np.uint8)
    for _ in range(24):
        centre = generator.integers(0, (width, height)).tolist()
        radius = int(generator.uniform(0.02, 0.08) * max(size))
        cv2.circle(discs, centre, radius, generator.uniform(40, 216, 3).tolist(), -1, cv2.LINE_AA)
    picture, cell = discs.astype(np.float32), max(size) / 2
    while cell >= 2:
        cells = (round(height / cell) + 2, round(width / cell) + 2)
        coarse = generator.normal(0, 1, (*cells, 1)) + 0.5 * generator.normal(0, 1, (*cells, 3))
        clouds = cv2.resize(coarse.astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
        picture += 30 * (cell / max(size)) ** 0.5 * clouds
        cell /= 2
    return picture.clip(0, 255).round().astype(np.uint8)


def _sprites(picture_hwc: UInt8Array, steps: FloatArray, size: tuple[int, int]) -> list[Layer]:
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
        texture = np.ascontiguousarray(np.roll(picture_hwc, 61 * number, axis=1))
        poses = _poses(np.add(start, steps[:, None] * velocity), np.ones(len(steps)), turn * steps)
        layers.append(Layer(texture, poses, radius))
    return layers


def _film(
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
    """A frame in grey levels, each pixel the mean over its area."""
    width, height = size
    at_hw2 = points(_SUPERSAMPLING * height, _SUPERSAMPLING * width) / _SUPERSAMPLING
    owner_hw = owner(layers, frame, at_hw2)
    picture = np.zeros((*owner_hw.shape, 3), np.float32)
    for number, layer in enumerate(layers):
        mine = owner_hw == number
        picture[mine] = layer.paint(layer.to_texture(frame, at_hw2))[mine]
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.float32)


def _poses(centres_t2: FloatArray, zooms_t: FloatArray, degrees_t: FloatArray) -> FloatArray:
    """Affine maps (T, 2, 3) that zoom and turn about the texture's middle, and put that to ``centres_t2``."""
    angles = np.deg2rad(degrees_t)
    cos, sin = zooms_t * np.cos(angles), zooms_t * np.sin(angles)
    linear = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    return np.concatenate([linear, np.asarray(centres_t2)[:, :, None]], axis=2)


def _cover(picture_hwc: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    """The picture resized to cover the frame and its margin, softened to what sub-pixel shifts keep."""
    height, width = picture_hwc.shape[:2]
    scale = _MARGIN * max(size[0] / width, size[1] / height)
    new = (math.ceil(width * scale), math.ceil(height * scale))
    resized = cv2.resize(picture_hwc, new, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    return np.asarray(cv2.GaussianBlur(resized, (0, 0), 0.5), np.uint8)
