"""High dynamic range, PQ and HLG: mapped to what an SDR display shows, or kept with the data of its mastering.

Formulas: ITU-R BT.2390-11 section 5.4 (tone mapping), and those of ``transfer``.
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from nst_ops.media.images import UInt8Array
from nst_ops.media.transfer import (
    BT709,
    BT2020,
    HLG_GAMMA,
    PEAK_NITS,
    PQ_NITS,
    PRIMARIES,
    WHITE_NITS,
    hlg_to_scene,
    nits_to_pq,
    pq_to_nits,
)
from nst_ops.media.video.color import HLG, LIMITED, PQ, Color, side_data

SDR = Color(matrix=1, range=LIMITED, transfer=1, primaries=1)
"""BT.709, which tone-mapped frames are."""
NAMES = {PQ: "PQ", HLG: "HLG"}

_SDR_GAMMA = 2.4  # BT.1886
_LEVELS = 1 << 16
_ROWS = 64  # that are mapped at once: they stay in the cache

Float32Array = NDArray[np.float32]


@dataclass(frozen=True)
class Mastering:
    """Display that HDR was graded on (SMPTE ST 2086), and the brightest light in it (CTA-861.3); None: not stated."""

    primaries: tuple[tuple[Fraction, Fraction], ...] | None = None  # x and y of red, green, blue and white
    luminance: tuple[Fraction, Fraction] | None = None  # darkest and brightest, in cd/m2
    light_level: tuple[int, int] | None = None  # brightest pixel, and brightest mean of a frame, in cd/m2

    @classmethod
    def of(cls, frame: VideoFrame) -> Mastering:
        """Read it from a decoded frame, as FFmpeg's AVMasteringDisplayMetadata and AVContentLightMetadata."""
        found = side_data(frame)
        primaries = luminance = light_level = None
        if data := found.get(Type.MASTERING_DISPLAY_METADATA):
            *numbers, has_primaries, has_luminance = struct.unpack_from("22i", bytes(data))
            pairs = [Fraction(*numbers[n : n + 2]) if numbers[n + 1] else Fraction(0) for n in range(0, 20, 2)]
            primaries = tuple((pairs[n], pairs[n + 1]) for n in range(0, 8, 2)) if has_primaries else None
            luminance = (pairs[8], pairs[9]) if has_luminance else None
        if data := found.get(Type.CONTENT_LIGHT_LEVEL):
            level: tuple[int, int] = struct.unpack_from("2I", bytes(data))
            light_level = level if any(level) else None
        return cls(primaries, luminance, light_level)

    @property
    def peak_nits(self) -> float:
        """Brightest light to be expected, in cd/m2."""
        if self.light_level and self.light_level[0]:
            return float(self.light_level[0])
        return float(self.luminance[1]) if self.luminance and self.luminance[1] else PEAK_NITS

    def display(self, unit: Fraction, luminance_unit: Fraction) -> str:
        """Format the display as encoders take it, ``G(x,y)B(x,y)R(x,y)WP(x,y)L(max,min)``; empty if not all is stated.

        With units of 1 the numbers are decimals, else integers in them.
        """
        if self.primaries is None or self.luminance is None:
            return ""
        red, green, blue, white = ((_number(x, unit), _number(y, unit)) for x, y in self.primaries)
        darkest, brightest = (_number(nits, luminance_unit) for nits in self.luminance)
        points = (("G", green), ("B", blue), ("R", red), ("WP", white), ("L", (brightest, darkest)))
        return "".join(f"{name}({first},{second})" for name, (first, second) in points)


def tone_map(rgb_hwc: NDArray[np.uint16], color: Color, peak_nits: float) -> UInt8Array:
    """Map PQ or HLG, uint16 R'G'B' (H, W, 3) of full range in ``color``, to BT.709 as uint8.

    Light up to ``peak_nits`` is rolled off by the curve of BT.2390, each channel by itself, so that the reference white
    of HDR comes out a little below that of SDR, and darker light as it was.
    """
    if color.transfer == HLG:
        peak_nits = PEAK_NITS
    curve, encode = _curve(color.transfer, peak_nits), _sdr_codes()
    to_bt709 = _matrix(color.primaries)
    mapped = np.empty(rgb_hwc.shape, np.uint8)
    for start in range(0, len(rgb_hwc), _ROWS):
        codes = rgb_hwc[start : start + _ROWS]
        if color.transfer == HLG:
            scene = _hlg_scene()[codes]
            luminance = scene @ np.array([0.2627, 0.6780, 0.0593], np.float32)
            light = scene * (luminance ** (HLG_GAMMA - 1))[..., None]
            codes = (np.sqrt(np.sqrt(light)) * (_LEVELS - 1)).astype(np.uint16)
        linear = np.clip(curve[codes] @ to_bt709, 0, 1)
        mapped[start : start + _ROWS] = encode[(np.sqrt(linear) * (_LEVELS - 1)).astype(np.uint16)]
    return mapped


@functools.lru_cache(maxsize=4)
def _curve(transfer: int, peak_nits: float) -> Float32Array:
    """Return linear light of SDR, 1 its white, by code: that of PQ, or the fourth root of light for HLG."""
    codes = np.linspace(0, 1, _LEVELS)
    peak = min(max(peak_nits, WHITE_NITS), PQ_NITS)
    perceived = codes if transfer == PQ else nits_to_pq(codes**4 * PEAK_NITS)
    return (pq_to_nits(_rolled_off(perceived, peak)) / WHITE_NITS).astype(np.float32)


def _rolled_off(perceived: NDArray[np.float64], peak_nits: float) -> NDArray[np.float64]:
    """Apply the EETF of BT.2390: a Hermite spline in PQ from a knee up to the white of SDR; black stays black."""
    peak, white = nits_to_pq(np.array([peak_nits, WHITE_NITS]))
    share = np.minimum(perceived / peak, 1)
    top = white / peak
    knee = 1.5 * top - 0.5
    if knee >= 1:
        return np.asarray(share * peak)
    t = (share - knee) / (1 - knee)
    spline = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (-2 * t**3 + 3 * t**2) * top
    )  # fmt: skip
    return np.asarray(np.where(share < knee, share, spline) * peak)


@functools.cache
def _hlg_scene() -> Float32Array:
    """Return linear light of the scene by code of HLG: the inverse of its OETF."""
    return hlg_to_scene(np.linspace(0, 1, _LEVELS)).astype(np.float32)


@functools.cache
def _sdr_codes() -> UInt8Array:
    """Return codes of SDR by the square root of its linear light."""
    return np.round(255 * np.linspace(0, 1, _LEVELS) ** (2 / _SDR_GAMMA)).astype(np.uint8)


@functools.cache
def _matrix(primaries: int) -> Float32Array:
    """Return the matrix from linear RGB of some primaries to that of BT.709, for row vectors; unknown ones: BT.2020."""
    source = PRIMARIES.get(primaries, PRIMARIES[BT2020])
    return (np.linalg.inv(PRIMARIES[BT709].to_xyz()) @ source.to_xyz()).T.astype(np.float32)


def _number(value: Fraction, unit: Fraction) -> str:
    return f"{float(value):.4f}" if unit == 1 else str(round(value / unit))
