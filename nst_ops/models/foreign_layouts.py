"""Checkpoints in the layouts of other projects, their keys renamed to ours."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nst_ops.models.johnson import JohnsonNet
from nst_ops.models.vgg import IMAGENET_MEAN, IMAGENET_STD
from nst_ops.models.weights import STATISTICS, CheckpointError, load_strictly

if TYPE_CHECKING:
    from nst_ops.models.vit_adain import ViTAdaIN


def build_johnson(path: Path, weights: Mapping[str, Tensor]) -> tuple[JohnsonNet, str]:
    """Build the network that foreign weights describe; returns it with the name of their layout.

    Raises CheckpointError where the layout is unknown, or not all of a network is there.
    """
    for layout, (marker, rename, options) in _LAYOUTS.items():
        if marker in weights:
            renamed = {new: value for key, value in weights.items() if (new := rename(key)) is not None}
            num_blocks = len({key.split(".")[1] for key in renamed if key.startswith("residuals.")})
            model = JohnsonNet(width=weights[marker].shape[0], num_blocks=num_blocks, **options)
            if layout == "pytorch-examples":  # on pixels 0..255: fold their range in, for the same network on [0, 1]
                renamed["encoder.0.conv.conv.weight"] = renamed["encoder.0.conv.conv.weight"] * 255.0
                for key in renamed.keys() & {"decoder.2.conv.weight", "decoder.2.conv.bias"}:
                    renamed[key] = renamed[key] / 255.0
            load_strictly(path, model, renamed)
            return model, layout
    shown = ", ".join(sorted(weights)[:5])
    raise CheckpointError(
        f"{path}: not a network known here: {len(weights)} tensors, first keys: {shown or 'none'}. "
        "Known layouts: nst-ops, pytorch/examples fast_neural_style, clipmorph, ViT-AdaIN on timm"
    )


def _rename_pytorch_examples(key: str) -> str | None:
    """Rename conv1..3, in1..5, res1..5, deconv1..3; None for statistics that instance norm ignores."""
    if key.endswith(STATISTICS):
        return None
    if match := re.match(r"res(\d+)\.(.*)", key):
        return f"residuals.{int(match[1]) - 1}.{_rename_residual(match[2])}"
    if match := re.match(r"(conv|in|deconv)(\d)\.(?:conv2d\.)?(weight|bias)$", key):
        kind, index, name = match[1], int(match[2]), match[3]
        if kind == "conv":
            return f"encoder.{index - 1}.conv.conv.{name}"
        if kind == "in":
            return f"encoder.{index - 1}.norm.{name}" if index <= 3 else f"decoder.{index - 4}.norm.{name}"
        return f"decoder.{index - 1}.conv.conv.{name}" if index <= 2 else f"decoder.2.conv.{name}"
    return key


def _rename_clipmorph(key: str) -> str | None:
    """Rename convBlock.*, residualBlock.*, convTransBlock.*; ``normalization`` is never used there."""
    if key.startswith("normalization.") or key.endswith(STATISTICS):
        return None
    if match := re.match(r"residualBlock\.(\d+)\.(.*)", key):
        return f"residuals.{match[1]}.{_rename_residual(match[2])}"
    if match := re.match(r"conv(Trans)?Block\.(\d+)\.(?:(?:conv2d|convTrans)\.)?(weight|bias)$", key):
        part = "decoder" if match[1] else "encoder"
        layer, is_norm = divmod(int(match[2]), 3)
        if part == "decoder" and layer == 2:
            return f"decoder.2.conv.{match[3]}"
        return f"{part}.{layer}.{'norm' if is_norm else 'conv.conv'}.{match[3]}"
    return key


def _rename_residual(key: str) -> str:
    return key.replace(".conv2d.", ".conv.").replace("in1.", "norm1.").replace("in2.", "norm2.")


_LAYOUTS: dict[str, tuple[str, Callable[[str], str | None], dict[str, Any]]] = {
    # name: (a key only it has, its keys to ours, the network it is)
    "pytorch-examples": ("conv1.conv2d.weight", _rename_pytorch_examples, {"head": "linear"}),
    "clipmorph": ("convBlock.0.conv2d.weight", _rename_clipmorph, {"upsampling": "transposed"}),
}

_MARKER = "patch_embed.proj.weight"
_SIZES = {192: ("tiny", 12), 384: ("small", 12), 768: ("base", 12), 1024: ("large", 24)}


def build_seed(path: Path, weights: dict[str, Tensor]) -> tuple[ViTAdaIN, tuple[str, ...]]:
    """Build the ViT-AdaIN that weights of the seed recipe describe; returns it with the keys dropped.

    Dropped are the classification head, constants of the color normalization, groups that hold a VGG, and running
    statistics, which instance normalization does not use. Raises CheckpointError where it is not such a network, or not
    all of it; keys that do not fit are named.
    """
    from nst_ops.models.vit_adain import SEED, ViTAdaIN  # late: timm takes as long to import as torch

    while _MARKER not in weights and len({key.split(".")[0] for key in weights}) == 1:
        weights = {key.partition(".")[2]: value for key, value in weights.items()}  # out of one more module
    encoder = next(key for key in weights if key.endswith(_MARKER)).removesuffix(_MARKER)
    dropped = tuple(key for key in weights if _is_beside(key, weights, encoder))
    own = {key: value for key, value in weights.items() if key not in dropped}
    vit = {key.removeprefix(encoder): value for key, value in own.items() if key.startswith(encoder)}
    decoder = {key: value for key, value in own.items() if not key.startswith(encoder)}
    if not encoder or _MARKER not in vit or vit.get("pos_embed", torch.empty(0)).dim() != 3:
        raise CheckpointError(f"{path}: not a ViT-AdaIN network: a Vision Transformer and no decoder beside it")
    try:
        model = ViTAdaIN(**SEED | _encoder_arguments(vit) | _decoder_arguments(decoder))
    except ValueError as error:
        raise CheckpointError(f"{path}: not the seed recipe of ViT-AdaIN: {error}") from error
    renamed = {f"encoder.network.{key}": value for key, value in vit.items()}
    load_strictly(path, model, renamed | _rename_decoder(model.decoder, decoder))
    return model, dropped


def _is_beside(key: str, weights: dict[str, Tensor], encoder: str) -> bool:
    """Return whether ``key`` is no part of encoder or decoder."""
    if key.startswith(encoder):
        return key.removeprefix(encoder).startswith("head.")
    value = weights[key].flatten().float()
    colors = (torch.tensor(color) for color in (IMAGENET_MEAN, IMAGENET_STD))
    if len(value) == 3 and any(torch.allclose(value, color, atol=1e-3) for color in colors):
        return True
    group = key.split(".")[0] + "."
    shapes = {tuple(value.shape) for key, value in weights.items() if key.startswith(group)}
    is_vgg = {(64, 3, 3, 3), (64, 64, 3, 3)} <= shapes  # its first two layers
    return key.endswith(STATISTICS) or (is_vgg and not encoder.startswith(group))


def _encoder_arguments(vit: dict[str, Tensor]) -> dict[str, object]:
    width, _, patch, _ = vit[_MARKER].shape
    if width not in _SIZES:
        raise ValueError(f"no ViT of timm has {width} channels, those there are have {list(_SIZES)}")
    size, usual_depth = _SIZES[width]
    depth = len({key.split(".")[1] for key in vit if key.startswith("blocks.")})
    options = ({} if depth == usual_depth else {"depth": depth}) | ({} if patch == 16 else {"patch_size": patch})
    side = math.isqrt(vit["pos_embed"].shape[1] - 1) * patch
    return {"encoder": f"vit_{size}_patch16_224", "encoder_options": options, "image_size": side}


def _decoder_arguments(decoder: dict[str, Tensor]) -> dict[str, object]:
    """Describe transposed convolutions, (in, out, k, k) each, and perhaps a last convolution to colors."""
    layers = [value.shape for value in decoder.values() if value.dim() == 4]
    if not layers:
        raise ValueError("it has no decoder")
    widths = [shape[1] for shape in layers[:-1]]  # the last one gives colors
    norms = [key for key, value in decoder.items() if key.endswith(".weight") and value.dim() == 1]
    return {"widths": widths, "kernel": layers[0][-1], "affine": len(norms) == len(widths)}


def _rename_decoder(decoder: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the keys of the file to our decoder's, convolutions and norms each in their order.

    Keys for which ours has no place stay as they are, for the strict loading to name.
    """
    ours: dict[int, list[str]] = {4: [], 1: []}  # layers by the dimensions of their weight
    for name, layer in decoder.named_modules():
        if isinstance(weight := getattr(layer, "weight", None), Tensor):
            ours[weight.dim()].append(f"decoder.{name}")
    places: dict[str, str] = {}
    for key, value in weights.items():
        if key.endswith(".weight") and ours.get(value.dim()):
            places[key.removesuffix(".weight")] = ours[value.dim()].pop(0)
    renamed = {}
    for key, value in weights.items():
        layer_name, _, name = key.rpartition(".")
        renamed[f"{places.get(layer_name, layer_name)}.{name}" if layer_name else key] = value
    for name, value in decoder.state_dict().items():
        # A bias before an InstanceNorm changes nothing: it may have been left out.
        if name.endswith("bias") and f"decoder.{name.removesuffix('bias')}weight" in renamed:
            renamed.setdefault(f"decoder.{name}", torch.zeros_like(value))
    return renamed
