"""ViT-AdaIN: statistics against float64, what alpha and weights mean, recipes and their encoders."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nst_ops.models.adain import adain, channel_statistics, interpolate_styles
from nst_ops.models.vgg import IMAGENET_MEAN, IMAGENET_STD
from nst_ops.models.vit_adain import SEED, ViTAdaIN
from nst_ops.models.weights import CheckpointError

TINY: dict[str, Any] = {
    "encoder": "vit_tiny_patch16_224",
    "encoder_options": {"embed_dim": 24, "depth": 3, "num_heads": 2},
    "image_size": 32,
    "widths": [16, 8, 8, 4],
}
RECIPES: dict[str, dict[str, Any]] = {
    "one level": {},
    "several levels": {"levels": [0, 1, -1]},
    "stem": {"levels": [-1], "stem": 4},
    "transposed": {"decoder": "transposed", "widths": [16, 8, 8], "head": "tanh_imagenet"},
    "transposed and a convolution": {"decoder": "transposed", "kernel": 3, "affine": True},
    "patches of 14 pixels": {
        "encoder_options": {"embed_dim": 24, "depth": 2, "num_heads": 2, "patch_size": 14},
        "image_size": 28,
    },
    "convolutional encoder": {
        "encoder": "resnet10t",
        "encoder_options": {},
        "levels": [1, 2, 3, 4],
        "widths": [8, 8, 8, 8, 4],
    },
}


def network(**options: Any) -> ViTAdaIN:
    torch.manual_seed(0)
    return ViTAdaIN(**TINY | options).eval()


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_adain_against_float64() -> None:
    rng = np.random.default_rng(0)
    content, style = rng.normal(3, 2, (2, 5, 6, 7)), rng.normal(-1, 9, (2, 5, 4, 3))
    (mean, std), (style_mean, style_std) = (
        (f.mean(axis=(2, 3), keepdims=True), np.sqrt(f.var(axis=(2, 3), keepdims=True) + 1e-5))
        for f in (content, style)
    )
    full = (content - mean) / std * style_std + style_mean
    for alpha in (0.0, 0.3, 1.0):
        got = adain(torch.tensor(content).float(), *channel_statistics(torch.tensor(style)), alpha)
        expected = torch.tensor(alpha * full + (1 - alpha) * content).float()
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-5)


def test_features_get_the_statistics_of_the_style() -> None:
    content, style = 4 * images(2, 6, 12, 10) - 3, images(1, 6, 9, 9, seed=1).square()
    mean, std = channel_statistics(adain(content, *channel_statistics(style)))
    torch.testing.assert_close(mean, channel_statistics(style)[0].expand(2, -1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(std, channel_statistics(style)[1].expand(2, -1), atol=1e-5, rtol=1e-3)


def test_half_precision_keeps_statistics_that_leave_its_range() -> None:
    content = (300 * images(1, 3, 64, 64)).half()
    out = adain(content, torch.zeros(1, 3), torch.ones(1, 3))
    assert out.dtype == torch.float16
    assert (out.float().std(dim=(2, 3)) - 1).abs().max() < 1e-2


def test_every_decoded_level_has_the_statistics_of_the_style() -> None:
    net = network(levels=[0, 2], stem=4)
    content, style = images(2, 3, 32, 48), images(1, 3, 64, 32, seed=1).square()
    seen: list[list[Tensor]] = []
    net.decoder.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        net(content, style)
        levels = zip(net.encode(content), seen[0], net.style_statistics(style), strict=True)
        for content, decoded, (mean, std) in levels:
            got_mean, got_std = channel_statistics(decoded)
            torch.testing.assert_close(got_mean, mean.expand_as(got_mean), atol=1e-4, rtol=1e-3)
            varied = channel_statistics(content)[1] > 0.05  # a flat channel cannot be stretched to any
            assert varied.float().mean() > 0.8
            torch.testing.assert_close(got_std[varied], std.expand_as(got_std)[varied], atol=1e-4, rtol=1e-2)


@pytest.mark.parametrize("recipe", RECIPES)
def test_any_size_and_alpha(recipe: str) -> None:
    """Two sizes that are not the position embedding's, and styles of a third."""
    net = network(**RECIPES[recipe])
    for height, width in ((2, 5), (3, 4)):
        content = images(2, 3, height * net.stride, width * net.stride)
        styles = images(2, 3, 3 * net.stride, 2 * net.stride, seed=1).square()
        with torch.no_grad():
            stylized = net(content, styles)
            reconstructed = net.decode(net.encode(content))
            assert torch.equal(net(content, styles, alpha=0.0), reconstructed)
        assert stylized.shape == content.shape
        assert stylized.min() >= 0
        assert stylized.max() <= 1
        assert (stylized - reconstructed).abs().max() > 1e-3
    assert ViTAdaIN(**net.config).state_dict().keys() == net.state_dict().keys()


