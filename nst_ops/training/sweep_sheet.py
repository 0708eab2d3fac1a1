"""The picture of a sweep: photographs and painting above a table of results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nst_ops.training.data import UInt8Array
from nst_ops.training.sweep import METRICS, SHOWN, Trial, figure


def sweep_sheet(
    painting: UInt8Array,
    contents: Sequence[UInt8Array],
    trials: Sequence[Trial],
    pictures: Mapping[str, Sequence[UInt8Array]],
    title: str,
) -> UInt8Array:
    """Photographs and painting above a table of results: a column per Gram weight.

    Args:
        painting: uint8 (H', W', 3).
        contents: uint8 (S, S, 3) photographs, at least one; the first four are shown.
        trials: a cell each; rows are the combinations of the other weights.
        pictures: by name of the trial what became of ``contents``.
        title: what all trials have in common.

    Returns:
        uint8 (height, width, 3).
    """
    return _Sheet(painting, contents, trials, pictures, title).draw()


_INK, _GRAY, _PALE, _BEST, _RED = (30, 30, 30), (95, 95, 95), (247, 238, 238), (16, 118, 60), (150, 40, 40)
_LEGEND = (
    "Losses on the held-out photographs, without their weights: lower is better, the lowest are green. "
    "temporal: how much the picture changes when noise is added to the photograph."
)


class _Sheet:
    """Measures first, draws then, so that nothing overlaps whatever the figures."""

    def __init__(
        self,
        painting: UInt8Array,
        contents: Sequence[UInt8Array],
        trials: Sequence[Trial],
        pictures: Mapping[str, Sequence[UInt8Array]],
        title: str,
    ) -> None:
        self.trials, self.pictures, self.title = trials, pictures, title
        self.contents = list(contents[:SHOWN])
        self.side = min(max(128, self.contents[0].shape[0]), 256)
        size = max(14, self.side // 12)
        self.font, self.large = ImageFont.load_default(size), ImageFont.load_default(round(size * 1.35))
        self.line, self.gap = round(size * 1.45), max(16, self.side // 8)

        self.per_row = len(self.contents) if len(self.contents) < SHOWN else 2
        self.block = (
            self.per_row * (self.side + 2) - 2,
            math.ceil(len(self.contents) / self.per_row) * (self.side + 2) - 2,
        )
        self.columns = sorted({trial.weights["gram"] for trial in trials})
        self.rows = sorted({(trial.weights["variation"], trial.weights["noise"]) for trial in trials})
        self.best = {
            name: min((t.metrics[name] for t in trials if t.metrics), default=0.0) for name in METRICS
        }
        figures = [f"{name} {figure(t.metrics[name])}" for t in trials for name in METRICS if t.metrics]
        self.figure_width = self._width(*figures) + self.gap
        captions = [f"weights {trial.caption}" for trial in trials]
        self.cell_width = max(self.block[0], self._width(*captions), 2 * self.figure_width - self.gap)
        self.cell_height = self.block[1] + 4 * self.line + self.gap
        labels = [line for row in self.rows for line in _row_label(row)]
        self.left = self.gap + self._width(*labels) + self.gap
        painted = Image.fromarray(painting)
        painted.thumbnail((3 * self.block[1], self.block[1]), Image.Resampling.LANCZOS)
        self.painting = painted

    def draw(self) -> UInt8Array:
        """The sheet, uint8 (height, width, 3)."""
        step = self.cell_width + self.gap
        used = max(
            len(self.columns) * step, step + self.painting.width + self.gap, self._width(self.title) * 3 // 2
        )
        width = self.left + used
        legend = self._wrapped(_LEGEND, width - 2 * self.gap)
        strip = self.gap + 2 * self.line  # top of photographs and painting
        top = strip + self.block[1] + self.gap + 2 * self.line  # of the table
        height = top + len(self.rows) * self.cell_height + (len(legend) + 1) * self.line
        self.sheet = Image.new("RGB", (width, height), "white")
        self.pen = ImageDraw.Draw(self.sheet)

        self._text(self.left, self.gap // 2, self.title, self.large)
        self._text(self.left, strip - self.line, "content", color=_GRAY)
        self._pictures(self.left, strip, self.contents)
        self._text(self.left + step, strip - self.line, "style", color=_GRAY)
        self.sheet.paste(self.painting, (self.left + step, strip))
        for index, weight in enumerate(self.columns):
            self._text(self.left + index * step, top - round(1.6 * self.line), f"gram {weight:g}", self.large)
        for index, row in enumerate(self.rows):
            y = top + index * self.cell_height
            for number, text in enumerate(_row_label(row)):
                self._text(self.gap, y + number * self.line, text)
        for trial in self.trials:
            column = self.columns.index(trial.weights["gram"])
            row_index = self.rows.index((trial.weights["variation"], trial.weights["noise"]))
            self._cell(self.left + column * step, top + row_index * self.cell_height, trial)
        for number, text in enumerate(legend):
            self._text(
                self.gap, height - (len(legend) - number) * self.line - self.line // 2, text, None, _GRAY
            )
        return np.asarray(self.sheet)

    def _cell(self, x: int, y: int, trial: Trial) -> None:
        height = self.block[1]
        if trial.error:
            self.pen.rectangle((x, y, x + self.cell_width - 1, y + height - 1), fill=_PALE)
            pad = self.line // 2
            lines = self._wrapped(trial.error, self.cell_width - 2 * pad)
            room = max(1, (height - 2 * pad) // self.line)
            if len(lines) > room:
                lines = [*lines[: room - 1], lines[room - 1][:-3] + "..."]
            for number, text in enumerate(lines):
                self._text(x + pad, y + pad + number * self.line, text, None, _RED)
        else:
            self._pictures(x, y, self.pictures[trial.name])
        y += height + self.line // 3
        self._text(x, y, f"weights {trial.caption}")
        for index, name in enumerate(METRICS if trial.metrics else ()):
            best = trial.metrics[name] <= self.best[name] and len(self.trials) > 1
            at = (x + index % 2 * self.figure_width, y + (1 + index // 2) * self.line)
            self._text(*at, f"{name} {figure(trial.metrics[name])}", None, _BEST if best else _GRAY)

    def _pictures(self, x: int, y: int, pictures: Sequence[UInt8Array]) -> None:
        for index, pixels in enumerate(pictures[: len(self.contents)]):
            row, column = divmod(index, self.per_row)
            picture = Image.fromarray(pixels).resize((self.side, self.side), Image.Resampling.LANCZOS)
            self.sheet.paste(picture, (x + column * (self.side + 2), y + row * (self.side + 2)))

    def _text(self, x: int, y: int, text: str, font: Any = None, color: tuple[int, int, int] = _INK) -> None:
        self.pen.text((x, y), text, fill=color, font=font or self.font)

    def _width(self, *texts: str) -> int:
        return max((math.ceil(self.font.getlength(text)) for text in texts), default=0)

    def _wrapped(self, text: str, width: int) -> list[str]:
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and self._width(longer) > width:
                lines.append(word)
            else:
                lines[-1] = longer
        return lines


def _row_label(row: tuple[float, float]) -> tuple[str, str]:
    return f"variation {row[0]:g}", f"noise {row[1]:g}"
