"""Convolutions that a CPU takes another way give what torch's own give, gradients too."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nst_ops.models.convolution import convolve
from nst_ops.models.padding import reflection_pad


def plainly(conv: nn.Conv2d, x_bchw: torch.Tensor, upsampling: str | None) -> torch.Tensor:
    if upsampling:
        x_bchw = F.interpolate(x_bchw, scale_factor=2, mode=upsampling)
    return conv(reflection_pad(x_bchw, conv.kernel_size[0] // 2))


@pytest.mark.parametrize(
    ("channels", "taps", "stride", "upsampling"),
    [
        pytest.param(6, 3, 1, "nearest", id="after nearest upsampling"),
        pytest.param(6, 3, 1, "bilinear", id="after bilinear upsampling"),
        pytest.param(3, 9, 1, None, id="to few channels"),
        pytest.param(3, 5, 1, "nearest", id="to few channels after upsampling"),
        pytest.param(6, 3, 2, None, id="to half the size"),
        pytest.param(6, 9, 1, None, id="to many channels"),
    ],
)
@pytest.mark.parametrize(("height", "width"), [(12, 10), (11, 10), (9, 13)])
@pytest.mark.parametrize("bias", [True, False])
def test_results_and_gradients_are_those_of_torch(
    channels: int, taps: int, stride: int, upsampling: str | None, height: int, width: int, bias: bool
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(5, channels, taps, stride, bias=bias)
    x_bchw = torch.randn(2, 5, height, width).contiguous(memory_format=torch.channels_last).requires_grad_()
    ours, torchs = convolve(conv, x_bchw, upsampling), plainly(conv, x_bchw, upsampling)
    torch.testing.assert_close(ours, torchs, rtol=1e-4, atol=1e-5)
    wanted = [x_bchw, *conv.parameters()]
    gradient = torch.randn_like(torchs)
    for got, expected in zip(
        torch.autograd.grad(ours, wanted, gradient), torch.autograd.grad(torchs, wanted, gradient), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def test_upsampling_keeps_channels_last_and_half_precision() -> None:
    conv = nn.Conv2d(8, 8, 3).to(torch.bfloat16)
    x_bchw = torch.randn(1, 8, 6, 7).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        got, expected = convolve(conv, x_bchw, "nearest"), plainly(conv, x_bchw, "nearest")
    assert got.dtype == torch.bfloat16
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert (got - expected).float().pow(2).mean().sqrt() < 0.01 * expected.float().std()
