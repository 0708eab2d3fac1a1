"""What comparing the smoothing modes came to."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.table import Table

from nst_ops.evaluation.report import show
from nst_ops.evaluation.temporal.figures import GAPS

PER_FRAME = "per frame"
"""The version that is not smoothed."""

Figures = dict[str, float]

_COLUMNS = (
    *((f"warping {gap} apart", f"warping_share_{gap}") for gap in GAPS),
    ("fine texture", "high_frequency_share"),
    ("Gram error", "gram_share"),
    ("PSNR dB", "psnr"),
    ("flicker", "luminance_flicker"),
)


@dataclass(frozen=True)
class Comparison:
    """What the benchmark found.

    Attributes:
        default: name of the version that is marked.
        by_clip: figures of every clip and version; nan for a share of nothing, as of a flicker that a
            clip does not have.
        cost: of every version the seconds for a frame, and as a share of the network's.
        model: of the stylizer alone: seconds a frame, noise gain, shift error.
        skipped: why, by video.
        not_measured: why, by figure.
    """

    default: str
    by_clip: dict[str, dict[str, Figures]] = field(default_factory=dict)
    cost: dict[str, Figures] = field(default_factory=dict)
    model: Figures = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)

    def mean(self) -> dict[str, Figures]:
        """Of every version the mean of its figures over the clips that have them."""
        return self._over_clips(np.mean)

    def worst(self) -> dict[str, Figures]:
        """Of every version its highest figures, but the lowest of what should be high."""
        highest, lowest = self._over_clips(np.max), self._over_clips(np.min)
        low = ("psnr", "high_frequency_share")
        return {name: highest[name] | {key: lowest[name][key] for key in low} for name in highest}

    def _over_clips(self, merge: Callable[[list[float]], Any]) -> dict[str, Figures]:
        clips = list(self.by_clip.values())
        merged: dict[str, Figures] = {}
        for version in clips[0]:
            merged[version] = {}
            for key in clips[0][version]:
                known = [clip[version][key] for clip in clips if math.isfinite(clip[version][key])]
                merged[version][key] = float(merge(known)) if known else math.nan
        return merged

    def record(self) -> dict[str, Any]:
        """All of it, as JSON takes it."""
        figures: dict[str, Any] = {
            "default": self.default,
            "model": self.model,
            "cost": self.cost,
            "mean": self.mean(),
            "worst": self.worst(),
            "by_clip": self.by_clip,
            "skipped": self.skipped,
            "not_measured": self.not_measured,
        }
        return dict(_without_nan(figures))

    def table(self) -> Table:
        """For a terminal: the means, a line for each version."""
        table = Table(title=f"means over {len(self.by_clip)} clips; shares are of {PER_FRAME}")
        for head in ("version", *(label for label, _ in _COLUMNS), "cost"):
            table.add_column(head, justify="left" if head == "version" else "right")
        for name, figures in self.mean().items():
            marked = f"{name} (default)" if name == self.default else name
            cells = [show(figures[key]) if math.isfinite(figures[key]) else "" for _, key in _COLUMNS]
            table.add_row(marked, *cells, f"{self.cost[name]['share']:.0%}" if name in self.cost else "")
        return table


def _without_nan(figures: Any) -> Any:
    """JSON has no nan and no infinity."""
    if isinstance(figures, dict):
        return {key: _without_nan(value) for key, value in figures.items()}
    return None if isinstance(figures, float) and not math.isfinite(figures) else figures
