"""Checkpoints: our own safetensors, and import of the layouts people bring.

Our format is one safetensors file with the weights in fp16 and, in its metadata, ``format`` ("nst-ops/1"),
``architecture``, ``config`` (JSON, the constructor's arguments) and ``facts`` (JSON: style, data, recipe, losses,
versions). Nothing here unpickles code.

To add a network: a class with ``architecture`` and ``config``, and a line in ``_load_own``. A constructor's
argument that is renamed gets a line in ``_FORMER_ARGUMENTS``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from safetensors.torch import save
from torch import Tensor

from nst_ops.models.foreign_layouts import build_johnson, build_seed
from nst_ops.models.johnson import JohnsonNet
from nst_ops.models.weights import CheckpointError, load_strictly, read_weights, strip_prefixes

if TYPE_CHECKING:
    from nst_ops.models.vit_adain import ViTAdaIN

__all__ = ["Checkpoint", "CheckpointError", "load_checkpoint", "save_checkpoint"]

FORMAT = "nst-ops/1"
_FORMER_ARGUMENTS = {"normalisation": "normalization"}
_Network = TypeVar("_Network", JohnsonNet, "ViTAdaIN")


@dataclass(frozen=True)
class Checkpoint:
    """A loaded network and the facts of its training.

    Attributes:
        path: file that it was loaded from.
        model: the network, in fp32 and evaluation mode.
        layout: writer of the file: ``nst-ops``, ``pytorch-examples``, ``clipmorph`` or ``seed``.
        facts: facts of the training; empty for foreign layouts.
        dropped: keys of the file that are no part of the network, such as the VGG of its losses.
    """

    path: Path
    model: JohnsonNet | ViTAdaIN
    layout: str
    facts: dict[str, Any] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()

    def expect(self, network: type[_Network]) -> _Network:
        """Return the network, which must be of this class; raises CheckpointError where it is of another."""
        if isinstance(self.model, network):
            return self.model
        raise CheckpointError(
            f"{self.path}: holds a {self.model.architecture} network, not {network.architecture}: "
            f"for stylizing it, --model.kind {self.model.architecture}"
        )


def save_checkpoint(path: str | Path, model: JohnsonNet | ViTAdaIN, facts: Mapping[str, Any]) -> None:
    """Write ``model`` as fp16 safetensors with its configuration and training facts."""
    weights = {
        key: (value.half() if value.is_floating_point() else value).cpu().contiguous()
        for key, value in model.state_dict().items()
    }
    metadata = {
        "format": FORMAT,
        "architecture": model.architecture,
        "config": json.dumps(model.config, sort_keys=True),
        "facts": json.dumps(dict(facts), sort_keys=True),
    }
    # not with safetensors' own file writer, which hides that the disk is full
    Path(path).write_bytes(save(weights, metadata))


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Load a network from our safetensors or from a foreign layout.

    Accepted are our own files; Johnson networks of pytorch/examples ``fast_neural_style`` and of clipmorph; ViT-AdaIN
    of the seed recipe, whatever its attributes are called and with the VGG of its losses inside. Foreign ones may be
    safetensors or ``torch.save`` files, bare or under ``state_dict`` / ``model_state_dict`` / ``model``, with
    ``module.`` or ``_orig_mod.`` prefixes.

    Raises:
        CheckpointError: the file is unreadable, holds code, or is of another architecture; the message lists the keys
            that do not fit.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    weights, metadata = read_weights(path)
    if metadata.get("format", "").startswith("nst-ops/"):
        return _load_own(path, weights, metadata)
    weights = strip_prefixes(weights)
    if any(key.endswith("patch_embed.proj.weight") for key in weights):
        seed, dropped = build_seed(path, weights)
        return Checkpoint(path, seed.eval(), "seed", dropped=dropped)
    model, layout = build_johnson(path, weights)
    return Checkpoint(path, model.eval(), layout)


def _load_own(path: Path, weights: dict[str, Tensor], metadata: Mapping[str, str]) -> Checkpoint:
    form, architecture = metadata.get("format"), metadata.get("architecture")
    if form != FORMAT or architecture not in ("johnson", "vit_adain"):
        known = f"this version reads {FORMAT}, johnson and vit_adain"
        raise CheckpointError(f"{path}: format {form}, architecture {architecture}; {known}")
    network: type[JohnsonNet] | type[ViTAdaIN] = JohnsonNet
    if architecture == "vit_adain":
        from nst_ops.models.vit_adain import ViTAdaIN  # late: timm takes as long to import as torch

        network = ViTAdaIN
    try:
        config = json.loads(metadata["config"])
        model = network(**{_FORMER_ARGUMENTS.get(key, key): value for key, value in config.items()})
        facts = json.loads(metadata.get("facts", "{}"))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: metadata does not describe a {network.architecture} network: {error}"
        ) from error
    load_strictly(path, model, weights)
    return Checkpoint(path, model.eval(), "nst-ops", facts)
