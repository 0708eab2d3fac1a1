"""How far the training is: a bar on a terminal, a log line now and then elsewhere."""

from __future__ import annotations

import logging
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nst_ops.training.history import History

logger = logging.getLogger(__name__)


class TrainingProgress:
    """Steps, losses, images per second and time left.

    Args:
        steps: how many there will be.
        batch_size: photographs per step.
        log_every_s: seconds between log lines where there is no terminal.
    """

    def __init__(self, steps: int, batch_size: int, log_every_s: float = 10.0) -> None:
        self.steps = steps
        self.batch_size = batch_size
        self.log_every_s = log_every_s
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=steps, figures="")
        self._started = self._logged = time.monotonic()
        self._done = 0

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    @property
    def images_per_s(self) -> float:
        """Photographs trained on per second since the start."""
        return self._done * self.batch_size / max(time.monotonic() - self._started, 1e-9)

    def advance(self, history: History) -> None:
        """Count one step and show where it stands."""
        self._done += 1
        figures = (
            f"content {history.recent('content'):.3f} style {history.recent('style'):.4f} "
            f"{self.images_per_s:.1f} img/s"
        )
        self._bar.update(self._task, advance=1, figures=figures)
        now = time.monotonic()
        if self._bar.disable and (now - self._logged > self.log_every_s or self._done == self.steps):
            left_s = (self.steps - self._done) * (now - self._started) / self._done
            logger.info("step %d/%d %s, %.0f s left", self._done, self.steps, figures, left_s)
            self._logged = now
