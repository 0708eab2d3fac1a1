"""The specification of a run: what every worker is told once, and by what two runs are told apart."""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from nst_ops.collection.constants import RESERVED, Labels
from nst_ops.collection.manifest import SCHEMA, Row
from nst_ops.collection.styles import NamedStyles, StyleChoice
from nst_ops.collection.units import Item
from nst_ops.config import ConfigError, StylizeConfig
from nst_ops.config.stylize import ModelConfig, StyleConfig, VideoConfig
from nst_ops.media.style_images import StyleImages
from nst_ops.media.video.encoders import check_encoder, encoder_for, settled
from nst_ops.models.checkpoint_files import read_styles
from nst_ops.storage import Folder, NameRules
from nst_ops.storage.names import ANY_DISK
from nst_ops.stylizers.registry import KINDS, ModelKind, is_shipped, kind_of
from nst_ops.temporal.smoothing import load_smoother

_log = logging.getLogger(__name__)

_NAMED = "name", "names", "blend", "random", "text"  # keys of the style of a network of many
_OF_IMAGES = "images", "mode", "alpha", "seed"  # keys of style images


@dataclass(frozen=True)
class RunSpec:
    """Everything that the workers of a run share. It is pickled to them."""

    config: StylizeConfig
    kind: ModelKind
    run_id: str
    model_sha256: str
    config_sha256: str
    choice: StyleChoice
    source_root: str  # what the URIs of all sources begin with, up to their paths
    style_images: StyleImages | None = None  # None for a network that takes none
    named_styles: NamedStyles | None = None  # None for a network without names of styles
    labels: Labels = field(default_factory=dict)  # types of the columns that a list has beside the URIs
    names: NameRules = ANY_DISK  # of outputs, but for the folder of their style

    @property
    def style(self) -> str:
        """The name of the style, or how many there are."""
        if self.style_images:
            return self.style_images.fingerprint
        return self.choice.names[0] if len(self.choice.names) == 1 else f"{len(self.choice.names)} styles"


LoadModel = Callable[[ModelKind, ModelConfig, float], ModelConfig]
"""Loads a model of a kind with ``style.alpha``, to see whether it does; raises OSError or ValueError. Returns
its configuration, with what the weights say in the place of what was left open."""


def load_model(kind: ModelKind, model: ModelConfig, alpha: float) -> ModelConfig:
    """Load a model in this process, and drop it again; see ``LoadModel``."""
    settled_section = getattr(kind.load(model, alpha), "settled", None)
    return model.model_copy(update={kind.own_section: settled_section}) if settled_section else model


def new_run_spec(config: StylizeConfig, source_root: str, load: LoadModel = load_model) -> RunSpec:
    """Specify a run of ``config``; raises ConfigError if model or styles do not load: now, not on every node."""
    try:
        kind = kind_of(config.model)
        path = kind.weights_file(config.model)
    except (OSError, ValueError) as error:
        raise ConfigError(str(error)) from error
    model = config.model.model_copy(update={"kind": kind.name})
    _refuse_unheeded(config.style, kind)
    style_images = None
    if kind.takes_style_images:
        side = config.style.side if "side" in config.style.model_fields_set else kind.style_side
        config = config.model_copy(update={"style": config.style.model_copy(update={"side": side})})
        style_images = StyleImages.open(config.style)
    # Workers of a cluster stand in another folder: relative paths would not mean the same there.
    places = {key: Folder(getattr(config, key)).uri() for key in ("input", "output")}
    config = config.model_copy(update={"model": model, "video": settled(config.video)} | places)
    if config.temporal.freeze_statistics and not kind.can_freeze:
        raise ConfigError(f"model.kind {kind.name} takes no temporal.freeze_statistics: leave it out")
    try:
        tried = kind.with_weights_file(model, path) if path else model
        load_smoother(config.temporal, "cpu")
        check_encoder(config.video)
        loaded = load(kind, tried.model_copy(update={"device": "cpu"}), config.style.alpha)
    except (OSError, ValueError) as error:
        raise ConfigError(str(error)) from error
    if kind.own_section:  # every worker is to take the same, and so is a run that goes on
        given, settled_section = (getattr(each, kind.own_section) for each in (model, loaded))
        model = model.model_copy(update={kind.own_section: settled_section})
        config = config.model_copy(update={"model": model})
        found = {key: value for key, value in settled_section if value != getattr(given, key)}
        if found:
            keys = " ".join(f"--model.{kind.own_section}.{key} {value}" for key, value in found.items())
            _log.warning("%s: found by trying, give others where the pictures are wrong: %s", path, keys)
    named_styles = None
    if path and kind.has_named_styles:
        named_styles = NamedStyles.choose(config.style, [*read_styles(path)], model.checkpoint)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest() if path else ""
    # A shipped style keeps its name: every node has its own copy, perhaps in another place.
    if path and not is_shipped(path) and "://" not in model.checkpoint:
        config = config.model_copy(update={"model": kind.with_weights_file(model, path.resolve())})
    choice = StyleChoice((path.stem if path else kind.name,))
    if several := style_images or named_styles:
        choice = StyleChoice(several.names, config.style.mode, config.style.seed)
    config_sha256 = hashlib.sha256(json.dumps(_shaping_settings(config, kind), sort_keys=True).encode()).hexdigest()
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    names = _name_rules(config, choice, style_images)
    styles = style_images, named_styles
    return RunSpec(config, kind, run_id, sha256, config_sha256, choice, source_root, *styles, names=names)


