import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nst_ops.config import ModelConfig
from nst_ops.models.johnson import JohnsonNet
from nst_ops.stylizers import load_stylizer
from nst_ops.stylizers.johnson import JohnsonStylizer
from nst_ops.stylizers.tiles import cut, stylize_in_tiles
from tests.media_factory import natural_image

NETWORKS = list(
    itertools.product(("nearest", "bilinear", "transposed"), ("instance", "layer", "batch", "none"), (False, True))
)


def network(upsampling: str = "nearest", norm: str = "instance", skips: bool = False) -> JohnsonNet:
    torch.manual_seed(0)
    model = JohnsonNet(8, 2, upsampling, norm, skips=skips).eval()  # type: ignore[arg-type]
    torch.nn.init.normal_(model.decoder[-1].conv.weight, std=0.1)
    return model


def image(width: int, height: int) -> np.ndarray:
    return np.asarray(natural_image("chelsea", width, height))[None]


def give_memory(monkeypatch: pytest.MonkeyPatch, available: int) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=available))
    monkeypatch.setattr("nst_ops.stylizers.memory.kept_bytes", lambda: 0)


@pytest.mark.parametrize(("height", "width", "side"), [(1, 1, 64), (33, 45, 10), (64, 65, 64), (270, 480, 64)])
def test_tiles_cover_every_position_once(height: int, width: int, side: int) -> None:
    count = np.zeros((height, width), int)
    for tile in cut(height, width, side):
        count[tile.keep] += 1
        assert all(span.stop - span.start <= side for span in tile.keep)
    assert (count == 1).all()


@pytest.mark.parametrize(("upsampling", "norm", "skips"), NETWORKS)
def test_tiles_give_the_image_of_one_piece(upsampling: str, norm: str, skips: bool) -> None:
    model = network(upsampling, norm, skips)
    x_bchw = torch.from_numpy(image(180, 132)).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        whole = model(x_bchw)
        tiled = stylize_in_tiles(model.shared_copy(), x_bchw, 40)
    assert (tiled - whole).abs().max() < 1e-5
    assert whole.std() > 1e-3  # something is stylized


def test_a_shipped_style_shows_no_seam_but_rounding() -> None:
    stylize = load_stylizer(ModelConfig(checkpoint="starry_night", device="cpu", precision="fp32"))
    frames = image(300, 200)
    tiled = JohnsonStylizer(stylize.model, "cpu", "fp32", tile=64)(frames)
    difference = np.abs(tiled.astype(int) - stylize(frames))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_frames_beyond_memory_are_tiled_then_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stylizer = JohnsonStylizer(network(), "cpu", "fp32")
    frames = image(1200, 1000)
    one_map = 8 * 4 * (1200 + 24) * (1000 + 24)
    smallest_tile = 6 * 8 * 4 * (256 + 24) ** 2
    sides = []

    def remember(model: JohnsonNet, x_bchw: torch.Tensor, side: int) -> torch.Tensor:
        sides.append(side)
        return x_bchw

    monkeypatch.setattr("nst_ops.stylizers.johnson.stylize_in_tiles", remember)
    for available in (6 * one_map, 6 * one_map - 1, 2 * one_map + smallest_tile):
        give_memory(monkeypatch, available)
        stylizer(frames)
    assert sides == [512, 256]
    give_memory(monkeypatch, 2 * one_map + smallest_tile - 1)
    with pytest.raises(MemoryError, match=r"1200x1000 pixels need about .* GiB, .* --resize\.max_side"):
        stylizer(frames)


def test_the_largest_tile_that_fits_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    for asked, expected in ((None, None), (1200, None), (700, 700), (256, 256)):
        give_memory(monkeypatch, 2**40)
        assert JohnsonStylizer(model, "cpu", tile=asked)._tile_for(1, 1000, 1200) == expected


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_frame_comes_out_the_same_to_the_bit_in_any_batch(precision: str) -> None:
    stylizer = JohnsonStylizer(network(), "cpu", precision)
    frames = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    alone = np.concatenate([stylizer(frame[None]) for frame in frames])
    for size in (2, 3, 5):
        batches = [stylizer(frames[i : i + size]) for i in range(0, 5, size)]
        np.testing.assert_array_equal(np.concatenate(batches), alone)
