"""The training loop of one worker, alone or one of many. No Ray in here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Protocol

from nst_ops.config.training import TrainConfig
from nst_ops.storage import StorageFullError
from nst_ops.training.data import Batches, Prefetcher
from nst_ops.training.step import PerceptualStep, StepFigures

_WARM_UP_STEPS = 3
"""Not counted in the speed: the first steps choose kernels and fill caches."""


class Recorder(Protocol):
    """What is kept and shown of a run; only the first worker has one."""

    def step(self, number: int, figures: StepFigures, speed: Speed) -> None:
        """A step is done."""
        ...

    def validate(self, number: int) -> float:
        """A checkpoint is due: judge the network, and return the total loss."""
        ...

    def save(self, number: int, state: dict[str, Any], speed: Speed) -> None:
        """Write everything; ``state`` is what ``train`` takes to go on.

        Raises:
            StorageFullError: it does not fit.
        """
        ...


@dataclass
class Speed:
    """How fast training is, and how long it waited for photographs."""

    views: int = 0
    seconds: float = 0.0
    data_wait_s: float = 0.0

    @property
    def images_per_s(self) -> float:
        """Photographs per second of all workers, warm-up and checkpoints not counted."""
        return self.views / self.seconds if self.seconds else 0.0

    @property
    def data_wait_share(self) -> float:
        """Share of that time spent waiting for the next batch."""
        return self.data_wait_s / self.seconds if self.seconds else 0.0


@dataclass
class Plateau:
    """Counts validations in a row without a better one."""

    patience: int | None
    best: float = float("inf")
    waited: int = 0

    def reached(self, total: float) -> bool:
        """Whether ``total``, the newest validation loss, is one too many without progress."""
        self.waited = 0 if total < self.best else self.waited + 1
        self.best = min(self.best, total)
        return self.patience is not None and self.waited >= self.patience


def train(
    step: PerceptualStep,
    batches: Batches,
    config: TrainConfig,
    recorder: Recorder | None = None,
    state: dict[str, Any] | None = None,
) -> Speed:
    """Train up to ``config.steps``, or until the validation loss stays on a plateau.

    Args:
        step: what one step does, with the network.
        batches: the photographs of each step.
        config: how long, and when to save.
        recorder: keeps and shows what happens.
        state: to go on from, as ``recorder.save`` was given it.

    Returns:
        The speed of this call, without its first steps and its checkpoints.

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
    crops = Prefetcher(batches, step.device, first)
    started = time.perf_counter()
    try:
        for number in range(first, config.steps + 1):
            if number == first + _WARM_UP_STEPS:
                speed, crops.wait_s, started = Speed(), 0.0, time.perf_counter()
            batch = crops()
            photos, styles = batch.cut()
            figures = step(photos, number, styles, step.drawn(batch.photos))
            speed.views += batches.batch_size
            speed.seconds, speed.data_wait_s = time.perf_counter() - started, crops.wait_s
            if recorder:
                recorder.step(number, figures, speed)
            if number % config.save_every == 0 or number == config.steps:
                paused = time.perf_counter()
                if _checkpoint(number, step, plateau, recorder, speed):
                    break
                started += time.perf_counter() - paused
    finally:
        crops.close()
    return speed


def _checkpoint(
    number: int, step: PerceptualStep, plateau: Plateau, recorder: Recorder | None, speed: Speed
) -> bool:
    """Let the first worker judge and save; all learn whether to stop, or that it failed."""
    verdict: bool | StorageFullError = False
    if recorder:
        try:
            verdict = plateau.reached(recorder.validate(number))
            state = {"done": number, "stopped": verdict, "best": plateau.best, "waited": plateau.waited}
            recorder.save(number, {**state, "step": step.state()}, speed)
        except StorageFullError as error:
            verdict = error
    verdict = step.ranks.share(verdict)
    if isinstance(verdict, StorageFullError):
        raise verdict
    return verdict
