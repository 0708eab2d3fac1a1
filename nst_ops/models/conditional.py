"""One network for many styles: conditional instance normalization.

V. Dumoulin et al., "A Learned Representation for Artistic Style", ICLR 2017. The convolutions are shared; a style is a
row of gammas and betas, one pair for every normalized channel. Rows add: a blend of styles is a blend of rows.
Shapes: B batch, C channels, H and W pixels, S styles, R numbers in a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nst_ops.models.convolution import convolve
from nst_ops.models.johnson import InstanceNorm, TransformNet
from nst_ops.models.style_facts import check_style_name

_EPS = 1e-5


class ConditionalTransform(nn.Module):
    """Convolutions that many styles share: RGB in [0, 1], (B, 3, H, W), and a row, to stylized RGB of the same shape.

    H and W must be multiples of ``stride`` and at least 16.

    Args:
        width: channels of the residual blocks.
        num_blocks: residual blocks.
        encoder: channels at full and at half size on the way in. The first layer takes a third of the time.
        decoder: channels at half and at full size on the way out.
        encoder_norm: True normalizes on the way in, by the row, too; False has biases there, the same for all styles.
    """

    stride = 4

    def __init__(
        self, width: int, num_blocks: int, encoder: Sequence[int], decoder: Sequence[int], encoder_norm: bool = True
    ) -> None:
        super().__init__()
        full, half = encoder
        sizes = ((3, full, 9, 1), (full, half, 3, 2), (half, width, 3, 2))
        self.contract = nn.ModuleList(_conv(*size, bias=not encoder_norm) for size in sizes)
        self.residuals = nn.ModuleList(_conv(width, width, 3) for _ in range(2 * num_blocks))
        half, full = decoder
        self.expand = nn.ModuleList([_conv(width, half, 3), _conv(half, full, 3), _conv(full, 3, 9)])
        self.encoder_norm = encoder_norm
        normalized = (*(self.contract if encoder_norm else ()), *self.residuals, *self.expand)
        self.channels = [cast(nn.Conv2d, conv).out_channels for conv in normalized]

    def neutral_row(self) -> Tensor:
        """Return a row to start from, (R,): gammas of 1, smaller ones at the end of a residual block, betas of 0."""
        gammas = [torch.ones(channels) for channels in self.channels]
        before = len(self.contract) if self.encoder_norm else 0
        for end_of_block in gammas[before + 1 : before + len(self.residuals) : 2]:
            end_of_block.fill_(0.3)
        return torch.cat([*gammas, torch.zeros(sum(self.channels))])

    def forward(self, x_bchw: Tensor, row: Tensor) -> Tensor:
        """Stylize (B, 3, H, W) with one row for all, (R,), or with one for each, (B, R)."""
        stylized: Tensor = self.in_style(row)(x_bchw)
        return stylized

    def in_style(self, row: Tensor) -> StyledNet:
        """Return the network of one style, which shares the convolutions; ``row`` as of ``forward``."""
        gammas, betas = (half.split(self.channels, dim=-1) for half in row.float().chunk(2, dim=-1))
        norms: list[nn.Module] = [] if self.encoder_norm else [nn.Identity() for _ in self.contract]
        norms += [_RowNorm(gamma, beta) for gamma, beta in zip(gammas, betas, strict=True)]
        return StyledNet(self.contract, self.residuals, self.expand, norms)


class ConditionalNet(ConditionalTransform):
    """Network of named styles, a row of ``rows`` each. Sizes are those of ``ConditionalTransform``.

    The defaults are the small published network: 140,364 weights and 990 numbers for each style.

    Args:
        names: names of the styles, each with a row; see ``check_style_name``.
        width, num_blocks, encoder, decoder: sizes.
    """

    architecture = "multi_style"

    def __init__(
        self,
        names: Sequence[str],
        width: int = 32,
        num_blocks: int = 6,
        encoder: Sequence[int] = (32, 32),
        decoder: Sequence[int] = (8, 4),
    ) -> None:
        super().__init__(width, num_blocks, encoder, decoder)
        if len(set(names)) != len(names) or not names:
            raise ValueError(f"a style needs a name of its own: {', '.join(names) or 'none given'}")
        for name in names:
            check_style_name(name)
        self.config: dict[str, Any] = dict(
            names=list(names), width=width, num_blocks=num_blocks, encoder=list(encoder), decoder=list(decoder)
        )
        self.names = tuple(names)
        self.rows = nn.Parameter(self.neutral_row().repeat(len(names), 1))

    def row(self, name: str) -> Tensor:
        """Return the row of a style, (R,); raises KeyError for a name that is not in ``names``."""
        if name not in self.names:
            raise KeyError(name)
        return self.rows[self.names.index(name)]

    def blend(self, shares: Mapping[str, float]) -> Tensor:
        """Return the sum of the named rows, each times its share: (R,)."""
        return torch.stack([share * self.row(name) for name, share in shares.items()]).sum(0)

    def with_rows(self, rows: Mapping[str, Tensor]) -> ConditionalNet:
        """Return a network of the same convolutions, copied, with these rows, (R,) each, in the place of its own."""
        network = ConditionalNet(**{**self.config, "names": list(rows)})
        network.load_state_dict(self.state_dict() | {"rows": torch.stack([*rows.values()]).detach()})
        return network


class StyledNet(TransformNet):
    """A network of many styles in one of them: convolutions of the many, norms of the one, in order of the pass.

    An identity in the place of a norm leaves its layer as it comes.
    """

    def __init__(
        self,
        contract: Iterable[nn.Module],
        residuals: Iterable[nn.Module],
        expand: Iterable[nn.Module],
        norms: Iterable[nn.Module],
    ) -> None:
        super().__init__()
        each = iter(norms)
        self.encoder = nn.Sequential(*(_StyledLayer(conv, next(each), nn.ReLU()) for conv in contract))
        layers = [_StyledLayer(conv, next(each)) for conv in residuals]
        self.residuals = nn.Sequential(*(_StyledBlock(*pair) for pair in zip(layers[::2], layers[1::2], strict=True)))
        *growing, last = expand
        self.decoder = nn.Sequential(
            *(_StyledLayer(conv, next(each), nn.ReLU(), "nearest") for conv in growing), _StyledLayer(last, next(each))
        )
        first, last_but_one = (cast(_StyledLayer, layer) for layer in (self.encoder[0], self.decoder[1]))
        widest = max(first.conv.out_channels, last_but_one.conv.in_channels)
        self.config = dict(width=widest, norm="instance" if isinstance(first.norm, InstanceNorm) else "none")

    def decode(self, deep: Tensor, finer: tuple[Tensor, ...]) -> Tensor:
        """Return the image in fp32: half precision would leave the bright half of it seven bits."""
        return cast(Tensor, self.decoder(deep)).float().sigmoid()


class _RowNorm(InstanceNorm):
    """Instance normalization that scales and shifts by a part of a row, (C,) or (B, C), in fp32 whatever the network.

    The part is no weight of the module: it may be the result of a computation, which gets the gradient.
    """

    def __init__(self, gamma: Tensor, beta: Tensor) -> None:
        nn.Module.__init__(self)
        self.weight, self.bias, self.eps = gamma, beta, _EPS  # type: ignore[assignment]


class _StyledLayer(nn.Module):
    """Convolution with reflection at the border, normalization, and ReLU where it is given."""

    def __init__(
        self,
        conv: nn.Module,
        norm: nn.Module,
        activation: nn.Module | None = None,
        upsampling: Literal["nearest"] | None = None,
    ) -> None:
        super().__init__()
        self.conv, self.norm, self.activation, self.upsampling = cast(nn.Conv2d, conv), norm, activation, upsampling

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Convolve (B, C, H, W); H and W are divided by the stride, or doubled by upsampling."""
        x_bchw = self.norm(convolve(self.conv, x_bchw, self.upsampling))
        return self.activation(x_bchw) if self.activation else x_bchw


class _StyledBlock(nn.Module):
    """Two layers around an identity, no ReLU after the sum."""

    def __init__(self, first: _StyledLayer, second: _StyledLayer) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Return (B, C, H, W) of the same shape."""
        return cast(Tensor, x_bchw + self.second(F.relu(self.first(x_bchw))))


def _conv(before: int, after: int, kernel: int, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    """Convolution of variance 1 over its inputs; without a bias, which a normalization would take out."""
    conv = nn.Conv2d(before, after, kernel, stride, bias=bias)
    nn.init.normal_(conv.weight, std=conv.weight[0].numel() ** -0.5)
    return conv
