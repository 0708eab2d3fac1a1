"""The three losses together, as a feed-forward network is trained with them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nst_ops.losses.content import content_loss
from nst_ops.losses.style import gram_matrix, style_loss
from nst_ops.losses.variation import total_variation
from nst_ops.models.vgg import VGGFeatures

Key = TypeVar("Key", str, float)


class PerceptualTerms(NamedTuple):
    """The weighted sum to minimise, and its unweighted terms without gradient."""

    total: Tensor
    content: Tensor
    style: Tensor
    variation: Tensor


class PerceptualLoss(nn.Module):
    """Content, style and smoothness of a stylized picture, after J. Johnson et al., ECCV 2016.

    The style is compared at one or more scales: a picture reduced to a half shows each tap
    strokes twice as large, which stands in for deeper taps at a quarter of their cost
    (L. Gatys et al., "Controlling Perceptual Factors in Neural Style Transfer", CVPR 2017).

    Args:
        vgg: feature network with every tap named below, already on its device.
        style: (1, 3, H, W) painting in [0, 1], on the same device. Its size decides the size
            of the strokes: a painting twice as large gives strokes twice as large.
        content_tap: where the photograph is compared.
        style_taps: where correlations are compared; as a mapping, with the weight of each.
        content_weight: weight of the content term.
        style_weight: weight of the style term, a weighted mean over taps and scales.
        variation_weight: weight of the smoothness term.
        style_scales: the scale of each comparison of style, with its weight.
    """

    def __init__(
        self,
        vgg: VGGFeatures,
        style: Tensor,
        content_tap: str,
        style_taps: Mapping[str, float] | Sequence[str],
        content_weight: float = 1.0,
        style_weight: float = 1.0,
        variation_weight: float = 0.1,
        style_scales: Mapping[float, float] | Sequence[float] = (1.0,),
    ) -> None:
        super().__init__()
        self.vgg = vgg
        self.content_tap = content_tap
        self.style_taps = _shares(style_taps)
        self.style_scales = _shares(style_scales)
        self.content_weight = content_weight
        self.style_weight = style_weight
        self.variation_weight = variation_weight
        self.grams: dict[float, dict[str, Tensor]] = {}
        with torch.no_grad():
            for scale in self.style_scales:
                painting = vgg(_rescale(style, scale))
                self.grams[scale] = {tap: gram_matrix(painting[tap]) for tap in self.style_taps}

    def forward(self, stylized_bchw: Tensor, photo_bchw: Tensor) -> PerceptualTerms:
        """Judge stylized pictures against their photographs, both (B, 3, H, W) in [0, 1]."""
        full = self.vgg(stylized_bchw)
        with torch.no_grad():
            kept = self.vgg(photo_bchw, until=self.content_tap)
        content = content_loss(full[self.content_tap], kept[self.content_tap])
        style = torch.zeros_like(content)
        for scale, share in self.style_scales.items():
            seen = full if scale == 1 else self.vgg(_rescale(stylized_bchw, scale))
            for tap, weight in self.style_taps.items():
                style = style + share * weight * style_loss(seen[tap], self.grams[scale][tap])
        variation = total_variation(stylized_bchw)
        total = self.content_weight * content + self.style_weight * style + self.variation_weight * variation
        return PerceptualTerms(total, content.detach(), style.detach(), variation.detach())


def _shares(weights: Mapping[Key, float] | Sequence[Key]) -> dict[Key, float]:
    """Weights that sum to 1; a bare list counts each alike."""
    weights = weights if isinstance(weights, Mapping) else dict.fromkeys(weights, 1.0)
    return {key: weight / sum(weights.values()) for key, weight in weights.items()}


def _rescale(picture: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return picture
    return F.interpolate(picture, scale_factor=scale, mode="bilinear", antialias=True)
