"""Formulas: distances of stylized images to their sources and to a style.

Shapes: B images, C channels, N points, P random directions, Q quantiles. Images are sRGB (B, 3, H, W) in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nst_ops.losses import channel_statistics, content_loss, gram_loss, gram_matrix, mean_std_loss
from nst_ops.losses.color import luma
from nst_ops.losses.structure import gaussian_blur

_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.95047, 1.0, 1.08883)  # D65, 2 degrees
_NUM_COLOR_DIRECTIONS = 48  # whole frames of three
_NUM_FEATURE_DIRECTIONS = 64


def rgb_to_lab(images: Tensor) -> Tensor:
    """Convert sRGB to CIE 1976 L*a*b* of D65 (IEC 61966-2-1, ISO 11664-4): L in [0, 100], a, b about in [-110, 100]."""
    rgb = images.float()
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4)
    xyz = torch.einsum("kc,bchw->bkhw", rgb.new_tensor(_TO_XYZ), linear)
    xyz = xyz / rgb.new_tensor(_WHITE).view(1, 3, 1, 1)
    f = torch.where(xyz > 0.008856, xyz.clamp_min(0.008856) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = f.unbind(dim=1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def color_difference(stylized: Tensor, sources: Tensor) -> Tensor:
    """Mean distance of the pixels in Lab, the CIE 1976 color difference: (B,)."""
    return (rgb_to_lab(stylized) - rgb_to_lab(sources)).square().sum(dim=1).sqrt().mean(dim=(1, 2))


def color_quantiles(images: Tensor, seed: int = 0) -> Tensor:
    """Quantiles of the Lab colors along random directions: (B, 3, H, W) to (B, P, Q)."""
    return quantiles(sample(rgb_to_lab(images), seed), directions(3, _NUM_COLOR_DIRECTIONS, seed, images.device))


def palette_distance(images: Tensor, style_quantiles: Tensor, seed: int = 0) -> Tensor:
    """Sliced Wasserstein distance between the colors of images and of a style, wherever they are: (B,).

    ``sqrt(3 SW^2)`` in units of Lab, so that a palette shifted by a vector d is |d| away. The style's quantiles (P, Q)
    are those of ``color_quantiles`` with the same ``seed``.
    """
    return (3 * squared_distance(color_quantiles(images, seed), style_quantiles)).sqrt()


SMALLEST = 16  # pixels of a side below which an image has too little structure, and too few VGG positions, to measure

_SSIM_RADIUS, _SSIM_SIGMA = 5, 1.5
_EDGE_SIGMA = 1.0
_EDGE_CONTRAST = 0.05  # least slope of an edge, in luma per pixel: that of a step of about 0.2, blurred as above


def content_error(features: Tensor, target: Tensor) -> Tensor:
    """Relative ``content_loss`` of each image's features (B, C, H, W): (B,); 0 is the source, 1 no features."""
    return torch.stack([content_loss(one[None], wanted[None]) for one, wanted in zip(features, target, strict=True)])


