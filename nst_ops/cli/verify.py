"""The command ``nst-ops verify``: check an output against its manifest."""

from __future__ import annotations

import json
import sys
from typing import Any

import duckdb
from rich.console import Console
from rich.progress import BarColumn, Progress, TimeRemainingColumn
from rich.table import Table

from nst_ops.cli import reading
from nst_ops.collection.integrity import IntegrityReport, verify
from nst_ops.config import ConfigError
from nst_ops.config.inspection import VerifyConfig
from nst_ops.report.text import console
from nst_ops.storage import Folder, configure_storage


def main(config: VerifyConfig) -> int:
    """Verify an output and print the report; exit code 3 if something is wrong."""
    columns = (
        "{task.description}",
        BarColumn(32),
        "{task.completed:,.0f}/{task.total:,.0f}",
        "ETA",
        TimeRemainingColumn(),
    )
    bars = Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
    options = config.model_dump(include={"quick", "repair", "threads", "memory", "show"})
    try:
        with reading(config.output), bars:
            configure_storage(config.storage)
            report = verify(Folder(config.output), **options, progress=bars)
    except duckdb.OutOfMemoryException as error:
        raise ConfigError(f"{error}: give more --memory, or more room in the folder that TMPDIR names") from error
    except duckdb.Error as error:
        raise ConfigError(str(error)) from error
    if config.as_json:
        print(json.dumps(to_json(report), indent=2))
    else:
        print_report(report, console())
    return 0 if report.is_whole else 3


def print_report(report: IntegrityReport, printer: Console) -> None:
    """Print examples of every problem, and a table."""
    for kind, count in report.counts.items():
        printer.print(f"{count:,} {kind.meaning}:")
        shown = report.examples[kind]
        for problem in shown:
            printer.print(f"  {problem.what}: {problem.detail}", soft_wrap=True)
        if count > len(shown):
            printer.print(f"  ... and {count - len(shown):,} more (--show)")
        printer.print()
    table = Table(title=f"verify {report.output}", show_header=False, title_justify="left")
    statuses = ", ".join(f"{count:,} {status}" for status, count in report.statuses.items())
    table.add_row("rows", statuses or "none yet")
    hashed = f"{report.num_bytes / 1e6:,.1f} MB hashed"
    read = "names and sizes only: contents were not read (--quick)" if report.quick else hashed
    table.add_row("outputs", f"{report.num_files:,} there; {read}; {report.elapsed_s:,.1f} s")
    if report.configs:
        table.add_row("configurations", report.configs)
    for kind, count in report.counts.items():
        table.add_row(kind.value, f"{count:,} {kind.meaning}: {kind.remedy}")
    if report.num_repaired is not None:
        again = "run the job's command again: it does them again" if report.num_repaired else "nothing to do"
        table.add_row("repaired", f"{report.num_repaired:,} rows dropped: {again}")
    table.add_row("result", "whole" if report.is_whole else "NOT whole")
    printer.print(table)


def to_json(report: IntegrityReport) -> dict[str, Any]:
    """Return the report as a JSON object; problems by kind, each with its count, remedy and examples."""
    problems = {}
    for kind, count in report.counts.items():
        examples = [{"what": problem.what, "detail": problem.detail} for problem in report.examples[kind]]
        about = {"count": count, "meaning": kind.meaning, "remedy": kind.remedy}
        problems[kind.value] = about | {"examples": examples}
    return {
        "output": report.output,
        "whole": report.is_whole,
        "quick": report.quick,
        "rows": report.statuses,
        "files": report.num_files,
        "bytes_hashed": report.num_bytes,
        "elapsed_s": round(report.elapsed_s, 3),
        "problems": problems,
        "rows_dropped": report.num_repaired,
        "configs": report.configs,
    }
