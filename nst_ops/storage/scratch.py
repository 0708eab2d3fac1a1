"""Scratch folders among the temporary files of this machine; those of killed processes go when the next one comes.

Each holds a file that its process keeps locked: a lock that can be had is that of a dead process, in any container.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

_PREFIX, _LOCK = "nst-ops-", "lock"


class ScratchFolder(tempfile.TemporaryDirectory[str]):
    """A temporary folder, which ``remove_dead_scratch`` finds if the process is killed."""

    def __init__(self) -> None:
        super().__init__(prefix=_PREFIX)
        self._lock = _take(os.path.join(self.name, f"new-{_LOCK}"), create=True)
        if self._lock is not None:
            os.rename(self._lock.name, os.path.join(self.name, _LOCK))  # never there without being held


def remove_dead_scratch() -> None:
    """Remove the scratch folders of killed processes, which may hold whole videos."""
    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_LOCK}"):
        with contextlib.suppress(OSError):
            if held := _take(lock, create=False):
                shutil.rmtree(lock.parent, ignore_errors=True)
                held.close()


def _take(path: str | Path, create: bool) -> Any:
    """Lock a file; return it open, or None where another process holds it, or the system knows no such locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    file = open(path, "xb" if create else "r+b")  # noqa: SIM115, open means locked
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
