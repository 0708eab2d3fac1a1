"""Sweep: short trials of loss weights, one after another in this process, or side by side on a cluster."""

import copy
import dataclasses
import io
import itertools
import json
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from nst_ops.config import ConfigError, TrainJohnsonConfig
from nst_ops.losses import PerceptualLoss, add_noise, noise_stability
from nst_ops.media.images import UInt8Array
from nst_ops.models.johnson import JohnsonNet
from nst_ops.models.vgg import VGGFeatures
from nst_ops.ray_cluster import connected, cores_per_node, nodes, num_gpus, num_nodes
from nst_ops.storage import Folder
from nst_ops.training.checkpointing import absolute, claim_output, fingerprint
from nst_ops.training.data import Batches, StoredImages, ingest, list_images, to_tensor
from nst_ops.training.grid import png_bytes, sheet, stylize, to_pixels
from nst_ops.training.loop import Recorder, Speed, train
from nst_ops.training.progress import ProgressTracker
from nst_ops.training.run import alone_in, local_device, local_threads, uses_ray
from nst_ops.training.setup import TrainingSetup, read_setup
from nst_ops.training.step import DivergedError, StepFigures
from nst_ops.training.worker import share_of

METRICS = ("content", "gram", "variation", "temporal")
SWEPT = ("gram", "variation", "noise")  # terms of the loss whose weights are tried
TRIALS, ROW = "trials", "row.json"
IMAGE, ROWS, SCRATCH = "sweep.png", "sweep.json", ".ray_tune"
SHOWN = 4  # validation images that are shown of a trial
Weights = dict[str, float]  # by name of the loss term: gram, variation, noise

_log = logging.getLogger(__name__)

_CONTENT = f"{TRIALS}/content"
_REPORT_EVERY_S = 1.0
_REASON_LENGTH = 100  # characters of the reason of a failure that the caption of its row has room for


@dataclass(frozen=True)
class Trial:
    """Result of one combination of weights, or the ``error`` because of which there is none."""

    weights: Weights
    metrics: dict[str, float] = field(default_factory=dict)  # unweighted, of validation images; empty if it failed
    images_per_s: float = 0.0
    error: str | None = None

    @property
    def name(self) -> str:
        """Name of its folder under ``trials/``."""
        return "_".join(f"{name}_{weight:.12g}" for name, weight in self.weights.items())

    @property
    def caption(self) -> str:
        """Its weights, for a person."""
        return " · ".join(f"{name} {weight:g}" for name, weight in self.weights.items())


@dataclass(frozen=True)
class SweepResult:
    """All trials, sorted by their weights, and the image that shows them."""

    trials: list[Trial]
    image: str  # URI of the image

    @property
    def exit_code(self) -> int:
        """0, or 1 if there is not one result."""
        return int(all(trial.error for trial in self.trials))

    def table(self) -> str:
        """Return the figures as text for a terminal or a log, and how to go on."""
        table = Table(title="sweep: losses on held-out images", title_justify="left")
        for name in (*(f"{name} weight" for name in SWEPT), *METRICS, "images/s"):
            table.add_column(name, justify="right")
        for trial in self.trials:
            weights = [f"{trial.weights[name]:g}" for name in SWEPT]
            metrics = [f"{trial.metrics[name]:.3g}" if trial.metrics else "" for name in METRICS]
            table.add_row(*weights, *metrics, "failed" if trial.error else f"{trial.images_per_s:.1f}")
        console = Console(width=None if Console().is_terminal else 120, markup=False, highlight=False)
        with console.capture() as capture:
            console.print(table)
        chosen = " ".join(f"--loss.{name}.weight {x}" for name, x in zip(SWEPT, "XYZ", strict=True))
        reasons = [f"failed: {trial.caption}: {trial.error}" for trial in self.trials if trial.error]
        hint = "then train with the weights you like, into another --output:"
        return "\n".join([capture.get().rstrip("\n"), *reasons, f"look at {self.image}", hint, f"  {chosen}"])


