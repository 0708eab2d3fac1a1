import numpy as np
import pytest
import torch

from nst_ops.models.johnson import JohnsonNet
from nst_ops.stylizers.johnson import JohnsonStylizer
from nst_ops.stylizers.tiles import merge
from tests.media_factory import natural_image


def network(norm: str = "instance") -> JohnsonNet:
    torch.manual_seed(0)
    model = JohnsonNet(8, 2, norm=norm)  # type: ignore[arg-type]
    torch.nn.init.normal_(model.decoder[-1].conv.weight, std=0.1)
    return model


def frame(name: str) -> np.ndarray:
    return np.asarray(natural_image(name, 96, 64))[None]


@pytest.mark.parametrize("norm", ["instance", "layer", "batch", "none"])
def test_a_frame_frozen_on_itself_is_the_frame(norm: str) -> None:
    stylizer = JohnsonStylizer(network(norm), "cpu", "fp32")
    frozen = stylizer.frozen(stylizer.measure(frame("chelsea")))
    np.testing.assert_array_equal(frozen(frame("chelsea")), stylizer(frame("chelsea")))


def test_in_half_precision_a_shot_of_one_frame_is_the_frame() -> None:
    """The frame is nearly even: what differs in it is less than bf16 tells apart, at that brightness."""
    foggy = 180 + frame("chelsea") // 32
    stylized, expected = JohnsonStylizer(network(), "cpu", "bf16"), JohnsonStylizer(network(), "cpu", "fp32")(foggy)
    for stylize in (stylized, stylized.frozen(stylized.measure(foggy))):
        assert np.abs(stylize(foggy).astype(int) - expected).mean() < 8  # 37 where the brightness stays in
    assert stylized.measure(foggy).center.shape == (1, 3, 1, 1)


def test_frozen_a_part_of_a_frame_does_not_answer_to_the_rest() -> None:
    stylizer = JohnsonStylizer(network(), "cpu", "fp32")
    frozen = stylizer.frozen(stylizer.measure(frame("chelsea")))
    changed = frame("chelsea").copy()
    changed[:, :, 80:] = 255
    for stylize, same in ((stylizer, False), (frozen, True)):
        before, after = stylize(frame("chelsea")), stylize(changed)
        assert np.array_equal(before[:, :, :16], after[:, :, :16]) == same


def test_every_layer_is_normalized_over_the_samples_together() -> None:
    stylizer = JohnsonStylizer(network(), "cpu", "fp32")
    samples = np.concatenate([frame("chelsea"), frame("coffee"), frame("rocket")])
    frozen = stylizer.frozen(stylizer.measure(samples))
    seen = []
    for norm in frozen.model.norms():
        norm.weight, norm.bias = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.zeros(1))
        norm.register_forward_hook(lambda norm, args, out: seen.append(out.clone()))
        break  # what the others see is no longer what they were measured on
    for sample in samples:
        frozen(sample[None])
    var, mean = torch.var_mean(torch.cat(seen), dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-4, rtol=0)
    torch.testing.assert_close(var, torch.ones_like(var), atol=1e-2, rtol=0)


def test_in_tiles_the_same_is_measured() -> None:
    whole, tiled = (JohnsonStylizer(network(), "cpu", "fp32", tile=tile) for tile in (None, 32))
    samples = np.concatenate([frame("chelsea"), frame("coffee")])
    for moments, same in zip(whole.measure(samples).layers, tiled.measure(samples).layers, strict=True):
        torch.testing.assert_close(moments, same, atol=1e-5, rtol=1e-4)


def test_a_frozen_stylizer_shares_weights_and_changes_nothing() -> None:
    stylizer = JohnsonStylizer(network(), "cpu", "fp32")
    before = stylizer(frame("rocket"))
    frozen = stylizer.frozen(stylizer.measure(frame("chelsea")))
    pairs = zip(stylizer.model.parameters(), frozen.model.parameters(), strict=True)
    assert all(weight is same for weight, same in pairs)
    assert not np.array_equal(frozen(frame("rocket")), before)
    np.testing.assert_array_equal(stylizer(frame("rocket")), before)


def test_moments_of_parts_are_merged_to_those_of_the_whole() -> None:
    values = torch.randn(2, 3, 8, 10) * 3 + torch.arange(8.0)[:, None]
    parts = [values[:, :, :2], values[:, :, 2:3], values[:, :, 3:]]
    moments = [
        (part[0, 0].numel(), (part.mean((2, 3), keepdim=True), part.var((2, 3), correction=0, keepdim=True)))
        for part in parts
    ]
    mean, var = merge(moments)
    torch.testing.assert_close(mean, values.mean((2, 3), keepdim=True))
    torch.testing.assert_close(var, values.var((2, 3), correction=0, keepdim=True))
