"""Directions of CLIP as losses, and the patches that they are measured on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nst_ops.losses.clip_direction import cut_patches, direction_distance, patch_distance


def ramps(side: int = 64) -> Tensor:
    """An image whose red is its column and whose green is its row, in [0, 1]."""
    along = (torch.arange(side) + 0.5) / side
    return torch.stack([along.expand(side, side), along[:, None].expand(side, side), torch.zeros(side, side)])[None]


def test_distance_is_that_of_directions_alone() -> None:
    origin, direction = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0.0, 2.0, 0.0])
    found = origin + torch.tensor([[0.0, 0.1, 0.0], [0.0, -5.0, 0.0], [0.0, 0.0, 3.0]])
    torch.testing.assert_close(direction_distance(found, origin, direction), torch.tensor([0.0, 2.0, 1.0]))
    assert direction_distance(origin, origin, direction).isfinite().all()


def test_patches_that_are_near_enough_do_not_count() -> None:
    origin, direction = torch.zeros(1, 2), torch.tensor([1.0, 0.0])
    found = torch.tensor([[1.0, 1.0], [-1.0, 0.0]], requires_grad=True)
    loss = patch_distance(found, origin, direction, 0.7)
    torch.testing.assert_close(loss.detach(), torch.tensor(1.0))
    assert patch_distance(found, origin, direction, 0.1) > loss
    patch_distance(found, origin, direction, 0.7).backward()
    assert found.grad is not None
    assert found.grad[0].abs().sum() == 0


def test_patches_are_straight_views_of_parts_of_the_picture() -> None:
    patches = cut_patches(ramps(), 50, 16, np.random.default_rng(0))
    assert patches.shape == (50, 3, 16, 16)
    widths = patches[:, 0].amax((1, 2)) - patches[:, 0].amin((1, 2))
    assert 0.1 < widths.min() < widths.max() < 0.5
    assert patches[:, :2].amin() < 0.1
    assert patches[:, :2].amax() > 0.9
    for place in ("x", "y"):  # a straight line stays straight: along it, red and green change in a fixed proportion
        line = patches[:, :2, 8] if place == "x" else patches[:, :2, :, 8]
        steps = (line[..., 1:] - line[..., :-1])[..., 1:-1]
        cross = steps[:, 0, 1:] * steps[:, 1, :-1] - steps[:, 1, 1:] * steps[:, 0, :-1]
        assert cross.abs().max() < 1e-5
    bent = patches[:, 0, 0, 0] - patches[:, 0, 15, 0]  # left side of a patch
    assert bent.abs().max() > 0.02


def test_patches_are_the_same_by_seed_and_have_a_gradient() -> None:
    image = ramps().requires_grad_()
    first, same, other = (cut_patches(image, 4, 8, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    first.sum().backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
