"""Files of weights: read without running code, loaded all or nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Endings of keys that old versions of instance normalization saved and never used."""

_STEP = ".step"  # ending of the key beside that of a weight of 8 bits


class CheckpointError(ValueError):
    """A checkpoint that cannot be used, with the reason and the keys that do not fit."""


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors and metadata of a safetensors or ``torch.save`` file, without running code.

    A state dict may lie in the file bare or under ``model_state_dict``, ``state_dict`` or ``model``.

    Raises:
        CheckpointError: the file is unreadable, holds code, or holds no state dict.
        FileNotFoundError: there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file of weights at {path}")
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
    """Drop the prefixes that DataParallel, DDP and torch.compile put before every key."""
    return {re.sub(r"^((module|_orig_mod)\.)+", "", key): value for key, value in weights.items()}


def to_int8(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of two dimensions or more as int8, with the step of each output channel, fp32, beside them.

    Weights that had such steps before come back to the last digits of fp32.
    """
    stored = dict(weights)
    for key, value in weights.items():
        if value.is_floating_point() and value.dim() > 1:
            largest = value.float().flatten(1).abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny)
            step = largest.div(127).view(_shape_of_step(value))
            stored |= {key: (value / step).round().to(torch.int8), key + _STEP: step}
    return stored


def from_int8(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights that ``to_int8`` stored; others as they are."""
    steps = {
        key: step
        for key, value in stored.items()
        if value.dtype == torch.int8
        and (step := stored.get(key + _STEP)) is not None
        and step.shape == _shape_of_step(value)
    }
    weights = {key: value * steps[key] if key in steps else value for key, value in stored.items()}
    return {key: value for key, value in weights.items() if key.removesuffix(_STEP) not in steps or key in steps}


def _shape_of_step(weight: Tensor) -> torch.Size:
    return torch.Size([*weight.shape[:1], *[1] * (weight.dim() - 1)])


def load_strictly(path: Path, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load all weights or none, in the model's own types; CheckpointError names the keys that do not fit."""
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
