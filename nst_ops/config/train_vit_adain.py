"""Configuration of ``jobs/train_vit_adain.py``."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from nst_ops.config.base import StrictModel
from nst_ops.config.training import TrainingConfig


class VitAdainConfig(StrictModel):
    """The network that is trained; configs/vit_adain_seed.yaml has the recipe it started from."""

    start_from: str | None = None
    """A checkpoint to go on from; it brings all that follows with it. Default: a fresh network."""
    encoder: str = "vit_base_patch16_224"
    """A network of timm, by name."""
    encoder_weights: str = "timm"
    """timm: its own, downloaded once; none: fresh ones; or a file, safetensors or a state dict."""
    encoder_options: dict[str, Any] = Field(default={})
    """Further arguments of that network in timm, such as depth."""
    frozen: bool = True
    """Keep the encoder as it is; fresh weights have to learn."""
    levels: list[int] = Field(default=[-1], min_length=1)
    """Blocks of the encoder whose features get the style; negative ones count from the last."""
    stem: NonNegativeInt = 0
    """Width of a small convolutional network that carries what patches lose; 0 for none."""
    normalisation: Literal["encoder", "imagenet"] = "encoder"
    """Of the pixels: as the encoder was trained, or ImageNet's mean and deviation."""
    decoder: Literal["resize", "transposed"] = "resize"
    """Upsampling and convolutions, or transposed convolutions with InstanceNorm."""
    widths: list[PositiveInt] = Field(default=[256, 128, 64, 32], min_length=1)
    """Channels of the decoder after each upsampling."""
    head: Literal["sigmoid", "tanh_imagenet"] = "sigmoid"
    """sigmoid: all colours; tanh_imagenet: less than half of their range, as the seed has it."""

    @model_validator(mode="after")
    def _can_learn(self) -> Self:
        if self.frozen and self.encoder_weights == "none" and not self.start_from:
            raise ValueError("an encoder of fresh weights has to learn: take network.frozen false")
        return self


_EPILOG = """\
Any key may stand in the file or on the command line; the command line wins.

examples:
  python jobs/train_vit_adain.py --config configs/train_vit_adain.yaml \\
      --data.content photos --data.style paintings --output runs/adain
  ... --network.encoder vit_small_patch16_224 --network.encoder_weights vit_small.safetensors
  ... --network.encoder vit_tiny_patch16_224 --network.encoder_weights none --network.frozen false
  ... --workers.count 2 --train.batch_size 16

Run the same command again after a stop or a crash: training goes on from the last checkpoint.
OUTPUT/model.safetensors is what jobs/stylize_dataset.py takes as --model.checkpoint, with
--model.kind vit_adain and --style.images.
exit codes: 0 trained, 2 bad configuration, data or output, 1 diverged or fatal.
"""


class TrainVitAdainConfig(TrainingConfig):
    """Train a ViT-AdaIN network to paint DATA.CONTENT like any picture, learned from those in DATA.STYLE."""

    epilog: ClassVar[str] = _EPILOG

    network: VitAdainConfig = VitAdainConfig()

    @model_validator(mode="after")
    def _has_styles(self) -> Self:
        if not self.data.style:
            raise ValueError("data.style: give --data.style FOLDER, the style pictures to learn from")
        return self
