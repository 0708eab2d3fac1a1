"""Convolution with reflection at the border, after upsampling where that is asked for.

A CPU takes two of them another way than torch, to the same result but for rounding: after nearest upsampling, and to
few channels. Shapes: B batch, C and O channels before and after, H and W pixels before, K taps a side.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nst_ops.models.padding import reflection_pad

_LANES = 16  # channels that a CPU computes at once; a convolution to three takes as long as one to all of them
# Taps of a 3x3 kernel that meet the same pixel before it was doubled: of even rows and of odd ones.
_MERGED = ((1.0, 0.0, 0.0), (0.0, 1.0, 1.0)), ((1.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def convolve(conv: nn.Conv2d, x_bchw: Tensor, upsampling: Literal["nearest", "bilinear"] | None = None) -> Tensor:
    """Convolve (B, C, H, W), of twice the sides with ``upsampling``; the border is mirrored as far as ``conv`` reads.

    Sides are divided by the stride.
    """
    taps, is_dense = conv.kernel_size[0], conv.stride == (1, 1)
    if x_bchw.is_cpu and upsampling == "nearest" and taps == 3 and is_dense:
        return upsampled_convolution(x_bchw, conv.weight, conv.bias)
    if upsampling:
        x_bchw = F.interpolate(x_bchw, scale_factor=2, mode=upsampling)
    padded = reflection_pad(x_bchw, taps // 2)
    if x_bchw.is_cpu and is_dense and 4 * conv.out_channels <= _LANES:
        return convolution_to_few(padded, conv.weight, conv.bias)
    return cast(Tensor, conv(padded))


def upsampled_convolution(x_bchw: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve (B, C, 2 H, 2 W), each pixel of ``x_bchw`` doubled and mirrored at the border, by (O, C, 3, 3).

    Of three taps in a row two meet the same pixel. So four kernels of 2x2 on the small map, one for each place in a
    block of 2x2 pixels, do the work of nine taps on the large one (W. Shi et al., CVPR 2016, fig. 4), and the large map
    is never made. The mirror image of a doubled border is the border itself.
    """
    merged = torch.tensor(_MERGED, device=weight.device)
    kernels = torch.einsum("aki,blj,ocij->abockl", merged, merged, weight.float()).flatten(0, 2).to(weight.dtype)
    padded = F.pad(x_bchw, (1, 1, 1, 1), mode="replicate")
    phases = F.conv2d(padded, kernels, None if bias is None else bias.repeat(4))
    doubled: Tensor = _Interleaved.apply(phases)
    return doubled


class _Interleaved(torch.autograd.Function):
    """Four maps (B, 4 O, H + 1, W + 1) as one of (B, O, 2 H, 2 W): rows of odd places begin one position later."""

    @staticmethod
    def forward(ctx: Any, phases: Tensor) -> Tensor:
        """Copy each map to its place in the blocks."""
        ctx.size = phases.shape
        count, channels, height, width = phases.shape
        size = count, channels // 4, 2 * (height - 1), 2 * (width - 1)
        whole = _empty_like(phases, size)
        for place, phase in _places(phases, whole):
            place.copy_(phase)
        return whole

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """Return the gradient of the four maps: 0 where nothing was taken from."""
        phases = _empty_like(grads[0], ctx.size).zero_()
        for place, phase in _places(phases, grads[0]):
            phase.copy_(place)
        return phases


def _empty_like(x_bchw: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return a map of another size in channels-last, to be filled."""
    return torch.empty(size, dtype=x_bchw.dtype, device=x_bchw.device, memory_format=torch.channels_last)


def _places(phases: Tensor, whole: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return views of the places of the whole and of the maps that belong there."""
    height, width = whole.shape[2] // 2, whole.shape[3] // 2
    maps = phases.chunk(4, dim=1)
    return [
        (whole[:, :, down::2, right::2], maps[2 * down + right][:, :, down : down + height, right : right + width])
        for down in (0, 1)
        for right in (0, 1)
    ]


def convolution_to_few(x_bchw: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve (B, C, H, W) by (O, C, K, K) without padding, all pixels of a block of 2x2 at once.

    They are channels of one convolution with stride 2 whose kernel holds ``weight`` at four places: a quarter of the
    positions, each with the lanes of the CPU full.
    """
    if not all((side - weight.shape[-1]) % 2 for side in x_bchw.shape[2:]):  # sides of the result that are odd
        return F.conv2d(x_bchw, weight, bias)
    places = [F.pad(weight, (right, 1 - right, down, 1 - down)) for down in (0, 1) for right in (0, 1)]
    kernels = torch.stack(places, dim=1).flatten(0, 1)  # channel by channel, as pixel_shuffle wants them
    blocks = F.conv2d(x_bchw, kernels, None if bias is None else bias.repeat_interleave(4), stride=2)
    return F.pixel_shuffle(blocks, 2)
