"""Configuration of the losses that a network is trained with."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt

from nst_ops.config.base import StrictModel


def _former(**values: str) -> BeforeValidator:
    """Accept former values, each with its present one."""
    return BeforeValidator(lambda value: values.get(value, value) if isinstance(value, str) else value)


Weights = Annotated[dict[str, PositiveFloat], Field(min_length=1)]
Weight = Annotated[float, Field(ge=0, description="Weight of the term; 0 leaves it out.")]
View = Annotated[Literal["color", "coarse", "gray", "surface"], _former(colour="color", grey="gray")]


class ContentConfig(StrictModel):
    """Content: keep what the content image shows (Johnson et al. 2016, eq. 2)."""

    renamed: ClassVar[dict[str, str]] = {"grey": "gray"}
    weight: Weight = 1.0
    taps: Weights = Field(default={"relu3_1": 1.0})
    """VGG layers at which the content is compared, with their weights; deeper ones leave strokes free."""
    gray: bool = False
    """Compare light and dark only."""
    of: Annotated[Literal["image", "drawing"], _former(photo="image")] = "image"
    """What to keep the content of: the content image, or the drawing that loss.cel makes of it."""
    units: Literal["relative", "mean", "absolute"] = "relative"
    """relative: error over the image's energy, alike for every VGG; mean: mean squared error; absolute: absolute
    error over the image's absolute features, which forgives few large changes."""


class GramConfig(StrictModel):
    """Style: have the feature correlations of the style image (Gatys et al. 2016, eq. 4)."""

    renamed: ClassVar[dict[str, str]] = {"grey": "gray"}
    weight: Weight = 12.0
    taps: Weights = Field(default={"relu1_2": 1.0, "relu2_2": 1.0, "relu3_1": 1.0, "relu3_4": 1.0})
    """VGG layers at which correlations are compared, with their weights."""
    scales: dict[PositiveFloat, PositiveFloat] = Field(default={1.0: 1.0, 0.5: 1.0, 0.25: 0.5}, min_length=1)
    """Scales of the image at which style is compared, with their weights; small ones see large forms."""
    gray: bool = False
    """Compare light and dark only, and leave the colors to other terms."""
    units: Literal["relative", "mean", "sum"] = "relative"
    """relative: error over the style image's energy, one weight for all styles, and the mean over taps and scales;
    mean, sum: of the squared differences, and the sum over taps and scales."""


class MeanStdConfig(StrictModel):
    """Style: have the channel means and deviations of the style image (Huang and Belongie 2017, eq. 13)."""

    weight: Weight = 0.0
    taps: Weights = Field(default={"relu1_2": 1.0, "relu2_2": 1.0, "relu3_1": 1.0})
    """VGG layers at which they are compared, with their weights."""
    units: Literal["relative", "mean"] = "relative"
    """relative: error over the style image's energy, one weight for all styles; mean: mean squared error."""


class VariationConfig(StrictModel):
    """Smoothness: no noise from pixel to pixel (Rudin et al. 1992)."""

    weight: Weight = 0.1
    units: Literal["mean", "sum"] = "mean"
    """mean: one weight for every image size; sum: over all pixels, as older recipes have it."""


class NoiseConfig(StrictModel):
    """Steadiness: stylize a noisy image as the clean one, against flicker; fresh noise at every step."""

    weight: float = Field(default=0.0, ge=0)
    """Weight of the mean squared difference; 0 leaves it out and saves a forward pass."""
    amplitude: float = Field(default=30 / 255, ge=0, le=1)
    """Largest change of a noisy pixel, of the range [0, 1]."""
    share: float = Field(default=0.05, ge=0, le=1)
    """Share of the pixels that get noise."""


class MotionConfig(StrictModel):
    """Steadiness: a moved image comes out as the moved result, against textures that stick to the screen."""

    weight: float = Field(default=0.0, ge=0)
    """Weight of the mean squared difference; 0 leaves it out and saves a forward pass."""
    max_shift: float = Field(default=0.05, ge=0, le=0.5)
    """Largest shift, as a share of the image's side."""
    max_zoom: float = Field(default=0.05, ge=0, le=0.5)
    """Largest zoom, in or out."""


class CelConfig(StrictModel):
    """Cel: be near a drawing that filters make of the image: flat, bright, inked (``losses.cel_shaded``)."""

    weight: Weight = 0.0
    saturation: float = Field(default=1.4, ge=0)
    """Factor of the image's chroma in the drawing: above 1 for the colors of paint."""
    gamma: PositiveFloat = 0.6
    """Exponent of the luma in the drawing: below 1 lightens skin and shadows."""
    contrast: float = Field(default=0.8, ge=0, le=1)
    """Share of an S-curve in the luma of the drawing: more separates light from dark."""
    ink: float = Field(default=0.9, ge=0, le=1)
    """Darkness of the lines along the dark side of edges."""
    levels: NonNegativeInt = 4
    """Steps of luma in cel shading; 0 leaves it smooth."""
    eyes: float = Field(default=1.0, ge=1, le=2)
    """Magnification of the eyes. Above 1 only for the middle squares of faces aligned as in CelebA."""


