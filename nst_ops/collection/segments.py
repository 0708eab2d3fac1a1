"""Finished segments of films that are not finished: what a killed run goes on from.

A segment is committed like a unit of the manifest: its pictures first, then a record of them.
They lie out of sight below the output until the film is joined.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from nst_ops.collection.constants import SEGMENTS
from nst_ops.storage import Folder

_PICTURES, _RECORD = ".mp4", ".json"


@dataclass(frozen=True)
class SegmentRecord:
    """What a finished segment adds to the row of its film."""

    num_frames: int
    num_damaged: int = 0
    attempts: int = 1
    seconds: dict[str, float] = field(default_factory=dict)
    """By stage: decode_s, stylize_s, ..."""


class Segments:
    """The finished segments of one film in one style.

    Args:
        output: where the run writes.
        film: name that changes with all that its segments depend on.
        count: of its segments.
    """

    def __init__(self, output: Folder, film: str, count: int) -> None:
        self.output, self.film, self.count = output, film, count

    def finished(self) -> set[int]:
        """Numbers of the segments that are there."""
        names = self.output.list(f"{SEGMENTS}/{self.film}")
        return {int(name.removesuffix(_RECORD)) for name in names if name.endswith(_RECORD)}

    @contextlib.contextmanager
    def write(self, number: int) -> Iterator[Path]:
        """A local path for the pictures of a segment, which appear whole or not at all."""
        with self.output.atomic_write(self._path(number, _PICTURES)) as temporary:
            yield temporary

    def commit(self, number: int, record: SegmentRecord) -> None:
        """Record a segment as finished; its pictures must be there."""
        self.output.write_bytes(self._path(number, _RECORD), json.dumps(asdict(record)).encode())

    def records(self) -> list[SegmentRecord]:
        """Of all segments, in order.

        Raises:
            FileNotFoundError: one of them is not there, or no more.
        """
        data = (self.output.read_bytes(self._path(number, _RECORD)) for number in range(self.count))
        return [SegmentRecord(**json.loads(record)) for record in data]

    @contextlib.contextmanager
    def local_copies(self) -> Iterator[list[str]]:
        """Local paths of the pictures of all segments, in order."""
        with contextlib.ExitStack() as copies:
            yield [
                copies.enter_context(self.output.local_copy(self._path(number, _PICTURES)))
                for number in range(self.count)
            ]

    def remove(self) -> None:
        """Drop them all: the film is finished, or its source has changed."""
        self.output.remove(f"{SEGMENTS}/{self.film}")

    def _path(self, number: int, extension: str) -> str:
        return f"{SEGMENTS}/{self.film}/{number:05d}{extension}"


def forget_videos(output: Folder, keep: set[str]) -> None:
    """Drop the segments of all films but those to ``keep``."""
    for film in set(output.list(SEGMENTS)) - keep:
        output.remove(f"{SEGMENTS}/{film}")


def remove_empty_folder(output: Folder) -> None:
    """Remove the folder if nothing is in it; not while workers may be writing into it."""
    if not output.list(SEGMENTS):
        output.remove(SEGMENTS)
