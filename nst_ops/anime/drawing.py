"""From a photograph to a drawing: every head in its place, before a painted ground.

The stages: faces (``faces``), each upright in its frame (``head``, ``portrait``), its parts (``regions``) and measures
(``traits``), anime proportions (``geometry``), colors (``palette``), shapes (``hair``, ``eyes``, ``features``,
``painting``) on a canvas (``raster``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from nst_ops.anime import features
from nst_ops.anime.arrays import FloatArray, UInt8Array, blur, resize, sample, smoothstep, to_lab, vector
from nst_ops.anime.eyes import draw_brows, draw_eyes
from nst_ops.anime.faces import Face, find_faces
from nst_ops.anime.geometry import Proportions, anime_proportions
from nst_ops.anime.hair import draw_hair, find_flow, find_locks
from nst_ops.anime.head import REACH_DOWN, REACH_SIDE, REACH_UP, HeadFrame
from nst_ops.anime.landmarks import EYES, OVAL
from nst_ops.anime.networks import FaceNetworks
from nst_ops.anime.painting import flat_color, paint_flat, paint_ground
from nst_ops.anime.palette import INK, choose_palette
from nst_ops.anime.portrait import SCALE, take_portrait
from nst_ops.anime.raster import Canvas, Region, curve
from nst_ops.anime.regions import CLOTHES, GROUND, HAIR, HAT, SEGMENTATION_SCALE, SKIN, find_regions
from nst_ops.anime.sketch import Head, Sketch
from nst_ops.anime.traits import measure_traits
from nst_ops.config.stylize import AnimeConfig

MAX_YAW = 38.0
"""Degrees beyond which a head is in profile: it is painted, not drawn."""
NO_FACE = "no face found: painted as a whole"
_LINE = 0.0135  # usual width of a line, in face widths
_LEAST_LINE_PX = 0.7  # of the photograph
_MOST_SCALE = 1200.0  # pixels per face height on a canvas; larger faces are drawn at this and enlarged
_PORTRAIT = 0.22  # face height over picture height above which the ground is quiet
_CLOTHES_SCALE = 60.0  # pixels per face height at which clothes are painted
_GRAY_CHROMA = 2.0  # mean below which a photograph is gray, and so is its drawing
_FADE = 0.3  # face heights in which a head fades into the ground where its frame ends inside the photograph


def draw_photograph(
    image_hwc: UInt8Array, options: AnimeConfig, networks: FaceNetworks
) -> tuple[UInt8Array, list[str]]:
    """Draw a photograph, RGB (H, W, 3); return the drawing, of the same shape, and notes on what is not as wished."""
    height, width, _ = image_hwc.shape
    faces = find_faces(image_hwc, networks) if min(height, width) >= 16 else []
    frontal = [face for face in faces if abs(face.yaw) <= MAX_YAW]
    heads = [_see(image_hwc, face, [other for other in faces if other is not face], networks) for face in frontal]
    notes = [] if faces else [NO_FACE]
    if len(frontal) < len(faces):
        profiles = len(faces) - len(frontal)
        notes.append(f"{profiles} {'face' if profiles == 1 else 'faces'} in profile: painted, not drawn")
    covered = np.zeros((height, width), np.float32)
    for head in heads:
        _add_cover(covered, head)
    close = any(face.height > _PORTRAIT * height for face in frontal)
    drawing = _ground(image_hwc, covered, close, options)
    for head in heads:
        _compose(drawing, head, options)
    if np.hypot(*np.moveaxis(to_lab(image_hwc[::2, ::2])[..., 1:], 2, 0)).mean() < _GRAY_CHROMA:
        gray = cv2.cvtColor(drawing, cv2.COLOR_RGB2GRAY)
        drawing = np.repeat(np.asarray(gray, np.uint8)[..., None], 3, axis=2)
    return drawing, notes


def _see(image_hwc: UInt8Array, face: Face, others: Sequence[Face], networks: FaceNetworks) -> Head:
    """Measure a head; what is nearer to another face, in heights of each, is not of this person."""
    portrait = take_portrait(image_hwc, face, networks)
    x, y = portrait.frame.grid(SCALE)
    own = np.hypot(x - portrait.middle, y + 0.45)
    for other in others:
        off_x, off_y = portrait.frame.to_head(other.points[:, :2].mean(0)[None])[0]
        smaller = other.height / face.height
        if abs(off_x) < REACH_SIDE + 2 * smaller and abs(off_y) < REACH_UP + 2 * smaller:
            far = np.hypot(x - off_x, y - off_y) / smaller
            person = portrait.person * smoothstep(far - own, -0.1, 0.1)
            portrait = replace(portrait, person=np.asarray(person, np.float32))
    return Head(portrait, find_regions(portrait))


def _ground(image_hwc: UInt8Array, covered: FloatArray, close: bool, options: AnimeConfig) -> UInt8Array:
    painted = paint_ground(image_hwc, covered, close, options.palette_strength)
    if options.background == "flat":
        painted[:] = flat_color(painted)
    elif options.background == "kept":
        hidden = smoothstep(blur(covered, max(1.0, 0.01 * max(covered.shape))), 0.05, 0.4)[..., None]
        painted = (image_hwc + (painted.astype(np.float32) - image_hwc) * hidden + 0.5).astype(np.uint8)
    return painted


def _fade(frame: HeadFrame, scale: float) -> FloatArray:
    """Return 1 within a frame, (H, W), falling to 0 at the edges that are not the photograph's."""
    x, y = frame.grid(scale)
    kept: FloatArray = np.ones(x.shape, np.float32)
    edges = (
        (frame.left_edge <= -REACH_SIDE, x - frame.left_edge),
        (frame.right_edge >= REACH_SIDE, frame.right_edge - x),
        (frame.top_edge <= -REACH_UP, y - frame.top_edge),
        (frame.bottom_edge >= REACH_DOWN, frame.bottom_edge - y),
    )
    for inside, distance in edges:
        if inside:
            kept = kept * smoothstep(distance, 0, _FADE)
    return kept


