"""The worker: read, stylize, encode, commit, for a unit of images or a film.

One worker per device, and everything a unit needs happens inside it: pixels never travel.
No Ray in here, so that a test or a debugger can call a worker like any function.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nst_ops.collection.manifest import Row
from nst_ops.collection.units import WorkUnit
from nst_ops.pipeline.film_unit import stylize_film
from nst_ops.pipeline.image_unit import stylize_images
from nst_ops.pipeline.overlap import Timings
from nst_ops.pipeline.segment_unit import segments_of, stylize_segment
from nst_ops.pipeline.shard_unit import pack_images, stylize_shard
from nst_ops.pipeline.workbench import Workbench
from nst_ops.storage import StorageFullError, StorageUnavailableError


@dataclass
class UnitResult:
    """What a worker tells the driver of a unit; the rows themselves are in the manifest."""

    unit_id: str
    timings: Timings = field(default_factory=Timings)
    statuses: dict[str, int] = field(default_factory=dict)
    """Rows that it has settled, by status."""
    num_images: int = 0
    num_frames: int = 0
    """Images and video frames stylized, of the rows that are ok."""
    fatal: str = ""
    """Why the run must stop, if it must: no item's fault."""
    error: str = ""
    """An exception that nothing foresaw; the unit has no rows and may be tried again."""
    is_away: bool = False
    """Whether that was the storage's, which no item can help."""

    def count(self, rows: list[Row]) -> None:
        """Count rows that are committed."""
        for row in rows:
            self.statuses[row["status"]] = self.statuses.get(row["status"], 0) + 1
            if row["status"] == "ok":
                is_image = row["kind"] == "image"
                self.num_images += is_image
                self.num_frames += 0 if is_image else row["num_frames"]


class Worker(Workbench):
    """Stylizes units with one network on one device."""

    def __call__(self, unit: WorkUnit) -> UnitResult:
        """Stylize every item of ``unit`` and commit the rows; bad items become failed rows."""
        result = UnitResult(unit.unit_id)
        try:
            if unit.segment:
                rows = self._stylize_segment(unit, result.timings)
            elif unit.items[0]["kind"] == "video":
                rows = stylize_film(self, unit, unit.items[0], result.timings)
                self.manifest.commit(unit.part, rows)
            else:
                rows = self._stylize_images(unit, result.timings)
                self.manifest.commit(unit.part, rows)
            result.count(rows)
        except StorageFullError as error:
            result.fatal = str(error)
        except Exception as error:  # a device that fails, or our own mistake: the driver decides
            result.error = f"{type(error).__name__}: {error}"
            result.is_away = isinstance(error, StorageUnavailableError)
        return result

    def _stylize_images(self, unit: WorkUnit, timings: Timings) -> list[Row]:
        if unit.items[0]["kind"] == "shard":
            return stylize_shard(self, unit, timings)
        return (pack_images if unit.shard else stylize_images)(self, unit, timings)

    def _stylize_segment(self, unit: WorkUnit, timings: Timings) -> list[Row]:
        """Stylize a segment; with a film's last one the film is finished, and its segments go."""
        rows = stylize_segment(self, unit, timings)
        for row in rows:
            self.manifest.commit(row["unit_id"], [row])
            self.report(1, 0)
            if row["status"] == "ok":
                segments_of(self.output, unit, row["style"]).remove()
        return rows
