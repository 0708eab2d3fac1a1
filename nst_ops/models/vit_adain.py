"""ViT-AdaIN: any style from an example picture, in one forward pass.

A Vision Transformer encodes photograph and style picture, AdaIN (Huang and Belongie, ICCV
2017) gives the photograph's features the statistics of the style's, a decoder paints.

Shapes: B batch, C channels, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from nst_ops.models.adain import Statistics, adain, channel_statistics
from nst_ops.models.decoders import ResizeDecoder, TransposedDecoder
from nst_ops.models.encoder import Encoder, Normalisation, Stem

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

SEED: dict[str, Any] = {
    "encoder": "vit_base_patch16_224",
    "image_size": 224,
    "levels": [-1],
    "stem": 0,
    "normalisation": "imagenet",
    "frozen": False,
    "decoder": "transposed",
    "widths": [256, 128, 64],
    "head": "tanh_imagenet",
}
"""Arguments of the seed recipe, the network that the others are measured against: tokens of the last
block after the final norm as (B, 768, 14, 14), AdaIN, four transposed convolutions with InstanceNorm
between them, and a tanh that is read as ImageNet-normalised colours."""


class ViTAdaIN(nn.Module):
    """Photographs and style pictures, RGB in [0, 1], to RGB in [0, 1].

    H and W must be multiples of ``stride`` and at least twice of it, those of style pictures too,
    which may have another size.

    Args:
        encoder: a network of timm by name: a ViT, or any other that tells its feature levels.
        encoder_options: further arguments of that network in timm, such as ``depth``.
        image_size: side in pixels of the position embedding; for other sizes it is interpolated.
        levels: blocks of the encoder (as timm's ``out_indices``) whose features get the style,
            after the final norm; negative ones count from the last.
        stem: width of a small convolutional network on the pixels whose levels at strides 2, 4
            and 8 get the style too and carry what 16x16 patches lose; 0 for none.
        normalisation: of the pixels: ``encoder`` as the encoder was trained, or ``imagenet``.
        frozen: keep the encoder as it is. The stem always learns.
        decoder: ``resize``, bilinear upsampling and convolutions without normalisation, which
            would erase what AdaIN has set; or ``transposed`` convolutions with InstanceNorm.
        widths: channels of the decoder after each upsampling. ``transposed`` takes one fewer: its
            last layer paints; with as many, a convolution follows that paints.
        kernel: of transposed convolutions.
        affine: whether the InstanceNorm of ``transposed`` has weights.
        head: ``sigmoid``; or ``tanh_imagenet``, which reaches mean - std to mean + std of ImageNet's
            colours, not even half of the range.
        pretrained: fill the encoder with timm's weights, downloaded once.
        encoder_weights: fill it from a local file instead, safetensors or a ``torch.save`` state dict.

    Raises:
        nst_ops.models.weights.CheckpointError: weights that cannot be read or do not fit.
        FileNotFoundError: there is no such file of weights.
        ValueError: arguments that do not go together.
    """

    architecture = "vit_adain"
    head_mean: Tensor
    head_std: Tensor

    def __init__(
        self,
        encoder: str = "vit_base_patch16_224",
        encoder_options: Mapping[str, Any] | None = None,
        image_size: int = 224,
        levels: Sequence[int] = (-1,),
        stem: int = 0,
        normalisation: Normalisation = "encoder",
        frozen: bool = True,
        decoder: Literal["resize", "transposed"] = "resize",
        widths: Sequence[int] = (256, 128, 64, 32),
        kernel: int = 4,
        affine: bool = False,
        head: Literal["sigmoid", "tanh_imagenet"] = "sigmoid",
        pretrained: bool = False,
        encoder_weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        options = dict(encoder_options or {})
        self.encoder = Encoder(
            encoder, options, image_size, levels, normalisation, pretrained, encoder_weights
        )
        self.config: dict[str, Any] = {
            "encoder": encoder,
            "encoder_options": options,
            "image_size": image_size,
            "levels": self.encoder.levels,
            "stem": stem,
            "normalisation": normalisation,
            "frozen": frozen,
            "decoder": decoder,
            "widths": list(widths),
            "kernel": kernel,
            "affine": affine,
            "head": head,
        }
        self.frozen = frozen
        self.encoder.requires_grad_(not frozen)
        self.stem = Stem(stem) if stem else None
        shapes = (self.stem.shapes if self.stem else []) + self.encoder.shapes
        self.stride = max(stride for _, stride in shapes)
        self.decoder = (
            ResizeDecoder(shapes, widths)
            if decoder == "resize"
            else TransposedDecoder(shapes, widths, kernel, affine)
        )
        self.head = head
        for name, colour in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(f"head_{name}", torch.tensor(colour)[:, None, None], persistent=False)

    def forward(self, photos: Tensor, styles: Tensor, alpha: float = 1.0) -> Tensor:
        """Stylize photographs.

        Args:
            photos: RGB in [0, 1], (B, 3, H, W).
            styles: RGB in [0, 1], (B, 3, H', W'), or (1, 3, H', W') for all.
            alpha: strength of the style in [0, 1]: 0 reconstructs the photographs.

        Returns:
            RGB in [0, 1], (B, 3, H, W).
        """
        return self.stylize(photos, self.style_statistics(styles), alpha)

    def stylize(self, photos: Tensor, statistics: Statistics, alpha: float = 1.0) -> Tensor:
        """As ``forward``, with the styles' statistics: (B, C) at each level, or (1, C) for all."""
        levels = zip(self.encode(photos), statistics, strict=True)
        return self.decode([adain(features, mean, std, alpha) for features, (mean, std) in levels])

    def style_statistics(self, styles: Tensor) -> Statistics:
        """Mean and deviation of each channel at each level, of RGB in [0, 1], (B, 3, H, W)."""
        return [channel_statistics(features) for features in self.encode(styles)]

    def encode(self, pictures: Tensor) -> list[Tensor]:
        """Features of RGB in [0, 1], (B, 3, H, W): the stem's levels, then the encoder's from first to last.

        Each is (B, C, H / stride, W / stride) with its own C and stride.
        """
        shallow = self.stem(pictures) if self.stem else []
        return [*shallow, *self.encoder(pictures)]

    def decode(self, levels: list[Tensor]) -> Tensor:
        """RGB in [0, 1], (B, 3, H, W), of what ``encode`` returns."""
        painted: Tensor = self.decoder(levels)
        if self.head == "sigmoid":
            return painted.sigmoid()
        return painted.tanh() * self.head_std + self.head_mean

    def train(self, mode: bool = True) -> Self:
        """As any module, but a frozen encoder stays as it is at inference."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self
