"""The choice of styles for every input: the same on every rerun and on any number of workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class StyleChoice:
    """The styles of a run, and how they are dealt out."""

    names: tuple[str, ...]
    """Sorted; one, or for ``each`` and ``random`` as many as there are."""
    mode: Literal["one", "each", "random"] = "one"
    """``one`` for all; ``each`` for every input; ``random``, one drawn for each input by ``seed``."""
    seed: int = 0

    @property
    def has_folders(self) -> bool:
        """Whether outputs lie below their style's name, and not in the input's own tree."""
        return self.mode == "each"

    @property
    def per_item(self) -> int:
        """Number of styles that every input gets."""
        return len(self.names) if self.mode == "each" else 1

    def drawn_place(self, relpath: str) -> str:
        """Return the SQL of the place of the style that mode ``random`` draws for the column ``relpath``.

        It is a function of nothing but the path, the seed and the number of names. 64 bits of a hash over any
        number of names: no name is likelier than another by more than 1e-13.
        """
        digest = f"sha256('{self.seed}' || chr(10) || {relpath})"
        return f"('0x' || substr({digest}, 1, 16))::UBIGINT % {len(self.names)}"

    def output(self, style: str, relpath: str) -> str:
        """Return the place in the output of what is written as ``relpath`` in a style."""
        return f"{style}/{relpath}" if self.has_folders else relpath
