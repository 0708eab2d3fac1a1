"""What every worker of a training runs: everything it needs is in its job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray.train import get_context
from ray.train.torch import get_device
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nst_ops.config import TrainingConfig
from nst_ops.storage import Folder, StorageFullError
from nst_ops.training.checkpointing import read_state
from nst_ops.training.data import Batches, StoredPhotos
from nst_ops.training.grid import exhibits
from nst_ops.training.loop import train
from nst_ops.training.optim import Ranks
from nst_ops.training.progress import Board
from nst_ops.training.recorder import RunRecorder
from nst_ops.training.step import DivergedError


@dataclass(frozen=True)
class TrainingJob:
    """One training run, as it travels to the workers."""

    config: TrainingConfig
    material: Any
    """Reference to a ``Material`` in the object store."""
    photos: StoredPhotos
    styles: StoredPhotos | None
    """Where the style is a set of pictures."""
    facts: dict[str, Any]
    threads: int
    board: Board


def train_worker(config: dict[str, TrainingJob]) -> dict[str, Any]:
    """Train as one of the workers of ``config["job"]``.

    Returns:
        From the first worker: ``facts`` of the finished run, or ``fatal``, the reason why trying
        again would not help. Everything else is raised, and Ray Train starts over from the state.
    """
    job = config["job"]
    torch.set_num_threads(job.threads)
    context = get_context()
    ranks = Ranks(context.get_world_rank(), context.get_world_size())
    try:
        return _train(job, ranks, get_device())
    except (DivergedError, StorageFullError) as error:  # raised by all workers alike
        return {"fatal": str(error)}


def _train(job: TrainingJob, ranks: Ranks, device: torch.device) -> dict[str, Any]:
    config, material = job.config, ray.get(job.material)

    def wrap(model: nn.Module) -> nn.Module:
        return DistributedDataParallel(model, gradient_as_bucket_view=True) if ranks.world > 1 else model

    trained, judged = job.photos.load()
    styles, judged_styles = job.styles.load() if job.styles else (None, None)
    step = material.step(config, device, wrap, ranks, styles)
    batches = Batches(
        trained,
        config.train.batch_size,
        config.train.image_size,
        config.train.seed,
        ranks.rank,
        ranks.world,
        styles,
        config.data.zoom,
    )
    state = ranks.share(read_state(Folder(config.output)) if ranks.first else None)
    if not ranks.first:
        train(step, batches, config.train, None, state)
        return {}
    shown = exhibits(step.model, judged, judged_styles, material.painting)
    with RunRecorder(config, step, shown, job.facts, state, job.board.put) as recorder:
        train(step, batches, config.train, recorder, state)
        return {"facts": recorder.facts}
