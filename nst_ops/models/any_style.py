"""A network for any style from one image of it: a predictor of rows, and convolutions that a row makes one style's.

G. Ghiasi et al., "Exploring the structure of a real-time, arbitrary neural artistic stylization network", BMVC 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nst_ops.models.conditional import ConditionalTransform
from nst_ops.models.style_predictor import MOBILENET_V2, StylePredictor


class AnyStyleNet(nn.Module):
    """Network from RGB in [0, 1], (B, 3, H, W), and style images, (B or 1, 3, H', W'), to stylized RGB.

    The defaults are the published network for phones: 2,405,010 weights that see the style image, 107,624 that see the
    content. The first four arguments are those of ``ConditionalTransform``, the others those of ``StylePredictor``.
    """

    architecture = "any_style"

    def __init__(
        self,
        width: int = 32,
        num_blocks: int = 5,
        encoder: Sequence[int] = (8, 16),
        decoder: Sequence[int] = (16, 8),
        stages: Sequence[Sequence[int]] = MOBILENET_V2,
        stem: int = 32,
        head: int = 1280,
        bottleneck: int = 100,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = dict(
            width=width, num_blocks=num_blocks, encoder=list(encoder), decoder=list(decoder)
        ) | dict(stages=[list(stage) for stage in stages], stem=stem, head=head, bottleneck=bottleneck)
        self.transform = ConditionalTransform(width, num_blocks, encoder, decoder, encoder_norm=False)
        neutral = self.transform.neutral_row()
        self.predictor = StylePredictor(len(neutral), stages, stem, head, bottleneck)
        with torch.no_grad():
            self.predictor.to_row.bias.copy_(neutral)

    def forward(self, x_bchw: Tensor, styles_bchw: Tensor) -> Tensor:
        """Stylize images, each by its style image or all by one."""
        rows: Tensor = self.predictor(styles_bchw)
        stylized: Tensor = self.transform(x_bchw, rows if len(rows) > 1 else rows[0])
        return stylized
