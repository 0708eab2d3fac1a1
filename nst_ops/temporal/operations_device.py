"""Operations of smoothing on tensors, by torch: see ``Operations``. They give what OpenCV does, but for rounding.

Constants are made once for each device: to copy one there waits for all that is queued.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nst_ops.media.images import UInt8Array


def to_planes(frame_hwc: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """See ``Operations``; with OpenCV's integers, which float32 holds exactly."""
    red, green, blue = frame_hwc.movedim(-1, 0).float().unbind(0)
    luma = ((4899 * red + 9617 * green + 1868 * blue + 8192) / 16384).floor()
    cr = ((11682 * (red - luma) + 8192) / 16384).floor() + 128
    cb = ((9241 * (blue - luma) + 8192) / 16384).floor() + 128
    return _to_uint8(luma), _to_uint8(cr), _to_uint8(cb)


def add_to_colors(frame_hwc: Tensor, luma_hw: Tensor, colors: Sequence[Tensor]) -> Tensor:
    """See ``Operations``."""
    change = luma_hw + F.interpolate(torch.stack(list(colors))[None], luma_hw.shape, mode="bilinear")[0]
    return _to_uint8(frame_hwc.movedim(-1, 0) + change.round_()).movedim(0, -1)


def gray(rgb_hwc: Tensor) -> Tensor:
    """See ``Operations``."""
    red, green, blue = rgb_hwc.unbind(-1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def sum_of_squares(values_hwc: Tensor) -> Tensor:
    """See ``Operations``."""
    return values_hwc.square().sum(-1)


def full(shape: Sequence[int], value: float, like: Tensor) -> Tensor:
    """See ``Operations``."""
    return torch.full(tuple(shape), value, device=like.device, dtype=torch.float32)


def as_float(plane: Tensor) -> Tensor:
    """See ``Operations``."""
    return plane.to(torch.float32, copy=True)


def exp(values: Tensor) -> Tensor:
    """See ``Operations``."""
    return values.exp()


def subtract(first: Tensor, second: Tensor) -> Tensor:
    """See ``Operations``."""
    return first.float() - second


def weighted_sum(first: Tensor, weight: Any, second: Tensor, other_weight: Any) -> Tensor:
    """See ``Operations``."""
    total: Tensor = weight * first + other_weight * second
    return total


def accumulate(plane: Tensor, weights: Tensor, total: Tensor) -> None:
    """See ``Operations``."""
    total.addcmul_(plane.float(), weights)


def distance(first: Tensor, second: Tensor) -> Tensor:
    """See ``Operations``."""
    norm: Tensor = torch.linalg.vector_norm(first - second)
    return norm


def number(value: Tensor) -> Tensor:
    """See ``Operations``."""
    return value


def limit(number: Tensor, low: float, high: float) -> Tensor:
    """See ``Operations``."""
    return number.clamp(low, high)


def blurred(plane: Tensor, sigma: float) -> Tensor:
    """See ``Operations``."""
    kernel = _gaussian(sigma, plane.device)
    around = _mirrored(plane, len(kernel) // 2)[None, None]
    return F.conv2d(F.conv2d(around, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[0, 0]


def shrunk(frame: Tensor, height: int, width: int) -> Tensor:
    """See ``Operations``."""
    is_plane = frame.ndim == 2
    x = frame[None].float() if is_plane else frame.movedim(-1, -3).float()
    old_height, old_width = x.shape[-2:]
    down, across = old_height / height, old_width / width
    if down.is_integer() and across.is_integer():
        x = F.avg_pool2d(x, (int(down), int(across)))
    else:
        x = _areas(old_height, height, x.device) @ x @ _areas(old_width, width, x.device).T
    if frame.dtype == torch.uint8:  # OpenCV rounds quarters and halves up, all else to even
        x = _to_uint8((x + 0.5).floor_() if down == across == 2 else x.round_())
    return x[0] if is_plane else x.movedim(-3, -1)


def enlarged(plane: Tensor, height: int, width: int) -> Tensor:
    """See ``Operations``."""
    return F.interpolate(plane[None, None], (height, width), mode="bilinear")[0, 0]


def resize_flow(flow_hw2: Tensor, height: int, width: int) -> Tensor:
    """See ``Operations``; or a batch (..., H, W, 2)."""
    old_height, old_width = flow_hw2.shape[-3:-1]
    if (old_height, old_width) == (height, width):
        return flow_hw2
    flow = flow_hw2.movedim(-1, -3)
    resized = F.interpolate(flow.reshape(-1, 2, old_height, old_width), (height, width), mode="bilinear")
    resized = resized.view(*flow.shape[:-2], height, width).movedim(-3, -1)
    return resized * _pair(width / old_width, height / old_height, flow.device)


def positions(flow_hw2: Tensor) -> tuple[Tensor, Tensor]:
    """See ``Operations``."""
    height, width = flow_hw2.shape[:2]
    x = torch.arange(width, device=flow_hw2.device, dtype=torch.float32) + flow_hw2[..., 0]
    y = torch.arange(height, device=flow_hw2.device, dtype=torch.float32)[:, None] + flow_hw2[..., 1]
    return x, y


def warped(frames: Sequence[Tensor], flow_hw2: Tensor, cubic: bool) -> list[Tensor]:
    """See ``Operations``."""
    first = frames[0]
    x = torch.stack([frame if frame.ndim == 3 else frame[..., None] for frame in frames]).movedim(-1, 1)
    height, width = x.shape[2:]
    across, down = positions(flow_hw2)
    if first.shape[2:] == (2,) and not cubic:  # OpenCV samples flow between 32 places of a pixel, all else exactly
        across, down = (across * 32).round_() / 32, (down * 32).round_() / 32
    grid = torch.stack([(2 * across + 1) / width - 1, (2 * down + 1) / height - 1], -1)
    # planes of one size as channels, so that they share their positions
    sampled = F.grid_sample(
        x.flatten(0, 1)[None].float(),
        grid[None],
        mode="bicubic" if cubic else "bilinear",
        padding_mode="border",
        align_corners=False,
    )[0].view(*x.shape[:2], *flow_hw2.shape[:2])
    if first.dtype == torch.uint8:
        sampled = _to_uint8(sampled.round_())
    return [each[0] if first.ndim == 2 else each.movedim(0, -1) for each in sampled]


def within_surroundings(plane: Tensor, single: Tensor, side: int) -> Tensor:
    """See ``Operations``."""
    levels = single.float()
    both = torch.stack([levels, -levels])
    reach = side // 2
    highest = F.max_pool2d(F.max_pool2d(both, (1, side), 1, (0, reach)), (side, 1), 1, (reach, 0))
    return plane.clamp(-highest[1], highest[0])


def both_ways(estimate: Callable[[Any, Any], Any], a_hwc: Tensor, b_hwc: Tensor) -> tuple[Tensor, Tensor]:
    """See ``Operations``; in one batch."""
    forward, backward = estimate(torch.stack([a_hwc, b_hwc]), torch.stack([b_hwc, a_hwc]))
    return forward, backward


def to_host(array: Tensor) -> UInt8Array:
    """See ``Operations``."""
    return np.asarray(array.cpu().numpy())


def from_host(array: UInt8Array, like: Tensor) -> Tensor:
    """See ``Operations``."""
    return torch.from_numpy(np.require(array, requirements=("C", "W"))).to(like.device)


def _to_uint8(levels: Tensor) -> Tensor:
    return levels.clamp(0, 255).to(torch.uint8)


def _mirrored(plane: Tensor, margin: int) -> Tensor:
    """Mirror at each border, without the border pixel, as often as it takes."""
    if margin < min(plane.shape):
        return F.pad(plane[None, None], (margin,) * 4, mode="reflect")[0, 0]
    rows, columns = (_mirrored_places(side, margin, plane.device) for side in plane.shape)
    return plane[rows][:, columns]


@functools.lru_cache(maxsize=64)
def _mirrored_places(side: int, margin: int, device: torch.device) -> Tensor:
    return torch.from_numpy(np.pad(np.arange(side), margin, mode="reflect")).to(device)


@functools.lru_cache(maxsize=64)
def _gaussian(sigma: float, device: torch.device) -> Tensor:
    size = round(8 * sigma + 1) | 1  # as OpenCV takes for float32
    return torch.from_numpy(cv2.getGaussianKernel(size, sigma, cv2.CV_32F).ravel()).to(device)


@functools.lru_cache(maxsize=64)
def _areas(old: int, new: int, device: torch.device) -> Tensor:
    """Return the shares, (new, old), of the old pixels in the areas of the new ones."""
    edges = np.arange(new + 1) * (old / new)
    ends = np.minimum(edges[1:, None], np.arange(1, old + 1))
    starts = np.maximum(edges[:-1, None], np.arange(old))
    return torch.from_numpy((np.maximum(ends - starts, 0) * (new / old)).astype(np.float32)).to(device)


@functools.lru_cache(maxsize=64)
def _pair(x: float, y: float, device: torch.device) -> Tensor:
    return torch.tensor([x, y], device=device)
