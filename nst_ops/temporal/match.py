"""Matches between frames: where a pixel is found again, how far to trust it, how its light changed.

All is estimated on the source, at the reduced size at which flow is estimated.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from nst_ops.media.images import UInt8Array
from nst_ops.temporal.flow import FlowEstimator
from nst_ops.temporal.warp import Flow, compose, occlusion, warp

Map = npt.NDArray[np.float32]
"""(H, W) float32."""

# Gray levels: colors that differ by less are the same thing, by twice as much are another one.
_TOLERANCE = 30.0
# Brightness is compared over areas of this many pixels: a cell, and the cells around it.
_CELL, _CELLS_AROUND = 8, 3.0


@dataclass(frozen=True)
class Step:
    """Motion from a frame a to its neighbor b; ``visible`` is 1 where a pixel of a is seen in b, else 0."""

    flow: Flow
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

    flow: Flow
    trust: Map
    brighter: Map


def both_ways(a_hwc: UInt8Array, b_hwc: UInt8Array, estimate: FlowEstimator) -> tuple[Step, Step]:
    """Return the steps from a to b and from b to a."""
    forward, backward = estimate(a_hwc, b_hwc), estimate(b_hwc, a_hwc)
    return (
        Step(forward, 1 - occlusion(forward, backward).astype(np.float32)),
        Step(backward, 1 - occlusion(backward, forward).astype(np.float32)),
    )


def standing_still(height: int, width: int) -> Step:
    """Return the step of a frame in which nothing moves."""
    return Step(np.zeros((height, width, 2), np.float32), np.ones((height, width), np.float32))


def match(a_hwc: UInt8Array, b_hwc: UInt8Array, step: Step) -> Match:
    """Compare two frames along a step from a to b, at their size.

    A change of light, such as a fade or a flicker, is told apart first, so that it costs no trust.
    """
    difference = a_hwc.astype(np.float32) - warp(b_hwc, step.flow)
    brighter = _local_mean(cv2.cvtColor(difference, cv2.COLOR_RGB2GRAY), step.visible)
    rest = difference - brighter[..., None]
    # Blurred by a pixel: noise is no change.
    squares = cv2.GaussianBlur(np.einsum("hwc,hwc->hw", rest, rest), (0, 0), 1.0)
    return Match(step.flow, step.visible * np.exp(squares / (-2 * _TOLERANCE**2)), brighter)


def _local_mean(values: Map, weights: Map) -> Map:
    """Return the weighted mean over large areas: as smooth as exposure changes."""
    height, width = values.shape
    cells = (max(1, round(width / _CELL)), max(1, round(height / _CELL)))
    total, weight = (
        cv2.GaussianBlur(cv2.resize(each, cells, interpolation=cv2.INTER_AREA), (0, 0), _CELLS_AROUND)
        for each in (values * weights, weights)
    )
    return np.asarray(cv2.resize(total / (weight + 1e-3), (width, height)), np.float32)
