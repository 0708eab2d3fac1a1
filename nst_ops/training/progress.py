"""Progress of a training, for the person who waits for it."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from nst_ops.report.text import duration

_log = logging.getLogger(__name__)

_LOG_EVERY_S = 10.0


class ProgressTracker:
    """Steps, losses, images per second and time left: a bar on a terminal, else lines in the log."""

    def __init__(self, steps: int, batch_size: int) -> None:
        self.steps, self.batch_size = steps, batch_size
        console = Console(stderr=True)
        columns = (
            TextColumn("training"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
        )
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("training", total=steps, figures="starting ...")
        self._logged = time.monotonic()
        self._since: int | None = None
        self._unlogged = ""

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and self._unlogged:
            _log.info(self._unlogged)
        self._bar.stop()

    def of_painting(self, name: str, before: int) -> Callable[[int, Mapping[str, float]], None]:
        """Return a function of the step of a fitting and its losses; ``before`` steps belong to other paintings."""
        started = time.perf_counter()
        self._bar.update(self._task, description=name)

        def show(step: int, losses: Mapping[str, float]) -> None:
            pace = step / (time.perf_counter() - started)
            self.update({"since": 0, "step": before + step, "losses": losses, "images_per_s": pace})

        return show

    def update(self, latest: dict[str, Any]) -> None:
        """Show {"since", "step", "losses", "images_per_s"}: the step it began after, the step it is at."""
        step, images_per_s = latest["step"], latest["images_per_s"]
        if self._since not in (None, latest["since"]):
            _log.warning("a worker was lost: training goes on from step %d", latest["since"])
        self._since = latest["since"]
        figures = " ".join(f"{term} {value:.3g}" for term, value in latest["losses"].items())
        eta = duration((self.steps - step) * self.batch_size / images_per_s) if images_per_s else "unknown"
        line = f"{figures}  {images_per_s:.1f} img/s  ETA {eta}"
        self._bar.update(self._task, completed=step, figures=line)
        self._unlogged = f"step {step}/{self.steps}  {line}" if self._bar.disable else ""
        if self._unlogged and time.monotonic() - self._logged > _LOG_EVERY_S:
            self._logged = time.monotonic()
            _log.info(self._unlogged)
            self._unlogged = ""
