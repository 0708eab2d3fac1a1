"""Train a Johnson network to paint in the manner of one picture."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from nst_ops.config import ConfigError, TrainJohnsonConfig
from nst_ops.losses import PerceptualLoss
from nst_ops.models.checkpoint import CheckpointError, load_checkpoint
from nst_ops.models.johnson import JohnsonNet
from nst_ops.models.vgg import VGGFeatures, WeightsError
from nst_ops.training.loop import train
from nst_ops.training.photos import Photos, UInt8Array, load_photos, read_picture, to_tensor
from nst_ops.training.step import PerceptualStep

logger = logging.getLogger(__name__)

_EXAMPLES = 3


def train_johnson(config: TrainJohnsonConfig) -> dict[str, Any]:
    """Train on ``config.photos`` and ``config.style`` into ``config.output``.

    Returns:
        The facts written into the checkpoint: data, recipe, losses, speed, versions.

    Raises:
        ConfigError: photographs, painting or weights that cannot be used.
    """
    device = "cuda" if config.device == "auto" and torch.cuda.is_available() else config.device
    device = "cpu" if device == "auto" else device
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    try:
        photos = load_photos(config.photos, config.photo_side)
        model = build_model(config).to(device).to(memory_format=torch.channels_last)
        style = to_tensor(read_picture(config.style, config.style_side, config.style_margin)).to(device)
        loss = build_loss(config, style)
    except (FileNotFoundError, CheckpointError, WeightsError, ValueError) as error:
        raise ConfigError(str(error)) from error
    step = PerceptualStep(
        model,
        loss,
        steps=config.steps,
        learning_rate=config.learning_rate,
        clip_norm=config.clip_norm,
        ema_decay=config.ema_decay,
        bf16=config.precision == "bf16",
    )
    return train(
        step,
        photos,
        Path(config.output),
        steps=config.steps,
        batch_size=config.batch_size,
        crop=config.crop,
        seed=config.seed,
        style=style,
        examples=[to_tensor(_whole_strides(image)) for image in photos.images[:_EXAMPLES]],
        save_every=config.save_every,
        facts=describe(config, photos),
    )


def build_model(config: TrainJohnsonConfig) -> JohnsonNet:
    """A fresh network, or the one to go on from."""
    if config.start_from:
        return load_checkpoint(config.start_from).model.train()
    return JohnsonNet(width=config.width, num_blocks=config.num_blocks)


def build_loss(config: TrainJohnsonConfig, style: torch.Tensor) -> PerceptualLoss:
    """The perceptual loss of ``config`` for the painting ``style``, on the painting's device."""
    taps = {*config.loss.style_taps, config.loss.content_tap}
    vgg = VGGFeatures(config.vgg, taps, config.vgg_weights, padding="reflect")
    vgg = vgg.to(style.device).to(memory_format=torch.channels_last)
    return PerceptualLoss(
        vgg,
        style,
        config.loss.content_tap,
        config.loss.style_taps,
        config.loss.content_weight,
        config.loss.style_weight,
        config.loss.variation_weight,
        config.loss.style_scales,
    )


def describe(config: TrainJohnsonConfig, photos: Photos) -> dict[str, Any]:
    """What a checkpoint should say of its origin; names, but no paths of this machine."""
    not_recipe = {"photos", "style", "output", "start_from", "facts", "device", "threads", "save_every"}
    recipe = config.model_dump(mode="json", exclude=not_recipe)
    recipe["vgg_weights"] = Path(config.vgg_weights).name if config.vgg_weights else "torchvision"
    counts = {"photos": len(photos.images), "photos_skipped": len(photos.skipped)}
    return {**config.facts, **counts, "recipe": recipe}


def _whole_strides(image: UInt8Array) -> UInt8Array:
    height, width = (side // JohnsonNet.stride * JohnsonNet.stride for side in image.shape[:2])
    return image[:height, :width]
