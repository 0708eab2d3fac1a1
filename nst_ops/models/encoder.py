"""Encoders: feature levels of any timm network, and a small convolutional stem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from nst_ops.models.weights import CheckpointError, load_strictly, read_weights, strip_prefixes

Normalisation = Literal["encoder", "imagenet"]

_SLOPE = 0.2  # of the stem's leaky ReLU


class Encoder(nn.Module):
    """RGB in [0, 1], (B, 3, H, W), to features at some of the levels of a timm network.

    Args:
        name: of the network in timm.
        options: further arguments of it.
        image_size: side in pixels of a ViT's position embedding; for other sizes it is interpolated.
        levels: indices of its levels (blocks of a ViT), negative ones from the last.
        normalisation: ``encoder``, the mean and deviation it was trained with, or ``imagenet``.
        pretrained: with timm's weights.
        weights: with those of a local file; a classification head in it is not read.

    Attributes:
        levels: the indices, from 0 on.
        shapes: channels and stride of each level.

    Raises:
        CheckpointError: weights that cannot be had, or that do not fit.
        FileNotFoundError: there is no such file of weights.
        ValueError: no such network, options or levels.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        options: Mapping[str, Any],
        image_size: int,
        levels: Sequence[int],
        normalisation: Normalisation = "encoder",
        pretrained: bool = False,
        weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        self.network = _create(name, options, image_size, pretrained and not weights)
        if weights:
            _load(self.network, Path(weights))
        self.levels = _keep_levels(name, self.network, levels)
        info = self.network.feature_info
        self.shapes = [(int(info[i]["num_chs"]), int(info[i]["reduction"])) for i in self.levels]
        trained = self.network.pretrained_cfg
        mean, std = (
            (timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD)
            if normalisation == "imagenet"
            else (trained["mean"], trained["std"])
        )
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """(B, C, H / stride, W / stride) for each level, after a ViT's final norm."""
        features: list[Tensor] = self.network.forward_intermediates(
            (pictures - self.mean) / self.std, indices=self.levels, norm=True, intermediates_only=True
        )
        return features


class Stem(nn.Module):
    """RGB in [0, 1], (B, 3, H, W), to features at the strides 2, 4 and 8: edges that patches lose.

    Args:
        width: channels at stride 2; twice and four times as many at 4 and 8.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.shapes = [(width, 2), (2 * width, 4), (4 * width, 8)]
        channels = [3, *(channels for channels, _ in self.shapes)]
        self.layers = nn.ModuleList()
        for before, after in pairwise(channels):
            layer = nn.Conv2d(before, after, 4, stride=2)
            nn.init.kaiming_normal_(layer.weight, a=_SLOPE)
            self.layers.append(layer)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """One tensor for each of ``shapes``, from the finest on."""
        levels, x_bchw = [], pictures * 2 - 1
        for layer in self.layers:
            x_bchw = F.leaky_relu(layer(F.pad(x_bchw, (1, 1, 1, 1), mode="reflect")), _SLOPE)
            levels.append(x_bchw)
        return levels


def _create(name: str, options: Mapping[str, Any], image_size: int, pretrained: bool) -> Any:
    """The timm network without its classification head."""
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


def _keep_levels(name: str, network: Any, levels: Sequence[int]) -> list[int]:
    """Indices from 0 on. Blocks behind the last go: they would be trained and saved for nothing."""
    try:
        return sorted(network.prune_intermediate_layers(list(levels), prune_norm=False, prune_head=True))
    except (AttributeError, AssertionError) as error:
        raise ValueError(f"encoder '{name}' has no levels {list(levels)}: {error}") from error


def _load(network: Any, path: Path) -> None:
    """Fill ``network`` from a file; a position embedding of another size is interpolated."""
    weights = strip_prefixes(read_weights(path)[0])
    head = ("head.", "head_dist.", "fc.", "classifier.")
    weights = {key: value for key, value in weights.items() if not key.startswith(head)}
    if isinstance(network, VisionTransformer) and "pos_embed" in weights:
        weights = checkpoint_filter_fn(weights, network)
    load_strictly(path, network, weights)
