"""The contents of outputs, read by many threads at once and hashed."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO, TypeVar

from nst_ops.collection.verify.ledger import OutputFile
from nst_ops.collection.verify.problems import Kind, Problem
from nst_ops.media.video.frames import TIMES
from nst_ops.storage import Folder, RemoteFile, StorageError

A = TypeVar("A")
B = TypeVar("B")

_BLOCK = 2**22
"""Bytes of a file that a thread holds."""


def in_threads(function: Callable[[A], B], items: Iterable[A], num_threads: int) -> Iterator[B]:
    """Call ``function`` on every item; results in order, few of them waiting."""
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


def open_file(output: Folder, place: str) -> BinaryIO:
    """A file to be read from its beginning to its end, in pieces."""
    media = output.media(place)
    return media.open(_BLOCK) if isinstance(media, RemoteFile) else open(media, "rb", _BLOCK)


def check_file(output: Folder, file: OutputFile) -> tuple[int, list[Problem]]:
    """Read a file and compare its hash.

    Returns:
        The bytes that were read, and what is wrong.
    """
    try:
        digest = hashlib.sha256()
        if file.num_bytes <= _BLOCK:
            digest.update(output.read_bytes(file.place))  # one request
        else:
            with open_file(output, file.place) as stream:
                while chunk := stream.read(_BLOCK):
                    digest.update(chunk)
    except StorageError:
        raise
    except Exception as error:  # whatever the file system raises: the others are checked all the same
        return 0, [unreadable(file, error)]
    if digest.hexdigest() == file.sha256:
        return file.num_bytes, []
    detail = f"has SHA-256 {digest.hexdigest()}, its row says {file.sha256}"
    return file.num_bytes, [Problem(Kind.DAMAGED, file.place, detail, file.key)]


def read_pictures(output: Folder, table: OutputFile) -> tuple[list[OutputFile], list[Problem]]:
    """What must lie beside the table of a folder of frames, unless the table is missing or damaged.

    Returns:
        Every picture, its size unknown, and what is wrong with the table.
    """
    try:
        data = output.read_bytes(table.place)
    except StorageError:
        raise
    except Exception as error:  # as above; that it is not there shows in the listing
        return [], [] if isinstance(error, FileNotFoundError) else [unreadable(table, error)]
    if hashlib.sha256(data).hexdigest() != table.sha256:
        return [], [Problem(Kind.DAMAGED, table.place, "is another table than its row says", table.key)]
    folder = table.place.removesuffix(TIMES)
    rows = csv.DictReader(io.StringIO(data.decode()))
    return [OutputFile(*table.key, folder + row["name"], 0, row["sha256"]) for row in rows], []


def unreadable(file: OutputFile, error: Exception) -> Problem:
    """What is wrong with a file that raises this when it is read."""
    if isinstance(error, FileNotFoundError):
        return Problem(Kind.MISSING, file.place, "is not there any more", file.key)
    return Problem(Kind.UNREADABLE, file.place, f"{type(error).__name__}: {error}")
