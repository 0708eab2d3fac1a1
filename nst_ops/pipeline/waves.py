"""The units of a run on the workers, wave after wave, and again those that were lost."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field

from nst_ops.collection.manifest import Key, Manifest, compact
from nst_ops.collection.planner import Plan
from nst_ops.collection.progress import Planned
from nst_ops.collection.run_lock import Heartbeat, OutputInUseError
from nst_ops.collection.segments import forget_videos
from nst_ops.collection.units import WorkUnit, in_each_style, split_unit, without
from nst_ops.config import FatalError
from nst_ops.pipeline import cluster
from nst_ops.pipeline.board import Board
from nst_ops.pipeline.cutting import cut_films, left_to_do
from nst_ops.pipeline.overlap import Timings
from nst_ops.pipeline.preflight import estimate_frames
from nst_ops.pipeline.progress import ProgressDisplay
from nst_ops.pipeline.spec import RunSpec, manifest_row
from nst_ops.pipeline.worker import UnitResult
from nst_ops.ray_cluster import num_gpus

_WAVE = 5_000
"""Units of one execution of Ray Data: each starts workers of its own, and its last one waits alone."""


@dataclass
class Waves:
    """Runs the units of a plan."""

    spec: RunSpec
    manifest: Manifest
    heartbeat: Heartbeat
    timings: Timings = field(default_factory=Timings)
    """What kept the workers busy."""
    elapsed_s: float = 0.0
    films: set[str] = field(default_factory=set)
    """Names of the films that were cut into segments."""
    errors: dict[str, str] = field(default_factory=dict)
    """Exceptions that nothing foresaw, by unit."""
    away: dict[str, str] = field(default_factory=dict)
    """Why the storage was away, by unit."""
    num_left: int = 0
    """Rows that wait for the storage to come back, in another run."""

    def __call__(self, plan: Plan) -> None:
        """Run the units of a plan, and those that killed their worker again, a finite number of times.

        Raises:
            FatalError: the run cannot go on.
        """
        started_at = time.perf_counter()
        board, units = Board(), plan.units()
        planned = Planned(
            num_rows=plan.num_left,
            num_done_before=plan.num_done,
            num_frames=estimate_frames(plan, self.spec),
            num_workers=cluster.pool_size(self.spec.config),
            num_gpus=num_gpus(),
        )
        display = ProgressDisplay(planned.num_rows, planned.num_frames, board.totals)
        with self.heartbeat.work(planned, board.totals), display:
            while wave := list(itertools.islice(units, _WAVE)):
                self._run_wave(cut_films(wave, self.spec), board)
                compact(self.manifest)
        if self.num_left:
            why = next(iter(self.away.values()))
            raise FatalError(
                f"{self.num_left:,} rows are left, the storage was away ({why}): run the same command again"
            )
        forget_videos(self.manifest.output, keep=self.films)
        self.elapsed_s = time.perf_counter() - started_at

    def _run_wave(self, units: list[WorkUnit], board: Board) -> None:
        self.films |= {
            unit.film_in(style) for unit in units if unit.film for style in unit.items[0]["styles"]
        }
        while units:
            finished: set[str] = set()
            for result in cluster.run_units(units, self.spec, board):
                if result.fatal:
                    raise FatalError(result.fatal)
                if result.error:
                    (self.away if result.is_away else self.errors)[result.unit_id] = result.error
                else:
                    finished.add(result.unit_id)
                    self._count(result)
                self.timings.add(result.timings)
            started, orphans = board.take_started()
            if not started and not orphans:
                raise FatalError(
                    "no worker could start: see the logs of Ray, by default in /tmp/ray/session_latest"
                )
            units = self.next_try(units, finished, started)

    def _count(self, result: UnitResult) -> None:
        try:
            self.heartbeat.count(result.statuses, result.num_images)
        except OutputInUseError as error:  # work has begun: no longer a matter of the configuration
            raise FatalError(str(error)) from error

    def next_try(self, tried: list[WorkUnit], finished: set[str], started: set[str]) -> list[WorkUnit]:
        """What to try again; units that were tried often enough are settled.

        Args:
            tried: units that have run.
            finished: ids of those that have said so.
            started: ids of those that have begun, and did not die with their node.
        """
        lost = self._without_rows(tried, finished)
        self.heartbeat.retry(len(lost))
        units: list[WorkUnit] = []
        for unit in lost:
            if unit.unit_id not in started:
                units.append(unit)  # it only stood behind one that killed the last worker
            elif unit.attempt < self.spec.config.workers.attempts:
                units.extend(split_unit(unit))
            elif unit.unit_id in self.away:
                self.num_left += len(unit.keys)  # no fault of theirs: no rows, the next run does them
            else:
                self._settle_crashed(unit)
        return units

    def _without_rows(self, units: list[WorkUnit], finished: set[str]) -> list[WorkUnit]:
        """What of ``units`` has no rows after they ran; a finished segment may still wait to be joined."""
        lost = [
            rest
            for unit in units
            if unit.segment or unit.unit_id not in finished
            if (rest := without(unit, self._keys_of(unit)))
        ]
        return left_to_do(lost, self.manifest.output)

    def _keys_of(self, unit: WorkUnit) -> set[Key]:
        return {key for one in in_each_style(unit) for key in self.manifest.keys_of(one.part)}

    def _settle_crashed(self, unit: WorkUnit) -> None:
        """Record items that killed their worker every time."""
        what = self.errors.get(unit.unit_id) or (
            "killed its worker process, most likely a damaged file or too little memory"
        )
        message = (
            f"{what} ({unit.attempt} tries): check or re-encode the file, then run again with --retry-failed"
        )
        outcome = {"status": "crashed", "error_type": "WorkerCrashedError", "error_message": message}
        for one in in_each_style(unit):
            rows = [
                manifest_row(self.spec, item, style, **outcome, attempts=unit.attempt, unit_id=one.part)
                for item in one.items
                for style in item["styles"]
            ]
            self.manifest.commit(one.part, rows)
            self.heartbeat.count({"crashed": len(rows)})
