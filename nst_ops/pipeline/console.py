"""The console of a run: progress with rate and ETA, and at the end a summary with an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from nst_ops.collection.progress import Planned, ReadTotals, Totals, work_left
from nst_ops.collection.results import ErrorGroup
from nst_ops.pipeline.prefetch import Timings
from nst_ops.report.text import counted, errors_table, render

_POLL_S = 0.5
_LOG_EVERY_S = 5.0
_SHOWN_ERRORS = 5


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s", style="progress.data.speed")


class _StandardError:
    """The real standard error for the bars; lines of others who write there are printed above them.

    Ray's C++ core writes to the file descriptor, past Python, and would tear the bars apart.
    """

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
        """Give the descriptor back."""
        sys.stderr.flush()
        os.dup2(self.stream.fileno(), 2)
        self._thread.join(timeout=1.0)  # a child that inherited the pipe may hold it open for longer

    def _pass_on(self) -> None:
        for line in self._lines:
            if self._FALSE_ALARM not in line:
                self.console.print(line.rstrip("\n"), soft_wrap=True)


class ProgressDisplay:
    """Shows what ``totals`` says twice a second, of rows and an estimated number of video frames, until it is left."""

    def __init__(self, num_items: int, num_frames: int, totals: ReadTotals) -> None:
        self._num_items, self._num_frames, self._totals = num_items, num_frames, totals
        self._done = Totals()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)
        self._terminal = sys.stderr.isatty()
        self._started = time.monotonic()
        self._standard_error = _StandardError()
        self._bars = Progress(
            TextColumn("{task.description:>6}"),
            BarColumn(bar_width=32),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            _Rate(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=self._standard_error.console,
            redirect_stderr=False,
            disable=not self._terminal,
        )
        self._files = self._bars.add_task("files", total=num_items)
        self._frames = self._bars.add_task("frames", total=num_frames, visible=num_frames > 0)

    def __enter__(self) -> Self:
        self._bars.start()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None:
            self._show(self._ask())
        self._bars.stop()
        self._standard_error.close()

    def _ask(self) -> Totals:
        # A busy or lost cluster has no answer: the run itself will say.
        with contextlib.suppress(Exception):
            self._done = self._totals()
        return self._done

    def _watch(self) -> None:
        logged = time.monotonic()
        while not self._stop.wait(_POLL_S):
            done = self._ask()
            self._show(done)
            if not self._terminal and time.monotonic() - logged >= _LOG_EVERY_S:
                logged = time.monotonic()
                print(self._line(done), file=self._standard_error.stream)

    def _show(self, done: Totals) -> None:
        self._bars.update(self._files, completed=min(done.num_rows, self._num_items))
        # Headers may claim too few frames: never show more than all of them.
        self._bars.update(self._frames, completed=done.num_frames, total=max(self._num_frames, done.num_frames))

    def _line(self, done: Totals) -> str:
        elapsed = time.monotonic() - self._started
        items, frames = done.num_rows, done.num_frames
        parts = [f"files {items:,}/{self._num_items:,} ({items / elapsed:.1f}/s)"]
        if self._num_frames:
            parts.append(f"frames {frames:,}/~{max(self._num_frames, frames):,} ({frames / elapsed:.1f}/s)")
        left = work_left(Planned(num_rows=self._num_items, num_frames=self._num_frames), done)
        eta = f"{elapsed * left / (items + frames):,.0f} s" if items + frames else "unknown"
        return f"progress: {', '.join(parts)}, {elapsed:,.0f} s elapsed, ETA {eta}"


@dataclass(frozen=True)
class Summary:
    """The outcome of a run."""

    counts: dict[str, int]
    """Rows of the whole collection by status: files, or files times styles."""
    num_styles: int = 1
    """Styles that every file gets."""
    num_already_done: int = 0
    num_images: int = 0
    num_frames: int = 0
    """Images and video frames stylized by this run."""
    elapsed_s: float = 0.0
    timings: Timings = field(default_factory=Timings)
    errors: Sequence[ErrorGroup] = field(default_factory=list)
    """(count, error type, message, one source), most frequent first."""
    places: dict[str, str] = field(default_factory=dict)
    """Where to look: results, manifest, contact sheet."""
    text: str = ""
    """Shown instead of the table: a dry run's preflight."""

    @property
    def exit_code(self) -> int:
        """0 if every row is ok or was no media, 3 otherwise."""
        return 3 if self.counts.get("failed", 0) or self.counts.get("crashed", 0) else 0

    def table(self) -> str:
        """The summary as text for a terminal or a log."""
        files = "files" if self.num_styles == 1 else "rows"
        return self.text or render(self._table(), *errors_table(self.errors[:_SHOWN_ERRORS], files))

    def _table(self) -> Table:
        table = Table(title="summary", show_header=False, title_justify="left")
        earlier = f" ({self.num_already_done:,} by earlier runs)" if self.num_already_done else ""
        files = "files" if self.num_styles == 1 else f"files x {self.num_styles:,} styles"
        table.add_row(files, counted(self.counts) + earlier)
        seconds = max(self.elapsed_s, 1e-9)
        if self.num_images:
            table.add_row("images", f"{self.num_images:,}, {self.num_images / seconds:.1f}/s")
        if self.num_frames:
            table.add_row("frames", f"{self.num_frames:,}, {self.num_frames / seconds:.1f}/s")
        if self.num_images or self.num_frames:
            busy = self.timings
            table.add_row(
                "time",
                f"{self.elapsed_s:,.1f} s; workers busy: decode {busy.decode_s:,.1f} s, stylize "
                f"{busy.stylize_s:,.1f} s, smooth {busy.smooth_s:,.1f} s, encode {busy.encode_s:,.1f} s "
                "(side by side); "
                f"network waited {busy.wait_s:,.1f} s",
            )
        for name, place in self.places.items():
            table.add_row(name, place)
        return table
