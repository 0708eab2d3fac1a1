"""Training loop of one worker, alone or one of many. No Ray in here."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nst_ops.config.training import TrainConfig
from nst_ops.storage import StorageFullError
from nst_ops.training.data import Batches, Prefetcher
from nst_ops.training.step import StepFigures, TrainingStep

WARM_UP_STEPS = 3  # first steps that do not count in the speed: they choose kernels and fill caches


@dataclass(frozen=True)
class Speed:
    """Speed of a training, first steps and checkpoints not counted."""

    images_per_s: float = 0.0  # of all workers
    data_wait_share: float = 0.0  # share of the time spent waiting for the next batch, from 0 to 1


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

    ``state``, as ``recorder.save`` was given it, is gone on from. Returns the speed, without first steps and saving.
    Raises DivergedError if losses stayed non-finite, StorageFullError, on every worker, if a checkpoint could not be
    written.
    """
    plateau = Plateau(config.early_stop)
    first = 1
    if state:
        step.restore(state["step"])
        plateau.best, plateau.waited = state["best"], state["waited"]
        first = config.steps + 1 if state["stopped"] else state["done"] + 1
    speed, images = Speed(), 0
    begun: deque[tuple[int, Callable[[], StepFigures]]] = deque()  # steps whose figures have not been waited for
    prefetcher = Prefetcher(batches, step.device, first)
    started = time.perf_counter()
    try:
        for number in range(first, config.steps + 1):
            if number == first + WARM_UP_STEPS:
                images, prefetcher.wait_s, started = 0, 0.0, time.perf_counter()
            content, styles = prefetcher()
            drawing = step.drawing(content)
            begun.append((number, step.start(content.cut(), number, styles.cut() if styles else None, drawing)))
            is_checkpoint = number % config.save_every == 0 or number == config.steps
            is_pause = is_checkpoint or number == first + WARM_UP_STEPS - 1 or step.device.type == "cpu"
            while len(begun) > (0 if is_pause else 1):  # a GPU has the next step to do before it is asked
                settled, figures = begun[0][0], begun.popleft()[1]()
                images, seconds = images + batches.batch_size, time.perf_counter() - started
                speed = Speed(images / seconds, prefetcher.wait_s / seconds)
                if recorder:
                    recorder.step(settled, figures, speed)
            if is_checkpoint:
                paused = time.perf_counter()
                if _checkpoint(number, step, plateau, recorder, speed):
                    break
                started += time.perf_counter() - paused
    finally:
        prefetcher.close()
    return speed


def _checkpoint(number: int, step: TrainingStep, plateau: Plateau, recorder: Recorder | None, speed: Speed) -> bool:
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
