"""The three losses together."""

from pathlib import Path

import pytest
import torch
import torchvision

from nst_ops.losses import PerceptualLoss, content_loss, gram_matrix, style_loss, total_variation
from nst_ops.models.vgg import VGGFeatures

TAPS = ["relu1_2", "relu2_1"]


@pytest.fixture
def vgg(tmp_path: Path) -> VGGFeatures:
    torch.manual_seed(0)
    state = torchvision.models.vgg16().features[:10].state_dict()
    torch.save({f"features.{key}": value for key, value in state.items()}, tmp_path / "vgg.pth")
    return VGGFeatures("vgg16", TAPS, tmp_path / "vgg.pth")


def test_total_is_the_weighted_sum_of_the_parts(vgg):
    style, got, photo = torch.rand(1, 3, 32, 40), torch.rand(2, 3, 24, 24), torch.rand(2, 3, 24, 24)
    loss = PerceptualLoss(vgg, style, "relu2_1", {"relu1_2": 3.0, "relu2_1": 1.0}, 2.0, 0.5, 0.1)
    terms = loss(got, photo)
    painting, seen = vgg(style), vgg(got)
    content = content_loss(seen["relu2_1"], vgg(photo)["relu2_1"])
    parts = [style_loss(seen[tap], gram_matrix(painting[tap])) for tap in TAPS]
    torch.testing.assert_close(terms.content, content)
    torch.testing.assert_close(terms.style, 0.75 * parts[0] + 0.25 * parts[1])
    torch.testing.assert_close(terms.variation, total_variation(got))
    torch.testing.assert_close(terms.total, 2 * terms.content + 0.5 * terms.style + 0.1 * terms.variation)


def test_the_painting_itself_has_no_style_loss_at_any_scale(vgg):
    style = torch.rand(1, 3, 32, 32)
    loss = PerceptualLoss(vgg, style, "relu2_1", TAPS, style_scales=(1.0, 0.5))
    terms = loss(style, style)
    assert terms.style.item() == pytest.approx(0, abs=1e-9)
    assert terms.content.item() == pytest.approx(0, abs=1e-9)


def test_gradient_flows_to_the_picture_only(vgg):
    loss = PerceptualLoss(vgg, torch.rand(1, 3, 32, 32), "relu2_1", TAPS, style_scales={1.0: 1.0, 0.5: 2.0})
    got = torch.rand(1, 3, 16, 16, requires_grad=True)
    loss(got, torch.rand(1, 3, 16, 16)).total.backward()
    assert got.grad is not None
    assert got.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in loss.parameters())
