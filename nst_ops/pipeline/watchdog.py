"""The watchdog of a worker process: a unit that gets nowhere, as in a decoder that runs in a circle, ends the process.

A thread of C does that (``faulthandler``), which needs no lock of Python's. Before, it writes the stack of every thread
into a file. By that file, and by nothing else, the executor tells a process that was ended for this from one that died.
"""

from __future__ import annotations

import contextlib
import faulthandler
import threading
from collections.abc import Iterator
from pathlib import Path

from nst_ops.collection.units import WorkUnit
from nst_ops.config import StylizeConfig
from nst_ops.pipeline.context import WorkerContext
from nst_ops.pipeline.telemetry import Reading

_BYTES_PER_S = 1_000_000  # of a large file that is copied, hashed or searched while no frame comes out
_PAUSE_S = 20.0  # between two tries of a request, at most


class Watchdog:
    """Ends this process if a unit makes no progress for its limit; ``stacks`` is the file that says so."""

    def __init__(self, stacks: Path) -> None:
        self._file = stacks.open("wb")
        self._limit_s: float | None = None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def watch(self, limit_s: float) -> Iterator[None]:
        """Watch a unit."""
        self._set(limit_s)
        try:
            yield
        finally:
            self._set(None)

    def hear(self, reading: Reading) -> None:
        """Begin the limit anew if there was progress."""
        if reading.num_rows or reading.num_frames or reading.seconds.stylize_s or reading.is_alive:
            with self._lock:
                if self._limit_s is not None:
                    self._arm(self._limit_s)

    def _set(self, limit_s: float | None) -> None:
        with self._lock:
            self._limit_s = limit_s
            if limit_s is None:
                faulthandler.cancel_dump_traceback_later()
            else:
                self._arm(limit_s)

    def _arm(self, limit_s: float) -> None:
        faulthandler.dump_traceback_later(limit_s, file=self._file, exit=True)


def limit_of(unit: WorkUnit, context: WorkerContext) -> float:
    """Return the seconds that a unit may be without progress.

    They are ``workers.item_timeout_s``, a second for each MB of its largest file, and on remote storage the time after
    which a request is given up: a storage that is away is no item's fault.
    """
    config = context.config
    largest = max(item["source_bytes"] or 0 for item in unit.items)
    if not largest and len(unit.items) == 1:  # a list need not say it
        with contextlib.suppress(OSError):
            largest = context.source.file(unit.items[0]["relpath"]).num_bytes
    is_remote = not (context.source.is_local and context.output.is_local)
    storage_s = config.storage.attempts * (config.storage.timeout_s + _PAUSE_S) if is_remote else 0.0
    return config.workers.item_timeout_s + largest / _BYTES_PER_S + storage_s


def has_struck(stacks: Path) -> bool:
    """Return whether a watchdog has ended the process that wrote this file."""
    return stacks.exists() and stacks.stat().st_size > 0


def timeout_message(config: StylizeConfig) -> str:
    """Return the reason of an item that was given up."""
    return f"made no progress for {config.workers.item_timeout_s:g} s (workers.item_timeout_s)"
