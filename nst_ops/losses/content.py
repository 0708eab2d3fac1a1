"""Content: stay near the features of the photograph."""

from torch import Tensor


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """Squared error of features as a share of the target's energy.

    ``sum((F - P)^2) / sum(P^2)``: the feature reconstruction loss of J. Johnson et al.,
    ECCV 2016 (eq. 2), divided by the energy of ``target``. The division makes the figure
    independent of the network's scale: 0 is the photograph itself, 1 an empty picture.

    Args:
        features: (B, C, H, W) of the stylized picture, any float type.
        target: (B, C, H, W) of the photograph; no gradient is taken through it.

    Returns:
        A scalar in fp32, at least 0.
    """
    features, target = features.float(), target.detach().float()
    return (features - target).square().mean() / target.square().mean().clamp_min(1e-12)
