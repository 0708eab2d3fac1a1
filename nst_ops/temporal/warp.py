"""Moving frames along optical flow, and where that cannot be trusted.

A flow from a to b says where each pixel of a is found in b: ``b(x + flow(x)) = a(x)``. Flows are float32 (H, W, 2), x
before y, in pixels of their own size. All of it is on the host or on a device: see ``operations``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nst_ops.temporal.operations import Array, operations_of

Flow = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def warp(frame: Array, flow_hw2: Array, cubic: bool = False) -> Array:
    """Return frame b as seen from frame a: ``frame(x + flow(x))``; what lies outside repeats the border pixel.

    ``frame`` is (H, W) or (H, W, C), uint8 or float32. Linear interpolation is quick, cubic keeps fine texture.
    """
    (warped,) = warp_all([frame], flow_hw2, cubic)
    return warped


def warp_all(frames: Sequence[Array], flow_hw2: Array, cubic: bool = False) -> list[Array]:
    """Move several frames, or planes of one, along the same flow: see ``warp``."""
    return operations_of(flow_hw2).warped(frames, flow_hw2, cubic)


def compose(flow_ab: Array, flow_bc: Array) -> Array:
    """Return the flow from a to c by way of b."""
    return flow_ab + warp(flow_bc, flow_ab)


def occlusion(forward: Array, backward: Array) -> Array:
    """Mask the pixels of a that are hidden in b, or out of view.

    N. Sundaram, T. Brox, K. Keutzer, "Dense point trajectories by GPU-accelerated large displacement optical flow",
    ECCV 2010: there (``forward``, from a to b) and back again must lead home.
    """
    back = warp(backward, forward)
    miss, length = forward + back, _squares(forward) + _squares(back)
    return (_squares(miss) > 0.01 * length + 0.5) | _out_of_view(forward)


def motion_edges(flow_hw2: Flow) -> Mask:
    """Mask the pixels where flow jumps, as at the outline of a moving thing; formula of the same paper."""
    across, down = np.zeros_like(flow_hw2), np.zeros_like(flow_hw2)
    across[:, :-1] = np.diff(flow_hw2, axis=1)
    down[:-1] = np.diff(flow_hw2, axis=0)
    edges: Mask = _squares(across) + _squares(down) > 0.01 * _squares(flow_hw2) + 0.002
    return edges


def resize_flow(flow_hw2: Array, height: int, width: int) -> Array:
    """Return the same motion for frames of another size, in their pixels."""
    return operations_of(flow_hw2).resize_flow(flow_hw2, height, width)


def _squares(flow_hw2: Array) -> Array:
    x, y = flow_hw2[..., 0], flow_hw2[..., 1]
    return x * x + y * y


def _out_of_view(flow_hw2: Array) -> Array:
    height, width = flow_hw2.shape[:2]
    x, y = operations_of(flow_hw2).positions(flow_hw2)
    # Half a pixel of grace: estimated flow trembles, and the border pixel itself is in view.
    return (x < -0.5) | (y < -0.5) | (x > width - 0.5) | (y > height - 0.5)
