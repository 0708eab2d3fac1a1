"""Skin and its shadows, blush, nose, mouth, beard, glasses."""

from __future__ import annotations

import cv2
import numpy as np

from nst_ops.anime.arrays import FloatArray, blur, smoothstep, to_rgb, vector
from nst_ops.anime.eyes import eye_frame
from nst_ops.anime.landmarks import EYES, INNER_LIPS, LEFT_SIDE, MOUTH_LEFT, MOUTH_RIGHT, OUTER_LIPS, OVAL, RIGHT_SIDE
from nst_ops.anime.raster import curve, taper
from nst_ops.anime.sketch import Sketch

_TEETH, _TONGUE, _THROAT, _FRAME = (252, 248, 246), (226, 116, 112), (146, 54, 60), (40, 34, 40)


def draw_skin(sketch: Sketch) -> None:
    """Paint skin, the shadows of fringe, chin and head on it, and blush."""
    canvas, skin, tones = sketch.canvas, sketch.skin.inside, sketch.palette.skin
    canvas.paint(skin, tones.base)
    side, on_face = sketch.shadow_side, skin * sketch.face
    canvas.paint(_shifted(sketch, sketch.hair.inside, 0.012 * sketch.width * side, 0.035) * on_face, tones.shadow)
    under_chin = _shifted(sketch, sketch.face, 0.02 * sketch.width * side, 0.085) * (1 - sketch.face) * skin
    canvas.paint(under_chin * (canvas.y > -0.12), tones.shadow)
    if abs(sketch.traits.light) > 0.25:
        inward = -side * (0.05 + 0.05 * abs(sketch.traits.light)) * sketch.width
        turned = np.clip(sketch.face - _shifted(sketch, sketch.face, inward, 0.0), 0, 1) * skin
        canvas.paint(turned * (canvas.y > -0.60) * ((canvas.x - sketch.middle) * side > 0), tones.shadow)
    _draw_blush(sketch, on_face)


def _shifted(sketch: Sketch, mask: FloatArray, x: float, y: float) -> FloatArray:
    """Return a mask moved by x and y."""
    canvas = sketch.canvas
    matrix = vector([[1, 0, x * canvas.scale], [0, 1, y * canvas.scale]])
    return np.asarray(cv2.warpAffine(mask, matrix, (canvas.width, canvas.height)), np.float32)


def _draw_blush(sketch: Sketch, on_face: FloatArray) -> None:
    canvas, base, soft = sketch.canvas, sketch.palette.skin.base, sketch.traits.softness
    for high, low in ((50, 205), (280, 425)):
        center = sketch.points[high] * 0.75 + sketch.points[low] * 0.25
        x, y = (canvas.x - center[0]) / (0.115 * sketch.width), (canvas.y - center[1]) / (0.06 * sketch.width)
        glow = np.exp(-1.3 * (x * x + y * y)) * (0.20 + 0.30 * soft) * sketch.options.blush
        canvas.paint(np.asarray(np.clip(glow, 0, 1) * on_face, np.float32), base * vector([1, 0.66, 0.66]))
        if soft > 0.5 and sketch.options.blush > 0.5:
            for step in (-1, 0, 1):
                at, tip = (center + vector([0.028 * step, 0]) * sketch.width, vector([0.008, -0.012]) * sketch.width)
                color = base * vector([0.95, 0.60, 0.58])
                canvas.stroke(np.stack([at + tip, at - tip]), sketch.line * 0.35, color)


def draw_nose(sketch: Sketch) -> None:
    """Draw the nose as a small wedge on its shadow side."""
    yaw, width, line = sketch.portrait.yaw, sketch.width, sketch.line
    side = -np.sign(yaw) if abs(yaw) > 12 else sketch.shadow_side
    tip = sketch.nose + vector([0, 0.018])
    offsets = ((0.016 * width, -0.045), (0.030 * width, -0.004), (-0.006 * width, 0.004))
    path = curve([tip + vector([side * x, y]) for x, y in offsets], 18)
    inner = tip + vector([side * 0.010 * width, -0.022])
    sketch.canvas.fill(np.concatenate([path, inner[None]]), sketch.palette.skin.shadow)
    sketch.canvas.stroke(path[6:], line * 0.75 * taper(12, 0.4, 0.5, 0.15), sketch.palette.skin.line)


def draw_mouth(sketch: Sketch) -> None:
    """Draw the mouth: a line, or open with teeth and tongue; lips only where they are red."""
    traits, skin = sketch.traits, sketch.palette.skin
    center = sketch.points[list(INNER_LIPS)].mean(0)
    left, right = (center + (sketch.points[index] - center) * 0.80 for index in (MOUTH_LEFT, MOUTH_RIGHT))
    smile = float(np.clip(traits.smile, -0.12, 1.4))
    redness = float(np.clip((traits.lip_redness - 7) / 14, 0, 1)) * (0.35 + 0.65 * traits.softness)
    rouge = skin.base * vector([0.92, 0.52, 0.54])
    if traits.mouth_open > 0.16:
        _draw_open_mouth(sketch, center, left, right, smile, redness, rouge)
    else:
        _draw_closed_mouth(sketch, center, left, right, smile, redness, rouge)


