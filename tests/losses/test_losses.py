"""Each loss of features and images against its formula written out in float64."""

import numpy as np
import pytest
import torch

from nst_ops.losses import channel_statistics, content_loss, gram_loss, gram_matrix, mean_std_loss, total_variation


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


@pytest.mark.parametrize("units", ["relative", "mean", "absolute"])
def test_content_loss(rng, units):
    got, target = rng.normal(size=(2, 5, 7, 6)), rng.normal(size=(2, 5, 7, 6)) * 900
    squares = ((got - target) ** 2).sum()
    expected = {
        "relative": squares / (target**2).sum(),
        "mean": squares / (2 * 5 * 7 * 6),
        "absolute": np.abs(got - target).sum() / np.abs(target).sum(),
    }[units]
    assert content_loss(torch.tensor(got), torch.tensor(target), units).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("units", ["relative", "absolute"])
def test_content_loss_is_zero_at_the_content_and_one_when_empty(rng, units):
    target = torch.tensor(rng.normal(size=(1, 3, 4, 4)))
    assert content_loss(target, target, units) == 0
    assert content_loss(torch.zeros_like(target), target, units).item() == pytest.approx(1)


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


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gram_matrix_of_bf16_features_is_near_the_exact_one(rng, memory_format):
    """Positions are added up in parts, as one sum of 4,000 in bf16 would stop growing."""
    features = torch.tensor(np.abs(rng.normal(size=(2, 16, 64, 65)))).to(torch.bfloat16)
    got = gram_matrix(features.to(memory_format=memory_format))
    assert got.dtype == torch.float32
    exact = reference_gram(features.double().numpy())
    assert np.linalg.norm(got.numpy() - exact) < 2e-3 * np.linalg.norm(exact)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradient_of_the_gram_matrix(rng, dtype, error, memory_format):
    features = torch.tensor(rng.normal(size=(2, 4, 9, 5))).to(dtype).to(memory_format=memory_format).requires_grad_()
    towards = torch.tensor(rng.normal(size=(2, 4, 4)), dtype=torch.float32)  # not symmetric
    (got,) = torch.autograd.grad(gram_matrix(features), features, towards)
    exact = features.detach().double().requires_grad_()
    flat = exact.flatten(2)
    gram = flat @ flat.transpose(1, 2) / exact[0].numel()
    (expected,) = torch.autograd.grad(gram, exact, towards.double())
    assert got.dtype == dtype
    assert (got - expected).norm() < error * expected.norm()


def test_gram_matrix_stays_fp32_under_autocast(rng):
    features = torch.tensor(rng.normal(size=(1, 4, 8, 8)), dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        got = gram_matrix(features)
    torch.testing.assert_close(got, gram_matrix(features), rtol=0, atol=0)


@pytest.mark.parametrize("units", ["relative", "mean", "sum"])
def test_gram_loss(rng, units):
    features, style = rng.normal(size=(3, 4, 6, 5)) * 50, rng.normal(size=(1, 4, 8, 9)) * 20
    gram, target = reference_gram(features), reference_gram(style)
    whole = {"relative": (target[0] ** 2).sum(), "mean": 4 * 4, "sum": 1}[units]
    expected = np.mean([((one - target[0]) ** 2).sum() / whole for one in gram])
    got = gram_loss(torch.tensor(features), torch.tensor(target), units)
    assert got.item() == pytest.approx(expected, rel=1e-5)
    assert gram_loss(torch.tensor(features), torch.tensor(target[0]), units) == got


def test_gram_loss_ignores_where_things_are(rng):
    features = torch.tensor(rng.normal(size=(1, 4, 6, 6)))
    moved = features.roll((2, 3), dims=(2, 3))
    assert gram_loss(moved, gram_matrix(features)).item() == pytest.approx(0, abs=1e-10)


def reference_statistics(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = features.mean(axis=(2, 3))
    variance = ((features - mean[:, :, None, None]) ** 2).mean(axis=(2, 3))
    return mean, np.sqrt(variance + 1e-5)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_channel_statistics(rng, memory_format):
    features = rng.normal(size=(2, 4, 9, 5)) * 300 + 1000
    features[:, 0] = 7
    got = channel_statistics(torch.tensor(features).to(memory_format=memory_format))
    for tensor, expected in zip(got, reference_statistics(features), strict=True):
        assert tensor.dtype == torch.float32
        assert tensor.shape == (2, 4)
        np.testing.assert_allclose(tensor, expected, rtol=1e-5)


@pytest.mark.parametrize("units", ["relative", "mean"])
def test_mean_std_loss(rng, units):
    features, style = rng.normal(size=(3, 4, 6, 5)) * 50, rng.normal(size=(1, 4, 8, 9)) * 20 + 5
    mean, std = reference_statistics(features)
    to_mean, to_std = reference_statistics(style)
    of_means, of_stds = ((mean - to_mean) ** 2).mean(), ((std - to_std) ** 2).mean()
    relative = (of_means / (to_mean**2).mean() + of_stds / (to_std**2).mean()) / 2
    got = mean_std_loss(torch.tensor(features), torch.tensor(to_mean), torch.tensor(to_std), units)
    assert got.item() == pytest.approx(relative if units == "relative" else of_means + of_stds, rel=1e-5)


def test_mean_std_loss_is_zero_at_the_style_and_one_when_empty(rng):
    style = torch.tensor(rng.normal(size=(1, 3, 8, 8)) * 40 + 9)
    mean, std = channel_statistics(style)
    assert mean_std_loss(style, mean, std) == 0
    assert mean_std_loss(torch.zeros_like(style), mean, std).item() == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("units", ["mean", "sum"])
def test_total_variation(rng, units):
    image = rng.random((2, 3, 8, 5))
    down, across = image[:, :, 1:] - image[:, :, :-1], image[:, :, :, 1:] - image[:, :, :, :-1]
    if units == "mean":
        expected = (down**2).mean() + (across**2).mean()
    else:
        expected = np.mean([(d**2).sum() + (a**2).sum() for d, a in zip(down, across, strict=True)])
    assert total_variation(torch.tensor(image), units).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("units", ["mean", "sum"])
def test_total_variation_does_not_depend_on_the_batch(rng, units):
    image = torch.tensor(rng.random((1, 3, 8, 5)))
    assert total_variation(image.repeat(4, 1, 1, 1), units) == pytest.approx(total_variation(image, units))


def test_total_variation_bounds():
    board = (torch.arange(8)[:, None] + torch.arange(8)) % 2
    assert total_variation(board.float()[None, None]) == 2
    assert total_variation(torch.full((1, 3, 8, 8), 0.4)) == 0


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_gradients_are_finite_at_flat_targets(value):
    flat = torch.full((1, 3, 4, 4), value, requires_grad=True)
    frozen = flat.detach()
    statistics = channel_statistics(frozen)
    for units in ("relative", "mean"):
        loss = content_loss(flat, frozen, units) + gram_loss(flat, gram_matrix(frozen), units)
        loss = loss + mean_std_loss(flat, *statistics, units) + mean_std_loss(flat, *(2 * s for s in statistics))
        (loss + total_variation(flat)).backward()
    assert flat.grad is not None
    assert flat.grad.isfinite().all()
