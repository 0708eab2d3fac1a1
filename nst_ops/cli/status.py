"""The command ``nst-ops status``: show how far a run is."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table

from nst_ops.cli import reading
from nst_ops.collection.progress import Progress
from nst_ops.collection.status import Status, Watcher
from nst_ops.config.inspection import StatusConfig
from nst_ops.report.text import console, counted, duration, errors_table, pace
from nst_ops.storage import Folder, configure_storage

_EVERY_S = 2.0


def main(config: StatusConfig) -> int:
    """Show how far a run is."""
    with reading(config.output):
        configure_storage(config.storage)
        watcher = Watcher(Folder(config.output))
        status = watcher.look()
        if not config.watch:
            status = watcher.wait_for_heartbeat(status)
    if config.as_json:
        print(json.dumps(to_json(status), indent=2))
    elif config.watch:
        _watch(watcher, status)
    else:
        console().print(*tables(status))
    return 0


def _watch(watcher: Watcher, status: Status) -> None:
    """Draw the status anew until the run has ended, or the reader has seen enough."""
    live = Live(Group(*tables(status)), console=console(), auto_refresh=False)
    with live, contextlib.suppress(KeyboardInterrupt):
        while status.silent_s is not None:
            time.sleep(_EVERY_S)
            status = watcher.look()
            live.update(Group(*tables(status)), refresh=True)


def to_json(status: Status) -> dict[str, Any]:
    """Return the status as a JSON object."""
    return {
        "output": status.uri,
        "state": status.state,
        "silent_s": status.silent_s,
        "counts": dict(status.counts),
        "errors": [group._asdict() for group in status.errors],
        "page": status.page,
        "configs": status.configs,
        "progress": status.progress and status.progress.model_dump(mode="json", exclude={"history"}),
    }


def tables(status: Status) -> list[Table]:
    """Return the status as a table, with a second one of the errors if there are any."""
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
            "configurations": status.configs,
            "report": status.page or "",
        }
    planned, done, running = progress.planned, progress.done, progress.state == "running"
    share = f", {done.num_rows / planned.num_rows:.1%}" if planned.num_rows else ""
    earlier = f" ({planned.num_done_before:,} more by earlier runs)" if planned.num_done_before else ""
    expected = f" of about {max(planned.num_frames, done.num_frames):,}" if running else ""
    now = f"{pace(progress.last_minute)} in the last minute; " if running else ""
    left = f", {'unknown' if progress.eta_s is None else f'about {duration(progress.eta_s)}'} left"
    return {
        "run": f"{progress.run_id}, driver on {progress.host}, since {progress.started_at}",
        "state": _state(status, progress),
        "rows": f"{done.num_rows:,} of {planned.num_rows:,}{share}{earlier}",
        "ended": counted(status.counts),
        "frames": f"{done.num_frames:,}{expected}" if planned.num_frames or done.num_frames else "",
        "rate": f"{now}{pace(progress.overall)} overall" if done.elapsed_s else "",
        "time": f"{duration(done.elapsed_s)}{left if running else ''}" if done.elapsed_s else "",
        "workers": _workers(progress) if planned.num_workers else "",
        "lost units": f"{progress.num_retries:,}, tried again" if progress.num_retries else "",
        "configurations": status.configs,
        "report": status.page or "",
    }


def _state(status: Status, progress: Progress) -> str:
    if status.silent_s is None:
        again = "; run the same command again to go on" if progress.state in ("stopped", "failed") else ""
        return f"{progress.state}{f': {progress.reason}' if progress.reason else ''}{again}"
    if status.is_silent:
        watched = ", all the time that this command has watched" if status.only_watched else ""
        silent = f"no heartbeat for {duration(status.silent_s)}{watched}"
        return f"{silent}: the driver may be dead; run the same command again to go on"
    return f"running, last heartbeat {duration(status.silent_s)} ago"


def _workers(progress: Progress) -> str:
    planned = progress.planned
    speed = progress.last_minute if progress.state == "running" else progress.overall
    gpus = f"{planned.num_gpus:,} GPUs in the cluster, " if planned.num_gpus else ""
    shares = f"networks busy {speed.busy_share:.0%} of the time, waiting {speed.wait_share:.0%}"
    return f"{planned.num_workers:,}, {gpus}{shares}"
