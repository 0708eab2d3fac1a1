"""What the drawing of a head is made on: a canvas with the landmarks, regions, traits and colors to draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nst_ops.anime.arrays import FloatArray
from nst_ops.anime.landmarks import NOSE_TIP, OUTER_LIPS, FaceMeasures
from nst_ops.anime.palette import Palette
from nst_ops.anime.portrait import Portrait
from nst_ops.anime.raster import Canvas, Region
from nst_ops.anime.regions import Regions
from nst_ops.anime.traits import Traits
from nst_ops.config.stylize import AnimeConfig


@dataclass(frozen=True)
class Head:
    """A head of a photograph, with its parts."""

    portrait: Portrait
    regions: Regions


@dataclass
class Sketch(FaceMeasures):
    """A head on its way to a drawing; lengths in face heights."""

    canvas: Canvas
    portrait: Portrait
    regions: Regions
    traits: Traits
    palette: Palette
    options: AnimeConfig
    points: FloatArray
    """Landmarks of the drawing, (478, 2)."""
    line: float
    """Width of a usual line."""
    skin: Region
    hair: Region
    face: FloatArray
    """Coverage, (H, W), of the face's oval."""

    @property
    def mouth(self) -> FloatArray:
        """Middle of the lips."""
        return np.asarray(self.points[list(OUTER_LIPS)].mean(0), np.float32)

    @property
    def nose(self) -> FloatArray:
        """Tip of the nose."""
        return np.asarray(self.points[NOSE_TIP], np.float32)

    @property
    def shadow_side(self) -> int:
        """Side of the picture on which shadows fall: 1 right, -1 left."""
        return 1 if self.traits.light <= 0 else -1
