"""Eyes and brows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nst_ops.anime.arrays import FloatArray, smoothstep, vector
from nst_ops.anime.landmarks import EYES, EyeIndices
from nst_ops.anime.raster import curve, taper
from nst_ops.anime.sketch import Sketch

_WHITE, _PUPIL, _LID_SHADOW = (252, 251, 253), (26, 16, 24), (206, 208, 226)
_MOST_GAZE = 0.45  # of half an eye
_NO_GAZE = 0.10  # below it a face looks at us
_EYE_TOP = ((-1, -0.30), (-0.80, 0.18), (-0.38, 0.60), (0.15, 0.72), (0.62, 0.52), (0.95, 0.06), (1.06, -0.22))
_EYE_BOTTOM = ((-1, -0.30), (-0.62, -0.74), (-0.05, -0.93), (0.5, -0.86), (0.92, -0.50), (1.06, -0.22))


@dataclass(frozen=True)
class EyeFrame:
    """Coordinates of one drawn eye: x to the outer corner, y up, both in half widths of the eye."""

    center: FloatArray
    outward: FloatArray
    upward: FloatArray

    def __call__(self, x: float, y: float) -> FloatArray:
        """Return head coordinates, (2,)."""
        return np.asarray(self.center + self.outward * x + self.upward * y, np.float32)

    def outline(self, points: tuple[tuple[float, float], ...], openness: float, count: int) -> FloatArray:
        """Return a curve through points whose y is scaled by ``openness``."""
        return curve([self(x, y * openness) for x, y in points], count)

    @property
    def half_width(self) -> float:
        """Half the width of the eye in head coordinates."""
        return float(np.linalg.norm(self.outward))


def eye_frame(sketch: Sketch, eye: EyeIndices, size: float) -> EyeFrame:
    """Place an eye between its corners, ``size`` times as wide."""
    inner, outer = sketch.points[eye.inner], sketch.points[eye.outer]
    along = outer - inner
    slant = np.degrees(np.arctan2(-along[1], along[0] * eye.side))
    angle = np.radians(np.clip(slant, -6, 9) * 0.8 + 2)
    half = float(np.linalg.norm(along)) / 2 * size
    outward = vector([np.cos(angle) * eye.side, -np.sin(angle)]) * half
    upward = vector([-np.sin(angle) * eye.side, -np.cos(angle)]) * half
    center = (inner + outer) / 2
    turned = eye.side * sketch.portrait.yaw - 14
    if turned > 0:  # keep the far eye inside the face
        center = center - vector([eye.side * sketch.width * 0.0018 * turned, 0])
    return EyeFrame(np.asarray(center, np.float32), outward, upward)


def draw_eyes(sketch: Sketch) -> None:
    """Draw both eyes, open or closed."""
    traits = sketch.traits
    size = (1.46 + 0.10 * traits.softness) * sketch.options.eye_size
    for eye in EYES:
        frame = eye_frame(sketch, eye, size)
        if traits.eyes_closed:
            _draw_closed(sketch, frame)
        else:
            _draw_open(sketch, frame, eye)


def _draw_closed(sketch: Sketch, frame: EyeFrame) -> None:
    lash, line = sketch.palette.lash, sketch.line
    lid = curve([frame(-1, -0.25), frame(-0.5, -0.52), frame(0, -0.62), frame(0.5, -0.55), frame(1.05, -0.2)])
    sketch.canvas.stroke(lid, line * 1.7 * taper(40, 0.35, 0.12, 0.3), lash)
    for x in (0.55, 0.8, 1.0):
        y = -0.5 + (x - 0.5) * 0.6
        sketch.canvas.stroke(np.stack([frame(x, y), frame(x + 0.16, y - 0.13)]), line * vector([1.2, 0.2]), lash)
    crease = curve([frame(-0.6, 0.02), frame(0, 0.08), frame(0.7, 0)], 20)
    sketch.canvas.stroke(crease, line * 0.5 * taper(20, 0.4, 0.4, 0.1), sketch.palette.skin.line)


def _draw_open(sketch: Sketch, frame: EyeFrame, eye: EyeIndices) -> None:
    canvas, traits, lash, line = sketch.canvas, sketch.traits, sketch.palette.lash, sketch.line
    soft = traits.softness
    opened = float(np.clip(0.66 + 0.34 * (traits.eye_openness - 0.15) / 0.15, 0.72, 1.10))
    openness = (0.88 + 0.14 * soft) * opened
    top, bottom = frame.outline(_EYE_TOP, openness, 60), frame.outline(_EYE_BOTTOM, openness, 50)
    canvas.paint(*_eyeball(sketch, frame, eye, top, bottom, openness))

    along = np.linspace(0, 1, len(top))
    weight = 0.35 + 1.1 * np.sin(np.pi * np.clip(along * 0.9 + 0.08, 0, 1)) ** 0.7 + 0.35 * along
    canvas.stroke(top, line * (1.5 + 0.75 * soft) * np.clip(weight, 0.3, 2) * np.where(along < 0.06, 0.6, 1), lash)
    tip = 0.10 * openness + 0.02 + 0.06 * soft
    wing = curve([frame(0.70, 0.46 * openness), frame(1.0, 0.10 * openness), frame(1.20, tip)], 16)
    canvas.stroke(wing, line * (1.6 + soft) * taper(16, 0.3, 0.85, 0.08), lash)
    if soft > 0.45:
        for x, y in ((0.86, 0.30), (1.0, 0.02)):
            y *= openness
            hair = np.stack([frame(x, y), frame(x + 0.13, y + 0.05), frame(x + 0.24, y + 0.15)])
            canvas.stroke(hair, line * vector([1.3, 0.8, 0.15]), lash)
    pale = lash * 0.6 + sketch.palette.skin.line * 0.4
    canvas.stroke(bottom[20:], line * 0.62 * taper(len(bottom) - 20, 0.5, 0.15, 0.1), pale)
    heights = ((-0.55, 0.76, 0.10), (0.05, 0.92, 0.11), (0.65, 0.72, 0.12))
    crease = curve([frame(x, y * openness + above) for x, y, above in heights], 24)
    canvas.stroke(crease, line * 0.55 * taper(24, 0.45, 0.45, 0.05), sketch.palette.skin.line)


def _eyeball(
    sketch: Sketch, frame: EyeFrame, eye: EyeIndices, top: FloatArray, bottom: FloatArray, openness: float
) -> tuple[FloatArray, FloatArray]:
    """Return the opening between the lids, (H, W), and what is seen in it, RGB (H, W, 3)."""
    canvas = sketch.canvas
    outline = np.concatenate([top, bottom[::-1]])
    opening = canvas.coverage(outline)
    pixels = canvas.frame.to_pixels(outline, canvas.scale)
    low, high = pixels.min(0).astype(int) - 4, pixels.max(0).astype(int) + 5  # a smooth edge spreads
    box = slice(max(0, low[1]), max(0, high[1])), slice(max(0, low[0]), max(0, high[0]))
    seen = np.full((*opening.shape, 3), 255, np.float32)
    if not opening[box].size:
        return opening, seen
    off_x, off_y = canvas.x[box] - frame.center[0], canvas.y[box] - frame.center[1]
    norm = frame.half_width**2
    x = (off_x * frame.outward[0] + off_y * frame.outward[1]) / norm
    y = (off_x * frame.upward[0] + off_y * frame.upward[1]) / norm
    lid_points = (top - frame.center) @ np.stack([frame.outward, frame.upward], 1) / norm
    order = np.argsort(lid_points[:, 0])
    lid = np.interp(x.ravel(), lid_points[order, 0], lid_points[order, 1]).reshape(x.shape).astype(np.float32)

    layer = np.empty((*x.shape, 3), np.float32)
    layer[:] = _WHITE

    def mix(share: FloatArray, color: object) -> None:
        layer[:] += (np.asarray(color, np.float32) - layer) * share[..., None]

    mix(smoothstep(y, lid - 0.20 * openness, lid - 0.16 * openness) * 0.9, _LID_SHADOW)
    gaze = float(np.clip(sketch.traits.gaze * 0.9, -_MOST_GAZE, _MOST_GAZE))
    gaze = 0.0 if abs(gaze) < _NO_GAZE else gaze
    center_x, center_y = gaze * eye.side * 0.5 - 0.03, -0.10 * openness
    radius_x = 0.54 - 0.03 * (1 - sketch.traits.softness)
    radius_y = max(0.80 * openness, radius_x * 0.95)
    pixel = 1 / (canvas.scale * frame.half_width * radius_x)  # in radii of the iris
    color = sketch.palette.iris

    def disk(at_x: float, at_y: float, wide: float, high: float, edge: float = 0.0) -> FloatArray:
        radius = np.hypot((x - at_x) / wide, (y - at_y) / high)
        edge = max(edge, pixel * radius_x / wide)
        return smoothstep(radius, 1 + edge / 2, 1 - edge / 2)

    mix(disk(center_x, center_y, radius_x, radius_y), color * 0.34)
    inner = disk(center_x, center_y, radius_x * 0.87, radius_y * 0.87)
    height = smoothstep((y - center_y) / radius_y, -0.75, 0.55)[..., None]
    mix(inner, np.clip(color * 1.45 + 40, 0, 255) * (1 - height) + color * 0.42 * height)
    glow = disk(center_x, center_y - radius_y * 0.50, radius_x * 0.52, radius_y * 0.30, 0.25)
    mix(glow * 0.75, np.clip(color * 1.6 + 70, 0, 255))
    mix(disk(center_x, center_y + 0.02, radius_x * 0.40, radius_y * 0.44), _PUPIL)
    under_lid = smoothstep(y - lid, -0.15 * openness, -0.08 * openness)
    mix(under_lid * inner * 0.55, (20, 12, 22))
    left = -eye.side  # the light falls on the same side of the picture in both eyes
    mix(disk(center_x + left * radius_x * 0.36, center_y + radius_y * 0.36, radius_x * 0.33, radius_y * 0.25), 255)
    mix(disk(center_x - left * radius_x * 0.38, center_y - radius_y * 0.46, radius_x * 0.17, radius_y * 0.13), 255)
    seen[box] = layer
    return opening, seen


def draw_brows(sketch: Sketch) -> None:
    """Draw both brows, high enough above the larger eyes."""
    soft, line = sketch.traits.softness, sketch.line
    color = np.minimum(sketch.palette.hair.line * 1.15 + 8, 130) if sketch.regions.has_hair else vector([90, 70, 64])
    for eye in EYES:
        brow = (sketch.points[list(eye.brow)] + sketch.points[list(eye.brow_lower)]) / 2
        above_eye = float(sketch.points[[eye.inner, eye.outer], 1].mean() - brow[:, 1].mean())
        brow = brow - vector([0, max(0, 0.185 * (0.82 + 0.18 * soft) - above_eye)])
        path = curve(brow.mean(0) + (brow - brow.mean(0)) * 1.08, 30)
        weight = np.clip(0.18 + np.linspace(0, 1, 30), 0, 1) * taper(30, 0.3, 0.04, 0.3)
        sketch.canvas.stroke(path, line * (1.9 - 0.8 * soft) * weight, color)
