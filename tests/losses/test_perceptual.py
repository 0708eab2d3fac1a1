"""All losses together."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from nst_ops.config import LossConfig
from nst_ops.losses import (
    ImageTerm,
    PerceptualLoss,
    Views,
    channel_statistics,
    content_loss,
    gram_loss,
    gram_matrix,
    mean_std_loss,
    noise_stability,
    register,
    total_variation,
)
from nst_ops.losses.color import luma
from nst_ops.losses.perceptual import TERMS
from nst_ops.losses.structure import cel_shaded
from nst_ops.losses.temporal import motion_equivariance
from nst_ops.models.vgg import VGGFeatures

TAPS = ["relu1_2", "relu2_1"]
EVERYTHING = {
    "content": {"weight": 2.0, "taps": {"relu2_1": 3.0, "relu1_2": 1.0}},
    "gram": {"weight": 5.0, "taps": {"relu1_2": 3.0, "relu2_1": 1.0}, "scales": {1.0: 1.0, 0.5: 3.0}},
    "mean_std": {"weight": 0.7, "taps": {"relu2_1": 2.0, "relu1_2": 6.0}},
    "variation": {"weight": 0.1},
    "noise": {"weight": 11.0},
    "motion": {"weight": 13.0},
}
PLAIN = {
    "content": {"taps": {"relu2_1": 1.0}},
    "gram": {"taps": {"relu1_2": 1.0, "relu2_1": 1.0}, "scales": {1.0: 1.0}},
}


def random_vgg(folder: Path, name: str, taps: list[str], layers: int) -> VGGFeatures:
    torch.manual_seed(0)
    layout = torchvision.models.vgg.cfgs[{"vgg16": "D", "vgg19": "E"}[name]]
    state = torchvision.models.vgg.make_layers(layout)[:layers].state_dict()
    torch.save({f"features.{key}": value for key, value in state.items()}, folder / f"{name}.pth")
    return VGGFeatures(name, taps, folder / f"{name}.pth", padding="reflect")


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> VGGFeatures:
    return random_vgg(tmp_path_factory.mktemp("weights"), "vgg16", TAPS, 10)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(2)


class Network(nn.Module):
    """Stands for the one that is trained: it looks at neighbors, and at one image at a time."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.rows: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.rows.append(len(images))
        return self.conv(images).sigmoid()


@pytest.mark.parametrize("units", ["relative", "mean", "sum"])
def test_units_weigh_taps_and_scales(vgg, units):
    """Relative: shares that sum to 1. Mean and sum: factors as they are."""
    others = "mean" if units == "sum" else units
    config = {key: dict(section) for key, section in EVERYTHING.items()}
    config["gram"]["units"], config["content"]["units"], config["mean_std"]["units"] = units, others, others
    config["variation"]["units"] = "mean" if units == "relative" else "sum"
    style, got, images = torch.rand(1, 3, 32, 40), torch.rand(2, 3, 24, 24), torch.rand(2, 3, 24, 24)
    found = PerceptualLoss(vgg, style, LossConfig.model_validate(config)).score(got, images)

    def at(image: Tensor, scale: float) -> dict[str, Tensor]:
        return vgg(image if scale == 1 else F.interpolate(image, scale_factor=scale, mode="bilinear", antialias=True))

    kept, seen = vgg(images), vgg(got)
    whole = {"content": 4.0, "gram": 16.0, "mean_std": 32.0} if units == "relative" else {}
    content = gram = mean_std = torch.zeros(())
    for tap, weight in config["content"]["taps"].items():
        content = content + weight * content_loss(seen[tap], kept[tap], others)
    for scale, share in config["gram"]["scales"].items():
        style_image, seen = at(style, scale), at(got, scale)
        for tap, weight in config["gram"]["taps"].items():
            gram = gram + share * weight * gram_loss(seen[tap], gram_matrix(style_image[tap]), units)
        for tap, weight in config["mean_std"]["taps"].items():
            loss = mean_std_loss(seen[tap], *channel_statistics(style_image[tap]), others)
            mean_std = mean_std + share * weight * loss
    expected = {
        "content": content / whole.get("content", 1),
        "gram": gram / whole.get("gram", 1),
        "mean_std": mean_std / whole.get("mean_std", 1),
        "variation": total_variation(got, config["variation"]["units"]),
    }
    assert list(found.terms) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found.terms[name], value)
    torch.testing.assert_close(found.total, sum(config[name]["weight"] * v for name, v in expected.items()))


