"""Optical flow in plain tensor operations, for a GPU, where OpenCV's does not run.

B. Lucas, T. Kanade, IJCAI 1981, dense and from coarse to fine: J.-Y. Bouguet, "Pyramidal Implementation of the Lucas
Kanade Feature Tracker", 2000, with the gradients and normal matrices of the first frame alone, so that they are
computed once: S. Baker, I. Matthews, "Lucas-Kanade 20 Years On", IJCV 2004. Shapes: B pairs of frames, C is 1, H and W
pixels. Constants are made once for each device: to copy one there waits for all that is queued.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nst_ops.models.device import find_device
from nst_ops.temporal.operations import Array

_COARSEST = 16  # shorter side in pixels of the smallest level
_ITERATIONS = 4
_WINDOW = 9  # pixels; the flow is fitted to what moves in it
_STIFFNESS = 0.003  # squared slope per pixel: where a window shows less texture, the flow stays
_FAINT = 2.0  # gray levels: contrast that is noise rather than texture
_LUMA = (0.299, 0.587, 0.114)
_BINOMIAL = (0.25, 0.5, 0.25)
# slopes in gray levels per pixel: H. Scharr's optimal 3x3 filter, 2000
_SMOOTH, _SLOPE = (3 / 16, 10 / 16, 3 / 16), (-0.5, 0.0, 0.5)


class LucasKanadeFlow:
    """Dense Lucas-Kanade flow on ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; raises ValueError where there is none."""

    def __init__(self, device: str = "auto") -> None:
        self.device = find_device(device)

    def __call__(self, a_rgb_hwc: Array, b_rgb_hwc: Array) -> Array:
        """See ``FlowEstimator``."""
        if isinstance(a_rgb_hwc, np.ndarray):
            frames = np.stack([a_rgb_hwc, b_rgb_hwc])
            a, b = torch.from_numpy(frames).to(self.device)[:, None]
            return np.ascontiguousarray(self._estimate(a, b)[0].cpu().numpy())
        return self._estimate(a_rgb_hwc, b_rgb_hwc)

    @torch.inference_mode()
    def _estimate(self, a_bhwc: Tensor, b_bhwc: Tensor) -> Tensor:
        """Return flow (B, H, W, 2)."""
        levels = list(zip(_pyramid(a_bhwc), _pyramid(b_bhwc), strict=True))
        coarsest, _ = levels[-1]
        flow = coarsest.new_zeros(len(coarsest), 2, *coarsest.shape[2:])
        for a, b in reversed(levels):
            flow = _refine(a, b, _enlarge(flow, *a.shape[2:]))
        return flow.permute(0, 2, 3, 1)


def _pyramid(rgb_bhwc: Tensor) -> list[Tensor]:
    """Return the texture of frames at full size, half and so on."""
    levels = [(rgb_bhwc.float() @ _constant(_LUMA, rgb_bhwc.device))[:, None]]
    while min(levels[-1].shape[2:]) >= 2 * _COARSEST:
        levels.append(F.avg_pool2d(_separable(levels[-1], _BINOMIAL, _BINOMIAL), 2, ceil_mode=True))
    return [_texture(level) for level in levels]


def _texture(gray: Tensor) -> Tensor:
    """Return brightness less its local mean, over its local deviation: the same in another exposure."""
    mean = _mean(gray)
    deviation = (_mean(gray * gray) - mean * mean).clamp(min=0).sqrt()
    return (gray - mean) / (deviation + _FAINT)


def _refine(a: Tensor, b: Tensor, flow: Tensor) -> Tensor:
    """Refine the flow between frames of one level, (B, 2, H, W)."""
    dx, dy = _separable(a, _SMOOTH, _SLOPE), _separable(a, _SLOPE, _SMOOTH)
    xx, xy, yy = (_mean(product) for product in (dx * dx, dx * dy, dy * dy))
    xx, yy = xx + _STIFFNESS, yy + _STIFFNESS
    determinant = xx * yy - xy * xy
    for _ in range(_ITERATIONS):
        error = _difference(a, b, flow)
        ex, ey = _mean(dx * error), _mean(dy * error)
        step = torch.cat([yy * ex - xy * ey, xx * ey - xy * ex], 1) / determinant
        flow = flow - step.clamp(-1, 1)
    return _median(flow)


def _difference(a: Tensor, b: Tensor, flow: Tensor) -> Tensor:
    """Return the second frame along the flow less the first; 0 where that is out of view."""
    height, width = a.shape[2:]
    rows = torch.arange(height, device=a.device, dtype=a.dtype)
    columns = torch.arange(width, device=a.device, dtype=a.dtype)
    x = (flow[:, 0] + columns) * (2 / max(1, width - 1)) - 1
    y = (flow[:, 1] + rows[:, None]) * (2 / max(1, height - 1)) - 1
    warped = F.grid_sample(b, torch.stack([x, y], -1), padding_mode="border", align_corners=True)
    seen = (x.abs() <= 1) & (y.abs() <= 1)
    return (warped - a) * seen[:, None]


def _separable(x_bchw: Tensor, down: tuple[float, ...], across: tuple[float, ...]) -> Tensor:
    kernel = torch.outer(_constant(down, x_bchw.device), _constant(across, x_bchw.device))[None, None]
    return F.conv2d(F.pad(x_bchw, (1, 1, 1, 1), mode="replicate"), kernel)


@functools.lru_cache(maxsize=64)
def _constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device)


def _mean(x_bchw: Tensor) -> Tensor:
    """Average over the window around each pixel, twice, which comes near a Gaussian."""
    for _ in range(2):
        x_bchw = F.avg_pool2d(x_bchw, _WINDOW, 1, _WINDOW // 2, count_include_pad=False)
    return x_bchw


def _median(flow: Tensor) -> Tensor:
    """Take the median of each pixel and its eight neighbors: outliers go, edges of motion stay."""
    padded = F.pad(flow, (1, 1, 1, 1), mode="replicate")
    height, width = flow.shape[2:]
    shifted = [padded[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return torch.stack(shifted).median(0).values


def _enlarge(flow: Tensor, height: int, width: int) -> Tensor:
    """Return the same motion at another size."""
    scale = _constant((width / flow.shape[3], height / flow.shape[2]), flow.device)
    return F.interpolate(flow, (height, width), mode="bilinear") * scale.view(1, 2, 1, 1)
