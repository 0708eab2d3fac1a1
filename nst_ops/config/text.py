"""Configuration of styles from words: CLIP, and how a style is fitted to a text."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt

from nst_ops.config.base import StrictModel


def _not_empty(text: str) -> str:
    if not text.strip():
        raise ValueError("it is empty: give words, such as 'an oil painting of waves'")
    return " ".join(text.split())


StyleText = Annotated[str, AfterValidator(_not_empty)]


class ClipConfig(StrictModel):
    """CLIP, which compares pictures with words (extra nst-ops[clip]); its weights are a file of your own."""

    weights: str | None = None
    """File of weights with open_clip's keys (.safetensors, .pt), such as open_clip_model.safetensors."""
    architecture: str | None = None
    """Architecture by open_clip's name: ViT-B-32-quickgelu for OpenAI's weights, ViT-B-32 for LAION's.
    Default: as open_clip_config.json beside the weights says."""


class TextFitConfig(StrictModel):
    """How a style is fitted to a text: the row of a network of many styles, by CLIP alone."""

    steps: PositiveInt = 100
    """Steps of the optimization."""
    size: int = Field(default=224, ge=96, multiple_of=4)
    """Side in pixels of the crops of photographs that are stylized."""
    patches: PositiveInt = 16
    """Patches of each stylized crop that are compared with the text."""
    rate: PositiveFloat = 0.03
    """Learning rate of the row."""
    whole: float = Field(default=1.0, ge=0)
    """Weight of the direction of whole crops."""
    patch: float = Field(default=18.0, ge=0)
    """Weight of the direction of patches: more gives more texture."""
    threshold: float = Field(default=0.7, ge=0, le=2)
    """Distance of a patch from the text up to which it is near enough, and no longer counts."""
    variation: float = Field(default=1.0, ge=0)
    """Weight of the difference of neighboring pixels: more is smoother."""
    prior: float = Field(default=0.5, ge=0)
    """Weight of the distance from the known styles: more keeps the photograph, less goes further to the text."""
    seed: int = 0
    """Seed of crops and patches."""
