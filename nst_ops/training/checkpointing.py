"""Checkpoints of a training, and the run that an output belongs to."""

import hashlib
import io
import json
import os
import uuid
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import ValidationError

from nst_ops.collection.constants import RUN_FILE
from nst_ops.collection.run_lock import refuse_other_run, write_run_record
from nst_ops.config import ConfigError, TrainingConfig, TrainJohnsonConfig, TrainMultiStyleConfig
from nst_ops.config.base import rename_keys, section_of
from nst_ops.models.checkpoint_files import resolve_checkpoint
from nst_ops.storage import Folder, StorageFullError
from nst_ops.training.data import StoredImages
from nst_ops.training.setup import TrainingSetup

ConfigT = TypeVar("ConfigT", bound=TrainingConfig)

STATE, MODEL, CARD = "state.pt", "model.safetensors", "model_card.md"
WORK = (STATE, MODEL, "trials")  # files of value: an output that holds one is not given to another run
OWN = (
    *(STATE, MODEL, CARD, "grid.png", "grids", "losses.json", "losses.png", "tensorboard", "run.json"),
    *("wandb", "wandb_id.txt", "sweep.json", "sweep.png", "trials", ".ray_train", ".ray_tune"),
)
"""Files that a run may have left, removed before another starts there."""
_FORMAT = "nst-ops-state/1"
_FORMER = {"photos": "content_images", "style_pictures": "style_images"}
_FORMER_FACTS = {old + kind: new + kind for old, new in _FORMER.items() for kind in ("", "_held_out", "_skipped")}


def read_state(output: Folder) -> dict[str, Any] | None:
    """Read the last state in ``output`` to the CPU, None if training has not begun; raises ConfigError if damaged."""
    if not output.exists(STATE):
        return None
    try:
        stored = io.BytesIO(output.read_bytes(STATE))
        state: dict[str, Any] = torch.load(stored, map_location="cpu", weights_only=True)
        if state.get("format") != _FORMAT:
            raise ValueError(f"format {state.get('format')}, this version reads {_FORMAT}")
    except Exception as error:  # torch raises many kinds here, all of them mean "not usable"
        raise ConfigError(
            f"'{output.uri(STATE)}' cannot be read ({error}): take another output, or --overwrite to start anew"
        ) from error
    return _present_state(state)


def write_state(output: Folder, state: dict[str, Any]) -> None:
    """Replace the state of ``output``; after StorageFullError the state before is still there."""
    buffer = io.BytesIO()  # torch's own file writer hides that the disk is full
    torch.save({"format": _FORMAT, **state}, buffer)
    with output.atomic_write(STATE) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def _present_state(state: dict[str, Any]) -> dict[str, Any]:
    """Give a state that version 0.1 has written the present names."""
    if "facts" in state:
        facts = {_FORMER_FACTS.get(key, key): value for key, value in json.loads(state["facts"]).items()}
        state = state | {"facts": json.dumps(facts, sort_keys=True)}
    if "rivalry" not in state.get("step", {}):
        return state
    step = dict(state["step"])
    former = step.pop("rivalry")
    views = {"colour": "color", "grey": "gray"}
    weights = {}
    for key, value in former["adversary"].items():
        room, view, rest = key.split(".", 2)
        weights[f"{room}.{views.get(view, view)}.{rest}"] = value
    step["discriminator"] = {"weights": weights, "optimizer": former["optimizer"]}
    history = {
        kind: [{"discriminator" if key == "judge" else key: row[key] for key in row} for row in rows]
        for kind, rows in json.loads(state["history"]).items()
    }
    return state | {"step": step, "history": json.dumps(history)}


def absolute(config: ConfigT) -> ConfigT:
    """Return ``config`` with absolute paths: workers run in another folder."""
    style = Folder(config.data.style).uri() if config.data.style else None
    data = config.data.model_copy(update={"content": Folder(config.data.content).uri(), "style": style})
    return config.model_copy(update={"data": data, "output": Folder(config.output).uri()})


