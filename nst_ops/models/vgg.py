"""VGG features: the frozen network whose activations losses and metrics compare.

K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor, nn

from nst_ops.models.padding import ReflectConv2d
from nst_ops.models.weights import CheckpointError, read_weights

VGGName = Literal["vgg16", "vgg19"]
Padding = Literal["zeros", "reflect"]

# Convolutions per block; every block ends with a 2x2 max pooling.
_BLOCKS: dict[VGGName, tuple[int, ...]] = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
_CHANNELS = (64, 128, 256, 512, 512)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Channel means and deviations of ImageNet, RGB in [0, 1]."""


class WeightsError(ValueError):
    """VGG weights that are unreadable or cannot serve the taps asked for."""


def tap_indices(name: VGGName) -> dict[str, int]:
    """Return the index of each ReLU in torchvision's ``features``, by name, shallow to deep.

    The two networks differ from ``relu3_3`` on: VGG16 has three convolutions in a block where VGG19 has four.
    """
    taps: dict[str, int] = {}
    start = 0
    for block, depth in enumerate(_BLOCKS[name], 1):
        taps |= {f"relu{block}_{conv}": start + 2 * conv - 1 for conv in range(1, depth + 1)}
        start += 2 * depth + 1
    return taps


def smallest_side(tap: str) -> int:
    """Return the shorter side, in pixels, that an image needs to reach ``tap``.

    A layer of block n has seen n - 1 halvings, and reflection takes two pixels at least.
    """
    return 1 << int(tap[len("relu")])


class VGGFeatures(nn.Module):
    """RGB in [0, 1], (B, 3, H, W), to the activations at ``taps``, each (B, C, H', W').

    Frozen; ImageNet normalization is inside. Keep it out of the trained module (and so out of DDP and of checkpoints):
    it is part of the loss.

    Args:
        name: ``vgg16`` or ``vgg19``.
        taps: names such as ``relu3_1``.
        weights: ``None`` for torchvision's ImageNet weights (downloaded once), or a local ``.safetensors`` or
            ``torch.save`` file with torchvision's keys.
        padding: ``zeros`` as it was trained, or ``reflect``. Zeros are the mean color of ImageNet around the image: a
            network trained against them learns a gray border.

    Raises:
        FileNotFoundError: there is no file ``weights``.
        WeightsError: the file is unreadable or lacks layers that a tap needs.
        ValueError: a tap does not exist in this network.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, name: VGGName, taps: Iterable[str], weights: str | Path | None = None, padding: Padding = "zeros"
    ) -> None:
        super().__init__()
        known = tap_indices(name)
        wanted = set(taps)
        if not wanted or wanted - known.keys():
            raise ValueError(f"{name} has no taps {sorted(wanted - known.keys())}; known: {', '.join(known)}")
        self.taps = {index: tap for tap, index in known.items() if tap in wanted}
        self.features = _build(name, max(self.taps) + 1, padding)
        _load(self.features, name, weights, wanted)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()
        self._cast: dict[torch.dtype, nn.Sequential] = {}  # the layers in half precision, no part of the module

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._cast.clear()  # it goes to another device or type
        applied: Self = super()._apply(fn, recurse)  # type: ignore[no-untyped-call] # torch's own
        return applied

    def _layers(self, device: str) -> nn.Sequential:
        """Return the layers in the type of autocast, which would convert frozen weights anew in every pass."""
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
        if dtype == torch.float32:
            return self.features
        if dtype not in self._cast:
            with torch.inference_mode(False):  # gradients have to pass through it later
                self._cast[dtype] = copy.deepcopy(self.features).to(dtype)
        return self._cast[dtype]

    def forward(self, x_bchw: Tensor, until: str | None = None) -> dict[str, Tensor]:
        """Return the activations by tap, shallow to deep; ``until`` stops at that tap."""
        x_bchw = (x_bchw - self.mean) / self.std
        activations: dict[str, Tensor] = {}
        for index, layer in enumerate(self._layers(x_bchw.device.type)):
            x_bchw = layer(x_bchw)
            if index in self.taps:
                activations[self.taps[index]] = x_bchw
                if self.taps[index] == until:
                    break
        return activations


def _build(name: VGGName, depth: int, padding: Padding) -> nn.Sequential:
    """Build the first ``depth`` layers, numbered as torchvision numbers them."""
    layers: list[nn.Module] = []
    for channels_in, channels, convs in zip((3, *_CHANNELS), _CHANNELS, _BLOCKS[name], strict=False):
        for before in (channels_in, *[channels] * (convs - 1)):
            mirrored = padding == "reflect"
            conv = ReflectConv2d(before, channels, 3) if mirrored else nn.Conv2d(before, channels, 3, padding=1)
            layers += [conv, nn.ReLU(inplace=True)]
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers[:depth])


def _load(features: nn.Sequential, name: VGGName, weights: str | Path | None, taps: set[str]) -> None:
    state: Mapping[str, Tensor]
    if weights is None:
        from torchvision.models import get_model_weights  # type: ignore[import-untyped] # late: slow to import

        state = get_model_weights(name).DEFAULT.get_state_dict(progress=False, check_hash=True)
    else:
        try:
            state = read_weights(Path(weights))[0]
        except CheckpointError as error:
            raise WeightsError(str(error)) from error
    needed = features.state_dict()
    available = {key.removeprefix("features."): value for key, value in state.items()}
    lacking = {key for key, value in needed.items() if key not in available or available[key].shape != value.shape}
    if lacking:
        layer = min(int(key.split(".")[0]) for key in lacking)
        served = [tap for tap, index in tap_indices(name).items() if index < layer]
        raise WeightsError(
            f"{weights or 'torchvision'}: lacks features.{layer} of {name} (or has it in another shape), "
            f"which the taps {', '.join(sorted(taps - set(served)))} need; it can serve "
            f"{', '.join(served) or 'none'}"
        )
    features.load_state_dict({key: available[key].float() for key in needed})
