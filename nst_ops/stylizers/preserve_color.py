"""Preserve color: the style's light and dark in the colors of the input."""

from __future__ import annotations

import numpy as np
from PIL import Image

from nst_ops.media.images import UInt8Array


def keep_colors(stylized_nhwc: UInt8Array, frames_nhwc: UInt8Array) -> UInt8Array:
    """Combine the luma of stylized frames with the chroma of the frames they were made from.

    Luminance transfer of L. A. Gatys et al., "Preserving Color in Neural Artistic Style Transfer", 2016, section 4.2,
    in full-range YCbCr of BT.601. Where luma and chroma meet in no color that RGB can show, each channel takes its
    nearest value.
    """
    merged = np.empty_like(frames_nhwc)
    for stylized_hwc, frame_hwc, merged_hwc in zip(stylized_nhwc, frames_nhwc, merged, strict=True):
        # Chroma is R - Y and B - Y: where luma moves by some value, each channel moves by the same.
        moved_hw = np.subtract(_luma(stylized_hwc), _luma(frame_hwc), dtype=np.int16)
        moved_hwc = np.add(frame_hwc, moved_hw[..., None], dtype=np.int16)
        np.clip(moved_hwc, 0, 255, out=merged_hwc, casting="unsafe")
    return merged


def _luma(rgb_hwc: UInt8Array) -> UInt8Array:
    """Return the luma, (H, W), rounded."""
    return np.asarray(Image.fromarray(rgb_hwc).convert("L"))
