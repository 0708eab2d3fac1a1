"""Matches between frames: where a pixel is found again, how far to trust it, how its light changed.

All is estimated on the source, at the reduced size at which flow is estimated.
"""

from __future__ import annotations

from dataclasses import dataclass

from nst_ops.temporal.flow import FlowEstimator
from nst_ops.temporal.operations import Array, operations_of
from nst_ops.temporal.warp import compose, occlusion, warp

Map = Array
"""(H, W) float32."""

# Gray levels: colors that differ by less are the same thing, by twice as much are another one.
_TOLERANCE = 30.0
# Brightness is compared over areas of this many pixels: a cell, and the cells around it.
_CELL, _CELLS_AROUND = 8, 3.0


@dataclass(frozen=True)
class Step:
    """Motion from a frame a to its neighbor b; ``visible`` is 1 where a pixel of a is seen in b, else 0."""

    flow: Array
    visible: Map

    def then(self, following: Step) -> Step:
        """Return this step and one more; visible is what neither loses."""
        visible = self.visible * warp(following.visible, self.flow)
        return Step(compose(self.flow, following.flow), visible)


@dataclass(frozen=True)
class Match:
    """The pixels of a frame a in a frame b.

    Attributes:
        flow: flow from a to b.
        trust: certainty that the same thing is seen, in [0, 1].
        brighter: gray levels by which a is brighter than b, over large areas.
    """

    flow: Array
    trust: Map
    brighter: Map


def both_ways(a_hwc: Array, b_hwc: Array, estimate: FlowEstimator) -> tuple[Step, Step]:
    """Return the steps from a to b and from b to a."""
    operations = operations_of(a_hwc)
    forward, backward = operations.both_ways(estimate, a_hwc, b_hwc)
    return (
        Step(forward, 1 - operations.as_float(occlusion(forward, backward))),
        Step(backward, 1 - operations.as_float(occlusion(backward, forward))),
    )


def standing_still(frame_hwc: Array) -> Step:
    """Return the step of a frame in which nothing moves."""
    full, (height, width) = operations_of(frame_hwc).full, frame_hwc.shape[:2]
    return Step(full((height, width, 2), 0, frame_hwc), full((height, width), 1, frame_hwc))


def match(a_hwc: Array, b_hwc: Array, step: Step) -> Match:
    """Compare two frames along a step from a to b, at their size.

    A change of light, such as a fade or a flicker, is told apart first, so that it costs no trust.
    """
    operations = operations_of(a_hwc)
    difference = operations.as_float(a_hwc) - warp(b_hwc, step.flow)
    brighter = _local_mean(operations.gray(difference), step.visible)
    rest = difference - brighter[..., None]
    # Blurred by a pixel: noise is no change.
    squares = operations.blurred(operations.sum_of_squares(rest), 1.0)
    return Match(step.flow, step.visible * operations.exp(squares / (-2 * _TOLERANCE**2)), brighter)


def _local_mean(values: Map, weights: Map) -> Map:
    """Return the weighted mean over large areas: as smooth as exposure changes."""
    operations, (height, width) = operations_of(values), values.shape
    cells = (max(1, round(height / _CELL)), max(1, round(width / _CELL)))
    total, weight = (
        operations.blurred(operations.shrunk(each, *cells), _CELLS_AROUND) for each in (values * weights, weights)
    )
    return operations.enlarged(total / (weight + 1e-3), height, width)
