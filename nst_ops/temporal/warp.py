"""Moving frames along optical flow, and where that cannot be trusted.

A flow from a to b says where each pixel of a is found in b: ``b(x + flow(x)) = a(x)``. Flows are float32 (H, W, 2), x
before y, in pixels of their own size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Flow = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def warp(frame: npt.NDArray[Any], flow_hw2: Flow, interpolation: int = cv2.INTER_LINEAR) -> npt.NDArray[Any]:
    """Return frame b as seen from frame a: ``frame(x + flow(x))``; what lies outside repeats the border pixel.

    ``frame`` is (H, W) or (H, W, C), uint8 or float32. Linear interpolation is quick, cubic keeps fine texture.
    """
    (warped,) = warp_all([frame], flow_hw2, interpolation)
    return warped


def warp_all(
    frames: Sequence[npt.NDArray[Any]], flow_hw2: Flow, interpolation: int = cv2.INTER_LINEAR
) -> list[npt.NDArray[Any]]:
    """Move several frames, or planes of one, along the same flow: see ``warp``."""
    x, y = _positions(flow_hw2)
    return [np.asarray(cv2.remap(frame, x, y, interpolation, borderMode=cv2.BORDER_REPLICATE)) for frame in frames]


def compose(flow_ab: Flow, flow_bc: Flow) -> Flow:
    """Return the flow from a to c by way of b."""
    composed: Flow = flow_ab + warp(flow_bc, flow_ab)
    return composed


def occlusion(forward: Flow, backward: Flow) -> Mask:
    """Mask the pixels of a that are hidden in b, or out of view.

    N. Sundaram, T. Brox, K. Keutzer, "Dense point trajectories by GPU-accelerated large displacement optical flow",
    ECCV 2010: there (``forward``, from a to b) and back again must lead home.
    """
    back = warp(backward, forward)
    miss, length = forward + back, _squares(forward) + _squares(back)
    occluded: Mask = (_squares(miss) > 0.01 * length + 0.5) | _out_of_view(forward)
    return occluded


def motion_edges(flow_hw2: Flow) -> Mask:
    """Mask the pixels where flow jumps, as at the outline of a moving thing; formula of the same paper."""
    across, down = np.zeros_like(flow_hw2), np.zeros_like(flow_hw2)
    across[:, :-1] = np.diff(flow_hw2, axis=1)
    down[:-1] = np.diff(flow_hw2, axis=0)
    edges: Mask = _squares(across) + _squares(down) > 0.01 * _squares(flow_hw2) + 0.002
    return edges


def resize_flow(flow_hw2: Flow, height: int, width: int) -> Flow:
    """Return the same motion for frames of another size, in their pixels."""
    old_height, old_width = flow_hw2.shape[:2]
    if (old_height, old_width) == (height, width):
        return flow_hw2
    scaled = flow_hw2 * np.array([width / old_width, height / old_height], np.float32)
    return np.asarray(cv2.resize(scaled, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _squares(flow_hw2: Flow) -> npt.NDArray[np.float32]:
    x, y = flow_hw2[..., 0], flow_hw2[..., 1]
    squares: npt.NDArray[np.float32] = x * x + y * y
    return squares


def _out_of_view(flow_hw2: Flow) -> Mask:
    height, width = flow_hw2.shape[:2]
    x, y = _positions(flow_hw2)
    # Half a pixel of grace: estimated flow trembles, and the border pixel itself is in view.
    outside: Mask = (x < -0.5) | (y < -0.5) | (x > width - 0.5) | (y > height - 0.5)
    return outside


def _positions(flow_hw2: Flow) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return x and y, each (H, W), where every pixel lands."""
    height, width = flow_hw2.shape[:2]
    x = np.arange(width, dtype=np.float32) + flow_hw2[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] + flow_hw2[..., 1]
    return x, y
