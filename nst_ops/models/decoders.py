"""Decoders of ViT-AdaIN: feature levels to a picture, before the head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ResizeDecoder(nn.Module):
    """Bilinear upsampling and convolutions; finer levels join where their stride is reached.

    There is no normalisation, which would erase the statistics that AdaIN has set.

    Args:
        shapes: channels and stride of each level, in the order of the call.
        widths: channels after each upsampling.

    Raises:
        ValueError: another number of widths than upsamplings, or a level that joins nowhere.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]], widths: Sequence[int]) -> None:
        super().__init__()
        coarsest = max(stride for _, stride in shapes)
        count = math.ceil(math.log2(coarsest))
        if len(widths) != count:
            raise ValueError(f"widths {list(widths)}: {count} upsamplings lead from stride {coarsest} to 1")
        # The last one leads to stride 1, which is less than a doubling where a patch has 14 pixels.
        self.strides = [coarsest / 2**i for i in range(count)] + [1]
        joining = [sum(channels for channels, at in shapes if at == stride) for stride in self.strides]
        if sum(joining) < sum(channels for channels, _ in shapes):
            raise ValueError(f"levels {list(shapes)} are not all at the strides {self.strides}")
        self.level_strides = [stride for _, stride in shapes]
        before = [0, widths[0], *widths[:-1]]
        self.stages = nn.ModuleList(
            _two_convolutions(channels + joined, after)
            for channels, joined, after in zip(before, joining, [widths[0], *widths], strict=True)
        )
        self.paint = nn.Conv2d(widths[-1], 3, 3, padding=1, padding_mode="reflect")

    def forward(self, levels: list[Tensor]) -> Tensor:
        """(B, 3, H, W), any range."""
        height, width = (side * self.level_strides[-1] for side in levels[-1].shape[2:])
        x_bchw = None
        for stride, stage in zip(self.strides, self.stages, strict=True):
            joining = [level for level, at in zip(levels, self.level_strides, strict=True) if at == stride]
            if x_bchw is not None:
                size = (round(height / stride), round(width / stride))
                joining.insert(0, F.interpolate(x_bchw, size, mode="bilinear", align_corners=False))
            x_bchw = stage(torch.cat(joining, dim=1))
        painted: Tensor = self.paint(x_bchw)
        return painted


class TransposedDecoder(nn.Sequential):
    """Transposed convolutions, each doubling the size, with InstanceNorm and ReLU between them.

    Args:
        shapes: channels and stride of each level, all at one stride that is a power of two.
        widths: channels after each doubling but the last, which paints; or after each, and a
            convolution follows that paints.
        kernel: of the transposed convolutions.
        affine: whether InstanceNorm has weights.

    Raises:
        ValueError: another number of widths, or levels at several strides.
    """

    def __init__(
        self, shapes: Sequence[tuple[int, int]], widths: Sequence[int], kernel: int, affine: bool
    ) -> None:
        strides = {stride for _, stride in shapes}
        doublings = int(math.log2(max(strides)))
        if strides != {2**doublings}:
            raise ValueError(f"a transposed decoder wants levels at one power of two, not {sorted(strides)}")
        if len(widths) not in (doublings - 1, doublings):
            raise ValueError(f"widths {list(widths)}: {doublings} doublings lead to stride 1")
        channels = [sum(count for count, _ in shapes), *widths]
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [_doubling(before, after, kernel), nn.InstanceNorm2d(after, affine=affine), nn.ReLU()]
        if len(widths) == doublings:
            layers.append(nn.Conv2d(widths[-1], 3, 3, padding=1))
        else:
            layers.append(_doubling(widths[-1], 3, kernel))
        super().__init__(*layers)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """(B, 3, H, W), any range."""
        x_bchw = torch.cat(levels, dim=1)
        for layer in self:
            x_bchw = layer(x_bchw)
        return x_bchw


def _two_convolutions(before: int, after: int) -> nn.Sequential:
    """3x3, with reflection padding and ReLU, at a scale that keeps the variance (He et al. 2015)."""
    layers: list[nn.Module] = []
    for channels in (before, after):
        layer = nn.Conv2d(channels, after, 3, padding=1, padding_mode="reflect")
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        layer.bias = nn.Parameter(torch.zeros(after))
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers)


def _doubling(before: int, after: int, kernel: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(
        before, after, kernel, stride=2, padding=(kernel - 1) // 2, output_padding=kernel % 2
    )