def _draw_open_mouth(
    sketch: Sketch,
    center: FloatArray,
    left: FloatArray,
    right: FloatArray,
    smile: float,
    redness: float,
    rouge: FloatArray,
) -> None:
    canvas, line, opened = sketch.canvas, sketch.line, sketch.traits.mouth_open
    width = float(np.linalg.norm(right - left))
    height = float(np.clip(opened, 0.2, 0.75)) * width
    lift = vector([0, -0.05 * width * smile])
    left, right = left + lift, right + lift

    def at(x: float, y: float) -> FloatArray:
        return center + vector([x * width, y * height])

    top = curve([left, at(-0.22, -0.30), at(0, -0.26), at(0.22, -0.30), right], 30)
    bottom = curve([left, at(-0.27, 0.52), at(0, 0.72), at(0.27, 0.52), right], 30)
    outline = np.concatenate([top, bottom[::-1]])
    if redness > 0.25:
        middle = outline.mean(0)
        lips = middle + (outline - middle) * vector([1.05, 1.25])
        canvas.fill(lips, rouge * redness + sketch.palette.skin.base * (1 - redness))
    canvas.fill(outline, _THROAT)
    share = 0.62 if smile > 0.1 or opened < 0.4 else 0.8
    teeth = top * share + bottom * (1 - share)
    canvas.fill(np.concatenate([top[2:-2], teeth[2:-2][::-1]]), _TEETH)
    if opened > 0.3:
        tongue = top * 0.30 + bottom * 0.70
        canvas.fill(np.concatenate([tongue[6:-6], bottom[6:-6][::-1]]), _TONGUE)
    color = sketch.palette.skin.line * 0.75
    canvas.stroke(top, line * 0.95 * taper(30, 0.12, 0.12, 0.5), color)
    canvas.stroke(bottom, line * 0.6 * taper(30, 0.2, 0.2, 0.4), color)


def _draw_closed_mouth(
    sketch: Sketch,
    center: FloatArray,
    left: FloatArray,
    right: FloatArray,
    smile: float,
    redness: float,
    rouge: FloatArray,
) -> None:
    canvas, line = sketch.canvas, sketch.line
    width = float(np.linalg.norm(right - left))
    dip = 0.10 * float(np.clip(smile, -0.35, 1.2))

    def at(x: float, y: float) -> FloatArray:
        return center + vector([x, y]) * width

    corner = vector([0, -dip * 0.7]) * width
    middle = [at(-0.24, dip * 0.25), at(0, dip * 0.45 + 0.008), at(0.24, dip * 0.25)]
    path = curve([left + corner, *middle, right + corner])
    if redness > 0.12:
        top = curve([path[0], at(-0.2, -0.11), at(0, -0.07), at(0.2, -0.11), path[-1]], 24)
        bottom = curve([path[0], at(-0.2, 0.17), at(0, 0.21), at(0.2, 0.17), path[-1]], 24)
        canvas.fill(np.concatenate([top, bottom[::-1]]), rouge, 0.35 + 0.5 * redness)
    weight = np.abs(np.linspace(-1, 1, 40)) ** 0.5 * taper(40, 0.08, 0.08, 0.4) * 0.95 + 0.3
    canvas.stroke(path, line * weight, sketch.palette.skin.line * 0.72)
    lower = curve([at(-0.12, 0.27), at(0, 0.282), at(0.12, 0.27)], 12)
    canvas.stroke(lower, line * 0.7 * taper(12, 0.5, 0.5, 0.1), sketch.palette.skin.shadow)


