"""The network of many styles that ships: every style loads, says whose it is, and paints without artifacts."""

import io
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import nst_ops.models
from nst_ops.models.checkpoint import load_checkpoint
from nst_ops.models.conditional import ConditionalNet
from tests.models.artifacts import border_step, light_agreement
from tests.models.test_pretrained import content, weave

IDENTITY = "identity"
FILE = Path(nst_ops.models.__file__).parent / "pretrained/styles.safetensors"
CHECKPOINT = load_checkpoint(FILE)
MODEL = CHECKPOINT.expect(ConditionalNet)
STYLES = [name for name in MODEL.names if name != IDENTITY]


def stylize(image: Tensor, name: str) -> Tensor:
    with torch.inference_mode():
        return MODEL(image, MODEL.row(name))


@cache
def stylized(name: str) -> tuple[Tensor, Tensor]:
    """Four images, and the same in a style."""
    images = torch.cat([content(seed) for seed in range(4)])
    return images, stylize(images, name)


def mean_color(name: str) -> Tensor:
    """Mean red, green and blue of the painting."""
    painting = Image.open(io.BytesIO(CHECKPOINT.styles[name].thumbnail)).convert("RGB")
    return torch.from_numpy(np.asarray(painting) / 255).float().mean(dim=(0, 1))


def test_it_is_small_and_has_sixteen_styles_and_the_identity():
    assert FILE.stat().st_size < 4_000_000
    assert len(STYLES) >= 16
    assert {"starry_night", "great_wave", "kandinsky", "mondrian"} <= set(STYLES)
    assert IDENTITY in MODEL.names
    assert sum(weight.numel() for weight in MODEL.parameters()) == 140_364 + 990 * len(MODEL.names)
    assert {"data", "base", "recipe", "steps"} <= CHECKPOINT.facts.keys()


@pytest.mark.parametrize("name", STYLES)
def test_a_style_says_whose_painting_it_is(name):
    facts = CHECKPOINT.styles[name]
    assert facts.title
    assert facts.artist
    assert facts.source
    assert "public domain" in facts.license
    assert min(Image.open(io.BytesIO(facts.thumbnail)).size) >= 96


@pytest.mark.parametrize("name", STYLES)
def test_a_style_is_bold_and_has_the_colors_of_its_painting(name):
    _, out = stylized(name)
    assert out.isfinite().all()
    assert out.std() > 0.08
    assert (out.mean(dim=(0, 2, 3)) - mean_color(name)).abs().max() < 0.1


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


def test_the_identity_is_nearer_to_the_photograph_than_any_style():
    image = content()
    errors = {name: (stylize(image, name) - image).square().mean() for name in MODEL.names}
    assert min(errors, key=errors.__getitem__) == IDENTITY