class IdentityConfig(StrictModel):
    """Identity: an image in its own style comes back as it was (D. Park, K. Lee, CVPR 2019, eq. 7)."""

    weight: float = Field(default=0.0, ge=0)
    """Weight of the mean absolute difference; only for a network that takes its style from an example."""


class AdversarialConfig(StrictModel):
    """Adversarial: pass for an image of data.style before discriminators that learn to tell them apart."""

    renamed: ClassVar[dict[str, str]] = {"grey": "gray"}
    weight: Weight = 0.0
    kind: Literal["least_squares", "non_saturating"] = "least_squares"
    """Kind of adversarial loss: X. Mao et al., ICCV 2017, or I. Goodfellow et al., NeurIPS 2014."""
    views: list[View] = Field(default=["color"], min_length=1)
    """Views of the image, a discriminator for each: the image, at half size, its luma, its flat areas."""
    width: PositiveInt = 32
    """Channels of the first layer of each discriminator."""
    learning_rate: PositiveFloat = 4e-4
    """Peak learning rate of the discriminators, on the schedule of train."""
    blurred: float = Field(default=0.5, ge=0)
    """Weight of blurred style images as fakes, so that lines count (Y. Chen et al., CVPR 2018)."""
    gray: float = Field(default=0.5, ge=0)
    """Weight of gray style images as fakes, so that colors count (J. Chen et al., ISICA 2019)."""
    r1: float = Field(default=0.0, ge=0)
    """Weight of the gradient penalty (L. Mescheder et al., ICML 2018), beside spectral normalization."""
    augment: bool = True
    """Shift and recolor at random what discriminators see: else few style images are learned by heart."""


class LossConfig(StrictModel):
    """Terms of the loss. Each is logged on its own, unweighted."""

    network: Literal["vgg16", "vgg19"] = "vgg19"
    """VGG network whose features are compared."""
    weights: str | None = None
    """File with its weights, keys as torchvision's. Default: torchvision's own, downloaded once."""
    padding: Literal["reflect", "zeros"] = "reflect"
    """Padding of the VGG network. With zeros, as it was trained, stylized images get a gray frame."""
    content: ContentConfig = ContentConfig()
    gram: GramConfig = GramConfig()
    mean_std: MeanStdConfig = MeanStdConfig()
    variation: VariationConfig = VariationConfig()
    noise: NoiseConfig = NoiseConfig()
    motion: MotionConfig = MotionConfig()
    cel: CelConfig = CelConfig()
    identity: IdentityConfig = IdentityConfig()
    adversarial: AdversarialConfig = AdversarialConfig()

    def taps(self) -> set[str]:
        """Return every VGG layer that a term with weight looks at."""
        return {tap for term in (self.content, self.gram, self.mean_std) if term.weight for tap in term.taps}


class PaintingIdentityConfig(StrictModel):
    """Identity: the row ``identity`` gives back the photograph, as far as it can: a style to blend with."""

    weight: Weight = 2.0
    """Weight of the mean absolute difference; 0 leaves the row out of the network."""
    every: PositiveInt = 3
    """Steps from one that trains this row to the next."""


class PaintingMotionConfig(StrictModel):
    """Steadiness: a moved and noisy image comes out as the moved result, against flicker."""

    weight: Weight = 0.0
    """Weight of the error, as a share of the variance of the result; 0 leaves it out and saves a forward pass."""
    max_shift: int = Field(default=12, ge=1, le=20)
    """Largest shift in pixels; none is a multiple of 4, which the network does not notice."""
    noise: float = Field(default=0.02, ge=0, le=1)
    """Standard deviation of the noise, of the range [0, 1]."""


class PaintingLossConfig(StrictModel):
    """Loss of a network of many styles, each term relative to the energy of painting or photograph."""

    weights: str | None = None
    """File of weights of VGG19, keys as torchvision's. Default: torchvision's own, downloaded once."""
    palette: float = Field(default=0.2, ge=0)
    """Weight of the painting's distribution of colors; that of its means and covariances is 1."""
    content: float = Field(default=0.15, ge=0)
    """Weight of what the photograph shows."""
    contents: dict[str, Annotated[float, Field(ge=0)]] = Field(default={})
    """Weight of the content in single styles, by name: 0.1 for strong outlines, 0.3 where faces drown."""
    identity: PaintingIdentityConfig = PaintingIdentityConfig()
    motion: PaintingMotionConfig = PaintingMotionConfig()
