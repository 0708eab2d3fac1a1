"""The stylizer of any style: each frame in the style of its image, whose row is predicted once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nst_ops.media.images import UInt8Array
from nst_ops.media.style_images import Style
from nst_ops.models.any_style import AnyStyleNet
from nst_ops.stylizers.any_style import AnyStyleStylizer
from nst_ops.stylizers.device import to_network


def network() -> AnyStyleNet:
    torch.manual_seed(0)
    sizes: dict[str, Any] = dict(width=8, num_blocks=1, encoder=(4, 8), decoder=(4, 4))
    net = AnyStyleNet(**sizes, stages=((1, 8, 1, 1), (2, 8, 2, 2)), stem=4, head=16, bottleneck=6)
    with torch.no_grad():
        net.predictor.to_row.weight.mul_(4)
    return net.eval()


def style(seed: int, height: int = 40, width: int = 50) -> Style:
    """Coarse patches of a random palette: styles that differ."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, rng.integers(60, 256), (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    return Style(f"style{seed}", coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width])


@pytest.fixture(scope="module")
def stylizer() -> AnyStyleStylizer:
    return AnyStyleStylizer(network(), "cpu", "fp32")


def test_frames_are_what_the_network_makes_of_them_with_a_margin(
    stylizer: AnyStyleStylizer, frames: UInt8Array
) -> None:
    padded = np.pad(frames[:1], ((0, 0), (12, 12), (12, 12), (0, 0)), mode="reflect")
    x_bchw, style_bchw = (
        to_network(pixels, torch.device("cpu"), torch.float32) for pixels in (padded, style(1).pixels_hwc[None])
    )
    with torch.inference_mode():
        expected = network()(x_bchw, style_bchw)[0, :, 12:-12, 12:-12]
    stylized = stylizer(frames[:1], [style(1)])[0]
    assert np.abs(stylized - 255 * expected.permute(1, 2, 0).numpy()).max() < 1


def test_each_frame_gets_its_own_style(stylizer: AnyStyleStylizer, frames: UInt8Array) -> None:
    styles = [style(1), style(2, 64, 30), style(3, 1, 1)]
    together = stylizer(frames, styles)
    for i in range(3):
        assert np.array_equal(together[i], stylizer(frames[i : i + 1], [styles[i]])[0])
        assert not np.array_equal(together[i], stylizer(frames[i : i + 1], [styles[i - 1]])[0])


def test_the_row_of_a_style_is_predicted_once(frames: UInt8Array) -> None:
    model, seen = network(), []
    model.predictor.register_forward_hook(lambda module, args, row: seen.append(args[0].shape))
    stylizer = AnyStyleStylizer(model, "cpu", "fp32")
    styles = [style(seed) for seed in range(40)]  # more than networks are kept for
    for _ in range(2):
        for given in styles:
            stylizer(frames[:1, :8, :8], [given])
    assert len(seen) == len(styles)


def test_tiles_give_the_frame_of_one_piece(stylizer: AnyStyleStylizer) -> None:
    frame, given = np.random.default_rng(0).integers(0, 256, (1, 300, 520, 3), np.uint8), style(1)
    in_tiles = AnyStyleStylizer(network(), "cpu", "fp32", tile=256)
    whole, tiled = (each(frame, [given]).astype(int) for each in (stylizer, in_tiles))
    assert np.abs(whole - tiled).max() <= 1


def test_frozen_statistics_are_those_of_one_style(stylizer: AnyStyleStylizer, frames: UInt8Array) -> None:
    for each in (style(1), style(2)):
        frozen = stylizer.frozen(stylizer.measure(frames[:1], each))
        difference = frozen(frames[:1], [each]).astype(int) - stylizer(frames[:1], [each])
        assert np.abs(difference).max() <= 1
        assert not np.array_equal(frozen(frames[1:2], [each]), stylizer(frames[1:2], [each]))


def test_bf16_is_close_to_fp32(stylizer: AnyStyleStylizer, frames: UInt8Array) -> None:
    half, given = AnyStyleStylizer(network(), "cpu", "bf16"), style(1)
    difference = half(frames, 3 * [given]).astype(int) - stylizer(frames, 3 * [given])
    assert 0 < np.sqrt((difference**2).mean()) < 3


def test_a_frame_without_a_style_image_is_refused(stylizer: AnyStyleStylizer, frames: UInt8Array) -> None:
    with pytest.raises(ValueError, match="3 frames and 1 style images"):
        stylizer(frames, [style(1)])


def test_a_style_image_of_one_color_has_a_note(stylizer: AnyStyleStylizer, frames: UInt8Array) -> None:
    even = Style("blank", np.full((40, 50, 3), (250, 252, 40), np.uint8))
    stylized = stylizer(frames[:2], [style(1), even])
    assert stylized.shape == frames[:2].shape
    good, blank = stylizer.last_notes
    assert not good
    assert blank == ["style image 'blank' is one even color, or transparent: little but that color comes of it"]