def sweep(config: TrainJohnsonConfig) -> SweepResult:
    """Train shortly with every combination of ``config.trials`` into ``config.output``.

    All trials start from the same network and see the same crops in the same order. One that fails is a row with its
    reason, and no harm to the others. Raises ConfigError if images, weights or output cannot be used, before anything
    is done; TrainingError if out of space, or Ray was lost: the same command runs what is missing.
    """
    output = Folder(config.output)
    config = absolute(config)
    on_ray = uses_ray(config)
    combinations = _combinations(config)
    alike = dict.fromkeys(SWEPT, 1.0)  # what is swept is no difference between two sweeps
    names = list_images(config, "content")
    setup = read_setup(weighted(config, content=1.0, **alike))
    shortly = config.train.model_copy(update={"steps": config.trials.steps, "early_stop": None})
    config = config.model_copy(update={"train": shortly})
    shaped_by = fingerprint(weighted(config, **alike), setup, names, [])
    with alone_in(output):
        claim_output(output, config, shaped_by | {"sweep.steps": config.trials.steps})
        finished = _finished(output)
        pending = [weights for weights in combinations if Trial(weights).name not in finished]
        if len(pending) < len(combinations):
            _log.info("%d of %d trials are done already", len(combinations) - len(pending), len(combinations))
        if pending:
            run = _run_on_ray if on_ray else _run_here
            finished |= {trial.name: trial for trial in run(config, setup, names, pending)}
        trials = [finished[Trial(weights).name] for weights in combinations]
        _conclude(output, config, setup, trials)
        output.remove_scratch()
        return SweepResult(trials, output.uri(IMAGE))


def _combinations(config: TrainJohnsonConfig) -> list[Weights]:
    """Return the weights of every trial, sorted; raises ConfigError for a weight that no loss can have."""
    values = {name: sorted(set(getattr(config.trials, name))) for name in SWEPT}
    for name, weights in values.items():
        for weight in weights:
            if not (math.isfinite(weight) and weight >= 0):
                raise ConfigError(f"trials.{name}: {weight:g} is no weight, it has to be 0 or more")
    if 0 in values["gram"] and not (config.loss.content.weight or config.loss.mean_std.weight):
        raise ConfigError("trials.gram: with 0 no term has a weight, so there is nothing to learn")
    return [dict(zip(values, weights, strict=True)) for weights in itertools.product(*values.values())]


def weighted(config: TrainJohnsonConfig, **weights: float) -> TrainJohnsonConfig:
    """Return ``config`` with other weights of loss terms."""
    terms = {name: getattr(config.loss, name).model_copy(update={"weight": weight}) for name, weight in weights.items()}
    return config.model_copy(update={"loss": config.loss.model_copy(update=terms)})


def _finished(output: Folder) -> dict[str, Trial]:
    """Read the trials of earlier runs by name; a row is written last, so its images are there."""
    if not output.exists(TRIALS):
        return {}
    rows = (file.relpath for file in Folder(output.uri(TRIALS)).files() if file.relpath.endswith(f"/{ROW}"))
    trials = (Trial(**json.loads(output.read_bytes(f"{TRIALS}/{row}"))) for row in rows)
    return {trial.name: trial for trial in trials}


@dataclass
class _SweepProgress:
    """Progress of all trials together, as that of one training."""

    tracker: ProgressTracker
    steps: dict[str, int] = field(default_factory=dict)
    done: int = 0
    started: float = field(default_factory=time.monotonic)

    def update(self, trial: str, step: int, done: bool = False) -> None:
        """Show that ``trial`` has come to ``step``, or to its end."""
        self.steps[trial] = step
        self.done += done
        steps = sum(self.steps.values())
        rate = steps * self.tracker.batch_size / max(time.monotonic() - self.started, 1e-9)
        self.tracker.update({"since": 0, "step": steps, "losses": {"trials done": self.done}, "images_per_s": rate})


def _run_here(
    config: TrainJohnsonConfig, setup: TrainingSetup, names: list[str], pending: list[Weights]
) -> list[Trial]:
    """Run the trials one after another in this process."""
    device, steps = local_device(config), config.train.steps
    content = ingest(config, names, "content")
    _write_content(config, content)
    trials = []
    with local_threads(config) as threads:
        _log.info("%d trials of %d steps, %s each", len(pending), steps, share_of(device.type == "cuda", threads))
        with ProgressTracker(len(pending) * steps, config.train.batch_size) as tracker:
            progress = _SweepProgress(tracker)
            for weights in pending:
                report = partial(progress.update, Trial(weights).name)
                fresh = dataclasses.replace(setup, network=copy.deepcopy(setup.network))
                trials.append(run_trial(weights, config, fresh, content, device, report))
                report(steps, done=True)
    return trials


