"""What a stylizer makes of noise and of a shift: the causes of flicker, measured without a video."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from nst_ops.media.images import UInt8Array

StylizeFrames = Callable[[UInt8Array], UInt8Array]
"""A stylizer of frames (N, H, W, 3), its style being settled."""


def noise_gain(stylize: StylizeFrames, frames_nhwc: UInt8Array, sigma: float = 2.0, seed: int = 0) -> float:
    """Factor by which a stylizer magnifies noise: ``|S(x + n) - S(x)| / |n|``, norms over all frames.

    Args:
        stylize: the stylizer S.
        frames_nhwc: frames x, (N, H, W, 3).
        sigma: standard deviation of the Gaussian noise in gray levels; n is that noise in uint8.
        seed: seed of the noise.

    Returns:
        1 for a stylizer that changes nothing; above 1 grain becomes flicker.
    """
    noise = np.random.default_rng(seed).normal(0, sigma, frames_nhwc.shape)
    noisy = (frames_nhwc + noise).round().clip(0, 255).astype(np.uint8)
    return _distance(stylize(noisy), stylize(frames_nhwc)) / _distance(noisy, frames_nhwc)


def shift_error(
    stylize: StylizeFrames,
    image_hwc: UInt8Array,
    shifts_px: Sequence[tuple[int, int]] = ((1, 0), (0, 1), (2, 2), (3, 5)),
    margin_px: int = 32,
) -> float:
    """Shift-equivariance error: how much the result depends on where a thing lies in the frame.

    ``rms |S(shift x) - shift S(x)|`` over the pixels that both show, without a margin where the
    frame's edge has a say. A network with strides moves its strokes in jumps; see R. Zhang,
    "Making convolutional networks shift-invariant again", ICML 2019.

    Args:
        stylize: the stylizer S.
        image_hwc: (H, W, 3); views of it, smaller by the largest shift, are stylized.
        shifts_px: shifts rightwards and downwards.
        margin_px: pixels left out at each side, at most a quarter of the side.

    Returns:
        In gray levels, at least 0.
    """
    height = image_hwc.shape[0] - max(down for _, down in shifts_px)
    width = image_hwc.shape[1] - max(right for right, _ in shifts_px)
    whole = stylize(image_hwc[None, :height, :width])[0].astype(np.float32)
    top, left = min(margin_px, height // 4), min(margin_px, width // 4)
    squares = []
    for right, down in shifts_px:
        shifted = stylize(image_hwc[None, down : down + height, right : right + width])[0]
        of_whole = whole[top + down : height - top, left + right : width - left]
        of_shifted = shifted[top : height - top - down, left : width - left - right]
        squares.append(np.square(of_shifted - of_whole).mean(dtype=np.float64))
    return math.sqrt(float(np.mean(squares)))


def _distance(a: UInt8Array, b: UInt8Array) -> float:
    return float(np.linalg.norm((a.astype(np.float32) - b).ravel()))
