"""Structure: keep the face, flatten its shading, draw its lines.

Shapes: B batch, C channels, H and W pixels.
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
"""Where the eyes of aligned CelebA faces lie (178 x 218 and its reductions): across and down, as shares."""


def feature_l1(features: Tensor, target: Tensor) -> Tensor:
    """Absolute error of features as a share of those of ``target``.

    The content term of Y. Chen et al., "CartoonGAN", CVPR 2018: L1, since cel shading leaves
    most features nearly alone and changes a few by much. 0 is the photograph, 1 an empty picture.

    Args:
        features: (B, C, H, W) of the stylized picture, any float type.
        target: (B, C, H, W) of the photograph; no gradient is taken through it.

    Returns:
        A scalar in fp32, at least 0.
    """
    features, target = features.float(), target.detach().float()
    return (features - target).abs().mean() / target.abs().mean().clamp_min(1e-6)


def guided_filter(pictures: Tensor, radius: int = 3, eps: float = 0.02) -> Tensor:
    """Pictures without texture and with their edges: the self-guided filter of K. He et al., TPAMI 2013.

    The luma is the guide of all channels. It stands for the surface of X. Wang, J. Yu,
    "Learning to Cartoonize Using White-box Cartoon Representations", CVPR 2020.

    Args:
        pictures: (B, 3, H, W) in [0, 1]; H and W above ``radius``.
        radius: half the window's side in pixels.
        eps: variances of luma below it count as texture.

    Returns:
        (B, 3, H, W) in fp32.
    """
    pictures = pictures.float()
    guide = luma(pictures)
    mean_guide, mean = _box(guide, radius), _box(pictures, radius)
    covariance = _box(guide * pictures, radius) - mean_guide * mean
    variance = _box(guide * guide, radius) - mean_guide * mean_guide
    slope = covariance / (variance + eps)
    offset = mean - slope * mean_guide
    return _box(slope, radius) * guide + _box(offset, radius)


def ink_lines(
    pictures: Tensor, sigma: float = 0.7, sharpness: float = 15.0, threshold: float = 0.02
) -> Tensor:
    """Where a pen would draw: the dark side of edges, by a difference of Gaussians.

    After H. Winnemöller et al., "XDoG: An eXtended difference-of-Gaussians compendium",
    Computers & Graphics 2012 (k = 1.6), with the soft threshold written as a tanh ramp.

    Args:
        pictures: (B, 3, H, W) in [0, 1].
        sigma: of the finer Gaussian, in pixels: about half the width of a line.
        sharpness: slope of the ramp, per unit of luma.
        threshold: differences of luma below it leave no ink.

    Returns:
        (B, 1, H, W) in [0, 1], fp32: 1 is full ink.
    """
    y = luma(pictures.float())
    darker = gaussian_blur(y, 1.6 * sigma) - gaussian_blur(y, sigma)
    return torch.tanh(sharpness * (darker - threshold).clamp_min(0))


def cel_target(
    photos: Tensor,
    saturation: float = 1.4,
    gamma: float = 0.6,
    contrast: float = 0.8,
    ink: float = 0.9,
    levels: int = 4,
    detail: Tensor | None = None,
) -> Tensor:
    """Photographs flattened, brightened and inked by plain filters: a target for ``color_loss``.

    It has the flat surfaces and lines of X. Wang, J. Yu, CVPR 2020, by the means of
    H. Winnemöller et al., "Real-Time Video Abstraction", SIGGRAPH 2006: a smoothing that keeps
    edges, soft steps of luma, lines. It is a filtered photograph and no drawing: a network
    pulled towards it keeps the face in place while an adversary draws.

    Args:
        photos: (B, 3, H, W) in [0, 1]; H and W at least 16.
        saturation: as of ``brighten``, like ``gamma`` and ``contrast``.
        gamma: below 1 lightens.
        contrast: share of the S-curve.
        ink: darkness of the lines in [0, 1]; 0 draws none.
        levels: steps of luma; 0 leaves them out.
        detail: (B, 1, H, W) in [0, 1], where to sharpen and not to flatten: 1 at the eyes.

    Returns:
        (B, 3, H, W) in [0, 1], fp32.
    """
    photos = photos.float()
    flat = photos
    for _ in range(3):
        flat = guided_filter(flat, radius=2, eps=0.006)
    flat = brighten(flat.clamp(0, 1), saturation, gamma, contrast)
    if levels:
        flat = soft_steps(flat, levels)
    if detail is not None:
        bright = brighten(photos, saturation, gamma, contrast)
        # darker than around counts most: a bright rim would be a mask about the eyes
        sharp = (bright + (bright - gaussian_blur(bright, 3.0)).clamp(max=0.05)).clamp(0, 1)
        flat = torch.lerp(flat, sharp, detail.float())
    return flat * (1 - ink * ink_lines(photos, 0.7, 25.0, 0.015))


def soft_steps(pictures: Tensor, levels: int, slope: float = 6.0) -> Tensor:
    """Pictures with their luma drawn to ``levels`` steps: H. Winnemöller et al., SIGGRAPH 2006 (eq. 5).

    Args:
        pictures: (B, 3, H, W) in [0, 1].
        levels: how many steps, above 0, each ``1 / levels`` high.
        slope: of the ramps between them; more is harder.

    Returns:
        (B, 3, H, W) in [0, 1], fp32; the chroma is unchanged where colors allow it.
    """
    pictures = pictures.float()
    y = luma(pictures)
    nearest = (y * levels).round() / levels
    half = math.tanh(slope / 2)  # so that the ramps meet
    stepped = nearest + torch.tanh(slope * levels * (y - nearest)) / (2 * levels * half)
    return (pictures + stepped - y).clamp(0, 1)


def enlarge_eyes(
    faces: Tensor, eyes: Sequence[tuple[float, float]] = CELEBA_EYES, zoom: float = 1.7
) -> tuple[Tensor, Tensor]:
    """Aligned faces with larger eyes, which no loss of style brings about.

    Around each eye the picture is magnified, most in its middle and fading to none at 13 % of
    the width and 15 % of the height, so that all else stays in place.

    Args:
        faces: (B, 3, H, W) in [0, 1], all aligned alike: the eyes lie at the same place.
        eyes: across and down, as shares of the sides.
        zoom: magnification in the middle, at least 1; up to 2 nothing is folded over.

    Returns:
        (B, 3, H, W) faces in [0, 1] and (1, 1, H, W) in [0, 1], fp32: 1 at the eyes, for
        ``detail`` of ``cel_target``.
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


