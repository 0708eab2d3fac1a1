"""Both sides of the game against their formulas, and that playing it moves images towards the style."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from nst_ops.config.losses import AdversarialConfig
from nst_ops.losses.adversarial import VIEWS, AdversarialLoss, augment, r1_penalty, realness_loss, see
from nst_ops.losses.color import luma
from nst_ops.losses.structure import gaussian_blur


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def loss_of(**settings) -> AdversarialLoss:
    return AdversarialLoss(AdversarialConfig(**settings))


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("kind", ["non_saturating", "least_squares"])
def test_realness_loss(kind, real):
    logits = np.random.default_rng(0).normal(size=(2, 1, 3, 4)) * 3
    probability = 1 / (1 + np.exp(-logits))
    expected = {
        ("non_saturating", True): -np.log(probability),
        ("non_saturating", False): -np.log(1 - probability),
        ("least_squares", True): (logits - 1) ** 2,
        ("least_squares", False): logits**2,
    }[kind, real].mean()
    assert realness_loss(torch.tensor(logits), real, kind).item() == pytest.approx(expected, rel=1e-5)


def test_non_saturating_loss_pulls_hardest_at_the_sure():
    logits = torch.tensor([-20.0, 0.0, 20.0], requires_grad=True)
    (3 * realness_loss(logits, True, "non_saturating")).backward()
    torch.testing.assert_close(logits.grad, torch.tensor([-1.0, -0.5, 0.0]), atol=1e-6, rtol=0)


def test_r1_of_a_linear_network_is_its_squared_slope():
    discriminator = torch.nn.Conv2d(3, 1, 1)
    penalty = r1_penalty(discriminator, torch.rand(2, 3, 5, 6))
    assert penalty.item() == pytest.approx(discriminator.weight.square().mean().item(), rel=1e-5)
    penalty.backward()
    torch.testing.assert_close(discriminator.weight.grad, 2 * discriminator.weight / 3)


@pytest.mark.parametrize("kind", ["non_saturating", "least_squares"])
def test_discriminator_loss_weighs_the_fakes(kind):
    adversarial = loss_of(kind=kind, width=4, blurred=0.5, gray=0.25, augment=False).eval()
    stylized, style = torch.rand(2, 3, 40, 40), torch.rand(3, 3, 48, 33)
    discriminator = adversarial.discriminators["color"]
    fakes = [(1, stylized), (0.5, gaussian_blur(style, 1.0)), (0.25, luma(style).expand(-1, 3, -1, -1))]
    expected = realness_loss(discriminator(style), True, kind) + sum(
        weight * realness_loss(discriminator(fake), False, kind) / 1.75 for weight, fake in fakes
    )
    torch.testing.assert_close(adversarial.discriminator_loss(stylized, style), expected)


@pytest.mark.parametrize("r1", [0.0, 0.1])
def test_discriminators_learn_from_their_own_loss_only(r1):
    adversarial = loss_of(width=4, views=["color", "coarse", "gray", "surface"], r1=r1)
    stylized, style = torch.rand(2, 3, 64, 64, requires_grad=True), torch.rand(2, 3, 64, 64)
    adversarial.discriminator_loss(stylized, style).backward()
    assert stylized.grad is None
    for view, discriminator in adversarial.discriminators.items():
        assert all(p.grad is not None and p.grad.isfinite().all() for p in discriminator.parameters()), view
        assert any(p.grad.abs().sum() > 0 for p in discriminator.parameters()), view


@pytest.mark.parametrize("view", ["color", "coarse", "gray", "surface"])
def test_every_view_reaches_every_image(view):
    stylized = torch.rand(2, 3, 64, 64, requires_grad=True)
    loss_of(views=[view], width=4).generator_loss(stylized).backward()
    assert (stylized.grad.abs().sum(dim=(1, 2, 3)) > 0).all()


def test_gray_view_sees_no_chroma_and_coarse_half_the_size():
    images = torch.rand(1, 3, 12, 10)
    torch.testing.assert_close(see(images, "gray"), see(luma(images).expand(-1, 3, -1, -1), "gray"))
    assert see(images, "coarse").shape == (1, 3, 6, 5)


@pytest.mark.parametrize("kind", ["non_saturating", "least_squares"])
def test_steps_in_turn_move_an_image_to_the_style(kind):
    """Style images are red, with a little noise; the image is gray with as much: it must turn red."""
    red = torch.tensor([0.9, 0.2, 0.2]).view(1, 3, 1, 1)
    pixels = torch.nn.Parameter(0.5 + 0.02 * torch.randn(1, 3, 36, 36))
    adversarial = loss_of(kind=kind, width=8, blurred=0, augment=False)
    discriminator_optimizer = torch.optim.Adam(adversarial.parameters(), 2e-3, betas=(0.5, 0.99))
    optimizer = torch.optim.Adam([pixels], 2e-2, betas=(0.5, 0.99))
    for _ in range(60):
        style = red + 0.02 * torch.randn(4, 3, 36, 36)
        discriminator_optimizer.zero_grad()
        adversarial.discriminator_loss(pixels.clamp(0, 1), style).backward()
        discriminator_optimizer.step()
        optimizer.zero_grad()
        adversarial.generator_loss(pixels.clamp(0, 1)).backward()
        optimizer.step()
    red_mean, green_mean, blue_mean = pixels.detach()[..., 8:-8, 8:-8].mean(dim=(0, 2, 3))
    assert red_mean > 0.65
    assert green_mean < 0.4
    assert blue_mean < 0.4


def test_augment_follows_its_seed_and_is_off_at_zero():
    images = torch.rand(6, 3, 20, 20)
    first, again = (augment(images, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    torch.testing.assert_close(first, again)
    assert first.shape == images.shape
    still = augment(images, shift=0, color=0)
    for before, after in zip(images, still, strict=True):
        assert torch.allclose(before, after, atol=1e-5) or torch.allclose(before.flip(-1), after, atol=1e-5)


def test_augment_shifts_by_whole_pixels_within_bounds():
    image = torch.zeros(1, 3, 20, 20)
    image[..., 10, 10] = 1
    seen = set()
    for seed in range(60):
        moved = augment(image, 0.1, 0, torch.Generator().manual_seed(seed))
        assert moved.sum().item() == pytest.approx(3, abs=1e-4)
        row, column = divmod(moved[0, 0].argmax().item(), 20)
        seen.add((row, column if column in range(8, 13) else 19 - column))
    assert {row for row, _ in seen} == {8, 9, 10, 11, 12}
    assert all(7 <= column <= 12 for _, column in seen)


def test_views_are_checked():
    assert set(VIEWS) == {"color", "coarse", "gray", "surface"}
    AdversarialConfig(views=list(VIEWS))
    for views in (["color", "hue"], []):
        with pytest.raises(ValidationError):
            AdversarialConfig(views=views)


def test_least_squares_and_augment_survive_bf16():
    adversarial = loss_of(width=4)
    with torch.autocast("cpu", torch.bfloat16):
        loss = adversarial.discriminator_loss(torch.rand(1, 3, 40, 40), torch.rand(1, 3, 40, 40))
    assert loss.dtype == torch.float32
    assert loss.isfinite()


def test_states_with_former_names_of_views_still_load():
    """Trainings of version 0.1 called them colour and grey."""
    saved, loaded = (loss_of(views=["color", "gray"], width=4) for _ in range(2))
    former = {
        key.replace(".color.", ".colour.").replace(".gray.", ".grey."): value
        for key, value in saved.state_dict().items()
    }
    assert former.keys() != saved.state_dict().keys()
    loaded.load_state_dict(former)
    for key, value in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)
