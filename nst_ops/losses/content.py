"""Content: stay near the features of the photograph."""

from typing import Literal

from torch import Tensor

from nst_ops.losses.structure import feature_l1


def content_loss(
    features: Tensor, target: Tensor, units: Literal["relative", "mean", "absolute"] = "relative"
) -> Tensor:
    """Squared error of features: the feature reconstruction loss of J. Johnson et al., ECCV 2016 (eq. 2).

    - ``relative``: ``sum((F - P)^2) / sum(P^2)``, a share of the energy of ``target``. It does
      not depend on the network's scale: 0 is the photograph itself, 1 an empty picture.
    - ``mean``: ``mean((F - P)^2)``, the equation itself: squared, over C * H * W.
    - ``absolute``: ``sum(|F - P|) / sum(|P|)``, as of ``feature_l1``.

    Args:
        features: (B, C, H, W) of the stylized picture, any float type.
        target: (B, C, H, W) of the photograph; no gradient is taken through it.
        units: ``relative``, ``mean`` or ``absolute``.

    Returns:
        A scalar in fp32, at least 0.
    """
    if units == "absolute":
        return feature_l1(features, target)
    features, target = features.float(), target.detach().float()
    error = (features - target).square().mean()
    return error if units == "mean" else error / target.square().mean().clamp_min(1e-12)
