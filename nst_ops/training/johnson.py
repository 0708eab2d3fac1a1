"""Train a Johnson network to paint in the manner of one picture: the driver's side."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer

from nst_ops.collection.run_record import OutputInUseError, only_run, refuse_other_run, write_run_record
from nst_ops.config import ConfigError, TrainJohnsonConfig
from nst_ops.ray_connection import connected, cores_per_node, num_gpus, num_nodes, pyarrow_filesystem
from nst_ops.storage import Folder, StorageFullError
from nst_ops.stylizers import resolve_checkpoint
from nst_ops.training.board import Board
from nst_ops.training.ingest import StoredPhotos, ingest, list_photos
from nst_ops.training.material import Material, read_material
from nst_ops.training.progress import TrainingProgress
from nst_ops.training.state import OWN, read_state
from nst_ops.training.tracking import check_wandb
from nst_ops.training.worker import TrainingJob, train_worker

_log = logging.getLogger(__name__)

SCRATCH = ".ray_train"


class TrainingError(RuntimeError):
    """Why a training cannot go on; its last checkpoint stays."""


def train_johnson(config: TrainJohnsonConfig) -> dict[str, Any]:
    """Train on ``config.data.content`` and ``config.style`` into ``config.output``.

    Returns:
        The facts written into the checkpoint: data, recipe, losses, speed, versions.

    Raises:
        ConfigError: photographs, painting, weights or output that cannot be used; nothing was done.
        TrainingError: diverged, out of space, or failed too often; the same command goes on from
            the last checkpoint.
    """
    output = Folder(config.output)
    config = config.model_copy(update={"output": output.uri()})  # workers stand in another folder
    check_wandb(config.tracking.wandb_project)
    names = list_photos(config)
    material = read_material(config)
    try:
        with only_run(output):
            claim_output(output, config, fingerprint(config, material, names))
            state = read_state(output)
            if state and (state["done"] >= config.train.steps or state["stopped"]):
                _log.info("'%s' is trained already", output.uri())
                return dict(json.loads(state["facts"]))
            if state:
                _log.info("going on from step %d", state["done"])
            with connected(config.ray_address):
                return _run(config, material, ingest(config, names))
    except OutputInUseError as error:
        raise ConfigError(str(error)) from error
    except StorageFullError as error:
        raise TrainingError(str(error)) from error
    except TrainingFailedError as error:
        raise TrainingError(f"workers failed too often (--workers.max_failures): {error}") from error
    except ray.exceptions.RayError as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"Ray was lost ({reason}): run the same command again to go on") from error


def fingerprint(config: TrainJohnsonConfig, material: Material, names: list[str]) -> dict[str, Any]:
    """All that shapes the trained network: an output goes on only with the same."""
    train = config.train.model_dump(mode="json", exclude={"save_every"})
    sections = {"train": train, "loss": config.loss.model_dump(mode="json")}
    flat = {f"{section}.{key}": value for section, keys in sections.items() for key, value in keys.items()}
    start = config.network.start_from
    return {
        **flat,
        "network": config.network.model_dump(mode="json", exclude={"start_from"}),
        "network.start_from": _sha256(resolve_checkpoint(start).read_bytes()) if start else None,
        "style": f"{os.path.basename(config.style)}, {_sha256(material.painting.tobytes())}",
        "data.content": f"{len(names)} files, {_sha256(json.dumps(names).encode())}",
        "data.resize": config.resize,
        "data.held_out": config.data.held_out,
    }


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def describe(config: TrainJohnsonConfig, photos: StoredPhotos) -> dict[str, Any]:
    """What a checkpoint should say of its origin; names, but no paths of this machine."""
    recipe = config.model_dump(
        mode="json", include={"style_side", "style_margin", "network", "loss", "train"}, exclude_none=True
    )
    recipe["loss"]["weights"] = os.path.basename(config.loss.weights or "torchvision")
    if config.network.start_from:
        recipe["network"]["start_from"] = Path(config.network.start_from).stem
    counts = {
        "photos": len(photos.trained),
        "photos_held_out": len(set(photos.judged) - set(photos.trained)),
        "photos_skipped": len(photos.skipped),
    }
    return {"style": os.path.basename(config.style), **config.facts, **counts, "recipe": recipe}


def claim_output(output: Folder, config: TrainJohnsonConfig, shaped_by: dict[str, Any]) -> None:
    """Refuse an output of another run, or clear it if asked to, and say what runs here."""
    try:
        if config.overwrite:
            for relpath in OWN:
                output.remove(relpath)
        else:
            refuse_other_run(output, shaped_by)
        run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
        write_run_record(output, run_id, config.model_dump(mode="json"), shaped_by)
    except StorageFullError:
        raise
    except OSError as error:
        raise ConfigError(f"cannot write to output '{config.output}': {error.strerror or error}") from error


def _run(config: TrainJohnsonConfig, material: Material, photos: StoredPhotos) -> dict[str, Any]:
    """Train with Ray Train, and return the facts of the finished checkpoint."""
    use_gpu = config.workers.device != "cpu" and num_gpus() > 0
    if config.workers.device == "cuda" and not use_gpu:
        raise ConfigError("workers.device: the cluster has no GPU; take auto or cpu")
    count = config.workers.count or (num_gpus() if use_gpu else 1)
    if config.train.batch_size % count:
        raise ConfigError(
            f"train.batch_size {config.train.batch_size} cannot be shared out among {count} workers: "
            f"take a multiple of {count}"
        )
    threads = config.workers.threads or max(1, cores_per_node() * num_nodes() // count)
    board = Board()
    job = TrainingJob(
        config=config,
        material=ray.put(material),
        photos=photos,
        facts=describe(config, photos),
        threads=threads,
        board=board,
    )
    output = Folder(config.output)
    trainer = TorchTrainer(
        train_worker,  # type: ignore[arg-type]  # Ray's type knows no return value
        train_loop_config={"job": job},
        scaling_config=ScalingConfig(num_workers=count, use_gpu=use_gpu, resources_per_worker=None),
        run_config=RunConfig(
            name=SCRATCH,
            storage_path=output.root,
            storage_filesystem=pyarrow_filesystem(output),
            failure_config=FailureConfig(max_failures=config.workers.max_failures),
        ),
    )
    _log.info("%d worker%s, %s", count, "s" * (count > 1), "GPU" if use_gpu else f"{threads} threads each")
    with TrainingProgress(config.train.steps, config.train.batch_size, board.get):
        result: Any = trainer.fit()
    outcome: dict[str, Any] = result.return_value
    output.remove(SCRATCH)
    output.remove_scratch()
    if "fatal" in outcome:
        raise TrainingError(outcome["fatal"])
    return dict(outcome["facts"])
