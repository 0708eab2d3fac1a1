"""Fitting of a style: a row of a network of many styles, or row and network, by gradient descent from the nearest row.

Shapes: B batch, C channels, H and W pixels, R numbers in a row.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nst_ops.config.training import FitConfig
from nst_ops.losses.moments import moments, palette, palette_loss, relative_error
from nst_ops.losses.style import content_loss
from nst_ops.media.images import UInt8Array
from nst_ops.models.conditional import ConditionalNet
from nst_ops.models.style_facts import IDENTITY
from nst_ops.models.vgg import VGGFeatures
from nst_ops.stylizers.row_fitting import Progress, crop_photo, descend
from nst_ops.training.data import to_tensor
from nst_ops.training.optim import Precision

# Scales at which style is compared, their weights and layers. The deepest layer at full size is a third of the time of
# a step, and sees at half size what it would see there.
_SCALES = (
    (1.0, 1.0, ("relu1_2", "relu2_2", "relu3_1")),
    (0.5, 1.0, ("relu1_2", "relu2_2", "relu3_1", "relu3_4")),
    (0.25, 0.5, ("relu2_2", "relu3_1", "relu3_4")),
)
TAPS = ("relu1_2", "relu2_2", "relu3_1", "relu3_4")
"""Layers of VGG19 that fitting needs."""
_CONTENT = "relu3_1"
_BORDER = 2  # positions of a map that show the zeros around the image
_SMALLEST = 96  # pixels of a side of which the smallest map has positions inside its border
_STARTS, _START_SIZE = 2, 128  # photographs on which rows are compared, and their side in pixels

Moments = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class StyleTarget:
    """What stylized images are to have of a style image."""

    moments: Moments
    palette: Tensor


@dataclass(frozen=True)
class FittedStyle:
    """A network of one style, its last losses, and the name of the row that it began from."""

    network: ConditionalNet
    losses: dict[str, float]
    start: str


class StyleFitting:
    """Fits styles from one network and one set of photographs.

    Args:
        base: the network to begin from, on any device; it stays as it is.
        vgg: VGG19 with the layers ``TAPS``.
        photos: photographs, (S, S, 3) uint8 each.
        config: steps, rates and weights of the loss.
        device: where all of it runs.
    """

    def __init__(
        self,
        base: ConditionalNet,
        vgg: VGGFeatures,
        photos: Sequence[UInt8Array],
        config: FitConfig,
        device: torch.device,
    ) -> None:
        self._config, self._device, self._photos = config, device, photos
        self._precision = Precision("auto", device)
        self._vgg = vgg.to(device).to(memory_format=torch.channels_last)
        self._base = copy.deepcopy(base).to(device).requires_grad_(False)
        self._starts: dict[str, list[StyleTarget]] = {}

    def fit(self, name: str, painting_hwc: UInt8Array, progress: Progress = lambda step, losses: None) -> FittedStyle:
        """Fit a row to a style image, uint8 (H, W, 3), and with ``fit.network`` the convolutions.

        Raises FloatingPointError where the loss is no number any more.
        """
        config, target = self._config, self._target(self._resized(painting_hwc))
        start = self._nearest(target)
        network = copy.deepcopy(self._base)
        row = network.row(start).detach().clone().requires_grad_()
        convolutions = [weight for key, weight in network.named_parameters() if key != "rows"]
        groups = [([row], config.row_rate)] + ([(convolutions, config.network_rate)] if config.network else [])
        for weight in convolutions:
            weight.requires_grad_(config.network)

        def losses_at(step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
            photo = self._crop(step, config.size)
            with self._precision.autocast():
                stylized = network(photo, row)
            terms = self._losses(stylized, photo, target)
            return terms["style"] + config.palette * terms["palette"] + config.content * terms["content"], terms

        means, losses = descend(name, groups, config.steps, losses_at, progress)
        with torch.no_grad():
            for weight, mean in zip(convolutions, means[1:], strict=False):
                weight.copy_(mean)
        return FittedStyle(network.cpu().with_rows({name: means[0].cpu()}).eval(), losses, start)

    @torch.no_grad()
    def _nearest(self, target: StyleTarget) -> str:
        """Return the name of the row whose stylized photographs are nearest to a style; each is stylized once."""
        if not self._starts:
            for name in self._base.names:
                if name != IDENTITY or len(self._base.names) == 1:
                    self._starts[name] = [self._stylized(name, -number) for number in range(_STARTS)]
        distances = {
            name: sum(
                _distance(seen.moments, target.moments).item()
                + self._config.palette * relative_error(seen.palette, target.palette).item()
                for seen in stylized
            )
            for name, stylized in self._starts.items()
        }
        return min(distances, key=lambda name: distances[name])

    def _stylized(self, name: str, step: int) -> StyleTarget:
        with self._precision.autocast():
            return self._target(self._base(self._crop(step, _START_SIZE), self._base.row(name)))

    @torch.no_grad()
    def _target(self, images: Tensor) -> StyleTarget:
        return StyleTarget(self._moments(images)[0], palette(images))

    def _losses(self, stylized: Tensor, photo: Tensor, target: StyleTarget) -> dict[str, Tensor]:
        found, content = self._moments(stylized)
        with torch.no_grad(), self._precision.autocast():
            wanted = self._vgg(photo, until=_CONTENT)[_CONTENT]
        return {
            "style": _distance(found, target.moments),
            "palette": palette_loss(stylized, target.palette),
            "content": content_loss(content, wanted),
        }

    def _moments(self, images: Tensor) -> tuple[Moments, Tensor]:
        """Return the moments at all scales and layers, and the features that content is compared by."""
        found: Moments = []
        content = images
        for scale, _, taps in _SCALES:
            scaled = images.float()
            if scale != 1:
                scaled = F.interpolate(scaled, scale_factor=scale, mode="bilinear", antialias=True)
            with self._precision.autocast():
                features = self._vgg(scaled.contiguous(memory_format=torch.channels_last), until=taps[-1])
            content = features[_CONTENT] if scale == 1 else content
            found += [moments(features[tap], _BORDER) for tap in taps]
        return found, content

    def _crop(self, step: int, size: int) -> Tensor:
        rng = np.random.default_rng([self._config.seed, step + _STARTS])
        return crop_photo(self._photos, size, rng, self._device)

    def _resized(self, painting_hwc: UInt8Array) -> Tensor:
        """Return a style image as (1, 3, H, W) of as many pixels as a square of ``side`` has."""
        image = to_tensor(painting_hwc)
        scale = self._config.side / math.sqrt(image[0, 0].numel())
        size = [max(_SMALLEST, round(length * scale)) for length in image.shape[2:]]
        return F.interpolate(image, size, mode="bicubic", antialias=True).clamp_(0, 1).to(self._device)


def _distance(found: Moments, target: Moments) -> Tensor:
    """Return the mean of the relative errors of all moments, by the weights of their scales."""
    weights = [weight for _, weight, taps in _SCALES for _ in taps]
    errors = [
        weight * sum(starmap(relative_error, zip(seen, wanted, strict=True)), start=torch.zeros(()))
        for weight, seen, wanted in zip(weights, found, target, strict=True)
    ]
    return torch.stack(errors).sum() / (2 * sum(weights))
