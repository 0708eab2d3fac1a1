"""Which part of a head each pixel belongs to: ground, clothes, hair, skin or hat.

A pixel's color is compared with samples of each part, its place with where the part usually lies, and the person mask
with both. Edges of the photograph then sharpen the borders. Coordinates: ``u`` is x in half widths of the face from
its middle, ``v`` is the height above the chin in face heights (1: the top of the forehead).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nst_ops.anime.arrays import FloatArray, blur, color_clusters, guided_filter, ramp, resize, smoothstep, vector
from nst_ops.anime.landmarks import EYES, OVAL
from nst_ops.anime.portrait import SCALE, Portrait

GROUND, CLOTHES, HAIR, SKIN, HAT = range(5)
SEGMENTATION_SCALE = SCALE / 2
"""Pixels per face height at which regions are found."""
_SAMPLES = 1500  # colors of a part that are looked at
_LEAST_SAMPLES = 60
_UNKNOWN = -14.0  # log density of a part without samples
_EARS, _BESIDE_EARS, _BELOW_EARS = (1.02, 1.30, 0.20, 0.50), (1.08, 1.40, 0.25, 0.55), (1.08, 1.40, -0.05, 0.30)
_ISLANDS = {GROUND: 0.05, CLOTHES: 0.08, HAIR: 0.08, SKIN: 0.05, HAT: 0.1}  # least area, in face areas


@dataclass(frozen=True)
class Regions:
    """Parts of a head, and what they say about hair and hat."""

    probabilities: FloatArray
    """Share of each part in each pixel, (H, W, 5), at ``SEGMENTATION_SCALE``."""
    skin: FloatArray
    """Median skin color, Lab."""
    hair: FloatArray
    """Color of hair, rather its darker part, Lab; of no meaning without hair."""
    has_hair: bool
    has_hat: bool
    is_bald: bool
    hair_at_ears: tuple[float, float]
    """Share of hair right beside the ears, left and right."""
    hair_below_chin: float
    """Hair above shoulder height but below 0.1, in face areas."""


class _Place:
    """Coordinates and masks of the face's geometry over the segmentation grid."""

    def __init__(self, portrait: Portrait) -> None:
        x, y = portrait.frame.grid(SEGMENTATION_SCALE)
        self.u = (x - portrait.middle) / (portrait.width / 2)
        self.v = -y
        oval = np.zeros(x.shape, np.uint8)
        cv2.fillPoly(oval, [_pixels(portrait, portrait.points[list(OVAL)])], 1)
        inside = cv2.distanceTransform(oval, cv2.DIST_L2, 3) - cv2.distanceTransform(1 - oval, cv2.DIST_L2, 3)
        self.depth = np.asarray(inside, np.float32) / (portrait.width * SEGMENTATION_SCALE)  # > 0 inside the face
        brows = np.mean([portrait.points[list(eye.brow), 1].mean() for eye in EYES])
        self.brow = -float(brows)
        self.neck = (
            smoothstep(-self.v, -0.12, 0.03) * smoothstep(np.abs(self.u), 0.95, 0.6) * smoothstep(self.v, -0.75, -0.3)
        )


@dataclass(frozen=True)
class _LogDensities:
    """How well the color of each pixel, (H, W), fits each part: log densities."""

    skin: FloatArray
    hair: FloatArray
    clothes: FloatArray
    ground: FloatArray