def _run_on_ray(
    config: TrainJohnsonConfig, setup: TrainingSetup, names: list[str], pending: list[Weights]
) -> list[Trial]:
    """Let Ray Tune run the trials, as many at once as the cluster can hold."""
    import ray
    from ray import tune

    from nst_ops.training.on_ray import ingest_on_ray, loaded, ray_lost

    # Not Tune's files, tables and answer to Ctrl-C: rows and images are in the output already, the progress is shown
    # here, and whoever stops a sweep wants it to stop.
    os.environ |= {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints a table even with verbose=0
    }
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)

    class Watch(tune.Callback):
        """Passes on to the driver's progress what the trials report."""

        def __init__(self, progress: _SweepProgress) -> None:
            self.progress = progress

        def __getstate__(self) -> dict[str, Any]:
            return {}  # Tune writes its callbacks to the storage; a progress bar cannot be written

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **_: Any) -> None:
            """A trial has come further, or to its end."""
            self.progress.update(trial.trial_id, result["step"], "row" in result)

    output = Folder(config.output)
    try:
        with connected(config.ray_address):
            content = ingest_on_ray(config, names, "content")
            _write_content(config, loaded(content))
            resources, threads = _resources(config)
            steps, each = config.train.steps, share_of("GPU" in resources, threads)
            _log.info("%d trials of %d steps, %s each", len(pending), steps, each)
            known = {"config": config, "setup": setup, "content": content, "threads": threads}
            with ProgressTracker(len(pending) * steps, config.train.batch_size) as tracker:
                tuner = tune.Tuner(
                    tune.with_resources(tune.with_parameters(_run_tune_trial, **known), resources),
                    param_space={"weights": tune.grid_search(pending)},
                    tune_config=tune.TuneConfig(max_concurrent_trials=config.workers.count),
                    run_config=tune.RunConfig(
                        name=SCRATCH,
                        storage_path=output.root,  # all nodes must see it, unlike a temporary folder
                        storage_filesystem=output.pyarrow_filesystem(),
                        failure_config=tune.FailureConfig(max_failures=config.workers.max_failures),
                        callbacks=[Watch(_SweepProgress(tracker))],
                        verbose=0,
                    ),
                )
                results = tuner.fit()
            return [_trial(results[index]) for index in range(len(results))]
    except (ray.exceptions.RayError, tune.TuneError) as error:
        raise ray_lost(error) from error
    finally:
        output.remove(SCRATCH)


def _trial(result: Any) -> Trial:
    """Return the trial of a result of Tune."""
    row = (result.metrics or {}).get("row")
    return Trial(**row) if row else Trial(result.config["weights"], error=reason_of(result.error))


