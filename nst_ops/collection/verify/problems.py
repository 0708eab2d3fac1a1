"""What can be wrong with an output, and what a person does about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Kinds of problems, in the order in which they are shown."""

    PART = "part"
    ROW = "row"
    TWICE = "twice"
    SHARED = "shared"
    MISSING = "missing"
    DAMAGED = "damaged"
    UNREADABLE = "unreadable"
    EXTRA = "extra"

    @property
    def meaning(self) -> str:
        """In a few words."""
        return _MEANINGS[self]

    @property
    def remedy(self) -> str:
        """What to do."""
        return _REMEDIES[self]


_MEANINGS = {
    Kind.PART: "parts of the manifest that cannot be read",
    Kind.ROW: "rows that lack what their status demands",
    Kind.TWICE: "sources with two rows in one style",
    Kind.SHARED: "outputs that two sources claim",
    Kind.MISSING: "outputs that are not there",
    Kind.DAMAGED: "outputs of another size or content",
    Kind.UNREADABLE: "outputs that could not be read",
    Kind.EXTRA: "files that no row names",
}

_AGAIN = "verify with --repair, then run the job's command again: it does them again"
_REMEDIES = {
    Kind.PART: "restore it from a backup, or delete it and run the job's command again: "
    "its sources are done again, and their outputs are no longer extra",
    Kind.ROW: _AGAIN,
    Kind.TWICE: _AGAIN,
    Kind.SHARED: _AGAIN,
    Kind.MISSING: _AGAIN,
    Kind.DAMAGED: _AGAIN,
    Kind.UNREADABLE: "check the permissions and the connection, then verify again",
    Kind.EXTRA: "expected while a run is going on or after it was killed: run the job's command to its end; "
    "what is still there then is not the run's, and yours to move or delete",
}

Key = tuple[str, str]
"""URI of the source and style of a row."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    kind: Kind
    what: str
    """The file, below the output, or the source."""
    detail: str
    key: Key | None = None
    """The row to forget so that the next run puts it right; None where that does not help."""


@dataclass(frozen=True)
class Verdict:
    """What a verification has found."""

    output: str
    quick: bool
    """Whether contents were left out."""
    statuses: dict[str, int]
    """Rows by status."""
    num_files: int
    """Outputs looked at: files, pictures of folders of frames, images in shards."""
    num_bytes: int
    """Bytes read and hashed."""
    elapsed_s: float
    counts: dict[Kind, int]
    examples: dict[Kind, list[Problem]]
    num_repaired: int | None = None
    """Rows dropped for the next run; None where that was not asked for."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.counts
