"""What a training needs beside its photographs: read and checked before anything starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from nst_ops.config import ConfigError, TrainJohnsonConfig
from nst_ops.losses import PerceptualLoss
from nst_ops.models.checkpoint import CheckpointError, load_checkpoint
from nst_ops.models.johnson import JohnsonNet
from nst_ops.models.vgg import VGGFeatures, WeightsError
from nst_ops.stylizers import resolve_checkpoint
from nst_ops.training.painting import read_painting
from nst_ops.training.photos import UInt8Array, to_tensor
from nst_ops.training.ranks import Ranks
from nst_ops.training.step import PerceptualStep


@dataclass(frozen=True)
class Material:
    """Networks and painting; they travel to workers, which may not see the files they came from."""

    network: JohnsonNet
    vgg: VGGFeatures
    painting: UInt8Array
    """(H, W, 3)."""

    def step(
        self,
        config: TrainJohnsonConfig,
        device: torch.device,
        wrap: Callable[[nn.Module], nn.Module] | None = None,
        ranks: Ranks | None = None,
    ) -> PerceptualStep:
        """A step of training on ``device``; moves the networks there."""
        if device.type == "cuda":
            torch.cuda.set_device(device)  # where several workers see all GPUs of a node
        torch.manual_seed(config.train.seed)
        torch.set_float32_matmul_precision("high")  # TF32 where bf16 is not asked for
        for network in (self.network, self.vgg):
            network.to(device)
            network.to(memory_format=torch.channels_last)
        loss = PerceptualLoss(self.vgg, to_tensor(self.painting).to(device), config.loss)
        return PerceptualStep(self.network, loss, config.train, wrap, ranks)


def read_material(config: TrainJohnsonConfig) -> Material:
    """Read the networks and the painting of ``config``.

    Raises:
        ConfigError: one of them cannot be used; nothing was done.
    """
    try:
        painting = read_painting(config.style, config.style_side, config.style_margin)
        vgg = VGGFeatures(config.loss.network, config.loss.taps(), config.loss.weights, config.loss.padding)
        loss = PerceptualLoss(vgg, to_tensor(painting), config.loss)  # has the painting enough pixels?
        with torch.no_grad():  # and the crops?
            loss.judge(*torch.zeros(2, 1, 3, config.train.image_size, config.train.image_size))
        return Material(_network(config), vgg, painting)
    except (FileNotFoundError, CheckpointError, WeightsError, ValueError) as error:
        raise ConfigError(str(error)) from error


def _network(config: TrainJohnsonConfig) -> JohnsonNet:
    """A fresh network, the same for the same seed, or the one to go on from."""
    if config.network.start_from:
        return load_checkpoint(resolve_checkpoint(config.network.start_from)).model.train()
    torch.manual_seed(config.train.seed)
    return JohnsonNet(config.network.width, config.network.num_blocks)