def _add_cover(covered: FloatArray, head: Head) -> None:
    """Add a head's own pixels in the photograph to ``covered``, (H, W), in place."""
    frame = head.portrait.frame
    share = (1 - head.regions.probabilities[..., GROUND]) * _fade(frame, SEGMENTATION_SCALE)
    box, matrix = _box(frame, covered.shape[1], covered.shape[0], 1, SEGMENTATION_SCALE)
    height, width = covered[box].shape
    covered[box] = np.maximum(covered[box], sample(share, matrix, width, height, cv2.BORDER_CONSTANT))


def _box(
    frame: HeadFrame, width: int, height: int, factor: int, scale: float
) -> tuple[tuple[slice, slice], FloatArray]:
    """Return the box of a photograph around a frame, and the map from its pixels, over ``factor``, to the frame's."""
    to_photograph = frame.to_photograph(scale)
    frame_width, frame_height = frame.size(scale)
    corners = vector([[0, 0, 1], [frame_width, 0, 1], [0, frame_height, 1], [frame_width, frame_height, 1]])
    placed = corners @ to_photograph.T
    left, top = np.floor(placed.min(0)).astype(int).clip(0, [width - 1, height - 1])
    right, bottom = (np.ceil(placed.max(0)).astype(int) + 1).clip(1, [width, height])
    inverse = np.asarray(cv2.invertAffineTransform(to_photograph), np.float32)
    offset = vector([left, top]) + np.float32(0.5 / factor - 0.5)
    matrix = np.concatenate([inverse[:, :2] / factor, (inverse[:, :2] @ offset + inverse[:, 2])[:, None]], 1)
    return (slice(top, bottom), slice(left, right)), matrix.astype(np.float32)


def _compose(drawing: UInt8Array, head: Head, options: AnimeConfig) -> None:
    """Draw a head into a picture, in place: on a finer canvas, then reduced and turned to where it lies."""
    frame = head.portrait.frame
    factor = 3 if frame.face_height_px < 80 else 2 if frame.face_height_px < 400 else 1
    scale = min(frame.face_height_px * factor, _MOST_SCALE)
    rgb, opacity = draw_head(head, options, scale)
    box, matrix = _box(frame, drawing.shape[1], drawing.shape[0], factor, scale)
    height, width, _ = drawing[box].shape
    opacity = opacity * _fade(frame, scale)
    layer = np.concatenate([rgb.astype(np.float32), opacity[..., None]], 2)
    placed = sample(layer, matrix, width * factor, height * factor)
    inside = sample(np.ones_like(opacity), matrix, width * factor, height * factor, cv2.BORDER_CONSTANT)
    placed[..., 3] *= inside
    if factor > 1:
        placed[..., :3] *= placed[..., 3:]
        placed = cv2.resize(placed, (width, height), interpolation=cv2.INTER_AREA)
        placed[..., :3] /= np.maximum(placed[..., 3:], 1e-4)
    under = drawing[box].astype(np.float32)
    under += (placed[..., :3] - under) * placed[..., 3:]
    drawing[box] = (under + 0.5).clip(0, 255).astype(np.uint8)


