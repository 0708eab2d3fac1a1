"""Padding by copies, for GPUs: the values, gradients and layout of what torch does on a CPU."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nst_ops.models.padding import EdgeCopies, ReflectConv2d, reflection_pad

LAYOUTS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("height", "width", "margin"), [(2, 2, 1), (5, 9, 4), (7, 6, 1), (20, 31, 4)])
def test_copies_give_the_values_and_gradients_of_torch(height, width, margin, layout):
    torch.manual_seed(0)
    x = torch.randn(2, 3, height, width).contiguous(memory_format=layout).requires_grad_()
    expected, got = F.pad(x, (margin,) * 4, mode="reflect"), EdgeCopies.apply(x, margin)
    torch.testing.assert_close(got, expected, atol=0, rtol=0)
    weights = torch.randn_like(expected)
    (wanted,) = torch.autograd.grad((expected * weights).sum(), x)
    (grad,) = torch.autograd.grad((got * weights).sum(), x)
    torch.testing.assert_close(grad, wanted)
    torch.testing.assert_close(
        torch.autograd.grad(EdgeCopies.apply(x, margin).sum(), x)[0].sum(), got.new_tensor(got.numel())
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_copies_keep_the_layout_there_and_back(layout):
    x = torch.randn(2, 8, 12, 10).contiguous(memory_format=layout).requires_grad_()
    out = EdgeCopies.apply(x, 3)
    assert out.is_contiguous(memory_format=layout)
    (grad,) = torch.autograd.grad(out, x, torch.randn_like(out))
    assert grad.is_contiguous(memory_format=layout)


def test_mirroring_convolution_is_that_of_torch():
    torch.manual_seed(0)
    reference = nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect")
    own = ReflectConv2d(4, 6, 3)
    own.load_state_dict(reference.state_dict())
    x = torch.randn(2, 4, 9, 11)
    torch.testing.assert_close(own(x), reference(x), atol=0, rtol=0)
    torch.testing.assert_close(reflection_pad(x, 2), F.pad(x, (2,) * 4, mode="reflect"), atol=0, rtol=0)
