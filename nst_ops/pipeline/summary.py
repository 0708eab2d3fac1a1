"""What a run came to, for a person: a table and an exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from nst_ops.collection.results import ErrorGroup
from nst_ops.pipeline.overlap import Timings

_SHOWN_ERRORS = 5
STATUSES = ("ok", "failed", "crashed", "skipped")


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
        return self.text or render(self._table(), *self._errors())

    def _table(self) -> Table:
        table = Table(title="summary", show_header=False, title_justify="left")
        counts = ", ".join(f"{self.counts.get(status, 0):,} {status}" for status in STATUSES)
        earlier = f" ({self.num_already_done:,} by earlier runs)" if self.num_already_done else ""
        files = "files" if self.num_styles == 1 else f"files x {self.num_styles:,} styles"
        table.add_row(files, counts + earlier)
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

    def _errors(self) -> list[Table]:
        if not self.errors:
            return []
        table = Table(title="top errors", title_justify="left")
        files = "files" if self.num_styles == 1 else "rows"
        for column in (files, "error", "message", "for example"):
            table.add_column(column, overflow="fold")
        for count, error_type, message, source in self.errors[:_SHOWN_ERRORS]:
            table.add_row(f"{count:,}", error_type, message, source)
        return [table]


def render(*tables: Table) -> str:
    """Tables as plain text, as wide as the terminal, or 120 columns in a log."""
    console = Console(width=None if Console().is_terminal else 120, markup=False, highlight=False)
    with console.capture() as capture:
        for table in tables:
            console.print(table)
    return capture.get().rstrip("\n")
