"""The plain training loop: one process, one device.

What a step does lives in ``step.py`` and what is shown and kept in ``history.py``,
``progress.py`` and ``grid.py``, so that another runner can reuse them around its own loop.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nst_ops.models.checkpoint import save_checkpoint
from nst_ops.training.grid import save_grid, stylize
from nst_ops.training.history import History
from nst_ops.training.photos import Photos
from nst_ops.training.progress import TrainingProgress
from nst_ops.training.step import PerceptualStep


def train(
    step: PerceptualStep,
    photos: Photos,
    output: Path,
    *,
    steps: int,
    batch_size: int,
    crop: int,
    seed: int,
    style: Tensor,
    examples: Sequence[Tensor],
    save_every: int,
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Train for ``steps`` and leave ``model.safetensors``, losses and grids in ``output``.

    Args:
        step: what one step does; its ``averaged`` network is the one that is saved.
        photos: photographs in memory.
        output: folder for everything written; made if absent.
        steps: optimisation steps.
        batch_size: photographs per step.
        crop: side of the square crops, in pixels, a multiple of 4.
        seed: of the order, crops and mirroring of photographs.
        style: (1, 3, H, W) painting, for the grid.
        examples: photographs (1, 3, H, W) in [0, 1] for the grid.
        save_every: steps between checkpoints and grids.
        facts: what the checkpoint should say of its data and recipe.

    Returns:
        The facts of the last checkpoint: those given and those measured.
    """
    output.mkdir(parents=True, exist_ok=True)
    facts = dict(facts)
    rng = np.random.default_rng(seed)
    history = History()
    with TrainingProgress(steps, batch_size) as progress:
        for number in range(1, steps + 1):
            history.append(number, step(photos.batch(rng, batch_size, crop)))
            progress.advance(history)
            if number % save_every == 0 or number == steps:
                facts |= measured_facts(history, number, progress.images_per_s)
                save_checkpoint(output / "model.safetensors", step.averaged, facts)
                history.write(output)
                pairs = [(photo, stylize(step.averaged, photo)) for photo in examples]
                save_grid(output / f"grid_{number:06d}.png", style, pairs)
    return facts


def measured_facts(history: History, steps: int, images_per_s: float) -> dict[str, Any]:
    """Losses, speed and software of a run, for the checkpoint."""
    return {
        "steps": steps,
        "losses": {key: round(history.recent(key), 5) for key in ("content", "style", "variation")},
        "steps_skipped": sum(row["skipped"] for row in history.rows),
        "images_per_s": round(images_per_s, 2),
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
    }
