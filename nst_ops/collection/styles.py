"""The choice of styles for every input: the same on every rerun and on any number of workers."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

from nst_ops.collection.units import Item
from nst_ops.config import ConfigError
from nst_ops.config.stylize import StyleConfig
from nst_ops.media.style_images import Style
from nst_ops.models.style_facts import IDENTITY
from nst_ops.models.style_mix import StyleMix, draw_mix

_SHOWN = 20  # names of styles in a message
_MIXES = 3  # styles in a random mix, unless it is said


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


@dataclass(frozen=True)
class NamedStyles:
    """The styles of a run that are rows of its network, and the mix of them that is a style of an item.

    Attributes:
        names: names of the styles of items, sorted: those of rows, of one blend, or of all that is drawn at random.
        blend: what the one style is, where it is a blend.
        drawn_from: names of the rows that each item gets a random mix of; none without ``style.random``.
        num_mixed: rows in each random mix.
        seed: seed of the random mixes.
    """

    names: tuple[str, ...]
    blend: StyleMix | None = None
    drawn_from: tuple[str, ...] = ()
    num_mixed: int = 0
    seed: int = 0

    @classmethod
    def choose(cls, config: StyleConfig, known: Sequence[str], checkpoint: str = "") -> Self:
        """Choose from the ``known`` styles of a checkpoint, in its order.

        Where nothing is said it is the style that ``checkpoint``, as it was given, names, or else the first.

        Raises ConfigError for a name that it does not hold, shares that do not sum to one, and several names for one.
        """
        if not known:
            raise ConfigError("the checkpoint names no styles: an ONNX file is imported first, see docs/styles.md")
        given = {"name": [config.name] if config.name else [], "names": config.names, "blend": [*config.blend]}
        for key, names in given.items():
            for name in names:
                _check_known(f"style.{key}", name, known)
        in_order = config.names or [name for name in known if name != IDENTITY] or known
        several = tuple(sorted(set(in_order)))
        if config.blend:
            try:
                blend = StyleMix.of(config.blend)
            except ValueError as error:
                raise ConfigError(f"style.blend: {error}") from error
            return cls((blend.label,), blend)
        if config.random.seed is not None:
            mixes, most = config.random.mixes, len(several)
            if mixes and mixes > most:
                raise ConfigError(f"style.random.mixes is {mixes}, and there are {most} styles: take {most} at most")
            return cls(("random",), None, several, mixes or min(_MIXES, most), config.random.seed)
        if config.mode != "one":
            return cls(several)
        if len(config.names) > 1:
            raise ConfigError(
                f"style.names holds {len(config.names)} styles, and style.mode is one: give --style.mode each (all for "
                "every input) or random (one drawn for each), or one --style.name"
            )
        named = checkpoint if checkpoint in known and not config.names else in_order[0]
        return cls((config.name or named,))

    def style(self, name: str, item: Item) -> Style:
        """Return the style of a name for an item: the same whenever it is asked for."""
        return Style(name, mix=self.mix(name, item))

    def mix(self, name: str, item: Item) -> StyleMix:
        """Return the rows and shares that a style is for an item; each image of a shard has a random mix of its own."""
        if self.drawn_from:
            member = item.get("source_member")
            path = item["relpath"] if member is None else f"{item['relpath']}\n{member}"
            return draw_mix(self.drawn_from, self.num_mixed, self.seed, path)
        return self.blend or StyleMix.of({name: 1.0})


def _check_known(key: str, name: str, known: Sequence[str]) -> None:
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    hint = f", did you mean '{near[0]}'?" if near else f"; it has {', '.join(known[:_SHOWN])}{more}"
    raise ConfigError(f"{key}: the checkpoint has no style '{name}'{hint}")
