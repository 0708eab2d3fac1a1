"""Operations on frames, planes, maps and flows, by which smoothing is written: once, for the host and for a device.

An array on the host is NumPy's, and OpenCV works on it; one on a device is a tensor, and torch does. Both have the same
shapes: frames are uint8 sRGB (H, W, 3), planes and maps (H, W), uint8 or float32, flows float32 (H, W, 2). Arithmetic
signs, slices and ``sum`` mean the same for both. On a device nothing waits for a result: numbers stay there, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from nst_ops.media.images import UInt8Array
from nst_ops.temporal import operations_host

Array = Any
"""A NumPy array or a tensor."""
Number = Any
"""A float, or on a device a tensor without dimensions."""


class Operations(Protocol):
    """What differs between the two; results are new arrays where nothing else is said."""

    def to_planes(self, frame_hwc: Array) -> tuple[Array, Array, Array]:
        """Return Y, Cr and Cb of a frame, uint8, at its size: ITU-T T.871 (JFIF), as in OpenCV."""

    def add_to_colors(self, frame_hwc: Array, luma_hw: Array, colors: Sequence[Array]) -> Array:
        """Return a frame to which a map of its size and, by channel, three smaller ones are added; clipped."""

    def gray(self, rgb_hwc: Array) -> Array:
        """Return the luma, float32 (H, W), of a float32 frame."""

    def sum_of_squares(self, values_hwc: Array) -> Array:
        """Return the sum over the channels of the squares of float32 values."""

    def full(self, shape: Sequence[int], value: float, like: Array) -> Array:
        """Return a float32 array of this value, where ``like`` lies."""

    def as_float(self, plane: Array) -> Array:
        """Return a float32 copy."""

    def exp(self, values: Array) -> Array:
        """Return e to the power of float32 values."""

    def subtract(self, first: Array, second: Array) -> Array:
        """Return a difference as float32."""

    def weighted_sum(self, first: Array, weight: Number, second: Array, other_weight: Number) -> Array:
        """Return the weighted sum of two float32 planes."""

    def accumulate(self, plane: Array, weights: Array, total: Array) -> None:
        """Add a plane times its weights to ``total``, in place."""

    def distance(self, first: Array, second: Array) -> Number:
        """Return the Euclidean distance of two float32 planes."""

    def number(self, value: Number) -> Number:
        """Return a sum as a number of double precision, if that costs nothing."""

    def limit(self, number: Number, low: float, high: float) -> Number:
        """Return a number, but no less and no more than this."""

    def blurred(self, plane: Array, sigma: float) -> Array:
        """Blur a float32 plane by a Gaussian of 4 sigma to each side, mirrored at borders."""

    def shrunk(self, frame: Array, height: int, width: int) -> Array:
        """Resize a frame, plane or map, uint8 or float32, to no larger a size: each pixel the mean of its area."""

    def enlarged(self, plane: Array, height: int, width: int) -> Array:
        """Resize a float32 plane by linear interpolation."""

    def resize_flow(self, flow_hw2: Array, height: int, width: int) -> Array:
        """Return the same motion for frames of another size, in their pixels."""

    def positions(self, flow_hw2: Array) -> tuple[Array, Array]:
        """Return x and y, each (H, W), where every pixel lands."""

    def warped(self, frames: Sequence[Array], flow_hw2: Array, cubic: bool) -> list[Array]:
        """Sample frames or planes of one size and type at the positions of a flow; borders are repeated.

        The cubic kernel has OpenCV's and torch's coefficient -0.75.
        """

    def within_surroundings(self, plane: Array, single: Array, side: int) -> Array:
        """Clip a float32 plane to the levels that a uint8 one has in the square of an odd side around each pixel."""

    def both_ways(self, estimate: Callable[[Array, Array], Array], a_hwc: Array, b_hwc: Array) -> tuple[Array, Array]:
        """Return the flow from a to b and from b to a."""

    def to_host(self, array: Array) -> UInt8Array:
        """Return an array of the host."""

    def from_host(self, array: UInt8Array, like: Array) -> Array:
        """Return an array of the host as one where ``like`` lies."""


def operations_of(array: Array) -> Operations:
    """Return the operations on arrays that lie where this one does."""
    if isinstance(array, np.ndarray):
        return operations_host
    from nst_ops.temporal import operations_device  # late: without a device there is no need of torch

    return operations_device
