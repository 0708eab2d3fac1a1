"""The style that ships: it loads, says where it comes from, and paints without artefacts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import nst_ops.models
from nst_ops.models.checkpoint import Checkpoint, load_checkpoint

PRETRAINED = Path(nst_ops.models.__file__).parent / "pretrained"
STARRY_NIGHT = PRETRAINED / "starry_night.safetensors"


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint(STARRY_NIGHT)


@pytest.fixture(scope="module")
def stylize(checkpoint: Checkpoint) -> Callable[[Tensor], Tensor]:
    def run(picture: Tensor) -> Tensor:
        with torch.inference_mode():
            return checkpoint.model(picture)

    return run


def flat(level: float) -> Tensor:
    return torch.full((1, 3, 128, 128), level)


def photo(seed: int = 0, side: int = 160) -> Tensor:
    """Soft shapes, edges and grain: what a photograph has, without being one."""
    rng = np.random.default_rng(seed)
    layers = [
        Image.fromarray(rng.integers(0, 256, (n, n, 3), dtype=np.uint8)).resize((side, side), kind)
        for n, kind in ((4, Image.Resampling.BICUBIC), (9, Image.Resampling.NEAREST), (80, Image.Resampling.BICUBIC))
    ]
    pixels = sum(share * np.asarray(layer) for share, layer in zip((0.55, 0.3, 0.15), layers, strict=True))
    return torch.from_numpy(np.asarray(pixels)).permute(2, 0, 1)[None].float() / 255


def test_it_is_small_and_says_where_it_comes_from(checkpoint):
    assert STARRY_NIGHT.stat().st_size < 4_000_000
    assert sum(parameter.numel() for parameter in checkpoint.model.parameters()) == 1_679_235
    assert checkpoint.layout == "nst-ops"
    assert "Starry Night" in checkpoint.facts["style"]
    assert "ImageNet" in checkpoint.facts["data"]
    assert {"painter", "recipe", "steps", "losses", "images_per_s", "versions"} <= checkpoint.facts.keys()
    assert not any("/" in str(value) for value in checkpoint.facts["recipe"].values())


@pytest.mark.parametrize("picture", [flat(0), flat(1), flat(0.5), photo()], ids=["black", "white", "grey", "photo"])
def test_finite_and_not_constant(stylize, picture):
    out = stylize(picture)
    assert out.isfinite().all()
    assert out.min() >= 0
    assert out.max() <= 1
    assert out.std() > 0.01


def test_blue_and_yellow_as_in_the_painting(stylize):
    red, green, blue = stylize(photo()).mean(dim=(0, 2, 3))
    assert blue > green > red
    pixels = stylize(photo(3))[0].flatten(1)
    assert ((pixels[0] + pixels[1]) / 2 > pixels[2]).float().mean() > 0.005


def test_content_decides_where_the_strokes_go(stylize):
    """Light stays light: the picture is repainted, not papered over."""
    picture = photo(1)
    before, after = (x.mean(dim=1, keepdim=True) for x in (picture, stylize(picture)))
    before, after = (torch.nn.functional.avg_pool2d(x, 8).flatten() for x in (before, after))
    assert torch.corrcoef(torch.stack([before, after]))[0, 1] > 0.3


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_border_is_painted_like_the_interior(stylize, seed):
    out = stylize(photo(seed))[0]
    border = torch.ones(out.shape[1:], dtype=torch.bool)
    border[8:-8, 8:-8] = False
    inside = ~border
    assert (out[:, border].mean(1) - out[:, inside].mean(1)).abs().max() < 0.1
    assert 0.6 < out[:, border].std() / out[:, inside].std() < 1.6


@pytest.mark.parametrize("period", [2, 4])
def test_no_checkerboard(stylize, period):
    """The upsampling's own frequencies stand out of the spectrum where there is a checkerboard."""
    out = stylize(photo(4, side=256))[0].mean(0)
    spectrum = torch.fft.fft2((out - out.mean()) * torch.hann_window(256)[:, None] * torch.hann_window(256)).abs()
    at = 256 // period
    peaks = torch.stack([spectrum[at, 0], spectrum[0, at], spectrum[at, at]])
    around = torch.stack(
        [spectrum[at - 12 : at - 3, :12].mean(), spectrum[:12, at - 12 : at - 3].mean(), spectrum[at - 12 : at - 3, at - 12 : at - 3].mean()]
    )
    assert (peaks / around).max() < 6
