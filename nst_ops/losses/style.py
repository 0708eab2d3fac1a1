"""Losses on features and pixels: content, Gram matrix, channel statistics, total variation.

Each takes any float type and returns a scalar in fp32, at least 0. Shapes: B batch, C channels, H and W pixels.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from nst_ops.models.adain import channel_statistics

_POSITIONS = 1024  # of features in bf16 that are multiplied at once: each product of matrices is rounded to bf16


def content_loss(
    features: Tensor, target: Tensor, units: Literal["relative", "mean", "absolute"] = "relative"
) -> Tensor:
    """Error of features F against those P of the content image, both (B, C, H, W); P gets no gradient.

    - ``relative``: ``sum((F - P)^2) / sum(P^2)``, a share of the energy of ``target``. It does not depend on the
      network's scale: 0 is the content image itself, 1 an empty image.
    - ``mean``: ``mean((F - P)^2)``, the feature reconstruction loss of J. Johnson et al., ECCV 2016 (eq. 2): squared,
      over C * H * W.
    - ``absolute``: ``sum(|F - P|) / sum(|P|)``, the content term of Y. Chen et al., "CartoonGAN", CVPR 2018: cel
      shading leaves most features nearly alone and changes a few by much.
    """
    features, target = features.float(), target.detach().float()
    if units == "absolute":
        return (features - target).abs().mean() / target.abs().mean().clamp_min(1e-6)
    error = (features - target).square().mean()
    return error if units == "mean" else error / target.square().mean().clamp_min(1e-12)


def gram_matrix(features: Tensor) -> Tensor:
    """Correlations of the channels of (B, C, H, W), averaged over positions: (B, C, C) in fp32.

    ``G = F F^T / (C H W)`` with F as (C, H, W): L. Gatys et al., CVPR 2016 (eq. 3), in the normalization of J. Johnson
    et al., ECCV 2016 (eq. 3). Features in bf16 are multiplied as they are, 1,024 positions at a time, and added up in
    fp32: within 0.2 % of the exact matrix. Others are multiplied in fp32, scaled before the product: the sums over an
    image leave the range of fp16.
    """
    if features.dtype == torch.bfloat16:
        gram: Tensor = _Bf16Gram.apply(features)
        return gram
    with torch.autocast(features.device.type, enabled=False):
        f_bnc = _positions_first(features.float())
        f_bnc = f_bnc * (1.0 / math.sqrt(features[0].numel()))
        return f_bnc.transpose(1, 2) @ f_bnc


class _Bf16Gram(torch.autograd.Function):
    """Gram matrix of bf16 features in fp32. Its gradient takes one product, not two: the matrix is symmetric."""

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        """See ``gram_matrix``."""
        ctx.save_for_backward(features)
        parts = _positions_first(features).split(_POSITIONS, dim=1)
        products = [part.transpose(1, 2) @ part for part in parts]
        return torch.stack(products).sum(dim=0, dtype=torch.float32) / features[0].numel()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """Return the gradient of the features, in bf16."""
        (features,) = ctx.saved_tensors
        both = (grads[0] + grads[0].transpose(1, 2)) / features[0].numel()
        gradient: Tensor = (_positions_first(features) @ both.bfloat16()).transpose(1, 2).reshape(features.shape)
        return gradient


def _positions_first(features: Tensor) -> Tensor:
    """Return (B, C, H, W) as (B, H W, C): the memory order of channels-last, and twice as fast on a CPU."""
    return features.permute(0, 2, 3, 1).flatten(1, 2)


def gram_loss(features: Tensor, target_gram: Tensor, units: Literal["relative", "mean", "sum"] = "relative") -> Tensor:
    """Squared error of Gram matrices: the style loss of L. Gatys et al., CVPR 2016 (eq. 4).

    - ``relative``: ``mean_b sum((G_b - A_b)^2) / sum(A_b^2)``, a share of the energy of the style image's own matrix,
      so that one weight serves every style and layer. 0 is the style image's statistics, 1 an empty image.
    - ``sum``: ``mean_b sum((G_b - A)^2)``, the squared Frobenius norm of J. Johnson et al., ECCV 2016 (eq. 4).
    - ``mean``: ``mean((G_b - A)^2)``, which is ``sum`` over C * C: the mean squared error that pytorch/examples and its
      descendants take, with weights near 1e10.

    Args:
        features: (B, C, H, W) of the stylized image.
        target_gram: (1, C, C) or (C, C) of the style image, or (B, C, C), one for each image.
        units: see above.
    """
    target = target_gram.detach().float()
    target = target if target.dim() == 3 else target[None]
    squares = (gram_matrix(features) - target).square()
    if units == "sum":
        return squares.sum(dim=(1, 2)).mean()
    return squares.mean() if units == "mean" else _relative(squares, target)


def mean_std_loss(
    features: Tensor, target_mean: Tensor, target_std: Tensor, units: Literal["relative", "mean"] = "relative"
) -> Tensor:
    """Squared error of channel means and deviations, after X. Huang, S. Belongie, ICCV 2017 (eq. 13).

    - ``relative``: each error as a share of its target's energy, the two averaged. 0 is the style image's statistics, 1
      an empty image (all features 0).
    - ``mean``: mean squared error of the means plus that of the deviations. The equation has norms where this has mean
      squares, as implementations of it commonly do.

    ``features`` are (B, C, H, W) of the stylized image, the targets (1, C) of the style image, or (B, C), one for each
    image.
    """
    mean, std = channel_statistics(features)
    target_mean, target_std = target_mean.detach().float(), target_std.detach().float()
    of_means, of_stds = (mean - target_mean).square(), (std - target_std).square()
    if units == "mean":
        return of_means.mean() + of_stds.mean()
    return (_relative(of_means, target_mean) + _relative(of_stds, target_std)) / 2


def _relative(squares: Tensor, target: Tensor) -> Tensor:
    """Return squared errors (B, ...) as shares of their targets' energies, (B, ...) or (1, ...), averaged.

    Image by image: the same however a batch is shared out among workers.
    """
    errors, energies = (x.flatten(1).mean(dim=1) for x in (squares, target.square()))
    return (errors / energies.clamp_min(1e-12)).mean()


def total_variation(image: Tensor, units: Literal["mean", "sum"] = "mean") -> Tensor:
    """Squared differences between neighboring pixels of (B, C, H, W), down plus across; H and W at least 2.

    The anisotropic, squared form of L. Rudin, S. Osher, E. Fatemi, Physica D 1992. Neither unit depends on the batch's
    size.

    - ``mean``: the mean of those down plus the mean of those across, so that one weight serves every image size; in [0,
      2] for images in [0, 1].
    - ``sum``: over all pixels and channels of an image, then the mean over the batch. Twice the side gives about four
      times the figure; weights are near 1e-6.
    """
    image = image.float()
    down = (image[:, :, 1:] - image[:, :, :-1]).square()
    across = (image[:, :, :, 1:] - image[:, :, :, :-1]).square()
    if units == "sum":
        return (down.sum() + across.sum()) / len(image)
    return down.mean() + across.mean()
