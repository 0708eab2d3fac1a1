"""Reflection padding that keeps channels-last, and takes maps of any size.

``F.pad`` gives the other layout on a GPU, so that every convolution after it would copy its input (pytorch#102518),
and refuses maps of more than 2^31 elements (pytorch#147118).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def reflection_pad(x_bchw: Tensor, margin: int) -> Tensor:
    """Mirror ``margin`` pixels, fewer than either side has, beyond each border of (B, C, H, W); keeps the layout."""
    if not x_bchw.is_cuda or torch.compiler.is_compiling():  # both keep it
        return F.pad(x_bchw, (margin,) * 4, mode="reflect")
    padded: Tensor = EdgeCopies.apply(x_bchw, margin)
    return padded


class EdgeCopies(torch.autograd.Function):
    """Padding by copies of the inside and of mirrored strips, whose gradients are added to what they mirror."""

    @staticmethod
    def forward(ctx: Any, x_bchw: Tensor, margin: int) -> Tensor:
        """See ``reflection_pad``."""
        ctx.margin = margin
        count, channels, height, width = x_bchw.shape
        size = count, channels, height + 2 * margin, width + 2 * margin
        out = torch.empty(size, dtype=x_bchw.dtype, device=x_bchw.device, memory_format=_layout(x_bchw))
        rows = out.narrow(3, margin, width)
        rows.narrow(2, margin, height).copy_(x_bchw)
        for part, dim in ((rows, 2), (out, 3)):  # columns last, corners included
            side = part.shape[dim]
            part.narrow(dim, 0, margin).copy_(part.narrow(dim, margin + 1, margin).flip(dim))
            last = part.narrow(dim, side - 2 * margin - 1, margin)
            part.narrow(dim, side - margin, margin).copy_(last.flip(dim))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of the input."""
        (grad,), margin = grads, ctx.margin
        for dim in (2, 3):
            side = grad.shape[dim] - 2 * margin
            inside = grad.narrow(dim, margin, side).clone(memory_format=_layout(grad))
            inside.narrow(dim, 1, margin).add_(grad.narrow(dim, 0, margin).flip(dim))
            inside.narrow(dim, side - 1 - margin, margin).add_(grad.narrow(dim, margin + side, margin).flip(dim))
            grad = inside
        return grad, None


def _layout(x_bchw: Tensor) -> torch.memory_format:
    channels_last = x_bchw.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format


class ReflectConv2d(nn.Conv2d):
    """Convolution whose padding mirrors, by ``reflection_pad``; weights as those of ``nn.Conv2d``."""

    def __init__(self, before: int, after: int, kernel: int) -> None:
        super().__init__(before, after, kernel)
        self.margin = kernel // 2

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Convolve (B, C, H, W) to the same height and width."""
        return super().forward(reflection_pad(x_bchw, self.margin))
