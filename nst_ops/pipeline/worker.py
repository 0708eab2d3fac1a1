"""The worker: read, stylize, encode, commit, for a unit of images or a film.

One worker per device, and everything a unit needs happens inside it: pixels never travel.
No Ray in here, so that a test or a debugger can call a worker like any function.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nst_ops.collection.manifest import Row
from nst_ops.collection.plan import WorkUnit
from nst_ops.pipeline.film_unit import stylize_film
from nst_ops.pipeline.image_unit import stylize_images
from nst_ops.pipeline.overlap import Timings
from nst_ops.pipeline.segment_unit import segments_of, stylize_segment
from nst_ops.pipeline.workbench import Workbench
from nst_ops.storage import StorageFullError


@dataclass
class UnitResult:
    """What a worker tells the driver of a unit; the rows themselves are in the manifest."""

    unit_id: str
    timings: Timings = field(default_factory=Timings)
    fatal: str = ""
    """Why the run must stop, if it must: no item's fault."""
    error: str = ""
    """An exception that nothing foresaw; the unit has no rows and may be tried again."""


class Worker(Workbench):
    """Stylizes units with one network on one device."""

    def __call__(self, unit: WorkUnit) -> UnitResult:
        """Stylize every item of ``unit`` and commit the rows; bad items become failed rows."""
        result = UnitResult(unit.unit_id)
        try:
            if unit.segment:
                self._stylize_segment(unit, result.timings)
            elif unit.items[0]["kind"] == "video":
                self.manifest.commit(unit.part, self._stylize_films(unit, result.timings))
            else:
                self.manifest.commit(unit.part, stylize_images(self, unit, result.timings))
        except StorageFullError as error:
            result.fatal = str(error)
        except Exception as error:  # a device that fails, or our own mistake: the driver decides
            result.error = f"{type(error).__name__}: {error}"
        return result

    def _stylize_segment(self, unit: WorkUnit, timings: Timings) -> None:
        """Stylize a segment; with the film's last one the film is finished, and its segments go."""
        if rows := stylize_segment(self, unit, timings):
            self.manifest.commit(unit.part, rows)
            self.report(1, 0)
            if rows[0]["status"] == "ok":
                segments_of(self.output, unit).remove()

    def _stylize_films(self, unit: WorkUnit, timings: Timings) -> list[Row]:
        rows = []
        for item in unit.items:
            for style in item["styles"]:
                rows.append(stylize_film(self, unit, item, style, timings))
                self.report(1, 0)
        return rows
