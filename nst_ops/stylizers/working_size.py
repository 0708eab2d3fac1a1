"""Size of strokes: frames are stylized at a working size, and the result is brought to full size along their edges.

Joint upsampling (J. Kopf et al., SIGGRAPH 2007) by a local linear model as of the guided filter (K. He et al., ECCV
2010). The result is interpolated, and gets the detail that interpolating the source would lose, as strongly as the
stylized frame follows the source there. So strokes stay as they were painted, and edges are those of the source.
Shapes: N frames, H and W pixels at full size, h and w at the working size.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from nst_ops.media.images import UInt8Array

_RADIUS = 2  # of the windows of the local model, in pixels of the working size
_NOISE = 8.0  # standard deviation in levels below which the source says nothing about the stylized frame
_STEEPEST = 1.5  # more than the source's own contrast would be a halo


def working_size(height: int, width: int, side: int | None) -> tuple[int, int]:
    """Return the height and width at which frames are stylized: ``side`` pixels of the longer side, or as they are."""
    scale = side / max(height, width) if side else 1.0
    return max(1, round(height * scale)), max(1, round(width * scale))


def at_working_size(frames_nhwc: UInt8Array, side: int | None) -> UInt8Array:
    """Resize (N, H, W, 3) to their working size, smaller frames too; the same array where they have it."""
    _, height, width, _ = frames_nhwc.shape
    small_height, small_width = working_size(height, width, side)
    if (small_height, small_width) == (height, width):
        return frames_nhwc
    return np.stack([_resize(frame_hwc, (small_width, small_height)) for frame_hwc in frames_nhwc])


def at_full_size(stylized_nhwc: UInt8Array, small_nhwc: UInt8Array, frames_nhwc: UInt8Array) -> UInt8Array:
    """Bring stylized (N, h, w, 3), made of ``small_nhwc``, to the size of the frames that these came from."""
    if small_nhwc.shape == frames_nhwc.shape:
        return stylized_nhwc
    return np.stack([_upsample(*each) for each in zip(stylized_nhwc, small_nhwc, frames_nhwc, strict=True)])


def blend(stylized_nhwc: UInt8Array, frames_nhwc: UInt8Array, share: float) -> UInt8Array:
    """Return ``share`` of the stylized frames and the rest of the frames themselves, rounded."""
    if share == 1:
        return stylized_nhwc
    pairs = zip(stylized_nhwc, frames_nhwc, strict=True)
    return np.stack([cv2.addWeighted(stylized, share, frame, 1 - share, 0) for stylized, frame in pairs])


def _upsample(stylized_hwc: UInt8Array, small_hwc: UInt8Array, frame_hwc: UInt8Array) -> UInt8Array:
    height, width, _ = frame_hwc.shape
    enlarged = _resize(stylized_hwc, (width, height))
    if stylized_hwc.shape[0] > height:
        return enlarged
    lost_hw = _luma(frame_hwc) - _luma(_resize(small_hwc, (width, height)))
    slope = cv2.resize(_slope(stylized_hwc, _luma(small_hwc)), (width, height), interpolation=cv2.INTER_LINEAR)
    out = cv2.multiply(slope, lost_hw[..., None].repeat(3, 2))
    cv2.add(out, enlarged, out, dtype=cv2.CV_32F)
    return np.clip(np.rint(out, out=out), 0, 255, out=out).astype(np.uint8)


def _slope(stylized_hwc: UInt8Array, luma_hw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return by how much each channel changes with the luma of the source, in windows: (h, w, 3)."""
    window = (2 * _RADIUS + 1,) * 2
    stylized, luma = stylized_hwc.astype(np.float32), luma_hw[..., None].repeat(3, 2)
    mean_luma, mean_stylized = cv2.blur(luma, window), cv2.blur(stylized, window)
    covariance = cv2.blur(luma * stylized, window) - mean_luma * mean_stylized
    variance = cv2.blur(luma * luma, window) - mean_luma * mean_luma
    return np.clip(covariance / (variance + _NOISE**2), -_STEEPEST, _STEEPEST)


def _luma(rgb_hwc: UInt8Array) -> NDArray[np.float32]:
    return cv2.cvtColor(rgb_hwc, cv2.COLOR_RGB2GRAY).astype(np.float32)


def _resize(frame_hwc: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    """Resize to (width, height): by areas to a smaller size, by cubic interpolation to a larger one."""
    smaller = size[0] < frame_hwc.shape[1]
    resized = cv2.resize(frame_hwc, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
    return np.asarray(resized, np.uint8)
