"""``report/progress.json``: how far a run is, for whoever looks at its output."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, computed_field

from nst_ops.storage import Folder

PROGRESS_FILE = "report/progress.json"

State = Literal["running", "finished", "stopped", "failed"]


class Sample(NamedTuple):
    """What a run has done after ``elapsed_s`` seconds of work; every figure only grows."""

    elapsed_s: float = 0.0
    num_rows: int = 0
    num_frames: int = 0
    num_failed: int = 0
    """Rows that are failed or crashed."""
    busy_s: float = 0.0
    """Seconds that the networks of all workers were busy, together."""
    wait_s: float = 0.0
    """Seconds that they waited for pictures."""


class Rates(NamedTuple):
    """How fast it went between two samples."""

    rows_per_s: float
    frames_per_s: float
    busy_share: float
    """Of the workers' time their networks were busy, 0 to 1."""
    wait_share: float
    """Of the workers' time their networks waited, 0 to 1."""


class Planned(BaseModel):
    """What a run has before it."""

    model_config = ConfigDict(frozen=True)

    num_rows: int = 0
    """Rows that this run is to settle."""
    num_done_before: int = 0
    """Rows that earlier runs have settled."""
    num_frames: int = 0
    """Video frames among them; an estimate."""
    num_workers: int = 0
    num_gpus: int = 0
    """GPUs of the cluster."""


class Progress(BaseModel):
    """The record itself. Times of day are by the clock of the driver's machine, for people only."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    state: State = "running"
    reason: str = ""
    """Why it failed."""
    host: str = ""
    """The driver's machine."""
    started_at: str = ""
    updated_at: str = ""
    beat: int = 0
    """Rises with every write."""
    every_s: float = 10.0
    """Seconds between two writes."""
    planned: Planned = Planned()
    done: Sample = Sample()
    minute_ago: Sample = Sample()
    """What was done a minute before, or at the start."""
    statuses: dict[str, int] = {}
    """Rows of this run by status, of the units that have ended."""
    num_images: int = 0
    """Images stylized, of the units that have ended."""
    num_retries: int = 0
    """Units that were lost with their worker and tried again."""
    history: list[Sample] = []
    """From the start to now, evenly thinned."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def overall(self) -> Rates:
        """Since the start."""
        return rates(Sample(), self.done, self.planned.num_workers)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def last_minute(self) -> Rates:
        """Over the last minute."""
        return rates(self.minute_ago, self.done, self.planned.num_workers)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def eta_s(self) -> float | None:
        """Seconds left at the rate of the last minute; None where nobody can know."""
        left = pictures_left(self.planned, self.done)
        if not left:
            return 0.0
        for pace in (self.last_minute, self.overall):
            if pictures_per_s := pace.rows_per_s + pace.frames_per_s:
                return left / pictures_per_s
        return None


def pictures_left(planned: Planned, done: Sample) -> int:
    """Rows and frames still to do, which count alike: an image is one picture, and so is a frame."""
    rows_left = planned.num_rows - done.num_rows
    # Headers may have claimed more frames than there were.
    return rows_left + max(0, planned.num_frames - done.num_frames) if rows_left > 0 else 0


def rates(earlier: Sample, later: Sample, num_workers: int) -> Rates:
    """How fast it went from one sample to another; 0 where no time has passed."""
    seconds = later.elapsed_s - earlier.elapsed_s
    if seconds <= 0:
        return Rates(0.0, 0.0, 0.0, 0.0)
    worked_s = seconds * max(1, num_workers)
    return Rates(
        (later.num_rows - earlier.num_rows) / seconds,
        (later.num_frames - earlier.num_frames) / seconds,
        (later.busy_s - earlier.busy_s) / worked_s,
        (later.wait_s - earlier.wait_s) / worked_s,
    )


class History:
    """Samples of a run, never more than ``limit``: a longer run has them further apart."""

    def __init__(self, limit: int = 500) -> None:
        self._limit = limit
        self._kept: list[Sample] = [Sample()]
        self._step_s = 0.0

    def add(self, sample: Sample) -> None:
        """Keep ``sample`` if it is far enough from the last; every second one goes when they are too many."""
        if sample.elapsed_s < self._kept[-1].elapsed_s + self._step_s:
            return
        self._kept.append(sample)
        if len(self._kept) > self._limit:
            self._kept = self._kept[::2]
            self._step_s = sample.elapsed_s / len(self._kept)

    def samples(self) -> list[Sample]:
        """All that were kept, in the order of time."""
        return list(self._kept)


def read_progress(output: Folder) -> Progress | None:
    """The record in an output; None where there is none, or one that is not ours."""
    try:
        return Progress.model_validate_json(output.read_bytes(PROGRESS_FILE))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
