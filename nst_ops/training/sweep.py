"""Trials of loss weights, side by side."""

from __future__ import annotations

import io
import itertools
import json
import logging
import math
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from PIL import Image
from ray import tune
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from nst_ops.collection.run_lock import OutputInUseError, machine_lock
from nst_ops.config import ConfigError, TrainJohnsonConfig
from nst_ops.losses import PerceptualLoss, add_noise, noise_stability
from nst_ops.models.johnson import JohnsonNet
from nst_ops.models.vgg import VGGFeatures
from nst_ops.ray_cluster import connected, cores_per_node, num_gpus, num_nodes, pyarrow_filesystem
from nst_ops.storage import Folder, StorageFullError
from nst_ops.training.checkpointing import absolute, claim_output, fingerprint
from nst_ops.training.data import Batches, StoredPhotos, UInt8Array, ingest, list_pictures, to_tensor
from nst_ops.training.grid import png_bytes, stylize, to_pixels
from nst_ops.training.loop import Speed, train
from nst_ops.training.progress import TrainingProgress
from nst_ops.training.run import TrainingError
from nst_ops.training.setup import Material, read_material
from nst_ops.training.step import DivergedError, StepFigures

METRICS = ("content", "gram", "variation", "temporal")
SWEPT = ("gram", "variation", "noise")
"""Terms of the loss whose weights are tried."""
TRIALS = "trials"
ROW = "row.json"
SHOWN = 4
"""Photographs that are shown of a trial."""

_REPORT_EVERY_S = 1.0


@dataclass(frozen=True)
class Trial:
    """What one combination of weights came to."""

    weights: dict[str, float]
    """By name of the loss term: gram, variation, noise."""
    metrics: dict[str, float] = field(default_factory=dict)
    """On the held-out photographs, unweighted, measured alike in every trial; empty if it failed."""
    images_per_s: float = 0.0
    error: str | None = None
    """Why there is no result."""

    @property
    def name(self) -> str:
        """Its folder under ``trials/``."""
        return trial_name(self.weights)

    @property
    def caption(self) -> str:
        """Its weights, for a person."""
        return " · ".join(f"{name} {weight:g}" for name, weight in self.weights.items())


@dataclass(frozen=True)
class TrialJob:
    """What every trial needs, as it travels to the workers."""

    config: TrainJohnsonConfig
    material: Any
    """Reference to a ``Material`` in the object store."""
    photos: StoredPhotos
    device: str
    threads: int


class _Report:
    """The recorder of a trial: says now and then how far it is, and counts what changed nothing."""

    def __init__(self) -> None:
        self.skipped = 0
        self._reported = time.monotonic()

    def step(self, number: int, figures: StepFigures, speed: Speed) -> None:
        """A step is done."""
        self.skipped += figures.skipped
        if time.monotonic() - self._reported > _REPORT_EVERY_S:
            self._reported = time.monotonic()
            tune.report({"step": number})

    def validate(self, number: int) -> float:
        """Judged after the last step, by what all trials have in common."""
        return 0.0

    def save(self, number: int, state: dict[str, Any], speed: Speed) -> None:
        """Nothing to go on from: a trial is short."""


def run_trial(space: dict[str, Any], job: TrialJob) -> None:
    """What a worker of Tune runs. Only the loss of its process is left to Tune, which starts it again."""
    weights, config = space["weights"], job.config
    output = Folder(config.output)
    try:
        try:
            trial, pictures = _train(weights, job)
        except DivergedError as error:
            trial, pictures = Trial(weights, error=f"diverged: {error}"), None
        for index, picture in enumerate([] if pictures is None else pictures):
            output.write_bytes(f"{TRIALS}/{trial.name}/{index}.png", png_bytes(to_pixels(picture[None])))
        output.write_bytes(f"{TRIALS}/{trial.name}/{ROW}", json.dumps(asdict(trial), indent=2).encode())
    except Exception as error:  # of any kind; without a row in the output it is tried again the next time
        trial = Trial(weights, error=reason(error))
    tune.report({"step": config.train.steps, "row": asdict(trial)})


