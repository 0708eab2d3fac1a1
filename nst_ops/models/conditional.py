"""One network for many styles: conditional instance normalization.

V. Dumoulin et al., "A Learned Representation for Artistic Style", ICLR 2017. The convolutions are shared; a style is a
row of gammas and betas, one pair for every normalized channel. Rows add: a blend of styles is a blend of rows.
Shapes: B batch, C channels, H and W pixels, S styles, R numbers in a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nst_ops.models.convolution import convolve
from nst_ops.models.johnson import has_fused_norm, normalize_each
from nst_ops.models.style_facts import check_style_name

IDENTITY = "identity"
"""Name of the row that gives back the photograph, as far as the network can."""
_EPS = 1e-5


class ConditionalNet(nn.Module):
    """Network from RGB in [0, 1], (B, 3, H, W), and a row of ``rows`` to stylized RGB of the same shape.

    H and W must be multiples of ``stride`` and at least 16. The defaults are the small published network: 140,364
    weights and 990 numbers for each style.

    Args:
        names: names of the styles, each with a row; see ``check_style_name``.
        width: channels of the residual blocks.
        num_blocks: residual blocks.
        encoder: channels at full and at half size on the way in. The first layer takes a third of the time.
        decoder: channels at half and at full size on the way out.
    """

    architecture = "multi_style"
    stride = 4

    def __init__(
        self,
        names: Sequence[str],
        width: int = 32,
        num_blocks: int = 6,
        encoder: Sequence[int] = (32, 32),
        decoder: Sequence[int] = (8, 4),
    ) -> None:
        super().__init__()
        if len(set(names)) != len(names) or not names:
            raise ValueError(f"a style needs a name of its own: {', '.join(names) or 'none given'}")
        for name in names:
            check_style_name(name)
        self.config = dict(
            names=list(names), width=width, num_blocks=num_blocks, encoder=list(encoder), decoder=list(decoder)
        )
        self.names = tuple(names)
        full, half = encoder
        self.contract = nn.ModuleList(
            [_conv(3, full, 9), _conv(full, half, 3, stride=2), _conv(half, width, 3, stride=2)]
        )
        self.residuals = nn.ModuleList(_conv(width, width, 3) for _ in range(2 * num_blocks))
        half, full = decoder
        self.expand = nn.ModuleList([_conv(width, half, 3), _conv(half, full, 3), _conv(full, 3, 9)])
        self.channels = [conv.out_channels for conv in (*self.contract, *self.residuals, *self.expand)]
        self.rows = nn.Parameter(self.neutral_row().repeat(len(names), 1))

    def neutral_row(self) -> Tensor:
        """Return a row to start from, (R,): gammas of 1, smaller ones at the end of a residual block, betas of 0."""
        gammas = [torch.ones(channels) for channels in self.channels]
        for end_of_block in gammas[4 : 3 + len(self.residuals) : 2]:
            end_of_block.fill_(0.3)
        return torch.cat([*gammas, torch.zeros(sum(self.channels))])

    def row(self, name: str) -> Tensor:
        """Return the row of a style, (R,); raises KeyError for a name that is not in ``names``."""
        if name not in self.names:
            raise KeyError(name)
        return self.rows[self.names.index(name)]

    def blend(self, shares: Mapping[str, float]) -> Tensor:
        """Return the sum of the named rows, each times its share: (R,)."""
        return torch.stack([share * self.row(name) for name, share in shares.items()]).sum(0)

    def forward(self, x_bchw: Tensor, row: Tensor) -> Tensor:
        """Stylize (B, 3, H, W) with one row for all, (R,), or with one for each, (B, R)."""
        gammas, betas = (half.split(self.channels, dim=-1) for half in row.float().chunk(2, dim=-1))
        affine = iter(zip(gammas, betas, strict=True))

        def layer(conv: nn.Module, x_bchw: Tensor, upsampling: Literal["nearest"] | None = None) -> Tensor:
            """Convolve with reflection at the border and normalize by the next part of the row."""
            return _normalize(convolve(cast(nn.Conv2d, conv), x_bchw, upsampling), *next(affine))

        for conv in self.contract:
            x_bchw = F.relu(layer(conv, x_bchw))
        for first, second in zip(self.residuals[::2], self.residuals[1::2], strict=True):
            x_bchw = x_bchw + layer(second, F.relu(layer(first, x_bchw)))
        for conv in self.expand[:2]:
            x_bchw = F.relu(layer(conv, x_bchw, "nearest"))
        return layer(self.expand[2], x_bchw).float().sigmoid()


def _conv(before: int, after: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Convolution without bias, which the normalization would take out; variance 1 over its inputs."""
    conv = nn.Conv2d(before, after, kernel, stride, bias=False)
    nn.init.normal_(conv.weight, std=conv.weight[0].numel() ** -0.5)
    return conv


def _normalize(x_bchw: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Normalize every channel of every image, then scale and shift it by (C,) or (B, C) in fp32."""
    if gamma.dim() == 1 and has_fused_norm(x_bchw):
        return normalize_each(x_bchw, gamma, beta, _EPS)
    var, mean = torch.var_mean(x_bchw.float(), dim=(2, 3), correction=0)
    scale = gamma * torch.rsqrt(var + _EPS)
    shift = beta - mean * scale
    return torch.addcmul(shift[:, :, None, None], x_bchw, scale[:, :, None, None]).to(x_bchw.dtype)
