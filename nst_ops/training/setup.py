"""Networks and style images of a training: read and checked before anything starts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from nst_ops.config import (
    ConfigError,
    PerceptualTrainingConfig,
    TrainingConfig,
    TrainJohnsonConfig,
    TrainMultiStyleConfig,
    TrainVitAdainConfig,
)
from nst_ops.losses import PerceptualLoss
from nst_ops.losses.painting import PaintingLoss
from nst_ops.media.images import UInt8Array
from nst_ops.models.checkpoint import CheckpointError, load_checkpoint
from nst_ops.models.checkpoint_files import resolve_checkpoint
from nst_ops.models.host_memory import keep_freed_memory
from nst_ops.models.johnson import JohnsonNet
from nst_ops.models.vgg import VGGFeatures, WeightsError
from nst_ops.models.vit_adain import ViTAdaIN
from nst_ops.training.data import ImageSet, read_style_image, to_tensor
from nst_ops.training.multi_style_step import MultiStyleStep, PaintedStyles, SeparateRows
from nst_ops.training.optim import Ranks
from nst_ops.training.painted_styles import read_painted_styles
from nst_ops.training.perceptual_step import PerceptualStep
from nst_ops.training.step import Network, TrainingStep

_AVERAGED = 64  # images of a set of styles whose mean statistics are the target


@dataclass(frozen=True)
class TrainingSetup:
    """Networks and style image; they travel to workers, which may not see the files they came from."""

    network: Network | SeparateRows
    vgg: VGGFeatures
    style_image: UInt8Array | None  # (H, W, 3); None where there are many
    styles: PaintedStyles | None = None  # of a network of many styles

    def step(
        self,
        config: TrainingConfig,
        device: torch.device,
        wrap: Callable[[nn.Module], nn.Module] | None = None,
        ranks: Ranks | None = None,
        styles: ImageSet | None = None,
    ) -> TrainingStep:
        """Build a step of training on ``device``; moves the networks there, and trains this very network.

        ``wrap`` is the module around the network, see ``TrainingStep``; ``styles`` the set of style images, if any.
        """
        if device.index is not None:  # a GPU by number: several workers may see all of a node
            torch.cuda.set_device(device)
        if device.type == "cpu":
            keep_freed_memory()
        torch.manual_seed(config.train.seed)
        torch.set_float32_matmul_precision("high")  # TF32 where bf16 is not asked for
        for network in (self.network, self.vgg):
            network.to(device)
            network.to(memory_format=torch.channels_last)
        ranks = ranks or Ranks()
        if isinstance(self.network, SeparateRows):
            assert isinstance(config, TrainMultiStyleConfig)
            assert self.styles is not None
            loss = PaintingLoss(self.vgg)
            return MultiStyleStep(
                self.network, loss, config.train, wrap, ranks, weights=config.loss, styles=self.styles
            )
        assert isinstance(config, PerceptualTrainingConfig)
        # Images whose statistics all stylized ones should have; None if each has its own.
        target = None if self.style_image is None else to_tensor(self.style_image).to(device)
        if target is None and styles is not None and isinstance(config, TrainJohnsonConfig):
            spread = np.linspace(0, len(styles) - 1, min(len(styles), _AVERAGED)).astype(int)
            target = to_tensor(styles.take(spread)).to(device)
        perceptual = PerceptualLoss(self.vgg, target, config.loss)
        return PerceptualStep(self.network, perceptual, config.train, wrap, ranks)

    def facts(self) -> dict[str, Any]:
        """Return facts on the paintings of a network of many styles."""
        if self.styles is None:
            return {}
        return {"style_images": len(self.styles.names), "style_names": ", ".join(self.styles.names)}


def read_setup(config: TrainingConfig) -> TrainingSetup:
    """Read the networks and the style images of ``config``; raises ConfigError if one of them cannot be used."""
    try:
        if isinstance(config, TrainMultiStyleConfig):
            network, vgg, styles = read_painted_styles(config)
            return TrainingSetup(network, vgg, None, styles)
        assert isinstance(config, PerceptualTrainingConfig)
        style_image = None
        if isinstance(config, TrainJohnsonConfig) and config.style:
            style_image = read_style_image(config.style, config.style_side, config.style_margin)
        vgg = VGGFeatures(config.loss.network, config.loss.taps(), config.loss.weights, config.loss.padding)
        crop = torch.zeros(1, 3, config.train.image_size, config.train.image_size)
        # Has the style image enough pixels, and have the crops?
        loss = PerceptualLoss(vgg, crop if style_image is None else to_tensor(style_image), config.loss)
        with torch.no_grad():
            loss.score(crop, crop)
        return TrainingSetup(build_network(config), vgg, style_image)
    except (FileNotFoundError, CheckpointError, WeightsError, ValueError) as error:
        raise ConfigError(str(error)) from error


def build_network(config: TrainingConfig) -> Network:
    """Build a fresh network, the same for the same seed, or load the one to go on from.

    Raises ConfigError if that is another kind of network, FileNotFoundError if it or the encoder's weights are not
    there, CheckpointError if they cannot be used, ValueError for arguments that do not go together.
    """
    torch.manual_seed(config.train.seed)
    if isinstance(config, TrainJohnsonConfig):
        network = config.network
        if network.start_from:
            return _load(network.start_from, JohnsonNet)
        return JohnsonNet(**network.model_dump(exclude={"start_from"}))
    assert isinstance(config, TrainVitAdainConfig)
    if config.network.start_from:
        return _load(config.network.start_from, ViTAdaIN)
    arguments: dict[str, Any] = config.network.model_dump(exclude={"start_from", "encoder_weights"})
    weights = config.network.encoder_weights
    file = None if weights in ("timm", "none") else weights
    return ViTAdaIN(**arguments, image_size=config.train.image_size, pretrained=weights == "timm", encoder_weights=file)


def _load(checkpoint: str, kind: type[JohnsonNet] | type[ViTAdaIN]) -> Network:
    model = load_checkpoint(resolve_checkpoint(checkpoint)).model
    if not isinstance(model, kind):
        raise ConfigError(f"network.start_from: '{checkpoint}' holds a {type(model).__name__}, not a {kind.__name__}")
    return model.train()
