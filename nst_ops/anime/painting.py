"""What is painted rather than drawn: the ground behind heads, clothes, hats, and photographs without a face."""

from __future__ import annotations

import cv2
import numpy as np

from nst_ops.anime.arrays import (
    FloatArray,
    UInt8Array,
    blur,
    color_clusters,
    fill_from_outside,
    resize,
    smoothstep,
    to_lab,
    to_rgb,
    vector,
)

_SCENE_SIDE, _BACKDROP_SIDE = 512, 96  # pixels of the longer side at which a scene, or a quiet backdrop, is painted
_LIFT = 0.16  # how far a ground goes to white: figures stand out before it


def paint_ground(image_hwc: UInt8Array, heads: FloatArray, quiet: bool, strength: float) -> UInt8Array:
    """Paint a photograph without its heads: smooth areas between the large edges, brighter, without lines.

    Args:
        image_hwc: the photograph.
        heads: share of heads in each pixel, (H, W), whose place is filled from around them.
        quiet: whether only the largest areas stay, softly, as behind a portrait.
        strength: of the palette.
    """
    height, width, _ = image_hwc.shape
    side = _BACKDROP_SIDE if quiet else _SCENE_SIDE
    ratio = min(1.0, side / max(height, width))
    small_width, small_height = max(8, round(width * ratio)), max(8, round(height * ratio))
    small = np.asarray(resize(image_hwc, small_width, small_height), np.float32)
    known = 1 - resize(heads, small_width, small_height)
    known = smoothstep(np.asarray(cv2.erode(known, np.ones((3, 3), np.uint8)), np.float32), 0.6, 0.95)
    if float(known.mean()) < 0.02:  # a head fills the picture
        known = np.ones_like(known)
    small = fill_from_outside(small, known, 0.03 * max(small_width, small_height))
    lab = to_lab(small)
    rounds, reach = (6, 4.0) if quiet else (4, 3.0)
    for _ in range(rounds):
        lab = np.asarray(cv2.bilateralFilter(lab, 0, 9 if quiet else 7, reach), np.float32)
    if quiet:
        lab = np.stack([blur(lab[..., channel].copy(), 2.5) for channel in range(3)], 2)
        lab[..., 0] += (100 - lab[..., 0]) * _LIFT * strength
    else:
        lab = _shelve(lab)
        lab[..., 0] += (100 - lab[..., 0]) * 0.5 * _LIFT * strength
    lab[..., 1:] *= 1 + 0.2 * strength
    rgb = np.clip(np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.float32) * 255 + 0.5, 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def _shelve(lab: FloatArray) -> FloatArray:
    """Pull lightness to shelves with soft steps between them, as in real-time abstraction (H. Winnemöller, 2006)."""
    shelf = 12.0
    nearest = np.round(lab[..., 0] / shelf) * shelf
    lab = lab.copy()
    lab[..., 0] = nearest + shelf / 2 * np.tanh(3.2 * (lab[..., 0] - nearest) / shelf)
    return lab


def flat_color(painted_hwc: UInt8Array) -> FloatArray:
    """Return one pale color, RGB, for a whole ground."""
    color = np.median(to_lab(painted_hwc[::4, ::4]).reshape(-1, 3), 0)
    return to_rgb([max(72.0, float(color[0])), float(color[1]) * 0.8, float(color[2]) * 0.8])


def paint_flat(rgb_hwc: FloatArray, mask: FloatArray, width: int, height: int, vividness: float) -> FloatArray:
    """Paint what a mask shows in up to four flat colors with smooth borders.

    Args:
        rgb_hwc: the photograph, RGB in 0 to 255, (h, w, 3), small.
        mask: share of what is painted, (h, w).
        width: of the result.
        height: of the result.
        vividness: factor of the chroma.

    Returns:
        RGB, (height, width, 3), everywhere.
    """
    seen = (mask > 0.85).astype(np.float32)
    if seen.sum() < 20:
        seen = (mask > 0.5).astype(np.float32)
    if seen.sum() < 4:
        return np.full((height, width, 3), 200, np.float32)
    lab = to_lab(fill_from_outside(rgb_hwc, seen, 4.0).clip(0, 255))
    for _ in range(3):
        lab = np.asarray(cv2.bilateralFilter(lab, 0, 12, 2.5), np.float32)
    samples = lab[seen > 0]
    samples = samples[:: max(1, len(samples) // 2000)]
    centers, _ = color_clusters(samples, min(4, max(1, len(samples) // 30)))
    distance = ((lab[:, :, None] - centers[None, None]) ** 2).sum(3)
    shares = np.exp(-(distance - distance.min(2, keepdims=True)) / 60)
    smooth = [resize(blur(np.asarray(share, np.float32), 1.6), width, height) for share in np.moveaxis(shares, 2, 0)]
    stacked = np.stack(smooth, 2) ** 6  # nearly one color each, with a soft border
    stacked /= stacked.sum(2, keepdims=True) + 1e-9
    palette = np.stack([to_rgb(center * vector([1, vividness, vividness]) + vector([3, 0, 0])) for center in centers])
    return np.asarray(stacked @ palette, np.float32)
