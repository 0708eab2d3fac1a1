"""Foreign layouts of Johnson networks: pytorch/examples ``fast_neural_style`` and clipmorph."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from nst_ops.models.johnson import JohnsonNet
from nst_ops.models.weights import STATISTICS, CheckpointError, load_strictly


def build_johnson(path: Path, weights: Mapping[str, Tensor]) -> tuple[JohnsonNet, str]:
    """The network that foreign weights describe, and the name of their layout.

    Raises:
        CheckpointError: no layout that is known, or not all of a network.
    """
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
            load_strictly(path, model, renamed)
            return model, layout
    shown = ", ".join(sorted(weights)[:5])
    raise CheckpointError(
        f"{path}: not a network known here: {len(weights)} tensors, first keys: {shown or 'none'}. "
        "Known layouts: nst-ops, pytorch/examples fast_neural_style, clipmorph, ViT-AdaIN on timm"
    )


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
    if key.endswith(STATISTICS):
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
    if key.startswith("normalization.") or key.endswith(STATISTICS):
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
