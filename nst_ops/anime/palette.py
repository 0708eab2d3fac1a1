"""Colors of a drawing: clean, bright tones near those of the photograph's skin, hair, iris and clothes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nst_ops.anime.arrays import FloatArray, to_rgb, vector
from nst_ops.anime.portrait import Portrait
from nst_ops.anime.regions import Regions
from nst_ops.anime.traits import Traits

INK = vector([58, 36, 40])
"""Color of lines that belong to no part."""


@dataclass(frozen=True)
class Tones:
    """Tones of one material, RGB in 0 to 255."""

    base: FloatArray
    shadow: FloatArray
    light: FloatArray
    line: FloatArray


@dataclass(frozen=True)
class Palette:
    """Colors of a head, RGB in 0 to 255."""

    skin: Tones
    hair: Tones
    iris: FloatArray
    lash: FloatArray
    skin_depth: float
    """0 for the palest skin, to 1 for the darkest."""


def choose_palette(portrait: Portrait, regions: Regions, traits: Traits, strength: float) -> Palette:
    """Choose the colors of a head; ``strength`` 0 leaves them as photographed, 1 is anime, 2 is loud."""
    skin, depth = _skin_tones(portrait, regions, strength)
    hair = _hair_tones(regions, strength)
    dark_hair = not regions.has_hair or regions.hair[0] < 55
    lash = vector([44, 26, 32] if dark_hair else [84, 50, 40])
    return Palette(skin, hair, _iris(regions, traits, depth), lash, depth)


def _skin_tones(portrait: Portrait, regions: Regions, strength: float) -> tuple[Tones, float]:
    face = portrait.patch([50, 280, 205, 425, 9, 151, 4, 195, 108, 337, 101, 330])[:, 0]
    lightness, brightest = float(np.quantile(face, 0.55)), float(np.quantile(face, 0.96))
    lightness += 0.3 * max(0.0, 84 - brightest)  # a dim photograph
    yellow, red = float(regions.skin[2]), float(regions.skin[1])
    bright = float(np.clip(29 + 0.78 * lightness, 50, 94.5))
    bright += (lightness - bright) * (1 - min(strength, 1)) * 0.7
    depth = float(np.clip((94 - bright) / 34, 0, 1))
    chroma = (13 + 20 * depth) * (0.75 + 0.25 * strength)
    hue = np.radians(52 + 10 * depth)
    hue += np.radians(np.clip(np.degrees(np.arctan2(yellow, max(red, 1))) - 50, -14, 14) * 0.35)
    base = np.array([bright, chroma * np.cos(hue), chroma * np.sin(hue)])
    shadow = base + vector([-9 - 3 * depth, 8, 5])
    line = base + vector([-17 - 4 * depth, 15, 9])
    light = base + vector([3, -1, -1])
    return Tones(to_rgb(base), to_rgb(shadow), to_rgb(light), to_rgb(line)), depth


def _hair_tones(regions: Regions, strength: float) -> Tones:
    lightness, a, b = (float(value) for value in regions.hair)
    if b < 0:  # no hair is blue: the light of the sky is
        a, b = a * 0.3, b * 0.3
    chroma, hue = float(np.hypot(a, b)), float(np.arctan2(b, a))
    lift = 4 + 5 * float(np.clip((lightness - 22) / 20, 0, 1))  # dark hair stays dark
    bright = float(np.clip(lightness * (1 + 0.12 * strength) + lift * strength, 20, 86))
    vivid = float(np.clip(chroma * (1 + 0.45 * strength) + (3 * strength if chroma > 6 else 0), 0, 58))
    if lightness < 26 and chroma < 7:  # black hair shines blue
        hue, vivid = float(np.radians(-65)), 6.0 * strength
    a, b = vivid * np.cos(hue), vivid * np.sin(hue)
    return Tones(
        to_rgb([bright, a, b]),
        to_rgb([bright * 0.72 - 2, a * 0.95 + 4, b * 0.8 - 3]),
        to_rgb([min(97, bright + 17 + 0.06 * (80 - bright)), a * 0.8, b * 0.92 + 2]),
        to_rgb([max(9, bright * 0.40), a * 0.8 + 5, b * 0.6]),
    )


def _iris(regions: Regions, traits: Traits, depth: float) -> FloatArray:
    """Choose the iris by skin and hair: the few pixels of an iris in a photograph are mostly reflections."""
    lightness, a, b = (float(value) for value in regions.hair)
    chroma, hue = float(np.hypot(a, b)), float(np.degrees(np.arctan2(b, a)))
    if depth > 0.30:
        return vector([128, 74, 40])
    if regions.has_hair and lightness > 58:
        return vector([64, 132, 190])
    if regions.has_hair and chroma > 26 and hue < 62:
        return vector([58, 140, 96])
    if lightness < 20:
        return vector([118, 66, 84] if traits.softness > 0.5 else [108, 68, 56])
    return vector([150, 88, 44])
