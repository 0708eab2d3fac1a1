"""Content and structure: is the stylized picture still the photograph?

Shapes: B batch, C channels, H and W pixels. Pictures are RGB in [0, 1].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nst_ops.losses import content_loss
from nst_ops.losses.colour import luma
from nst_ops.losses.structure import gaussian_blur

SMALLEST = 16
"""Pixels of a side below which a picture has too little structure, and too few VGG positions, to judge."""

_SSIM_RADIUS, _SSIM_SIGMA = 5, 1.5
_EDGE_SIGMA = 1.0
_EDGE_CONTRAST = 0.05
"""Least slope of an edge, in luma per pixel: that of a step of about 0.2, blurred as above."""


def content_error(features: Tensor, target: Tensor) -> Tensor:
    """Relative content distance of each picture, as of ``losses.content_loss``.

    Args:
        features: (B, C, H, W) of the stylized pictures.
        target: (B, C, H, W) of the photographs.

    Returns:
        (B,), at least 0: 0 is the photograph, 1 an empty picture.
    """
    pairs = zip(features, target, strict=True)
    return torch.stack([content_loss(one[None], wanted[None]) for one, wanted in pairs])


def ssim(stylized: Tensor, photos: Tensor) -> Tensor:
    """Structural similarity of the luma: Z. Wang et al., IEEE TIP 2004, with its constants.

    Gaussian window of 11 x 11 pixels and sigma 1.5, K1 = 0.01, K2 = 0.03, range 1; averaged
    over the positions where the window fits.

    Args:
        stylized: (B, 3, H, W), H and W at least 11.
        photos: (B, 3, H, W).

    Returns:
        (B,) in [-1, 1]; 1 is the same picture.
    """
    x, y = luma(stylized.double()), luma(photos.double())  # variances are small differences of squares
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    variance_x = _window_mean(x * x) - mean_x.square()
    variance_y = _window_mean(y * y) - mean_y.square()
    covariance = _window_mean(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    of_light = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    of_structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return (of_light * of_structure).mean(dim=(1, 2, 3)).float()


def _window_mean(x_b1hw: Tensor) -> Tensor:
    offsets = torch.arange(-_SSIM_RADIUS, _SSIM_RADIUS + 1, device=x_b1hw.device, dtype=x_b1hw.dtype)
    weights = torch.exp(-0.5 * (offsets / _SSIM_SIGMA) ** 2)
    weights = weights / weights.sum()
    return F.conv2d(F.conv2d(x_b1hw, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))


def edges(pictures: Tensor) -> Tensor:
    """Thin edges of the luma: J. Canny, PAMI 1986, with one threshold instead of two.

    Smoothed, the gradient by Sobel's operator, its local maxima across the edge, and of these
    the ones steeper than 0.05 of luma per pixel.

    Args:
        pictures: (B, 3, H, W).

    Returns:
        bool (B, 1, H, W).
    """
    smooth = F.pad(gaussian_blur(luma(pictures.float()), _EDGE_SIGMA), (1, 1, 1, 1), mode="replicate")
    across = smooth.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).div(8)[None, None]
    dx, dy = F.conv2d(smooth, across), F.conv2d(smooth, across.transpose(2, 3))
    slope = (dx.square() + dy.square()).sqrt()
    around = F.pad(slope, (1, 1, 1, 1))
    height, width = slope.shape[2:]

    def shifted(down: int, right: int) -> Tensor:
        return around[:, :, 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    # The neighbours along the gradient, which is put into one of four directions of 45 degrees.
    direction = torch.round(torch.atan2(dy, dx) / (torch.pi / 4)).long() % 4
    before = torch.stack([shifted(0, -1), shifted(-1, -1), shifted(-1, 0), shifted(-1, 1)])
    after = torch.stack([shifted(0, 1), shifted(1, 1), shifted(1, 0), shifted(1, -1)])
    before, after = before.gather(0, direction[None])[0], after.gather(0, direction[None])[0]
    return (slope >= before) & (slope > after) & (slope >= _EDGE_CONTRAST)


def edge_f1(stylized: Tensor, photos: Tensor, tolerance_px: int = 1) -> Tensor:
    """How well the edges of the stylized pictures are those of the photographs.

    Precision is the share of their edge pixels that have one of the photograph within
    ``tolerance_px``, recall the share of the photograph's that are found again; F1 is their
    harmonic mean, after the boundary benchmark of D. Martin et al., PAMI 2004. Two photographs
    that have nothing to do with each other come to about 0.2, with brush strokes to 0.3.

    Args:
        stylized: (B, 3, H, W).
        photos: (B, 3, H, W).
        tolerance_px: across and down; diagonals count as one.

    Returns:
        (B,) in [0, 1]; 1 is all edges and no others. Of two pictures without edges it is 1.
    """
    found, wanted = edges(stylized).float(), edges(photos).float()
    window = 2 * tolerance_px + 1
    near_found, near_wanted = (F.max_pool2d(mask, window, 1, tolerance_px) for mask in (found, wanted))
    num_found, num_wanted = found.sum(dim=(1, 2, 3)), wanted.sum(dim=(1, 2, 3))
    precision = (found * near_wanted).sum(dim=(1, 2, 3)) / num_found.clamp_min(1)
    recall = (wanted * near_found).sum(dim=(1, 2, 3)) / num_wanted.clamp_min(1)
    f1 = 2 * precision * recall / (precision + recall).clamp_min(1e-12)
    return torch.where((num_found == 0) & (num_wanted == 0), torch.ones_like(f1), f1)
