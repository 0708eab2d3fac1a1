"""Plots of stillness, as PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullLocator

from nst_ops.evaluation.temporal.comparison import PER_FRAME, Comparison
from nst_ops.evaluation.temporal.figures import GAPS

_COLOURS = {"per": "#555555", "gate": "#c98a1b", "ema": "#c0392b", "window": "#2b6cb0"}
_GOOD = "#e3f1e1"
_VIDEOS = 40
STILL, SHARP, STYLED = 0.35, 0.9, 1.05
"""What a good setting reaches: of the warping error, the fine texture and the Gram error of single frames."""


def stability_plot(comparison: Comparison) -> bytes:
    """Every version by how still it is, against the texture and the style that it keeps.

    Lower is stiller; the green corner has both. Lines join the settings of one mode.
    """
    means = comparison.mean()
    with_style = math.isfinite(means[PER_FRAME]["gram_share"])
    clips = f"{len(comparison.by_clip)} clips"
    label = f"shares of {PER_FRAME}, means over {clips}; small dots: the default, clip by clip"
    figure = Figure(figsize=(11 if with_style else 6, 4.8), layout="constrained")
    panels = figure.subplots(1, 1 + with_style, sharey=True, squeeze=False)[0]
    _panel(panels[0], comparison, "high_frequency_share")
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("flicker left (warping error); lower is stiller")
    panels[0].set_xlabel("fine texture kept (high-frequency energy); right is sharper")
    _good_corner(panels[0], SHARP, panels[0].get_xlim()[1])
    if with_style:
        _panel(panels[1], comparison, "gram_share")
        panels[1].set_xlabel("distance to the style (Gram error); right is closer")
        panels[1].invert_xaxis()
        _good_corner(panels[1], STYLED, panels[1].get_xlim()[1])
    figure.suptitle(label, fontsize=10)
    return _png(figure)


def videos_plot(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Every video by how much more it changes along its motion than its source, the stillest first."""
    shown = stillest_first(rows)[-_VIDEOS:]
    names = [str(row["name"]) for row in shown]
    figure = Figure(figsize=(10, 1.4 + 0.24 * len(shown)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(2, 1))
    for gap, colour in zip(GAPS, (_COLOURS["window"], _COLOURS["gate"]), strict=True):
        ratios = [row[f"warping_ratio_{gap}"] for row in shown]
        left.plot(ratios, names, "o", color=colour, label=f"{gap} frame{'s' * (gap > 1)} apart")
    left.axvline(1, color=_COLOURS["per"], linewidth=1)
    left.set_xscale("log")
    left.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.xaxis.set_major_formatter("{x:g}")
    left.xaxis.set_minor_locator(NullLocator())
    left.set_xlabel("warping error, times the source's own; 1 is as still as filmed")
    left.legend(fontsize=8, frameon=False)
    right.plot([row["luminance_flicker"] for row in shown], names, "o", color=_COLOURS["ema"])
    right.set_xlim(left=0)
    right.set_xlabel("luminance flicker, grey levels")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#eeeeee")
        axes.tick_params(labelsize=8)
    return _png(figure)


def stillest_first(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Videos by their warping error as a ratio to the source's; those without one come first."""
    return sorted(rows, key=lambda row: np.nan_to_num(row["warping_ratio_1"]))


def _panel(axes: Axes, comparison: Comparison, key: str) -> None:
    means = comparison.mean()
    families: dict[str, list[str]] = {}
    for name in means:
        families.setdefault(name.split()[0], []).append(name)
    for family, names in families.items():
        points = [(means[name][key], means[name]["warping_share_1"]) for name in names]
        colour = _COLOURS[family]
        axes.plot(*zip(*points, strict=True), "-o", color=colour, markersize=6, linewidth=1.2, zorder=3)
        right = family == "window"  # labels of neighbouring lines keep out of each other's way
        for name, point in zip(names, points, strict=True):
            is_default = name == comparison.default
            axes.annotate(
                f"{name} (default)" if is_default else name,
                point,
                (9, -11) if right else (-9, 4),
                textcoords="offset points",
                ha="left" if right else "right",
                fontsize=9,
                fontweight="bold" if is_default else "normal",
                color=colour,
                zorder=5,
            )
    for clip in comparison.by_clip.values():
        own = clip[comparison.default]
        axes.plot(own[key], own["warping_share_1"], ".", color=_COLOURS["window"], alpha=0.3, markersize=5)
    best = means[comparison.default]
    axes.plot(
        best[key], best["warping_share_1"], "o", markersize=15, fillstyle="none", color="black", zorder=4
    )
    axes.spines[["top", "right"]].set_visible(False)


def _good_corner(axes: Axes, threshold: float, edge: float) -> None:
    axes.add_patch(Rectangle((threshold, 0), edge - threshold, STILL, color=_GOOD, zorder=0))
    axes.annotate(
        "goal", (threshold, STILL), (5, -12), textcoords="offset points", fontsize=9, color="#4b7a46"
    )
    far = axes.get_xlim()[0]
    margin = 0.2 * (edge - threshold)  # the corner's end is in view, however good all points are
    axes.set_xlim(min(far, threshold - margin) if edge > threshold else max(far, threshold - margin), edge)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()
