"""Each loss against its formula written out in float64."""

import numpy as np
import pytest
import torch

from nst_ops.losses import content_loss, gram_matrix, style_loss, total_variation


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def reference_gram(features: np.ndarray) -> np.ndarray:
    batch, channels, height, width = features.shape
    gram = np.zeros((batch, channels, channels))
    for b in range(batch):
        flat = features[b].reshape(channels, -1)
        for i in range(channels):
            for j in range(channels):
                gram[b, i, j] = np.dot(flat[i], flat[j]) / (channels * height * width)
    return gram


def test_content_loss(rng):
    got, target = rng.normal(size=(2, 5, 7, 6)), rng.normal(size=(2, 5, 7, 6)) * 900
    expected = ((got - target) ** 2).sum() / (target**2).sum()
    assert content_loss(torch.tensor(got), torch.tensor(target)).item() == pytest.approx(expected, rel=1e-5)


def test_content_loss_is_zero_at_the_photo_and_one_when_empty(rng):
    target = torch.tensor(rng.normal(size=(1, 3, 4, 4)))
    assert content_loss(target, target) == 0
    assert content_loss(torch.zeros_like(target), target).item() == pytest.approx(1)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gram_matrix(rng, memory_format):
    features = rng.normal(size=(2, 4, 9, 5)) * 300
    got = gram_matrix(torch.tensor(features).to(memory_format=memory_format))
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got, reference_gram(features), rtol=2e-5, atol=1e-2)


def test_gram_matrix_of_half_features_does_not_overflow():
    """Activations of the original VGG reach 15,000: their squares alone leave fp16."""
    gram = gram_matrix(torch.full((1, 8, 16, 16), 15_000.0, dtype=torch.float16))
    assert gram.isfinite().all()
    np.testing.assert_allclose(gram, 15_000.0**2 / 8, rtol=1e-3)


def test_gram_matrix_stays_fp32_under_autocast(rng):
    features = torch.tensor(rng.normal(size=(1, 4, 8, 8)), dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        got = gram_matrix(features)
    torch.testing.assert_close(got, gram_matrix(features), rtol=0, atol=0)


def test_style_loss(rng):
    features, painting = rng.normal(size=(3, 4, 6, 5)) * 50, rng.normal(size=(1, 4, 8, 9)) * 20
    gram, target = reference_gram(features), reference_gram(painting)
    expected = np.mean([((one - target[0]) ** 2).sum() / (target[0] ** 2).sum() for one in gram])
    got = style_loss(torch.tensor(features), torch.tensor(target))
    assert got.item() == pytest.approx(expected, rel=1e-5)
    assert style_loss(torch.tensor(features), torch.tensor(target[0])) == got


def test_style_loss_ignores_where_things_are(rng):
    features = torch.tensor(rng.normal(size=(1, 4, 6, 6)))
    moved = features.roll((2, 3), dims=(2, 3))
    assert style_loss(moved, gram_matrix(features)).item() == pytest.approx(0, abs=1e-10)


def test_total_variation(rng):
    image = rng.random((2, 3, 8, 5))
    down, across = image[:, :, 1:] - image[:, :, :-1], image[:, :, :, 1:] - image[:, :, :, :-1]
    expected = (down**2).mean() + (across**2).mean()
    assert total_variation(torch.tensor(image)).item() == pytest.approx(expected, rel=1e-5)


def test_total_variation_bounds():
    board = (torch.arange(8)[:, None] + torch.arange(8)) % 2
    assert total_variation(board.float()[None, None]) == 2
    assert total_variation(torch.full((1, 3, 8, 8), 0.4)) == 0


def test_gradients_are_finite_at_the_targets():
    features = torch.rand(1, 3, 4, 4, requires_grad=True)
    frozen = features.detach()
    (content_loss(features, frozen) + style_loss(features, gram_matrix(frozen))).backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()
    dark = torch.zeros(1, 3, 4, 4, requires_grad=True)
    (content_loss(dark, dark) + style_loss(dark, gram_matrix(dark)) + total_variation(dark)).backward()
    assert dark.grad is not None
    assert dark.grad.isfinite().all()
