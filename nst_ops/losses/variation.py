"""Smoothness: no noise from pixel to pixel."""

from typing import Literal

from torch import Tensor


def total_variation(image: Tensor, units: Literal["mean", "sum"] = "mean") -> Tensor:
    """Squared differences between neighbouring pixels, down plus across.

    The anisotropic, squared form of L. Rudin, S. Osher, E. Fatemi, Physica D 1992.

    - ``mean``: the mean of those down plus the mean of those across, so that one weight
      serves every picture size; in [0, 2] for pictures in [0, 1].
    - ``sum``: over all pixels and channels of a picture, then the mean over the batch. Twice
      the side gives about four times the figure; weights are near 1e-6.

    Args:
        image: (B, C, H, W), usually RGB in [0, 1]; H and W at least 2.
        units: ``mean`` or ``sum``; neither depends on the size of the batch.

    Returns:
        A scalar in fp32, at least 0.
    """
    image = image.float()
    down = (image[:, :, 1:] - image[:, :, :-1]).square()
    across = (image[:, :, :, 1:] - image[:, :, :, :-1]).square()
    if units == "sum":
        return (down.sum() + across.sum()) / len(image)
    return down.mean() + across.mean()
