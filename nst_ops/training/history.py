"""Loss curves: kept while training, written as JSON and as a picture."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nst_ops.training.step import StepFigures

_CURVES = ("content", "style", "variation")


class History:
    """Figures of every step so far."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def append(self, step: int, figures: StepFigures) -> None:
        """Keep the figures of ``step`` (counted from 1)."""
        rounded = {
            key: float(f"{value:.5g}") if isinstance(value, float) else value
            for key, value in asdict(figures).items()
        }
        self.rows.append({"step": step, **rounded})

    def recent(self, key: str, steps: int = 25) -> float:
        """Mean of ``key`` over the last finite steps; single steps vary with their photographs."""
        values: list[float] = [row[key] for row in self.rows[-steps:] if not row["skipped"]]
        return sum(values) / max(len(values), 1)

    def write(self, folder: Path) -> None:
        """Write ``losses.json`` and ``losses.png``."""
        (folder / "losses.json").write_text(json.dumps(self.rows))
        plot_losses(self.rows, folder / "losses.png")


def plot_losses(rows: list[dict[str, Any]], path: Path, window: int = 25) -> None:
    """One panel per loss over the steps: each step pale, the running mean over ``window`` dark."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, needed here only
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    rows = [row for row in rows if not row["skipped"]]
    steps = [row["step"] for row in rows]
    for panel, key in zip(figure.subplots(1, len(_CURVES)), _CURVES, strict=True):
        values = [row[key] for row in rows]
        panel.plot(steps, values, color="#b8c4e0", linewidth=0.6)
        panel.plot(steps, _running_mean(values, window), color="#1f3a93", linewidth=1.5)
        panel.set(title=f"{key} loss", xlabel="step", yscale="log")
        panel.grid(alpha=0.3, which="both")
    figure.savefig(path, dpi=90)


def _running_mean(values: list[float], window: int) -> list[float]:
    means, total = [], 0.0
    for index, value in enumerate(values):
        total += value - (values[index - window] if index >= window else 0.0)
        means.append(total / min(index + 1, window))
    return means
