"""Files of weights: read without running code, loaded all or nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Endings of keys that old versions of instance normalization saved and never used."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be used, with the reason and the keys that do not fit."""


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors or ``torch.save`` file, without running code.

    A state dict may lie in the file bare or under ``model_state_dict``, ``state_dict`` or ``model``.

    Raises:
        CheckpointError: unreadable, holding code, or without a state dict.
        FileNotFoundError: there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with safe_open(str(path), framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        if path.suffix == ".safetensors":
            raise CheckpointError(f"{path}: damaged safetensors file: {error}") from error
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds here, all of them mean "not usable"
        raise CheckpointError(
            f"{path}: refused: not a plain file of tensors (a pickle may hold code, so only "
            "torch.save(model.state_dict(), ...) and safetensors are read)"
        ) from error
    for key in ("model_state_dict", "state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping):
        raise CheckpointError(f"{path}: holds a {type(loaded).__name__}, not a state dict")
    return {str(key): value for key, value in loaded.items() if isinstance(value, Tensor)}, {}


def strip_prefixes(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop what DataParallel, DDP and torch.compile put before every key."""
    return {re.sub(r"^((module|_orig_mod)\.)+", "", key): value for key, value in weights.items()}


def load_strictly(path: Path, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load all or nothing, in the model's own types.

    Raises:
        CheckpointError: names missing, unexpected and misshapen keys.
    """
    own = model.state_dict()
    problems = [f"missing {key}" for key in own if key not in weights]
    problems += [f"unexpected {key}" for key in weights if key not in own]
    problems += [
        f"{key} has shape {tuple(value.shape)}, expected {tuple(own[key].shape)}"
        for key, value in weights.items()
        if key in own and value.shape != own[key].shape
    ]
    if problems:
        more = f" and {len(problems) - 6} more" if len(problems) > 6 else ""
        raise CheckpointError(f"{path}: not this architecture: {'; '.join(problems[:6])}{more}")
    model.load_state_dict({key: value.to(own[key].dtype) for key, value in weights.items()})


VGGName = Literal["vgg16", "vgg19"]
Padding = Literal["zeros", "reflect"]

# Convolutions per block; every block ends with a 2x2 max pooling.
_BLOCKS: dict[VGGName, tuple[int, ...]] = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
_CHANNELS = (64, 128, 256, 512, 512)
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class WeightsError(ValueError):
    """Weights that cannot serve the taps asked for."""


def tap_indices(name: VGGName) -> dict[str, int]:
    """Where each ReLU stands in torchvision's ``features``, by name, shallow to deep.

    The two networks differ from ``relu3_3`` on: VGG16 has three convolutions in a block
    where VGG19 has four, so indices of one do not fit the other.
    """
    taps: dict[str, int] = {}
    start = 0
    for block, depth in enumerate(_BLOCKS[name], 1):
        taps |= {f"relu{block}_{conv}": start + 2 * conv - 1 for conv in range(1, depth + 1)}
        start += 2 * depth + 1
    return taps


class VGGFeatures(nn.Module):
    """RGB in [0, 1], (B, 3, H, W), to the activations at ``taps``, each (B, C, H', W').

    Frozen; ImageNet normalization is inside. Keep it out of the trained module (and so out
    of DDP and of checkpoints): it is part of the loss.

    Args:
        name: ``vgg16`` or ``vgg19``.
        taps: names such as ``relu3_1``.
        weights: ``None`` for torchvision's ImageNet weights (downloaded once), or a local
            ``.safetensors`` or ``torch.save`` file with torchvision's keys.
        padding: ``zeros`` as it was trained, or ``reflect``. Zeros are the mean color of
            ImageNet around the picture: a network trained against them paints a gray frame.

    Raises:
        WeightsError: the file is unreadable or lacks layers that a tap needs.
        ValueError: a tap does not exist in this network.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: VGGName,
        taps: Iterable[str],
        weights: str | Path | None = None,
        padding: Padding = "zeros",
    ) -> None:
        super().__init__()
        known = tap_indices(name)
        wanted = set(taps)
        if not wanted or wanted - known.keys():
            raise ValueError(f"{name} has no taps {sorted(wanted - known.keys())}; known: {', '.join(known)}")
        self.taps = {index: tap for tap, index in known.items() if tap in wanted}
        self.features = _build(name, max(self.taps) + 1, padding)
        _load(self.features, name, weights, wanted)
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    def forward(self, x_bchw: Tensor, until: str | None = None) -> dict[str, Tensor]:
        """Activations by tap, shallow to deep; ``until`` stops at that tap."""
        x_bchw = (x_bchw - self.mean) / self.std
        activations: dict[str, Tensor] = {}
        for index, layer in enumerate(self.features):
            x_bchw = layer(x_bchw)
            if index in self.taps:
                activations[self.taps[index]] = x_bchw
                if self.taps[index] == until:
                    break
        return activations


def _build(name: VGGName, depth: int, padding: Padding) -> nn.Sequential:
    """The first ``depth`` layers, numbered as torchvision numbers them."""
    layers: list[nn.Module] = []
    channels_in = 3
    for channels, convs in zip(_CHANNELS, _BLOCKS[name], strict=True):
        for _ in range(convs):
            conv = nn.Conv2d(channels_in, channels, 3, padding=1, padding_mode=padding)
            layers += [conv, nn.ReLU(inplace=True)]
            channels_in = channels
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers[:depth])


def _load(features: nn.Sequential, name: VGGName, weights: str | Path | None, taps: set[str]) -> None:
    source = "torchvision" if weights is None else str(weights)
    state = _torchvision_weights(name) if weights is None else _read_file(Path(weights))
    needed = features.state_dict()
    available = {key.removeprefix("features."): value for key, value in state.items()}
    lacking = {key for key, value in needed.items() if _shape(available, key) != value.shape}
    if lacking:
        layer = min(int(key.split(".")[0]) for key in lacking)
        served = [tap for tap, index in tap_indices(name).items() if index < layer]
        raise WeightsError(
            f"{source}: lacks features.{layer} of {name} (or has it in another shape), which the taps "
            f"{', '.join(sorted(taps - set(served)))} need; it can serve {', '.join(served) or 'none'}"
        )
    features.load_state_dict({key: available[key].float() for key in needed})


def _shape(state: Mapping[str, Tensor], key: str) -> torch.Size | None:
    return state[key].shape if key in state else None


def _torchvision_weights(name: VGGName) -> Mapping[str, Tensor]:
    # slow to import, and a local file needs none of it
    from torchvision.models import get_model_weights  # type: ignore[import-untyped]

    weights = get_model_weights(name).DEFAULT
    state: Mapping[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    return state


def _read_file(path: Path) -> dict[str, Tensor]:
    """Tensors under ``features.*`` of a local file; nothing is unpickled but tensors."""
    if not path.is_file():
        raise FileNotFoundError(f"no VGG weights at {path}")
    try:
        state = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except SafetensorError as error:
        raise WeightsError(f"{path}: damaged safetensors file: {error}") from error
    except Exception as error:  # torch raises many kinds here, all of them mean "not usable"
        raise WeightsError(f"{path}: not a plain file of tensors: only state dicts are read") from error
    if not isinstance(state, Mapping):
        raise WeightsError(f"{path}: holds a {type(state).__name__}, not a state dict")
    layer = re.compile(r"features\.\d+\.(weight|bias)$")
    return {key: value for key, value in state.items() if isinstance(value, Tensor) and layer.match(key)}
