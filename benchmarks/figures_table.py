"""Show the figures of a benchmark, and keep them as JSON with the command that made them."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table


def show_figures(figures: Mapping[str, Mapping[str, float]], output: str = "") -> None:
    """Print a table for each section, and write all of them to the file ``output`` if there is one."""
    for section, values in figures.items():
        table = Table(title=section, show_header=False, title_justify="left")
        for name, value in values.items():
            table.add_row(name, f"{value:,.3g}" if value < 10 else f"{value:,.1f}")
        Console().print(table)
    if output:
        machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
        record = {"command": " ".join(["python", *sys.argv]), **machine, **figures}
        Path(output).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
