"""Fitting of a style: a row of a network of many styles, or row and network, by gradient descent from the nearest row.

Shapes: B batch, C channels, H and W pixels, R numbers in a row.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nst_ops.config.training import FitConfig
from nst_ops.losses.painting import PaintingLoss
from nst_ops.media.images import UInt8Array
from nst_ops.models.conditional import ConditionalNet
from nst_ops.models.vgg import VGGFeatures
from nst_ops.stylizers.row_fitting import Progress, crop_photo, descend
from nst_ops.training.nearest_row import NearestRow, resized
from nst_ops.training.optim import Precision
from nst_ops.training.step import remove_upsampling_grid

_STARTS, _START_SIZE = 2, 128  # photographs on which rows are compared, and their side in pixels


@dataclass(frozen=True)
class FittedStyle:
    """A network of one style, its last losses, and the name of the row that it began from."""

    network: ConditionalNet
    losses: dict[str, float]
    start: str


@dataclass(frozen=True)
class FittingMaterial:
    """All that every painting is fitted with."""

    base: ConditionalNet
    """Network to begin from."""
    vgg: VGGFeatures
    """VGG19 with the layers of ``PaintingLoss``."""
    photos: Sequence[UInt8Array]
    """Photographs, (S, S, 3) uint8 each."""
    config: FitConfig
    """Steps, rates and weights of the loss."""


@dataclass(frozen=True)
class Painting:
    """A style image that is to be fitted."""

    name: str
    pixels_hwc: UInt8Array
    uri: str
    made_of: str
    """Hash of all that the fitted style depends on."""


class StyleFitting:
    """Fits styles from one network and one set of photographs, on ``device``; what is given stays as it is."""

    def __init__(self, material: FittingMaterial, device: torch.device) -> None:
        self._config, self._device, self._photos = material.config, device, material.photos
        self._precision = Precision("auto", device)
        self._loss = PaintingLoss(copy.deepcopy(material.vgg).to(device).to(memory_format=torch.channels_last))
        self._base = copy.deepcopy(material.base).to(device).requires_grad_(False)
        crops = [self._crop(-number, _START_SIZE) for number in range(_STARTS)]
        self._rows = NearestRow(self._base, self._loss, crops, self._precision.autocast)

    def fit(self, name: str, painting_hwc: UInt8Array, progress: Progress = lambda step, losses: None) -> FittedStyle:
        """Fit a row to a style image, uint8 (H, W, 3), and with ``fit.network`` the convolutions.

        Raises FloatingPointError where the loss is no number any more.
        """
        config = self._config
        with self._precision.autocast():
            target = self._loss.target(resized(painting_hwc, config.side).to(self._device))
        start = self._rows.find(target, config.palette)
        network = copy.deepcopy(self._base)
        row = network.row(start).detach().clone().requires_grad_()
        convolutions = [weight for key, weight in network.named_parameters() if key != "rows"]
        groups = [([row], config.row_rate)] + ([(convolutions, config.network_rate)] if config.network else [])
        for weight in convolutions:
            weight.requires_grad_(config.network)

        def losses_at(step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
            if config.network:
                remove_upsampling_grid(network.in_style(row))
            photo = self._crop(step, config.size)
            with self._precision.autocast():
                found = self._loss(network(photo, row), photo, target)
            terms = {term: values.mean() for term, values in found.items()}
            return terms["style"] + config.palette * terms["palette"] + config.content * terms["content"], terms

        means, losses = descend(name, groups, config.steps, losses_at, progress)
        with torch.no_grad():
            for weight, mean in zip(convolutions, means[1:], strict=False):
                weight.copy_(mean)
        if config.network:
            remove_upsampling_grid(network.in_style(row))
        return FittedStyle(network.cpu().with_rows({name: means[0].cpu()}).eval(), losses, start)

    def _crop(self, step: int, size: int) -> Tensor:
        rng = np.random.default_rng([self._config.seed, step + _STARTS])
        return crop_photo(self._photos, size, rng, self._device)
