"""Colors of an image to sRGB: by its ICC profile, or by what else its file says of them.

What is no ICC profile but says the same (EXIF's Adobe RGB, gAMA and cHRM of PNG, the code points of ITU-T H.273 in PNG,
HEIF and AVIF) is made into one, so that Little CMS does every conversion.
"""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageCms

from nst_ops.media.transfer import (
    ADOBE_RGB,
    BT709,
    HLG_GAMMA,
    PEAK_NITS,
    PRIMARIES,
    WHITE_NITS,
    Floats,
    Primaries,
    hlg_to_scene,
    pq_to_nits,
)

_SRGB = ImageCms.createProfile("sRGB")
_SAME = 2
"""Levels of 255 by which a profile may differ from sRGB and count as sRGB."""
_BASE_MODES = {"RGBA": "RGB", "LA": "L"}
_MODELS = {"RGB": "RGB ", "L": "GRAY", "I;16": "GRAY", "CMYK": "CMYK", "LAB": "Lab "}

_ADOBE_GAMMA = 563 / 256


def _srgb(code: Floats) -> Floats:
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


def _pq(code: Floats) -> Floats:
    """Return light over reference white, pressed into [0, 1]."""
    return _press(pq_to_nits(code) / WHITE_NITS)


def _hlg(code: Floats) -> Floats:
    """Return light over reference white, each channel by itself, pressed into [0, 1]."""
    return _press(PEAK_NITS / WHITE_NITS * hlg_to_scene(code) ** HLG_GAMMA)


def _press(light: Floats) -> Floats:
    """Keep light up to half of reference white, and press what is brighter smoothly into the rest of [0, 1]."""
    return np.where(light <= 0.5, light, 1 - 0.5 * np.exp(-(light - 0.5) / 0.5))


_CURVES: dict[int, Callable[[Floats], Floats]] = {
    # code point of ITU-T H.273; stills with the curves of BT.709 and BT.601 are shown as sRGB, as browsers do
    **dict.fromkeys((1, 6, 13, 14, 15), _srgb),
    4: lambda code: code**2.2,
    5: lambda code: code**2.8,
    8: lambda code: code,
    16: _pq,
    18: _hlg,
}


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert an image to sRGB; one without a profile, or with one that is broken or of another color model, stays.

    Of a grayscale image with a profile of RGB the gray is taken for R = G = B.
    """
    if not profile:
        return image
    mode = _BASE_MODES.get(image.mode, image.mode)
    transform = _transform(profile, mode)
    if transform is None and mode == "L" and (transform := _transform(profile, "RGB")):
        mode = "RGB"
    if transform is None:
        return image
    opaque = image if image.mode == mode else image.convert(mode)
    converted = ImageCms.applyTransform(opaque, transform)
    assert converted is not None
    if image.mode in _BASE_MODES:
        converted.putalpha(image.getchannel("A"))
    return converted


@functools.lru_cache(64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Build the conversion of a mode; None where the profile is broken, of another color model, or sRGB."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if opened.profile.xcolor_space != _MODELS.get(mode):
            return None
        # Of a gray ramp Little CMS would else compute few points: ten levels off in the dark of a linear one.
        flags = ImageCms.Flags.NOOPTIMIZE if _MODELS[mode] == "GRAY" else ImageCms.Flags.NONE
        transform = ImageCms.buildTransform(opened, _SRGB, mode, "RGB", flags=flags)
        if mode not in ("RGB", "L"):
            return transform
        ramp = np.linspace(0, 255, 9).astype(np.uint8)
        colors = np.stack(np.meshgrid(ramp, ramp, ramp), axis=-1).reshape(27, 27, 3)
        shown = Image.fromarray(colors) if mode == "RGB" else Image.fromarray(np.arange(256, dtype=np.uint8)[None])
        converted = np.asarray(ImageCms.applyTransform(shown, transform), int)
    except Exception:  # Little CMS and Pillow raise all kinds; a broken profile is not worth a lost image
        return None
    return None if np.abs(converted - np.asarray(shown.convert("RGB"), int)).max() <= _SAME else transform


@functools.cache
def adobe_rgb() -> bytes:
    """Return a profile of Adobe RGB (1998)."""
    return _matrix_profile(ADOBE_RGB, lambda code: code**_ADOBE_GAMMA)


@functools.cache
def of_code_points(primaries: int, transfer: int) -> bytes | None:
    """Return the profile of code points of ITU-T H.273; None for those that say nothing, and for unknown ones."""
    if primaries not in PRIMARIES or transfer not in _CURVES:
        return None
    return _matrix_profile(PRIMARIES[primaries], _CURVES[transfer])


@functools.lru_cache(64)
def of_gamma(gamma: float, chromaticities: tuple[float, ...] | None) -> bytes | None:
    """Return the profile of a PNG's gAMA and cHRM (white, red, green, blue); None where they make no sense."""
    if not 0.05 <= gamma <= 5:
        return None
    primaries = PRIMARIES[BT709]
    if chromaticities and len(chromaticities) == 8:
        x, y = chromaticities[::2], chromaticities[1::2]
        primaries = Primaries(*zip(x, y, strict=True))
    is_usual = abs(gamma * 2.2 - 1) < 0.05  # 1/2.2 stands for sRGB, as libpng has it
    try:
        return _matrix_profile(primaries, _srgb if is_usual else lambda code: code ** (1 / gamma))
    except (ArithmeticError, np.linalg.LinAlgError, struct.error):
        return None


def _matrix_profile(primaries: Primaries, curve: Callable[[Floats], Floats]) -> bytes:
    """Write an ICC profile, version 2, of primaries and one curve from code to light, both in [0, 1]."""
    table = np.round(curve(np.linspace(0, 1, 4081)).clip(0, 1) * 65535).astype(">u2")  # a node for each of 255 levels
    texts = b"desc" + struct.pack(">4xI", 1) + bytes(80)
    xyz = [b"XYZ " + struct.pack(">4x3i", *np.round(column * 65536).astype(int)) for column in _columns(primaries)]
    trc = b"curv" + struct.pack(">4xI", len(table)) + table.tobytes() + b"\0\0"
    names = [b"desc", b"wtpt", b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC"]
    contents = [texts, *xyz, trc]
    starts = np.cumsum([128 + 4 + 12 * len(names), *map(len, contents)])
    entries = [(starts[min(index, 5)], len(contents[min(index, 5)])) for index in range(len(names))]
    tags = b"".join(struct.pack(">4sII", name, *entry) for name, entry in zip(names, entries, strict=True))
    header = struct.pack(">I4xI4s4s4s12x4s28x3i48x", starts[-1], 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"acsp", *_D50)
    return header + struct.pack(">I", len(names)) + tags + b"".join(contents)


_D50 = (63190, 65536, 54061)  # XYZ * 65536


def _columns(primaries: Primaries) -> list[Floats]:
    """Return XYZ of white and of the three primaries, under the white of ICC (D50) by Bradford's adaptation."""
    matrix = primaries.to_xyz()
    white = matrix.sum(axis=1)
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    d50 = np.array(_D50) / 65536
    adapt = np.linalg.solve(bradford, np.diag(bradford @ d50 / (bradford @ white)) @ bradford)
    return [d50, *(adapt @ matrix).T]
