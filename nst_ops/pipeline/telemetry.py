"""Telemetry of a worker: what it has done since the last reading; counting itself costs next to nothing."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field

from nst_ops.collection.progress import Totals
from nst_ops.pipeline.prefetch import Timings


class QueueFill:
    """How full a queue was, 0 to 1, on average over the times that somebody looked."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def __call__(self, share: float) -> None:
        """Count one look."""
        self._sum, self._count = self._sum + share, self._count + 1

    def take(self) -> float:
        """Return the mean since the last call; 0 where nobody has looked."""
        mean = self._sum / max(1, self._count)
        self._sum, self._count = 0.0, 0
        return mean


@dataclass(frozen=True)
class Reading:
    """Work of a worker since its last reading."""

    elapsed_s: float
    num_rows: int = 0
    num_frames: int = 0
    seconds: Timings = field(default_factory=Timings)
    decode_fill: float = 0.0  # fill of the queue between decoder and network: 0 where the network waits for the decoder
    encode_fill: float = 0.0  # fill of the queue before the encoder: 1 where the encoder holds everything up
    is_alive: bool = False  # whether the network is at work, or something was done that has no row

    @property
    def totals(self) -> Totals:
        """The work to add to that of all workers."""
        return Totals(0, self.num_rows, self.num_frames, 0, self.seconds.stylize_s, self.seconds.wait_s)


class Telemetry:
    """Counts rows, frames and seconds from any thread of a worker; a thread tells listeners every ``every_s``."""

    def __init__(self, *listeners: Callable[[Reading], None], every_s: float = 0.5) -> None:
        self.decode_fill, self.encode_fill = QueueFill(), QueueFill()
        self._listeners, self._every_s = listeners, every_s
        self._num_rows = self._num_frames = 0
        self._num_stylizing, self._is_touched = 0, False
        self._followed: tuple[Timings, ...] = ()
        self._told, self._past = Timings(), Timings()
        self._read_at = time.perf_counter()
        self._lock = threading.Lock()
        if listeners:
            threading.Thread(target=self._run, name="telemetry", daemon=True).start()

    def add(self, num_rows: int, num_frames: int) -> None:
        """Count rows that are finished and video frames that are stylized."""
        with self._lock:
            self._num_rows += num_rows
            self._num_frames += num_frames

    def touch(self) -> None:
        """Note progress that has neither a row nor a frame."""
        self._is_touched = True

    @contextlib.contextmanager
    def stylizing(self) -> Iterator[None]:
        """Note that the network is at work in here, in as many threads as come."""
        with self._lock:
            self._num_stylizing += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_stylizing -= 1

    @contextlib.contextmanager
    def follow(self, *timings: Timings) -> Iterator[None]:
        """Count the seconds added to ``timings`` in here; inside another ``follow`` that one counts."""
        if self._followed:
            yield
            return
        self._followed = timings
        try:
            yield
        finally:
            with self._lock:
                self._past = self._seconds()
                self._followed = ()

    def flush(self) -> None:
        """Tell the listeners what has happened since the last time."""
        with self._lock:
            now, seconds = time.perf_counter(), self._seconds()
            told = asdict(self._told)
            news = Timings(**{stage: total_s - told[stage] for stage, total_s in asdict(seconds).items()})
            work = now - self._read_at, self._num_rows, self._num_frames, news
            is_alive, self._is_touched = self._num_stylizing > 0 or self._is_touched, False
            reading = Reading(*work, self.decode_fill.take(), self.encode_fill.take(), is_alive)
            self._read_at, self._told = now, seconds
            self._num_rows = self._num_frames = 0
            for listener in self._listeners:
                listener(reading)

    def _seconds(self) -> Timings:
        """Add up the seconds since the worker began."""
        total = Timings()
        for timings in (self._past, *self._followed):
            total.add(timings)
        return total

    def _run(self) -> None:
        while True:
            time.sleep(self._every_s)
            self.flush()
