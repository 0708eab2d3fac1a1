"""Loss curves: kept while training, written as JSON and as a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nst_ops.storage import Folder

Row = dict[str, Any]
Floats = npt.NDArray[np.float64]

MEASURES = ("grad_norm", "learning_rate", "skipped")
"""What a step measures beside its losses."""

_COLUMNS = 4
_POINTS = 2000  # of a curve: more than a panel has pixels
_PALE, _DARK, _WARM, _RED = "#b8c4e0", "#1f3a93", "#e08214", "#c0392b"


class History:
    """Figures of every step and of every validation so far.

    Args:
        rows: of the steps before, to go on from, as in ``losses.json``.
        validations: likewise.
    """

    def __init__(self, rows: list[Row] | None = None, validations: list[Row] | None = None) -> None:
        self.rows: list[Row] = []
        """One per step: ``step`` (int, from 1), ``total`` (weighted sum), each term (unweighted),
        ``grad_norm`` (before clipping), ``learning_rate`` and ``skipped`` (bool); None for what was
        not finite, as JSON has no name for it."""
        self.validations: list[Row] = []
        """One per validation: ``step``, ``total`` and the terms."""
        self._terms: dict[str, None] = {}
        for row in rows or []:
            self._keep(row)
        self.validations.extend(validations or [])

    def append(self, step: int, figures: Mapping[str, float | bool]) -> None:
        """Keep the figures of ``step`` (counted from 1)."""
        self._keep(_row(step, figures))

    def validate(self, step: int, figures: Mapping[str, float]) -> None:
        """Keep the losses on held-out photographs after ``step``."""
        self.validations.append(_row(step, figures))

    @property
    def terms(self) -> list[str]:
        """The terms of the loss, in the order of the figures."""
        return list(self._terms)

    @property
    def skipped(self) -> int:
        """Steps that changed nothing, as they were not finite."""
        return sum(bool(row.get("skipped")) for row in self.rows)

    def recent(self, key: str, steps: int = 25) -> float:
        """Mean of ``key`` over the last finite steps; single steps vary with their photographs.

        NaN where there is none.
        """
        finite = (
            row[key] for row in reversed(self.rows) if not row.get("skipped") and row.get(key) is not None
        )
        values = list(islice(finite, steps))
        return sum(values) / len(values) if values else math.nan

    def write(self, folder: Path) -> None:
        """Write ``losses.json`` (``{"train": rows, "validation": rows}``) and ``losses.png``."""
        files = Folder(str(folder))
        with files.atomic_write("losses.json") as temporary:
            temporary.write_text(json.dumps({"train": self.rows, "validation": self.validations}))
        with files.atomic_write("losses.png") as temporary:
            plot_losses(self, temporary)

    def _keep(self, row: Row) -> None:
        self.rows.append(row)
        self._terms.update(dict.fromkeys(key for key in row if key not in ("step", "total", *MEASURES)))


def plot_losses(history: History, path: Path) -> None:
    """A PNG with a panel per loss over the steps, and a strip with the learning rate below.

    Steps are pale, their running mean dark, validations dots, skipped steps red.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, needed here only
    from matplotlib.figure import Figure

    keys = ["total", *history.terms]
    num_rows = math.ceil(len(keys) / _COLUMNS)
    columns = math.ceil(len(keys) / num_rows)
    figure = Figure(figsize=(max(3.4 * columns, 6.8), 2.5 * num_rows + 1.4), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(num_rows + 1, columns, height_ratios=[1.0] * num_rows + [0.35])

    steps = _column(history.rows, "step")
    skipped = steps[_column(history.rows, "skipped") > 0]
    taken = [row if not row.get("skipped") else {} for row in history.rows]
    window = max(25, len(steps) // 100)
    for index, key in enumerate(keys):
        panel = figure.add_subplot(grid[divmod(index, columns)])
        values, validated = _column(taken, key), _column(history.validations, key)
        _curve(panel, steps, values, color=_PALE, linewidth=0.6, label="a step")
        mean = _running_mean(values, window)
        _curve(panel, steps, mean, color=_DARK, linewidth=1.6, label=f"mean of {window} steps")
        if np.isfinite(validated).any():
            at = _column(history.validations, "step")
            panel.plot(
                at, validated, "o", color=_WARM, markersize=5, markeredgecolor="white", label="held out"
            )
        _axes(panel, key.replace("_", " "), np.concatenate([values, validated]))

    handles, labels = figure.axes[0].get_legend_handles_labels()
    strip = figure.add_subplot(grid[num_rows, :])
    _curve(strip, steps, _column(history.rows, "learning_rate"), color=_DARK, linewidth=1.6)
    _axes(strip, "learning rate", np.zeros(1))
    strip.set_ylim(bottom=0)
    strip.yaxis.set_major_formatter("{x:g}")
    if len(skipped):
        for panel in figure.axes:
            marks = panel.plot(skipped, np.zeros(len(skipped)), "|", color=_RED, markersize=9, clip_on=False)
            marks[0].set_transform(
                panel.get_xaxis_transform()
            )  # at the foot of the panel, whatever its scale
        handles, labels = [*handles, marks[0]], [*labels, f"skipped ({len(skipped)})"]
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(path, dpi=100)


def _row(step: int, figures: Mapping[str, float | bool]) -> Row:
    return {"step": step} | {key: _rounded(value) for key, value in figures.items()}


def _rounded(value: float | bool) -> float | bool | None:
    if isinstance(value, bool):
        return value
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _column(rows: Iterable[Row], key: str) -> Floats:
    """(rows,), NaN where a row has no finite value."""
    values = (row.get(key) for row in rows)
    column = np.array([math.nan if value is None else value for value in values], float)
    column[~np.isfinite(column)] = math.nan
    return column


def _running_mean(values: Floats, window: int) -> Floats:
    """Mean of the finite among the last ``window`` values; NaN where there is none."""
    finite = np.isfinite(values)
    sums, counts = (np.cumsum(part) for part in (np.where(finite, values, 0.0), finite.astype(float)))
    for totals in (sums, counts):
        totals[window:] -= totals[:-window].copy()
    means: Floats = np.divide(sums, counts, out=np.full_like(sums, math.nan), where=counts > 0)
    return means


def _curve(panel: Any, steps: Floats, values: Floats, **style: Any) -> None:
    """Draw ``values``, thinned to what can be seen; one alone as a dot."""
    known = np.isfinite(values)
    steps, values = steps[known], values[known]
    shown = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), _POINTS)).astype(int))
    panel.plot(steps[shown], values[shown], marker="." if len(shown) == 1 else None, **style)


def _axes(panel: Any, title: str, values: Floats) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    values = values[np.isfinite(values)]
    # Within a factor of 4 a logarithmic axis looks like a linear one, with fewer numbers to read.
    if len(values) and values.min() > 0 and values.max() > 4 * values.min():
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    panel.set_title(title, fontsize=10)
    panel.set_xlabel("step", fontsize=8)
    panel.tick_params(labelsize=8)
    panel.grid(alpha=0.3)
