"""The units of a run, from the plan to their rows: what is tried again, in parts, and what is given up."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from nst_ops.collection.manifest import Manifest
from nst_ops.collection.units import WorkUnit, cut_unit, in_each_style, split_unit, without
from nst_ops.config.errors import FatalError
from nst_ops.pipeline.executors import LostUnit, Outcome
from nst_ops.pipeline.prefetch import Timings
from nst_ops.pipeline.run_spec import RunSpec, manifest_row
from nst_ops.pipeline.video_segments import unfinished
from nst_ops.pipeline.watchdog import timeout_message

_KILLED = "killed its worker process, most likely a damaged file or too little memory"
_NODES_FORGIVEN = 3  # nodes that may die below a unit before the unit is taken for the reason


@dataclass
class RunUnits:
    """Hands out the units of a plan and settles their outcomes, a finite number of tries each.

    A unit that kills its worker or raises is tried again in parts, so that the culprit is alone, up to
    ``workers.attempts`` times; then its items get a row with status ``crashed``. A unit whose whole node died
    is tried again as it is. While the storage is away nothing is given up: the next run does those rows.
    """

    spec: RunSpec
    manifest: Manifest
    planned: Iterator[WorkUnit]
    at_most: int | None = None  # number of planned units; None where some may be cut into more
    timings: Timings = field(default_factory=Timings)  # seconds that kept the workers busy
    video_ids: set[str] = field(default_factory=set)  # names, in each style, of the videos that were cut into segments
    num_retries: int = 0  # units that were lost with their worker, or failed as a whole, and are tried again
    num_left: int = 0  # rows that wait for the storage to come back, in another run
    away_reason: str = ""  # why the storage was away, if it was
    settled_parts: set[str] = field(default_factory=set)  # parts of the manifest that nobody writes to: to be compacted
    _segments: deque[WorkUnit] = field(default_factory=deque)
    _again: deque[WorkUnit] = field(default_factory=deque)
    _at_work: dict[str, WorkUnit] = field(default_factory=dict)
    _nodes_lost: Counter[str] = field(default_factory=Counter)
    _exhausted: bool = False

    def take(self) -> WorkUnit | None:
        """Return the next unit at hand, if any: of a video just cut, then of the plan, then one to be tried again."""
        unit = self._segments.popleft() if self._segments else None
        if unit is None and not self._exhausted:
            unit = next(self.planned, None)
            self._exhausted = unit is None
        if unit is None and self._again:
            unit = self._again.popleft()
        if unit:
            self._at_work[unit.unit_id] = unit
        return unit

    @property
    def finished(self) -> bool:
        """Whether no unit is at hand, and none at work that could come back."""
        return self._exhausted and not (self._segments or self._again or self._at_work)

    def settle(self, outcome: Outcome) -> tuple[Mapping[str, int], int]:
        """Note an outcome; return rows settled, by status, and images stylized. FatalError: the run cannot go on."""
        unit = self._at_work.pop(outcome.unit_id, None)
        if unit is None:  # a worker that was taken for dead has finished it after all
            return {}, 0
        if isinstance(outcome, LostUnit):
            if outcome.node_died and self._nodes_lost[unit.unit_id] < _NODES_FORGIVEN:
                self._nodes_lost[unit.unit_id] += 1
                self._retry(self._without_rows(unit))
                return {}, 0
            error = timeout_message(self.spec.config) if outcome.timed_out else _KILLED
            return self._try_again(unit, error, timed_out=outcome.timed_out), 0
        self.timings.add(outcome.timings)
        if outcome.fatal:
            raise FatalError(outcome.fatal)
        if outcome.segments:
            segments = cut_unit(unit, outcome.segments)
            self.video_ids |= {segments[0].video_in(style) for style in unit.items[0]["styles"]}
            self._segments.extend(unfinished(segments, self.manifest.output))
            return {}, 0
        if outcome.error:
            return self._try_again(unit, outcome.error, outcome.storage_is_away), 0
        if unit.segment:
            # It may still wait to be joined, if no other segment is at work, which would do so.
            if not any(other.video_id == unit.video_id for other in self._at_work.values()):
                self._again.extend(self._without_rows(unit))
        elif unit.attempt == 1 and not self._nodes_lost[unit.unit_id]:
            self.settled_parts.add(unit.part)  # but for one whose first worker, taken for dead, may yet commit it
        return outcome.statuses, outcome.num_images

    def _try_again(
        self, unit: WorkUnit, error: str, storage_is_away: bool = False, timed_out: bool = False
    ) -> Mapping[str, int]:
        """Split a unit that has failed as a whole, or give it up after enough tries."""
        statuses: Counter[str] = Counter()
        for rest in self._without_rows(unit):
            if rest.attempt < self.spec.config.workers.attempts:
                self._retry(split_unit(rest))
            elif storage_is_away:
                self.num_left += len(rest.keys)  # no fault of theirs: no rows, the next run does them
                self.away_reason = error
            else:
                statuses["crashed"] += self._give_up(rest, error, timed_out)
        return statuses

    def _retry(self, units: list[WorkUnit]) -> None:
        self.num_retries += len(units)
        self._again.extend(units)

    def _without_rows(self, unit: WorkUnit) -> list[WorkUnit]:
        """Return the unit without what has rows, if any is left; a finished segment may still wait to be joined."""
        rest = without(unit, {key for one in in_each_style(unit) for key in self.manifest.keys_of(one.part)})
        return unfinished([rest], self.manifest.output) if rest else []

    def _give_up(self, unit: WorkUnit, error: str, timed_out: bool) -> int:
        """Record items that failed as a whole every time; return the number of rows."""
        remedy = "check or re-encode the file, or allow more time" if timed_out else "check or re-encode the file"
        message = f"{error} ({unit.attempt} tries): {remedy}, then run again with --retry-failed"
        error_type = "ItemTimeoutError" if timed_out else "WorkerCrashedError"
        outcome: dict[str, object] = {"status": "crashed", "error_type": error_type, "error_message": message}
        outcome["attempts"] = unit.attempt
        num_rows = 0
        for one in in_each_style(unit):
            outcome["unit_id"] = one.part
            rows = [manifest_row(self.spec, item, style, **outcome) for item in one.items for style in item["styles"]]
            self.manifest.commit(one.part, rows)
            num_rows += len(rows)
        return num_rows
