"""Train a network to paint in the manner of one picture, or of any: the driver's side."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer

from nst_ops.collection.run_lock import OutputInUseError, machine_lock
from nst_ops.config import ConfigError, FatalError, TrainingConfig
from nst_ops.ray_cluster import (
    connected,
    cores_per_node,
    num_cpus,
    num_gpus,
    num_nodes,
    pyarrow_filesystem,
)
from nst_ops.storage import Folder, StorageFullError
from nst_ops.training.checkpointing import absolute, claim_output, describe, fingerprint, read_state
from nst_ops.training.data import StoredPhotos, ingest, list_pictures
from nst_ops.training.progress import Board, TrainingProgress
from nst_ops.training.setup import Material, read_material
from nst_ops.training.tracking import check_wandb
from nst_ops.training.worker import TrainingJob, train_worker

_log = logging.getLogger(__name__)

SCRATCH = ".ray_train"


class TrainingError(FatalError):
    """Why a training cannot go on; its last checkpoint stays."""


def train_network(config: TrainingConfig) -> dict[str, Any]:
    """Train the network of ``config`` on its photographs and style, into ``config.output``.

    Returns:
        The facts written into the checkpoint: data, recipe, losses, speed, versions.

    Raises:
        ConfigError: photographs, style, weights or output that cannot be used; nothing was done.
        TrainingError: diverged, out of space, or failed too often; the same command goes on from
            the last checkpoint.
    """
    output = Folder(config.output)
    config = absolute(config)
    check_wandb(config.tracking.wandb_project)
    names = list_pictures(config)
    style_names = list_pictures(config, "style") if config.data.style else []
    material = read_material(config)
    try:
        with machine_lock(output):
            claim_output(output, config, fingerprint(config, material, names, style_names))
            state = read_state(output)
            if state and (state["done"] >= config.train.steps or state["stopped"]):
                _log.info("'%s' is trained already", output.uri())
                return dict(json.loads(state["facts"]))
            if state:
                _log.info("going on from step %d", state["done"])
            with connected(config.ray_address) as started_here:
                crew = _crew(config, complete=started_here)
                styles = ingest(config, style_names, "style") if style_names else None
                return _run(config, material, ingest(config, names), styles, crew)
    except OutputInUseError as error:
        raise ConfigError(str(error)) from error
    except StorageFullError as error:
        raise TrainingError(str(error)) from error
    except TrainingFailedError as error:
        raise TrainingError(f"workers failed too often (--workers.max_failures): {error}") from error
    except ray.exceptions.RayError as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"Ray was lost ({reason}): run the same command again to go on") from error


@dataclass(frozen=True)
class Crew:
    """The workers of a training."""

    count: int
    use_gpu: bool
    threads: int
    """CPU threads of each."""

    def __str__(self) -> str:
        """For the log."""
        each = "a GPU" if self.use_gpu else f"{self.threads} CPU thread{'s' * (self.threads > 1)}"
        return f"{self.count} worker{'s' * (self.count > 1)} with {each} each"


def most_workers(batch_size: int, devices: int) -> int:
    """As many workers as there are devices, or the next fewer that share a batch evenly."""
    return next(count for count in range(devices, 0, -1) if batch_size % count == 0)


def _crew(config: TrainingConfig, complete: bool) -> Crew:
    """Who trains, by what the cluster has.

    Args:
        config: the run's.
        complete: no more nodes can come, so what is not there now will never be.

    Raises:
        ConfigError: what is asked for cannot be had, or the batch cannot be shared out.
    """
    use_gpu = config.workers.device != "cpu" and num_gpus() > 0
    if config.workers.device == "cuda" and not use_gpu:
        raise ConfigError("workers.device: the cluster has no GPU; take auto or cpu")
    count = config.workers.count or most_workers(config.train.batch_size, num_gpus() if use_gpu else 1)
    if config.train.batch_size % count:
        raise ConfigError(
            f"train.batch_size {config.train.batch_size} cannot be shared out among {count} workers: "
            f"take a multiple of {count}"
        )
    kind, there = ("GPU", num_gpus()) if use_gpu else ("CPU", num_cpus())
    if count > there:
        lack = f"workers.count: {count} workers need {count} {kind}s, the cluster has {there}"
        if complete:
            raise ConfigError(lack)
        _log.warning("%s: waiting for more nodes", lack)
    threads = config.workers.threads or max(1, cores_per_node() * num_nodes() // count)
    return Crew(count, use_gpu, threads)


def _run(
    config: TrainingConfig, material: Material, photos: StoredPhotos, styles: StoredPhotos | None, crew: Crew
) -> dict[str, Any]:
    """Train with Ray Train, and return the facts of the finished checkpoint."""
    board = Board()
    job = TrainingJob(
        config=config,
        material=ray.put(material),
        photos=photos,
        styles=styles,
        facts=describe(config, photos, styles),
        threads=crew.threads,
        board=board,
    )
    output = Folder(config.output)
    trainer = TorchTrainer(
        train_worker,  # type: ignore[arg-type]  # Ray's type knows no return value
        train_loop_config={"job": job},
        scaling_config=ScalingConfig(num_workers=crew.count, use_gpu=crew.use_gpu),
        run_config=RunConfig(
            name=SCRATCH,
            storage_path=output.root,
            storage_filesystem=pyarrow_filesystem(output),
            failure_config=FailureConfig(max_failures=config.workers.max_failures),
        ),
    )
    _log.info("starting %s", crew)
    try:
        with TrainingProgress(config.train.steps, config.train.batch_size, board.get):
            result: Any = trainer.fit()
    except SystemExit as stop:  # Ray Train's answer to Ctrl-C, which says nothing
        raise KeyboardInterrupt from stop
    outcome: dict[str, Any] = result.return_value
    output.remove(SCRATCH)
    output.remove_scratch()
    if "fatal" in outcome:
        raise TrainingError(outcome["fatal"])
    return dict(outcome["facts"])
