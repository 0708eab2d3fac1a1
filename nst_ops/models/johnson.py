"""Johnson's image transformation network.

J. Johnson, A. Alahi, L. Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and
Super-Resolution", ECCV 2016; layer sizes from its supplementary material, instance
normalisation from D. Ulyanov et al., arXiv:1607.08022, and resize-convolutions against
checkerboards from A. Odena et al., Distill 2016.

Shapes: B batch, C channels, H and W pixels.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Upsampling = Literal["nearest", "transposed"]
Norm = Literal["instance", "batch"]
Head = Literal["sigmoid", "linear"]


class InstanceNorm(nn.Module):
    """Instance normalisation in fp32 statistics that keeps the memory layout.

    ``nn.InstanceNorm2d`` reshapes and so leaves channels-last (pytorch#72341); this form
    does not, and Inductor fuses it with what follows.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Normalise every channel of every picture on its own; same shape, type and layout."""
        var, mean = torch.var_mean(x_bchw.float(), dim=(2, 3), correction=0, keepdim=True)
        scale = self.weight.float()[:, None, None] * torch.rsqrt(var + self.eps)
        shift = self.bias.float()[:, None, None] - mean * scale
        return torch.addcmul(shift.to(x_bchw.dtype), x_bchw, scale.to(x_bchw.dtype))


class ConvLayer(nn.Module):
    """Convolution with reflection padding, with resize or transposed upsampling before it."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        upsampling: Upsampling | None = None,
    ) -> None:
        super().__init__()
        self.pad = kernel_size // 2
        self.upsampling = upsampling
        if upsampling == "transposed":
            self.conv: nn.Conv2d | nn.ConvTranspose2d = nn.ConvTranspose2d(
                in_channels, out_channels, kernel_size, 2, padding=1, output_padding=1
            )
        else:
            self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride)

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(B, C, H, W) to H and W divided by the stride, or doubled by upsampling."""
        if self.upsampling == "transposed":
            return cast(Tensor, self.conv(x_bchw))
        if self.upsampling == "nearest":
            x_bchw = F.interpolate(x_bchw, scale_factor=2, mode="nearest")
        return cast(Tensor, self.conv(F.pad(x_bchw, (self.pad,) * 4, mode="reflect")))


class ConvNormReLU(nn.Module):
    """The network's unit: convolution, normalisation, ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        norm: Norm,
        stride: int = 1,
        upsampling: Upsampling | None = None,
    ) -> None:
        super().__init__()
        self.conv = ConvLayer(in_channels, out_channels, kernel_size, stride, upsampling)
        self.norm = make_norm(norm, out_channels)

    def forward(self, x_bchw: Tensor) -> Tensor:
        """As the convolution, at least 0."""
        return F.relu(self.norm(self.conv(x_bchw)))


class ResidualBlock(nn.Module):
    """Two normalised 3x3 convolutions around an identity, no ReLU after the sum."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = ConvLayer(channels, channels, 3)
        self.norm1 = make_norm(norm, channels)
        self.conv2 = ConvLayer(channels, channels, 3)
        self.norm2 = make_norm(norm, channels)

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Same shape."""
        hidden = F.relu(self.norm1(self.conv1(x_bchw)))
        out: Tensor = x_bchw + self.norm2(self.conv2(hidden))
        return out


class JohnsonNet(nn.Module):
    """RGB in [0, 1] to stylized RGB, (B, 3, H, W) to (B, 3, H, W).

    H and W must be multiples of ``stride`` and at least 16.

    Args:
        width: channels of the first layer; the residual blocks have four times as many.
            32 is the published network (1.68 M parameters).
        num_blocks: residual blocks.
        upsampling: ``nearest`` resize then convolution, or ``transposed`` convolution.
        norm: ``instance`` (Ulyanov) or ``batch`` (Johnson).
        head: ``sigmoid`` keeps the output in [0, 1]; ``linear`` leaves it to the caller
            to clamp, as in the layout of pytorch/examples.
    """

    stride = 4

    def __init__(
        self,
        width: int = 32,
        num_blocks: int = 5,
        upsampling: Upsampling = "nearest",
        norm: Norm = "instance",
        head: Head = "sigmoid",
    ) -> None:
        super().__init__()
        self.config = {
            "width": width,
            "num_blocks": num_blocks,
            "upsampling": upsampling,
            "norm": norm,
            "head": head,
        }
        self.encoder = nn.Sequential(
            ConvNormReLU(3, width, 9, norm),
            ConvNormReLU(width, 2 * width, 3, norm, stride=2),
            ConvNormReLU(2 * width, 4 * width, 3, norm, stride=2),
        )
        self.residuals = nn.Sequential(*(ResidualBlock(4 * width, norm) for _ in range(num_blocks)))
        self.decoder = nn.Sequential(
            ConvNormReLU(4 * width, 2 * width, 3, norm, upsampling=upsampling),
            ConvNormReLU(2 * width, width, 3, norm, upsampling=upsampling),
            ConvLayer(width, 3, 9),
        )
        self.head = head

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Stylize (B, 3, H, W)."""
        out: Tensor = self.decoder(self.residuals(self.encoder(x_bchw)))
        return out.sigmoid() if self.head == "sigmoid" else out


def make_norm(norm: Norm, channels: int) -> nn.Module:
    """The normalisation layer named ``norm``."""
    return InstanceNorm(channels) if norm == "instance" else nn.BatchNorm2d(channels)
