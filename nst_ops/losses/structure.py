"""Filters that keep structure: flatten shading, draw lines, enlarge eyes; together the cel-shaded drawing.

Images are RGB in [0, 1], (B, 3, H, W); results are in fp32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nst_ops.config.losses import CelConfig
from nst_ops.losses.color import brighten, luma

CELEBA_EYES = ((0.39, 0.514), (0.61, 0.514))
"""Places of the eyes in aligned CelebA faces (178 x 218 and its reductions): across and down, as shares."""


def guided_filter(images: Tensor, radius: int = 3, eps: float = 0.02) -> Tensor:
    """Smooth images except at edges: the self-guided filter of K. He et al., TPAMI 2013.

    The luma is the guide of all channels; variances of it below ``eps`` count as texture. It stands for the surface of
    X. Wang, J. Yu, "Learning to Cartoonize Using White-box Cartoon Representations", CVPR 2020. The window reaches
    ``radius`` pixels to each side; H and W must be above that.
    """
    images = images.float()
    guide = luma(images)
    mean_guide, mean = _box(guide, radius), _box(images, radius)
    covariance = _box(guide * images, radius) - mean_guide * mean
    variance = _box(guide * guide, radius) - mean_guide * mean_guide
    slope = covariance / (variance + eps)
    offset = mean - slope * mean_guide
    return _box(slope, radius) * guide + _box(offset, radius)


def ink_lines(images: Tensor, sigma: float = 0.7, sharpness: float = 15.0, threshold: float = 0.02) -> Tensor:
    """Draw lines along the dark side of edges, by a difference of Gaussians: (B, 1, H, W), 1 is full ink.

    After H. Winnemöller et al., "XDoG: An eXtended difference-of-Gaussians compendium", Computers & Graphics 2012 (k =
    1.6), with the soft threshold written as a tanh ramp.

    Args:
        images: RGB.
        sigma: deviation of the finer Gaussian in pixels: about half the width of a line.
        sharpness: slope of the ramp, per unit of luma.
        threshold: differences of luma below it leave no ink.
    """
    y = luma(images.float())
    darker = gaussian_blur(y, 1.6 * sigma) - gaussian_blur(y, sigma)
    return torch.tanh(sharpness * (darker - threshold).clamp_min(0))


@torch.no_grad()
def cel_shaded(images: Tensor, config: CelConfig) -> Tensor:
    """Draw images by filters: flattened, brightened, inked, with larger eyes if asked; a target for a loss.

    Flat surfaces and lines are those of X. Wang, J. Yu, CVPR 2020, by the means of H. Winnemöller et al., "Real-Time
    Video Abstraction", SIGGRAPH 2006: a smoothing that keeps edges, soft steps of luma, lines. It is a filtered image
    and no drawing: a network that learns it learns the medium and keeps the face in place; an adversarial loss adds
    what lies beyond filters. H and W must be at least 16; images whole and aligned if eyes are to be enlarged.
    """
    images, detail = images.float(), None
    if config.eyes > 1:
        images, detail = enlarge_eyes(images, zoom=config.eyes)
    flat = images
    for _ in range(3):
        flat = guided_filter(flat, radius=2, eps=0.006)
    colors = config.saturation, config.gamma, config.contrast
    flat = brighten(flat.clamp(0, 1), *colors)
    if config.levels:
        flat = soft_steps(flat, config.levels)
    if detail is not None:
        bright = brighten(images, *colors)
        # darker than around counts most: a bright rim would be a mask about the eyes
        sharp = (bright + (bright - gaussian_blur(bright, 3.0)).clamp(max=0.05)).clamp(0, 1)
        flat = torch.lerp(flat, sharp, detail)
    return flat * (1 - config.ink * ink_lines(images, 0.7, 25.0, 0.015))


def soft_steps(images: Tensor, levels: int, slope: float = 6.0) -> Tensor:
    """Draw the luma of images to ``levels`` steps: H. Winnemöller et al., SIGGRAPH 2006 (eq. 5).

    Steps are ``1 / levels`` high; ``slope`` is that of the ramps between them, more is harder. The chroma is unchanged
    where colors allow it.
    """
    images = images.float()
    y = luma(images)
    nearest = (y * levels).round() / levels
    half = math.tanh(slope / 2)  # so that the ramps meet
    stepped = nearest + torch.tanh(slope * levels * (y - nearest)) / (2 * levels * half)
    return (images + stepped - y).clamp(0, 1)


def enlarge_eyes(
    faces: Tensor, eyes: Sequence[tuple[float, float]] = CELEBA_EYES, zoom: float = 1.7
) -> tuple[Tensor, Tensor]:
    """Enlarge the eyes of aligned faces, which no loss of style brings about.

    Around each eye the image is magnified, most in its middle and fading to none at 13 % of the width and 15 % of the
    height, so that all else stays in place.

    Args:
        faces: images, all aligned alike: the eyes lie at the same place.
        eyes: across and down, as shares of the sides.
        zoom: magnification in the middle, at least 1; up to 2 nothing is folded over.

    Returns:
        Faces and a mask (1, 1, H, W) in [0, 1]: 1 at the eyes.
    """
    height, width = faces.shape[-2:]
    down = (torch.arange(height, device=faces.device) + 0.5) / height
    across = (torch.arange(width, device=faces.device) + 0.5) / width
    down, across = torch.meshgrid(down, across, indexing="ij")
    source_down, source_across = down.clone(), across.clone()
    mask = torch.zeros_like(down)
    for eye_across, eye_down in eyes:
        offset_across, offset_down = across - eye_across, down - eye_down
        distance = ((offset_across / 0.13) ** 2 + (offset_down / 0.15) ** 2).clamp(max=1)
        pull = (1 - 1 / zoom) * (1 - distance).square()
        source_across = source_across - pull * offset_across
        source_down = source_down - pull * offset_down
        mask = torch.maximum(mask, ((1 - distance) * 2.5 - 0.75).clamp(0, 1))
    grid = torch.stack([2 * source_across - 1, 2 * source_down - 1], dim=-1)
    with torch.autocast(faces.device.type, enabled=False):
        larger = F.grid_sample(
            faces.float(), grid.expand(len(faces), -1, -1, -1), "bicubic", "reflection", align_corners=False
        )
    return larger.clamp(0, 1), mask[None, None]


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Blur (B, C, H, W) by a Gaussian of ``sigma`` pixels, mirrored at the border; in fp32."""
    radius = max(1, round(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=torch.float32)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights = weights / weights.sum()
    batch, channels, height, width = images.shape
    with torch.autocast(images.device.type, enabled=False):
        flat = images.float().reshape(batch * channels, 1, height, width)
        flat = F.pad(flat, (radius,) * 4, mode="reflect")
        flat = F.conv2d(F.conv2d(flat, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
    return flat.reshape(batch, channels, height, width)


def _box(images: Tensor, radius: int) -> Tensor:
    return F.avg_pool2d(F.pad(images, (radius,) * 4, mode="reflect"), 2 * radius + 1, stride=1)
