"""Prediction of a style from an image: MobileNetV2 and two linear maps.

G. Ghiasi et al., "Exploring the structure of a real-time, arbitrary neural artistic stylization network", BMVC 2017,
with the features of M. Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018. Batch
normalization is part of the convolutions. Shapes: B batch, C channels, H and W pixels, R numbers in a row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels, blocks, stride of the first block: a line for each stage (Sandler et al., table 2)."""


class StylePredictor(nn.Module):
    """Predictor from style images, RGB in [0, 1], (B, 3, H, W) of any H and W, to a row for each, (B, R).

    The mean over all places of an image is taken before the linear maps: where something is does not count.

    Args:
        num_outputs: numbers in a row.
        stages: stages of the features, as ``MOBILENET_V2``.
        stem: channels before them.
        head: channels after them.
        bottleneck: numbers that a style is told by, and a row is a linear map of.
    """

    def __init__(
        self,
        num_outputs: int,
        stages: Sequence[Sequence[int]] = MOBILENET_V2,
        stem: int = 32,
        head: int = 1280,
        bottleneck: int = 100,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [_Conv(3, stem, 3, stride=2), nn.ReLU6()]
        before = stem
        for expansion, after, blocks, stride in stages:
            for block in range(blocks):
                layers.append(_InvertedResidual(before, after, expansion, 1 if block else stride))
                before = after
        self.features = nn.Sequential(*layers, _Conv(before, head, 1), nn.ReLU6())
        self.bottleneck = nn.Linear(head, bottleneck)
        self.to_row = nn.Linear(bottleneck, num_outputs)

    def forward(self, images_bchw: Tensor) -> Tensor:
        """Return the rows of (B, 3, H, W), (B, R)."""
        return cast(Tensor, self.to_row(self.bottleneck(self.features(images_bchw).mean((2, 3)))))


class _InvertedResidual(nn.Module):
    """More channels, a convolution of each by itself, and fewer channels again; around an identity where sizes stay."""

    def __init__(self, before: int, after: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = expansion * before
        widen = [_Conv(before, wide, 1), nn.ReLU6()] if expansion > 1 else []
        depthwise = _Conv(wide, wide, 3, stride=stride, groups=wide)
        self.layers = nn.Sequential(*widen, depthwise, nn.ReLU6(), _Conv(wide, after, 1))
        self.is_residual = stride == 1 and before == after

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Return (B, C, H, W), H and W divided by the stride."""
        y_bchw: Tensor = self.layers(x_bchw)
        return x_bchw + y_bchw if self.is_residual else y_bchw


class _Conv(nn.Conv2d):
    """Convolution with zeros at the border as TensorFlow's ``SAME`` has them: an odd one lies right and below."""

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Return (B, C, H, W), H and W divided by the stride and rounded up."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads: list[int] = []
        for length in reversed(x_bchw.shape[2:]):
            pad = max(0, (math.ceil(length / stride) - 1) * stride + kernel - length)
            pads += [pad // 2, pad - pad // 2]
        return super().forward(F.pad(x_bchw, pads))
