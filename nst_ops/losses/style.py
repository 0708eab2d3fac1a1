"""Style: have the feature statistics of the painting."""

import math
from typing import Literal

import torch
from torch import Tensor

from nst_ops.losses.content import energy

# Under the root of a variance of features, as in instance normalisation: a flat channel has a gradient.
_EPS = 1e-5


def gram_matrix(features: Tensor) -> Tensor:
    """Correlations of the channels, averaged over positions.

    ``G = F F^T / (C H W)`` with F as (C, H, W): L. Gatys et al., CVPR 2016 (eq. 3), in the
    normalisation of J. Johnson et al., ECCV 2016 (eq. 3). F is scaled before the product
    and the product is taken in fp32: the sums over a picture leave the range of fp16.

    Args:
        features: (B, C, H, W), any float type.

    Returns:
        (B, C, C) in fp32, symmetric, positive semidefinite.
    """
    batch, channels, height, width = features.shape
    with torch.autocast(features.device.type, enabled=False):
        # positions before channels: the memory order of channels-last, and twice as fast on a CPU
        f_bnc = features.float().permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        f_bnc = f_bnc * (1.0 / math.sqrt(channels * height * width))
        return f_bnc.transpose(1, 2) @ f_bnc


def gram_loss(
    features: Tensor, target_gram: Tensor, units: Literal["relative", "mean", "sum"] = "relative"
) -> Tensor:
    """Squared error of Gram matrices: the style loss of L. Gatys et al., CVPR 2016 (eq. 4).

    - ``relative``: ``mean_b sum((G_b - A)^2) / sum(A^2)``, a share of the energy of the
      painting's own matrix, so that one weight serves every style and layer. 0 is the
      painting's statistics, 1 an empty picture.
    - ``sum``: ``mean_b sum((G_b - A)^2)``, the squared Frobenius norm of J. Johnson et al.,
      ECCV 2016 (eq. 4).
    - ``mean``: ``mean((G_b - A)^2)``, which is ``sum`` over C * C: the mean squared error
      that pytorch/examples and its descendants take, with weights near 1e10.

    Args:
        features: (B, C, H, W) of the stylized picture, any float type.
        target_gram: (1, C, C) or (C, C) of the painting.
        units: ``relative``, ``mean`` or ``sum``.

    Returns:
        A scalar in fp32, at least 0.
    """
    target = target_gram.detach().float()
    target = target if target.dim() == 3 else target[None]
    squares = (gram_matrix(features) - target).square()
    if units == "sum":
        return squares.sum(dim=(1, 2)).mean()
    return squares.mean() if units == "mean" else squares.mean() / energy(target)


def channel_statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over positions.

    ``std = sqrt(var + 1e-5)`` with the variance over H * W: X. Huang, S. Belongie, ICCV 2017
    (eqs. 5 and 6). Inside the root the constant keeps the gradient finite where a channel is flat.

    Args:
        features: (B, C, H, W), any float type.

    Returns:
        Mean and deviation, each (B, C) in fp32; the deviation is at least 0.003.
    """
    variance, mean = torch.var_mean(features.float(), dim=(2, 3), correction=0)
    return mean, (variance + _EPS).sqrt()


def mean_std_loss(
    features: Tensor,
    target_mean: Tensor,
    target_std: Tensor,
    units: Literal["relative", "mean"] = "relative",
) -> Tensor:
    """Squared error of channel means and deviations, after X. Huang, S. Belongie, ICCV 2017 (eq. 13).

    - ``relative``: each error as a share of its target's energy, the two averaged. 0 is the
      painting's statistics, 1 an empty picture (all features 0).
    - ``mean``: mean squared error of the means plus that of the deviations. The equation has
      norms where this has mean squares, as implementations of it commonly do.

    Args:
        features: (B, C, H, W) of the stylized picture, any float type.
        target_mean: (1, C) of the painting.
        target_std: (1, C) of the painting.
        units: ``relative`` or ``mean``.

    Returns:
        A scalar in fp32, at least 0.
    """
    mean, std = channel_statistics(features)
    target_mean, target_std = target_mean.detach().float(), target_std.detach().float()
    of_means = (mean - target_mean).square().mean()
    of_stds = (std - target_std).square().mean()
    if units == "mean":
        return of_means + of_stds
    return (of_means / energy(target_mean) + of_stds / energy(target_std)) / 2
