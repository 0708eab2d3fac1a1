"""Color: BT.601, the color loss, and brighter colors as its target.

Shapes: B batch, H and W pixels. Y is luma in [0, 1]; U and V are chroma in [-0.5, 0.5].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)
_U_SCALE = 0.5 / (1 - _LUMA[2])
_V_SCALE = 0.5 / (1 - _LUMA[0])


def luma(rgb: Tensor) -> Tensor:
    """Convert (B, 3, H, W) RGB to (B, 1, H, W), both in [0, 1], with the weights of BT.601."""
    red, green, blue = rgb.split(1, dim=1)
    y: Tensor = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
    return y


def rgb_to_yuv(rgb: Tensor) -> Tensor:
    """Convert (B, 3, H, W) RGB in [0, 1] to Y in [0, 1], U and V in [-0.5, 0.5], as BT.601 has them."""
    y = luma(rgb)
    return torch.cat([y, (rgb[:, 2:] - y) * _U_SCALE, (rgb[:, :1] - y) * _V_SCALE], dim=1)


def yuv_to_rgb(yuv: Tensor) -> Tensor:
    """Invert ``rgb_to_yuv``; not clamped."""
    y, u, v = yuv.split(1, dim=1)
    red, blue = y + v / _V_SCALE, y + u / _U_SCALE
    green = (y - _LUMA[0] * red - _LUMA[2] * blue) / _LUMA[1]
    return torch.cat([red, green, blue], dim=1)


def color_loss(stylized: Tensor, target: Tensor, huber_delta: float = 0.02) -> Tensor:
    """L1 of luma plus Huber of chroma: the color term of J. Chen et al., "AnimeGAN", ISICA 2019; in fp32.

    The Huber part is divided by its delta, so that both parts count gray levels.

    Args:
        stylized: (B, 3, H, W) in [0, 1], any float type.
        target: the content image or an image of the colors it should get; no gradient is taken through it.
        huber_delta: chroma errors above it count linearly, smaller ones squared. Much above the default a color cast
            over the whole image costs next to nothing.
    """
    got, wanted = rgb_to_yuv(stylized.float()), rgb_to_yuv(target.detach().float())
    of_chroma = F.huber_loss(got[:, 1:], wanted[:, 1:], delta=huber_delta) / huber_delta
    return (got[:, :1] - wanted[:, :1]).abs().mean() + 2 * of_chroma


def brighten(rgb: Tensor, saturation: float = 1.4, gamma: float = 0.85, contrast: float = 0.0) -> Tensor:
    """Give images, (B, 3, H, W) in [0, 1], the lighter and stronger colors of cel paint; in fp32.

    Luma goes through ``y ** gamma`` (below 1 lightens skin and shadows; black and white stay), then a share
    ``contrast`` in [0, 1] of the S-curve ``y^2 (3 - 2 y)``; chroma is multiplied by ``saturation``.
    """
    yuv = rgb_to_yuv(rgb.float())
    y = yuv[:, :1].clamp(0, 1) ** gamma
    y = torch.lerp(y, y * y * (3 - 2 * y), contrast)
    return yuv_to_rgb(torch.cat([y, yuv[:, 1:] * saturation], dim=1)).clamp(0, 1)
