"""Temporal metrics: how still a stylized video holds, and what that costs.

Stillness alone rewards blur: read it beside ``psnr`` and ``high_frequency_energy``, and beside the distance to the
style (``nst_ops.evaluation.video_metrics``). Frames of the source and of each result, of one size, show the same
instant; ``cuts`` are numbers of the frames that begin another scene. A figure that no pixel or frame can give is nan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from nst_ops.media.images import UInt8Array
from nst_ops.temporal.flow import FlowEstimator
from nst_ops.temporal.warp import Flow, Mask, motion_edges, occlusion, warp

Motion = Callable[[int, int], tuple[Flow, Mask]]
"""From the numbers of two frames to the motion between them: flow (H, W, 2) in pixels, x before y, from
the first to the second, and a mask (H, W), False where a pixel of the first is not seen in the second."""

_EROSION_PX = 7
_DETAIL_SIGMA_PX = 1.5


def estimated_motion(source_thwc: UInt8Array, flow: FlowEstimator, cuts: Sequence[int] = ()) -> Motion:
    """Estimate the motion of a real clip, from flow both ways; masked if not ``reliable`` and across cuts.

    It is that of the source frames: stylized ones have no motion to find.
    """

    def motion(frame: int, other: int) -> tuple[Flow, Mask]:
        first, last = sorted((frame, other))
        if any(first < cut <= last for cut in cuts):
            shape = source_thwc.shape[1:3]
            return np.zeros((*shape, 2), np.float32), np.zeros(shape, bool)
        forward = flow(source_thwc[frame], source_thwc[other])
        return forward, reliable(forward, flow(source_thwc[other], source_thwc[frame]))

    return motion


def reliable(forward: Flow, backward: Flow) -> Mask:
    """Mask the pixels whose flow can be trusted: in view, not occluded, not on a motion edge.

    The tests of N. Sundaram et al., ECCV 2010, as M. Ruder, A. Dosovitskiy, T. Brox, "Artistic style transfer for
    videos", GCPR 2016, take them. With F the flow and B the backward flow where F leads: occluded if
    ``|F + B|^2 > 0.01 (|F|^2 + |B|^2) + 0.5``, a motion edge if ``|grad F|^2 > 0.01 |F|^2 + 0.002``. The rest is eroded
    by a window of 7 pixels.
    """
    trusted = ~(occlusion(forward, backward) | motion_edges(forward))
    return np.asarray(cv2.erode(trusted.astype(np.uint8), np.ones((_EROSION_PX, _EROSION_PX), np.uint8)) > 0)


def warping_error(frames_thwc: UInt8Array, motion: Motion, gap: int = 1) -> float:
    """Mean squared change of a video along its motion, in [0, 1]: 0 for a video that moves as one piece.

    ``E = mean_t sum_p m |V_t(p) - V_{t-gap}(p + F(p))|^2 / sum_p m``, with F the flow from frame t to t - gap, m its
    mask, V in [0, 1] and the square averaged over the channels: W.-S. Lai et al., "Learning blind video temporal
    consistency", ECCV 2018 (section 4.2). Pairs of which no pixel can be compared are left out.
    """
    return warping_errors({"": frames_thwc}, motion, gap)[""]


def warping_errors(videos: Mapping[str, UInt8Array], motion: Motion, gap: int = 1) -> dict[str, float]:
    """Return ``warping_error`` of several versions of one clip, for which motion is found only once."""
    num_frames = len(next(iter(videos.values())))
    errors: dict[str, list[float]] = {name: [] for name in videos}
    for t in range(gap, num_frames):
        flow, mask = motion(t, t - gap)
        if not mask.any():
            continue
        for name, frames in videos.items():
            moved = warp(frames[t - gap].astype(np.float32), flow)
            error = (frames[t].astype(np.float32) - moved)[mask] / 255
            errors[name].append(float(np.square(error).mean(dtype=np.float64)))
    return {name: float(np.mean(of_pairs)) if of_pairs else math.nan for name, of_pairs in errors.items()}


def psnr(frames_thwc: UInt8Array, reference_thwc: UInt8Array) -> float:
    """Peak signal-to-noise ratio in dB, over all frames: fidelity to another version; inf for the same frames."""
    pairs = zip(frames_thwc, reference_thwc, strict=True)
    error = np.mean([np.square(a.astype(np.float32) - b).mean(dtype=np.float64) for a, b in pairs])
    return math.inf if error == 0 else float(10 * np.log10(255**2 / error))


def luminance_flicker(frames_thwc: UInt8Array, source_thwc: UInt8Array, cuts: Sequence[int] = ()) -> float:
    """Jumps of the brightness of whole frames beyond those of the source, in gray levels; none across cuts.

    With d_t the mean luma of frame t less that of the source: ``rms_t (d_t - (d_{t-1} + d_{t+1}) / 2) * sqrt(2/3)``.
    Differences of three frames pass over what drifts; the factor makes it the standard deviation of a brightness that
    jumps at random. nan for shots of less than three frames.
    """
    excess = np.array([_luma(a).mean() - _luma(b).mean() for a, b in zip(frames_thwc, source_thwc, strict=True)])
    jumps = [
        excess[t] - (excess[t - 1] + excess[t + 1]) / 2
        for t in range(1, len(excess) - 1)
        if t not in cuts and t + 1 not in cuts
    ]
    return math.sqrt(float(np.mean(np.square(jumps))) * 2 / 3) if jumps else math.nan


def high_frequency_energy(frames_thwc: UInt8Array) -> float:
    """Energy of fine texture: mean square of luma less its Gaussian blur of 1.5 px, in [0, 1].

    Half of the energy of waves of 8 px passes, nearly all of shorter ones. As a ratio to that of
    the single frames it tells how much texture smoothing has left.
    """
    energies = []
    for frame in frames_thwc:
        luma = _luma(frame) / 255
        fine = luma - cv2.GaussianBlur(luma, (0, 0), _DETAIL_SIGMA_PX)
        energies.append(np.square(fine).mean(dtype=np.float64))
    return float(np.mean(energies))


def _luma(frame_hwc: UInt8Array) -> npt.NDArray[np.float32]:
    """Return the luma, (H, W) in gray levels, with the weights of BT.601."""
    return np.asarray(frame_hwc @ np.array([0.299, 0.587, 0.114], np.float32), np.float32)
