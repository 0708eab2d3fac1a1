"""Light behind the codes of images and videos: transfer functions and primaries, by their code points in ITU-T H.273.

Formulas: SMPTE ST 2084 (PQ), ITU-R BT.2100-2 (HLG), ITU-R BT.2408-7 (reference white).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

WHITE_NITS = 203.0
"""Reference white of HDR in cd/m2, which SDR shows as its own."""
PEAK_NITS = 1000.0
"""Peak in cd/m2 of the display that HLG is made for, and of PQ that does not say."""
PQ_NITS = 10000.0
HLG_GAMMA = 1.2
"""Gamma of HLG's system at ``PEAK_NITS``."""
BT709, BT2020 = 1, 9

_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073  # of HLG
_D65 = (0.3127, 0.3290)


class Primaries(NamedTuple):
    """Chromaticities (x, y) of white, red, green and blue."""

    white: tuple[float, float]
    red: tuple[float, float]
    green: tuple[float, float]
    blue: tuple[float, float]

    def to_xyz(self) -> Floats:
        """Return the matrix (3, 3) from linear RGB to XYZ, in which white has a Y of 1."""
        white, *rgb = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in self)
        columns = np.stack(rgb, axis=1)
        return np.asarray(columns * np.linalg.solve(columns, white))


PRIMARIES = {
    BT709: Primaries(_D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    5: Primaries(_D65, (0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),
    6: Primaries(_D65, (0.63, 0.34), (0.31, 0.595), (0.155, 0.07)),
    BT2020: Primaries(_D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: Primaries((0.314, 0.351), (0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
    12: Primaries(_D65, (0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
}
ADOBE_RGB = Primaries(_D65, (0.64, 0.33), (0.21, 0.71), (0.15, 0.06))


def pq_to_nits(codes: Floats) -> Floats:
    """Apply the EOTF of PQ to codes in [0, 1]; return cd/m2."""
    power = codes ** (1 / _M2)
    return np.asarray(PQ_NITS * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1))


def nits_to_pq(nits: Floats) -> Floats:
    """Apply the inverse EOTF of PQ to cd/m2; return codes in [0, 1]."""
    power = (nits / PQ_NITS) ** _M1
    return np.asarray(((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2)


def hlg_to_scene(codes: Floats) -> Floats:
    """Apply the inverse OETF of HLG to codes in [0, 1]; return linear light of the scene in [0, 1]."""
    return np.where(codes <= 0.5, codes**2 / 3, (np.exp((codes - _C) / _A) + _B) / 12)
