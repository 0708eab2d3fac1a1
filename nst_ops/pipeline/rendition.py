"""A film in one of its styles: it succeeds or fails by itself, though all are decoded at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from nst_ops.collection.manifest import Row
from nst_ops.collection.units import Item, WorkUnit
from nst_ops.media.errors import TooLargeError
from nst_ops.pipeline.overlap import Timings
from nst_ops.pipeline.workbench import Workbench
from nst_ops.storage import StorageError
from nst_ops.stylizers import Style


@dataclass
class Rendition:
    """A film, or a segment of it, in one style."""

    unit: WorkUnit
    item: Item
    style_name: str
    style: Style | None = None
    """None for a network that has its own."""
    outcome: dict[str, Any] = field(default_factory=dict)
    """What has come of it, once it is written: columns of the manifest, or of the record of a segment."""
    error: Exception | None = None
    """What has failed it."""
    queue_frames: int = 1
    """That wait for its smoother, and as many for its encoder."""
    timings: Timings = field(default_factory=Timings)
    encoding: Timings = field(default_factory=Timings)
    """Of its encoder while it runs."""


@contextlib.contextmanager
def blame(*renditions: Rendition) -> Iterator[None]:
    """Whatever goes wrong in here fails these renditions, and nothing else.

    Raises:
        StorageError: no film's fault.
    """
    try:
        yield
    except StorageError:
        raise
    except Exception as error:  # any bad file becomes a row, never the end of the run
        for rendition in renditions:
            rendition.error = rendition.error or _named(error)


def read_styles(bench: Workbench, renditions: Sequence[Rendition]) -> list[Rendition]:
    """Those whose style pictures can be read; the others have failed."""
    for rendition in renditions:
        with blame(rendition):
            rendition.style = bench.read_style(rendition.style_name)
    return [rendition for rendition in renditions if not rendition.error]


def rendition_row(bench: Workbench, rendition: Rendition) -> Row:
    """The row of a rendition that is finished or has failed."""
    unit, item, name, timings = rendition.unit, rendition.item, rendition.style_name, rendition.timings
    if rendition.error:
        return bench.failed(unit, item, name, rendition.error, timings)
    return bench.row(unit, item, name, timings, **rendition.outcome)


def _named(error: Exception) -> Exception:
    return TooLargeError(str(error)) if isinstance(error, MemoryError) else error
