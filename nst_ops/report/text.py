"""Tables and phrases for a terminal or a log."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from nst_ops.collection.constants import STATUSES
from nst_ops.collection.progress import Rates
from nst_ops.config.errors import for_terminal

if TYPE_CHECKING:  # a training needs no DuckDB
    from nst_ops.collection.results import ErrorGroup


class _Console(Console):
    """A console on which no name of a file works as a command to the terminal."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(for_terminal(text), **options)


def console() -> Console:
    """A console on standard output: as wide as the terminal, or 120 columns in a log."""
    return _Console(width=None if sys.stdout.isatty() else 120, markup=False, highlight=False)


def render(*tables: Table) -> str:
    """Tables as plain text, as wide as the terminal, or 120 columns in a log."""
    printer = console()
    with printer.capture() as capture:
        printer.print(*tables)
    return capture.get().rstrip("\n")


def text_table(title: str, rows: Iterable[Sequence[str]], heads: Sequence[str] = ()) -> list[Table]:
    """A table of text with or without heads, or an empty list where there are no rows."""
    table = Table(*(Column(head, overflow="fold") for head in heads), title=title, title_justify="left")
    table.show_header = bool(heads)
    for row in rows:
        table.add_row(*row)
    return [table] if table.rows else []


def errors_table(errors: Iterable[ErrorGroup], rows: str = "rows") -> list[Table]:
    """A table of errors, the most frequent first, counted in ``rows`` or ``files``; empty where there are none."""
    cells = ((f"{error.num_rows:,}", error.error_type, error.message, error.example) for error in errors)
    return text_table("top errors", cells, (rows, "error", "message", "for example"))


def counted(counts: Mapping[str, int]) -> str:
    """Rows by status, such as ``12 ok, 1 failed, 0 crashed, 0 skipped``."""
    return ", ".join(f"{counts.get(status, 0):,} {status}" for status in STATUSES)


def duration(seconds: float) -> str:
    """A duration in the unit that a person would take: ``90 s``, ``14 min``, ``3.2 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def pace(speed: Rates) -> str:
    """Rows and, where there are any, video frames per second."""
    frames = f", {speed.frames_per_s:,.1f} frames/s" if speed.frames_per_s else ""
    return f"{speed.rows_per_s:,.1f} rows/s{frames}"


def digits(figure: float) -> str:
    """A figure with three significant digits; empty for nan and infinity."""
    if not math.isfinite(figure):
        return ""
    return f"{figure:,.0f}" if abs(figure) >= 1000 else f"{figure:.3g}"
