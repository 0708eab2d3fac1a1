"""How fast a run went, over time."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from typing import Any

from nst_ops.collection.progress import Rates, Sample, rates

_SPEED, _BUSY, _WAIT = "#2b6cb0", "#2f855a", "#dd6b20"
_MOST_STEPS = 60


def plot_run(history: Sequence[Sample], num_workers: int) -> bytes:
    """An SVG with the speed above, and below how busy the workers' networks were.

    Args:
        history: samples in the order of time, at least two.
        num_workers: of the run.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # slow to import, needed here only
    from matplotlib.figure import Figure

    shown = _spaced(history)
    steps = [rates(earlier, later, num_workers) for earlier, later in itertools.pairwise(shown)]
    unit, name = (60.0, "min") if shown[-1].elapsed_s < 3 * 3600 else (3600.0, "h")
    edges = [sample.elapsed_s / unit for sample in shown]
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasSVG(figure)
    speed, share = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    _draw_speed(speed, edges, steps)
    share.stairs([100 * step.busy_share for step in steps], edges, color=_BUSY, label="network busy")
    share.stairs([100 * step.wait_share for step in steps], edges, color=_WAIT, label="network waits")
    share.set(ylim=(0, 105), ylabel="% of workers", xlabel=f"{name} since the start", xlim=(0, edges[-1]))
    for axes in (speed, share):
        axes.legend(frameon=False, fontsize=8, loc="best")
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    return buffer.getvalue()


def _draw_speed(axes: Any, edges: Sequence[float], steps: Sequence[Rates]) -> None:
    """Frames where there are any, else rows: both on one axis would hide the smaller."""
    frames = [step.frames_per_s for step in steps]
    rows = [step.rows_per_s for step in steps]
    values, label = (frames, "video frames") if sum(frames) > sum(rows) else (rows, "files")
    axes.stairs(values, edges, color=_SPEED, fill=True, alpha=0.25)
    axes.stairs(values, edges, color=_SPEED, label=label)
    axes.set(ylabel=f"{label} per second", ylim=(0, None))


def _spaced(history: Sequence[Sample]) -> list[Sample]:
    """Samples far enough apart that a step of the plot is wider than a unit's chance to end in it."""
    gap_s = history[-1].elapsed_s / _MOST_STEPS
    shown = [history[0]]
    for sample in history[1:]:
        if sample.elapsed_s > shown[-1].elapsed_s + gap_s:
            shown.append(sample)
    if len(shown) > 1 and shown[-1] is not history[-1]:
        shown[-1] = history[-1]
    return shown
