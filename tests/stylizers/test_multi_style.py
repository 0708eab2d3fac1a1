"""The stylizer of many styles: each frame in its own mix of rows, by the machinery of one style."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nst_ops.media.images import UInt8Array
from nst_ops.media.style_images import Style
from nst_ops.models.conditional import ConditionalNet
from nst_ops.models.style_mix import StyleMix
from nst_ops.stylizers.multi_style import MultiStyleStylizer


def network(*names: str) -> ConditionalNet:
    torch.manual_seed(0)
    net = ConditionalNet(names, width=8, num_blocks=1, encoder=(4, 8), decoder=(4, 4))
    with torch.no_grad():
        net.rows.add_(0.5 * torch.randn_like(net.rows))
    return net


def style(**shares: float) -> Style:
    mix = StyleMix.of(shares)
    return Style(mix.label, mix=mix)


@pytest.fixture(scope="module")
def stylizer() -> MultiStyleStylizer:
    return MultiStyleStylizer(network("waves", "stars", "identity"), "cpu", "fp32")


def test_frames_are_what_the_network_makes_of_them_with_a_margin(
    stylizer: MultiStyleStylizer, frames: UInt8Array
) -> None:
    net = network("waves", "stars", "identity").eval()
    padded = np.pad(frames[:1], ((0, 0), (12, 12), (12, 12), (0, 0)), mode="reflect")
    with torch.inference_mode():
        row = net.blend({"waves": 0.7, "stars": 0.3})
        expected = net(torch.from_numpy(padded).permute(0, 3, 1, 2) / 255, row)[0, :, 12:-12, 12:-12]
    stylized = stylizer(frames[:1], [style(waves=0.7, stars=0.3)])[0]
    assert np.abs(stylized - 255 * expected.permute(1, 2, 0).numpy()).max() < 1


def test_tensors_are_stylized_as_arrays_are(stylizer: MultiStyleStylizer, frames: UInt8Array) -> None:
    styles = [style(waves=1), style(stars=1), style(stars=1)]
    stylized = stylizer(torch.from_numpy(frames), styles)
    assert isinstance(stylized, torch.Tensor)
    assert np.array_equal(stylized, stylizer(frames, styles))


def test_each_frame_gets_its_own_mix(stylizer: MultiStyleStylizer, frames: UInt8Array) -> None:
    styles = [style(waves=1), style(stars=1), style(waves=0.5, stars=0.5)]
    together = stylizer(frames, styles)
    for i in range(3):
        assert np.array_equal(together[i], stylizer(frames[i : i + 1], [styles[i]])[0])
        assert not np.array_equal(together[i], stylizer(frames[i : i + 1], [styles[i - 1]])[0])


def test_tiles_give_the_frame_of_one_piece(stylizer: MultiStyleStylizer) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (1, 300, 520, 3), np.uint8)
    in_tiles = MultiStyleStylizer(network("waves", "stars", "identity"), "cpu", "fp32", tile=256)
    whole, tiled = (each(frame, [style(stars=1)]).astype(int) for each in (stylizer, in_tiles))
    assert np.abs(whole - tiled).max() <= 1


def test_frozen_statistics_are_those_of_one_style(stylizer: MultiStyleStylizer, frames: UInt8Array) -> None:
    for each in (style(waves=1), style(stars=1)):
        frozen = stylizer.frozen(stylizer.measure(frames[:1], each))
        difference = frozen(frames[:1], [each]).astype(int) - stylizer(frames[:1], [each])
        assert np.abs(difference).max() <= 1
        assert not np.array_equal(frozen(frames[1:2], [each]), stylizer(frames[1:2], [each]))


def test_bf16_is_close_to_fp32(stylizer: MultiStyleStylizer, frames: UInt8Array) -> None:
    half = MultiStyleStylizer(network("waves", "stars", "identity"), "cpu", "bf16")
    difference = half(frames, 3 * [style(stars=1)]).astype(int) - stylizer(frames, 3 * [style(stars=1)])
    assert 0 < np.sqrt((difference**2).mean()) < 3


def test_a_frame_without_a_mix_is_refused(stylizer: MultiStyleStylizer, frames: UInt8Array) -> None:
    with pytest.raises(ValueError, match="3 frames and 1 mixes of named styles"):
        stylizer(frames, [style(waves=1)])
