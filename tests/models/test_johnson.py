"""The Johnson network: shape, size, range, layout and its own normalization."""

import pytest
import torch
from torch import nn

from nst_ops.models import johnson
from nst_ops.models.johnson import ConvLayer, InstanceNorm, JohnsonNet, LayerNorm


def test_published_size():
    assert sum(parameter.numel() for parameter in JohnsonNet().parameters()) == 1_679_235


@pytest.mark.parametrize(("height", "width"), [(16, 16), (32, 20), (64, 100)])
@pytest.mark.parametrize("upsampling", ["nearest", "bilinear", "transposed"])
def test_same_size_and_range(height, width, upsampling):
    net = JohnsonNet(width=4, num_blocks=1, upsampling=upsampling)
    out = net(torch.rand(2, 3, height, width))
    assert out.shape == (2, 3, height, width)
    assert out.min() >= 0
    assert out.max() <= 1


def test_linear_head_leaves_the_range():
    torch.manual_seed(0)
    net = JohnsonNet(width=4, num_blocks=1, head="linear")
    nn.init.constant_(net.decoder[2].conv.bias, 3.0)
    assert net(torch.rand(1, 3, 16, 16)).max() > 1


@pytest.mark.parametrize("norm", ["instance", "batch", "layer"])
def test_channels_last_changes_layout_only(norm):
    torch.manual_seed(0)
    net = JohnsonNet(width=4, num_blocks=2, norm=norm).eval()
    x = torch.rand(2, 3, 32, 36)
    expected = net(x)
    got = net.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
    assert got.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("own", "reference"), [(InstanceNorm(6), nn.InstanceNorm2d(6, affine=True)), (LayerNorm(6), nn.GroupNorm(1, 6))]
)
def test_norms_equal_torch(own, reference):
    torch.manual_seed(0)
    for norm in (own, reference):
        nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(1))
        nn.init.normal_(norm.bias, generator=torch.Generator().manual_seed(2))
    x = 40 * torch.randn(3, 6, 11, 7) + 5
    torch.testing.assert_close(own(x), reference(x), atol=1e-5, rtol=1e-5)


def test_instance_norm_keeps_layout_and_half_precision_statistics():
    x = (100 + torch.randn(1, 4, 32, 32)).to(memory_format=torch.channels_last)
    norm = InstanceNorm(4)
    out = norm(x.to(torch.bfloat16))
    assert out.dtype == torch.bfloat16
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert norm(torch.full((1, 4, 8, 8), 7.0)).abs().max() < 1e-3


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 3e-3), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("mean", "deviation"), [(1, 0.1), (10, 1), (300, 3), (1000, 30)])
def test_nearly_even_maps_keep_what_is_in_them(mean, deviation, layout, dtype, tolerance):
    torch.manual_seed(0)
    x = (mean + deviation * torch.randn(2, 4, 128, 128)).to(dtype).contiguous(memory_format=layout)
    expected = nn.functional.instance_norm(x.double())
    norm = InstanceNorm(4).to(dtype)
    torch.testing.assert_close(norm(x).double(), expected, atol=tolerance, rtol=tolerance)
    assert norm(x).is_contiguous(memory_format=layout)
    norm.statistics = norm.moments(x[:1])
    torch.testing.assert_close(norm(x[:1]).double(), expected[:1], atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("color", [0.0, 0.5, 1.0])
def test_even_frames_do_not_overflow_half_precision(dtype, color):
    """Means of some hundreds without a deviation, such as in the first layer of networks for pixels up to 255."""
    norm = InstanceNorm(4)
    even = torch.full((1, 4, 16, 16), 1000 * color) * torch.tensor([1.0, -1.0, 3.0, 0.1])[:, None, None]
    even = even.to(dtype)
    torch.testing.assert_close(norm(even), torch.zeros_like(even), atol=0.05, rtol=0)
    norm.statistics = norm.moments(even)
    torch.testing.assert_close(norm(even), torch.zeros_like(even), atol=0.05, rtol=0)
    torch.manual_seed(0)
    net = JohnsonNet(width=8, num_blocks=1, head="linear")
    with torch.no_grad():
        net.encoder[0].conv.conv.weight.mul_(255)
        stylized = net.to(dtype)(torch.full((1, 3, 32, 32), color, dtype=dtype))
    assert stylized.isfinite().all()


def test_layer_norm_keeps_what_instance_norm_erases():
    """Two flat images of different colors: alike to instance norm, apart to layer norm."""
    flat = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.1, 0.9]])[:, :, None, None].expand(2, 3, 32, 32)
    apart = {}
    for norm in ("instance", "layer"):
        torch.manual_seed(0)
        with torch.no_grad():
            stylized = JohnsonNet(width=4, num_blocks=1, norm=norm)(flat)
        apart[norm] = (stylized[0] - stylized[1]).abs().max()
    assert apart["instance"] < 1e-4
    assert apart["layer"] > 1e-2


def test_bilinear_upsampling_weaves_no_grid():
    """Nearest turns a ramp into stairs of two pixels; bilinear keeps it a ramp."""
    ramp = torch.linspace(0, 1, 16).expand(1, 1, 16, 16)
    curvature = {}
    for upsampling in ("nearest", "bilinear"):
        layer = ConvLayer(1, 1, 3, upsampling=upsampling)
        nn.init.dirac_(layer.conv.weight)
        nn.init.zeros_(layer.conv.bias)
        with torch.no_grad():
            row = layer(ramp)[0, 0, 16, 4:-4]
        curvature[upsampling] = row.diff().diff().abs().max()
    assert curvature["bilinear"] < 1e-5
    assert curvature["nearest"] > 0.05


@pytest.mark.parametrize("norm", ["instance", "layer", "batch", "none"])
@pytest.mark.parametrize("upsampling", ["nearest", "transposed"])
def test_biases_that_a_norm_takes_off_may_go(norm: str, upsampling: str) -> None:
    torch.manual_seed(0)
    network = JohnsonNet(4, 2, upsampling, norm).eval()
    for name, parameter in network.named_parameters():
        if name.endswith("conv.bias"):
            torch.nn.init.normal_(parameter)
    x_bchw = torch.rand(2, 3, 32, 40)
    expected, before = network(x_bchw), sum(1 for _ in network.parameters())
    without = network.shared_copy().without_idle_biases()
    assert before - sum(1 for _ in without.parameters()) == (9 if norm == "instance" else 0)
    torch.testing.assert_close(without(x_bchw), expected, rtol=1e-4, atol=1e-5)
    assert sum(1 for _ in network.parameters()) == before


def test_the_trial_of_a_fused_norm_sees_a_wrong_one(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = johnson.fused_norm_agrees.__wrapped__
    for dtype in (torch.float16, torch.bfloat16):
        assert trial(torch.device("cpu"), dtype)

        def from_squares(x_bchw: torch.Tensor, weight: object, bias: object, eps: float) -> torch.Tensor:
            mean, square = (moment.mean((2, 3), keepdim=True) for moment in (x_bchw, x_bchw * x_bchw))
            return (x_bchw - mean) * torch.rsqrt((square - mean * mean).clamp_min(0) + eps)

        def other_layout(x_bchw: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
            return torch.nn.functional.instance_norm(x_bchw.contiguous(), eps=eps)

        for wrong in (from_squares, other_layout, lambda x_bchw, *_: x_bchw / 0):
            monkeypatch.setattr(johnson, "normalize_each", wrong)
            assert not trial(torch.device("cpu"), dtype)
        monkeypatch.undo()
