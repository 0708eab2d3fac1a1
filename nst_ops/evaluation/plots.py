"""Plots of a report, as PNG."""

from __future__ import annotations

import io

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nst_ops.evaluation.metrics import SOURCE, metric
from nst_ops.evaluation.report import Report

_OUTPUTS, _PHOTOS = "#2b6cb0", "#b9b2a6"
_SHOWN = ("gram", "mean_std", "swd", "palette", "content", "ssim", "edge_f1", "colour_difference")


def histograms(report: Report) -> bytes:
    """How each metric is spread over the pictures; grey is where the photographs were."""
    names = [name for name in report.metrics() if name in _SHOWN or name.startswith("content_")]
    columns = 4
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(3.1 * columns, 2.5 * lines), layout="constrained")
    for number, name in enumerate(names, 1):
        axes = figure.add_subplot(lines, columns, number)
        after = [row[name] for row in report.rows]
        before = [row[SOURCE + name] for row in report.rows if SOURCE + name in row]
        low, high = min(after + before), max(after + before)
        edges = (low, high if high > low else low + 1e-3)
        if before:
            axes.hist(before, bins=24, range=edges, color=_PHOTOS, label="photographs")
        axes.hist(after, bins=24, range=edges, color=_OUTPUTS, alpha=0.75, label="stylized")
        better = metric(name).better
        axes.set_title(metric(name).label + (f" ({better} is better)" if better else ""), fontsize=9)
        axes.tick_params(labelsize=8)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        if before:
            axes.legend(fontsize=7, frameon=False)
    figure.supylabel("pictures", fontsize=9)
    return _png(figure)


def style_against_content(report: Report) -> bytes:
    """Each picture by its distance to style and photograph: the lower left corner has both."""
    style = "gram" if "gram" in report.metrics() else "palette"
    content = next((name for name in report.metrics() if name.startswith("content_")), "ssim")
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.add_subplot()
    x, y = ([row[name] for row in report.rows] for name in (content, style))
    axes.scatter(x, y, s=18, color=_OUTPUTS, alpha=0.7, edgecolors="none")
    ranked = report.ranked(style)
    for row in {id(row): row for row in (ranked[0], ranked[-1])}.values():
        axes.annotate(row["name"], (row[content], row[style]), (4, 4), textcoords="offset points", fontsize=7)
    for name, label in ((content, axes.set_xlabel), (style, axes.set_ylabel)):
        label(f"{metric(name).label} ({metric(name).better} is better)", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.margins(0.08)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()