def test_a_style_for_each_image_equals_one_by_one() -> None:
    net = network(levels=[0, 2], stem=4)
    content, styles = (images(3, 3, 32, 32), images(3, 3, 48, 32, seed=1) ** torch.arange(1, 4).view(3, 1, 1, 1))
    with torch.no_grad():
        alone = torch.cat([net(content[i : i + 1], styles[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(net(content, styles), alone, atol=1e-5, rtol=1e-4)


def test_interpolation_is_the_weighted_sum_of_the_features() -> None:
    net = network(levels=[0, 2])
    weights = [0.5, 0.2, 0.3]
    with torch.no_grad():
        content = net.encode(images(1, 3, 32, 32))
        statistics = net.style_statistics(images(3, 3, 48, 32, seed=1))
        between = interpolate_styles(statistics, weights)
        for features, (means, stds), (mean, std) in zip(content, statistics, between, strict=True):
            each = [weight * adain(features, means[k : k + 1], stds[k : k + 1]) for k, weight in enumerate(weights)]
            torch.testing.assert_close(adain(features, mean, std), torch.stack(each).sum(0))
    for wrong in ([0.5, 0.5], [0.5, 0.5, 0.5]):
        with pytest.raises(ValueError, match="3 styles"):
            interpolate_styles(statistics, wrong)


def test_the_seed_recipe() -> None:
    net = ViTAdaIN(**SEED).eval()
    content = images(1, 3, 224, 224)
    with torch.no_grad():
        features = net.encode(content)
        mean, std = (torch.tensor(value)[:, None, None] for value in (IMAGENET_MEAN, IMAGENET_STD))
        tokens = net.encoder.network.forward_features((content - mean) / std)[:, 1:]
        expected = tokens.transpose(1, 2).reshape(1, 768, 14, 14)
        assert [level.shape for level in features] == [(1, 768, 14, 14)]
        torch.testing.assert_close(features[0], expected, atol=1e-4, rtol=1e-4)
        assert net(content, images(1, 3, 224, 224, seed=1)).shape == content.shape
    kinds = [type(layer) for layer in net.decoder]
    assert kinds.count(nn.ConvTranspose2d) == 4
    assert kinds.count(nn.InstanceNorm2d) == 3


def last_layer(net: ViTAdaIN) -> nn.Module:
    return net.decoder.paint if net.config["decoder"] == "resize" else net.decoder[-1]


@pytest.mark.parametrize(
    ("recipe", "lowest", "highest"),
    [
        ("transposed", [m - s for m, s in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)], None),
        ("one level", [0.0] * 3, [1.0] * 3),
    ],
)
def test_range_of_colors(recipe: str, lowest: list[float], highest: list[float] | None) -> None:
    """Pushed to both ends, the seed's head reaches mean -+ std and ours the whole range."""
    net = network(**RECIPES[recipe])
    highest = highest or [m + s for m, s in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
    for push, ends in ((-100.0, lowest), (100.0, highest)):
        nn.init.constant_(last_layer(net).bias, push)
        with torch.no_grad():
            stylized = net(images(1, 3, 32, 32), images(1, 3, 32, 32, seed=1))
        torch.testing.assert_close(
            stylized, torch.tensor(ends)[:, None, None].expand_as(stylized), atol=1e-5, rtol=1e-5
        )


def test_normalization_is_the_encoders_own_or_imagenets() -> None:
    assert network().encoder.mean.flatten().tolist() == [0.5] * 3
    assert network(normalization="imagenet").encoder.mean.flatten().tolist() == pytest.approx(IMAGENET_MEAN)


def test_only_a_frozen_encoder_gets_no_gradient() -> None:
    for frozen in (True, False):
        net = network(frozen=frozen, levels=[0, 1], stem=4).train()
        assert net.encoder.training is not frozen
        net(images(2, 3, 32, 32), images(2, 3, 32, 32, seed=1)).square().mean().backward()
        for name, parameter in net.named_parameters():
            assert (parameter.grad is None) == (frozen and name.startswith("encoder.")), name


def test_blocks_behind_the_last_level_are_not_kept() -> None:
    keys = network(levels=[0]).state_dict()
    assert not any("blocks.1." in key for key in keys)
    assert any("blocks.0." in key for key in keys)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_encoder_weights_from_a_local_file(suffix: str, tmp_path: Path) -> None:
    """A classifier at 64 px fills an encoder at 32 px; its position embedding is interpolated."""
    torch.manual_seed(1)
    classifier = timm.create_model(TINY["encoder"], img_size=64, num_classes=7, **TINY["encoder_options"]).eval()
    path = tmp_path / f"vit{suffix}"
    save_file(classifier.state_dict(), path) if suffix == ".safetensors" else torch.save(
        {"state_dict": {f"module.{key}": value for key, value in classifier.state_dict().items()}}, path
    )
    image = images(1, 3, 64, 64)
    expected = classifier.forward_features(image * 2 - 1)[:, 1:].transpose(1, 2).reshape(1, 24, 4, 4)
    same = network(image_size=64, encoder_weights=path)
    torch.testing.assert_close(same.encode(image)[0], expected, atol=1e-5, rtol=1e-4)
    smaller = network(encoder_weights=path)
    assert smaller.encoder.network.pos_embed.shape == (1, 5, 24)
    # down and up again loses a little of the embedding; other weights would give unrelated features
    both = torch.stack([smaller.encode(image)[0].flatten(), expected.flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.95
    assert "encoder_weights" not in same.config


def test_encoder_weights_that_do_not_fit(tmp_path: Path) -> None:
    other = timm.create_model("vit_tiny_patch16_224", img_size=32, embed_dim=24, depth=4, num_heads=2)
    state = other.state_dict()
    del state["blocks.0.attn.proj.bias"]
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth.*missing blocks\.0\.attn\.proj\.bias"):
        network(encoder_weights=tmp_path / "other.pth")
    with pytest.raises(FileNotFoundError, match=r"absent\.pth"):
        network(encoder_weights=tmp_path / "absent.pth")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encoder": "vit_of_nobody"}, "vit_of_nobody"),
        ({"encoder_options": {"no_such_option": 1}}, "no_such_option"),
        ({"levels": [3]}, r"no levels \[3\]"),
        ({"widths": [8, 8]}, "4 upsamplings"),
        ({"decoder": "transposed", "widths": [8, 8]}, "4 doublings"),
        ({"decoder": "transposed", "stem": 4}, "one power of two"),
    ],
)
def test_arguments_that_do_not_go_together(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        network(**options)
