"""Colour distances, in CIE Lab: 2.3 units are just noticeable, black to white is 100.

Shapes: B batch, H and W pixels, P directions, Q quantiles. Pictures are sRGB in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor

from nst_ops.evaluation.sliced_wasserstein import directions, quantiles, sample, squared_distance

_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.95047, 1.0, 1.08883)  # D65, 2 degrees
_NUM_DIRECTIONS = 48  # whole frames of three


def rgb_to_lab(pictures: Tensor) -> Tensor:
    """Convert sRGB in [0, 1] to CIE 1976 L*a*b* of D65 (IEC 61966-2-1, ISO 11664-4): both (B, 3, H, W).

    L is in [0, 100]; a and b are about in [-110, 100].
    """
    rgb = pictures.float()
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4)
    xyz = torch.einsum("kc,bchw->bkhw", rgb.new_tensor(_TO_XYZ), linear)
    xyz = xyz / rgb.new_tensor(_WHITE).view(1, 3, 1, 1)
    f = torch.where(xyz > 0.008856, xyz.clamp_min(0.008856) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = f.unbind(dim=1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def colour_difference(stylized: Tensor, photos: Tensor) -> Tensor:
    """Mean distance of the pixels in Lab, the CIE 1976 colour difference: (B, 3, H, W) twice to (B,)."""
    return (rgb_to_lab(stylized) - rgb_to_lab(photos)).square().sum(dim=1).sqrt().mean(dim=(1, 2))


def colour_quantiles(pictures: Tensor, seed: int = 0) -> Tensor:
    """What ``palette_distance`` needs of a style: (B, 3, H, W) to (B, P, Q) of its Lab colours."""
    colours = sample(rgb_to_lab(pictures), seed)
    return quantiles(colours, directions(3, _NUM_DIRECTIONS, seed, pictures.device))


def palette_distance(pictures: Tensor, style_quantiles: Tensor, seed: int = 0) -> Tensor:
    """Sliced Wasserstein distance between the colours of a picture and of a style, wherever they are.

    ``sqrt(3 SW^2)``, so that a palette shifted by a vector d is |d| away.

    Args:
        pictures: (B, 3, H, W).
        style_quantiles: (P, Q), as of ``colour_quantiles`` with the same ``seed``.
        seed: of the directions.

    Returns:
        (B,), in units of Lab, at least 0.
    """
    return (3 * squared_distance(colour_quantiles(pictures, seed), style_quantiles)).sqrt()
