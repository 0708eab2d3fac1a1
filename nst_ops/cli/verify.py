"""The command ``nst-ops verify``: check an output against its manifest."""

from __future__ import annotations

import argparse
import json
import sys

import duckdb
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from nst_ops.collection.integrity import NoRunError, UnreadableManifestError, Verdict, verify
from nst_ops.collection.run_lock import OutputInUseError
from nst_ops.config.storage import StorageConfig
from nst_ops.storage import Folder, configure_storage


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


_STORAGE = "storage."
_DESCRIPTION = """\
Check an output of a stylize run against its manifest:
  - every row that says ok has its output, complete, with the size and SHA-256 that it names;
    so has every picture of a folder of frames, and every image in a shard
  - no other file lies in the output (manifest/, report/, run.json and hidden files are the run's own)
  - no source has two rows in one style, and no two sources have one output
  - every row that is not ok says why
Reads only, unless --repair is given."""

_EPILOG = """\
examples:
  python -m nst_ops.collection.integrity out                          everything, contents too
  python -m nst_ops.collection.integrity s3://bucket/out --quick      names and sizes, from the listing alone
  python -m nst_ops.collection.integrity out --json | jq .problems    for a program
  python -m nst_ops.collection.integrity out --repair                 then the job's command again: it does
                                                                   again what was missing or damaged

While a run is going on, outputs are there before their rows: 'extra' is expected then.

exit codes: 0 whole; 3 problems found, repaired ones included; 2 no run there, or bad arguments."""


def main(arguments: list[str] | None = None) -> int:
    """Check, print what was found, and give the exit code."""
    options = _parser().parse_args(arguments)
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=32),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    try:
        configure_storage(_storage(options))
        with bars:
            verdict = verify(
                Folder(options.output),
                quick=options.quick,
                repair=options.repair,
                threads=options.threads,
                memory=options.memory,
                show=options.show,
                progress=bars,
            )
    except (NoRunError, UnreadableManifestError, OutputInUseError) as error:
        return _refuse(str(error))
    except (ValueError, OSError) as error:  # of fsspec: no such file system, no access
        return _refuse(f"cannot read '{options.output}': {error}")
    except duckdb.OutOfMemoryException as error:
        return _refuse(f"{error}: give more --memory, or more room in the folder that TMPDIR names")
    except duckdb.Error as error:
        return _refuse(str(error))
    if options.json:
        print(to_json(verdict))
    else:
        width = None if sys.stdout.isatty() else 120
        print_verdict(verdict, Console(width=width, markup=False, highlight=False))
    return 0 if verdict.is_whole else 3


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m nst_ops.collection.integrity",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("output", metavar="OUTPUT", help="folder or URI that a run wrote to")
    parser.add_argument(
        "--quick", action="store_true", help="compare names and sizes only: a changed byte is not seen"
    )
    parser.add_argument(
        "--repair",
        action="store_true",
        help="drop the rows whose outputs are missing or damaged, and these outputs, so that the next run "
        "does them again; extra files are never touched",
    )
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")
    parser.add_argument(
        "--show", type=_count, default=20, metavar="N", help="problems shown of each kind (20)"
    )
    parser.add_argument("--threads", type=_positive, default=16, metavar="N", help="that read files (16)")
    parser.add_argument(
        "--memory", default="2GB", metavar="SIZE", help="for the comparison; the rest goes to TMPDIR (2GB)"
    )
    for key, name in (("endpoint_url", "URL"), ("profile", "NAME"), ("region", "NAME")):
        parser.add_argument(f"--{_STORAGE}{key}", metavar=name, help="of S3, as in the job's configuration")
    return parser


def _storage(options: argparse.Namespace) -> StorageConfig:
    given = {
        key.removeprefix(_STORAGE): value for key, value in vars(options).items() if key.startswith(_STORAGE)
    }
    return StorageConfig(**{key: value for key, value in given.items() if value is not None})


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def _positive(text: str) -> int:
    number = _count(text)
    if number == 0:
        raise ValueError
    return number


def _refuse(reason: str) -> int:
    print(f"verify: {reason}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
