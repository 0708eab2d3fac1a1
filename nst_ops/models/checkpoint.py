"""Checkpoints: our own safetensors, and import of the layouts people bring.

Our format is one safetensors file with the weights in fp16, or in int8 with their steps, and, in its metadata,
``format`` ("nst-ops/1"), ``architecture``, ``config`` (JSON, the constructor's arguments) and ``facts`` (JSON: style,
data, recipe, losses, versions; of a network of many styles, ``styles``, see ``nst_ops.models.style_facts``). Nothing
here unpickles code.

To add a network: a class with ``architecture`` and ``config``, and a line in ``_network_class``. A constructor's
argument that is renamed gets a line in ``_FORMER_ARGUMENTS``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from safetensors.torch import save
from torch import Tensor

from nst_ops.models.any_style import AnyStyleNet
from nst_ops.models.conditional import ConditionalNet
from nst_ops.models.foreign_layouts import build_johnson, build_seed
from nst_ops.models.johnson import JohnsonNet
from nst_ops.models.onnx_styles import import_onnx_styles
from nst_ops.models.style_facts import STYLES, StyleFacts, styles_from_json, styles_to_json
from nst_ops.models.weights import CheckpointError, from_int8, load_strictly, read_weights, strip_prefixes, to_int8

if TYPE_CHECKING:
    from nst_ops.models.vit_adain import ViTAdaIN

__all__ = ["Checkpoint", "CheckpointError", "load_checkpoint", "save_checkpoint"]

FORMAT = "nst-ops/1"
_FORMER_ARGUMENTS = {"normalisation": "normalization"}
_ARCHITECTURES = "johnson", "multi_style", "any_style", "vit_adain"
Network: TypeAlias = "JohnsonNet | ConditionalNet | AnyStyleNet | ViTAdaIN"
_Network = TypeVar("_Network", JohnsonNet, ConditionalNet, AnyStyleNet, "ViTAdaIN")


@dataclass(frozen=True)
class Checkpoint:
    """A loaded network and the facts of its training.

    Attributes:
        path: file that it was loaded from.
        model: the network, in fp32 and evaluation mode.
        layout: writer of the file: ``nst-ops``, ``pytorch-examples``, ``clipmorph``, ``seed`` or ``onnx``.
        facts: facts of the training; empty for foreign layouts.
        styles: what is known of each style, by name, of a network of many; else empty.
        dropped: keys of the file that are no part of the network, such as the VGG of its losses.
    """

    path: Path
    model: Network
    layout: str
    facts: dict[str, Any] = field(default_factory=dict)
    styles: dict[str, StyleFacts] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()

    def expect(self, network: type[_Network]) -> _Network:
        """Return the network, which must be of this class; raises CheckpointError where it is of another."""
        if isinstance(self.model, network):
            return self.model
        held = self.model.architecture
        raise CheckpointError(
            f"{self.path}: holds a{'n' * (held[0] in 'aeiou')} {held} network, not {network.architecture}: "
            f"for stylizing it, --model.kind {held}"
        )


def save_checkpoint(
    path: str | Path,
    model: Network,
    facts: Mapping[str, Any],
    styles: Mapping[str, StyleFacts] | None = None,
    int8: bool = False,
) -> None:
    """Write ``model`` as safetensors with its configuration, training facts and what is known of its styles.

    Its weights are in fp16, or with ``int8`` in half the bytes: see ``to_int8``.
    """
    weights = {key: value.cpu().contiguous() for key, value in model.state_dict().items()}
    if int8:
        weights = to_int8(weights)
    else:
        weights = {key: value.half() if value.is_floating_point() else value for key, value in weights.items()}
    metadata = {
        "format": FORMAT,
        "architecture": model.architecture,
        "config": json.dumps(model.config, sort_keys=True),
        "facts": json.dumps(dict(facts) | ({STYLES: styles_to_json(styles)} if styles else {}), sort_keys=True),
    }
    # not with safetensors' own file writer, which hides that the disk is full
    Path(path).write_bytes(save(weights, metadata))


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Load a network from our safetensors or from a foreign layout.

    Accepted are our own files; Johnson networks of pytorch/examples ``fast_neural_style`` and of clipmorph; ViT-AdaIN
    of the seed recipe, whatever its attributes are called and with the VGG of its losses inside; ONNX files of
    ``import_onnx_styles``. The others of foreign layout may be safetensors or ``torch.save`` files, bare or under
    ``state_dict`` / ``model_state_dict`` / ``model``, with ``module.`` or ``_orig_mod.`` prefixes.

    Raises:
        CheckpointError: the file is unreadable, holds code, or is of another architecture; the message lists the keys
            that do not fit.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    if path.suffix == ".onnx":
        return Checkpoint(path, import_onnx_styles(path).eval(), "onnx")
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
    if form != FORMAT or architecture not in _ARCHITECTURES:
        known = f"this version reads {FORMAT}, {', '.join(_ARCHITECTURES)}"
        raise CheckpointError(f"{path}: format {form}, architecture {architecture}; {known}")
    try:
        config = json.loads(metadata["config"])
        model = _network_class(architecture)(**{_FORMER_ARGUMENTS.get(key, key): config[key] for key in config})
        facts = json.loads(metadata.get("facts", "{}"))
        styles = styles_from_json(facts.pop(STYLES, {}))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: metadata does not describe a {architecture} network: {error}") from error
    load_strictly(path, model, from_int8(weights))
    return Checkpoint(path, model.eval(), "nst-ops", facts, styles)


def _network_class(architecture: str) -> Callable[..., Network]:
    if architecture == "vit_adain":
        from nst_ops.models.vit_adain import ViTAdaIN  # late: timm takes as long to import as torch

        return ViTAdaIN
    own = {each.architecture: each for each in (JohnsonNet, ConditionalNet, AnyStyleNet)}
    return own[architecture]
