"""Long films as several units: their packets are read, on the workers' machines, and no picture is."""

from __future__ import annotations

import contextlib
import logging

import ray

from nst_ops.collection.units import Item, WorkUnit, cut_unit, without
from nst_ops.media.video import read_header
from nst_ops.media.video.segments import Segment, Selection, cut_segments, read_index
from nst_ops.pipeline.segment_unit import segments_of
from nst_ops.pipeline.spec import RunSpec
from nst_ops.storage import Folder, StorageError
from nst_ops.temporal.smoothing import load_smoother

_log = logging.getLogger(__name__)

_AT_ONCE = 32
"""Videos that one task looks at."""
_WORTH_CUTTING = 1.5
"""Times the length of a segment: shorter videos stay whole."""


def cut_films(units: list[WorkUnit], spec: RunSpec) -> list[WorkUnit]:
    """Units in their order, long films among them cut; of those begun before, what is left to do."""
    films = [unit for unit in units if unit.items[0]["kind"] == "video" and not unit.segment]
    if not films or spec.config.video.container == "frames":
        return units
    # One look at each file, whatever the number of its styles.
    items = list({unit.items[0]["item_id"]: unit.items[0] for unit in films}.values())
    _log.info("reading the index of %s videos", f"{len(items):,}")
    segments = _read_all(items, spec)
    cut: list[WorkUnit] = []
    for unit in units:
        found = segments.get(unit.items[0]["item_id"], ())
        cut.extend(cut_unit(unit, found) if len(found) > 1 else [unit])
    return left_to_do(cut, Folder(spec.config.output))


def left_to_do(units: list[WorkUnit], output: Folder) -> list[WorkUnit]:
    """Units without the segments that are finished; of a film of which all are, the last, to join it."""
    left = []
    finished: dict[str, set[int]] = {}
    for unit in units:
        if unit.segment:
            for style in unit.items[0]["styles"]:
                if unit.film_in(style) not in finished:
                    finished[unit.film_in(style)] = segments_of(output, unit, style).finished()
            done = {key for key in unit.keys if _is_done(unit.segment, finished[unit.film_in(key[1])])}
            if rest := without(unit, done):
                left.append(rest)
        else:
            left.append(unit)
    return left


def _is_done(segment: Segment, finished: set[int]) -> bool:
    joins = segment.number == segment.count - 1 and len(finished) == segment.count
    return segment.number in finished and not joins


def read_segments(spec: RunSpec, item: Item) -> tuple[Segment, ...]:
    """The segments of one video; none where it is short, or cannot be cut."""
    config = spec.config
    video, target_s = config.video, config.units.segment_s
    selection = Selection(video.start_s, video.duration_s, video.max_frame_rate)
    try:
        media = Folder(spec.source_root).media_source(item["relpath"])
        length_s = min(read_header(media).duration_s - video.start_s, video.duration_s or float("inf"))
        if length_s > _WORTH_CUTTING * target_s:
            lead = load_smoother(config.temporal, "cpu").lead
            return cut_segments(read_index(media), target_s, lead, selection)
    except StorageError:
        raise
    except Exception:  # its own unit will say what is wrong with it
        return ()
    return ()


def _read_all(items: list[Item], spec: RunSpec) -> dict[str, tuple[Segment, ...]]:
    """The segments of every video, by item; none for those that stay whole."""
    batches = [items[i : i + _AT_ONCE] for i in range(0, len(items), _AT_ONCE)]
    found: dict[str, tuple[Segment, ...]] = {}
    for batch, task in [(batch, _read_some.remote(spec, batch)) for batch in batches]:
        try:
            cut: list[tuple[Segment, ...]] = ray.get(task)
            found.update(zip((item["item_id"] for item in batch), cut, strict=True))
        except StorageError:  # no file's fault; Ray raises it as what it is besides its own kind
            raise
        except ray.exceptions.RayError:  # one of them has killed the process: which one?
            for item in batch:
                with contextlib.suppress(ray.exceptions.RayError):  # whole, it will be quarantined
                    found[item["item_id"]] = ray.get(_read_some.remote(spec, [item]))[0]
    return found


@ray.remote(max_retries=0)
def _read_some(spec: RunSpec, items: list[Item]) -> list[tuple[Segment, ...]]:
    return [read_segments(spec, item) for item in items]