def draw_head(head: Head, options: AnimeConfig, scale: float) -> tuple[UInt8Array, FloatArray]:
    """Draw one upright head at ``scale`` pixels per face height; return RGB, (H, W, 3), and its opacity, (H, W)."""
    portrait, regions = head.portrait, head.regions
    traits = measure_traits(portrait, regions)
    palette = choose_palette(portrait, regions, traits, options.palette_strength)
    proportions = anime_proportions(portrait.points, portrait.frame, traits.softness)
    canvas = Canvas(portrait.frame, scale)
    face = canvas.coverage(curve(proportions.points[[*OVAL, OVAL[0]]], 160))
    shares = regions.probabilities
    flow = find_flow(portrait, proportions, shares[..., HAIR].copy(), SEGMENTATION_SCALE)
    parts = proportions.resample(shares[..., :4].copy(), SEGMENTATION_SCALE, scale)
    hat = proportions.resample(shares[..., HAT].copy(), SEGMENTATION_SCALE, scale)
    labels = np.concatenate([blur(parts, 0.012 * scale), blur(hat, 0.012 * scale)[..., None]], 2).argmax(2)
    hair = (labels == HAIR).astype(np.float32)
    if regions.has_hair:
        brow = -float(np.mean([proportions.points[list(eye.brow), 1].mean() for eye in EYES]))
        width = float(np.ptp(proportions.points[[234, 454], 0]))
        hair = np.maximum(hair, find_locks(flow, canvas, face * (labels == SKIN), brow, traits.softness, width))
    else:
        hair = np.zeros_like(hair)
        labels[labels == HAIR] = SKIN if regions.is_bald else CLOTHES
    soft_px = max(0.8, 0.006 * scale)
    skin = ((labels == SKIN) & (hair < 0.5)).astype(np.float32)
    body = np.maximum((labels != GROUND).astype(np.float32), hair)
    least = _LEAST_LINE_PX * scale / portrait.frame.face_height_px / scale
    line = max(_LINE * portrait.width, least) * options.line_weight
    sketch = Sketch(
        canvas, portrait, regions, traits, palette, options, proportions.points, line,
        Region(skin, soft_px), Region(hair, soft_px), face,
    )  # fmt: skip
    _paint_cloth(sketch, proportions, labels, CLOTHES, 1.35)
    if regions.has_hat:
        _paint_cloth(sketch, proportions, labels, HAT, 1.2)
    if regions.has_hair:
        draw_hair(sketch, flow)
    features.draw_skin(sketch)
    features.draw_beard(sketch)
    features.draw_nose(sketch)
    features.draw_mouth(sketch)
    if not traits.sunglasses:
        draw_eyes(sketch)
    draw_brows(sketch)
    if traits.glasses:
        features.draw_glasses(sketch)
    _draw_outlines(sketch, labels, soft_px)
    return canvas.rgb, Region(body, soft_px).inside


def _paint_cloth(sketch: Sketch, proportions: Proportions, labels: FloatArray, part: int, vividness: float) -> None:
    """Paint clothes or a hat flat, in the photograph's colors."""
    canvas = sketch.canvas
    mask = (labels == part).astype(np.float32)
    if not mask.any():
        return
    rgb = proportions.resample(sketch.portrait.rgb, SCALE, _CLOTHES_SCALE).astype(np.float32)
    small = resize(mask, rgb.shape[1], rgb.shape[0])
    vivid = 1 + (vividness - 1) * sketch.options.palette_strength
    width, height = canvas.frame.size(min(canvas.scale, 3 * _CLOTHES_SCALE))
    canvas.paint(mask, resize(paint_flat(rgb, small, width, height, vivid), canvas.width, canvas.height))


def _draw_outlines(sketch: Sketch, labels: FloatArray, soft_px: float) -> None:
    """Ink the outlines of clothes, hat, skin and hair, and the chin."""
    canvas, width_px = sketch.canvas, sketch.line * sketch.canvas.scale
    edge = np.minimum(np.minimum(canvas.x - canvas.x.min(), canvas.x.max() - canvas.x), canvas.y - canvas.y.min())
    within = smoothstep(np.minimum(edge, canvas.y.max() - canvas.y) * canvas.scale, 1, 3)
    for part in (CLOTHES, HAT):
        mask = (labels == part).astype(np.float32)
        if mask.any():
            canvas.paint(Region(mask, soft_px * 1.5).outline(width_px * 0.9) * within, INK * 0.8)
    canvas.paint(sketch.skin.outline(width_px * 0.95) * within, sketch.palette.skin.line * 0.62)
    if sketch.regions.has_hair:
        canvas.paint(sketch.hair.outline(width_px * 1.1) * within, sketch.palette.hair.line)
    features.draw_chin(sketch)
