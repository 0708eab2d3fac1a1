"""Style distance: how far the feature statistics of a picture are from those of the style.

All are relative: 0 is the style's own statistics, 1 is an empty picture (all features 0).

Shapes: B batch, C channels, P directions, Q quantiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nst_ops.evaluation.sliced_wasserstein import directions, pool, quantiles, sample, squared_distance
from nst_ops.losses import channel_statistics, gram_loss, gram_matrix, mean_std_loss

NUM_DIRECTIONS = 64


@dataclass(frozen=True)
class StyleStatistics:
    """What is known of a style, or of a set of styles, at one tap.

    Attributes:
        gram: (1, C, C).
        mean, std: (1, C).
        quantiles: (P, Q), of the features at all positions.
    """

    gram: Tensor
    mean: Tensor
    std: Tensor
    quantiles: Tensor


def style_statistics(features: Tensor, seed: int = 0) -> StyleStatistics:
    """Statistics of a style picture from its features (1, C, H, W)."""
    mean, std = channel_statistics(features)
    return StyleStatistics(gram_matrix(features), mean, std, feature_quantiles(features, seed)[0])


def average(statistics: Sequence[StyleStatistics]) -> StyleStatistics:
    """The style of a set: mean Gram matrix, mean of means and deviations, all features as one cloud."""
    return StyleStatistics(
        torch.stack([each.gram for each in statistics]).mean(dim=0),
        torch.stack([each.mean for each in statistics]).mean(dim=0),
        torch.stack([each.std for each in statistics]).mean(dim=0),
        pool(torch.stack([each.quantiles for each in statistics])),
    )


def gram_error(features: Tensor, style: StyleStatistics) -> Tensor:
    """Relative Gram error of each picture, as of ``losses.gram_loss``: (B, C, H, W) to (B,)."""
    return torch.stack([gram_loss(one[None], style.gram) for one in features])


def mean_std_error(features: Tensor, style: StyleStatistics) -> Tensor:
    """Relative error of channel means and deviations, as of ``losses.mean_std_loss``: to (B,)."""
    return torch.stack([mean_std_loss(one[None], style.mean, style.std) for one in features])


def sliced_wasserstein(features: Tensor, style: StyleStatistics, seed: int = 0) -> Tensor:
    """Squared sliced 2-Wasserstein distance of the features over the mean square of the style's.

    E. Heitz et al., CVPR 2021 (eq. 3), with quantiles for different numbers of positions. It
    sees the whole distribution of the features where a Gram matrix sees its second moments.

    Args:
        features: (B, C, H, W), any float type.
        style: statistics with the same ``seed``.
        seed: of directions and positions.

    Returns:
        (B,), at least 0.
    """
    distance = squared_distance(feature_quantiles(features, seed), style.quantiles)
    return distance / style.quantiles.square().mean().clamp_min(1e-12)


def feature_quantiles(features: Tensor, seed: int = 0) -> Tensor:
    """(B, C, H, W) to the quantiles of the features along random directions: (B, P, Q)."""
    return quantiles(
        sample(features, seed), directions(features.shape[1], NUM_DIRECTIONS, seed, features.device)
    )