def _resources(config: TrainJohnsonConfig) -> tuple[dict[str, float], int]:
    """Return the cluster's resources that a trial takes, a GPU or the cores of a node, and its CPU threads."""
    from nst_ops.training.on_ray import on_gpus

    threads = config.workers.threads
    if on_gpus(config):
        return {"CPU": 1, "GPU": 1}, threads or max(1, cores_per_node() * num_nodes() // num_gpus())
    largest = max(int(node.cpus) for node in nodes())
    threads = threads or max(1, largest)
    return {"CPU": max(1, min(threads, largest))}, threads  # of more than there are, none would start


def _run_tune_trial(
    space: dict[str, Any], config: TrainJohnsonConfig, setup: TrainingSetup, content: StoredImages, threads: int
) -> None:
    """Run a trial as a worker of Tune, which starts it again only where its process is lost."""
    import ray
    from ray import tune

    from nst_ops.training.on_ray import loaded

    torch.set_num_threads(threads)
    device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
    images = loaded(content)
    trial = run_trial(space["weights"], config, setup, images, device, lambda step: tune.report({"step": step}))
    tune.report({"step": config.train.steps, "row": asdict(trial)})


class _TrialRecorder(Recorder):
    """Recorder of a trial: reports now and then how far it is, and counts skipped steps."""

    def __init__(self, report: Callable[[int], None]) -> None:
        self.skipped = 0
        self._report = report
        self._reported = time.monotonic()

    def step(self, number: int, figures: StepFigures, speed: Speed) -> None:
        """Count a finished step."""
        self.skipped += figures.skipped
        if time.monotonic() - self._reported > _REPORT_EVERY_S:
            self._reported = time.monotonic()
            self._report(number)


def run_trial(
    weights: Weights,
    config: TrainJohnsonConfig,
    setup: TrainingSetup,
    content: StoredImages,
    device: torch.device,
    report: Callable[[int], None],
) -> Trial:
    """Train ``setup.network`` with one combination of weights, and write images and row into the output.

    ``report`` is told now and then the number of steps done.
    """
    output = Folder(config.output)
    try:
        try:
            trial, stylized = _train(weighted(config, **weights), weights, setup, content, device, report)
        except DivergedError as error:
            trial, stylized = Trial(weights, error=f"diverged: {error}"), []
        for index, pixels in enumerate(stylized):
            output.write_bytes(f"{TRIALS}/{trial.name}/{index}.png", png_bytes(pixels))
        output.write_bytes(f"{TRIALS}/{trial.name}/{ROW}", json.dumps(asdict(trial), indent=2).encode())
        return trial
    except Exception as error:  # of any kind; without a row in the output it is tried again the next time
        return Trial(weights, error=reason_of(error))


def _train(
    config: TrainJohnsonConfig,
    weights: Weights,
    setup: TrainingSetup,
    content: StoredImages,
    device: torch.device,
    report: Callable[[int], None],
) -> tuple[Trial, list[UInt8Array]]:
    """Return the row of one combination, and the stylized validation images."""
    step = setup.step(config, device)
    trained, held_out = content.split()
    batches = Batches(trained, config.train.batch_size, config.train.image_size, config.train.seed)
    recorder = _TrialRecorder(report)
    speed = train(step, batches, config.train, recorder)
    if recorder.skipped > config.train.steps / 2:  # too few in a row for the step to give up
        raise DivergedError(f"loss or gradient was not finite in {recorder.skipped} of {config.train.steps} steps")
    assert setup.style_image is not None, "a sweep is of one style image"
    images, style_image = to_tensor(held_out.all(), JohnsonNet.stride), to_tensor(setup.style_image).to(step.device)
    stylized, metrics = measure(step.averaged, images, style_image, setup.vgg, config)
    if not all(map(math.isfinite, metrics.values())):
        raise DivergedError("stylized images are not finite")
    return Trial(weights, metrics, float(f"{speed.images_per_s:.4g}")), list(to_pixels(stylized))


def measure(
    network: nn.Module, content: Tensor, style_image: Tensor, vgg: VGGFeatures, config: TrainJohnsonConfig
) -> tuple[Tensor, dict[str, float]]:
    """Stylize ``content``, (N, 3, H, W) in [0, 1], and measure losses, whatever the weights of the training.

    ``network``, ``style_image``, (1, 3, H', W') in [0, 1], and ``vgg``, with the taps of content and Gram, lie on the
    device. Returns the stylized images on the CPU, and ``METRICS``: the unweighted terms, and as ``temporal`` the mean
    squared change of stylized images when their content gets the noise of ``config.loss.noise``, the same noise for
    every network.
    """
    loss = PerceptualLoss(vgg, style_image, weighted(config, content=1.0, gram=1.0, variation=1.0).loss)
    noise, generator = config.loss.noise, torch.Generator().manual_seed(config.train.seed)
    noisy = add_noise(content, noise.amplitude, noise.share, generator)
    stylized, stylized_noisy = stylize(network, content), stylize(network, noisy)
    with torch.no_grad():
        terms = loss.score(stylized.to(style_image.device), content.to(style_image.device)).terms
    terms |= {"temporal": noise_stability(stylized, stylized_noisy)}
    return stylized, {name: float(f"{float(terms[name]):.5g}") for name in METRICS}


def reason_of(error: BaseException | None) -> str:
    """Say in one line what went wrong; Ray's own errors have a stack trace before it."""
    if error is None:
        return "it did not finish"
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[-1 if type(error).__module__.startswith('ray.') else 0]}"


def _write_content(config: TrainJohnsonConfig, content: StoredImages) -> None:
    for index, pixels in enumerate(content.split()[1].all()):
        Folder(config.output).write_bytes(f"{_CONTENT}/{index}.png", png_bytes(pixels))


def _conclude(output: Folder, config: TrainJohnsonConfig, setup: TrainingSetup, trials: list[Trial]) -> None:
    """Write the rows and the image of all ``trials``."""
    rows = {"steps": config.trials.steps, "rows": [asdict(trial) for trial in trials]}
    output.write_bytes(ROWS, json.dumps(rows, indent=2).encode())
    origin = f"from {Path(start).stem}" if (start := config.network.start_from) else "from fresh weights"
    content = _read_pngs(output, _CONTENT)
    images = {f"content · {config.trials.steps} steps each, {origin}": content}
    for trial in trials:
        if trial.error:
            gray = np.full_like(content[0], 235)
            images[f"{trial.caption} · failed: {trial.error[:_REASON_LENGTH]}"] = [gray]
        else:
            metrics = ", ".join(f"{name} {value:.3g}" for name, value in trial.metrics.items())
            images[f"{trial.caption} · losses: {metrics}"] = _read_pngs(output, f"{TRIALS}/{trial.name}")
    output.write_bytes(IMAGE, png_bytes(sheet(images, setup.style_image)))


def _read_pngs(output: Folder, relpath: str) -> list[UInt8Array]:
    """Read the first images ``0.png``, ``1.png``, ..."""
    names = [f"{relpath}/{index}.png" for index in range(SHOWN)]
    return [np.asarray(Image.open(io.BytesIO(output.read_bytes(name)))) for name in names if output.exists(name)]
