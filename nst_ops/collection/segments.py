"""Finished segments of videos that are not finished: from these a killed run goes on.

A segment is committed like a unit of the manifest: its frames first, then a record of them. Segments lie in a
hidden folder of the output until their video is joined.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from nst_ops.collection.constants import SEGMENTS
from nst_ops.storage import Folder

_VIDEO, _RECORD = ".mp4", ".json"


@dataclass(frozen=True)
class SegmentRecord:
    """Part of the row of a video that one of its segments gives."""

    num_frames: int
    num_damaged: int = 0
    ends_damaged: bool = False
    """Whether no whole frame of it comes after the last damage."""
    notes: tuple[str, ...] = ()
    """What of its frames has no place in the output."""
    attempts: int = 1
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds by stage: decode_s, stylize_s, ..."""


class Segments:
    """Finished segments of one video in one style; ``video_id`` changes with all that they depend on."""

    def __init__(self, output: Folder, video_id: str, count: int) -> None:
        self.output, self.video_id, self.count = output, video_id, count

    def finished(self) -> set[int]:
        """Return the numbers of the segments that are there."""
        names = self.output.list(f"{SEGMENTS}/{self.video_id}")
        return {int(name.removesuffix(_RECORD)) for name in names if name.endswith(_RECORD)}

    def write(self, number: int) -> contextlib.AbstractContextManager[Path]:
        """Open a local path for the frames of a segment, which appear whole or not at all."""
        return self.output.atomic_write(self._path(number, _VIDEO))

    def commit(self, number: int, record: SegmentRecord) -> None:
        """Record a segment as finished; its frames must be there."""
        self.output.write_bytes(self._path(number, _RECORD), json.dumps(asdict(record)).encode())

    def records(self) -> list[SegmentRecord]:
        """Read the records of all segments, in order; raises FileNotFoundError where one is missing."""
        data = (self.output.read_bytes(self._path(number, _RECORD)) for number in range(self.count))
        return [SegmentRecord(**json.loads(record)) for record in data]

    @contextlib.contextmanager
    def local_copies(self) -> Iterator[list[str]]:
        """Yield local paths of all segments, in order."""
        with contextlib.ExitStack() as copies:
            videos = (self._path(number, _VIDEO) for number in range(self.count))
            yield [copies.enter_context(self.output.local_copy(video)) for video in videos]

    def remove(self) -> None:
        """Drop all segments: the video is finished, or its source has changed."""
        self.output.remove(f"{SEGMENTS}/{self.video_id}")

    def _path(self, number: int, extension: str) -> str:
        return f"{SEGMENTS}/{self.video_id}/{number:05d}{extension}"


def forget_videos(output: Folder, keep: set[str]) -> None:
    """Drop the segments of all videos except those with an id in ``keep``."""
    for video_id in set(output.list(SEGMENTS)) - keep:
        output.remove(f"{SEGMENTS}/{video_id}")


def remove_empty_folder(output: Folder) -> None:
    """Remove the folder of segments if it is empty; no worker may be writing into it."""
    if not output.list(SEGMENTS):
        output.remove(SEGMENTS)
