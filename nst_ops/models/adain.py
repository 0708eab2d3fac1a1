"""Adaptive instance normalization: give features the channel statistics of others.

X. Huang, S. Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization", ICCV 2017.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Statistics = list[tuple[Tensor, Tensor]]
"""Mean and deviation of each channel, each (B, C) in fp32, one pair per feature level."""

# Added to a variance below its root, as in instance normalization: a flat channel has a finite gradient.
_EPS = 1e-5


def channel_statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel over positions (eqs. 5 and 6), each (B, C) in fp32.

    ``std = sqrt(var + 1e-5)`` with the variance over H * W, so at least 0.003.
    """
    variance, mean = torch.var_mean(features.float(), dim=(2, 3), correction=0)
    return mean, (variance + _EPS).sqrt()


def adain(content_bchw: Tensor, style_mean_bc: Tensor, style_std_bc: Tensor, alpha: float = 1.0) -> Tensor:
    """Give content features, (B, C, H, W), the statistics of the style (eq. 8), blended with themselves (eq. 14).

    Computed in fp32, returned in the content's type. The style's are (B, C) or (1, C); ``alpha`` 0 returns the content
    features.
    """
    mean, std = (value[:, :, None, None] for value in channel_statistics(content_bchw))
    style_mean, style_std = (value.float()[:, :, None, None] for value in (style_mean_bc, style_std_bc))
    stylized = (content_bchw.float() - mean) / std * style_std + style_mean
    return torch.lerp(content_bchw.float(), stylized, alpha).to(content_bchw.dtype)


def interpolate_styles(statistics: Statistics, weights: Sequence[float]) -> Statistics:
    """Blend the statistics of K styles, each (K, C), into those of one, (1, C), by K shares with the sum 1 (eq. 15).

    AdaIN is linear in the statistics, so that features made with these are the weighted sum of the features made with
    each style. Raises ValueError where there are not K weights, or their sum is not 1.
    """
    styles = len(statistics[0][0])
    if len(weights) != styles or abs(sum(weights) - 1) > 1e-4:
        raise ValueError(f"weights {list(weights)} for {styles} styles: one for each, with the sum 1")
    row = torch.tensor([list(weights)], device=statistics[0][0].device)
    return [(row @ mean, row @ std) for mean, std in statistics]
