"""ViT-AdaIN: an encoder of timm, AdaIN at some of its levels, and a decoder. Shapes: (B, C, H, W)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self, cast

import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from nst_ops.models.adain import Statistics, adain, channel_statistics
from nst_ops.models.padding import ReflectConv2d, reflection_pad
from nst_ops.models.vgg import IMAGENET_MEAN, IMAGENET_STD
from nst_ops.models.weights import CheckpointError, load_strictly, read_weights, strip_prefixes

Normalization = Literal["encoder", "imagenet"]

_SLOPE = 0.2  # of the stem's leaky ReLU


class Encoder(nn.Module):
    """RGB in [0, 1], (B, 3, H, W), to features at some of the levels of a timm network.

    ``levels`` are indices as in ``ViTAdaIN``, kept from 0 on; ``shapes`` the channels and stride of each.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, network: Any, levels: Sequence[int], normalization: Normalization) -> None:
        super().__init__()
        self.network = network
        try:  # blocks behind the last level go: they would be trained and saved for nothing
            kept = network.prune_intermediate_layers(list(levels), prune_norm=False, prune_head=True)
        except (AttributeError, AssertionError) as error:
            raise ValueError(f"encoder '{name}' has no levels {list(levels)}: {error}") from error
        self.levels: list[int] = sorted(kept)
        info, trained = network.feature_info, network.pretrained_cfg
        self.shapes = [(int(info[i]["num_chs"]), int(info[i]["reduction"])) for i in self.levels]
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if normalization == "imagenet" else (trained["mean"], trained["std"])
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, x_bchw: Tensor) -> list[Tensor]:
        """Return (B, C, H / stride, W / stride) for each level, after a ViT's final norm."""
        features: list[Tensor] = self.network.forward_intermediates(
            (x_bchw - self.mean) / self.std, indices=self.levels, norm=True, intermediates_only=True
        )
        return features


def _create(name: str, options: Mapping[str, Any], image_size: int, pretrained: bool) -> Any:
    """Create the timm network without its classification head."""
    arguments = {"pretrained": pretrained, "num_classes": 0, **options}
    if not timm.is_model(name):
        raise ValueError(f"no encoder '{name}' in timm")
    try:
        try:
            return timm.create_model(name, img_size=image_size, dynamic_img_size=True, **arguments)
        except TypeError:  # a convolutional network takes any size and knows neither argument
            return timm.create_model(name, **arguments)
    except TypeError as error:
        raise ValueError(f"encoder '{name}' with {dict(options)}: {error}") from error
    except Exception as error:  # the hub raises many kinds, all of them mean "not to be had"
        if not pretrained:
            raise
        raise CheckpointError(
            f"{name}: timm's weights cannot be had here ({error}): give a local file as encoder_weights"
        ) from error


def _load(network: Any, path: Path) -> None:
    """Fill ``network`` from a file; a position embedding of another size is interpolated."""
    weights = strip_prefixes(read_weights(path)[0])
    head = ("head.", "head_dist.", "fc.", "classifier.")
    weights = {key: value for key, value in weights.items() if not key.startswith(head)}
    if isinstance(network, VisionTransformer) and "pos_embed" in weights:
        weights = checkpoint_filter_fn(weights, network)
    load_strictly(path, network, weights)


