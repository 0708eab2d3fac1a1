"""Loss of one painting of many: its moments at several scales, its colors, what the photograph shows.

Shapes: B batch, S styles, C channels, H and W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nst_ops.losses.moments import moments, palette, palette_loss, relative_error
from nst_ops.models.vgg import VGGFeatures

TAPS = ("relu1_2", "relu2_2", "relu3_1", "relu3_4")
"""Layers of VGG19 that the loss needs."""
SMALLEST_SIDE = 96
"""Pixels of a side of which the smallest map has positions inside its border."""

# Scales at which style is compared, their weights and layers. The deepest layer at full size is a third of the time of
# a step, and sees at half size what it would see there.
_SCALES = (
    (1.0, 1.0, ("relu1_2", "relu2_2", "relu3_1")),
    (0.5, 1.0, ("relu1_2", "relu2_2", "relu3_1", "relu3_4")),
    (0.25, 0.5, ("relu2_2", "relu3_1", "relu3_4")),
)
_WEIGHTS = [weight for _, weight, taps in _SCALES for _ in taps]
_CONTENT = "relu3_1"
_BORDER = 2  # positions of a map that show the zeros around the image

Moments = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class StyleTarget:
    """What stylized images are to have of their style images, all tensors with S or B in front."""

    moments: Moments
    """Means and covariances by scale and layer."""
    palette: Tensor
    """Quantiles of the colors, see ``palette``."""

    @staticmethod
    def stack(targets: list[StyleTarget]) -> StyleTarget:
        """Return the targets of many styles as one."""
        pairs = zip(*(target.moments for target in targets), strict=True)
        stacked = [tuple(torch.cat(part) for part in zip(*pair, strict=True)) for pair in pairs]
        return StyleTarget(
            [(mean, covariance) for mean, covariance in stacked], torch.cat([t.palette for t in targets])
        )

    def take(self, styles_b: Tensor) -> StyleTarget:
        """Return the targets of a batch: ``styles_b``, int64 (B,), has the number of the style of each image."""
        taken = [(mean[styles_b], covariance[styles_b]) for mean, covariance in self.moments]
        return StyleTarget(taken, self.palette[styles_b])

    def to(self, device: torch.device) -> StyleTarget:
        """Copy to ``device``."""
        return StyleTarget([(mean.to(device), cov.to(device)) for mean, cov in self.moments], self.palette.to(device))


class PaintingLoss:
    """Terms of the loss of stylized images. Call it under autocast, if any: what must be exact is in fp32.

    Args:
        vgg: VGG19 with the layers ``TAPS``, on the device of the images.
    """

    def __init__(self, vgg: VGGFeatures) -> None:
        self.vgg = vgg

    def __call__(self, stylized: Tensor, photos: Tensor, target: StyleTarget) -> dict[str, Tensor]:
        """Return the terms by name, (B,) each in fp32, for images (B, 3, H, W) in [0, 1], sides >= ``SMALLEST_SIDE``.

        ``style`` and ``palette`` are relative to the painting, ``content`` to the photograph; ``photos`` and ``target``
        get no gradient.
        """
        found, content = self._moments(stylized)
        with torch.no_grad():
            wanted = self.vgg(_channels_last(photos), until=_CONTENT)[_CONTENT]
        return {
            "style": style_distance(found, target.moments),
            "palette": palette_loss(stylized, target.palette),
            "content": relative_error(content, wanted),
        }

    @torch.no_grad()
    def target(self, images: Tensor) -> StyleTarget:
        """Return what (B, 3, H, W) in [0, 1] have: as of style images, or to compare them with some."""
        return StyleTarget(self._moments(images)[0], palette(images))

    def _moments(self, images: Tensor) -> tuple[Moments, Tensor]:
        """Return the moments at all scales and layers, and the features that content is compared by."""
        found: Moments = []
        content = images
        for scale, _, taps in _SCALES:
            scaled = images.float()
            if scale != 1:
                scaled = F.interpolate(scaled, scale_factor=scale, mode="bilinear", antialias=True)
            features = self.vgg(_channels_last(scaled), until=taps[-1])
            content = features[_CONTENT] if scale == 1 else content
            found += [moments(features[tap], _BORDER) for tap in taps]
        return found, content


def style_distance(found: Moments, target: Moments) -> Tensor:
    """Return the mean of the relative errors of all moments of each image, by the weights of their scales: (B,)."""
    errors = [
        weight * (relative_error(seen[0], wanted[0]) + relative_error(seen[1], wanted[1]))
        for weight, seen, wanted in zip(_WEIGHTS, found, target, strict=True)
    ]
    return torch.stack(errors).sum(0) / (2 * sum(_WEIGHTS))


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)