def find_regions(portrait: Portrait) -> Regions:
    """Find the parts of a head."""
    place = _Place(portrait)
    height, width = place.v.shape
    lab = np.asarray(cv2.bilateralFilter(resize(portrait.lab, width, height), 7, 9, 5), np.float32)
    person = resize(portrait.person, width, height)
    skin, covariance = skin_color(portrait)
    likeness = _gauss(lab, skin, covariance) - float(_gauss(skin, skin, covariance))  # 0: the very color of the skin
    densities = _log_densities(lab, person, place, skin, covariance, likeness)

    # Of what is surely a person; blond hair is near to skin. A raised shoulder is beside the chin, not beside the ear.
    hairy = (person > 0.95) & (densities.hair > np.maximum(densities.skin - 3, densities.ground - 4))
    below_ears, beside_ears = _hair_shares(hairy, place, _BELOW_EARS), _hair_shares(hairy, place, _BESIDE_EARS)
    beside_face = min(below_ears[0], beside_ears[0]), min(below_ears[1], beside_ears[1])
    bald = max(beside_face) <= 0.6 and _is_bald(portrait, lab, likeness, person, place)
    shares = _shares(densities, _priors(place, beside_face, bald), person)
    shares = _sharpen(shares, portrait, place, lab)
    shares = np.concatenate([shares, np.zeros((height, width, 1), np.float32)], 2)
    has_hat = _find_hat(shares, lab, portrait, place, person)
    shares = _drop_islands(shares, portrait.width)

    is_hair = shares.argmax(2) == HAIR
    face_area = portrait.width * SEGMENTATION_SCALE**2
    has_hair = bool(is_hair.sum() > 0.05 * face_area)
    hair = np.quantile(lab[is_hair], 0.4, axis=0) if has_hair else vector([30, 6, 8])
    if portrait.tint > 12:  # colored light colors hair, too: half of its color is not its own
        hair = hair * vector([1, 0.5, 0.5])
    hairier = np.maximum(densities.skin + 0.5, densities.ground - 1)
    return Regions(
        probabilities=shares,
        skin=skin,
        hair=np.asarray(hair, np.float32),
        has_hair=has_hair,
        has_hat=has_hat,
        is_bald=bald,
        hair_at_ears=_hair_shares((person > 0.5) & (densities.hair > hairier), place, _EARS),
        hair_below_chin=min(float((is_hair & (place.v < 0.1)).sum() / face_area), 0.5),
    )


def _log_densities(
    lab: FloatArray, person: FloatArray, place: _Place, skin: FloatArray, covariance: FloatArray, likeness: FloatArray
) -> _LogDensities:
    """Compare each pixel with samples of each part from where that part surely is."""
    u, v = np.abs(place.u), place.v
    shadow = skin * vector([1, 0.85, 0.85]) - vector([17, 0, 0])
    in_shadow = _gauss(lab, shadow, covariance * 1.4) - 1 - 3 * (1 - place.neck)  # the neck often is
    lit = skin * vector([1, 0.75, 0.75]) + vector([13, 0, 0])
    in_light = _gauss(lab, lit, covariance * 1.2) - 1.5 - 9 * smoothstep(place.depth, 0.02, -0.05)  # a forehead is
    log_skin = np.logaddexp(_gauss(lab, skin, covariance), np.logaddexp(in_shadow, in_light))

    no_skin = likeness < -3.5
    to_edge = cv2.distanceTransform((person > 0.6).astype(np.uint8), cv2.DIST_L2, 3) / SEGMENTATION_SCALE
    near_edge = (to_edge > 0.025) & (to_edge < 0.25)  # of the person: there hair is, where there is any
    above, beside = (v > 0.95) & (u < 1.3), (u > 1.08) & (v > 0.60) & (v < 0.95)
    hair = lab[near_edge & (place.depth < -0.05) & (above | beside) & no_skin]
    clothes = lab[(person > 0.5) & (v < -0.32) & no_skin]
    return _LogDensities(
        skin=np.asarray(log_skin, np.float32),
        hair=_mixture(lab, hair, 3, (120, 25, 25)),  # strands shine
        clothes=_mixture(lab, clothes, 4),
        ground=_mixture(lab, lab[person < 0.08], 5),
    )


