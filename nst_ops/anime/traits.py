"""What makes a face this person's: expression, gaze, light, beard, glasses, all measured in the photograph.

A trait that would disfigure a face where it is wrong (a beard, closed eyes, sunglasses) needs strong evidence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nst_ops.anime.arrays import FloatArray, ramp, vector
from nst_ops.anime.landmarks import (
    CHEEKS,
    EYES,
    INNER_LIPS_BOTTOM,
    INNER_LIPS_LEFT,
    INNER_LIPS_RIGHT,
    INNER_LIPS_TOP,
    MOUTH_LEFT,
    MOUTH_RIGHT,
    EyeIndices,
)
from nst_ops.anime.portrait import Portrait
from nst_ops.anime.regions import Regions

_CLOSED = 0.14  # lid distance over eye width below which an eye is closed
_SOFTNESS_WEIGHTS = (1.98, -0.543, 3.602, 0.128, 0.08, 3.23, -0.025, 0.257, -3.033, 1.347, 1.803, -0.165)
_SOFTNESS_BIAS = 4.922


@dataclass(frozen=True)
class Traits:
    """Measures of a face; lightness in units of L of Lab."""

    softness: float
    """0 for heavy brows, plain eyes and a strong jaw, to 1 for lashes, red lips and a narrow jaw: how it is drawn."""
    light: float
    """Where the light comes from: -1 left of the picture, 1 right."""
    eye_openness: float
    """Lid distance over eye width, mean of both."""
    eyes_closed: bool
    gaze: float
    """Iris off the middle of the eye in half eye widths, positive to the right of the picture."""
    mouth_open: float
    """Height over width between the lips."""
    smile: float
    """How far the corners of the mouth are raised and apart: about -0.5 to 1.5."""
    lip_redness: float
    """How much redder (a of Lab) the lips are than the skin."""
    beard: float
    """0 for none, to 1 for a full beard."""
    mustache: float
    jaw_beard: float
    """Whether the beard reaches the jaw, 0 to 1."""
    beard_is_gray: bool
    glasses: bool
    sunglasses: bool


def measure_traits(portrait: Portrait, regions: Regions) -> Traits:
    """Measure a face."""
    points = portrait.points
    cheeks = np.median(portrait.patch(CHEEKS), 0)
    left, right = (float(np.median(portrait.patch(side)[:, 0])) for side in ((50, 205, 101), (280, 425, 330)))
    opening = float(np.mean([_openness(points, eye) for eye in EYES]))
    inner_width = float(np.linalg.norm(points[INNER_LIPS_LEFT] - points[INNER_LIPS_RIGHT])) + 1e-3
    lips_apart = float(np.linalg.norm(points[INNER_LIPS_TOP] - points[INNER_LIPS_BOTTOM]))
    corners = (points[MOUTH_LEFT] + points[MOUTH_RIGHT]) / 2
    middle = (points[INNER_LIPS_TOP] + points[INNER_LIPS_BOTTOM]) / 2
    mouth_width = float(np.linalg.norm(points[MOUTH_LEFT] - points[MOUTH_RIGHT])) / portrait.width
    lips = np.median(portrait.patch([0, 37, 267, 17, 84, 314], 0.008), 0)
    chin, jaw, lip = _darkness_below(portrait, float(cheeks[0]))
    softness = _softness(portrait, regions, lips, (chin + jaw + lip) / 3)
    sunglasses, glasses = _find_glasses(portrait, regions)
    beard, mustache, jaw_beard, is_gray = _find_beard(portrait, cheeks, (chin, jaw, lip), lips, softness)
    return Traits(
        softness=softness,
        light=float(np.clip((right - left) / 14, -1, 1)),
        eye_openness=opening,
        eyes_closed=opening < _CLOSED and not sunglasses,
        gaze=float(np.mean([_gaze(points, eye) for eye in EYES])),
        mouth_open=lips_apart / inner_width,
        smile=float((middle[1] - corners[1]) * 20 + (mouth_width - 0.36) * 6),
        lip_redness=float(lips[1] - regions.skin[1]),
        beard=beard,
        mustache=mustache,
        jaw_beard=jaw_beard,
        beard_is_gray=is_gray,
        glasses=glasses,
        sunglasses=sunglasses,
    )


def _openness(points: FloatArray, eye: EyeIndices) -> float:
    lids = [np.linalg.norm(points[up] - points[low]) for up, low in zip(eye.upper, eye.lower, strict=True)]
    return float(np.mean(lids) / (np.linalg.norm(points[eye.outer] - points[eye.inner]) + 1e-3))


def _gaze(points: FloatArray, eye: EyeIndices) -> float:
    width = float(np.linalg.norm(points[eye.outer] - points[eye.inner])) + 1e-3
    return float(points[eye.iris, 0] - points[[eye.inner, eye.outer], 0].mean()) / (width / 2)


def _darkness_below(portrait: Portrait, cheeks: float) -> tuple[float, float, float]:
    """Return how much darker than the cheeks chin, jaw and upper lip are."""
    chin = portrait.patch([199, 175, 200, 428, 208, 171, 396])
    jaw = portrait.patch([170, 395, 211, 431, 135, 364, 169, 394], 0.013)
    lip = portrait.patch([164, 167, 393, 165, 391], 0.010)
    return tuple(cheeks - float(np.median(part[:, 0])) for part in (chin, jaw, lip))  # type: ignore[return-value]


def _softness(portrait: Portrait, regions: Regions, lips: FloatArray, beard: float) -> float:
    """Estimate softness by a logistic regression over twelve cues, fitted to 154 faces that we labeled.

    The cues: hair at both ears and at one, hair below the chin, red and dark lips, thick, dark and high
    brows, widths of jaw, lips and nose, and darkness of the beard's places.
    """
    points, width = portrait.points, portrait.width

    def distance(a: int, b: int) -> float:
        return float(np.linalg.norm(points[a] - points[b]))

    brow_pairs = [pair for eye in EYES for pair in zip(eye.brow[1:4], eye.brow_lower[1:4], strict=True)]
    brow_thickness = float(np.mean([distance(a, b) for a, b in brow_pairs]))
    brows = np.concatenate([portrait.patch(eye.brow[1:4] + eye.brow_lower[1:4], 0.007) for eye in EYES])
    brow_darkness = float(regions.skin[0] - np.median(brows[:, 0]))
    brow_height = np.mean(
        [np.linalg.norm(points[list(e.brow_lower)].mean(0) - points[list(e.upper)].mean(0)) for e in EYES]
    )
    cues = (
        min(regions.hair_at_ears),
        max(regions.hair_at_ears),
        regions.hair_below_chin,
        np.clip(lips[1] - regions.skin[1], -5, 25),
        np.clip(regions.skin[0] - lips[0], -10, 30),
        100 * brow_thickness,
        np.clip(brow_darkness, 0, 40),
        100 * brow_height,
        10 * distance(172, 397) / width,
        10 * distance(0, 17) / width,
        10 * distance(98, 327) / width,
        np.clip(beard, -5, 25),
    )
    logit = float(np.dot(_SOFTNESS_WEIGHTS, cues)) + _SOFTNESS_BIAS
    return ramp(1 / (1 + float(np.exp(-np.clip(logit, -30, 30)))), 0.25, 0.75)


def _find_beard(
    portrait: Portrait, cheeks: FloatArray, darkness: tuple[float, float, float], lips: FloatArray, softness: float
) -> tuple[float, float, float, bool]:
    """Return beard, mustache and how far the beard covers the jaw, each 0 to 1, and whether it is gray."""
    chin, jaw, lip = darkness
    around_chin = np.median(portrait.patch([199, 175, 200, 428, 208]), 0)
    paler = float(np.hypot(*cheeks[1:]) - np.hypot(*around_chin[1:]))
    amount = 0.5 * chin + 0.2 * jaw + 0.3 * lip
    is_gray = paler > 16 and jaw > 10 and softness < 0.2 and chin < 8
    if is_gray:  # without color rather than dark
        amount = max(amount, 13 + 1.6 * (paler - 8))
    if softness > 0.3 or (not is_gray and (chin < 10 or lip < 5)):
        return 0.0, 0.0, 0.0, False
    return ramp(amount, 13, 22), ramp(lip, 7, 13), ramp(jaw, 8, 16), is_gray


def _find_glasses(portrait: Portrait, regions: Regions) -> tuple[bool, bool]:
    """Return whether there are sunglasses, and whether there are glasses at all.

    Sunglasses: both eyes dark down to a sharp edge, and a dark bridge between them. Glasses: a bridge straight across
    the nose, and a line below the eyes, where a bare face is bright. Thin frames without a dark line are not seen.
    """
    points, skin = portrait.points, float(regions.skin[0])
    dark, edge, frame = [], [], []
    for eye in EYES:
        center = points[list(eye.contour)].mean(0)
        eye_width = float(np.linalg.norm(points[eye.outer] - points[eye.inner]))
        across, down = np.meshgrid(np.linspace(-0.55, 0.55, 12), np.linspace(0.12, 0.58, 12))
        lens = portrait.lightness_at(center + np.stack([across, down], 2) * eye_width)
        dark.append(float((lens < skin - np.clip(0.28 * skin, 11, 20)).mean()))
        across, down = np.meshgrid(np.linspace(-0.5, 0.5, 9), np.linspace(0.2, 1.15, 32))
        below = portrait.lightness_at(center + np.stack([across, down], 2) * eye_width)
        edge.append(float(np.median(np.diff(below, axis=0).max(0))))
        frame.append(float(np.median(_valley(below)[4:-4].max(0))))
    nose = np.stack([points[8] * (1 - t) + points[197] * t for t in np.linspace(-0.1, 1, 28)])
    across_nose = vector([[x * portrait.width, 0] for x in (-0.05, -0.03, -0.015, 0, 0.015, 0.03, 0.05)])
    bridge = _valley(portrait.lightness_at(nose[:, None] + across_nose))
    depth, level = float(np.median(bridge.max(0))), bool(bridge.argmax(0).std() < 2.1)
    lenses_end = min(edge) > 1.42
    sunglasses = lenses_end and ((min(dark) > 0.95 and depth > 5) or (min(dark) > 0.8 and depth > 20))
    framed = abs(portrait.yaw) < 25 and level and depth > 20 and max(frame) > 3.5
    return sunglasses, sunglasses or framed


def _valley(profile: FloatArray) -> FloatArray:
    """Return how much darker each sample is than the brightest before and the brightest after it, along axis 0."""
    before = np.maximum.accumulate(profile, 0)
    after = np.maximum.accumulate(profile[::-1], 0)[::-1]
    return np.asarray(np.minimum(before, after) - profile, np.float32)
