"""Noise and motion: exact where they can be, and what they ask of a network."""

import math

import numpy as np
import pytest
import torch

from nst_ops.losses.temporal import (
    add_noise,
    affine_motion,
    inside_mask,
    motion_equivariance,
    noise_stability,
    random_motion,
    warp,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_noise_has_the_amplitude_and_share_asked_for():
    images = torch.full((4, 3, 128, 128), 0.5)
    change = add_noise(images, 30 / 255, 0.05, seeded()) - images
    noisy = (change != 0).any(dim=1)
    assert noisy.float().mean().item() == pytest.approx(0.05, abs=0.003)
    of_noisy = change.permute(0, 2, 3, 1)[noisy]
    assert of_noisy.abs().max() <= 30 / 255 + 1e-6
    assert of_noisy.abs().max() > 29 / 255
    assert of_noisy.mean().item() == pytest.approx(0, abs=0.003)
    # a uniform distribution in [-a, a] has the deviation a / sqrt(3)
    assert of_noisy.std().item() == pytest.approx(30 / 255 / math.sqrt(3), rel=0.03)
    # a pixel is noisy in all channels, and differently
    assert (of_noisy != 0).float().mean() > 0.999
    assert (of_noisy[:, 0] != of_noisy[:, 1]).float().mean() > 0.999


def test_noise_is_fresh_and_reproducible():
    images = torch.rand(2, 3, 16, 16, generator=seeded()).repeat(2, 1, 1, 1)
    generator = seeded(1)
    first, second = add_noise(images, 0.1, 0.5, generator), add_noise(images, 0.1, 0.5, generator)
    assert not torch.equal(first, second)
    assert not torch.equal(first[:2], first[2:])
    assert torch.equal(first, add_noise(images, 0.1, 0.5, seeded(1)))
    assert torch.equal(images[:2], images[2:])  # not in place


def test_noise_stays_in_range_and_may_be_nowhere_or_everywhere():
    images = torch.rand(1, 3, 64, 64, generator=seeded())
    noisy = add_noise(images, 1.0, 1.0, seeded())
    assert (noisy != images).any(dim=1).float().mean() > 0.9
    assert noisy.min() == 0
    assert noisy.max() == 1
    assert torch.equal(add_noise(images, 1.0, 0.0, seeded()), images)


def test_noise_stability():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 3, 5, 4)), rng.random((2, 3, 5, 4))
    got = noise_stability(torch.tensor(a), torch.tensor(b))
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(((a - b) ** 2).mean(), rel=1e-5)


def test_affine_motion_says_where_a_point_was():
    theta = affine_motion(torch.tensor([[0.1, -0.2]]), torch.tensor([1.25]))[0].double()
    for x, y in [(0.0, 0.0), (0.3, -0.7)]:
        moved = torch.tensor([1.25 * x + 0.2, 1.25 * y - 0.4, 1.0], dtype=torch.float64)
        torch.testing.assert_close(theta @ moved, torch.tensor([x, y], dtype=torch.float64), atol=1e-6, rtol=0)


def test_random_motion_keeps_to_its_bounds():
    theta = random_motion(2000, 0.05, 0.1, seeded())
    zoom, shift = 1 / theta[:, 0, 0], -theta[:, :, 2] / theta[:, :1, 0] / 2
    assert theta.shape == (2000, 2, 3)
    assert torch.equal(theta[:, 0, 0], theta[:, 1, 1])
    assert theta[:, 0, 1].abs().max() == theta[:, 1, 0].abs().max() == 0
    for value, bound in [(shift[:, 0], 0.05), (shift[:, 1], 0.05), (zoom.log(), math.log(1.1))]:
        assert value.abs().max() <= bound + 1e-6
        assert value.max() > 0.98 * bound
        assert value.min() < -0.98 * bound
        assert value.mean().item() == pytest.approx(0, abs=0.05 * bound)
    assert torch.equal(theta, random_motion(2000, 0.05, 0.1, seeded()))


def test_no_motion_changes_nothing():
    images = torch.rand(2, 3, 9, 14)
    theta = random_motion(2, 0.0, 0.0)
    torch.testing.assert_close(warp(images, theta), images)
    assert inside_mask(theta, (9, 14)).all()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_whole_pixel_shifts_are_exact(memory_format):
    """Rightwards by 3 and upwards by 2; what comes into view is mirrored at the edge."""
    images = torch.rand(1, 3, 12, 20, generator=seeded()).to(memory_format=memory_format)
    theta = affine_motion(torch.tensor([[3 / 20, -2 / 12]]), torch.tensor([1.0]))
    moved = np.pad(images.double().numpy(), ((0, 0), (0, 0), (0, 2), (3, 0)), mode="symmetric")[:, :, 2:, :20]
    np.testing.assert_allclose(warp(images, theta), moved, atol=2e-6)
    expected = np.zeros((1, 1, 12, 20), dtype=bool)
    expected[:, :, :10, 3:] = True
    np.testing.assert_array_equal(inside_mask(theta, (12, 20)), expected)


