"""One trial of a sweep: a short training with other weights, judged like all the others."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import ray
import torch
from ray import tune
from torch import Tensor, nn

from nst_ops.config import TrainJohnsonConfig
from nst_ops.losses import PerceptualLoss, add_noise, noise_stability
from nst_ops.models.johnson import JohnsonNet
from nst_ops.models.vgg import VGGFeatures
from nst_ops.storage import Folder
from nst_ops.training.grid import png_bytes, stylize, to_pixels
from nst_ops.training.ingest import StoredPhotos
from nst_ops.training.loop import Speed, train
from nst_ops.training.material import Material
from nst_ops.training.photos import Batches, to_tensor
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
        terms = loss.judge(stylized.to(painting.device), photos.to(painting.device)).terms
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
