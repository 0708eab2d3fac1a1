"""One worker of a training, in this process or in one that Ray has started. No Ray in here."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from nst_ops.config import FatalError, TrainingConfig
from nst_ops.storage import Folder
from nst_ops.training.checkpointing import read_state
from nst_ops.training.data import Batches, StoredImages
from nst_ops.training.grid import validation_images
from nst_ops.training.loop import train
from nst_ops.training.optim import Ranks
from nst_ops.training.recorder import Report, RunRecorder
from nst_ops.training.setup import TrainingSetup

Facts = dict[str, Any]  # facts on a run, for its checkpoint and card


class TrainingError(FatalError):
    """A training that cannot go on; its last checkpoint stays."""


@dataclass(frozen=True)
class TrainingJob:
    """All that a worker needs for a training."""

    config: TrainingConfig
    setup: TrainingSetup
    content: StoredImages
    styles: StoredImages | None  # the set of style images, where there is one
    facts: Facts  # those that are known before it starts


def train_worker(job: TrainingJob, ranks: Ranks, device: torch.device, report: Report | None) -> Facts:
    """Train ``job`` as one of ``ranks``, from the last checkpoint in its output if there is one.

    ``report`` gets the progress, of the first worker only. Returns facts on the finished run, empty but for the first
    worker. Raises DivergedError, or StorageFullError if a checkpoint does not fit, on all workers alike.
    """
    config, train_config = job.config, job.config.train
    content, held_out = job.content.split()
    styles, held_out_styles = job.styles.split() if job.styles else (None, None)
    # Rows of a network of many styles that no worker draws in a step have no gradient.
    unused = job.setup.styles is not None
    ddp = partial(DistributedDataParallel, gradient_as_bucket_view=True, find_unused_parameters=unused)
    wrap = ddp if ranks.world > 1 else None
    step = job.setup.step(config, device, wrap, ranks, styles)
    size, seed = (train_config.batch_size, train_config.image_size), train_config.seed
    batches = Batches(content, *size, seed, ranks.rank, ranks.world, styles, config.data.zoom)
    state = ranks.share(read_state(Folder(config.output)) if ranks.first else None)
    if not ranks.first or report is None:
        train(step, batches, train_config, None, state)
        return {}
    shown = validation_images(step.network, held_out, held_out_styles, job.setup.style_image)
    with RunRecorder(config, step, shown, job.facts | job.setup.facts(), state, report) as recorder:
        train(step, batches, train_config, recorder, state)
        return recorder.facts


def most_workers(batch_size: int, devices: int) -> int:
    """Return as many workers as there are devices, or the next fewer that share a batch evenly."""
    return next(count for count in range(devices, 0, -1) if batch_size % count == 0)


def share_of(gpu: bool, threads: int) -> str:
    """Say what a worker has, for the log."""
    return "a GPU" if gpu else f"{threads} CPU thread{'s' * (threads > 1)}"
