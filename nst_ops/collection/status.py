"""Status of a run as its output alone shows it, from any machine and at any time."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nst_ops.collection.constants import MANIFEST, PROGRESS_FILE, REPORT_PAGE, RUN_FILE
from nst_ops.collection.manifest import Manifest
from nst_ops.collection.progress import Progress, read_progress
from nst_ops.collection.results import ErrorGroup, Results
from nst_ops.collection.run_lock import MISSED_BEATS, describe_configs
from nst_ops.config.errors import ConfigError
from nst_ops.storage import Folder

_TOP_ERRORS = 5


@dataclass(frozen=True)
class Status:
    """Snapshot of a run."""

    uri: str
    progress: Progress | None
    """Record that the driver wrote last; None for a run that left none."""
    counts: Mapping[str, int]
    """Rows by status: of this run, or without a record of it, of the whole manifest."""
    errors: Sequence[ErrorGroup]
    silent_s: float | None = None
    """Seconds since the last heartbeat, as far as this reader can tell; None if the run has ended."""
    only_watched: bool = False
    """Whether these seconds began when this reader began to watch, for lack of a common clock."""
    page: str | None = None
    """URI of the report, if there is one."""
    configs: str = ""
    """Keys in which rows were made with several configurations, if there are any."""

    @property
    def every_s(self) -> float:
        """Seconds between two heartbeats."""
        return self.progress.every_s if self.progress else 0.0

    @property
    def is_silent(self) -> bool:
        """Whether so many heartbeats are missing that the driver may be dead."""
        return self.silent_s is not None and self.silent_s > MISSED_BEATS * self.every_s

    @property
    def state(self) -> str:
        """One word: running, finished, stopped, failed, silent, or unknown."""
        if self.progress is None:
            return "unknown"
        return "silent" if self.is_silent else self.progress.state


class Watcher:
    """Reader of an output that knows for how long its record has not changed; raises ConfigError if no run wrote it."""

    def __init__(self, output: Folder) -> None:
        self._output = output
        self._seen: tuple[str, int] | None = None
        self._seen_at, self._num_changes, self._num_failed = 0.0, -1, -1
        self._errors: list[ErrorGroup] = []
        if not any(output.exists(name) for name in (PROGRESS_FILE, RUN_FILE, MANIFEST)):
            raise ConfigError(f"no run in '{output.uri()}': give the OUTPUT of nst-ops stylize")

    def look(self) -> Status:
        """Read the status as it is now."""
        progress, uri = read_progress(self._output), self._output.uri()
        configs = describe_configs(self._output)
        page = self._output.uri(REPORT_PAGE) if self._output.exists(REPORT_PAGE) else None
        if progress is None:  # of an earlier version, or killed before its first heartbeat
            rows = Results(Manifest(self._output))
            return Status(uri, None, rows.statuses(), rows.errors(_TOP_ERRORS), page=page, configs=configs)
        if (progress.run_id, progress.beat) != self._seen:
            self._seen, self._seen_at = (progress.run_id, progress.beat), time.monotonic()
            self._num_changes += 1
            if self._output.is_local:  # the file's time is by the clock of this machine, or its file server
                self._seen_at -= max(0.0, time.time() - os.path.getmtime(self._output.path(PROGRESS_FILE)))
        if progress.done.num_failed != self._num_failed:
            self._errors = Results(Manifest(self._output)).errors(_TOP_ERRORS)
            self._num_failed = progress.done.num_failed
        silent_s = time.monotonic() - self._seen_at if progress.state == "running" else None
        only_watched = not self._output.is_local and self._num_changes == 0
        return Status(uri, progress, progress.statuses, self._errors, silent_s, only_watched, page, configs)

    def wait_for_heartbeat(self, status: Status) -> Status:
        """Watch a running driver until its next heartbeat, or until it has been silent for too long."""
        while status.silent_s is not None and status.only_watched and not status.is_silent:
            time.sleep(min(1.0, status.every_s / 5))
            status = self.look()
        return status