def test_total_is_the_weighted_sum_of_all_six_terms(vgg):
    loss = PerceptualLoss(vgg, torch.rand(1, 3, 32, 32), LossConfig.model_validate(EVERYTHING))
    network, content = Network(), torch.rand(2, 3, 24, 24)
    views = loss.views(content, torch.Generator().manual_seed(0))
    found = loss(network(*views.inputs()), views)
    assert network.rows == [6]
    assert list(found.terms) == list(EVERYTHING)
    for term in found.terms.values():
        assert term.shape == ()
        assert term.dtype == torch.float32
        assert not term.requires_grad
    expected = sum(EVERYTHING[name]["weight"] * term for name, term in found.terms.items())
    torch.testing.assert_close(found.total, expected)
    found.total.backward()
    assert network.conv.weight.grad.isfinite().all()


def test_one_forward_for_all_views_gives_what_separate_ones_give(vgg):
    loss = PerceptualLoss(vgg, torch.rand(1, 3, 32, 32), LossConfig.model_validate(EVERYTHING))
    network, content = Network(), torch.rand(2, 3, 24, 24)
    views = loss.views(content, torch.Generator().manual_seed(0))
    found = loss(network(*views.inputs()), views)
    clean = network(content)
    torch.testing.assert_close(found.terms["noise"], noise_stability(clean, network(views.noisy)))
    torch.testing.assert_close(found.terms["motion"], motion_equivariance(clean, network(views.moved), views.theta))
    scored = loss.score(clean, content)
    assert list(scored.terms) == ["content", "gram", "mean_std", "variation"]
    for name, term in scored.terms.items():
        torch.testing.assert_close(found.terms[name], term)
    temporal = 11 * found.terms["noise"] + 13 * found.terms["motion"]
    torch.testing.assert_close(found.total, scored.total + temporal)


def test_a_term_without_weight_is_absent_and_costs_nothing(vgg, monkeypatch):
    config = PLAIN | {"content": {"weight": 0.0}, "variation": {"weight": 0.0}}
    loss = PerceptualLoss(vgg, torch.rand(1, 3, 32, 32), LossConfig.model_validate(config))
    content = torch.rand(2, 3, 24, 24)
    views = loss.views(content)
    (batch,) = views.inputs()
    assert torch.equal(batch, content)
    assert views.noisy is views.moved is views.theta is None
    passes = []
    monkeypatch.setattr(vgg, "forward", lambda x, until: passes.append(until) or VGGFeatures.forward(vgg, x, until))
    assert list(loss(torch.rand(2, 3, 24, 24), views).terms) == ["gram"]
    assert passes == ["relu2_1"]


@pytest.mark.parametrize(("term", "other"), [("noise", "motion"), ("motion", "noise")])
def test_one_temporal_term_alone(vgg, term, other):
    config = LossConfig.model_validate(PLAIN | {term: {"weight": 1.0}})
    loss = PerceptualLoss(vgg, torch.rand(1, 3, 32, 32), config)
    views = loss.views(torch.rand(2, 3, 24, 24))
    assert len(views.inputs()[0]) == 4
    terms = loss(Network()(*views.inputs()), views).terms
    assert term in terms
    assert other not in terms


def test_each_pass_goes_no_deeper_than_it_must(vgg, monkeypatch):
    config = {
        "content": {"taps": {"relu1_2": 1.0}},
        "gram": {"taps": {"relu1_2": 1.0}, "scales": {1.0: 1.0, 0.5: 1.0}},
        "mean_std": {"weight": 1.0, "taps": {"relu2_1": 1.0}},
    }
    passes = []
    monkeypatch.setattr(vgg, "forward", lambda x, until: passes.append(until) or VGGFeatures.forward(vgg, x, until))
    loss = PerceptualLoss(vgg, torch.rand(1, 3, 32, 32), LossConfig.model_validate(config))
    assert passes == ["relu2_1"] * 2  # the style image: once per scale, for both terms
    loss.score(torch.rand(1, 3, 24, 24), torch.rand(1, 3, 24, 24))
    assert passes[2:] == ["relu1_2", "relu2_1", "relu2_1"]  # the content image only for its content