class Stem(nn.Module):
    """RGB in [0, 1], (B, 3, H, W), to features at the strides 2, 4 and 8: edges that patches lose.

    There are ``width`` channels at stride 2; twice and four times as many at 4 and 8.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.shapes = [(width, 2), (2 * width, 4), (4 * width, 8)]
        self.layers = nn.ModuleList()
        for before, after in pairwise((3, width, 2 * width, 4 * width)):
            layer = nn.Conv2d(before, after, 4, stride=2)
            nn.init.kaiming_normal_(layer.weight, a=_SLOPE)
            self.layers.append(layer)

    def forward(self, x_bchw: Tensor) -> list[Tensor]:
        """Return one tensor for each of ``shapes``, from the finest on."""
        levels, x_bchw = [], x_bchw * 2 - 1
        for layer in self.layers:
            x_bchw = F.leaky_relu(layer(reflection_pad(x_bchw, 1)), _SLOPE)
            levels.append(x_bchw)
        return levels


class ResizeDecoder(nn.Module):
    """Bilinear upsampling and convolutions; finer levels join where their stride is reached.

    There is no normalization, which would erase the statistics that AdaIN has set.

    Args:
        shapes: channels and stride of each level, in the order of the call.
        widths: channels after each upsampling; ValueError if there are not as many, or a level joins nowhere.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]], widths: Sequence[int]) -> None:
        super().__init__()
        coarsest = max(stride for _, stride in shapes)
        count = math.ceil(math.log2(coarsest))
        if len(widths) != count:
            raise ValueError(f"widths {list(widths)}: {count} upsamplings lead from stride {coarsest} to 1")
        # The last one leads to stride 1, which is less than a doubling where a patch has 14 pixels.
        self.strides = [coarsest / 2**i for i in range(count)] + [1]
        joining = [sum(channels for channels, at in shapes if at == stride) for stride in self.strides]
        if sum(joining) < sum(channels for channels, _ in shapes):
            raise ValueError(f"levels {list(shapes)} are not all at the strides {self.strides}")
        self.level_strides = [stride for _, stride in shapes]
        before = [0, widths[0], *widths[:-1]]
        self.stages = nn.ModuleList(
            _two_convolutions(channels + joined, after)
            for channels, joined, after in zip(before, joining, [widths[0], *widths], strict=True)
        )
        self.paint = ReflectConv2d(widths[-1], 3, 3)  # a name in checkpoints

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Decode features to (B, 3, H, W) of any range."""
        height, width = (side * self.level_strides[-1] for side in levels[-1].shape[2:])
        x_bchw = None
        for stride, stage in zip(self.strides, self.stages, strict=True):
            joining = [level for level, at in zip(levels, self.level_strides, strict=True) if at == stride]
            if x_bchw is not None:
                size = round(height / stride), round(width / stride)
                joining.insert(0, F.interpolate(x_bchw, size, mode="bilinear", align_corners=False))
            x_bchw = stage(torch.cat(joining, dim=1))
        return cast(Tensor, self.paint(x_bchw))


class TransposedDecoder(nn.Sequential):
    """Transposed convolutions, each doubling the size, with InstanceNorm and ReLU between them.

    Args:
        shapes: channels and stride of each level, all at one stride that is a power of two.
        widths: channels after each doubling but the last, which gives colors; or after each, and a convolution follows
            that gives colors; ValueError for another number.
        kernel: side of the transposed convolutions' kernels in pixels.
        affine: whether InstanceNorm has weights.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]], widths: Sequence[int], kernel: int, affine: bool) -> None:
        strides = {stride for _, stride in shapes}
        doublings = int(math.log2(max(strides)))
        if strides != {2**doublings}:
            raise ValueError(f"a transposed decoder wants levels at one power of two, not {sorted(strides)}")
        if len(widths) not in (doublings - 1, doublings):
            raise ValueError(f"widths {list(widths)}: {doublings} doublings lead to stride 1")
        channels = [sum(count for count, _ in shapes), *widths]
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [_doubling(before, after, kernel), nn.InstanceNorm2d(after, affine=affine), nn.ReLU()]
        last = nn.Conv2d(widths[-1], 3, 3, padding=1) if len(widths) == doublings else _doubling(widths[-1], 3, kernel)
        super().__init__(*layers, last)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Decode features to (B, 3, H, W) of any range."""
        return cast(Tensor, super().forward(torch.cat(levels, dim=1)))  # type: ignore[no-untyped-call]


def _two_convolutions(before: int, after: int) -> nn.Sequential:
    """Two of 3x3 with reflection padding and ReLU, at a scale that keeps the variance (He et al. 2015)."""
    layers: list[nn.Module] = []
    for channels in (before, after):
        layer = ReflectConv2d(channels, after, 3)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        layer.bias = nn.Parameter(torch.zeros(after))
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers)


def _doubling(before: int, after: int, kernel: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(before, after, kernel, stride=2, padding=(kernel - 1) // 2, output_padding=kernel % 2)


SEED: dict[str, Any] = {
    **{"encoder": "vit_base_patch16_224", "image_size": 224, "levels": [-1], "stem": 0, "normalization": "imagenet"},
    **{"frozen": False, "decoder": "transposed", "widths": [256, 128, 64], "head": "tanh_imagenet"},
}
"""Arguments of the seed recipe, the network that the others are measured against: tokens of the last block after the
final norm as (B, 768, 14, 14), AdaIN, four transposed convolutions with InstanceNorm between them, and a tanh that is
read as ImageNet-normalized colors."""


class ViTAdaIN(nn.Module):
    """Content and style images, RGB in [0, 1], to RGB in [0, 1].

    H and W must be multiples of ``stride`` and at least twice as large, those of style images too, which may have
    another size.

    Args:
        encoder: name of a timm network: a ViT, or any other that tells its feature levels.
        encoder_options: further arguments of that network in timm, such as ``depth``.
        image_size: side in pixels of a ViT's position embedding; for other sizes it is interpolated.
        levels: blocks of the encoder (as timm's ``out_indices``) whose features get the style, after the final norm;
            negative ones count from the last.
        stem: width of a small convolutional network on the pixels whose levels at strides 2, 4 and 8 get the style too
            and carry what 16x16 patches lose; 0 for none.
        normalization: mean and deviation of the input: ``encoder`` as it was trained, or ``imagenet``.
        frozen: keep the encoder as it is. The stem always learns.
        decoder: ``resize``, bilinear upsampling and convolutions without normalization, which would erase what AdaIN
            has set; or ``transposed`` convolutions with InstanceNorm.
        widths: channels of the decoder after each upsampling. ``transposed`` takes one fewer: its last layer gives
            colors; with as many, a convolution follows that does.
        kernel: side of the kernels of ``transposed`` in pixels.
        affine: whether the InstanceNorm of ``transposed`` has weights.
        head: ``sigmoid``; or ``tanh_imagenet``, which reaches mean - std to mean + std of ImageNet's colors, not even
            half of the range.
        pretrained: fill the encoder with timm's weights, downloaded once.
        encoder_weights: fill it from a local file instead, safetensors or a ``torch.save`` state dict.

    Raises:
        nst_ops.models.weights.CheckpointError: the weights cannot be read or do not fit.
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
        normalization: Normalization = "encoder",
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
        network = _create(encoder, options, image_size, pretrained and not encoder_weights)
        if encoder_weights:
            _load(network, Path(encoder_weights))
        self.encoder = Encoder(encoder, network, levels, normalization)
        self.config: dict[str, Any] = dict(encoder=encoder, encoder_options=options, image_size=image_size)
        self.config |= dict(levels=self.encoder.levels, stem=stem, normalization=normalization, frozen=frozen)
        self.config |= dict(decoder=decoder, widths=list(widths), kernel=kernel, affine=affine, head=head)
        self.frozen, self.head = frozen, head
        self.encoder.requires_grad_(not frozen)
        self.stem = Stem(stem) if stem else None
        shapes = (self.stem.shapes if self.stem else []) + self.encoder.shapes
        self.stride = max(stride for _, stride in shapes)
        self.decoder = (
            ResizeDecoder(shapes, widths) if decoder == "resize" else TransposedDecoder(shapes, widths, kernel, affine)
        )
        for name, color in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(f"head_{name}", torch.tensor(color)[:, None, None], persistent=False)

    def forward(self, content_bchw: Tensor, style_bchw: Tensor, alpha: float = 1.0) -> Tensor:
        """Stylize content images, (B, 3, H, W), by style images, (B, 3, H', W'), or (1, 3, H', W') for all.

        ``alpha`` is the strength of the style in [0, 1]: 0 reconstructs the content images.
        """
        return self.stylize(content_bchw, self.style_statistics(style_bchw), alpha)

    def stylize(self, content_bchw: Tensor, statistics: Statistics, alpha: float = 1.0) -> Tensor:
        """Stylize as ``forward`` does, by statistics of the styles, (B, C) per level, or (1, C) for all."""
        levels = zip(self.encode(content_bchw), statistics, strict=True)
        return self.decode([adain(features, mean, std, alpha) for features, (mean, std) in levels])

    def style_statistics(self, style_bchw: Tensor) -> Statistics:
        """Return mean and deviation of each channel at each level, of RGB in [0, 1], (B, 3, H, W)."""
        return [channel_statistics(features) for features in self.encode(style_bchw)]

    def encode(self, x_bchw: Tensor) -> list[Tensor]:
        """Return features of RGB in [0, 1], each (B, C, H / stride, W / stride): stem's levels, then encoder's."""
        return [*(self.stem(x_bchw) if self.stem else []), *self.encoder(x_bchw)]

    def decode(self, levels: list[Tensor]) -> Tensor:
        """Return RGB in [0, 1], (B, 3, H, W), from features as ``encode`` returns them."""
        y_bchw: Tensor = self.decoder(levels)
        return y_bchw.sigmoid() if self.head == "sigmoid" else y_bchw.tanh() * self.head_std + self.head_mean

    def train(self, mode: bool = True) -> Self:
        """Set the mode as for any module, but leave a frozen encoder in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self
