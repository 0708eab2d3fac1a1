"""Training loop of one worker, alone or one of many. No Ray in here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from nst_ops.config.training import TrainConfig
from nst_ops.storage import StorageFullError
from nst_ops.training.data import Batches, Prefetcher
from nst_ops.training.step import StepFigures, TrainingStep

_WARM_UP_STEPS = 3
"""First steps that do not count in the speed: they choose kernels and fill caches."""


class Recorder:
    """Keeps and shows what happens in a run; only the first worker has one. This one keeps nothing."""

    def step(self, number: int, figures: StepFigures, speed: Speed) -> None:
        """Take the figures of a finished step."""

    def validate(self, number: int) -> float:
        """Validate the network before a checkpoint, and return the total loss."""
        return 0.0

    def save(self, number: int, state: dict[str, Any], speed: Speed) -> None:
        """Write a checkpoint with ``state``, which ``train`` takes to go on; may raise StorageFullError."""


@dataclass
class Speed:
    """Speed of a training, and its wait for images."""

    images: int = 0
    seconds: float = 0.0
    data_wait_s: float = 0.0

    @property
    def images_per_s(self) -> float:
        """Images per second of all workers, first steps and checkpoints not counted."""
        return self.images / self.seconds if self.seconds else 0.0

    @property
    def data_wait_share(self) -> float:
        """Share of that time spent waiting for the next batch, from 0 to 1."""
        return self.data_wait_s / self.seconds if self.seconds else 0.0


@dataclass
class Plateau:
    """Count of validations in a row without a better one."""

    patience: int | None
    best: float = float("inf")
    waited: int = 0

    def reached(self, total: float) -> bool:
        """Return whether ``total``, the newest validation loss, is one too many without progress."""
        self.waited = 0 if total < self.best else self.waited + 1
        self.best = min(self.best, total)
        return self.patience is not None and self.waited >= self.patience


def train(
    step: TrainingStep,
    batches: Batches,
    config: TrainConfig,
    recorder: Recorder | None = None,
    state: dict[str, Any] | None = None,
) -> Speed:
    """Train up to ``config.steps``, or until the validation loss stays on a plateau.

    Args:
        step: one step of training, with the network.
        batches: images of each step.
        config: how long, and when to save.
        recorder: keeps and shows what happens.
        state: state to go on from, as ``recorder.save`` was given it.

    Returns:
        The speed, without first steps and checkpoints.

    Raises:
        DivergedError: losses stayed non-finite.
        StorageFullError: a checkpoint could not be written; raised by every worker.
    """
    plateau = Plateau(config.early_stop)
    first = 1
    if state:
        step.restore(state["step"])
        plateau.best, plateau.waited = state["best"], state["waited"]
        first = config.steps + 1 if state["stopped"] else state["done"] + 1
    speed = Speed()
    prefetcher = Prefetcher(batches, step.device, first)
    started = time.perf_counter()
    try:
        for number in range(first, config.steps + 1):
            if number == first + _WARM_UP_STEPS:
                speed, prefetcher.wait_s, started = Speed(), 0.0, time.perf_counter()
            content, styles = prefetcher()
            drawing = step.drawing(content)
            figures = step(content.cut(), number, styles.cut() if styles else None, drawing)
            speed.images += batches.batch_size
            speed.seconds, speed.data_wait_s = time.perf_counter() - started, prefetcher.wait_s
            if recorder:
                recorder.step(number, figures, speed)
            if number % config.save_every == 0 or number == config.steps:
                paused = time.perf_counter()
                if _checkpoint(number, step, plateau, recorder, speed):
                    break
                started += time.perf_counter() - paused
    finally:
        prefetcher.close()
    return speed


def _checkpoint(
    number: int, step: TrainingStep, plateau: Plateau, recorder: Recorder | None, speed: Speed
) -> bool:
    """Let the first worker validate and save; all learn whether to stop, or that it failed."""
    outcome: bool | StorageFullError = False
    if recorder:
        try:
            outcome = plateau.reached(recorder.validate(number))
            state = {"done": number, "stopped": outcome, "best": plateau.best, "waited": plateau.waited}
            recorder.save(number, {**state, "step": step.state()}, speed)
        except StorageFullError as error:
            outcome = error
    outcome = step.ranks.share(outcome)
    if isinstance(outcome, StorageFullError):
        raise outcome
    return outcome
