"""Optical flow in plain tensor operations, for a GPU, where OpenCV's does not run.

B. Lucas, T. Kanade, IJCAI 1981, dense and from coarse to fine: J.-Y. Bouguet, "Pyramidal Implementation of the Lucas
Kanade Feature Tracker", 2000, with the gradients and normal matrices of the first frame alone, so that they are
computed once: S. Baker, I. Matthews, "Lucas-Kanade 20 Years On", IJCV 2004. Shapes: B and C are 1, H and W pixels.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nst_ops.media.images import UInt8Array
from nst_ops.models.device import find_device
from nst_ops.temporal.warp import Flow

_COARSEST = 16  # shorter side in pixels of the smallest level
_ITERATIONS = 4
_WINDOW = 9  # pixels; the flow is fitted to what moves in it
_STIFFNESS = 0.003  # squared slope per pixel: where a window shows less texture, the flow stays
_FAINT = 2.0  # gray levels: contrast that is noise rather than texture
_LUMA = (0.299, 0.587, 0.114)


class LucasKanadeFlow:
    """Dense Lucas-Kanade flow on ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; raises ValueError where there is none."""

    def __init__(self, device: str = "auto") -> None:
        self.device = find_device(device)

    @torch.inference_mode()
    def __call__(self, a_rgb_hwc: UInt8Array, b_rgb_hwc: UInt8Array) -> Flow:
        """See ``FlowEstimator``."""
        levels = list(zip(self._pyramid(a_rgb_hwc), self._pyramid(b_rgb_hwc), strict=True))
        flow = torch.zeros(1, 2, *levels[-1][0].shape[2:], device=self.device)
        for a, b in reversed(levels):
            flow = _refine(a, b, _enlarge(flow, *a.shape[2:]))
        return np.ascontiguousarray(flow[0].permute(1, 2, 0).cpu().numpy())

    def _pyramid(self, rgb_hwc: UInt8Array) -> list[Tensor]:
        """Return the frame's texture at full size, half and so on."""
        frame = torch.from_numpy(np.require(rgb_hwc, requirements=("C", "W"))).to(self.device)
        levels = [(frame.float() @ torch.tensor(_LUMA, device=self.device))[None, None]]
        binomial = torch.tensor([1.0, 2.0, 1.0]) / 4
        while min(levels[-1].shape[2:]) >= 2 * _COARSEST:
            levels.append(F.avg_pool2d(_separable(levels[-1], binomial, binomial), 2, ceil_mode=True))
        return [_texture(level) for level in levels]


def _texture(gray: Tensor) -> Tensor:
    """Return brightness less its local mean, over its local deviation: the same in another exposure."""
    mean = _mean(gray)
    deviation = (_mean(gray * gray) - mean * mean).clamp(min=0).sqrt()
    return (gray - mean) / (deviation + _FAINT)


def _refine(a: Tensor, b: Tensor, flow: Tensor) -> Tensor:
    """Refine the flow between two frames of one level, (1, 2, H, W)."""
    # slopes along x and y in gray levels per pixel: H. Scharr's optimal 3x3 filter, 2000
    smooth, slope = torch.tensor([3.0, 10.0, 3.0]) / 16, torch.tensor([-0.5, 0.0, 0.5])
    dx, dy = _separable(a, smooth, slope), _separable(a, slope, smooth)
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


def _separable(x_bchw: Tensor, down: Tensor, across: Tensor) -> Tensor:
    kernel = torch.outer(down, across).to(x_bchw.device)[None, None]
    return F.conv2d(F.pad(x_bchw, (1, 1, 1, 1), mode="replicate"), kernel)


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
    scale = torch.tensor([width / flow.shape[3], height / flow.shape[2]], device=flow.device)
    return F.interpolate(flow, (height, width), mode="bilinear") * scale.view(1, 2, 1, 1)