def _train(weights: dict[str, float], job: TrialJob) -> tuple[Trial, Tensor]:
    """The row and the stylized photographs, (N, 3, S, S), of one combination."""
    torch.set_num_threads(job.threads)
    material: Material = ray.get(job.material)
    config = weighted(job.config, **weights)
    step = material.step(config, torch.device(job.device))
    trained, judged = job.photos.load()
    batches = Batches(trained, config.train.batch_size, config.train.image_size, config.train.seed)
    report = _Report()
    speed = train(step, batches, config.train, report)
    if report.skipped > config.train.steps / 2:  # too few in a row for the step to give up
        raise DivergedError(
            f"loss or gradient was not finite in {report.skipped} of {config.train.steps} steps"
        )
    photos = to_tensor(judged.take(range(len(judged))), JohnsonNet.stride)
    assert material.painting is not None, "a sweep is of one painting"
    painting = to_tensor(material.painting).to(step.device)
    stylized, metrics = measure(step.averaged, photos, painting, material.vgg, config)
    if not all(math.isfinite(value) for value in metrics.values()):
        raise DivergedError("what it paints is not finite")
    return Trial(weights, metrics, float(f"{speed.images_per_s:.4g}")), stylized


def measure(
    network: nn.Module, photos: Tensor, painting: Tensor, vgg: VGGFeatures, config: TrainJohnsonConfig
) -> tuple[Tensor, dict[str, float]]:
    """Stylize ``photos`` and judge the result, whatever the weights that the network was trained with.

    Args:
        network: on its device.
        photos: (N, 3, H, W) in [0, 1].
        painting: (1, 3, H', W') in [0, 1], on the device.
        vgg: with the taps of content and Gram, on the device.
        config: taps, scales and units of the terms, amplitude and share of the noise.

    Returns:
        (N, 3, H, W) on the CPU, and ``METRICS``: the unweighted terms, and as ``temporal`` the mean
        squared change of the paintings when their photographs get the noise of ``config.loss.noise``,
        the same noise for every network.
    """
    loss = PerceptualLoss(vgg, painting, weighted(config, content=1.0, gram=1.0, variation=1.0).loss)
    noise = config.loss.noise
    noisy = add_noise(photos, noise.amplitude, noise.share, torch.Generator().manual_seed(config.train.seed))
    stylized, of_noisy = stylize(network, photos), stylize(network, noisy)
    with torch.no_grad():
        terms = loss.score(stylized.to(painting.device), photos.to(painting.device)).terms
    terms |= {"temporal": noise_stability(stylized, of_noisy)}
    return stylized, {name: float(f"{float(terms[name]):.5g}") for name in METRICS}


def reason(error: BaseException | None) -> str:
    """One line on what went wrong; Ray's own errors have a stack trace before it."""
    if error is None:
        return "it did not finish"
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[-1 if isinstance(error, ray.exceptions.RayError) else 0]}"


def weighted(config: TrainJohnsonConfig, **weights: float) -> TrainJohnsonConfig:
    """The same configuration with other weights of loss terms."""
    terms = {
        name: getattr(config.loss, name).model_copy(update={"weight": weight})
        for name, weight in weights.items()
    }
    return config.model_copy(update={"loss": config.loss.model_copy(update=terms)})


def trial_name(weights: Mapping[str, float]) -> str:
    """The folder of a combination under ``trials/``."""
    return "_".join(f"{name}_{weight:.12g}" for name, weight in weights.items())


def figure(value: float | None) -> str:
    """Three digits, or nothing."""
    return "" if value is None else f"{value:.3g}"


_log = logging.getLogger(__name__)

PICTURE, ROWS, SCRATCH = "sweep.png", "sweep.json", ".ray_tune"

_CONTENTS = f"{TRIALS}/content"


@dataclass(frozen=True)
class SweepResult:
    """All trials, sorted by their weights, and where to look at them."""

    trials: list[Trial]
    picture: str
    """URI of the picture."""

    @property
    def exit_code(self) -> int:
        """0, or 1 if there is not one result."""
        return int(all(trial.error for trial in self.trials))

    def table(self) -> str:
        """The figures as text for a terminal or a log, and how to go on."""
        table = Table(title="sweep: losses on held-out photographs", title_justify="left")
        for name in (*(f"{name} weight" for name in SWEPT), *METRICS, "images/s"):
            table.add_column(name, justify="right")
        for trial in self.trials:
            weights = [f"{trial.weights[name]:g}" for name in SWEPT]
            metrics = [figure(trial.metrics.get(name)) for name in METRICS]
            table.add_row(*weights, *metrics, "failed" if trial.error else f"{trial.images_per_s:.1f}")
        console = Console(width=None if Console().is_terminal else 120, markup=False, highlight=False)
        with console.capture() as capture:
            console.print(table)
        chosen = " ".join(f"--loss.{name}.weight {x}" for name, x in zip(SWEPT, "XYZ", strict=True))
        reasons = [f"failed: {trial.caption}: {trial.error}" for trial in self.trials if trial.error]
        hint = "then train with the weights you like, into another --output:"
        return "\n".join(
            [capture.get().rstrip("\n"), *reasons, f"look at {self.picture}", hint, f"  {chosen}"]
        )


