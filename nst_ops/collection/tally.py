"""What a run has done so far, counted on the driver."""

from __future__ import annotations

import contextlib
import platform
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime

from nst_ops.collection.progress import History, Planned, Progress, Sample, State

_MINUTE_S = 60.0

Totals = Callable[[], Sample]
"""Asked for what the workers have done so far: rows, frames, seconds busy and waiting."""


class Tally:
    """Counts the rows and frames of a run, from any thread.

    Args:
        run_id: of the run.
        every_s: seconds between two calls of ``measure``.
    """

    def __init__(self, run_id: str, every_s: float) -> None:
        self.run_id, self.every_s = run_id, every_s
        self._started_at = _now()
        self._planned = Planned()
        self._totals: Totals | None = None
        self._work_started = 0.0
        self._live = Sample()
        self._minute: deque[Sample] = deque([Sample()])
        self._history = History()
        self._statuses: dict[str, int] = {}
        self._num_images = self._num_retries = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def work(self, planned: Planned, totals: Totals) -> Iterator[None]:
        """Count what the workers do from here on, until this is left.

        Args:
            planned: what there is to do.
            totals: asked at every ``measure``; it may fail, then its last answer counts.
        """
        self._planned, self._totals, self._work_started = planned, totals, time.monotonic()
        try:
            yield
        finally:
            self.measure()
            self._totals = None

    def count(self, statuses: Mapping[str, int], num_images: int = 0) -> None:
        """Count rows that are settled.

        Args:
            statuses: rows by status.
            num_images: images among them that were stylized.
        """
        with self._lock:
            for status, number in statuses.items():
                self._statuses[status] = self._statuses.get(status, 0) + number
            self._num_images += num_images

    def retry(self, num_units: int) -> None:
        """Count units that were lost with their worker and are tried again."""
        with self._lock:
            self._num_retries += num_units

    def measure(self) -> None:
        """Ask the workers, and keep the answer."""
        totals = self._totals
        if totals is None:
            return
        try:
            answer = totals()
        except Exception:  # the cluster may be gone; the run itself will say
            answer = self._live
        with self._lock:
            self._live = answer._replace(elapsed_s=time.monotonic() - self._work_started)
            done = self._done()
            self._history.add(done)
            self._minute.append(done)
            while len(self._minute) > 2 and self._minute[1].elapsed_s <= done.elapsed_s - _MINUTE_S:
                self._minute.popleft()

    def progress(self, state: State = "running", reason: str = "", beat: int = 0) -> Progress:
        """How far the run is."""
        with self._lock:
            done = self._done()
            return Progress(
                run_id=self.run_id,
                state=state,
                reason=reason[:500],
                host=platform.node(),
                started_at=self._started_at,
                updated_at=_now(),
                beat=beat,
                every_s=self.every_s,
                planned=self._planned,
                done=done,
                minute_ago=self._minute[0],
                statuses=dict(self._statuses),
                num_images=self._num_images,
                num_retries=self._num_retries,
                history=[*self._history.samples(), done],
            )

    def _done(self) -> Sample:
        """What is done: of a unit at work its workers have told, a lost one is told twice."""
        live = min(self._live.num_rows, self._planned.num_rows)
        failed = self._statuses.get("failed", 0) + self._statuses.get("crashed", 0)
        settled = sum(self._statuses.values())
        return self._live._replace(num_rows=max(live, settled), num_failed=failed)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
