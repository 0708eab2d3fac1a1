"""The styles that ship: they load, say where they come from, and paint without artifacts."""

import json
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
PALETTES = {  # mean red, green and blue of the style_images
    "starry_night": (0.30, 0.36, 0.43)
}


@pytest.fixture(scope="module", params=sorted(PALETTES))
def style(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def checkpoint(style: str) -> Checkpoint:
    return load_checkpoint(PRETRAINED / f"{style}.safetensors")


@pytest.fixture(scope="module")
def stylize(checkpoint: Checkpoint) -> Callable[[Tensor], Tensor]:
    def run(image: Tensor) -> Tensor:
        with torch.inference_mode():
            return checkpoint.model(image)

    return run


def flat(level: float) -> Tensor:
    return torch.full((1, 3, 128, 128), level)


def content(seed: int = 0, side: int = 160) -> Tensor:
    """Soft shapes, edges and grain: what a content image has, without being one."""
    rng = np.random.default_rng(seed)
    smooth, hard = Image.Resampling.BICUBIC, Image.Resampling.NEAREST
    pixels = np.zeros((side, side, 3))
    for share, cells, resampling in ((0.55, 4, smooth), (0.3, 9, hard), (0.15, 80, smooth)):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        pixels += share * np.asarray(coarse.resize((side, side), resampling))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def test_it_is_small_and_says_where_it_comes_from(style, checkpoint):
    assert (PRETRAINED / f"{style}.safetensors").stat().st_size < 4_000_000
    assert (PRETRAINED / f"{style}.md").is_file()
    assert sum(parameter.numel() for parameter in checkpoint.model.parameters()) == 1_679_235
    assert checkpoint.layout == "nst-ops"
    assert "public domain" in checkpoint.facts["style"]
    assert "ImageNet" in checkpoint.facts["data"]
    assert {"painter", "recipe", "steps", "losses", "images_per_s", "versions"} <= checkpoint.facts.keys()
    assert "/" not in json.dumps(checkpoint.facts["recipe"])


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_flat_image_stays_clean(stylize, level):
    """Instance normalization takes its one color away, so one even color comes out: no seam, no NaN."""
    out = stylize(flat(level))
    assert out.isfinite().all()
    assert out.std(dim=(2, 3)).max() < 0.01
    assert (out - stylize(flat(0.25))).abs().max() < 0.02


@pytest.mark.parametrize("level", [0.02, 0.5, 0.98])
def test_the_least_grain_is_stylized(stylize, level):
    grain = torch.randint(-1, 2, (1, 3, 128, 128), generator=torch.Generator().manual_seed(0)) / 255
    out = stylize(flat(level) + grain)
    assert out.isfinite().all()
    assert out.std(dim=(2, 3)).max() > 0.03


def test_finite_and_in_range(stylize):
    out = stylize(content())
    assert out.isfinite().all()
    assert (out >= 0).all()
    assert (out <= 1).all()
    assert out.std() > 0.08


def test_it_has_the_colors_of_its_style_image(style, stylize):
    """Nearer to its own style_image than to any other that ships."""
    color = torch.cat([stylize(content(seed)) for seed in range(3)]).mean(dim=(0, 2, 3))
    distances = {name: (color - torch.tensor(mean)).norm() for name, mean in PALETTES.items()}
    assert min(distances, key=distances.__getitem__) == style


def test_content_decides_where_the_strokes_go(stylize):
    """Light stays light, by and large: the image is repainted, not papered over."""
    images = torch.cat([content(seed) for seed in range(4)])
    before, after = (
        torch.nn.functional.avg_pool2d(x.mean(dim=1, keepdim=True), 8).flatten(1) for x in (images, stylize(images))
    )
    similar = [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(before, after, strict=True)]
    assert sum(similar) / len(similar) > 0.35


def weave(out: Tensor, period: int) -> list[tuple[float, float]]:
    """Down, across and both: amplitude of a grid in gray levels of 255, and how far it stands out."""
    side = out.shape[-1]
    window = torch.hann_window(side)
    gray = out[0].mean(0)
    spectrum = torch.fft.fft2((gray - gray.mean()) * window[:, None] * window).abs()
    at, near = side // period, slice(side // period - 12, side // period - 3)
    places = (
        (spectrum[at, 0], spectrum[near, :12]),
        (spectrum[0, at], spectrum[:12, near]),
        (spectrum[at, at], spectrum[near, near]),
    )
    level = 255 * 2 / window.sum() ** 2
    return [(float(peak * level), float(peak / around.mean())) for peak, around in places]


@pytest.mark.parametrize("period", [2, 4])
def test_no_checkerboard(stylize, period):
    """Upsampling leaves nothing at its own frequencies that eight bits could show."""
    for amplitude, _ in weave(stylize(content(4, 256)), period):
        assert amplitude < 1


@pytest.mark.parametrize("period", [2, 4])
@pytest.mark.parametrize("style", ["starry_night"], indirect=True)
def test_no_checkerboard_stands_out_of_the_spectrum(stylize, period):
    """Stricter, for the style that everything is tried with."""
    for _, prominence in weave(stylize(content(4, 256)), period):
        assert prominence < 6


@pytest.fixture(scope="module")
def anime() -> Checkpoint:
    return load_checkpoint(PRETRAINED / "anime_faces.safetensors")


def face(side: int = 128) -> Tensor:
    """A free content image of a face, aligned as those of CelebA: (1, 3, side, side)."""
    data = pytest.importorskip("skimage.data")
    image = Image.fromarray(data.astronaut()).crop((125, 0, 325, 200))
    resized = np.asarray(image.resize((side, side), Image.Resampling.LANCZOS))
    return torch.from_numpy(resized.copy()).permute(2, 0, 1)[None].float() / 255


def luma(image: Tensor) -> Tensor:
    return (image * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1, keepdim=True)


def test_every_shipped_network_is_tested_here():
    assert {path.stem for path in PRETRAINED.glob("*.safetensors")} == {*PALETTES, "anime_faces", "any_style", "styles"}


def test_the_anime_network_is_small_and_states_its_data(anime):
    assert (PRETRAINED / "anime_faces.safetensors").stat().st_size < 8_000_000
    assert (PRETRAINED / "anime_faces.md").is_file()
    assert "CelebA" in anime.facts["data"]
    assert "research" in anime.facts["data"]
    assert {"recipe", "steps", "losses", "images_per_s", "versions"} <= anime.facts.keys()
    assert "/" not in json.dumps(anime.facts["recipe"])


@pytest.mark.parametrize("side", [96, 128, 176])
def test_a_face_becomes_flat_and_inked_and_stays_itself(anime, side):
    before = face(side)
    with torch.inference_mode():
        after = anime.model(before)
    assert after.isfinite().all()
    coarse = [torch.nn.functional.avg_pool2d(luma(x), 8).flatten() for x in (before, after)]
    assert torch.corrcoef(torch.stack(coarse))[0, 1] > 0.85
    across, down = (slice(round(side * low), round(side * high)) for low, high in ((0.31, 0.38), (0.55, 0.64)))
    cheek = (slice(None), slice(None), down, across)
    texture = [(luma(x) - torch.nn.functional.avg_pool2d(luma(x), 5, 1, 2))[cheek].std() for x in (before, after)]
    assert texture[1] < texture[0]
    assert luma(after)[cheek].mean() > luma(before)[cheek].mean()
    ink = [  # much darker than what is around, the dark suit left out
        ((torch.nn.functional.avg_pool2d(luma(x), 9, 1, 4) - luma(x))[:, :, 4 : side * 7 // 10] > 0.25).sum()
        for x in (before, after)
    ]
    assert ink[1] > 2 * ink[0]


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_the_anime_network_leaves_an_even_area_even(anime, level):
    with torch.inference_mode():
        out = anime.model(flat(level))[:, :, 16:-16, 16:-16]
    assert out.std(dim=(2, 3)).max() < 0.01
    assert (out.mean() - level).abs() < 0.25
