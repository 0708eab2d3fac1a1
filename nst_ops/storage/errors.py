"""What may go wrong with a whole storage, other than with one of its files."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator


class StorageError(OSError):
    """The storage cannot be used: no file's fault, so it never becomes the failure of a file."""


class StorageFullError(StorageError):
    """The output has no space left, so the run stops."""


class StorageUnavailableError(StorageError):
    """The storage does not answer after all tries, or refuses these credentials: try again later."""


def full(uri: str) -> StorageFullError:
    """The error of a folder that has no space left."""
    return StorageFullError(
        f"no space left on {uri}: free some and run the same command again, finished files are kept"
    )


@contextlib.contextmanager
def storage_full_errors(uri: str) -> Iterator[None]:
    """Turn "no space left" and "over quota" within into ``StorageFullError``."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise full(uri) from error
        raise
