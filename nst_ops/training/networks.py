"""From a configuration to the network that is trained: the one place that knows which there are."""

from __future__ import annotations

from typing import Any

import torch

from nst_ops.config import ConfigError, TrainingConfig, TrainJohnsonConfig, TrainVitAdainConfig
from nst_ops.models.checkpoint import load_checkpoint
from nst_ops.models.checkpoint_files import resolve_checkpoint
from nst_ops.models.johnson import JohnsonNet
from nst_ops.models.vit_adain import ViTAdaIN

Network = JohnsonNet | ViTAdaIN


def build_network(config: TrainingConfig) -> Network:
    """A fresh network, the same for the same seed, or the one to go on from.

    Raises:
        ConfigError: the checkpoint to go on from holds another kind of network.
        FileNotFoundError: there is no such checkpoint, or no such file of the encoder's weights.
        nst_ops.models.checkpoint.CheckpointError: it cannot be used.
        ValueError: arguments that do not go together.
    """
    torch.manual_seed(config.train.seed)
    if isinstance(config, TrainJohnsonConfig):
        network = config.network
        if network.start_from:
            return _load(network.start_from, JohnsonNet)
        return JohnsonNet(**network.model_dump(exclude={"start_from"}))
    assert isinstance(config, TrainVitAdainConfig), type(config)
    if config.network.start_from:
        return _load(config.network.start_from, ViTAdaIN)
    arguments: dict[str, Any] = config.network.model_dump(exclude={"start_from", "encoder_weights"})
    weights = config.network.encoder_weights
    file = None if weights in ("timm", "none") else weights
    return ViTAdaIN(
        **arguments,
        image_size=config.train.image_size,
        pretrained=weights == "timm",
        encoder_weights=file,
    )


def _load(checkpoint: str, kind: type[JohnsonNet] | type[ViTAdaIN]) -> Network:
    model = load_checkpoint(resolve_checkpoint(checkpoint)).model
    if not isinstance(model, kind):
        raise ConfigError(
            f"network.start_from: '{checkpoint}' holds a {type(model).__name__}, not a {kind.__name__}"
        )
    return model.train()
