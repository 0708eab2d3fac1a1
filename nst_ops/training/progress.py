"""How far the workers are, where the driver can see it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import ray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn


class _BoardActor:
    def __init__(self) -> None:
        self.latest: dict[str, Any] = {}

    def put(self, latest: dict[str, Any]) -> None:
        self.latest = latest

    def get(self) -> dict[str, Any]:
        return self.latest


class Board:
    """The latest report of a run; cheap to hand to workers."""

    def __init__(self) -> None:
        self._actor: Any = ray.remote(num_cpus=0)(_BoardActor).remote()

    def put(self, latest: dict[str, Any]) -> None:
        """Say how far the run is; does not wait."""
        self._actor.put.remote(latest)

    def get(self) -> dict[str, Any]:
        """The last that was said; empty before the first."""
        latest: dict[str, Any] = ray.get(self._actor.get.remote())
        return latest


_log = logging.getLogger(__name__)

_POLL_S = 0.5
_LOG_EVERY_S = 10.0


class TrainingProgress:
    """Steps, losses, photographs per second and time left, until it is left.

    Args:
        steps: how many there will be.
        batch_size: photographs per step.
        latest: asked twice a second for {"since", "step", "losses", "images_per_s"}, empty at first.
    """

    def __init__(self, steps: int, batch_size: int, latest: Callable[[], dict[str, Any]]) -> None:
        self.steps, self.batch_size, self.latest = steps, batch_size, latest
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=steps, figures="starting workers ...")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)
        self._logged = time.monotonic()
        self._since: int | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None:
            self._show(self.latest(), last=True)
        self._bar.stop()

    def _watch(self) -> None:
        while not self._stop.wait(_POLL_S):
            try:
                latest = self.latest()
            except Exception:  # the board may be gone when the cluster stops; the run itself will say
                return
            self._show(latest)

    def _show(self, latest: dict[str, Any], last: bool = False) -> None:
        if not latest:
            return
        step, images_per_s = latest["step"], latest["images_per_s"]
        if self._since is not None and latest["since"] != self._since:
            _log.warning("a worker was lost: training goes on from step %d", latest["since"])
        self._since = latest["since"]
        figures = " ".join(f"{term} {value:.3g}" for term, value in latest["losses"].items())
        left_s = (self.steps - step) * self.batch_size / images_per_s if images_per_s else None
        eta = "ETA unknown" if left_s is None else f"ETA {_clock(left_s)}"
        line = f"{figures}  {images_per_s:.1f} img/s  {eta}"
        self._bar.update(self._task, completed=step, figures=line)
        now = time.monotonic()
        if self._bar.disable and (last or now - self._logged > _LOG_EVERY_S):
            self._logged = now
            _log.info("step %d/%d  %s", step, self.steps, line)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
