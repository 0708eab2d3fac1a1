"""The path of a verification: rows first, then the listing, their differences, and the contents."""

from __future__ import annotations

import contextlib
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset
from rich.progress import Progress

from nst_ops.collection.layout import MANIFEST, RUN_FILE
from nst_ops.collection.manifest import SCHEMA, Manifest
from nst_ops.collection.pulse import refuse_living
from nst_ops.collection.run_record import only_run
from nst_ops.collection.verify.content import check_file, in_threads, open_file, read_pictures
from nst_ops.collection.verify.ledger import Ledger
from nst_ops.collection.verify.problems import Kind, Problem, Verdict
from nst_ops.collection.verify.queries import COLUMNS
from nst_ops.collection.verify.shards import check_shard
from nst_ops.media.formats import media_kind
from nst_ops.storage import Folder, StorageError

_ROWS_AT_ONCE = 50_000


class NoRunError(ValueError):
    """The folder holds no run, so that there is nothing to compare it with."""


class UnreadableManifestError(ValueError):
    """A manifest of which a part is damaged: what its rows say is not known."""


def verify(
    output: Folder,
    *,
    quick: bool = False,
    repair: bool = False,
    threads: int = 16,
    memory: str = "2GB",
    show: int = 20,
    progress: Progress | None = None,
) -> Verdict:
    """Compare what lies in an output with its manifest.

    Args:
        output: where a run has written.
        quick: leave the contents out: only names and sizes are compared.
        repair: drop the rows whose outputs are missing or damaged, and what is left of these outputs,
            so that the next run does them again. Nothing that no row names is touched.
        threads: that read files.
        memory: for the comparison, as DuckDB writes it; what does not fit goes to the disk.
        show: examples of each kind of problem.
        progress: where to show how far it is.

    Raises:
        NoRunError: no run has written there.
        OutputInUseError: to be repaired while a run writes to it.
        StorageError: the storage does not answer; no file's fault.
        UnreadableManifestError: to be repaired, but a part of the manifest cannot be read.
    """
    started = time.perf_counter()
    bars = progress or Progress(disable=True)
    config = _run_config(output)
    image_column = config.get("shards", {}).get("image_column", "image")
    # Its rows name the place where the run wrote: a copy that lies elsewhere is as good.
    roots = output.uri(), str(config["output"]).rstrip("/")
    with contextlib.ExitStack() as stack:
        if repair:
            stack.enter_context(only_run(output))
            refuse_living(output)
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="nst-ops-"))
        ledger = stack.enter_context(contextlib.closing(Ledger(scratch, memory, roots)))
        # Rows before files: of a run that is going on, each row that is seen has its output by then.
        _read_manifest(output, ledger, threads, bars)
        _read_tables_of_frames(output, ledger, threads)
        ledger.add_files(_listing(output, bars))
        ledger.compare()
        num_bytes = 0 if quick else _read_contents(output, ledger, image_column, threads, bars)
        num_repaired = _repair(output, ledger) if repair else None
        counts = ledger.counts()
        return Verdict(
            output=output.uri(),
            quick=quick,
            statuses=ledger.statuses(),
            num_files=ledger.num_outputs(),
            num_bytes=num_bytes,
            elapsed_s=time.perf_counter() - started,
            counts=counts,
            examples={kind: ledger.examples(kind, show) for kind in counts},
            num_repaired=num_repaired,
        )


def _run_config(output: Folder) -> dict[str, Any]:
    """The configuration of the run that has written there last."""
    try:
        return dict(json.loads(output.read_bytes(RUN_FILE))["config"])
    except FileNotFoundError as error:
        raise NoRunError(
            f"'{output.uri()}' holds no {RUN_FILE}: give the folder that a run wrote to"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise NoRunError(f"'{output.uri(RUN_FILE)}' is not a run record of nst-ops") from error


def _read_manifest(output: Folder, ledger: Ledger, threads: int, bars: Progress) -> None:
    """All rows; a part that cannot be read is a problem of its own."""
    parts = Manifest(output).parts()

    def read(part: str) -> list[Problem]:
        try:
            ledger.add_rows(_rows(output, part))
        except (StorageError, duckdb.Error):  # no fault of the part
            raise
        except Exception as error:  # of Arrow or of the file system: each has its own
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            return [Problem(Kind.PART, part, reason)]
        return []

    task = bars.add_task("parts of the manifest", total=len(parts))
    for problems in in_threads(read, parts, threads):
        ledger.add_problems(problems)
        bars.advance(task)


def _rows(output: Folder, part: str) -> Iterator[pa.RecordBatch]:
    """The rows of a part, a few thousand at a time; columns that it does not have are null."""
    options = pyarrow.dataset.ParquetFragmentScanOptions(page_checksum_verification=True)
    parquet = pyarrow.dataset.ParquetFileFormat(default_fragment_scan_options=options)
    with open_file(output, part) as file:
        rows = parquet.make_fragment(file)
        yield from rows.to_batches(
            SCHEMA, columns=COLUMNS, batch_size=_ROWS_AT_ONCE, batch_readahead=1, use_threads=False
        )


def _read_tables_of_frames(output: Folder, ledger: Ledger, threads: int) -> None:
    """What lies in folders of frames, which have one row each."""
    tables = ledger.tables_of_frames()
    for pictures, problems in in_threads(partial(read_pictures, output), tables, threads):
        ledger.add_pictures(pictures)
        ledger.add_problems(problems)


def _listing(output: Folder, bars: Progress) -> Iterator[tuple[str, int, bool]]:
    task = bars.add_task("files listed", total=0)
    for count, file in enumerate(output.files(), start=1):
        # A name that is no UTF-8 is in no row; Arrow could not hold it.
        name = file.relpath.encode(errors="surrogateescape").decode(errors="backslashreplace")
        yield name, file.num_bytes if file.regular else -1, media_kind(name) in ("image", "video")
        if count % 1000 == 0:
            bars.update(task, total=count, completed=count)


def _read_contents(output: Folder, ledger: Ledger, image_column: str, threads: int, bars: Progress) -> int:
    """Hash what looks right from the outside; how many bytes that were."""
    task = bars.add_task("MB read", total=ledger.num_bytes() / 1e6)
    files = in_threads(partial(check_file, output), ledger.sound_files(), threads)
    shards = in_threads(partial(check_shard, output, image_column), ledger.shards(), threads)
    total = 0
    for num_bytes, problems in itertools.chain(files, shards):
        ledger.add_problems(problems)
        bars.advance(task, num_bytes / 1e6)
        total += num_bytes
    return total


def _repair(output: Folder, ledger: Ledger) -> int:
    """Drop the rows that stand in the way of doing their outputs again; how many."""
    if Kind.PART in ledger.counts():
        raise UnreadableManifestError(
            f"'{output.uri(MANIFEST)}' has parts that cannot be read: restore or delete them, then repair"
        )
    keys = ledger.keys_to_forget()
    Manifest(output).forget(keys)
    return len(keys)
