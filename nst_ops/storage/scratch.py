"""Scratch folders among the temporary files of this machine; those of killed processes go when the next one comes.

A process keeps its folder locked: a lock that can be had is that of a dead process, in any container.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "nst-ops-scratch-"


class ScratchFolder(tempfile.TemporaryDirectory[str]):
    """A temporary folder, which ``remove_dead_scratch`` finds if the process is killed."""

    def __init__(self) -> None:
        super().__init__(prefix=_PREFIX)
        self._lock = _lock(self.name, wait=True)
        while not os.path.exists(self.name):  # taken for that of a dead process before it was locked
            self.cleanup()
            super().__init__(prefix=_PREFIX)
            self._lock = _lock(self.name, wait=True)

    def cleanup(self) -> None:
        """Remove the folder."""
        super().cleanup()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def remove_dead_scratch() -> None:
    """Remove the scratch folders of killed processes, which may hold whole videos."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        lock = _lock(folder, wait=False)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _lock(folder: str | Path, wait: bool) -> int | None:
    """Lock a folder until the descriptor that is returned is closed.

    None: the folder is gone, the system knows no such locks, or another process holds it and ``wait`` is false.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    with contextlib.ExitStack() as undo:
        try:
            descriptor = os.open(folder, os.O_RDONLY)
            undo.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            return None
        undo.pop_all()
        return descriptor