def fingerprint(spec: RunSpec) -> dict[str, Any]:
    """Return all that shapes the outputs of a run: two runs may share a folder only if it is the same."""
    sections = _shaping_settings(spec.config, spec.kind)
    flat = {f"{section}.{key}": value for section, keys in sections.items() for key, value in keys.items()}
    style = {"style.images" if spec.style_images else "style": spec.style}
    return {"input": Folder(spec.config.input).uri(), "model_sha256": spec.model_sha256, **style, **flat}


def present_fingerprint(earlier: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Return the fingerprint of an earlier run, with keys that its version did not know at their defaults."""
    defaults: dict[str, Any] = StylizeConfig(input="-", output="-").model_dump(mode="json")
    new = (key.rpartition(".") for key in now if key not in earlier)
    filled = {f"{section}.{key}": defaults[section][key] for section, _, key in new if key in defaults.get(section, ())}
    return filled | earlier


def manifest_row(spec: RunSpec, item: Item, style: str, **outcome: Any) -> Row:
    """Make a manifest row of ``item`` in ``style``, with the columns that are the same in all of the run."""
    source = {name: item[name] for name in ("item_id", "source_uri", "source_bytes", "source_version", "kind")}
    source["source_member"] = item.get("source_member")
    run = {name: getattr(spec, name) for name in ("model_sha256", "config_sha256", "run_id")}
    run |= {"model": spec.kind.name, "style": style, "finished_at": datetime.now(UTC)}
    if spec.named_styles:
        run["style_mix"] = spec.named_styles.mix(style, item).to_json()
    return dict.fromkeys(SCHEMA.names) | source | run | outcome


def _refuse_unheeded(style: StyleConfig, kind: ModelKind) -> None:
    """Raise ConfigError for a setting of the style that a kind would not heed, and for one that it lacks."""
    model = f"model.kind {kind.name}"
    changed = {key for key, field in StyleConfig.model_fields.items() if getattr(style, key) != field.default}
    if not kind.has_named_styles and (named := [key for key in _NAMED if key in changed]):
        remedy = "leave it out, or take a --model.checkpoint of many styles, such as styles"
        raise ConfigError(f"{model} takes no style.{named[0]}: {remedy}")
    if kind.has_named_styles and (other := [key for key in ("images", "alpha", "side") if key in changed]):
        instead = "strength is style.strength" if other[0] == "alpha" else "styles have names, see style.name"
        instead += "" if other[0] == "alpha" else "; any image is a style of --model.checkpoint any_style"
        raise ConfigError(f"{model} takes no style.{other[0]}: its {instead}")
    if kind.takes_style_images:
        strength_key = "style.alpha" if kind.takes_alpha else kind.strength_key
        if "strength" in changed and strength_key != "style.strength":
            raise ConfigError(f"{model} takes no style.strength: its strength is {strength_key}")
        if not style.images:
            remedy = "give --style.images, one image or a folder of them"
            raise ConfigError(f"{model} takes its style from images: {remedy}")
        if "alpha" in changed and not kind.takes_alpha:
            raise ConfigError(f"{model} takes no style.alpha: its strength is {kind.strength_key}")
    elif not kind.has_named_styles and (images := [key for key in _OF_IMAGES if key in changed]):
        raise ConfigError(f"{model} takes no style.{images[0]}: leave it out, or take --model.checkpoint any_style")


def _name_rules(config: StylizeConfig, choice: StyleChoice, images: StyleImages | None) -> NameRules:
    """Ask the output what it takes as names; ConfigError where two styles, or a style and the run, share a folder."""
    rules = Folder(config.output).name_rules()
    if not choice.has_folders:
        return rules
    taken = {rules.key(name): "with the run's own files" for name in RESERVED}
    for name in choice.names:
        style, remedy = (f"image '{images.relpaths[name]}'", "rename it") if images else (f"'{name}'", "leave it out")
        if owner := taken.get(rules.key(name)):
            raise ConfigError(f"style {style} would get the folder '{name}' {owner}: {remedy}")
        taken[rules.key(name)] = f"of style {style}"
    return rules.below(max(choice.names, key=lambda name: len(name.encode())))


def _shaping_settings(config: StylizeConfig, kind: ModelKind) -> dict[str, Any]:
    """Return the settings that shape outputs; how fast or where they are made does not."""
    sections = {"model", "style", "resize", "images", "video", "temporal", "shards"}
    dump = config.model_dump(mode="json", include=sections)
    for key in ("checkpoint", "device", "batch_size"):  # weights count by their hash
        dump["model"].pop(key)
    for section in ("images", "video"):
        dump[section].pop("max_megapixels")  # it says what fails
    if config.video.hdr == VideoConfig.model_fields["hdr"].default:  # runs of earlier versions do not have the key
        dump["video"].pop("hdr")
    if config.temporal.mode == "none":  # the rest of the section changes nothing
        dump["temporal"] = {key: dump["temporal"][key] for key in ("mode", "freeze_statistics")}
    if config.video.crf is None and not config.video.bitrate_kbps:
        dump["video"]["crf"] = encoder_for(config.video).default_crf
    own = {name: dump["model"].pop(name) for name in {k.own_section for k in KINDS.values()} - {""}}
    if kind.own_section:
        own[kind.own_section].pop(kind.weights_key.rpartition(".")[2], None)
        dump[f"model.{kind.own_section}"] = own[kind.own_section]
    any_model = {"preserve_color", "strength", "stroke", "text"}
    if kind.takes_style_images:  # they count by their own fingerprint
        of_kind = {"mode", "alpha", "seed", "preserve_color", "side"}
    else:
        of_kind = {"mode", "seed", "preserve_color", "strength", *_NAMED} - {"text"} if kind.has_named_styles else set()
    fields = StyleConfig.model_fields
    dump["style"] = {
        key: value
        for key, value in dump["style"].items()
        if key in of_kind or (key in any_model and value != fields[key].default)
    }
    return dump
