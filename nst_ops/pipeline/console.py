"""The console of a run: progress with rate and ETA, and at the end a summary with an exit code."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from nst_ops.collection.progress import RunStats
from nst_ops.collection.results import ErrorGroup
from nst_ops.pipeline.prefetch import Timings
from nst_ops.report.text import counted, duration, errors_table, render

_POLL_S = 0.5
_LOG_EVERY_S = 5.0
_SHOWN_ERRORS = 5


class _StandardError:
    """The real standard error for the bars; lines of Ray's C++ core, which writes past Python, appear above them."""

    # Ray says so of every pool with restarts; its arguments live as long as the driver does.
    _FALSE_ALARM = "has constructor arguments in the object store and max_restarts > 0"

    def __init__(self) -> None:
        self.stream = os.fdopen(os.dup(2), "w", buffering=1)
        self.console = Console(file=self.stream, markup=False, highlight=False)
        reader, writer = os.pipe()
        os.dup2(writer, 2)
        os.close(writer)
        self._lines = os.fdopen(reader, errors="replace")
        self._thread = threading.Thread(target=self._pass_on, name="standard-error", daemon=True)
        self._thread.start()

    def close(self) -> None:
        sys.stderr.flush()
        os.dup2(self.stream.fileno(), 2)
        self._thread.join(timeout=1.0)  # a child that inherited the pipe may hold it open for longer

    def _pass_on(self) -> None:
        for line in self._lines:
            if self._FALSE_ALARM not in line:
                self.console.print(line.rstrip("\n"), soft_wrap=True)


class ProgressDisplay:
    """Shows the progress of a run until it is left: bars on a terminal, a line every few seconds in a log."""

    def __init__(self, stats: RunStats) -> None:
        self._stats = stats
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)
        self._terminal = sys.stderr.isatty()
        self._standard_error = _StandardError()
        self._bars = Progress(
            TextColumn("{task.description:>6}"),
            BarColumn(bar_width=32),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TextColumn("{task.fields[rate]:.1f}/s", style="progress.data.speed"),
            TimeElapsedColumn(),
            TextColumn("ETA {task.fields[eta]}"),
            console=self._standard_error.console,
            redirect_stderr=False,
            disable=not self._terminal,
        )
        self._files = self._bars.add_task("files", total=0, rate=0.0, eta="unknown")
        self._frames = self._bars.add_task("frames", total=0, rate=0.0, eta="unknown", visible=False)

    def __enter__(self) -> Self:
        self._bars.start()
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None:
            self._show()
        self._bars.stop()
        self._standard_error.close()

    def _watch(self) -> None:
        logged = time.monotonic()
        while not self._stop.wait(_POLL_S):
            line = self._show()
            if not self._terminal and time.monotonic() - logged >= _LOG_EVERY_S:
                logged = time.monotonic()
                print(line, file=self._standard_error.stream)

    def _show(self) -> str:
        """Draw the bars anew; return the same as a line."""
        self._stats.measure()
        progress = self._stats.progress()
        planned, done, rates = progress.planned, progress.done, progress.last_minute
        eta = "unknown" if progress.eta_s is None else duration(progress.eta_s)
        num_rows = min(done.num_rows, planned.num_rows)
        # Headers may claim too few frames: never show more than all of them.
        num_frames = max(planned.num_frames, done.num_frames)
        self._bars.update(self._files, completed=num_rows, total=planned.num_rows, rate=rates.rows_per_s, eta=eta)
        frames_bar: dict[str, Any] = {
            "completed": done.num_frames,
            "total": num_frames,
            "rate": rates.frames_per_s,
            "eta": eta,
        }
        self._bars.update(self._frames, visible=num_frames > 0, **frames_bar)
        frames = f", frames {done.num_frames:,}/~{num_frames:,} ({rates.frames_per_s:.1f}/s)" if num_frames else ""
        files = f"files {num_rows:,}/{planned.num_rows:,} ({rates.rows_per_s:.1f}/s)"
        return f"progress: {files}{frames}, {done.elapsed_s:,.0f} s elapsed, ETA {eta}"


@dataclass(frozen=True)
class Summary:
    """The outcome of a run."""

    counts: dict[str, int]  # rows of the whole collection by status: files, or files times styles
    num_styles: int = 1  # styles that every file gets
    num_already_done: int = 0
    num_images: int = 0
    num_frames: int = 0  # images and video frames stylized by this run
    elapsed_s: float = 0.0
    timings: Timings = field(default_factory=Timings)
    errors: Sequence[ErrorGroup] = ()  # most frequent first
    skipped: Sequence[ErrorGroup] = ()  # why files were passed over, most frequent first
    places: dict[str, str] = field(default_factory=dict)  # where to look: results, manifest, contact sheet
    num_dropped: int = 0  # rows without an output of files that have gone
    bottleneck: str = ""  # slowest stage, and what would help
    text: str = ""  # shown instead of the table: a dry run's preflight

    @property
    def exit_code(self) -> int:
        """0 if every row is ok or was no media, 3 otherwise."""
        return 3 if self.counts.get("failed") or self.counts.get("crashed") else 0

    def table(self) -> str:
        """The summary as text for a terminal or a log."""
        if self.text:
            return self.text
        table = Table(title="summary", show_header=False, title_justify="left")
        earlier = f" ({self.num_already_done:,} by earlier runs)" if self.num_already_done else ""
        files = "files" if self.num_styles == 1 else f"files x {self.num_styles:,} styles"
        table.add_row(files, counted(self.counts) + earlier)
        for group in self.skipped[:_SHOWN_ERRORS]:
            table.add_row("skipped", f"{group.num_rows:,}: {group.message}")
        if self.num_dropped:
            table.add_row("dropped", f"{self.num_dropped:,}: rows without an output, of files that have gone")
        for name, number in (("images", self.num_images), ("frames", self.num_frames)):
            if number:
                table.add_row(name, f"{number:,}, {number / max(self.elapsed_s, 1e-9):.1f}/s")
        if self.num_images or self.num_frames:
            seconds = asdict(self.timings)
            wait_s = seconds.pop("wait_s")
            busy = ", ".join(f"{name.removesuffix('_s')} {stage_s:,.1f} s" for name, stage_s in seconds.items())
            waited = f"network waited {wait_s:,.1f} s"
            table.add_row("time", f"{self.elapsed_s:,.1f} s; workers busy: {busy} (side by side); {waited}")
        if self.bottleneck:
            table.add_row("bottleneck", self.bottleneck)
        for name, place in self.places.items():
            table.add_row(name, place)
        return render(table, *errors_table(self.errors[:_SHOWN_ERRORS], "files" if self.num_styles == 1 else "rows"))
