"""The status of a run as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.table import Table

from nst_ops.collection.progress import Progress, Rates
from nst_ops.collection.pulse import PATIENCE
from nst_ops.collection.results import ErrorGroup

STATUSES = ("ok", "failed", "crashed", "skipped")


@dataclass(frozen=True)
class Status:
    """What there is to see of a run in its output."""

    uri: str
    progress: Progress | None
    """None for a run that left no record of it."""
    counts: Mapping[str, int]
    """Rows by status: of this run, or where there is no record of it, of all."""
    errors: Sequence[ErrorGroup] = field(default=())
    silent_s: float | None = None
    """Seconds without a sign of life, as far as this reader can tell; None if it has ended."""
    only_watched: bool = False
    """Whether these seconds began when this reader began to watch, for lack of a common clock."""
    page: str | None = None
    """URI of its report, if there is one."""

    @property
    def every_s(self) -> float:
        """Seconds between two signs of life."""
        return self.progress.every_s if self.progress else 0.0

    @property
    def is_silent(self) -> bool:
        """Whether it has missed so many signs of life that it may be dead."""
        return self.silent_s is not None and self.silent_s > PATIENCE * self.every_s

    @property
    def state(self) -> str:
        """In one word."""
        if self.progress is None:
            return "unknown"
        return "silent" if self.is_silent else self.progress.state


def tables(status: Status) -> list[Table]:
    """Everything there is to say, then the errors."""
    table = Table(title=status.uri, show_header=False, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _lines(status).items():
        if text:
            table.add_row(name, text)
    return [table, *errors_table(status.errors)]


def errors_table(errors: Sequence[ErrorGroup]) -> list[Table]:
    """A table of the errors, if there are any."""
    if not errors:
        return []
    table = Table(title="top errors", title_justify="left")
    for column in ("rows", "error", "message", "for example"):
        table.add_column(column, overflow="fold")
    for error in errors:
        table.add_row(f"{error.num_rows:,}", error.error_type, error.message, error.example)
    return [table]


def counted(counts: Mapping[str, int]) -> str:
    """Rows by status, in words."""
    return ", ".join(f"{counts.get(status, 0):,} {status}" for status in STATUSES)


def duration(seconds: float) -> str:
    """A time as a person would say it."""
    minutes, hours = seconds / 60, seconds / 3600
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{hours:.1f} h"


def pace(speed: Rates) -> str:
    """How fast it goes, in words."""
    frames = f", {speed.frames_per_s:,.1f} frames/s" if speed.frames_per_s else ""
    return f"{speed.rows_per_s:,.1f} rows/s{frames}"


def _lines(status: Status) -> dict[str, str]:
    progress = status.progress
    if progress is None:
        return {
            "state": "not known: this run left no report/progress.json",
            "rows": counted(status.counts),
            "report": status.page or "",
        }
    planned, done, running = progress.planned, progress.done, progress.state == "running"
    earlier = f" ({planned.num_done_before:,} more by earlier runs)" if planned.num_done_before else ""
    expected = f" of about {max(planned.num_frames, done.num_frames):,}" if running else ""
    now = f"{pace(progress.last_minute)} in the last minute; " if running else ""
    return {
        "run": f"{progress.run_id}, driver on {progress.host}, since {progress.started_at}",
        "state": _state(status, progress),
        "rows": f"{_of(done.num_rows, planned.num_rows)}{earlier}",
        "ended": counted(status.counts),
        "frames": f"{done.num_frames:,}{expected}" if planned.num_frames or done.num_frames else "",
        "rate": f"{now}{pace(progress.overall)} overall" if done.elapsed_s else "",
        "time": _time(progress, running) if done.elapsed_s else "",
        "workers": _workers(progress) if planned.num_workers else "",
        "lost units": f"{progress.num_retries:,}, tried again" if progress.num_retries else "",
        "report": status.page or "",
    }


def _state(status: Status, progress: Progress) -> str:
    if status.silent_s is None:
        again = "; run the same command again to go on" if progress.state in ("stopped", "failed") else ""
        return f"{progress.state}{f': {progress.reason}' if progress.reason else ''}{again}"
    if status.is_silent:
        watched = ", all the time that this command has watched" if status.only_watched else ""
        return (
            f"no sign of life for {duration(status.silent_s)}{watched}: the driver may be dead; run the same "
            "command again to go on"
        )
    return f"running, last sign of life {duration(status.silent_s)} ago"


def _time(progress: Progress, running: bool) -> str:
    spent = duration(progress.done.elapsed_s)
    if not running:
        return spent
    eta_s = progress.eta_s
    return f"{spent}, {'unknown' if eta_s is None else 'about ' + duration(eta_s)} left"


def _workers(progress: Progress) -> str:
    planned = progress.planned
    speed = progress.last_minute if progress.state == "running" else progress.overall
    gpus = f"{planned.num_gpus:,} GPUs in the cluster, " if planned.num_gpus else ""
    return (
        f"{planned.num_workers:,}, {gpus}networks busy {speed.busy_share:.0%} of the time, "
        f"waiting {speed.wait_share:.0%}"
    )


def _of(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}{f', {part / whole:.1%}' if whole else ''}"
