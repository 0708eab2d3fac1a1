"""Integrity of an output against its manifest: nothing missing, damaged, extra or twice."""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import itertools
import json
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa
from rich.progress import Progress

from nst_ops.collection.constants import MANIFEST, RUN_FILE
from nst_ops.collection.integrity_database import IntegrityDatabase, OutputFile, OutputShard, Problem, ProblemKind
from nst_ops.collection.manifest import Manifest
from nst_ops.collection.run_lock import describe_configs, machine_lock, read_configs, refuse_live_run
from nst_ops.config.errors import ConfigError
from nst_ops.media.errors import MediaError
from nst_ops.media.formats import is_system_folder, media_kind
from nst_ops.media.shards import open_shard
from nst_ops.media.video.writer import FRAME_TABLE
from nst_ops.storage import Folder, StorageError

A = TypeVar("A")
B = TypeVar("B")
_ROWS_AT_ONCE = 50_000
_BLOCK = 2**22
"""Bytes of a file that a thread holds."""


@dataclass(frozen=True)
class IntegrityReport:
    """Findings of a verification."""

    output: str
    quick: bool
    """Whether contents were left out."""
    statuses: dict[str, int]
    """Rows by status."""
    num_files: int
    """Outputs looked at: files, images of folders of frames, images in shards."""
    num_bytes: int
    """Bytes read and hashed."""
    elapsed_s: float
    counts: dict[ProblemKind, int]
    examples: dict[ProblemKind, list[Problem]]
    num_repaired: int | None = None
    """Rows dropped for the next run; None where that was not asked for."""
    configs: str = ""
    """Keys in which rows were made with several configurations, if there are any."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.counts


def verify(
    output: Folder,
    *,
    quick: bool = False,
    repair: bool = False,
    threads: int = 16,
    memory: str = "2GB",
    show: int = 20,
    progress: Progress | None = None,
) -> IntegrityReport:
    """Compare the files of an output with its manifest, or with ``quick`` their names and sizes alone.

    ``repair`` drops the rows whose outputs are missing or damaged, and what is left of these outputs, so that the
    next run does them again; nothing that no row names is touched. What does not fit into ``memory`` (as DuckDB
    writes it) goes to the disk. The report has up to ``show`` examples of each kind of problem.

    Raises:
        ConfigError: no run has written there; or, to be repaired, a part of the manifest cannot be read.
        OutputInUseError: to be repaired while a run writes to it.
        StorageError: the storage does not answer; no file's fault.
    """
    started = time.perf_counter()
    bars = progress or Progress(disable=True)
    config = run_config(output)
    # Rows name the place where the run wrote: a copy that lies elsewhere is as good.
    folds = output.is_local and output.exists(RUN_FILE.upper())
    database = IntegrityDatabase(memory, output.uri(), str(config["output"]).rstrip("/"), folds)
    with contextlib.ExitStack() as stack:
        if repair:
            stack.enter_context(machine_lock(output))
            refuse_live_run(output)
        # Rows before files: of a run that is going on, each row that is seen has its output by then.
        _read_manifest(Manifest(output), database, threads, bars)
        for frames, problems in _in_threads(partial(_read_frames, output), database.tables_of_frames(), threads):
            database.add_frames(frames)
            database.add_problems(problems)
        database.add_files(_list_files(output, bars))
        database.compare()
        columns = {sha256: _image_column(each) for sha256, each in read_configs(output).items()}
        image_columns = defaultdict(partial(_image_column, config), columns)
        num_bytes = 0 if quick else _read_contents(output, database, image_columns, threads, bars)
        num_repaired = _repair(output, database) if repair else None
        statuses, num_files, counts = database.statuses(), database.num_outputs(), database.counts()
        examples = {kind: database.examples(kind, show) for kind in counts}
        elapsed_s = time.perf_counter() - started
        found = statuses, num_files, num_bytes, elapsed_s, counts, examples
        return IntegrityReport(output.uri(), quick, *found, num_repaired, describe_configs(output))


def run_config(output: Folder) -> dict[str, Any]:
    """Return the configuration of the run that has written there last."""
    try:
        return dict(json.loads(output.read_bytes(RUN_FILE))["config"])
    except FileNotFoundError as error:
        raise ConfigError(f"'{output.uri()}' holds no {RUN_FILE}: give the folder that a run wrote to") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"'{output.uri(RUN_FILE)}' is not a run record of nst-ops") from error


def _image_column(config: dict[str, Any]) -> str:
    return str(config.get("shards", {}).get("image_column", "image"))


def _read_manifest(manifest: Manifest, database: IntegrityDatabase, threads: int, bars: Progress) -> None:
    """Read all rows; a part that cannot be read is a problem of its own."""
    parts = manifest.parts()
    task = bars.add_task("parts of the manifest", total=len(parts))
    tables: list[pa.Table] = []
    for part, read in zip(parts, manifest.read_parts(parts, database.row_columns, threads), strict=True):
        try:
            tables.append(read())
        except StorageError:  # no fault of the part
            raise
        except Exception as error:  # of Arrow or of the file system: each has its own
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            database.add_problems([Problem(ProblemKind.PART, part, reason)])
        bars.advance(task)
        if sum(map(len, tables)) >= _ROWS_AT_ONCE:  # a statement for every small part takes ten times as long
            database.add_rows(pa.concat_tables(tables))
            tables = []
    if tables:
        database.add_rows(pa.concat_tables(tables))


def _list_files(output: Folder, bars: Progress) -> Iterator[tuple[str, int, bool]]:
    task = bars.add_task("files listed", total=0)
    for count, file in enumerate(output.files(enters=lambda folder: True), start=1):
        if file.relpath.endswith("/"):  # it cannot be listed
            if is_system_folder(file.relpath):  # as lost+found, where the output is all of a disk
                continue
            raise PermissionError(errno.EACCES, file.problem, output.uri(file.relpath))
        # A name that is no UTF-8 is in no row; Arrow could not hold it.
        name = file.relpath.encode(errors="surrogateescape").decode(errors="backslashreplace")
        yield name, file.num_bytes if file.regular else -1, media_kind(name) in ("image", "video")
        if count % 1000 == 0:
            bars.update(task, total=count, completed=count)


def _read_contents(
    output: Folder, database: IntegrityDatabase, image_columns: Mapping[str, str], threads: int, bars: Progress
) -> int:
    """Hash all files that look right from the outside, and return the number of bytes."""
    task = bars.add_task("MB read", total=database.num_bytes() / 1e6)
    files = _in_threads(partial(_check_file, output), database.sound_files(), threads)
    shards = _in_threads(partial(_check_shard, output, image_columns), database.shards(), threads)
    total = 0
    for num_bytes, problems in itertools.chain(files, shards):
        database.add_problems(problems)
        bars.advance(task, num_bytes / 1e6)
        total += num_bytes
    return total


def _repair(output: Folder, database: IntegrityDatabase) -> int:
    """Drop the rows that stand in the way of doing their outputs again, and return their number."""
    if ProblemKind.PART in database.counts():
        raise ConfigError(
            f"'{output.uri(MANIFEST)}' has parts that cannot be read: restore or delete them, then repair"
        )
    keys = database.keys_to_forget()
    Manifest(output).forget(keys)
    return len(keys)


def _in_threads(function: Callable[[A], B], items: Iterable[A], num_threads: int) -> Iterator[B]:
    """Yield the results of ``function`` for every item in order, a few of them computed ahead."""
    with ThreadPoolExecutor(num_threads, thread_name_prefix="verify") as pool:
        waiting: deque[Future[B]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 4 * num_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _check_file(output: Folder, file: OutputFile) -> tuple[int, list[Problem]]:
    """Read a file and compare its hash; return the number of bytes that were read, and what is wrong."""
    try:
        digest = hashlib.sha256()
        if file.num_bytes <= _BLOCK:
            digest.update(output.read_bytes(file.path))  # one request
        else:
            with output.open(file.path, _BLOCK) as stream:
                while chunk := stream.read(_BLOCK):
                    digest.update(chunk)
    except StorageError:
        raise
    except Exception as error:  # whatever the file system raises: the others are checked all the same
        return 0, [_unreadable(file, error)]
    if digest.hexdigest() == file.sha256:
        return file.num_bytes, []
    detail = f"has SHA-256 {digest.hexdigest()}, its row says {file.sha256}"
    return file.num_bytes, [Problem(ProblemKind.DAMAGED, file.path, detail, file.key)]


def _read_frames(output: Folder, table: OutputFile) -> tuple[list[OutputFile], list[Problem]]:
    """Return the frames that must lie beside their table, their sizes unknown, and what is wrong with the table."""
    try:
        data = output.read_bytes(table.path)
    except StorageError:
        raise
    except Exception as error:  # as above; that it is not there shows in the listing
        return [], [] if isinstance(error, FileNotFoundError) else [_unreadable(table, error)]
    if hashlib.sha256(data).hexdigest() != table.sha256:
        return [], [Problem(ProblemKind.DAMAGED, table.path, "is another table than its row says", table.key)]
    folder = table.path.removesuffix(FRAME_TABLE)
    rows = csv.DictReader(io.StringIO(data.decode()))
    return [OutputFile(*table.key, folder + row["name"], 0, row["sha256"]) for row in rows], []


def _check_shard(output: Folder, image_columns: Mapping[str, str], shard: OutputShard) -> tuple[int, list[Problem]]:
    """Check every image in a shard as ``_check_file`` does; labels have no hash in the manifest."""
    try:
        with output.local_copy(shard.path) as local:
            return shard.num_bytes, list(_problems_in(local, image_columns[shard.config_sha256], shard))
    except StorageError:
        raise
    except MediaError as error:
        return 0, [Problem(ProblemKind.DAMAGED, shard.path, f"is {error}", shard.key)]
    except Exception as error:  # whatever the file system raises: the others are checked all the same
        return 0, [_unreadable(OutputFile(*shard.key, shard.path, shard.num_bytes, ""), error)]


def _problems_in(local: str, image_column: str, shard: OutputShard) -> Iterator[Problem]:
    missing = dict(shard.images)
    for sample in open_shard(local, image_column).samples():
        for image in sample.images:
            what = f"{shard.path}#{image.member}"
            expected = missing.pop(image.member, None)
            if expected is None and image.by_content:
                continue  # a label: what is stylized has the extension of an image
            if expected is None:
                yield Problem(ProblemKind.DAMAGED, what, "is in the shard, but in no row", shard.key)
                continue
            found = hashlib.sha256(image.data).hexdigest()
            if len(image.data) != expected.num_bytes or found != expected.sha256:
                detail = f"has SHA-256 {found}, its row says {expected.sha256}"
                yield Problem(ProblemKind.DAMAGED, what, detail, expected.key)
    for name, lost in missing.items():
        yield Problem(ProblemKind.MISSING, f"{shard.path}#{name}", "is not in the shard", lost.key)


def _unreadable(file: OutputFile, error: Exception) -> Problem:
    if isinstance(error, FileNotFoundError):
        return Problem(ProblemKind.MISSING, file.path, "is not there any more", file.key)
    return Problem(ProblemKind.UNREADABLE, file.path, f"{type(error).__name__}: {error}")
