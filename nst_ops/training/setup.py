"""What a training needs beside its photographs: read and checked before anything starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from nst_ops.config import ConfigError, TrainingConfig, TrainJohnsonConfig
from nst_ops.losses import PerceptualLoss
from nst_ops.models.checkpoint import CheckpointError
from nst_ops.models.vgg import VGGFeatures, WeightsError
from nst_ops.training.data import Photos, UInt8Array, read_painting, to_tensor
from nst_ops.training.networks import Network, build_network
from nst_ops.training.optim import Ranks
from nst_ops.training.step import PerceptualStep

_AVERAGED = 64
"""Pictures of a set of styles whose mean statistics are the target."""


@dataclass(frozen=True)
class Material:
    """Networks and painting; they travel to workers, which may not see the files they came from."""

    network: Network
    vgg: VGGFeatures
    painting: UInt8Array | None
    """(H, W, 3); None where the style is a set of pictures."""

    def step(
        self,
        config: TrainingConfig,
        device: torch.device,
        wrap: Callable[[nn.Module], nn.Module] | None = None,
        ranks: Ranks | None = None,
        styles: Photos | None = None,
    ) -> PerceptualStep:
        """A step of training on ``device``; moves the networks there.

        Args:
            config: the run's.
            device: where it trains.
            wrap: as of ``PerceptualStep``.
            ranks: likewise.
            styles: where the style is a set of pictures, those pictures.
        """
        if device.type == "cuda":
            torch.cuda.set_device(device)  # where several workers see all GPUs of a node
        torch.manual_seed(config.train.seed)
        torch.set_float32_matmul_precision("high")  # TF32 where bf16 is not asked for
        for network in (self.network, self.vgg):
            network.to(device)
            network.to(memory_format=torch.channels_last)
        target = self._target(config, styles)
        loss = PerceptualLoss(self.vgg, None if target is None else target.to(device), config.loss)
        return PerceptualStep(self.network, loss, config.train, wrap, ranks)

    def _target(self, config: TrainingConfig, styles: Photos | None) -> Tensor | None:
        """The pictures whose statistics all stylized ones should have; None if each has its own."""
        if self.painting is not None:
            return to_tensor(self.painting)
        if not isinstance(config, TrainJohnsonConfig) or styles is None:
            return None
        spread = np.linspace(0, len(styles) - 1, min(len(styles), _AVERAGED)).astype(int)
        return to_tensor(styles.take(spread))


def read_material(config: TrainingConfig) -> Material:
    """Read the networks and the painting of ``config``.

    Raises:
        ConfigError: one of them cannot be used; nothing was done.
    """
    try:
        painting = None
        if isinstance(config, TrainJohnsonConfig) and config.style:
            painting = read_painting(config.style, config.style_side, config.style_margin)
        vgg = VGGFeatures(config.loss.network, config.loss.taps(), config.loss.weights, config.loss.padding)
        crop = torch.zeros(1, 3, config.train.image_size, config.train.image_size)
        # Has the painting enough pixels, and have the crops?
        loss = PerceptualLoss(vgg, crop if painting is None else to_tensor(painting), config.loss)
        with torch.no_grad():
            loss.score(crop, crop)
        return Material(build_network(config), vgg, painting)
    except (FileNotFoundError, CheckpointError, WeightsError, ValueError) as error:
        raise ConfigError(str(error)) from error
