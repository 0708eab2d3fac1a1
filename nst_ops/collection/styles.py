"""Which styles every input gets: the same on every rerun and on any number of workers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class StyleChoice:
    """The styles of a run, and how they are dealt out.

    Attributes:
        names: sorted; one, or for ``each`` and ``random`` as many as there are.
        mode: ``one`` for all; ``each`` for every input; ``random``, one drawn for each input.
        seed: of the draw.
    """

    names: tuple[str, ...]
    mode: Literal["one", "each", "random"] = "one"
    seed: int = 0

    @property
    def has_folders(self) -> bool:
        """Whether outputs lie below their style's name, and not in the input's own tree."""
        return self.mode == "each"

    @property
    def per_item(self) -> int:
        """Styles that every input gets."""
        return len(self.names) if self.mode == "each" else 1

    def of(self, relpath: str) -> tuple[str, ...]:
        """The styles of an input: a function of nothing but its path, the seed and the names."""
        if self.mode != "random":
            return self.names
        digest = hashlib.sha256(f"{self.seed}\n{relpath}".encode()).digest()
        # 64 bits over any number of names: no name is likelier than another by more than 1e-13.
        return (self.names[int.from_bytes(digest[:8], "big") % len(self.names)],)

    def output(self, style: str, relpath: str) -> str:
        """Where what is written as ``relpath`` lies in the output."""
        return f"{style}/{relpath}" if self.has_folders else relpath
