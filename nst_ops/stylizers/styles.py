"""Style pictures, for the stylizers that take their style from an example."""

from __future__ import annotations

from dataclasses import dataclass

from nst_ops.media.images import UInt8Array


@dataclass(frozen=True, eq=False)
class Style:
    """A style picture.

    Attributes:
        name: unique among the styles of a run; part of output paths where there are several.
        pixels_hwc: uint8 sRGB (H, W, 3), at the size whose statistics count.
    """

    name: str
    pixels_hwc: UInt8Array
