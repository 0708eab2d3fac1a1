"""What every worker of a run is told once, and by what two runs are told apart."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nst_ops.collection.constants import RESERVED
from nst_ops.collection.manifest import SCHEMA, Row
from nst_ops.collection.styles import StyleChoice
from nst_ops.collection.units import Item
from nst_ops.config import ConfigError, StylizeConfig
from nst_ops.config.stylize import ModelConfig, StyleConfig
from nst_ops.media.video.encoders import check_encoder, encoder_for
from nst_ops.models.checkpoint_files import PRETRAINED, resolve_checkpoint
from nst_ops.storage import Folder
from nst_ops.stylizers import load_stylizer
from nst_ops.stylizers.style_images import StyleImages
from nst_ops.temporal.smoothing import load_smoother

FROM_PICTURES = ("vit_adain", "gatys")
"""Kinds of models that take their style from an example."""


@dataclass(frozen=True)
class RunSpec:
    """What every worker of a run is told once."""

    config: StylizeConfig
    run_id: str
    model: str
    model_sha256: str
    config_sha256: str
    choice: StyleChoice
    source_root: str
    """What the URIs of all sources begin with, up to their paths."""
    pictures: StyleImages | None = None
    """None for a network that has its own style."""

    @property
    def style(self) -> str:
        """The style, or how many there are, in a few words."""
        return self.pictures.fingerprint if self.pictures else self.choice.names[0]


def new_spec(config: StylizeConfig, source_root: str) -> RunSpec:
    """A run of ``config``, after a look whether model and styles load at all: now, not on every node.

    Raises:
        ConfigError: they do not.
    """
    model = config.model
    pictures = _pictures(config)
    # Workers of a cluster stand in another folder: relative paths would not mean the same there.
    absolute = {"input": Folder(config.input).uri(), "output": Folder(config.output).uri()}
    config = config.model_copy(update=absolute)
    if config.temporal.freeze_statistics and model.kind != "johnson":
        raise ConfigError(f"model.kind {model.kind} takes no temporal.freeze_statistics: leave it out")
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    try:
        path = _weights_file(model)
        tried = _with_weights(model, str(path)) if path else model
        load_stylizer(tried.model_copy(update={"device": "cpu"}), config.style.alpha)
        load_smoother(config.temporal, "cpu")
        check_encoder(config.video)
    except (OSError, ValueError) as error:
        raise ConfigError(str(error)) from error
    name = path.stem if path else model.kind
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest() if path else ""
    # A shipped style keeps its name: every node has its own copy, perhaps in another place.
    if path and path.parent != PRETRAINED and "://" not in model.checkpoint:
        config = config.model_copy(update={"model": _with_weights(model, str(path.resolve()))})
    choice = StyleChoice((name,))
    if pictures:
        choice = StyleChoice(pictures.names, config.style.mode, config.style.seed)
    shaping = _digest(_shaping(config))
    return RunSpec(config, run_id, model.kind, sha256, shaping, choice, source_root, pictures)


def fingerprint(spec: RunSpec) -> dict[str, Any]:
    """All that shapes the outputs of a run: two runs may share a folder only if it is the same."""
    sections = _shaping(spec.config)
    flat = {f"{section}.{key}": value for section, keys in sections.items() for key, value in keys.items()}
    style = {"style.images" if spec.pictures else "style": spec.style}
    return {"input": Folder(spec.config.input).uri(), "model_sha256": spec.model_sha256, **style, **flat}


def manifest_row(spec: RunSpec, item: Item, style: str, **outcome: Any) -> Row:
    """A manifest row of ``item`` in ``style`` with what is the same for every item of the run."""
    return {
        **dict.fromkeys(SCHEMA.names),
        **{key: item[key] for key in ("item_id", "source_uri", "source_bytes", "source_version", "kind")},
        "source_member": item.get("source_member"),
        "style": style,
        "model": spec.model,
        "model_sha256": spec.model_sha256,
        "config_sha256": spec.config_sha256,
        "run_id": spec.run_id,
        "finished_at": datetime.now(UTC),
        **outcome,
    }


def _weights_file(model: ModelConfig) -> Path | None:
    """The file that the model's weights come from, if it is one of ours to know."""
    if model.kind == "gatys":
        return Path(model.gatys.weights) if model.gatys.weights else None
    return None if model.kind == "identity" else resolve_checkpoint(model.checkpoint)


def _with_weights(model: ModelConfig, path: str) -> ModelConfig:
    """The model with the file ``path`` in the place of the one that it names."""
    if model.kind == "gatys":
        return model.model_copy(update={"gatys": model.gatys.model_copy(update={"weights": path})})
    return model.model_copy(update={"checkpoint": path})


def _pictures(config: StylizeConfig) -> StyleImages | None:
    """The style pictures that the model needs; a setting that it would not heed is an error."""
    kind, style = config.model.kind, config.style
    if kind not in FROM_PICTURES:
        for key in ("images", "mode", "alpha", "seed"):
            if getattr(style, key) != StyleConfig.model_fields[key].default:
                raise ConfigError(
                    f"model.kind {kind} takes no style.{key}: leave it out, or take --model.kind vit_adain"
                )
        return None
    if not style.images:
        raise ConfigError(
            f"model.kind {kind} takes its style from pictures: give --style.images, one or a folder of them"
        )
    if kind == "gatys" and style.alpha != 1:
        raise ConfigError("model.kind gatys takes no style.alpha: its strength is model.gatys.gram.weight")
    pictures = StyleImages.open(style)
    if style.mode == "each" and (taken := RESERVED & set(pictures.names)):
        raise ConfigError(
            f"style picture '{pictures.relpaths[min(taken)]}' would get the folder '{min(taken)}', where the "
            "run keeps its own files: rename it"
        )
    return pictures


def _shaping(config: StylizeConfig) -> dict[str, Any]:
    """The settings that shape outputs; how fast or where they are made does not."""
    sections = {"model", "style", "resize", "images", "video", "temporal", "shards"}
    dump = config.model_dump(mode="json", include=sections)
    for key in ("checkpoint", "device", "batch_size"):  # weights count by their hash
        dump["model"].pop(key)
    if config.temporal.mode == "none":  # the rest of the section changes nothing
        dump["temporal"] = {key: dump["temporal"][key] for key in ("mode", "freeze_statistics")}
    if config.video.crf is None and not config.video.bitrate_kbps:
        dump["video"]["crf"] = encoder_for(config.video).default_crf
    gatys = dump["model"].pop("gatys")
    if config.model.kind == "gatys":
        gatys.pop("weights")
        dump["model.gatys"] = gatys
    if config.model.kind in FROM_PICTURES:
        dump["style"].pop("images")  # they count by theirs
    else:
        dump["style"] = {"preserve_color": True} if config.style.preserve_color else {}
    return dump


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