def _priors(
    place: _Place, hair_beside_face: tuple[float, float], bald: bool
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return how usual clothes, hair and skin are in each place of a person, (H, W) each."""
    u, v, inside = np.abs(place.u), place.v, smoothstep(place.depth, -0.03, 0.05)
    ear = smoothstep(np.abs(u - 1.05), 0.2, 0.05) * smoothstep(v, 0.2, 0.35) * smoothstep(v, 0.75, 0.6)
    skin = 0.02 + 0.95 * inside * (1 - 0.45 * smoothstep(v, 0.78, 0.98)) + 0.10 * smoothstep(-v, 0.2, 0.5)
    skin += (0.6 * place.neck + 0.25 * ear) * (1 - inside)
    at_sides = smoothstep(u, 0.8, 1.1) * smoothstep(v, -1.1, -0.2)
    hair = 0.02 + 0.75 * smoothstep(v, 0.55, 0.85) + 0.42 * at_sides
    hair *= 1 - 0.97 * smoothstep(place.depth, 0, 0.08) * (1 - 0.8 * smoothstep(v, 0.72, 0.95))
    hair *= 1 - 0.99 * place.neck * smoothstep(u, 0.62, 0.45)
    for side, share in zip((-1, 1), hair_beside_face, strict=True):
        # below the ears hair is only believed where there is some beside the face
        below = smoothstep(v, 0.60, 0.42) * (1 - ramp(share, 0.35, 0.60))
        hair = np.where(place.u * side > 0, hair * (1 - below) + 1e-5, hair)
    reach = np.hypot(u / 2.2, np.maximum(v - 0.55, 0) / 1.15)
    hair *= 1 - 0.95 * smoothstep(reach, 0.85, 1.1) * smoothstep(v, 0.2, 0.5)
    if bald:
        hair *= 1 - 0.97 * smoothstep(u, 1.05, 0.8) * smoothstep(v, 0.6, 0.8)
        skin += 0.7 * smoothstep(v, 0.85, 0.95) * smoothstep(u, 1.3, 1.1)
    clothes = 0.01 + 0.8 * smoothstep(-v, 0.05, 0.45) * (1 - 0.5 * place.neck)
    return clothes, np.asarray(hair, np.float32), skin


def _shares(
    densities: _LogDensities, priors: tuple[FloatArray, FloatArray, FloatArray], person: FloatArray
) -> FloatArray:
    """Weigh colors, places and the person mask; return the share of ground, clothes, hair and skin, (H, W, 4)."""
    mask, floor = np.clip(person, 0.01, 0.99), np.float32(-17)  # no color is impossible
    ground = 1.5 * np.log(1 - mask) + np.maximum(densities.ground, -13.5) * 0.55 - 5.5
    of_person = [
        1.5 * np.log(mask) + np.log(prior) + np.logaddexp(density, floor)
        for prior, density in zip(priors, (densities.clothes, densities.hair, densities.skin), strict=True)
    ]
    votes = np.stack([ground, *of_person], 2)
    shares = np.exp((votes - votes.max(2, keepdims=True)) * 0.6)
    return np.asarray(shares / shares.sum(2, keepdims=True), np.float32)


def skin_color(portrait: Portrait) -> tuple[FloatArray, FloatArray]:
    """Return mean and covariance, (3,) and (3, 3), of the skin's Lab colors."""
    under_eyes = [float(np.median(portrait.patch([index])[:, 0])) for index in (229, 449)]
    low = float(np.median(portrait.patch([205, 425, 50, 280])[:, 0]))
    if max(under_eyes) < low * 0.75:  # dark glasses, or deep shadow
        samples = portrait.patch([205, 425, 207, 427, 151, 9])
    else:
        samples = portrait.patch([50, 280, 205, 425, 101, 330, 195, 5, 9, 36, 266])
    off = np.linalg.norm((samples - np.median(samples, 0)) * vector([0.5, 1, 1]), axis=1)
    samples = samples[off <= np.quantile(off, 0.8)]
    covariance = np.cov(samples.T)
    covariance *= min(1, 60 / (covariance[0, 0] + 1e-3))
    limit = np.sqrt(np.minimum(1, np.array([60, 20, 20]) / (np.diag(covariance) + 1e-3)))
    covariance = covariance * np.outer(limit, limit) + np.diag([60, 14, 14])
    return np.median(samples, 0).astype(np.float32), covariance.astype(np.float32)


def _pixels(portrait: Portrait, points: FloatArray) -> NDArray[np.int32]:
    return np.round(portrait.frame.to_pixels(points, SEGMENTATION_SCALE)).astype(np.int32)


def _gauss(colors: FloatArray, mean: FloatArray, covariance: FloatArray) -> FloatArray:
    """Log density of a normal distribution, but for a constant."""
    off = (colors - mean).astype(np.float32)
    inverse = np.linalg.inv(covariance).astype(np.float32)
    return np.asarray(-0.5 * ((off @ inverse) * off).sum(-1) - 0.5 * np.log(np.linalg.det(covariance)), np.float32)


def _mixture(
    colors: FloatArray, samples: FloatArray, count: int, least: tuple[float, float, float] = (25, 25, 25)
) -> FloatArray:
    """Log density of a mixture of normal distributions, one for each cluster of the samples, (N, 3).

    ``least`` is added to the variances of L, a and b.
    """
    if len(samples) < _LEAST_SAMPLES:
        return np.full(colors.shape[:-1], _UNKNOWN, np.float32)
    samples = samples[:: max(1, len(samples) // _SAMPLES)]
    _, labels = color_clusters(samples, min(count, len(samples) // 20))
    parts = []
    for cluster in range(int(labels.max()) + 1):
        members = samples[labels == cluster]
        if len(members) >= 8:
            covariance = (np.cov(members.T) + np.diag(least)).astype(np.float32)
            parts.append(np.log(len(members) / len(samples)) + _gauss(colors, members.mean(0), covariance))
    return np.asarray(np.logaddexp.reduce(parts, 0), np.float32)


def _is_bald(portrait: Portrait, lab: FloatArray, skin_likeness: FloatArray, person: FloatArray, place: _Place) -> bool:
    """Whether the top of the head looks like the forehead."""
    is_person = person > 0.5
    column = is_person & (np.abs(place.u) < 0.3)
    top = float(np.quantile(place.v[column], 0.995)) if column.any() else 1.1
    crown = is_person & (np.abs(place.u) < 0.4) & (place.v > max(1.0, top - 0.22)) & (place.v < top - 0.04)
    brim = (np.abs(place.u) > 1.45) & (np.abs(place.u) < 2.1) & (place.v > 0.8) & (place.v < 1.25)
    has_brim = brim.any() and float(is_person[brim].mean()) > 0.15
    if crown.sum() < 30 or top > 1.5 or has_brim:  # a head ends there
        return False
    off = np.median(lab[crown], 0) - np.median(portrait.patch([151, 9, 108, 337]), 0)
    same = bool(abs(off[0]) < 20 and np.hypot(off[1], off[2]) < 8)
    return same and float((skin_likeness > -3.0)[crown].mean()) > 0.55


def _hair_shares(
    hairy: NDArray[np.bool_], place: _Place, box: tuple[float, float, float, float]
) -> tuple[float, float]:
    """Return the share of hair in a box, u and v from and to, left and right of the face."""
    left, right, low, high = box
    shares = []
    for side in (-1, 1):
        inside = (place.u * side > left) & (place.u * side < right) & (place.v > low) & (place.v < high)
        shares.append(float(hairy[inside].mean()) if inside.sum() > 20 else 0.0)
    return shares[0], shares[1]


def _sharpen(shares: FloatArray, portrait: Portrait, place: _Place, lab: FloatArray) -> FloatArray:
    """Follow the edges of the photograph, and keep eyes, brows and all between for skin."""
    guide = np.ascontiguousarray(lab[..., 0]) / 100
    for radius, epsilon in ((7, 4e-4), (4, 1e-3)):
        shares = np.stack([guided_filter(guide, shares[..., part].copy(), radius, epsilon) for part in range(4)], 2)
    core = smoothstep(place.depth, 0.02, 0.08) * smoothstep(place.v, place.brow + 0.10, place.brow + 0.02)
    eyes = np.zeros(core.shape, np.float32)
    for eye in EYES:
        outline = portrait.points[list(eye.brow + eye.brow_lower + eye.contour)]
        cv2.fillPoly(eyes, [cv2.convexHull(_pixels(portrait, outline))], 1.0)
    core = np.maximum(core, blur(np.asarray(cv2.dilate(eyes, np.ones((7, 7))), np.float32), 1.5))[..., None]
    shares = np.clip(shares, 0, 1) * (1 - core)
    shares[..., SKIN] += core[..., 0]
    return np.stack([blur(shares[..., part].copy(), 2.0) for part in range(4)], 2)


def _find_hat(shares: FloatArray, lab: FloatArray, portrait: Portrait, place: _Place, person: FloatArray) -> bool:
    """Move what covers the head like no hair to the hat, in place; return whether there is one."""
    u, v = np.abs(place.u), place.v
    covers = (person > 0.5) & (place.depth < 0.02) & (shares[..., GROUND] < 0.5)
    crown = covers & (u < 0.75) & (v > 1.02) & (v < 1.45)
    if crown.sum() < 0.04 * portrait.width * SEGMENTATION_SCALE**2:
        return False
    color = np.median(lab[crown], 0)
    brow = np.median(np.concatenate([portrait.patch(eye.brow[1:4]) for eye in EYES]), 0)
    sides = (shares[..., HAIR] > 0.5) & (u > 1.0) & (u < 1.5) & (v > 0.1) & (v < 0.7) & (person > 0.5)
    side = np.median(lab[sides], 0) if sides.sum() > 40 else None
    forehead = _forehead(shares, place)
    if not _is_hat(color, brow, side, forehead, _roughness(lab, crown)):
        return False
    spread = vector([14, 7, 7]) + lab[crown].std(0) * np.float32(1.2)
    near = np.exp(-0.5 * (((lab - color) / spread) ** 2).sum(2))
    like_hat = smoothstep(blur(near.astype(np.float32), 2.0), 0.10, 0.3)
    above = smoothstep(v, 0.72, 0.86)
    if side is not None:
        side_near = np.exp(-0.5 * (((lab - side) / vector([12, 7, 7])) ** 2).sum(2))
        like_hat = like_hat * (side_near < near)
    on_top = smoothstep(v, 1.0, 1.15) * smoothstep(u, 1.3, 1.05)
    taken = np.maximum(like_hat * above, on_top) * (1 - shares[..., GROUND])
    taken *= 1 - smoothstep(place.depth, 0.05, 0.12) * smoothstep(v, 0.9, 0.8)
    kept = shares * (1 - taken[..., None])
    kept[..., GROUND] = shares[..., GROUND]
    kept[..., HAT] = 1 - kept[..., :4].sum(2)
    shares[:] = np.clip(kept, 0, 1)
    return True


def _forehead(shares: FloatArray, place: _Place) -> FloatArray:
    """Return how far above the brows skin reaches in twelve columns, (12,), in face heights."""
    covered = (shares[..., SKIN] <= 0.5) & (place.v > place.brow)
    heights = []
    for u in np.linspace(-0.55, 0.55, 12):
        column = covered & (np.abs(place.u - u) < 0.05)
        heights.append(float(place.v[column].min()) - place.brow if column.any() else 0.6)
    return np.clip(vector(heights), 0, 0.6)


def _roughness(lab: FloatArray, mask: NDArray[np.bool_]) -> float:
    """Return the median step of lightness from pixel to pixel."""
    lightness = np.ascontiguousarray(lab[..., 0])
    slope = np.hypot(cv2.Sobel(lightness, cv2.CV_32F, 1, 0), cv2.Sobel(lightness, cv2.CV_32F, 0, 1)) / 8
    return float(np.median(slope[mask]))


def _is_hat(
    color: FloatArray, brow: FloatArray, side: FloatArray | None, forehead: FloatArray, roughness: float
) -> bool:
    """Whether what covers the head is a hat: its edge is low and even, its color not that of the hair beside the face.

    Bounds from 400 faces of which 30 wear hats: three in four of these are found, black ones are drawn as hair.
    """
    low, uneven = float(np.median(forehead)), float(forehead.std())
    if low > 0.27 or uneven > 0.055 or (low > 0.13 and roughness > 1.3) or color[0] < 18:
        return False
    chroma, hue = float(np.hypot(*color[1:])), float(np.degrees(np.arctan2(color[2], color[1])))
    if chroma > 14 and not 0 < hue < 100:  # no hair is blue or green
        return True
    if color[0] > 70 and chroma < 14 and color[0] - brow[0] > 28:
        return True
    straight = low < 0.10 and uneven < 0.02
    if side is None:
        return bool(straight and color[0] > 75 and chroma < 14 and roughness < 1.3)
    bright_cap = straight and color[0] > 75 and color[0] - side[0] > 20
    return bool(bright_cap or (low <= 0.17 and np.hypot(*(color - side)[1:]) > 15))  # hair in the shade keeps its hue


def _drop_islands(shares: FloatArray, width: float) -> FloatArray:
    """Give small spots to the part around them."""
    for _ in range(2):
        labels = shares.argmax(2)
        for part, least in _ISLANDS.items():
            _, spots, stats, _ = cv2.connectedComponentsWithStats((labels == part).astype(np.uint8), connectivity=4)
            small = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] < least * width * SEGMENTATION_SCALE**2)
            shares[..., part] *= np.where(np.isin(spots, small[small > 0]), 0.02, 1).astype(np.float32)
        shares = np.stack([blur(shares[..., part].copy(), 1.2) for part in range(5)], 2)
    return shares
