"""The worker: runs a unit through all stages on one device, and commits its rows, without any executor."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from nst_ops.collection.manifest import Row
from nst_ops.collection.packing import forget_note
from nst_ops.collection.units import WorkUnit
from nst_ops.media.video.segments import Segment
from nst_ops.pipeline.context import WorkerContext, device_is_lost
from nst_ops.pipeline.images import stylize_images
from nst_ops.pipeline.prefetch import Timings
from nst_ops.pipeline.shards import pack_images, stylize_shard
from nst_ops.pipeline.video import holds_image, stylize_video
from nst_ops.pipeline.video_segments import find_segments, segments_of, stylize_segment
from nst_ops.storage import StorageFullError, StorageUnavailableError


@dataclass
class UnitResult:
    """The report of a worker on a unit; the rows themselves are in the manifest."""

    unit_id: str
    timings: Timings = field(default_factory=Timings)
    statuses: dict[str, int] = field(default_factory=dict)  # rows that were settled, by status
    num_images: int = 0
    num_frames: int = 0  # images and video frames stylized, of the rows that are ok
    segments: tuple[Segment, ...] = ()  # segments of a long video that are to be done instead of it; it has no rows yet
    fatal: str = ""  # why the run must stop, if it must: no item's fault
    error: str = ""  # an exception that nothing foresaw; the unit has no rows and may be tried again
    device_is_lost: bool = False  # whether its process has to end, since its GPU is of no more use there
    storage_is_away: bool = False  # whether ``error`` was the storage's, which no item can help


class Worker(WorkerContext):
    """Stylizes units with one network on one device."""

    def __call__(self, unit: WorkUnit) -> UnitResult:
        """Stylize every item of ``unit`` and commit the rows; bad items become failed rows."""
        result = UnitResult(unit.unit_id)
        try:
            kind = unit.items[0]["kind"]
            if kind == "video" and not unit.segment and holds_image(self, unit.items[0]):
                kind, unit = "image", replace(unit, items=tuple({**item, "kind": "image"} for item in unit.items))
            if kind == "video" and not unit.segment:
                result.segments = find_segments(self, unit.items[0])
            if not result.segments:
                if unit.segment:
                    rows = stylize_segment(self, unit, result.timings)
                elif kind == "video":
                    rows = stylize_video(self, unit, unit.items[0], result.timings)
                elif kind == "shard":
                    rows = stylize_shard(self, unit, result.timings)
                elif unit.shard:
                    rows = pack_images(self, unit, result.timings)
                else:
                    rows = stylize_images(self, unit, result.timings)
                self._commit(unit, rows)
                result.statuses = dict(Counter(row["status"] for row in rows))
                done = [row for row in rows if row["status"] == "ok"]
                result.num_images = sum(row["kind"] == "image" for row in done)
                result.num_frames = sum(row["num_frames"] for row in done if row["kind"] != "image")
        except StorageFullError as error:
            result.fatal = str(error)
        except Exception as error:  # a device that fails, or our own mistake: the driver decides
            result.error = f"{type(error).__name__}: {error}"
            result.device_is_lost = device_is_lost(error)
            result.storage_is_away = isinstance(error, StorageUnavailableError)
        return result

    def _commit(self, unit: WorkUnit, rows: list[Row]) -> None:
        """Commit rows; with its last segment a video is finished in a style, and its segments go."""
        if not unit.segment:
            self.manifest.commit(unit.part, rows)
            if unit.shard:
                forget_note(self.output, unit.shard)
            return
        for row in rows:
            self.manifest.commit(row["unit_id"], [row])
            self.telemetry.add(1, 0)
            if row["status"] == "ok":
                segments_of(self.output, unit, row["style"]).remove()