def draw_beard(sketch: Sketch) -> None:
    """Draw beard and mustache in one tone with a shadow along the jaw; nothing where there is too little of it."""
    traits, canvas, skin = sketch.traits, sketch.canvas, sketch.palette.skin
    if traits.beard < 0.45:
        return
    off = canvas.x - float(sketch.mouth[0])  # a turned head has unequal halves
    halves = [abs(float(sketch.points[side, 0] - sketch.mouth[0])) for side in (LEFT_SIDE, RIGHT_SIDE)]
    u, v = np.abs(off) / np.where(off < 0, *halves), -canvas.y
    mouth = -float(sketch.mouth[1])
    edge = np.interp(u, [0.30, 0.5, 0.75, 1.0], [mouth - 0.06, mouth + 0.01, mouth + 0.09, mouth + 0.22])
    edge = np.where(u < 0.30, mouth - 0.075, edge)
    covered = (v < edge) & ((u < 0.36) | (traits.jaw_beard > 0.5))
    if traits.mustache > 0.4:
        covered |= (np.abs(v - (mouth + 0.075 - 0.07 * (u / 0.33) ** 2)) < 0.036) & (u < 0.36)
        if traits.jaw_beard > 0.5:
            covered |= (u > 0.26) & (u < 0.40) & (v < mouth + 0.06)
    lips = blur(canvas.coverage(sketch.points[list(OUTER_LIPS)]), sketch.width * canvas.scale * 0.008)
    mask = smoothstep(blur(covered.astype(np.float32), sketch.width * canvas.scale * 0.012), 0.42, 0.55)
    mask = mask * sketch.face * smoothstep(lips, 0.4, 0.15) * sketch.skin.inside
    hairy = sketch.regions.has_hair and sketch.regions.hair[0] < 70
    color = np.minimum(sketch.palette.hair.base if hairy else skin.base * 0.72, skin.base * 0.78)
    if traits.beard_is_gray:
        around = np.median(sketch.portrait.patch([199, 175, 200, 428, 208]), 0)
        color = to_rgb([np.clip(around[0] + 4, 40, 84), around[1] * 0.4, around[2] * 0.5])
    canvas.paint(mask * 0.93, color)
    canvas.paint(mask * smoothstep(v, 0.10, 0.08) * 0.8, color * 0.78)


def draw_chin(sketch: Sketch) -> None:
    """Draw the line of jaw and chin where skin lies on both sides of it."""
    canvas = sketch.canvas
    oval = curve(sketch.points[[*OVAL, OVAL[0]]], 200)
    u = (oval[:, 0] - sketch.middle) / (sketch.width / 2)
    yaw = sketch.portrait.yaw
    far = (u * np.sign(yaw) > 0) & (abs(yaw) > 14)
    pixels = np.round(canvas.frame.to_pixels(oval, canvas.scale)).astype(int)
    x, y = pixels[:, 0].clip(0, canvas.width - 1), pixels[:, 1].clip(0, canvas.height - 1)
    surrounded = cv2.erode(sketch.skin.inside, np.ones((3, 3), np.uint8))[y, x] > 0.5
    drawn = surrounded & (-oval[:, 1] < np.where(far, 0.10, 0.42))
    for start, end in _runs(drawn):
        if end - start > 4:
            width = sketch.line * 0.95 * taper(end - start, 0.2, 0.2, 0.15)
            canvas.stroke(oval[start:end], width, sketch.palette.skin.line * 0.72)


def _runs(flags: FloatArray) -> list[tuple[int, int]]:
    """Return start and end of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def draw_glasses(sketch: Sketch) -> None:
    """Draw glasses, with dark lenses over the eyes where they are sunglasses."""
    canvas, line, dark = sketch.canvas, sketch.line, sketch.traits.sunglasses
    ends = []
    for eye in EYES:
        frame = eye_frame(sketch, eye, 1.0)
        half = frame.half_width * (1.90 if dark else 1.66)
        high = half * (0.78 if dark else 0.80)
        center = frame.center + vector([0, 0.10 * half])
        angle = np.linspace(0, 2 * np.pi, 60)
        x, y = (np.sign(part) * np.abs(part) ** 0.62 for part in (np.cos(angle), np.sin(angle)))
        rim = center + np.stack([eye.side * x * half * (1 - 0.06 * (y < 0)), -y * high], 1)
        rim = rim.astype(np.float32)
        if dark:
            lens = np.median(sketch.portrait.patch(eye.contour, 0.010), 0)
            canvas.fill(rim, np.clip(to_rgb(lens) * 0.9 + 8, 0, 120), 0.97)
            shine = ((-0.6, 0.75), (-0.25, 0.75), (-0.55, -0.7), (-0.75, -0.7))
            quad = center + vector([[eye.side * a * half, -b * high] for a, b in shine])
            canvas.fill(quad, (235, 235, 245), 0.35)
        else:
            canvas.fill(rim, (240, 246, 255), 0.13)
        canvas.stroke(rim, line * (1.8 if dark else 1.3), _FRAME)
        across = vector([eye.side * half * 0.99, 0])
        ends.append((center - across - vector([0, high * 0.25]), center + across - vector([0, high * 0.3])))
    (left_inner, left_outer), (right_inner, right_outer) = ends
    peak = (left_inner + right_inner) / 2 - vector([0, 0.03 * sketch.width])
    canvas.stroke(curve([left_inner, peak, right_inner], 14), line * 1.4, _FRAME)
    for outer, side in ((left_outer, -1), (right_outer, 1)):
        temple = outer + vector([side * 0.07, -0.012]) * sketch.width
        canvas.stroke(np.stack([outer, temple]), line * 1.3, _FRAME)
