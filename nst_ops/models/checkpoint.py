"""Checkpoints: our own safetensors, and import of the layouts people bring.

Our format is one safetensors file with the weights in fp16 and, in its metadata,
``format`` ("nst-ops/1"), ``architecture``, ``config`` (JSON, the constructor's arguments)
and ``facts`` (JSON: style, data, recipe, losses, versions). Nothing here unpickles code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from nst_ops.models.johnson import JohnsonNet

FORMAT = "nst-ops/1"
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used, with the reason and the keys that do not fit."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded network with what is known of its training."""

    model: JohnsonNet
    layout: str
    facts: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(path: str | Path, model: JohnsonNet, facts: Mapping[str, Any]) -> None:
    """Write ``model`` as fp16 safetensors with its configuration and training facts."""
    weights = {
        key: (value.half() if value.is_floating_point() else value).cpu().contiguous()
        for key, value in model.state_dict().items()
    }
    metadata = {
        "format": FORMAT,
        "architecture": "johnson",
        "config": json.dumps(model.config, sort_keys=True),
        "facts": json.dumps(dict(facts), sort_keys=True),
    }
    Path(path).write_bytes(
        save(weights, metadata)
    )  # safetensors' own file writer hides that the disk is full


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Load a Johnson network from our safetensors or from a foreign layout.

    Accepted: our own files; pytorch/examples ``fast_neural_style`` and clipmorph state
    dicts as safetensors or as ``torch.save`` files, bare or under ``state_dict`` /
    ``model_state_dict`` / ``model``, with ``module.`` or ``_orig_mod.`` prefixes.

    Raises:
        CheckpointError: unreadable, holding code, or of another architecture; the message
            lists the keys that do not fit.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    weights, metadata = _read_weights(path)
    if metadata.get("format", "").startswith("nst-ops/"):
        return _load_own(path, weights, metadata)
    weights = _strip_prefixes(weights)
    for layout, (marker, rename, options) in _LAYOUTS.items():
        if marker in weights:
            renamed = {new: value for key, value in weights.items() if (new := rename(key)) is not None}
            model = JohnsonNet(
                width=weights[marker].shape[0],
                num_blocks=_count_blocks(renamed),
                **options,  # type: ignore[arg-type]
            )
            if layout == "pytorch-examples":
                _fold_pixel_range(renamed)
            _load_strictly(path, model, renamed)
            return Checkpoint(model.eval(), layout)
    shown = ", ".join(sorted(weights)[:5])
    raise CheckpointError(
        f"{path}: not a Johnson network: {len(weights)} tensors, first keys: {shown or 'none'}. "
        "Known layouts: nst-ops, pytorch/examples fast_neural_style, clipmorph"
    )


def _read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors or ``torch.save`` file, without running code."""
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


def _load_own(path: Path, weights: dict[str, Tensor], metadata: Mapping[str, str]) -> Checkpoint:
    if metadata.get("format") != FORMAT or metadata.get("architecture") != "johnson":
        raise CheckpointError(
            f"{path}: format {metadata.get('format')}, architecture {metadata.get('architecture')}; "
            f"this version reads {FORMAT}, johnson"
        )
    try:
        model = JohnsonNet(**json.loads(metadata["config"]))
        facts = json.loads(metadata.get("facts", "{}"))
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: metadata does not describe a Johnson network: {error}") from error
    _load_strictly(path, model, weights)
    return Checkpoint(model.eval(), "nst-ops", facts)


def _load_strictly(path: Path, model: JohnsonNet, weights: dict[str, Tensor]) -> None:
    """Load all or nothing: missing, unexpected and misshapen keys are named."""
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


def _strip_prefixes(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop what DataParallel, DDP and torch.compile put before every key."""
    return {re.sub(r"^((module|_orig_mod)\.)+", "", key): value for key, value in weights.items()}


def _fold_pixel_range(weights: dict[str, Tensor]) -> None:
    """Turn a network on pixels 0..255 into the same network on [0, 1], in place."""
    weights["encoder.0.conv.conv.weight"] = weights["encoder.0.conv.conv.weight"] * 255.0
    for name in ("weight", "bias"):
        key = f"decoder.2.conv.{name}"
        if key in weights:
            weights[key] = weights[key] / 255.0


def _count_blocks(weights: Mapping[str, Tensor]) -> int:
    return len({key.split(".")[1] for key in weights if key.startswith("residuals.")})


def _rename_residual(key: str) -> str:
    return key.replace(".conv2d.", ".conv.").replace(".in1.", ".norm1.").replace(".in2.", ".norm2.")


def _rename_pytorch_examples(key: str) -> str | None:
    """conv1..3, in1..5, res1..5, deconv1..3; None for statistics that instance norm ignores."""
    if key.endswith(_STATISTICS):
        return None
    if match := re.match(r"res(\d+)\.(.*)", key):
        return f"residuals.{int(match[1]) - 1}." + _rename_residual(f".{match[2]}").lstrip(".")
    if match := re.match(r"(conv|in|deconv)(\d)\.(?:conv2d\.)?(weight|bias)$", key):
        kind, index, name = match[1], int(match[2]), match[3]
        if kind == "conv":
            return f"encoder.{index - 1}.conv.conv.{name}"
        if kind == "in":
            return f"encoder.{index - 1}.norm.{name}" if index <= 3 else f"decoder.{index - 4}.norm.{name}"
        return f"decoder.{index - 1}.conv.conv.{name}" if index <= 2 else f"decoder.2.conv.{name}"
    return key


def _rename_clipmorph(key: str) -> str | None:
    """convBlock.*, residualBlock.*, convTransBlock.*; ``normalization`` is never used there."""
    if key.startswith("normalization.") or key.endswith(_STATISTICS):
        return None
    if match := re.match(r"residualBlock\.(\d+)\.(.*)", key):
        return f"residuals.{match[1]}." + _rename_residual(f".{match[2]}").lstrip(".")
    if match := re.match(r"conv(Trans)?Block\.(\d+)\.(?:(?:conv2d|convTrans)\.)?(weight|bias)$", key):
        room = "decoder" if match[1] else "encoder"
        layer, part = divmod(int(match[2]), 3)
        if room == "decoder" and layer == 2:
            return f"decoder.2.conv.{match[3]}"
        return f"{room}.{layer}.{'norm' if part else 'conv.conv'}.{match[3]}"
    return key


_LAYOUTS = {
    # name: (a key only it has, how its keys map to ours, the network it is)
    "pytorch-examples": (
        "conv1.conv2d.weight",
        _rename_pytorch_examples,
        {"upsampling": "nearest", "norm": "instance", "head": "linear"},
    ),
    "clipmorph": (
        "convBlock.0.conv2d.weight",
        _rename_clipmorph,
        {"upsampling": "transposed", "norm": "instance", "head": "sigmoid"},
    ),
}
