"""A verdict as a person reads it, and as a program does."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table

from nst_ops.collection.verify.problems import Verdict


def print_verdict(verdict: Verdict, console: Console) -> None:
    """Print examples of every problem, and a table."""
    for kind, count in verdict.counts.items():
        console.print(f"{count:,} {kind.meaning}:")
        shown = verdict.examples[kind]
        for problem in shown:
            console.print(f"  {problem.what}: {problem.detail}", soft_wrap=True)
        if count > len(shown):
            console.print(f"  ... and {count - len(shown):,} more (--show)")
        console.print()
    console.print(_table(verdict))


def to_json(verdict: Verdict) -> str:
    """The verdict as a JSON object; problems by kind, each with its count, remedy and examples."""
    problems = {
        kind.value: {
            "count": count,
            "meaning": kind.meaning,
            "remedy": kind.remedy,
            "examples": [{"what": p.what, "detail": p.detail} for p in verdict.examples[kind]],
        }
        for kind, count in verdict.counts.items()
    }
    return json.dumps(
        {
            "output": verdict.output,
            "whole": verdict.is_whole,
            "quick": verdict.quick,
            "rows": verdict.statuses,
            "files": verdict.num_files,
            "bytes_hashed": verdict.num_bytes,
            "elapsed_s": round(verdict.elapsed_s, 3),
            "problems": problems,
            "rows_dropped": verdict.num_repaired,
        },
        indent=2,
    )


def _table(verdict: Verdict) -> Table:
    table = Table(title=f"verify {verdict.output}", show_header=False, title_justify="left")
    statuses = ", ".join(f"{count:,} {status}" for status, count in verdict.statuses.items())
    table.add_row("rows", statuses or "none yet")
    hashed = f"{verdict.num_bytes / 1e6:,.1f} MB hashed"
    read = "names and sizes only: contents were not read (--quick)" if verdict.quick else hashed
    table.add_row("outputs", f"{verdict.num_files:,} there; {read}; {verdict.elapsed_s:,.1f} s")
    for kind, count in verdict.counts.items():
        table.add_row(kind.value, f"{count:,} {kind.meaning}: {kind.remedy}")
    if verdict.num_repaired is not None:
        again = "run the job's command again: it does them again" if verdict.num_repaired else "nothing to do"
        table.add_row("repaired", f"{verdict.num_repaired:,} rows dropped: {again}")
    table.add_row("verdict", "whole" if verdict.is_whole else "NOT whole")
    return table
