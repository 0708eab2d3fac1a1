"""Loss curves: kept while training, written as JSON and as a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from nst_ops.report.loss_curve import plot_losses
from nst_ops.storage import Folder

Row = dict[str, Any]

MEASURES = ("grad_norm", "learning_rate", "skipped")
"""What a step measures beside its losses."""


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
            plot_losses(temporary, self.terms, self.rows, self.validations)

    def _keep(self, row: Row) -> None:
        self.rows.append(row)
        self._terms.update(dict.fromkeys(key for key in row if key not in ("step", "total", *MEASURES)))


def _row(step: int, figures: Mapping[str, float | bool]) -> Row:
    return {"step": step} | {key: _rounded(value) for key, value in figures.items()}


def _rounded(value: float | bool) -> float | bool | None:
    if isinstance(value, bool):
        return value
    return float(f"{value:.5g}") if math.isfinite(value) else None
