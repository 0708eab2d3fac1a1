"""A head as the photograph shows it: upright, at one size, with the colors of neutral light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nst_ops.anime.arrays import FloatArray, UInt8Array, sample, to_lab, to_rgb, vector
from nst_ops.anime.faces import Face
from nst_ops.anime.head import HeadFrame, frame_of
from nst_ops.anime.landmarks import FACE_SKIN, FaceMeasures
from nst_ops.anime.networks import FaceNetworks

SCALE = 200.0
"""Pixels per face height at which a head is measured: more than small photographs have, enough for all regions."""
_SKIN_HUE = (36.0, 76.0)  # degrees of Lab in which skin lies under neutral light
_SKIN_CHROMA = (9.0, 40.0)
_MOST_GAIN = 2.0  # of a channel
_GRAY_CHROMA = 2.5  # of skin, below which a picture has no color


@dataclass(frozen=True)
class Portrait(FaceMeasures):
    """Pixels and landmarks of one head, over its frame at ``SCALE``."""

    frame: HeadFrame
    points: FloatArray
    """Landmarks, (478, 2), in head coordinates."""
    yaw: float
    """Turn of the head in degrees, positive to the right of the picture."""
    rgb: UInt8Array
    """The photograph, (H, W, 3)."""
    person: FloatArray
    """Probability of a person, (H, W)."""
    tint: float
    """Distance in Lab by which the light had colored the skin; 0 under neutral light."""
    lab: FloatArray
    """Lab colors under neutral light, (H, W, 3)."""

    @cached_property
    def lightness(self) -> FloatArray:
        """L of Lab, (H, W)."""
        return np.ascontiguousarray(self.lab[..., 0])

    def patch(self, indices: Sequence[int], radius: float = 0.016) -> FloatArray:
        """Return the Lab colors around landmarks, (N, 3); radius in face heights."""
        return _around(self.lab, self.frame.to_pixels(self.points[list(indices)], SCALE), round(radius * SCALE))

    def lightness_at(self, points: FloatArray) -> FloatArray:
        """Return L at head coordinates, (..., 2)."""
        pixels = np.round(self.frame.to_pixels(points.reshape(-1, 2), SCALE)).astype(int)
        height, width = self.lightness.shape
        x, y = pixels[:, 0].clip(0, width - 1), pixels[:, 1].clip(0, height - 1)
        return np.reshape(self.lightness[y, x], points.shape[:-1])


def take_portrait(image_hwc: UInt8Array, face: Face, networks: FaceNetworks) -> Portrait:
    """Cut a head out of a photograph, upright, and take the color of the light from it."""
    frame, points = frame_of(face, image_hwc.shape[1], image_hwc.shape[0])
    width, height = frame.size(SCALE)
    rgb = np.asarray(sample(image_hwc, frame.to_photograph(SCALE), width, height), np.uint8)
    skin = np.median(_around(to_lab(rgb), frame.to_pixels(points[list(FACE_SKIN)], SCALE), 3), 0)
    gains, tint = _neutral_light(skin)
    lab = to_lab(_apply_gains(rgb, gains))
    return Portrait(frame, points, face.yaw, rgb, networks.person(rgb), tint, lab)


def _around(lab_hwc: FloatArray, pixels: FloatArray, radius: int) -> FloatArray:
    """Return the pixels in squares around positions; of those outside, the nearest within."""
    height, width, _ = lab_hwc.shape
    offsets = np.arange(-radius, radius + 1)
    centers = np.round(pixels).astype(int)
    x = (centers[:, 0, None, None] + offsets[None, None]).clip(0, width - 1)
    y = (centers[:, 1, None, None] + offsets[None, :, None]).clip(0, height - 1)
    return np.reshape(lab_hwc[y, x], (-1, 3))


def _neutral_light(skin_lab: FloatArray) -> tuple[FloatArray, float]:
    """Return the gains of linear R, G, B that bring a skin color to the nearest one under neutral light.

    Also how far it moves in Lab. Gray skin stays: such a photograph has no color.
    """
    chroma, hue = float(np.hypot(*skin_lab[1:])), float(np.degrees(np.arctan2(skin_lab[2], skin_lab[1])))
    if chroma < _GRAY_CHROMA:
        return np.ones(3, np.float32), 0.0
    target_hue = np.radians(np.clip(hue, *_SKIN_HUE))
    target_chroma = np.clip(chroma, *_SKIN_CHROMA)
    if np.cos(np.radians(hue) - target_hue) < 0:  # light of the opposite color: nothing is known of the skin
        target_chroma = 16.0
    target = vector([skin_lab[0], target_chroma * np.cos(target_hue), target_chroma * np.sin(target_hue)])
    gains = _linear(to_rgb(target)) / np.maximum(_linear(to_rgb(skin_lab)), 1e-3)
    return np.clip(gains, 1 / _MOST_GAIN, _MOST_GAIN), float(np.linalg.norm(target - skin_lab))


def _linear(rgb: FloatArray) -> FloatArray:
    """Linear light, 0 to 1, of sRGB in 0 to 255, approximated by the power 2.2."""
    return np.asarray((rgb / 255) ** 2.2, np.float32)


def _apply_gains(rgb_hwc: UInt8Array, gains: FloatArray) -> UInt8Array:
    levels = np.arange(256, dtype=np.float32)[:, None] * gains ** (1 / 2.2)
    table = levels.clip(0, 255).astype(np.uint8)
    return np.stack([table[rgb_hwc[..., channel], channel] for channel in range(3)], 2)