def gaussian_blur(pictures: Tensor, sigma: float) -> Tensor:
    """(B, C, H, W) after a Gaussian of ``sigma`` pixels, mirrored at the border; in fp32."""
    radius = max(1, round(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, device=pictures.device, dtype=torch.float32)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return _separable(pictures.float(), weights / weights.sum())


def _box(pictures: Tensor, radius: int) -> Tensor:
    padded = F.pad(pictures, (radius,) * 4, mode="reflect")
    return F.avg_pool2d(padded, 2 * radius + 1, stride=1)


def _separable(pictures: Tensor, kernel: Tensor) -> Tensor:
    """Convolve every channel down and across with ``kernel`` (K,), K odd."""
    batch, channels, height, width = pictures.shape
    pad = len(kernel) // 2
    with torch.autocast(pictures.device.type, enabled=False):
        flat = pictures.reshape(batch * channels, 1, height, width)
        flat = F.pad(flat, (pad,) * 4, mode="reflect")
        flat = F.conv2d(F.conv2d(flat, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
    return flat.reshape(batch, channels, height, width)


@torch.no_grad()
def cel_shaded(photos: Tensor, config: CelConfig) -> Tensor:
    """The drawing that ``config`` asks for, after ``cel_target`` and ``enlarge_eyes``.

    A network that learns it learns the medium; what lies beyond filters is left to an adversary.

    Args:
        photos: RGB in [0, 1], (B, 3, H, W), whole and aligned if eyes are to be enlarged.
        config: how bright, how flat, how dark the lines, how large the eyes.

    Returns:
        RGB in [0, 1], (B, 3, H, W), fp32.
    """
    detail = None
    if config.eyes > 1:
        photos, detail = enlarge_eyes(photos, zoom=config.eyes)
    return cel_target(
        photos, config.saturation, config.gamma, config.contrast, config.ink, config.levels, detail
    )
