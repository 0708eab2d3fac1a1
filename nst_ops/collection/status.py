"""How far a run is, from its output alone: ``python -m nst_ops.collection.status OUTPUT``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live

from nst_ops.collection.layout import MANIFEST, RUN_FILE
from nst_ops.collection.manifest import Manifest
from nst_ops.collection.progress import PROGRESS_FILE, Progress, read_progress
from nst_ops.collection.results import ErrorGroup, Results
from nst_ops.collection.status_table import Status, tables
from nst_ops.storage import Folder

PAGE = "report/index.html"

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
        page = self._output.uri(PAGE) if self._output.exists(PAGE) else None
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
        prog="python -m nst_ops.collection.status",
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
