"""The network of many styles: shapes, rows, blends, numbers of parameters."""

from __future__ import annotations

import pytest
import torch

from nst_ops.models.conditional import ConditionalNet


@pytest.fixture(scope="module")
def net() -> ConditionalNet:
    torch.manual_seed(0)
    net = ConditionalNet(["waves", "stars"], width=16, num_blocks=2, encoder=(8, 16), decoder=(8, 4)).eval()
    with torch.no_grad():
        net.rows.add_(0.3 * torch.randn_like(net.rows))
    return net


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))


def test_default_size_is_that_of_the_published_network() -> None:
    net = ConditionalNet(["a", "b", "c"])
    assert net.rows.shape == (3, 990)
    assert sum(p.numel() for p in net.parameters()) - net.rows.numel() == 140_364


@pytest.mark.parametrize("options", [dict(width=48), dict(num_blocks=1), dict(encoder=(4, 8), decoder=(6, 5))])
def test_sizes_are_switches_and_the_config_builds_the_same(options: dict[str, object], images: torch.Tensor) -> None:
    net = ConditionalNet(["a"], **options)  # type: ignore[arg-type]
    again = ConditionalNet(**net.config)  # type: ignore[arg-type]
    again.load_state_dict(net.state_dict())
    with torch.inference_mode():
        assert torch.equal(net(images, net.row("a")), again(images, again.row("a")))


def test_image_in_zero_to_one_of_the_same_shape(net: ConditionalNet, images: torch.Tensor) -> None:
    with torch.inference_mode():
        out = net(images, net.row("waves"))
    assert out.shape == images.shape
    assert 0 <= out.min() < out.max() <= 1


def test_a_row_for_each_image_equals_one_row_at_a_time(net: ConditionalNet, images: torch.Tensor) -> None:
    with torch.inference_mode():
        both = net(images, net.rows)
        each = torch.cat([net(images[i : i + 1], net.row(name)) for i, name in enumerate(net.names)])
    torch.testing.assert_close(both, each, atol=1e-5, rtol=0)


def test_blend_of_rows_is_the_weighted_sum(net: ConditionalNet) -> None:
    expected = 0.7 * net.rows[0] + 0.3 * net.rows[1]
    torch.testing.assert_close(net.blend({"waves": 0.7, "stars": 0.3}), expected)


def test_small_change_of_a_blend_changes_the_image_a_little(net: ConditionalNet, images: torch.Tensor) -> None:
    with torch.inference_mode():
        a, b = (net(images, net.blend({"waves": share, "stars": 1 - share})) for share in (0.5, 0.51))
    assert 0 < (a - b).abs().mean() < 0.02


def test_bfloat16_keeps_channels_last_and_is_close_to_fp32(net: ConditionalNet, images: torch.Tensor) -> None:
    channels_last = images.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        exact = net(images, net.rows)
        with torch.autocast("cpu", torch.bfloat16):
            half = net(channels_last, net.rows)
    assert half.dtype == torch.float32
    assert half.is_contiguous(memory_format=torch.channels_last)
    assert (half - exact).abs().mean() < 0.02


def test_gradient_of_one_style_leaves_the_other_rows_alone(images: torch.Tensor) -> None:
    net = ConditionalNet(["a", "b"], width=8, num_blocks=1)
    net(images, net.rows[torch.tensor([1, 1])]).mean().backward()
    assert net.rows.grad is not None
    assert not net.rows.grad[0].any()
    assert net.rows.grad[1].any()


def test_names_must_be_distinct_and_known(net: ConditionalNet) -> None:
    with pytest.raises(ValueError, match="name of its own"):
        ConditionalNet(["a", "a"])
    with pytest.raises(KeyError):
        net.row("unknown")
