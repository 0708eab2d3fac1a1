"""A patch discriminator: which parts of an image look real.

P. Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017 (patches), Y. Chen et
al., "CartoonGAN", CVPR 2018 (small and shallow, since lines and flat colors are local), T. Miyato et al., "Spectral
Normalization for GANs", ICLR 2018. Shapes: B batch, C channels, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class PatchDiscriminator(nn.Module):
    """Images (B, C, H, W) in [0, 1] to logits (B, 1, H', W'), one for each patch of 29 pixels.

    H' is about H / 4 - 6. There is no padding: a patch sees nothing but image, so that images of different sizes are
    treated alike. H and W must be at least ``min_size``.

    Args:
        in_channels: 3 for color, 1 for gray.
        width: channels of the first layer; the deepest have four times as many.
        spectral: spectral normalization of every convolution, which bounds the slope.
    """

    min_size = 29

    def __init__(self, in_channels: int = 3, width: int = 32, spectral: bool = True) -> None:
        super().__init__()
        channels = [in_channels, width, 2 * width, 4 * width, 4 * width, 4 * width]
        bounded: Callable[[nn.Module], nn.Module] = spectral_norm if spectral else lambda layer: layer
        layers: list[nn.Module] = []
        for (before, after), stride in zip(pairwise(channels), (1, 2, 1, 2, 1), strict=True):
            layers += [bounded(nn.Conv2d(before, after, 3, stride)), nn.LeakyReLU(0.2, inplace=True)]
        self.layers = nn.Sequential(*layers, bounded(nn.Conv2d(channels[-1], 1, 3)))

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Return logits in fp32, also under autocast: high where a patch looks real."""
        # spectral norms are too coarse in half types, and so small a network gains nothing by them
        with torch.autocast(x_bchw.device.type, enabled=False):
            return cast(Tensor, self.layers(2 * x_bchw.float() - 1))
