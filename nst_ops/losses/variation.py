"""Smoothness: no noise from pixel to pixel."""

from torch import Tensor


def total_variation(image: Tensor) -> Tensor:
    """Mean squared difference between neighbouring pixels, down plus across.

    The anisotropic, squared form of L. Rudin, S. Osher, E. Fatemi, Physica D 1992, reduced
    by the mean so that one weight serves every picture size.

    Args:
        image: (B, C, H, W), usually RGB in [0, 1]; H and W at least 2.

    Returns:
        A scalar in fp32, in [0, 2] for pictures in [0, 1].
    """
    image = image.float()
    down = (image[:, :, 1:] - image[:, :, :-1]).square().mean()
    across = (image[:, :, :, 1:] - image[:, :, :, :-1]).square().mean()
    return down + across
