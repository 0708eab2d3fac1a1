"""What a run leaves in its output, and how it is taken up again.

``state.pt`` holds everything that the next step depends on; it is written last and replaced as a
whole, so whatever is killed when, a run goes on from its last complete checkpoint.
"""

from __future__ import annotations

import io
from typing import Any

import torch

from nst_ops.config import ConfigError
from nst_ops.storage import Folder

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
