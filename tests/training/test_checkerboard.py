"""The last convolution passes images and no grid."""

import pytest
import torch

from nst_ops.models.johnson import JohnsonNet
from nst_ops.training.step import remove_upsampling_grid


@pytest.mark.parametrize("tile", [[[1.0, -1], [-1, 1]], [[1.0, 1, -1, -1]], [[1.0], [0], [-1], [0]]])
def test_a_grid_does_not_pass_and_an_even_area_does(tile):
    torch.manual_seed(0)
    net = JohnsonNet(width=3, num_blocks=1)
    last = net.decoder[-1].conv
    grid = torch.tensor(tile).repeat(24 // len(tile), 24 // len(tile[0])).expand(1, 3, 24, 24)
    even, nothing = torch.ones(1, 3, 24, 24), torch.zeros(1, 3, 24, 24)
    grid_before, even_before = last(grid), last(even)
    remove_upsampling_grid(net)
    assert (grid_before - last(nothing)).abs().max() > 1e-2
    torch.testing.assert_close(last(grid), last(nothing), atol=1e-6, rtol=0)
    torch.testing.assert_close(last(even), even_before, atol=1e-6, rtol=0)


def test_no_more_is_changed_than_must_be():
    """What is added is the same at all taps of a place in the period, and nothing the second time."""
    torch.manual_seed(0)
    net = JohnsonNet(width=3, num_blocks=1)
    weight = net.decoder[-1].conv.weight
    before = weight.detach().clone()
    remove_upsampling_grid(net)
    once = weight.detach().clone()
    added = once - before
    torch.testing.assert_close(added[:, :, 4:], added[:, :, :5], atol=1e-7, rtol=0)
    torch.testing.assert_close(added[:, :, :, 4:], added[:, :, :, :5], atol=1e-7, rtol=0)
    remove_upsampling_grid(net)
    torch.testing.assert_close(weight.detach(), once, atol=1e-7, rtol=0)