def sweep(config: TrainJohnsonConfig) -> SweepResult:
    """Train shortly with every combination of ``config.trials`` into ``config.output``.

    All trials start from the same network and see the same crops in the same order. One that
    fails is a cell with its reason, and no harm to the others.

    Raises:
        ConfigError: photographs, painting, weights or output that cannot be used; nothing was done.
        TrainingError: out of space, or Ray was lost; the same command runs what is missing.
    """
    output = Folder(config.output)
    config = absolute(config)
    combinations = _combinations(config)
    alike = dict.fromkeys(SWEPT, 1.0)  # what is swept is no difference between two sweeps
    names = list_pictures(config)
    material = read_material(weighted(config, content=1.0, **alike))
    assert material.painting is not None, "the configuration sees to it"
    train_config = config.train.model_copy(update={"steps": config.trials.steps, "early_stop": None})
    config = config.model_copy(update={"train": train_config})
    shaped_by = fingerprint(weighted(config, **alike), material, names, []) | {
        "sweep.steps": config.trials.steps
    }
    try:
        with machine_lock(output):
            claim_output(output, config, shaped_by)
            finished = _finished(output)
            pending = [weights for weights in combinations if trial_name(weights) not in finished]
            if len(pending) < len(combinations):
                _log.info(
                    "%d of %d trials are done already", len(combinations) - len(pending), len(combinations)
                )
            if pending:
                with connected(config.ray_address):
                    finished |= _run(config, material, ingest(config, names), pending)
            return _conclude(
                output, config, material.painting, [finished[trial_name(each)] for each in combinations]
            )
    except OutputInUseError as error:
        raise ConfigError(str(error)) from error
    except StorageFullError as error:
        raise TrainingError(str(error)) from error
    except (ray.exceptions.RayError, tune.TuneError) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"Ray was lost ({reason}): run the same command again to go on") from error


def _combinations(config: TrainJohnsonConfig) -> list[dict[str, float]]:
    """Weights of every trial, sorted.

    Raises:
        ConfigError: a weight that no loss can have.
    """
    values = {name: sorted(set(getattr(config.trials, name))) for name in SWEPT}
    for name, weights in values.items():
        for weight in weights:
            if not (math.isfinite(weight) and weight >= 0):
                raise ConfigError(f"trials.{name}: {weight:g} is no weight, it has to be 0 or more")
    if 0 in values["gram"] and not (config.loss.content.weight or config.loss.mean_std.weight):
        raise ConfigError("trials.gram: with 0 no term has a weight, so there is nothing to learn")
    return [dict(zip(values, weights, strict=True)) for weights in itertools.product(*values.values())]


def _finished(output: Folder) -> dict[str, Trial]:
    """Trials of this or an earlier run by name; the row is written last, so its pictures are there."""
    if not output.exists(TRIALS):
        return {}
    rows = (file.relpath for file in Folder(output.uri(TRIALS)).files() if file.relpath.endswith(f"/{ROW}"))
    trials = (Trial(**json.loads(output.read_bytes(f"{TRIALS}/{row}"))) for row in rows)
    return {trial.name: trial for trial in trials}


