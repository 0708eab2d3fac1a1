"""Structure: what is flattened, what is kept, where ink goes."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from nst_ops.config.losses import CelConfig
from nst_ops.losses.structure import (
    CELEBA_EYES,
    cel_shaded,
    enlarge_eyes,
    gaussian_blur,
    guided_filter,
    ink_lines,
    soft_steps,
)


def edge_with_noise() -> torch.Tensor:
    image = torch.full((1, 3, 32, 32), 0.2)
    image[..., 16:] = 0.8
    return image + 0.02 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))


def test_guided_filter_flattens_noise_and_keeps_an_edge():
    noisy = edge_with_noise()
    flat = guided_filter(noisy, radius=3, eps=0.004)
    assert flat[..., :12].std() < 0.4 * noisy[..., :12].std()
    step = (flat[..., 16] - flat[..., 15]).mean()
    assert step > 0.8 * 0.6
    blurred = gaussian_blur(noisy, 2.0)
    assert step > 2 * (blurred[..., 16] - blurred[..., 15]).mean()


def test_guided_filter_of_a_flat_image_is_that_image():
    flat = torch.tensor([0.3, 0.5, 0.9]).view(1, 3, 1, 1).expand(1, 3, 12, 10)
    torch.testing.assert_close(guided_filter(flat), flat, atol=1e-5, rtol=0)


def test_ink_lies_on_the_dark_side_of_an_edge_only():
    image = torch.full((1, 3, 24, 24), 0.3)
    image[..., 12:] = 0.7
    ink = ink_lines(image)
    assert ink.shape == (1, 1, 24, 24)
    assert ink[..., 11].min() > 0.3
    assert ink[..., 12:].max() == 0
    assert ink[..., :6].max() == 0
    assert ink_lines(image.flip(-1))[..., 12].min() > 0.3


def test_no_ink_in_soft_shading():
    ramp = torch.linspace(0.2, 0.8, 32).expand(1, 3, 32, 32)
    assert ink_lines(ramp).max() == 0


def test_gaussian_blur_is_that_of_pillow():
    """Pillow's is an approximation by boxes in 8 bits: near, not equal."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8)).resize((48, 48))
    expected = np.asarray(coarse.filter(ImageFilter.GaussianBlur(2.0)), dtype=np.float32) / 255
    got = gaussian_blur(torch.from_numpy(np.asarray(coarse) / 255.0).float()[None, None], 2.0)
    np.testing.assert_allclose(got[0, 0, 8:-8, 8:-8], expected[8:-8, 8:-8], atol=0.02)
    assert gaussian_blur(torch.ones(1, 2, 9, 9), 1.0) == pytest.approx(1, abs=1e-6)


def test_cel_shading_is_flatter_brighter_and_has_lines():
    noisy = edge_with_noise().clamp(0, 1)
    plain, inked = (cel_shaded(noisy, CelConfig(ink=ink)) for ink in (0.0, 1.0))
    assert plain[..., 20:].std() < 0.5 * noisy[..., 20:].std()
    assert plain[..., 20:].mean() > noisy[..., 20:].mean() + 0.03
    assert inked[..., 15].mean() < plain[..., 15].mean() - 0.1
    torch.testing.assert_close(inked[..., 20:], plain[..., 20:], atol=0.02, rtol=0)
    assert inked.min() >= 0
    assert inked.max() <= 1


def test_cel_shading_keeps_detail_at_enlarged_eyes():
    noisy = (0.5 + 0.02 * torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    kept, flat = (cel_shaded(noisy, CelConfig(ink=0, eyes=eyes)) for eyes in (1.01, 1.0))
    _, mask = enlarge_eyes(noisy, zoom=1.01)
    eyes, around = (mask == 1).expand(1, 3, -1, -1), (mask == 0).expand(1, 3, -1, -1)
    assert kept[eyes].std() > 2 * flat[eyes].std()
    torch.testing.assert_close(kept[around], flat[around], atol=0.02, rtol=0)


def test_soft_steps_have_flat_treads_and_no_jumps():
    ramp = torch.linspace(0, 1, 1001).expand(1, 3, 1, 1001)
    steps = soft_steps(ramp, levels=4, slope=8)[0, 0, 0]
    assert (steps.diff() >= -1e-6).all()
    assert steps.diff().max() < 0.01
    for rise in (0.125, 0.375, 0.625, 0.875):  # treads lie between two multiples of 1 / levels
        middle = steps[(ramp[0, 0, 0] - rise).abs() < 0.03]
        assert middle.max() - middle.min() < 0.02
    assert (steps - ramp[0, 0, 0]).abs().max() <= 0.126


def test_enlarge_eyes_magnifies_there_and_moves_nothing_else():
    faces = torch.zeros(2, 3, 218, 178)
    for across, down in CELEBA_EYES:
        x, y = round(across * 178), round(down * 218)
        faces[:, :, y - 4 : y + 4, x - 4 : x + 4] = 1
    faces[:, :, :40], faces[:, :, 190:] = 0.3, 0.7
    larger, mask = enlarge_eyes(faces, zoom=1.7)
    assert larger.shape == faces.shape
    assert mask.shape == (1, 1, 218, 178)
    area = (larger[:, 0, 60:170] > 0.5).sum() / (faces[:, 0, 60:170] > 0.5).sum()
    assert 1.9 < area < 1.7**2
    torch.testing.assert_close(larger[:, :, :70], faces[:, :, :70], atol=1e-4, rtol=0)
    torch.testing.assert_close(larger[:, :, 150:], faces[:, :, 150:], atol=1e-4, rtol=0)
    assert mask[0, 0, round(0.514 * 218), round(0.39 * 178)] == 1
    assert mask[0, 0, :70].max() == 0
    torch.testing.assert_close(enlarge_eyes(faces, zoom=1.0)[0], faces, atol=1e-4, rtol=0)