def fingerprint(
    config: TrainingConfig, setup: TrainingSetup, names: list[str], style_names: list[str]
) -> dict[str, Any]:
    """Return all that shapes the trained network: an output goes on only with the same."""
    sections = config.model_dump(mode="json", exclude={"train": {"save_every"}})
    network = sections["network"]
    start = network.pop("start_from")
    style = f"{len(style_names)} files, {_sha256(json.dumps(style_names).encode())}"
    if setup.style_image is not None:
        style = f"{_style(config)}, {_sha256(setup.style_image.tobytes())}"
    if setup.styles is not None:
        style = f"{len(setup.styles.names)} paintings, {setup.styles.digest}"
    return {f"{name}.{key}": value for name in ("train", "loss") for key, value in sections[name].items()} | {
        "network": network,
        "network.start_from": _sha256(resolve_checkpoint(start).read_bytes()) if start else None,
        "style": style,
        "data.content": f"{len(names)} files, {_sha256(json.dumps(names).encode())}",
        "data.resize": [config.resize, config.style_resize, *config.data.zoom],
        "data.held_out": config.data.held_out,
    }


def _present_fingerprint(kind: type[TrainingConfig], earlier: dict[str, Any]) -> dict[str, Any]:
    """Give a fingerprint that an older version has written, of a configuration of ``kind``, today's keys."""
    present = dict(earlier)
    try:
        for section in ("train", "loss"):
            model = section_of(kind, section)
            assert model is not None, section
            keys = [key for key in earlier if key.startswith(f"{section}.")]
            values = model.model_validate({key.partition(".")[2]: present.pop(key) for key in keys})
            known = values.model_dump(mode="json", exclude={"save_every"})
            present |= {f"{section}.{key}": value for key, value in known.items()}
        present["network"] = rename_keys(kind, {"network": earlier["network"]})["network"]
    except (ValidationError, KeyError):  # not of a training; the difference will be told
        return earlier
    return present


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def describe(config: TrainingConfig, content: StoredImages, styles: StoredImages | None = None) -> dict[str, Any]:
    """Return facts on the origin of a checkpoint; names, but no paths of this machine."""
    sections = {"network", "loss", "train"} | ({"style_side", "style_margin"} if not styles else set())
    recipe = config.model_dump(mode="json", include=sections, exclude_none=True)
    recipe["data"] = {"resize": config.resize, "zoom": list(config.data.zoom)}
    if styles:
        recipe["data"] |= {"style_resize": config.style_resize}
    recipe["loss"]["weights"] = os.path.basename(recipe["loss"].get("weights") or "torchvision")
    files = [key for key in ("start_from", "encoder_weights") if key in recipe["network"]]
    recipe["network"] |= {key: Path(recipe["network"][key]).stem for key in files}
    counts = {
        "content_images": len(content.trained),
        "content_images_held_out": len(set(content.held_out) - set(content.trained)),
        "content_images_skipped": len(content.skipped),
    }
    if styles:
        counts |= {"style_images": len(styles.trained), "style_images_skipped": len(styles.skipped)}
    return {"style": _style(config), **config.facts, **counts, "recipe": recipe}


def _style(config: TrainingConfig) -> str:
    """Return a name for the style that is learned: the style image's, or that of the folder of many."""
    if isinstance(config, TrainMultiStyleConfig):
        return ", ".join(os.path.basename(uri.rstrip("/")) for uri in config.paintings)
    style_image = config.style if isinstance(config, TrainJohnsonConfig) else None
    return os.path.basename((style_image or config.data.style or "").rstrip("/"))


def claim_output(output: Folder, config: TrainingConfig, shaped_by: dict[str, Any]) -> None:
    """Refuse an output of another run, or clear it if asked to; record this run, with its fingerprint.

    Raises OutputInUseError if another run's work lies there, with the difference; ConfigError if it cannot be written
    to, StorageFullError.
    """
    try:
        if config.overwrite:
            for relpath in OWN:
                output.remove(relpath)
        elif any(map(output.exists, WORK)) or not output.exists(RUN_FILE):
            # A record alone, of a run that came to nothing, is no claim.
            refuse_other_run(output, shaped_by, partial(_present_fingerprint, type(config)))
        run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
        write_run_record(output, run_id, config.model_dump(mode="json"), shaped_by)
    except StorageFullError:
        raise
    except OSError as error:
        raise ConfigError(f"cannot write to output '{config.output}': {error.strerror or error}") from error
