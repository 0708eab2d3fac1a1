"""Contents of output files, read and compared with the hashes in the manifest."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from nst_ops.collection.integrity_database import OutputFile, OutputShard, Problem, ProblemKind
from nst_ops.media.errors import MediaError
from nst_ops.media.shards import open_shard
from nst_ops.media.video import FRAME_TABLE
from nst_ops.storage import Folder, StorageError

A = TypeVar("A")
B = TypeVar("B")

_BLOCK = 2**22
"""Bytes of a file that a thread holds."""


def in_threads(function: Callable[[A], B], items: Iterable[A], num_threads: int) -> Iterator[B]:
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


def check_file(output: Folder, file: OutputFile) -> tuple[int, list[Problem]]:
    """Read a file and compare its hash.

    Returns:
        The number of bytes that were read, and what is wrong.
    """
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


def read_frames(output: Folder, table: OutputFile) -> tuple[list[OutputFile], list[Problem]]:
    """Read the table of a folder of frames.

    Returns:
        The frames that must lie beside it, their sizes unknown, and what is wrong with the table.
    """
    try:
        data = output.read_bytes(table.path)
    except StorageError:
        raise
    except Exception as error:  # as above; that it is not there shows in the listing
        return [], [] if isinstance(error, FileNotFoundError) else [_unreadable(table, error)]
    if hashlib.sha256(data).hexdigest() != table.sha256:
        detail = "is another table than its row says"
        return [], [Problem(ProblemKind.DAMAGED, table.path, detail, table.key)]
    folder = table.path.removesuffix(FRAME_TABLE)
    rows = csv.DictReader(io.StringIO(data.decode()))
    return [OutputFile(*table.key, folder + row["name"], 0, row["sha256"]) for row in rows], []


def check_shard(output: Folder, image_column: str, shard: OutputShard) -> tuple[int, list[Problem]]:
    """Read a shard and compare the hash of every image in it; labels have none in the manifest.

    Returns:
        The number of bytes that were read, and what is wrong.
    """
    try:
        with output.local_copy(shard.path) as local:
            return shard.num_bytes, list(_problems_in(local, image_column, shard))
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