def ssim(stylized: Tensor, sources: Tensor) -> Tensor:
    """Structural similarity of the luma, (B,) in [-1, 1]; 1 is the same image.

    Z. Wang et al., IEEE TIP 2004, with its constants: Gaussian window of 11 x 11 pixels and sigma 1.5, K1 = 0.01,
    K2 = 0.03, range 1; averaged over the positions where the window fits.
    """
    x, y = luma(stylized.double()), luma(sources.double())  # variances are small differences of squares
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    variance_x = _window_mean(x * x) - mean_x.square()
    variance_y = _window_mean(y * y) - mean_y.square()
    covariance = _window_mean(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return (luminance * structure).mean(dim=(1, 2, 3)).float()


def _window_mean(x_b1hw: Tensor) -> Tensor:
    offsets = torch.arange(-_SSIM_RADIUS, _SSIM_RADIUS + 1, device=x_b1hw.device, dtype=x_b1hw.dtype)
    weights = torch.exp(-0.5 * (offsets / _SSIM_SIGMA) ** 2)
    weights = weights / weights.sum()
    return F.conv2d(F.conv2d(x_b1hw, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))


def edges(images: Tensor) -> Tensor:
    """Thin edges of the luma, bool (B, 1, H, W): J. Canny, PAMI 1986, with one threshold instead of two.

    Smoothed, the gradient by Sobel's operator, its local maxima across the edge, and of these the ones steeper than
    0.05 of luma per pixel.
    """
    smooth = F.pad(gaussian_blur(luma(images.float()), _EDGE_SIGMA), (1, 1, 1, 1), mode="replicate")
    across = smooth.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).div(8)[None, None]
    dx, dy = F.conv2d(smooth, across), F.conv2d(smooth, across.transpose(2, 3))
    slope = (dx.square() + dy.square()).sqrt()
    around = F.pad(slope, (1, 1, 1, 1))
    height, width = slope.shape[2:]

    def shifted(down: int, right: int) -> Tensor:
        return around[:, :, 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    # The neighbors along the gradient, which is put into one of four directions of 45 degrees.
    direction = torch.round(torch.atan2(dy, dx) / (torch.pi / 4)).long() % 4
    before = torch.stack([shifted(0, -1), shifted(-1, -1), shifted(-1, 0), shifted(-1, 1)])
    after = torch.stack([shifted(0, 1), shifted(1, 1), shifted(1, 0), shifted(1, -1)])
    before, after = before.gather(0, direction[None])[0], after.gather(0, direction[None])[0]
    return (slope >= before) & (slope > after) & (slope >= _EDGE_CONTRAST)


def edge_f1(stylized: Tensor, sources: Tensor, tolerance_px: int = 1) -> Tensor:
    """Agreement of the edges of stylized images with those of their sources, (B,) in [0, 1].

    Precision is the share of their edge pixels that have one of the source within ``tolerance_px``, recall the share
    of the source's that are found again; F1 is their harmonic mean, after the boundary benchmark of D. Martin et al.,
    PAMI 2004. Two unrelated photographs come to about 0.2, with brush strokes to 0.3. 1 is all edges and no others; it
    is 1 also for two images without edges. A diagonal step counts as one.
    """
    found, wanted = edges(stylized).float(), edges(sources).float()
    window = 2 * tolerance_px + 1
    near_found, near_wanted = (F.max_pool2d(mask, window, 1, tolerance_px) for mask in (found, wanted))
    num_found, num_wanted = found.sum(dim=(1, 2, 3)), wanted.sum(dim=(1, 2, 3))
    precision = (found * near_wanted).sum(dim=(1, 2, 3)) / num_found.clamp_min(1)
    recall = (wanted * near_found).sum(dim=(1, 2, 3)) / num_wanted.clamp_min(1)
    f1 = 2 * precision * recall / (precision + recall).clamp_min(1e-12)
    return torch.where((num_found == 0) & (num_wanted == 0), torch.ones_like(f1), f1)


MAX_POINTS = 16_384  # of a map that ``sample`` keeps


def directions(channels: int, count: int, seed: int = 0, device: torch.device | str = "cpu") -> Tensor:
    """Random unit vectors, fp32 (``count``, ``channels``), the same for the same seed.

    They come in orthonormal frames: with ``count`` a multiple of ``channels`` the mean of ``(d . u)^2`` is exactly
    ``|d|^2 / channels`` for every vector d.
    """
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(math.ceil(count / channels), channels, channels, generator=generator)
    orthonormal: Tensor = torch.linalg.qr(frames.double()).Q.transpose(1, 2)
    return orthonormal.reshape(-1, channels)[:count].float().to(device)


def sample(maps: Tensor, seed: int = 0) -> Tensor:
    """Points of a map, of large maps ``MAX_POINTS`` drawn at random: (B, C, H, W) to (B, N, C)."""
    points = maps.flatten(2).transpose(1, 2)
    if points.shape[1] <= MAX_POINTS:
        return points
    drawn = torch.randperm(points.shape[1], generator=torch.Generator().manual_seed(seed))[:MAX_POINTS]
    return points[:, drawn.to(points.device)]


def quantiles(points: Tensor, directions_pc: Tensor, count: int = 256) -> Tensor:
    """Quantiles of points (B, N, C) along each direction: fp32 (B, P, ``count``), rising.

    They lie at the middles of ``count`` equal shares: with N = ``count`` they are all points.
    """
    ordered: Tensor = (points.float() @ directions_pc.T).transpose(1, 2).sort(dim=2).values
    middles = (torch.arange(count, device=points.device, dtype=torch.float64) + 0.5) / count
    return ordered[:, :, (middles * points.shape[1]).long()]


def pool(quantiles_bpq: Tensor) -> Tensor:
    """Quantiles of B clouds taken as one, each with the same weight: (B, P, Q) to (P, Q)."""
    batch, _, count = quantiles_bpq.shape
    together = quantiles_bpq.permute(1, 0, 2).flatten(1).sort(dim=1).values
    return together.reshape(-1, count, batch)[:, :, batch // 2]


def squared_distance(quantiles_bpq: Tensor, target_pq: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance, averaged over the directions (Heitz et al., eq. 3): (B,).

    Times C it is ``|d|^2`` for a cloud and the same one shifted by d, if the directions are whole frames.
    """
    return (quantiles_bpq - target_pq).square().mean(dim=(1, 2))


class StyleStatistics(NamedTuple):
    """Statistics of a style, or of a set of styles, at one tap."""

    gram: Tensor  # (1, C, C)
    mean: Tensor  # (1, C)
    std: Tensor  # (1, C)
    quantiles: Tensor  # (P, Q), along random directions, of the features at all positions


def style_statistics(features: Tensor, seed: int = 0) -> StyleStatistics:
    """Measure a style image by its features (1, C, H, W)."""
    mean, std = channel_statistics(features)
    return StyleStatistics(gram_matrix(features), mean, std, feature_quantiles(features, seed)[0])


def average(statistics: Sequence[StyleStatistics]) -> StyleStatistics:
    """Statistics of a set: mean Gram matrix, mean of means and deviations, all features as one cloud."""
    gram, mean, std, quantiles_bpq = map(torch.stack, zip(*statistics, strict=True))
    return StyleStatistics(gram.mean(dim=0), mean.mean(dim=0), std.mean(dim=0), pool(quantiles_bpq))


def gram_error(features: Tensor, style: StyleStatistics) -> Tensor:
    """Relative Gram error of each image, by ``losses.gram_loss``: (B, C, H, W) to (B,)."""
    return torch.stack([gram_loss(one[None], style.gram) for one in features])


def mean_std_error(features: Tensor, style: StyleStatistics) -> Tensor:
    """Relative error of channel means and deviations, by ``losses.mean_std_loss``: (B, C, H, W) to (B,)."""
    return torch.stack([mean_std_loss(one[None], style.mean, style.std) for one in features])


def sliced_wasserstein(features: Tensor, style: StyleStatistics, seed: int = 0) -> Tensor:
    """Squared sliced 2-Wasserstein distance of the features over the mean square of the style's: (B,).

    E. Heitz et al., CVPR 2021 (eq. 3), with quantiles for different numbers of positions. It sees the whole
    distribution of the features where a Gram matrix sees its second moments. ``style`` is of the same ``seed``.
    """
    distance = squared_distance(feature_quantiles(features, seed), style.quantiles)
    return distance / style.quantiles.square().mean().clamp_min(1e-12)


def feature_quantiles(features: Tensor, seed: int = 0) -> Tensor:
    """Quantiles of the features along random directions: (B, C, H, W) to (B, P, Q)."""
    along = directions(features.shape[1], _NUM_FEATURE_DIRECTIONS, seed, features.device)
    return quantiles(sample(features, seed), along)
