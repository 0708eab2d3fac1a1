"""Hair: locks that end in points, two tones that follow its flow, a band of light, a few strands.

Flow, locks and strands are found at one scale, in head coordinates: a large picture has the same ones as a small one.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from nst_ops.anime.arrays import FloatArray, blur, resize, smoothstep, vector
from nst_ops.anime.geometry import Proportions
from nst_ops.anime.portrait import SCALE, Portrait
from nst_ops.anime.raster import Canvas, curve, taper
from nst_ops.anime.sketch import Sketch

_SCALE = 80.0  # pixels per face height
_CROWN = (0.12, -1.50)  # where hair grows from: half widths from the middle, y
_PRIOR = 0.45  # weight of growing away from the crown against the photograph's own texture
_STRAND_STEP, _STRAND_STEPS = 1.5, 30  # pixels, steps each way
_FRINGE_SPACING, _TIP_SPACING = 0.155, 0.17  # between locks along the outline, in face widths


@dataclass(frozen=True)
class HairFlow:
    """Direction and light of hair over the frame, (H, W, ...) at ``_SCALE``."""

    direction: FloatArray
    """Unit vectors, (H, W, 2), from the crown to the tips."""
    mask: FloatArray
    lightness: FloatArray
    u: FloatArray
    v: FloatArray


def find_flow(portrait: Portrait, proportions: Proportions, hair_share: FloatArray, share_scale: float) -> HairFlow:
    """Find how hair flows: the photograph's structure tensor where it is clear, away from the crown elsewhere.

    Args:
        portrait: the head in the photograph.
        proportions: those of the drawing, in which the flow lies.
        hair_share: share of hair in each pixel, (H, W).
        share_scale: its pixels per face height.
    """
    frame = portrait.frame
    mask = smoothstep(proportions.resample(hair_share, share_scale, _SCALE), 0.3, 0.6)
    lightness = proportions.resample(portrait.lightness, SCALE, _SCALE)
    x, y = frame.grid(_SCALE)
    points = proportions.points
    half = float(points[454, 0] - points[234, 0]) / 2
    u, v = (x - (points[454, 0] + points[234, 0]) / 2) / half, -(y - points[152, 1])
    smooth = blur(lightness, 0.8)
    slope_x, slope_y = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    within = np.asarray(cv2.erode(mask, np.ones((3, 3), np.uint8)), np.float32)
    weight = blur(within, 5) + 0.02

    def mean(values: FloatArray) -> FloatArray:
        return blur(np.asarray(values * within, np.float32), 5) / weight

    xx, xy, yy = mean(slope_x * slope_x), mean(slope_x * slope_y), mean(slope_y * slope_y)
    trace = xx + yy + 1e-6
    coherence = np.sqrt((xx - yy) ** 2 + 4 * xy * xy) / trace
    typical = float(np.median(trace[mask > 0.5])) if (mask > 0.5).any() else 1.0
    trust = coherence**1.5 * np.clip(trace / (typical + 1e-6), 0, 2)
    across, down = u - _CROWN[0], -(v + _CROWN[1]) * 1.3 / half * 0.5
    length = np.hypot(across, down) + 1e-3
    across, down = across / length, down / length
    hanging = smoothstep(v, 0.75, -0.1)
    across, down = across * (1 - hanging) + 0.12 * np.sign(u) * hanging, down * (1 - hanging) + hanging
    seen, grown = np.arctan2(2 * xy, xx - yy) + np.pi, 2 * np.arctan2(down, across)
    cos = blur(np.asarray(trust * np.cos(seen) + _PRIOR * np.cos(grown), np.float32), 2.5)
    sin = blur(np.asarray(trust * np.sin(seen) + _PRIOR * np.sin(grown), np.float32), 2.5)
    angle = np.arctan2(sin, cos) / 2
    direction = np.stack([np.cos(angle), np.sin(angle)], 2)
    sign = np.sign(direction[..., 0] * across + direction[..., 1] * down)
    direction *= np.where(sign == 0, 1, sign)[..., None]
    return HairFlow(np.asarray(direction, np.float32), mask, lightness, u, v)


def find_locks(
    flow: HairFlow, canvas: Canvas, face: FloatArray, brow: float, softness: float, width: float
) -> FloatArray:
    """Return coverage, (H, W) on the canvas, of pointed locks where hair ends over the forehead and at its tips.

    Args:
        flow: of the hair.
        canvas: on which they are drawn.
        face: coverage of the face's oval, (H, W) on the canvas.
        brow: height of the brows.
        softness: of the face; longer locks.
        width: of the face.
    """
    height_px, width_px = flow.mask.shape
    bare = resize(face, width_px, height_px) > 0.5
    hair = (flow.mask > 0.5).astype(np.uint8)
    outlines, _ = cv2.findContours(hair, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    soft = blur(hair.astype(np.float32), 0.02 * width * _SCALE)
    slope_x, slope_y = -cv2.Sobel(soft, cv2.CV_32F, 1, 0), -cv2.Sobel(soft, cv2.CV_32F, 0, 1)
    facing_down = slope_y / (np.hypot(slope_x, slope_y) + 1e-3)
    forehead = bare & (hair == 0) & (flow.v > brow + 0.1)
    parting = 0.0
    if forehead.sum() > 12:
        parting = float(np.clip(flow.u[forehead][np.argmax(flow.v[forehead])], -0.4, 0.4))
    covered = np.zeros((canvas.height, canvas.width), np.float32)
    origin = vector([canvas.frame.left_edge, canvas.frame.top_edge])
    for outline in outlines:
        path = outline[:, 0].astype(np.float32)
        if len(path) < 0.3 * width * _SCALE:
            continue
        index, order = 0.0, 0
        while index < len(path):
            x, y = path[int(index)]
            column, row = int(x), int(y)
            index += 1
            if not (2 < column < width_px - 3 and 2 < row < height_px - 3):
                continue
            u, v = float(flow.u[row, column]), float(flow.v[row, column])
            flows = flow.direction[row, column]
            down = vector([0.35 * (1 if u > parting else -1), 1]) + 0.35 * flows * max(0.0, float(flows[1]))
            down = down / np.linalg.norm(down)
            ahead = np.round(np.array([x, y]) + down * 0.04 * width * _SCALE).astype(int)
            ahead = ahead.clip(0, [width_px - 1, height_px - 1])
            if hair[ahead[1], ahead[0]]:
                continue
            wave = (0.85, 1.15, 0.95, 1.25)[order % 4]
            if bare[ahead[1], ahead[0]] and v > brow + 0.08 and facing_down[row, column] > 0.42:
                length, half, bend = width * 0.10 * wave * (0.7 + 0.5 * softness), width * 0.062 * wave, 0.22
                spacing = _FRINGE_SPACING
                bend *= 1 if u > parting else -1
            elif -0.5 < v < 0.40 and abs(u) > 0.8 and flows[1] > 0.3 and facing_down[row, column] > 0.45:
                down = flows
                length, half, bend = width * 0.19 * wave, width * 0.075 * wave, -0.2 * (1 if u > 0 else -1)
                spacing = _TIP_SPACING
            else:
                continue
            start = origin + (np.array([x, y], np.float32) + 0.5) / _SCALE
            lock = _lock(start, np.asarray(down, np.float32), length, half, bend)
            covered = np.maximum(covered, canvas.coverage(lock))
            index += spacing * width * _SCALE * wave
            order += 1
    return covered


def _lock(start: FloatArray, along: FloatArray, length: float, half: float, bend: float) -> FloatArray:
    """Return the outline of a lock that begins inside the hair and ends in a point."""
    t = np.linspace(0, 1, 14, dtype=np.float32)[:, None]
    inside = half * 1.3
    spine = start - along * inside + along * (length + inside) * t + vector([bend * length, 0]) * t * t
    tangent = np.gradient(spine, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-9
    across = np.stack([-tangent[:, 1], tangent[:, 0]], 1) * half * (1 - t) ** 0.85
    return np.asarray(np.concatenate([spine + across, (spine - across)[::-1]]), np.float32)


def draw_hair(sketch: Sketch, flow: HairFlow) -> None:
    """Paint hair: base and shadow tones along its flow, a band of light round the crown, strands."""
    within = flow.mask > 0.5
    if within.sum() < 50:
        return
    canvas, tones, hair = sketch.canvas, sketch.palette.hair, sketch.hair.inside
    light = _along(_smooth(flow.lightness, flow.mask, 1.5), flow.direction, 12)
    detail = light - _smooth(light, flow.mask, 11)
    detail /= max(float(detail[within].std()), 1.0)  # flat hair has no detail to exaggerate
    broad = _smooth(flow.lightness, flow.mask, 8)
    broad = (broad - float(broad[within].mean())) / max(float(broad[within].std()), 2.0)
    tone = canvas_tone = resize(
        blur(np.asarray(0.75 * detail + 0.25 * broad, np.float32), 1.0), canvas.width, canvas.height
    )
    canvas.paint(hair, tones.base)
    canvas.paint(hair * smoothstep(-tone, 0.60, 0.72), tones.shadow)
    canvas.paint(hair * smoothstep(-tone, 1.55, 1.70) * 0.8, tones.shadow * 0.80)
    band = _light_band(sketch, np.asarray(canvas_tone, np.float32))
    canvas.paint(hair * np.maximum(band * 0.9, smoothstep(tone, 1.5, 1.65) * 0.5), tones.light)
    _draw_strands(sketch, flow, np.asarray(detail, np.float32))


def _light_band(sketch: Sketch, tone: FloatArray) -> FloatArray:
    """Return coverage of the band of light: an arc round the crown with a toothed edge."""
    canvas = sketch.canvas
    u, v = (canvas.x - sketch.middle) / (sketch.width / 2), -canvas.y
    ring = np.hypot(u * 0.92, (v - 0.62) * 2 / sketch.width * 0.82)
    top = (sketch.hair.inside > 0.5) & (v > 0.8)
    if not top.any():
        return np.zeros_like(tone)
    radius = float(np.quantile(ring[top], 0.58))
    angle = np.arctan2(u, v - 0.62)
    teeth = 0.035 * np.abs(np.sin(9 * angle)) + 0.02 * np.abs(np.sin(23 * angle + 1))
    inside = np.minimum(radius + 0.06 - ring, ring - (radius - 0.05 - teeth))
    broken = smoothstep(tone, -1.4, -0.9)  # no light in the dark between locks
    return smoothstep(inside, 0, 0.015) * broken * smoothstep(v, 0.62, 0.8) * smoothstep(np.abs(u), 1.0, 0.8)


def _smooth(values: FloatArray, mask: FloatArray, sigma: float) -> FloatArray:
    return np.asarray(blur(values * mask, sigma) / (blur(mask, sigma) + 0.02), np.float32)


def _along(values: FloatArray, direction: FloatArray, steps: int) -> FloatArray:
    """Average along the flow (line integral convolution: B. Cabral, L. Leedom, SIGGRAPH 1993)."""
    height, width = values.shape
    y0, x0 = np.mgrid[0:height, 0:width].astype(np.float32)
    total, weights = values.copy(), 1.0
    for sign in (1, -1):
        x, y = x0.copy(), y0.copy()
        step: FloatArray = direction * sign
        for index in range(steps):
            x += step[..., 0]
            y += step[..., 1]
            here = cv2.remap(direction, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
            step = np.asarray(here * np.where((here * step).sum(2, keepdims=True) < 0, -1, 1), np.float32)
            weight = 1 - index / steps
            total += weight * cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            weights += weight
    return np.asarray(total / weights, np.float32)


def _draw_strands(sketch: Sketch, flow: HairFlow, detail: FloatArray) -> None:
    """Draw strands along the flow where hair is darkest, apart from each other."""
    deep = np.asarray(cv2.erode(flow.mask, np.ones((5, 5), np.uint8)), np.float32) > 0.5
    rows, columns = np.nonzero(deep)
    grid = (rows % 6 == 3) & (columns % 6 == 3)
    if grid.sum() < 2:
        return
    paths, alive = _trace(flow, np.stack([columns[grid], rows[grid]], 1).astype(np.float32))
    pixels = np.round(paths).astype(int)
    height, width = flow.mask.shape
    x, y = pixels[..., 0].clip(0, width - 1), pixels[..., 1].clip(0, height - 1)
    lengths = alive.sum(1)
    darkness = np.where(alive, detail[y, x], 0).sum(1) / np.maximum(lengths, 1) - 0.006 * lengths
    used = np.zeros(flow.mask.shape, np.uint8)
    most = int(np.clip(deep.sum() / 420, 4, 22))
    drawn = 0
    for index in np.argsort(darkness, kind="stable"):
        path = paths[index][alive[index]]
        if drawn >= most or darkness[index] > -0.1:
            break
        at = np.round(path).astype(int).clip(0, [width - 1, height - 1])
        if len(path) < 12 or used[at[:, 1], at[:, 0]].mean() > 0.1:
            continue
        cv2.polylines(used, [at.astype(np.int32)], False, 1, 9)
        origin = vector([sketch.canvas.frame.left_edge, sketch.canvas.frame.top_edge])
        strand = curve(origin + (path[::5] + 0.5) / _SCALE, 36)
        sketch.canvas.stroke(strand, sketch.line * 0.75 * taper(36, 0.5, 0.5, 0.05), sketch.palette.hair.line)
        drawn += 1


def _trace(flow: HairFlow, seeds: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Follow the flow from seeds, (N, 2), both ways; return points, (N, S, 2), and which lie in hair, (N, S)."""
    height, width = flow.mask.shape
    halves, inside = [], []
    for sign in (-1, 1):
        at, alive = seeds.copy(), np.ones(len(seeds), bool)
        heading = np.zeros_like(seeds)
        points, flags = [], []
        for _ in range(_STRAND_STEPS):
            pixel = np.round(at).astype(int).clip(0, [width - 1, height - 1])
            alive = alive & (flow.mask[pixel[:, 1], pixel[:, 0]] > 0.5)
            step = flow.direction[pixel[:, 1], pixel[:, 0]] * sign
            step = step * np.where((step * heading).sum(1, keepdims=True) < 0, -1, 1) * 0.6 + heading * 0.4
            heading = step / (np.linalg.norm(step, axis=1, keepdims=True) + 1e-6)
            points.append(at)
            flags.append(alive)
            at = at + heading * _STRAND_STEP
        halves.append(np.stack(points, 1))
        inside.append(np.stack(flags, 1))
    paths = np.concatenate([halves[0][:, :0:-1], halves[1]], 1)
    return np.asarray(paths, np.float32), np.concatenate([inside[0][:, :0:-1], inside[1]], 1)
