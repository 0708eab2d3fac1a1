"""Loss curves as PNG: of a training, or of the optimization of one image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Row = dict[str, Any]
Floats = npt.NDArray[np.float64]

_COLUMNS = 4
_POINTS = 2000  # of a curve: more than a panel has pixels
_PALE, _DARK, _WARM, _RED = "#b8c4e0", "#1f3a93", "#e08214", "#c0392b"


def plot_losses(
    path: Path, terms: Iterable[str], rows: Sequence[Row], validations: Sequence[Row] = (), smooth: bool = True
) -> None:
    """Draw a panel per loss over the steps, and a strip with the learning rate below if there is one.

    A row has ``step``, ``total``, the ``terms`` to draw beside it, and perhaps ``learning_rate`` and ``skipped``; None
    is left out. Steps are pale, their running mean dark, validations (rows of held-out images) dots, skipped steps red.
    Without ``smooth``, for steps that see one image, there is no mean, and the steps are dark.
    """
    from matplotlib.figure import Figure  # slow to import, needed here only

    keys = ["total", *terms]
    rates = _column(rows, "learning_rate")
    has_strip = not rows or bool(np.isfinite(rates).any())
    num_rows = math.ceil(len(keys) / _COLUMNS)
    columns = math.ceil(len(keys) / num_rows)
    figure = Figure(figsize=(max(3.4 * columns, 6.8), 2.5 * num_rows + 1.4), layout="constrained")
    heights = [1.0] * num_rows + [0.35] * has_strip
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)

    steps = _column(rows, "step")
    skipped = steps[_column(rows, "skipped") > 0]
    taken = [row if not row.get("skipped") else {} for row in rows]
    window = max(25, len(steps) // 100)
    for index, key in enumerate(keys):
        panel = figure.add_subplot(grid[divmod(index, columns)])
        values, validated = _column(taken, key), _column(validations, key)
        color, linewidth = (_PALE, 0.6) if smooth else (_DARK, 1.2)
        _curve(panel, steps, values, color=color, linewidth=linewidth, label="a step")
        if smooth:
            mean = _running_mean(values, window)
            _curve(panel, steps, mean, color=_DARK, linewidth=1.6, label=f"mean of {window} steps")
        if np.isfinite(validated).any():
            at = _column(validations, "step")
            panel.plot(at, validated, "o", color=_WARM, markersize=5, markeredgecolor="white", label="held out")
        _axes(panel, key.replace("_", " "), np.concatenate([values, validated]))

    handles, labels = figure.axes[0].get_legend_handles_labels()
    if has_strip:
        strip = figure.add_subplot(grid[num_rows, :])
        _curve(strip, steps, rates, color=_DARK, linewidth=1.6)
        _axes(strip, "learning rate", np.zeros(1))
        strip.set_ylim(bottom=0)
        strip.yaxis.set_major_formatter("{x:g}")
    if len(skipped):
        for panel in figure.axes:
            marks = panel.plot(skipped, np.zeros(len(skipped)), "|", color=_RED, markersize=9, clip_on=False)
            marks[0].set_transform(panel.get_xaxis_transform())  # at the foot of the panel, whatever its scale
        handles, labels = [*handles, marks[0]], [*labels, f"skipped ({len(skipped)})"]
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(path, dpi=100)


def _column(rows: Iterable[Row], key: str) -> Floats:
    """One value per row: (rows,), NaN where a row has no finite one."""
    column = np.array([math.nan if row.get(key) is None else row[key] for row in rows], float)
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
    """Draw ``values``, thinned to what can be seen; a single one as a dot."""
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
