"""Progress of a run: what is planned, what is done, how fast, and the record of it in the output."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from pydantic import BaseModel, computed_field

from nst_ops.collection.constants import PROGRESS_FILE
from nst_ops.storage import Folder

State = Literal["running", "finished", "stopped", "failed"]
_MINUTE_S = 60.0


class Totals(NamedTuple):
    """Work done after ``elapsed_s`` seconds; every figure only grows."""

    elapsed_s: float = 0.0
    num_rows: int = 0
    num_frames: int = 0
    num_failed: int = 0
    """Rows that are failed or crashed."""
    busy_s: float = 0.0
    """Seconds that the networks of all workers were busy, together."""
    wait_s: float = 0.0
    """Seconds that they waited for images or frames."""


class Rates(NamedTuple):
    """Speed between two totals."""

    rows_per_s: float
    frames_per_s: float
    busy_share: float
    """Share of the workers' time in which their networks were busy, 0 to 1."""
    wait_share: float
    """Share of the workers' time in which their networks waited, 0 to 1."""


class Planned(BaseModel, frozen=True):
    """Work that a run has before it."""

    num_rows: int = 0
    """Rows that this run is to settle."""
    num_done_before: int = 0
    """Rows that earlier runs have settled."""
    num_frames: int = 0
    """Video frames among them; an estimate."""
    num_workers: int = 0
    num_gpus: int = 0
    """GPUs of the cluster, or of this machine."""


def this_account() -> int:
    """Return the user id of this process; 0 where accounts have no numbers, as on Windows."""
    return os.getuid() if hasattr(os, "getuid") else 0


class Progress(BaseModel, frozen=True):
    """Record of a run in its output. Times of day are by the driver's clock, for people only."""

    run_id: str
    state: State = "running"
    reason: str = ""
    """Why it failed."""
    host: str = ""
    """Machine of the driver."""
    account: int = -1
    """User id of the driver there; -1 where nobody knows."""
    started_at: str = ""
    updated_at: str = ""
    beat: int = 0
    """Number of this heartbeat."""
    every_s: float = 10.0
    """Seconds between two heartbeats."""
    planned: Planned = Planned()
    done: Totals = Totals()
    minute_ago: Totals = Totals()
    """Totals a minute before, or at the start."""
    statuses: dict[str, int] = {}
    """Rows of this run by status, of the units that have ended."""
    num_images: int = 0
    """Images stylized, of the units that have ended."""
    num_retries: int = 0
    """Units that were lost with their worker and tried again."""
    history: list[Totals] = []
    """Totals from the start to now, evenly thinned."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def overall(self) -> Rates:
        """Rates since the start."""
        return rates(Totals(), self.done, self.planned.num_workers)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def last_minute(self) -> Rates:
        """Rates over the last minute."""
        return rates(self.minute_ago, self.done, self.planned.num_workers)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def eta_s(self) -> float | None:
        """Seconds left at the rate of the last minute; None where nobody can know."""
        if not (left := work_left(self.planned, self.done)):
            return 0.0
        paces = (pace.rows_per_s + pace.frames_per_s for pace in (self.last_minute, self.overall))
        return next((left / per_s for per_s in paces if per_s), None)


def read_progress(output: Folder) -> Progress | None:
    """Read the record in an output; None where there is none, or one that is not ours."""
    try:
        return Progress.model_validate_json(output.read_bytes(PROGRESS_FILE))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def work_left(planned: Planned, done: Totals) -> int:
    """Return the rows and frames still to do, which count alike: an image takes about as long as a frame."""
    rows_left = planned.num_rows - done.num_rows
    # Headers may have claimed more frames than there were.
    return rows_left + max(0, planned.num_frames - done.num_frames) if rows_left > 0 else 0


def rates(earlier: Totals, later: Totals, num_workers: int) -> Rates:
    """Return the rates between two totals; 0 where no time has passed."""
    seconds = later.elapsed_s - earlier.elapsed_s
    if seconds <= 0:
        return Rates(0.0, 0.0, 0.0, 0.0)
    worked_s = seconds * max(1, num_workers)
    shares = (later.busy_s - earlier.busy_s) / worked_s, (later.wait_s - earlier.wait_s) / worked_s
    rows, frames = later.num_rows - earlier.num_rows, later.num_frames - earlier.num_frames
    return Rates(rows / seconds, frames / seconds, *shares)


class History:
    """Totals of a run over time, never more than ``limit``: those of a longer run lie further apart."""

    def __init__(self, limit: int = 500) -> None:
        self._limit = limit
        self.totals: list[Totals] = [Totals()]
        self._step_s = 0.0

    def add(self, totals: Totals) -> None:
        """Keep ``totals`` if far enough from the last; of too many, drop every second one."""
        if totals.elapsed_s < self.totals[-1].elapsed_s + self._step_s:
            return
        self.totals.append(totals)
        if len(self.totals) > self._limit:
            self.totals = self.totals[::2]
            self._step_s = totals.elapsed_s / len(self.totals)


ReadTotals = Callable[[], Totals]
"""Asks the workers for what they have done so far: rows, frames, seconds busy and waiting."""


class RunStats:
    """Statistics of a run while it goes on, counted from any thread and measured every ``every_s`` seconds."""

    def __init__(self, run_id: str, every_s: float) -> None:
        self.run_id, self.every_s = run_id, every_s
        self._started_at = _now()
        self._planned = Planned()
        self._read_totals: ReadTotals | None = None
        self._work_started = 0.0
        self._live, self._history = Totals(), History()
        self._minute = deque([Totals()])
        self._statuses: Counter[str] = Counter()
        self.num_retries = self._num_images = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def work(self, planned: Planned, read_totals: ReadTotals) -> Iterator[None]:
        """Follow what the workers do from here on; ``read_totals`` may fail, then its last answer counts."""
        self._planned, self._read_totals, self._work_started = planned, read_totals, time.monotonic()
        try:
            yield
        finally:
            self.measure()
            self._read_totals = None

    def count(self, statuses: Mapping[str, int], num_images: int = 0) -> None:
        """Count rows that are settled, by status, and the images among them that were stylized."""
        with self._lock:
            self._statuses.update(statuses)
            self._num_images += num_images

    def measure(self) -> None:
        """Ask the workers, and keep the answer."""
        if self._read_totals is None:
            return
        try:
            answer = self._read_totals()
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
        """Return the record as it is now."""
        with self._lock:
            done = self._done()
            return Progress(
                run_id=self.run_id,
                state=state,
                reason=reason[:500],
                host=platform.node(),
                account=this_account(),
                started_at=self._started_at,
                updated_at=_now(),
                beat=beat,
                every_s=self.every_s,
                planned=self._planned,
                done=done,
                minute_ago=self._minute[0],
                statuses=dict(self._statuses),
                num_images=self._num_images,
                num_retries=self.num_retries,
                history=[*self._history.totals, done],
            )

    def _done(self) -> Totals:
        """Return what is done: workers also report of a unit at work, and of a lost one twice."""
        settled = self._statuses.total()
        num_rows = max(settled, min(self._live.num_rows, self._planned.num_rows))
        num_failed = self._statuses["failed"] + self._statuses["crashed"]
        return self._live._replace(num_rows=num_rows, num_failed=num_failed)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
