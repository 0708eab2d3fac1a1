"""Training of a network, from its configuration to a checkpoint: the driver's side."""

import contextlib
import json
import logging
from collections.abc import Iterator

import torch

from nst_ops.collection.run_lock import machine_lock
from nst_ops.config import ConfigError, TrainingConfig
from nst_ops.models.device import find_device, granted_gpus
from nst_ops.ray_cluster import cluster_at_hand, cores_per_node
from nst_ops.storage import Folder, StorageFullError
from nst_ops.training.checkpointing import absolute, claim_output, describe, fingerprint, read_state
from nst_ops.training.data import ingest, list_images
from nst_ops.training.optim import Ranks
from nst_ops.training.progress import ProgressTracker
from nst_ops.training.setup import TrainingSetup, read_setup
from nst_ops.training.step import DivergedError
from nst_ops.training.tracking import check_wandb
from nst_ops.training.worker import Facts, TrainingError, TrainingJob, most_workers, share_of, train_worker

_log = logging.getLogger(__name__)


def train_network(config: TrainingConfig) -> Facts:
    """Train the network of ``config`` on its images and style, into ``config.output``.

    Returns the facts written into the checkpoint: data, recipe, losses, speed, versions. Raises ConfigError if images,
    style, weights, workers or output cannot be used, before anything is done; TrainingError if diverged, out of space,
    or failed too often: the same command goes on from the last checkpoint; FatalError if Ray does not start.
    """
    output = Folder(config.output)
    config = absolute(config)
    on_ray = uses_ray(config)
    check_wandb(config.tracking.wandb_project)
    names = list_images(config, "content")
    style_names = list_images(config, "style") if config.data.style else []
    setup = read_setup(config)
    with alone_in(output):
        claim_output(output, config, fingerprint(config, setup, names, style_names))
        state = read_state(output)
        if state and (state["done"] >= config.train.steps or state["stopped"]):
            _log.info("'%s' is trained already", output.uri())
            return dict(json.loads(state["facts"]))
        if state:
            _log.info("going on from step %d", state["done"])
        if on_ray:
            from nst_ops.training.on_ray import train_on_ray  # Ray takes seconds to import

            facts = train_on_ray(config, setup, names, style_names)
        else:
            facts = _train_here(config, setup, names, style_names)
        output.remove_scratch()
        return facts


def uses_ray(config: TrainingConfig) -> bool:
    """Return whether ``config`` is trained by workers of Ray: asked for, at hand, or needed for several.

    Raises ConfigError if several workers are asked for, but no Ray.
    """
    count = config.workers.count
    if config.executor == "auto":
        if count is None and config.workers.device != "cpu":
            count = most_workers(config.train.batch_size, max(1, torch.cuda.device_count()))
        return (count or 1) > 1 or cluster_at_hand(config.ray_address)
    if config.executor == "local" and (count or 1) > 1:
        raise ConfigError(f"workers.count: {count} workers need Ray: take --executor auto or ray, or --workers.count 1")
    return config.executor == "ray"


def local_device(config: TrainingConfig) -> torch.device:
    """Return the device of a worker in this process; raises ConfigError if a GPU is asked for and there is none."""
    if config.workers.device == "cuda" and not torch.cuda.is_available() and not granted_gpus():
        raise ConfigError("workers.device: this machine has no GPU; take auto or cpu")
    try:
        return find_device(config.workers.device)
    except ValueError as error:
        raise ConfigError(f"workers.device: {error}") from error


@contextlib.contextmanager
def local_threads(config: TrainingConfig) -> Iterator[int]:
    """Let torch use the CPU threads of one worker, all cores by default, and yield their number."""
    before, threads = torch.get_num_threads(), config.workers.threads or cores_per_node()
    torch.set_num_threads(threads)
    try:
        yield threads
    finally:
        torch.set_num_threads(before)


def _train_here(config: TrainingConfig, setup: TrainingSetup, names: list[str], style_names: list[str]) -> Facts:
    """Train with one worker in this process, and return the facts of the finished checkpoint."""
    device = local_device(config)
    styles = ingest(config, style_names, "style") if style_names else None
    content = ingest(config, names, "content")
    job = TrainingJob(config, setup, content, styles, describe(config, content, styles))
    with local_threads(config) as threads:
        _log.info("starting 1 worker with %s", share_of(device.type == "cuda", threads))
        with ProgressTracker(config.train.steps, config.train.batch_size) as progress:
            return train_worker(job, Ranks(), device, progress.update)


@contextlib.contextmanager
def alone_in(output: Folder) -> Iterator[None]:
    """Be the only run of this machine that writes to ``output``, else raise OutputInUseError.

    Raises TrainingError with the reason why the run cannot go on: diverged, or out of space.
    """
    try:
        with machine_lock(output):
            yield
    except (DivergedError, StorageFullError) as error:
        raise TrainingError(str(error)) from error
