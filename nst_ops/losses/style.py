"""Style: have the feature correlations of the painting."""

import math

import torch
from torch import Tensor


def gram_matrix(features: Tensor) -> Tensor:
    """Correlations of the channels, averaged over positions.

    ``G = F F^T / (C H W)`` with F as (C, H W): L. Gatys et al., CVPR 2016 (eq. 3), in the
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


def style_loss(features: Tensor, target_gram: Tensor) -> Tensor:
    """Squared error of Gram matrices as a share of the target's energy.

    ``mean_b sum((G_b - A)^2) / sum(A^2)``: the style loss of L. Gatys et al., CVPR 2016
    (eq. 4), divided by the energy of the painting's own matrix, so that one weight serves
    every style and layer. 0 is the painting's statistics, 1 an empty picture.

    Args:
        features: (B, C, H, W) of the stylized picture, any float type.
        target_gram: (1, C, C) or (C, C) of the painting.

    Returns:
        A scalar in fp32, at least 0.
    """
    target = target_gram.detach().float()
    target = target if target.dim() == 3 else target[None]
    return (gram_matrix(features) - target).square().mean() / target.square().mean().clamp_min(1e-12)
