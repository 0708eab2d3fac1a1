"""What judging came to: a row per picture, and its summary."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from rich.table import Table

from nst_ops.evaluation.distribution import DistributionDistance
from nst_ops.evaluation.metrics import IDENTIFYING, SOURCE, is_detail, metric


@dataclass(frozen=True)
class Spread:
    """A metric over all pictures: mean, median, 5 % and 95 % quantile."""

    mean: float
    median: float
    p5: float
    p95: float


@dataclass(frozen=True)
class Report:
    """The outcome of judging.

    Attributes:
        rows: of each picture its ``name``, ``style``, ``nearest_style`` and every metric; the
            photograph's own distances to the style have the prefix ``source_``.
        distribution: Fréchet distances of the sets, by VGG tap.
        not_measured: why, by metric.
        styles: names of the reference pictures.
        notes: what else a reader has to know.
    """

    rows: list[dict[str, Any]]
    distribution: dict[str, DistributionDistance]
    not_measured: dict[str, str]
    styles: list[str]
    notes: list[str] = field(default_factory=list)

    def metrics(self) -> list[str]:
        """Names of the metrics that were measured of every picture, those of single style taps last."""
        names = self.rows[0] if self.rows else {}
        metrics = [name for name in names if name not in IDENTIFYING and not name.startswith(SOURCE)]
        return sorted(metrics, key=is_detail)

    def spread(self, name: str) -> Spread:
        """A metric over all pictures, such as ``gram``, ``ssim`` or ``source_gram``.

        Raises:
            KeyError: it was not measured; the message says why, if that is known.
        """
        if not self.rows or name not in self.rows[0]:
            raise KeyError(f"{name}: {self.not_measured.get(name, 'not measured')}")
        figures = np.array([row[name] for row in self.rows], np.float64)
        p5, median, p95 = np.quantile(figures, (0.05, 0.5, 0.95))
        return Spread(float(figures.mean()), float(median), float(p5), float(p95))

    def ranked(self, by: str) -> list[dict[str, Any]]:
        """The rows by a metric, best first; where neither way is better, the lowest first."""
        return sorted(self.rows, key=lambda row: float(row[by]), reverse=metric(by).better == "higher")

    def summary(self) -> dict[str, Any]:
        """All but the rows, as JSON takes it."""
        spreads = {name: asdict(self.spread(name)) for name in self.metrics()}
        before = {name: asdict(self.spread(SOURCE + name)) for name in spreads if self._has_source(name)}
        return {
            "pictures": len(self.rows),
            "styles": self.styles,
            "metrics": spreads,
            "photographs_to_style": before,
            "distribution": {tap: asdict(distance) for tap, distance in self.distribution.items()},
            "not_measured": self.not_measured,
            "notes": self.notes,
        }

    def lines(self) -> list[tuple[str, ...]]:
        """The summary as text: metric, which way is better, mean, median, 5 % ... 95 %, photographs' mean."""
        lines: list[tuple[str, ...]] = []
        for name in self.metrics():
            spread, about = self.spread(name), metric(name)
            before = show(self.spread(SOURCE + name).mean) if self._has_source(name) else ""
            middle = (show(spread.mean), show(spread.median), f"{show(spread.p5)} ... {show(spread.p95)}")
            lines.append((about.label, about.better, *middle, before))
        for tap, distance in self.distribution.items():
            lines.append(
                (f"Fréchet distance {tap}", "lower", show(distance.outputs), "", "", show(distance.sources))
            )
        return lines

    def tables(self) -> list[Table]:
        """For a terminal: the figures, and what has none."""
        table = Table(title=f"{len(self.rows):,} pictures against {len(self.styles):,} style(s)")
        for column in COLUMNS:
            table.add_column(column, justify="left" if column in COLUMNS[:2] else "right")
        for line in self.lines():
            table.add_row(*line)
        tables = [table]
        if remarks := self.remarks():
            about = Table(show_header=False, title="not measured, and notes", title_justify="left")
            for name, text in remarks:
                about.add_row(name, text)
            tables.append(about)
        return tables

    def remarks(self) -> list[tuple[str, str]]:
        """(what, why): metrics without figures, doubts about figures, notes."""
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.not_measured.items():
            by_reason.setdefault(reason, []).append(name)
        remarks = [(", ".join(names), f"not measured: {reason}") for reason, names in by_reason.items()]
        for tap, distance in self.distribution.items():
            floor = "unknown" if distance.floor is None else show(distance.floor)
            halves = f"between two halves of the style set it is {floor}"
            remarks.append((f"Fréchet distance {tap}", "; ".join([halves, *distance.warnings])))
        return remarks + [("note", note) for note in self.notes]

    def _has_source(self, name: str) -> bool:
        return SOURCE + name in self.rows[0]


COLUMNS = ("metric", "better", "mean", "median", "5 % ... 95 %", "photographs")


def show(figure: float) -> str:
    """Three digits that count."""
    return f"{figure:,.0f}" if abs(figure) >= 1000 else f"{figure:.3g}"