def test_views_are_reproducible_and_fresh(vgg):
    loss = PerceptualLoss(vgg, torch.rand(1, 3, 32, 32), LossConfig.model_validate(EVERYTHING))
    content = torch.rand(2, 3, 24, 24)
    first = loss.views(content, torch.Generator().manual_seed(3))
    again = loss.views(content, torch.Generator().manual_seed(3))
    other = loss.views(content, torch.Generator().manual_seed(4))
    assert torch.equal(*first.inputs(), *again.inputs())
    assert torch.equal(first.theta, again.theta)
    assert not torch.equal(first.noisy, other.noisy)
    assert not torch.equal(first.moved, other.moved)
    assert not torch.equal(loss.views(content).noisy, loss.views(content).noisy)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_views_keep_the_memory_format(memory_format):
    content = torch.rand(2, 3, 8, 8).contiguous(memory_format=memory_format)
    styles = content + 9
    views = Views(content, styles, content + 1, (content + 2).contiguous(), in_own_style=True)
    batch, style_batch = views.inputs()
    assert torch.equal(style_batch, torch.cat([styles, styles, styles, content]))
    assert batch.is_contiguous(memory_format=memory_format)
    of = views.split(batch)
    for name, shift in {"clean": 0, "noisy": 1, "moved": 2, "own": 0}.items():
        assert torch.equal(of[name], content + shift)


def test_autocast_runs_vgg_in_bf16_and_losses_in_fp32(vgg):
    loss = PerceptualLoss(vgg, torch.rand(1, 3, 32, 32), LossConfig.model_validate(EVERYTHING))
    content = torch.rand(2, 3, 24, 24).contiguous(memory_format=torch.channels_last)
    views, network = loss.views(content, torch.Generator().manual_seed(0)), Network()
    exact = loss(network(*views.inputs()), views)
    with torch.autocast("cpu", torch.bfloat16):
        stylized = network(*views.inputs())
        found = loss(stylized, views)
    assert stylized.dtype == torch.bfloat16
    assert found.total.dtype == torch.float32
    for name, term in found.terms.items():
        assert term.dtype == torch.float32
        torch.testing.assert_close(term, exact.terms[name], rtol=0.1, atol=1e-4)
    found.total.backward()
    assert network.conv.weight.grad.isfinite().all()


def test_the_style_image_has_no_style_loss_at_any_scale(vgg):
    style = torch.rand(1, 3, 32, 32)
    config = PLAIN | {"mean_std": {"weight": 1.0, "taps": {"relu2_1": 1.0}}}
    config["gram"] = {"taps": {"relu1_2": 1.0}, "scales": {1.0: 1.0, 0.5: 1.0, 0.25: 0.5}}
    terms = PerceptualLoss(vgg, style, LossConfig.model_validate(config)).score(style, style).terms
    for name in ("content", "gram", "mean_std"):
        assert terms[name].item() == pytest.approx(0, abs=1e-9)


def test_gradient_flows_to_the_stylized_image_only(vgg):
    loss = PerceptualLoss(vgg, torch.rand(1, 3, 32, 32), LossConfig.model_validate(EVERYTHING))
    got = torch.rand(3, 3, 16, 16, requires_grad=True)
    loss(got, loss.views(torch.rand(1, 3, 16, 16))).total.backward()
    assert got.grad is not None
    assert (got.grad.abs().sum(dim=(1, 2, 3)) > 0).all()
    assert all(parameter.grad is None for parameter in loss.parameters())


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_gradients_of_flat_images_are_finite(vgg, value):
    flat = torch.full((1, 3, 32, 32), value)
    loss = PerceptualLoss(vgg, flat, LossConfig.model_validate(EVERYTHING))
    got = flat.repeat(3, 1, 1, 1).requires_grad_()
    loss(got, loss.views(flat)).total.backward()
    assert got.grad is not None
    assert got.grad.isfinite().all()


def test_style_statistics_follow_the_module_unsaved(vgg):
    loss = PerceptualLoss(vgg, torch.rand(1, 3, 32, 32), LossConfig.model_validate(EVERYTHING))
    buffers = {name for name, _ in loss.named_buffers(recurse=False)}
    assert {"gram_relu1_2_at_1", "gram_relu2_1_at_0_5", "mean_std_relu2_1_at_0_5"} < buffers
    assert len(buffers) == 8
    assert not buffers & loss.state_dict().keys()


