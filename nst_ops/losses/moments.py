"""Style by moments: means and covariances of features, and the distribution of colors.

Unlike in a Gram matrix the mean of a channel cannot drown its texture. Shapes: B batch, C channels, H and W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_RANDOM_DIRECTIONS, _QUANTILES = 16, 1024


def moments(features: Tensor, border: int = 0) -> tuple[Tensor, Tensor]:
    """Return the mean, (B, C), and the covariance, (B, C, C), of features (B, C, H, W) over positions, in fp32.

    ``border`` positions at each side are left out: padding with zeros shows there.
    """
    _, _, height, width = features.shape
    inner = features[:, :, border : height - border, border : width - border]
    f_bnc = inner.permute(0, 2, 3, 1).flatten(1, 2)
    mean = f_bnc.float().mean(1)
    # Divided before they are multiplied: the sums over an image leave the range of fp16.
    centered = (f_bnc - mean[:, None].to(f_bnc.dtype)) * f_bnc.shape[1] ** -0.5
    with torch.autocast(features.device.type, enabled=False):
        return mean, (centered.transpose(1, 2) @ centered).float()


def relative_error(found: Tensor, target: Tensor) -> Tensor:
    """Return the squared error of each image as a share of the energy of its target: (B,) in fp32."""
    squares, energy = (x.float().square().flatten(1).sum(1) for x in (found - target, target))
    return squares / energy.clamp_min(1e-12)


def palette(images: Tensor) -> Tensor:
    """Return the quantiles of the colors of (B, 3, H, W) in [0, 1], at half size, along directions: (B, 19, 1024).

    The directions are the three channels and 16 drawn once.
    """
    drawn = torch.randn(_RANDOM_DIRECTIONS, 3, generator=torch.Generator().manual_seed(0))
    directions = torch.cat([torch.eye(3), F.normalize(drawn, dim=1)]).to(images.device)
    with torch.autocast(images.device.type, enabled=False):
        along = directions @ F.avg_pool2d(images.float(), 2).flatten(2)
    return F.interpolate(along.sort(dim=2).values, size=_QUANTILES, mode="linear", align_corners=True)


def palette_loss(images: Tensor, target: Tensor) -> Tensor:
    """Sliced Wasserstein distance of the colors from ``target``, of ``palette``, as a share of its variance: (B,).

    N. Bonneel et al., "Sliced and Radon Wasserstein Barycenters of Measures", JMIV 2015.
    """
    spread = (target - target.mean(2, keepdim=True)).square().mean((1, 2)).clamp_min(1e-6)
    return (palette(images) - target).square().mean((1, 2)) / spread
