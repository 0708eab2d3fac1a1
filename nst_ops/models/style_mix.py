"""Mixes of named styles: shares that sum to one, given or drawn. Needs no torch."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_PARTS = 10_000
"""Parts that a drawn mix is dealt out in: its shares have four decimals, and sum to one as they are written."""
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class StyleMix:
    """Named styles with their shares, sorted by name."""

    shares: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, shares: Mapping[str, float]) -> StyleMix:
        """Make a mix of shares; raises ValueError where one is not positive, or they do not sum to one."""
        if wrong := [name for name, share in shares.items() if not share > 0]:
            raise ValueError(f"the share of {wrong[0]} is {shares[wrong[0]]:g}: it must be more than 0, or left out")
        if abs(1 - (total := math.fsum(shares.values()))) > _SUM_TOLERANCE:
            nearest = ",".join(f"{name}={share / total:.3g}" for name, share in shares.items())
            raise ValueError(f"the shares sum to {total:g}, not to 1: such as {nearest}")
        return cls(tuple(sorted((name, float(share)) for name, share in shares.items())))

    @property
    def label(self) -> str:
        """The name of the mix, which can be a folder's."""
        if len(self.shares) == 1:
            return self.shares[0][0]
        return "+".join(f"{name}_{share:g}" for name, share in self.shares)

    def to_json(self) -> str:
        """Return the shares as a JSON object, to the last digit."""
        return json.dumps(dict(self.shares), ensure_ascii=False)


def draw_mix(names: Sequence[str], count: int, seed: int, path: str) -> StyleMix:
    """Draw ``count`` of the names, and shares that are uniform among all that sum to one (L. Devroye, 1986, ch. V.2).

    The draw is a function of the arguments alone, whatever else was drawn before and on which worker.
    """
    source = random.Random(hashlib.sha256(f"{seed}\n{path}".encode(errors="surrogateescape")).digest())
    drawn = sorted(sorted(names), key=lambda _: source.random())[:count]
    weights = [-math.log1p(-source.random()) for _ in drawn]
    exact = [_PARTS * weight / math.fsum(weights) for weight in weights]
    parts = [math.floor(part) for part in exact]
    by_remainder = sorted(range(len(parts)), key=lambda i: parts[i] - exact[i])
    for i in by_remainder[: _PARTS - sum(parts)]:
        parts[i] += 1
    return StyleMix.of({name: part / _PARTS for name, part in zip(drawn, parts, strict=True) if part})