def _run(
    config: TrainJohnsonConfig, material: Material, photos: StoredPhotos, pending: list[dict[str, float]]
) -> dict[str, Trial]:
    """Let Ray Tune run the trials, as many at once as the cluster can hold; by name."""
    resources, threads = _share(config)
    device = "cuda" if "GPU" in resources else "cpu"
    output = Folder(config.output)
    _, judged = photos.load()
    for index, photo in enumerate(judged.take(range(len(judged)))):
        output.write_bytes(f"{_CONTENTS}/{index}.png", png_bytes(photo))
    # Not Tune's files, tables and answer to Ctrl-C: rows and pictures are in the output already, the
    # progress is shown here, and whoever stops a sweep wants it to stop.
    os.environ |= {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints a table even with verbose=0
    }
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    watch = _Watch(config.train.batch_size)
    trainable = tune.with_parameters(
        run_trial, job=TrialJob(config, ray.put(material), photos, device, threads)
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, resources),
        param_space={"weights": tune.grid_search(pending)},
        tune_config=tune.TuneConfig(max_concurrent_trials=config.workers.count),
        run_config=tune.RunConfig(
            name=SCRATCH,
            storage_path=output.root,  # all nodes must see it, which a temporary folder does not promise
            storage_filesystem=pyarrow_filesystem(output),
            failure_config=tune.FailureConfig(max_failures=config.workers.max_failures),
            callbacks=[watch],
            verbose=0,
        ),
    )
    share = "a GPU" if device == "cuda" else f"{threads} thread{'s' * (threads > 1)}"
    _log.info("%d trials of %d steps, %s each", len(pending), config.train.steps, share)
    try:
        with TrainingProgress(len(pending) * config.train.steps, config.train.batch_size, watch.latest):
            results = tuner.fit()
    finally:
        output.remove(SCRATCH)
    trials = []
    for result in (results[index] for index in range(len(results))):
        weights = (result.config or {})["weights"]
        row = (result.metrics or {}).get("row")
        trials.append(Trial(**row) if row else Trial(weights, error=reason(result.error)))
    return {trial.name: trial for trial in trials}


def _share(config: TrainJohnsonConfig) -> tuple[dict[str, float], int]:
    """What a trial takes of the cluster, and its CPU threads: a GPU, or the cores of a node.

    Raises:
        ConfigError: GPUs are asked for and there are none.
    """
    threads = config.workers.threads
    if config.workers.device != "cpu" and num_gpus():
        return {"CPU": 1, "GPU": 1}, threads or max(1, cores_per_node() * num_nodes() // num_gpus())
    if config.workers.device == "cuda":
        raise ConfigError("workers.device: the cluster has no GPU; take auto or cpu")
    largest = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
    threads = threads or max(1, largest)
    return {"CPU": max(1, min(threads, largest))}, threads  # of more than there are, none would start


class _Watch(tune.Callback):
    """Adds up on the driver what the trials report."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.steps: dict[str, int] = {}
        self.done = 0
        self.started = time.monotonic()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        """A trial has come further, or to its end."""
        self.steps[trial.trial_id] = result["step"]
        self.done += "row" in result

    def latest(self) -> dict[str, Any]:
        """All trials as one training, with the rate since they began."""
        steps = sum(self.steps.values())
        if not steps:
            return {}
        rate = steps * self.batch_size / (time.monotonic() - self.started)
        return {"since": 0, "step": steps, "losses": {"trials done": self.done}, "images_per_s": rate}


def _conclude(
    output: Folder, config: TrainJohnsonConfig, painting: UInt8Array, trials: list[Trial]
) -> SweepResult:
    """Write the rows and the picture of all ``trials``."""
    contents = _read_pngs(output, _CONTENTS)
    pictures = {
        trial.name: _read_pngs(output, f"{TRIALS}/{trial.name}") for trial in trials if not trial.error
    }
    start = config.network.start_from
    origin = f"from {Path(start).stem}" if start else "from fresh weights"
    title = f"{config.trials.steps} steps each, {origin}"
    rows = {"steps": config.trials.steps, "rows": [asdict(trial) for trial in trials]}
    output.write_bytes(ROWS, json.dumps(rows, indent=2).encode())
    from nst_ops.training.sweep_sheet import sweep_sheet

    output.write_bytes(PICTURE, png_bytes(sweep_sheet(painting, contents, trials, pictures, title)))
    return SweepResult(trials, output.uri(PICTURE))


def _read_pngs(output: Folder, relpath: str) -> list[UInt8Array]:
    """The pictures ``0.png``, ``1.png``, ... that are shown."""
    names = [f"{relpath}/{index}.png" for index in range(SHOWN)]
    return [
        np.asarray(Image.open(io.BytesIO(output.read_bytes(name)))) for name in names if output.exists(name)
    ]
