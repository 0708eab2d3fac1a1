"""Color: the transform against its matrix, the loss against its formula, the brighter target."""

import numpy as np
import pytest
import torch

from nst_ops.losses.color import brighten, color_loss, luma, rgb_to_yuv, yuv_to_rgb

BT601 = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], dtype=np.float64)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(0))


def test_yuv_is_that_of_bt601_and_back(images):
    expected = np.einsum("cd,bdhw->bchw", BT601, images.numpy().astype(np.float64))
    np.testing.assert_allclose(rgb_to_yuv(images), expected, atol=2e-6)
    torch.testing.assert_close(yuv_to_rgb(rgb_to_yuv(images)), images, atol=1e-6, rtol=0)
    torch.testing.assert_close(luma(images), rgb_to_yuv(images)[:, :1])


def test_color_loss_is_l1_of_luma_and_huber_of_chroma(images):
    target = images.flip(0)
    difference = np.einsum("cd,bdhw->bchw", BT601, (images - target).numpy().astype(np.float64))
    chroma = np.abs(difference[:, 1:])
    huber = np.where(chroma < 0.02, 0.5 * chroma**2, 0.02 * (chroma - 0.01)) / 0.02
    expected = np.abs(difference[:, 0]).mean() + 2 * huber.mean()
    assert color_loss(images, target).item() == pytest.approx(expected, rel=1e-5)
    assert color_loss(images, images) == 0


def test_no_gradient_goes_to_the_target(images):
    stylized, target = images.clone().requires_grad_(), images.flip(0).requires_grad_()
    color_loss(stylized, target).backward()
    assert target.grad is None
    assert stylized.grad.abs().sum() > 0


def test_brighten_keeps_black_white_and_hue_and_saturates():
    skin = torch.tensor([0.55, 0.42, 0.36]).view(1, 3, 1, 1)
    before, after = rgb_to_yuv(skin).flatten(), rgb_to_yuv(brighten(skin, 1.4, 0.8)).flatten()
    assert after[0].item() == pytest.approx(before[0].item() ** 0.8, abs=1e-5)
    torch.testing.assert_close(after[1:], before[1:] * 1.4, atol=1e-5, rtol=0)
    for level in (0.0, 1.0):
        flat = torch.full((1, 3, 2, 2), level)
        torch.testing.assert_close(brighten(flat, 1.4, 0.8, 0.5), flat, atol=1e-6, rtol=0)
    torch.testing.assert_close(brighten(skin, 1.0, 1.0, 0.0), skin, atol=1e-6, rtol=0)


def test_brighten_stays_in_range(images):
    bright = brighten(images, 3.0, 0.5, 1.0)
    assert bright.min() >= 0
    assert bright.max() <= 1
