"""Checkpoints of a training, and which run an output belongs to."""

from __future__ import annotations

import hashlib
import io
import json
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import torch

from nst_ops.collection.constants import RUN_FILE
from nst_ops.collection.run_lock import refuse_other_run, write_run_record
from nst_ops.config import ConfigError, TrainingConfig, TrainJohnsonConfig
from nst_ops.models.checkpoint_files import resolve_checkpoint
from nst_ops.storage import Folder, StorageFullError
from nst_ops.training.data import StoredPhotos
from nst_ops.training.setup import Material

STATE = "state.pt"
MODEL = "model.safetensors"
CARD = "model_card.md"
WORK = (STATE, MODEL, "trials")
"""What nobody wants to lose."""
OWN = (
    *(STATE, MODEL, CARD, "grid.png", "grids", "losses.json", "losses.png", "tensorboard", "run.json"),
    *("wandb", "wandb_id.txt", "sweep.json", "sweep.png", "trials", ".ray_train", ".ray_tune"),
)
"""What a run may have left, to be cleared before another starts there."""
_FORMAT = "nst-ops-state/1"


def read_state(output: Folder) -> dict[str, Any] | None:
    """The last state in ``output`` with its tensors on the CPU, or None where training has not begun.

    Raises:
        ConfigError: the file is damaged.
    """
    if not output.exists(STATE):
        return None
    try:
        data = output.read_bytes(STATE)
        state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if state.get("format") != _FORMAT:
            raise ValueError(f"format {state.get('format')}, this version reads {_FORMAT}")
    except Exception as error:  # torch raises many kinds here, all of them mean "not usable"
        raise ConfigError(
            f"'{output.uri(STATE)}' cannot be read ({error}): "
            "take another output, or --overwrite to start anew"
        ) from error
    return state


def write_state(output: Folder, state: dict[str, Any]) -> None:
    """Replace the state of ``output``.

    Raises:
        nst_ops.storage.StorageFullError: no space left; the state before is still there.
    """
    buffer = io.BytesIO()  # torch's own file writer hides that the disk is full
    torch.save({"format": _FORMAT, **state}, buffer)
    with output.atomic_write(STATE) as temporary:
        temporary.write_bytes(buffer.getbuffer())


ConfigT = TypeVar("ConfigT", bound=TrainingConfig)


def absolute(config: ConfigT) -> ConfigT:
    """The same with whole paths: workers stand in another folder."""
    style = Folder(config.data.style).uri() if config.data.style else None
    data = config.data.model_copy(update={"content": Folder(config.data.content).uri(), "style": style})
    return config.model_copy(update={"data": data, "output": Folder(config.output).uri()})


def fingerprint(
    config: TrainingConfig, material: Material, names: list[str], style_names: list[str]
) -> dict[str, Any]:
    """All that shapes the trained network: an output goes on only with the same."""
    train = config.train.model_dump(mode="json", exclude={"save_every"})
    sections = {"train": train, "loss": config.loss.model_dump(mode="json")}
    flat = {f"{section}.{key}": value for section, keys in sections.items() for key, value in keys.items()}
    network = config.model_dump(mode="json")["network"]
    start = network.pop("start_from")
    style = f"{len(style_names)} files, {_sha256(json.dumps(style_names).encode())}"
    if material.painting is not None:
        style = f"{_style(config)}, {_sha256(material.painting.tobytes())}"
    return {
        **flat,
        "network": network,
        "network.start_from": _sha256(resolve_checkpoint(start).read_bytes()) if start else None,
        "style": style,
        "data.content": f"{len(names)} files, {_sha256(json.dumps(names).encode())}",
        "data.resize": [config.resize, config.style_resize, *config.data.zoom],
        "data.held_out": config.data.held_out,
    }


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def describe(
    config: TrainingConfig, photos: StoredPhotos, styles: StoredPhotos | None = None
) -> dict[str, Any]:
    """What a checkpoint should say of its origin; names, but no paths of this machine."""
    sections = {"network", "loss", "train"} | ({"style_side", "style_margin"} if not styles else set())
    recipe = config.model_dump(mode="json", include=sections, exclude_none=True)
    recipe["data"] = {"resize": config.resize}
    if styles:
        recipe["data"] |= {"style_resize": config.style_resize, "zoom": list(config.data.zoom)}
    recipe["loss"]["weights"] = os.path.basename(config.loss.weights or "torchvision")
    for key in ("start_from", "encoder_weights"):
        if key in recipe["network"]:
            recipe["network"][key] = Path(recipe["network"][key]).stem
    counts = {
        "photos": len(photos.trained),
        "photos_held_out": len(set(photos.judged) - set(photos.trained)),
        "photos_skipped": len(photos.skipped),
    }
    if styles:
        counts |= {"style_pictures": len(styles.trained), "style_pictures_skipped": len(styles.skipped)}
    return {"style": _style(config), **config.facts, **counts, "recipe": recipe}


def _style(config: TrainingConfig) -> str:
    """A name for the style that is learned: the painting's, or that of the folder."""
    painting = config.style if isinstance(config, TrainJohnsonConfig) else None
    return os.path.basename((painting or config.data.style or "").rstrip("/"))


def claim_output(output: Folder, config: TrainingConfig, shaped_by: dict[str, Any]) -> None:
    """Refuse an output of another run, or clear it if asked to, and say what runs here.

    Args:
        output: where the run writes.
        config: its configuration.
        shaped_by: its ``fingerprint``.

    Raises:
        OutputInUseError: another run's work lies there; the message names the difference.
        ConfigError: it cannot be written to.
        StorageFullError: there is no space.
    """
    try:
        if config.overwrite:
            for relpath in OWN:
                output.remove(relpath)
        elif any(map(output.exists, WORK)) or not output.exists(RUN_FILE):
            refuse_other_run(output, shaped_by)  # a record alone, of a run that came to nothing, is no claim
        run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
        write_run_record(output, run_id, config.model_dump(mode="json"), shaped_by)
    except StorageFullError:
        raise
    except OSError as error:
        raise ConfigError(f"cannot write to output '{config.output}': {error.strerror or error}") from error
