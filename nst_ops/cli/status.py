"""The command ``nst-ops status``: how far a run is, from its output alone."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from nst_ops.collection.constants import MANIFEST, REPORT_PAGE, RUN_FILE
from nst_ops.collection.manifest import Manifest
from nst_ops.collection.progress import PROGRESS_FILE, Progress, read_progress
from nst_ops.collection.results import ErrorGroup, Results
from nst_ops.collection.run_lock import MISSED_BEATS
from nst_ops.report.text import counted, duration, errors_table, pace
from nst_ops.storage import Folder


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
        return self.silent_s is not None and self.silent_s > MISSED_BEATS * self.every_s

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


_EVERY_S = 2.0
_TOP_ERRORS = 5
_DESCRIPTION = """\
How far a stylize run is, from its output alone: rows done and failed, rates, time left, whether its driver
is alive, the most frequent errors. S3 is reached by the usual environment variables (AWS_ENDPOINT_URL, ...).

A driver gives a sign of life every few seconds. On remote storage this command watches for the next one,
by its own watch: clocks of several machines may differ."""


class NoRunError(FileNotFoundError):
    """There is no run in this folder."""


def main(arguments: list[str] | None = None) -> int:
    """Show how far a run is; 0, or 2 where there is none."""
    options = _parser().parse_args(arguments)
    try:
        watcher = Watcher(Folder(options.output))
        status = watcher.look()
        if not options.watch:
            status = watcher.wait_for_life(status)
    except (ValueError, OSError) as error:
        print(f"status: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(_record(status), indent=2))
        return 0
    console = Console(width=None if sys.stdout.isatty() else 120, markup=False, highlight=False)
    if options.watch:
        _watch(watcher, status, console)
    else:
        console.print(*tables(status))
    return 0


class Watcher:
    """Looks at an output again and again, and knows for how long its record has not changed.

    Args:
        output: of a run.

    Raises:
        NoRunError: there is none.
    """

    def __init__(self, output: Folder) -> None:
        self._output = output
        self._seen: tuple[str, int] | None = None
        self._seen_at, self._num_changes = 0.0, -1
        self._errors: list[ErrorGroup] = []
        self._num_failed = -1
        if not any(output.exists(name) for name in (PROGRESS_FILE, RUN_FILE, MANIFEST)):
            raise NoRunError(f"no run in '{output.uri()}': give the OUTPUT of jobs/stylize_dataset.py")

    def look(self) -> Status:
        """How far the run is now."""
        progress = read_progress(self._output)
        page = self._output.uri(REPORT_PAGE) if self._output.exists(REPORT_PAGE) else None
        if progress is None:  # of an earlier version, or killed before its first sign of life
            rows = Results(Manifest(self._output))
            return Status(self._output.uri(), None, rows.statuses(), rows.errors(_TOP_ERRORS), page=page)
        self._note(progress)
        silent_s = time.monotonic() - self._seen_at if progress.state == "running" else None
        if progress.done.num_failed != self._num_failed:
            self._errors = Results(Manifest(self._output)).errors(_TOP_ERRORS)
            self._num_failed = progress.done.num_failed
        unseen = not self._output.is_local and self._num_changes == 0
        return Status(self._output.uri(), progress, progress.statuses, self._errors, silent_s, unseen, page)

    def wait_for_life(self, status: Status) -> Status:
        """Watch until a running driver gives its next sign of life, or is silent for too long."""
        while status.silent_s is not None and status.only_watched and not status.is_silent:
            time.sleep(min(1.0, status.every_s / 5))
            status = self.look()
        return status

    def _note(self, progress: Progress) -> None:
        """Remember when the record has changed."""
        seen = progress.run_id, progress.beat
        if seen == self._seen:
            return
        self._num_changes += 1
        self._seen, self._seen_at = seen, time.monotonic()
        if self._output.is_local:  # the file's time is by the clock of this machine, or its file server
            self._seen_at -= max(0.0, time.time() - os.path.getmtime(self._output.path(PROGRESS_FILE)))


def _watch(watcher: Watcher, status: Status, console: Console) -> None:
    """Draw the status anew until the run has ended, or the reader has seen enough."""
    with Live(Group(*tables(status)), console=console, auto_refresh=False) as live:
        try:
            while status.silent_s is not None:
                time.sleep(_EVERY_S)
                status = watcher.look()
                live.update(Group(*tables(status)), refresh=True)
        except KeyboardInterrupt:
            return


def _record(status: Status) -> dict[str, Any]:
    """The status for a program."""
    progress = status.progress.model_dump(mode="json", exclude={"history"}) if status.progress else None
    return {
        "output": status.uri,
        "state": status.state,
        "silent_s": status.silent_s,
        "counts": dict(status.counts),
        "errors": [group._asdict() for group in status.errors],
        "page": status.page,
        "progress": progress,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m nst_ops.cli.status",
        description=_DESCRIPTION,
        epilog="exit codes: 0 shown; 2 no run there, or it cannot be read.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("output", metavar="OUTPUT", help="folder or URI that a run writes to")
    parser.add_argument("--watch", action="store_true", help="draw it anew every few seconds until the end")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
