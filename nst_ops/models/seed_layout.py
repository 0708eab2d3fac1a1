"""Foreign checkpoints of the seed recipe of ViT-AdaIN.

What the attributes are called there is not relied on: the encoder is found by what timm
calls its parts, the decoder by shapes, the VGG of the losses by its first layer.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from nst_ops.models.vit_adain import IMAGENET_MEAN, IMAGENET_STD, SEED, ViTAdaIN
from nst_ops.models.weights import STATISTICS, CheckpointError, load_strictly

_MARKER = "patch_embed.proj.weight"
_SIZES = {192: ("tiny", 12), 384: ("small", 12), 768: ("base", 12), 1024: ("large", 24)}


def build_seed(path: Path, weights: dict[str, Tensor]) -> tuple[ViTAdaIN, tuple[str, ...]]:
    """The network that the weights describe, and the keys that are no part of it.

    Those are the classification head, constants of the colour normalisation, groups that
    hold a VGG and running statistics, which instance normalisation does not use.

    Raises:
        CheckpointError: not such a network, or not all of it; keys that do not fit are named.
    """
    while _MARKER not in weights and len({key.split(".")[0] for key in weights}) == 1:
        weights = {key.partition(".")[2]: value for key, value in weights.items()}  # out of one more module
    encoder = next(key for key in weights if key.endswith(_MARKER)).removesuffix(_MARKER)
    dropped = tuple(key for key in weights if _is_beside(key, weights, encoder))
    own = {key: value for key, value in weights.items() if key not in dropped}
    vit = {key.removeprefix(encoder): value for key, value in own.items() if key.startswith(encoder)}
    painter = {key: value for key, value in own.items() if not key.startswith(encoder)}
    if not encoder or _MARKER not in vit or vit.get("pos_embed", torch.empty(0)).dim() != 3:
        raise CheckpointError(
            f"{path}: not a ViT-AdaIN network: a Vision Transformer and no decoder beside it"
        )
    try:
        model = ViTAdaIN(**SEED | _encoder_arguments(vit) | _decoder_arguments(painter))
    except ValueError as error:
        raise CheckpointError(f"{path}: not the seed recipe of ViT-AdaIN: {error}") from error
    renamed = {f"encoder.network.{key}": value for key, value in vit.items()}
    load_strictly(path, model, renamed | _rename_decoder(model.decoder, painter))
    return model, dropped


def _is_beside(key: str, weights: dict[str, Tensor], encoder: str) -> bool:
    """Whether ``key`` is no part of encoder or decoder."""
    if key.startswith(encoder):
        return key.removeprefix(encoder).startswith("head.")
    value = weights[key]
    if any(value.numel() == 3 and _equal(value, colour) for colour in (IMAGENET_MEAN, IMAGENET_STD)):
        return True
    group = key.split(".")[0] + "."
    return key.endswith(STATISTICS) or (not encoder.startswith(group) and _is_vgg(group, weights))


def _equal(value: Tensor, colour: tuple[float, ...]) -> bool:
    return torch.allclose(value.flatten().float(), torch.tensor(colour), atol=1e-3)


def _is_vgg(group: str, weights: dict[str, Tensor]) -> bool:
    """Whether a group of keys has the first two layers of a VGG: 3 to 64 to 64 channels, 3x3."""
    shapes = {tuple(value.shape) for key, value in weights.items() if key.startswith(group)}
    return {(64, 3, 3, 3), (64, 64, 3, 3)} <= shapes


def _encoder_arguments(vit: dict[str, Tensor]) -> dict[str, object]:
    width, _, patch, _ = vit[_MARKER].shape
    if width not in _SIZES:
        raise ValueError(f"no ViT of timm has {width} channels, those there are have {list(_SIZES)}")
    size, usual_depth = _SIZES[width]
    depth = len({key.split(".")[1] for key in vit if key.startswith("blocks.")})
    options = {} if depth == usual_depth else {"depth": depth}
    if patch != 16:
        options["patch_size"] = patch
    side = math.isqrt(vit["pos_embed"].shape[1] - 1) * patch
    return {
        "encoder": f"vit_{size}_patch16_224",
        "encoder_options": options,
        "image_size": side,
    }


def _decoder_arguments(painter: dict[str, Tensor]) -> dict[str, object]:
    """Of transposed convolutions, (in, out, k, k) each, and maybe a convolution to colours at the end."""
    layers = [value.shape for value in painter.values() if value.dim() == 4]
    if not layers:
        raise ValueError("it has no decoder")
    ends_in_convolution = layers[-1][0] == 3
    doublings = layers[:-1] if ends_in_convolution else layers
    widths = [shape[1] for shape in doublings]
    widths = widths if ends_in_convolution else widths[:-1]
    norms = [key for key, value in painter.items() if key.endswith(".weight") and value.dim() == 1]
    return {"widths": widths, "kernel": layers[0][-1], "affine": len(norms) == len(widths)}


def _rename_decoder(decoder: nn.Module, painter: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keys of our decoder for those of the file, convolutions and norms each in their order.

    Keys for which ours has no place stay as they are, for the strict loading to name.
    """
    ours = {
        dims: [name for name, layer in decoder.named_modules() if _weight_dims(layer) == dims]
        for dims in (4, 1)
    }
    places: dict[str, str] = {}
    for key, value in painter.items():
        if key.endswith(".weight") and ours.get(value.dim()):
            places[key.removesuffix(".weight")] = f"decoder.{ours[value.dim()].pop(0)}"
    renamed = {}
    for key, value in painter.items():
        layer, _, name = key.rpartition(".")
        renamed[f"{places[layer]}.{name}" if layer in places else key] = value
    for name, value in decoder.state_dict().items():
        # A bias before an InstanceNorm changes nothing: it may have been left out.
        if name.endswith("bias") and f"decoder.{name.removesuffix('bias')}weight" in renamed:
            renamed.setdefault(f"decoder.{name}", torch.zeros_like(value))
    return renamed


def _weight_dims(layer: nn.Module) -> int:
    weight = getattr(layer, "weight", None)
    return weight.dim() if isinstance(weight, Tensor) else 0