def test_taps_go_by_name_in_either_network(tmp_path):
    """Block 3 has a fourth convolution in VGG19 only, so block 4 starts two layers later."""
    style, content = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    config = PLAIN | {"content": {"taps": {"relu4_1": 1.0}}}
    found = {}
    for name, layers in [("vgg16", 19), ("vgg19", 21)]:
        vgg = random_vgg(tmp_path, name, [*TAPS, "relu4_1"], layers)
        assert list(vgg.taps.values()) == [*TAPS, "relu4_1"]
        assert len(vgg.features) == {"vgg16": 19, "vgg19": 21}[name]
        loss = PerceptualLoss(vgg, style, LossConfig.model_validate(config | {"network": name}))
        found[name] = loss.score(style, content).terms["content"].item()
        expected = content_loss(vgg(style)["relu4_1"], vgg(content)["relu4_1"]).item()
        assert found[name] == pytest.approx(expected, rel=1e-5)


def test_a_network_without_the_taps_is_refused(vgg):
    config = LossConfig.model_validate(PLAIN | {"content": {"taps": {"relu3_1": 1.0}}})
    with pytest.raises(ValueError, match="without the taps relu3_1"):
        PerceptualLoss(vgg, torch.rand(1, 3, 32, 32), config)


def test_an_image_too_small_is_refused_with_a_remedy(vgg):
    config = PLAIN | {"gram": {"taps": {"relu2_1": 1.0}, "scales": {1.0: 1.0, 0.25: 1.0}}}
    config = LossConfig.model_validate(config)
    message = (
        r"the style image of 40 x 15 pixels is too small for relu2_1 at scale 0\.25, "
        r"which needs 16 at least: raise style_side or drop the scale"
    )
    with pytest.raises(ValueError, match=message):
        PerceptualLoss(vgg, torch.rand(1, 3, 15, 40), config)
    loss = PerceptualLoss(vgg, torch.rand(1, 3, 16, 40), config)
    loss.score(torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16))
    with pytest.raises(ValueError, match=r"the stylized image of 12 x 12 pixels .* raise image_size or drop the scale"):
        loss.score(torch.rand(1, 3, 12, 12), torch.rand(1, 3, 12, 12))


@pytest.mark.parametrize("term", ["content", "gram"])
def test_a_gray_term_sees_no_colors(vgg, term):
    """A image and its luma differ in color alone."""
    config = {
        "content": PLAIN["content"] | {"weight": float(term == "content"), "gray": True},
        "gram": PLAIN["gram"] | {"weight": float(term == "gram"), "gray": True},
        "variation": {"weight": 0.0},
    }
    content = torch.rand(1, 3, 32, 32)
    gray = luma(content).expand_as(content)
    blind = PerceptualLoss(vgg, content, LossConfig.model_validate(config))
    assert blind.score(gray, content).terms[term] < 1e-9
    config[term]["gray"] = False
    seeing = PerceptualLoss(vgg, content, LossConfig.model_validate(config))
    assert seeing.score(gray, content).terms[term] > 1e-5


def test_the_drawing_may_be_the_content(vgg):
    config = {
        "content": PLAIN["content"] | {"of": "drawing", "units": "absolute"},
        "gram": {"weight": 0.0},
        "variation": {"weight": 0.0},
        "cel": {"weight": 2.0},
    }
    loss = PerceptualLoss(vgg, None, LossConfig.model_validate(config))
    content = torch.rand(1, 3, 32, 32)
    drawn = cel_shaded(content, loss.config.cel)
    assert all(value < 1e-6 for value in loss.score(drawn, content, content).terms.values())
    assert all(value > 1e-2 for value in loss.score(content, content, content).terms.values())


def test_a_registered_term_is_weighed_and_reported(vgg, monkeypatch):
    monkeypatch.setattr("nst_ops.losses.perceptual.TERMS", dict(TERMS))
    term = ImageTerm("warm", lambda y, views, section: (y["clean"] - views.content).mean(), weight=3.0)
    assert register(term) is term
    config = LossConfig.model_validate(PLAIN | {"gram": {"weight": 0.0}, "variation": {"weight": 0.0}})
    got, content = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
    found = PerceptualLoss(vgg, torch.rand(1, 3, 16, 16), config).score(got, content)
    assert list(found.terms) == ["content", "warm"]
    torch.testing.assert_close(found.terms["warm"], (got - content).mean())
    torch.testing.assert_close(found.total, found.terms["content"] + 3 * found.terms["warm"])