def reference_warp(image: np.ndarray, shift: tuple[float, float], zoom: float) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W) magnified about its middle and shifted, bilinear; and where its source is in view."""
    height, width = image.shape
    moved, inside = np.zeros((height, width)), np.zeros((height, width), dtype=bool)
    for row in range(height):
        for column in range(width):
            # in pixels, from the middle of the image
            x = (column + 0.5 - width / 2 - shift[0] * width) / zoom + width / 2
            y = (row + 0.5 - height / 2 - shift[1] * height) / zoom + height / 2
            inside[row, column] = 0 < x < width and 0 < y < height
            left, top = math.floor(x - 0.5), math.floor(y - 0.5)
            for i, j in [(top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)]:
                share = (1 - abs(x - 0.5 - j)) * (1 - abs(y - 0.5 - i))
                mirrored_i = -1 - i if i < 0 else 2 * height - 1 - i if i >= height else i
                mirrored_j = -1 - j if j < 0 else 2 * width - 1 - j if j >= width else j
                moved[row, column] += share * image[mirrored_i, mirrored_j]
    return moved, inside


@pytest.mark.parametrize(("shift", "zoom"), [((0.0, 0.0), 1.25), ((0.13, -0.07), 0.8), ((-0.21, 0.3), 1.1)])
def test_warp_and_mask(shift, zoom):
    image = np.random.default_rng(0).random((14, 23))
    moved, inside = reference_warp(image, shift, zoom)
    theta = affine_motion(torch.tensor([shift]), torch.tensor([zoom]))
    np.testing.assert_allclose(warp(torch.tensor(image)[None, None], theta)[0, 0], moved, atol=1e-5)
    np.testing.assert_array_equal(inside_mask(theta, (14, 23))[0, 0], inside)


def test_warp_is_exact_under_autocast():
    """In bf16 a coordinate of a large image is off by pixels."""
    images = torch.rand(1, 3, 40, 300, generator=seeded())
    theta = random_motion(1, 0.05, 0.05, seeded())
    expected = warp(images, theta)
    with torch.autocast("cpu", torch.bfloat16):
        got, mask = warp(images, theta), inside_mask(theta, (40, 300))
    assert torch.equal(got, expected)
    assert torch.equal(mask, inside_mask(theta, (40, 300)))


def test_motion_equivariance():
    rng = np.random.default_rng(0)
    shifts, zooms = [(0.1, 0.0), (-0.2, 0.15)], [1.1, 0.75]
    stylized, moved = rng.random((2, 3, 10, 12)), rng.random((2, 3, 10, 12))
    of_each = []
    for b in range(2):
        squares = []
        for c in range(3):
            warped, inside = reference_warp(stylized[b, c], shifts[b], zooms[b])
            squares.append(((warped - moved[b, c]) ** 2)[inside])
        of_each.append(np.mean(squares))
    got = motion_equivariance(
        torch.tensor(stylized), torch.tensor(moved), affine_motion(torch.tensor(shifts), torch.tensor(zooms))
    )
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(np.mean(of_each), rel=1e-4)


def test_motion_equivariance_asks_for_texture_that_moves_along():
    images = torch.rand(3, 3, 32, 32, generator=seeded())
    theta = random_motion(3, 0.1, 0.1, seeded())
    texture = 0.2 * torch.rand(1, 3, 32, 32, generator=seeded(7))

    def pointwise(images):
        return 1 - images

    def fixed_to_the_screen(images):
        return 1 - images + texture

    for stylize, low, high in [(pointwise, 0.0, 1e-10), (fixed_to_the_screen, 1e-4, 1.0)]:
        loss = motion_equivariance(stylize(images), stylize(warp(images, theta)), theta).item()
        assert low <= loss <= high


def test_motion_out_of_view_counts_nothing():
    stylized = torch.rand(2, 3, 8, 8, requires_grad=True)
    theta = affine_motion(torch.tensor([[1.5, 0.0], [0.0, 0.0]]), torch.tensor([1.0, 1.0]))
    loss = motion_equivariance(stylized, torch.zeros(2, 3, 8, 8), theta)
    loss.backward()
    assert stylized.grad is not None
    assert stylized.grad[0].abs().sum() == 0
    assert stylized.grad.isfinite().all()
    torch.testing.assert_close(loss, stylized.detach()[1].square().mean() / 2)
